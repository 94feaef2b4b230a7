"""Why an expression gives nothing for a record, in words that never hold what the record holds.

Promises
- A sentence names fields, functions and kinds of values, and pieces of the expression itself; never a value.
"""

from __future__ import annotations

from grafctl.typed import Any


class EvaluationError(Exception):
    """An expression that gives nothing for this record; str() is a sentence, and never holds a value of the record."""


KINDS = {
    type(None): "null", bool: "a boolean", int: "an integer", float: "a fraction", str: "text", list: "a list",
    dict: "an object",
}  # fmt: skip


def kind_of(value: Any) -> str:
    """Returns what a sentence calls a value."""
    return KINDS.get(type(value), "no JSON value")
