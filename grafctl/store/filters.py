"""Filters of subscriptions: `all`, `key:PREFIX`, `type:PREFIX` (the header `type`), `expr:EXPRESSION` (on the payload).

Promises
- A filter leaves out only what it can judge: a record on which the expression fails (no JSON, a field that is missing)
  or gives anything but false is wanted. Nothing is dropped because a filter did not fit it.
- It is a function of the record alone, so everyone who judges a record comes to the same.
"""

from __future__ import annotations

from functools import lru_cache

from grafctl.errors import Usage
from grafctl.names import shown
from grafctl.store.blocks import Columns
from grafctl.store.intervals import Intervals
from grafctl.typed import Any, Callable

FILTER_CHARACTERS_MAX = 4096
FORMS = "Write all, key:PREFIX, type:PREFIX or expr:EXPRESSION, such as expr:total > 1000."

Headers = dict[str, str] | None
Wants = Callable[[int, bytes, str | None, str | None, Headers], bool]  # offset, payload, id, key, headers


def check_filter(text: str) -> str:
    """Returns the text of a filter; raises `Usage`."""
    if len(text) > FILTER_CHARACTERS_MAX:
        raise Usage(f"A filter has at most {FILTER_CHARACTERS_MAX} characters, not {len(text)}.")
    wants(text)
    return text


@lru_cache(maxsize=64)
def wants(text: str) -> Wants:
    """Returns whether a record is wanted, as a function of it; raises `Usage` for what is no filter."""
    form, colon, rest = text.partition(":")
    if text == "all":
        return lambda offset, payload, id, key, headers: True
    if not colon or form not in ("key", "type", "expr"):
        raise Usage(f"{shown(text)} is no filter.", hint=FORMS)
    if not rest.strip():
        what = "an expression" if form == "expr" else "a prefix"
        raise Usage(f"{shown(text)} is no filter: {what} is missing.", hint=FORMS)
    if form == "key":
        return lambda offset, payload, id, key, headers: key is not None and key.startswith(rest)
    if form == "type":
        return lambda offset, payload, id, key, headers: (headers or {}).get("type", "").startswith(rest)
    return _by_expression(rest.strip())


def _by_expression(text: str) -> Wants:
    import json

    from grafctl.expression.language import EvaluationError, compile_expression

    expression = compile_expression(text)
    if expression.kind not in ("bool", ""):
        what = "a number" if expression.kind == "int" else "text"
        raise Usage(f"{shown(text)} is always {what}, and a filter says true or false.", hint=FORMS)
    decode = json.JSONDecoder(parse_constant=_no_number).decode

    def wanted(offset: int, payload: bytes, id: str | None, key: str | None, headers: Headers) -> bool:
        try:
            value = decode(payload.decode())
            scope = dict(value) if isinstance(value, dict) else {}
            scope |= {"_id": id, "_key": key, "_headers": headers or {}, "_offset": offset, "_value": value}
            return expression.evaluate(scope) is not False
        except (ValueError, RecursionError, EvaluationError):
            return True

    return wanted


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number in JSON")


def matched(text: str, first: int, columns: Columns) -> Intervals:
    """Returns which offsets of these records a filter wants; `first` is that of the first."""
    wanted, found = wants(text), Intervals()
    for offset, record in enumerate(zip(*columns, strict=True), first):
        if wanted(offset, *record):
            if found and found[-1][1] == offset:
                found[-1][1] += 1
            else:
                found.append([offset, offset + 1])
    return found
