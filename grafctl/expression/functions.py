"""The functions that an expression may call, and nothing else: what each takes, gives and refuses.

Promises
- All are pure: the same arguments give the same, on every machine; none reads a clock, a file or the environment.
- Each takes time and memory in proportion to its arguments, and gives no text that it made longer than
  `operators.SIZE_MAX`; where it could be many times longer (`replace`, `join`), that is known before it is made.
- Each raises `EvaluationError` and nothing else; the sentence names the piece of the expression and kinds of values.

The texts that a user reads about each function are in `docs/pipelines.md`; a test compares its names with `TABLE`.
"""

from __future__ import annotations

import hashlib
import re
from functools import reduce

from grafctl.expression import times, values
from grafctl.expression.failing import KINDS, kind_of
from grafctl.expression.operators import (
    add,
    as_fraction,
    bounded,
    fail,
    finite,
    less,
    measured,
    number,
    within,
)
from grafctl.expression.paths import MISSING, find
from grafctl.typed import Any, Callable, NamedTuple, Sequence

PIECES_MAX = 10_000  # that `split` makes
DIGITS_MAX = 1233  # of an integer in a text: those of 4,096 bits
_INTEGER = re.compile(r"[+-]?[0-9]+")
_FRACTION = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


class Function(NamedTuple):
    """One entry of the table: its work takes the piece of the expression and then `least` to `most` arguments."""

    work: Callable[..., Any]
    least: int
    most: int
    kind: str = ""  # of what it gives, where that is always one


def _text(value: Any, piece: str) -> str:
    if type(value) is str:
        return value
    fail(piece, f"this takes text, not {kind_of(value)}")


def _list(value: Any, piece: str) -> list[Any]:
    if type(value) is list:
        return value
    fail(piece, f"this takes a list, not {kind_of(value)}")


def _integer(value: Any, piece: str) -> int:
    if type(value) is int:
        return value
    fail(piece, f"this takes an integer, not {kind_of(value)}")


def _json(write: Callable[[Any], bytes], value: Any, piece: str) -> bytes:
    try:
        return write(measured(value, piece))
    except ValueError:
        fail(piece, f"{kind_of(value)} cannot be written as JSON")


# From one kind to another


def _to_text(piece: str, value: Any) -> str:
    if type(value) is str:
        return value
    if value is None:
        fail(piece, "null has no text; write coalesce() around it")
    if type(value) is int:
        number(value, "text()", piece)
    made = _json(values.encode, value, piece).decode()
    return str(bounded(made, len(made), piece))


def _to_int(piece: str, value: Any) -> int:
    kind = type(value)
    if kind is int:
        return int(number(value, "int()", piece))
    if kind is float:
        if not value.is_integer():
            fail(piece, "the fraction is no whole number; write round() around it")
        return int(value)
    if kind is not str:
        fail(piece, f"int() takes a number or text, not {kind_of(value)}")
    if len(value) > DIGITS_MAX or not _INTEGER.fullmatch(value):
        fail(piece, f"the text is no integer of at most {DIGITS_MAX} digits")
    return int(number(int(value), "int()", piece))


def _to_float(piece: str, value: Any) -> float:
    kind = type(value)
    if kind is int or kind is float:
        return as_fraction(value, piece)
    if kind is not str:
        fail(piece, f"float() takes a number or text, not {kind_of(value)}")
    if len(value) > DIGITS_MAX or not _FRACTION.fullmatch(value):
        fail(piece, "the text is no number")
    return float(finite(float(value), piece))


def _type(piece: str, value: Any) -> str:
    return KINDS.get(type(value), "").removeprefix("an ").removeprefix("a ")


# Texts


def _len(piece: str, value: Any) -> int:
    if type(value) in (str, list, dict):
        return len(value)
    fail(piece, f"len() takes text, a list or an object, not {kind_of(value)}")


def _lower(piece: str, text: Any) -> str:
    made = _text(text, piece).lower()
    return str(bounded(made, len(made), piece))


def _upper(piece: str, text: Any) -> str:
    made = _text(text, piece).upper()
    return str(bounded(made, len(made), piece))


def _strip(piece: str, text: Any) -> str:
    return _text(text, piece).strip()


def _starts(piece: str, text: Any, beginning: Any) -> bool:
    return _text(text, piece).startswith(_text(beginning, piece))


def _ends(piece: str, text: Any, ending: Any) -> bool:
    return _text(text, piece).endswith(_text(ending, piece))


def _contains(piece: str, whole: Any, item: Any) -> bool:
    return within(item, whole, piece)


def _matches(piece: str, text: Any, pattern: Any) -> bool:
    """Says whether a whole text is what a pattern with `*` for any characters says; each part is looked for once."""
    text, (first, *others) = _text(text, piece), _text(pattern, piece).split("*")
    if not others:
        return bool(text == first)
    *middle, last = others
    at, end = len(first), len(text) - len(last)
    if end < at or not text.startswith(first) or not text.endswith(last):
        return False
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _replace(piece: str, text: Any, old: Any, new: Any) -> str:
    text, old, new = _text(text, piece), _text(old, piece), _text(new, piece)
    if not old:
        fail(piece, "replace() cannot look for an empty text")
    more = len(new) - len(old)
    if more > 0:
        bounded(None, len(text) + text.count(old) * more, piece)
    return str(text.replace(old, new))


