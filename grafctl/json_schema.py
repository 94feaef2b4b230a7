"""JSON Schema: a document made into functions that check a value; nothing is fetched.

Understood is what describes data in draft 2020-12, and of draft 7 what means the same. A keyword that is not known is
refused, because one that is passed over checks nothing: a typing error in `required` would let everything through.

Promises
- Work is bounded: the size and depth of a document, the steps of its patterns (`json_pattern`), and the steps that its
  references may come to for one value.
- A mismatch names the place in the document (a JSON pointer) and the rule, never a value; a name that the schema does
  not know is shown as `*`.
"""

# The library jsonschema-rs (0.60) fetches nothing and keeps big integers, but the first promise cannot be kept with it:
# with a document of 41 KB, references in a chain, a record nested 250 deep ends the process (its stack overflows), and
# 20 levels of `unevaluatedProperties`, or references that fork, take ages in which no other thread runs.

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from fractions import Fraction
from math import isfinite
from typing import Any, NamedTuple

from grafctl.errors import Usage
from grafctl.json_pattern import Pattern
from grafctl.names import shown

DOCUMENT_BYTES_MAX = 64 << 10
DEPTH_MAX = 32
STEPS_MAX = 100_000  # references followed for one value
ASKED_BEFORE_QUICK = 50  # values; a command that publishes one does not wait for code to be made

Check = Callable[[Any, list[int]], "Mismatch | None"]  # a value, and the steps that are left


class Mismatch(NamedTuple):
    """Why a value does not conform: where in it, and which rule."""

    path: tuple[str, ...]  # outermost last, as it is found
    rule: str

    @property
    def pointer(self) -> str:
        """Returns the place as a JSON pointer; that of the whole document is empty."""
        return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in reversed(self.path))

    def below(self, name: str) -> Mismatch:
        return Mismatch((*self.path, name), self.rule)


def fail(rule: str) -> Mismatch:
    """Returns that the value itself breaks a rule."""
    return Mismatch((), rule)


def parse_document(text: bytes) -> dict[str, Any]:
    """Returns a schema document; raises `Usage` where it cannot be one."""
    if len(text) > DOCUMENT_BYTES_MAX:
        raise Usage(f"A schema has at most {DOCUMENT_BYTES_MAX >> 10} KiB, not {len(text):,} bytes.")
    try:
        document = json.loads(text.decode(), parse_constant=_no_constant, object_pairs_hook=_unique)
    except UnicodeDecodeError:
        raise Usage("The schema is not UTF-8.") from None
    except RecursionError:
        raise Usage("The schema is nested too deeply.") from None
    except ValueError as error:
        raise Usage(f"The schema is no JSON: {error}.") from None
    if not isinstance(document, dict):
        raise Usage("The schema is no JSON object.")
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Usage("The schema holds half a character (a lone surrogate).") from None
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number in JSON")


class Schema:
    """A checked document, ready to check payloads."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        from grafctl.json_schema_rules import Reader  # which imports this module

        self._document = document
        self._check: Check = Reader(document).read()
        self._is_plain: Callable[[Any], bool] = self._is_not_sure
        self._asked = 0

    def mismatch(self, payload: bytes) -> Mismatch | None:
        """Returns why a payload does not conform, or None where it does."""
        try:
            value = _decode(payload)
        except (ValueError, RecursionError):
            return Mismatch((), "it is no JSON")
        if self._is_plain(value):
            return None
        steps = [STEPS_MAX]
        try:
            found = self._check(value, steps)
        except RecursionError:
            return fail("it is nested too deeply")
        return fail("checking it takes too many steps") if steps[0] < 0 else found

    def _is_not_sure(self, value: Any) -> bool:
        """Stands for the quick test, which takes longer to make than a few values to check."""
        self._asked += 1
        if self._asked == ASKED_BEFORE_QUICK:
            from grafctl.json_schema_quick import quick_test

            self._is_plain = quick_test(self._document) or (lambda value: False)
        return False


def _decode(payload: bytes) -> Any:
    """Returns the value of a JSON text in UTF-8."""
    text = str(payload, "utf-8")
    try:
        value, end = _decoder.scan_once(text, 0)
    except StopIteration:  # it begins with space, or is none
        return _decoder.decode(text)
    return value if end == len(text) else _decoder.decode(text)


_decoder: Any = json.JSONDecoder(parse_constant=_no_constant)


def frozen(value: Any) -> Any:
    """Returns something that is equal for equal JSON values, and for no others: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return ("object", frozenset((name, frozen(item)) for name, item in value.items()))
    if isinstance(value, list):
        return ("array", tuple(map(frozen, value)))
    return (type(value) is bool, value)


def is_number(value: Any) -> bool:
    return type(value) is int or type(value) is float


def is_multiple(value: Any, of: Fraction) -> bool:
    """Returns whether a number is a whole multiple, as it was written and not as a float is rounded."""
    return isfinite(value) and Fraction(repr(value)) % of == 0 if type(value) is float else value % of == 0


def as_schema(value: Any, where: str) -> Any:
    """Returns what may stand for a schema; raises `Usage`."""
    if not isinstance(value, (dict, bool)):
        raise Usage(f"{where} of the schema is no schema: write an object, true or false.")
    return value


def as_count(value: Any, where: str) -> int:
    """Returns a whole number of 0 or more; raises `Usage`."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or value < 0:
        raise Usage(f"{where} of the schema is no whole number of 0 or more.")
    return int(value)


def as_number(value: Any, where: str) -> Any:
    """Returns a number; raises `Usage`."""
    if not is_number(value):
        raise Usage(f"{where} of the schema is no number.")
    return value


def as_texts(value: Any, where: str) -> list[str]:
    """Returns a list of texts; raises `Usage`."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Usage(f"{where} of the schema is no list of texts.")
    return value


def as_object(value: Any, where: str) -> dict[str, Any]:
    """Returns an object; raises `Usage`."""
    if not isinstance(value, dict):
        raise Usage(f"{where} of the schema is no object.")
    return value


def as_pattern(value: Any, where: str) -> Pattern:
    """Returns a pattern; raises `Usage`."""
    if not isinstance(value, str):
        raise Usage(f"{where} of the schema is no pattern.")
    return Pattern(value)


def unknown(keyword: str, where: str) -> Usage:
    """Returns the refusal of a keyword that nothing here checks."""
    return Usage(
        f"{shown(keyword)} at {where} of the schema is no keyword that is checked here.",
        hint="Take it out, or begin its name with x- where it is a note for others.",
    )