def _split(piece: str, text: Any, separator: Any, most: Any = None) -> list[str]:
    text, separator = _text(text, piece), _text(separator, piece)
    if not separator:
        fail(piece, "split() cannot split at an empty text")
    if most is not None and not 1 <= _integer(most, piece) <= PIECES_MAX:
        fail(piece, f"split() makes 1 to {PIECES_MAX} pieces")
    made: list[str] = text.split(separator, (most or PIECES_MAX + 1) - 1)
    if len(made) > PIECES_MAX:
        fail(piece, f"split() would make more than {PIECES_MAX} pieces")
    return made


def _join(piece: str, items: Any, separator: Any) -> str:
    items, separator = _list(items, piece), _text(separator, piece)
    size = sum([len(_text(item, piece)) for item in items]) + len(separator) * max(0, len(items) - 1)
    return str(bounded(separator, size, piece).join(items))


def _substring(piece: str, text: Any, start: Any, end: Any = None) -> str:
    text, start = _text(text, piece), _integer(start, piece)
    end = len(text) if end is None else _integer(end, piece)
    if start < 0 or end < 0:
        fail(piece, "substring() counts from 0, and takes no negative place")
    return str(text[start:end])


def _sha256(piece: str, value: Any) -> str:
    try:
        body = value.encode() if type(value) is str else _json(values.canonical, value, piece)
    except UnicodeEncodeError:
        fail(piece, "the text holds half a surrogate pair")
    return hashlib.sha256(body).hexdigest()


# Numbers and lists


def _abs(piece: str, value: Any) -> Any:
    return abs(number(value, "abs()", piece))


def _round(piece: str, value: Any, digits: Any = 0) -> Any:
    value = number(value, "round()", piece)
    if not 0 <= _integer(digits, piece) <= 15:
        fail(piece, "round() keeps 0 to 15 digits")
    return (round(value, digits) if digits else round(value)) if type(value) is float else value


def _smallest(piece: str, *given: Any) -> Any:
    return reduce(lambda one, other: other if less(other, one, piece) else one, _several(piece, given))


def _largest(piece: str, *given: Any) -> Any:
    return reduce(lambda one, other: other if less(one, other, piece) else one, _several(piece, given))


def _several(piece: str, given: Sequence[Any]) -> Sequence[Any]:
    items = given if len(given) > 1 else _list(given[0], piece)
    if not items:
        fail(piece, "the list is empty")
    less(items[0], items[0], piece)  # of one item nothing else would look at the kind
    return items


def _sum(piece: str, items: Any) -> Any:
    total: Any = 0
    for item in _list(items, piece):
        total = add(total, number(item, "sum()", piece), piece)
    return total


def _pluck(piece: str, items: Any, path: Sequence[str]) -> list[Any]:
    found = [find(item, path) for item in _list(items, piece)]
    if MISSING in found:
        fail(piece, "an item of the list has no such field")
    return found


def _to_ms(piece: str, text: Any) -> int:
    ms = times.to_ms(_text(text, piece))
    if ms is None:
        fail(piece, "the text is no time such as 2024-01-31T12:30:00Z")
    return ms


def _from_ms(piece: str, ms: Any) -> str:
    text = times.from_ms(_integer(ms, piece))
    if text is None:
        fail(piece, "the time is not in the years 1 to 9999")
    return text


# Of arguments that need not be there: the compiler hands them over as MISSING where they are not.


def _coalesce(piece: str, *given: Any) -> Any:
    for value in given:
        if value is not MISSING and value is not None:
            return value
    return None


def _exists(piece: str, value: Any) -> bool:
    return value is not MISSING


def _get(piece: str, whole: Any, path: Sequence[str], default: Any = MISSING) -> Any:
    found = default if whole is MISSING else find(whole, path)
    found = default if found is MISSING else found
    if found is MISSING:
        fail(piece, "there is no such field, and no default is given")
    return found


def get_if(piece: str, whole: Any, path: Sequence[str], default: Any = MISSING) -> Any:
    """Returns what `get` does, and `MISSING` where it finds nothing."""
    found = MISSING if whole is MISSING else find(whole, path)
    return default if found is MISSING else found


ANY = 100
LENIENT = frozenset(("coalesce", "exists", "get"))  # arguments that are paths need not be there: of get, the first
PATHS = frozenset(("get", "pluck"))  # the second argument is a dotted path, written out

TABLE = {
    "text": Function(_to_text, 1, 1, "text"),
    "int": Function(_to_int, 1, 1, "int"),
    "float": Function(_to_float, 1, 1),
    "type": Function(_type, 1, 1, "text"),
    "len": Function(_len, 1, 1, "int"),
    "lower": Function(_lower, 1, 1, "text"),
    "upper": Function(_upper, 1, 1, "text"),
    "strip": Function(_strip, 1, 1, "text"),
    "startswith": Function(_starts, 2, 2, "bool"),
    "endswith": Function(_ends, 2, 2, "bool"),
    "contains": Function(_contains, 2, 2, "bool"),
    "matches": Function(_matches, 2, 2, "bool"),
    "replace": Function(_replace, 3, 3, "text"),
    "split": Function(_split, 2, 3),
    "join": Function(_join, 2, 2, "text"),
    "substring": Function(_substring, 2, 3, "text"),
    "sha256": Function(_sha256, 1, 1, "text"),
    "abs": Function(_abs, 1, 1),
    "round": Function(_round, 1, 2),
    "min": Function(_smallest, 1, ANY),
    "max": Function(_largest, 1, ANY),
    "sum": Function(_sum, 1, 1),
    "pluck": Function(_pluck, 2, 2),
    "to_ms": Function(_to_ms, 1, 1, "int"),
    "from_ms": Function(_from_ms, 1, 1, "text"),
    "get": Function(_get, 2, 3),
    "exists": Function(_exists, 1, 1, "bool"),
    "coalesce": Function(_coalesce, 1, ANY),
}
