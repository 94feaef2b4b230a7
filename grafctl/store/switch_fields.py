"""What two counterparts must have in common: all their bytes, or declared fields of their JSON within a tolerance.

A field is written `PATH`, `PATH~0.01` (numbers may differ by so much) or `PATH~1%` (of the larger of the two).

Promises
- Numbers are compared as decimals, with all their digits. Texts, booleans, lists and objects are equal or different.
- What is absent on both sides is equal; what is absent on one side is different, also from null.
- A payload that is no JSON is different when fields are declared, and the reason is said.
- What is kept of a record until its counterpart comes is small, however large the record is.

When it fails: nothing here can; there is no I/O, no clock and no randomness.
"""

from __future__ import annotations

from functools import lru_cache

from grafctl.errors import Usage
from grafctl.expression.paths import MISSING, find, parse_path
from grafctl.expression.values import decode_exact
from grafctl.names import shown
from grafctl.store.records import digest
from grafctl.store.switch_match import cut, exact_text
from grafctl.typed import Any, NamedTuple, Sequence

FIELDS_MAX = 32
TOLERANCE_CHARACTERS_MAX = 40
KEPT_BYTES_MAX = 4096  # of a payload; of a larger one its hash and its beginning
VALUE_CHARACTERS_MAX = 120
_BEFORE = 20  # characters shown in front of the first that differs
_DIGITS = 10_000  # more than a number has, so differences are exact

ABSENT = "(absent)"


class Field(NamedTuple):
    """A declared field; `tolerance` is absolute, or where `is_relative` a part of the larger number."""

    text: str
    path: tuple[str, ...]
    tolerance: Any = None  # Decimal
    is_relative: bool = False


class Difference(NamedTuple):
    """Where two counterparts differ; both values are texts to be shown."""

    field: str
    source: str
    target: str


class Content(NamedTuple):
    """What is kept of a record to be compared: with declared fields a value of each, or else its bytes."""

    values: tuple[Any, ...] | None  # Decimal, MISSING, a text, or (hash, cut text) where it is long
    why: str  # the payload is no JSON, though fields are declared
    payload: bytes  # whole, or its beginning
    size: int
    hash: bytes  # of a payload that is not kept whole
    key: str | None


@lru_cache(maxsize=256)
def field(text: str) -> Field:
    """Returns a declared field; raises `Usage`."""
    path, mark, tolerance = text.rpartition("~")
    if not mark:
        return Field(text, parse_path(text))
    number = tolerance.removesuffix("%")
    is_plain = number.replace(".", "", 1).isdigit() and number.isascii() and number[:1] != "." and number[-1:] != "."
    if not is_plain or len(tolerance) > TOLERANCE_CHARACTERS_MAX:
        raise Usage(f"{shown(text)} has no tolerance behind the ~.", hint="Write total, total~0.01 or total~1%.")
    from decimal import Decimal  # here, because few commands compare numbers

    value = Decimal(number)
    is_relative = number != tolerance
    if is_relative and value > 100:
        raise Usage(f"{shown(text)} has a tolerance of more than 100%.")
    return Field(text, parse_path(path), value.scaleb(-2) if is_relative else value, is_relative)


def check_fields(texts: Sequence[str]) -> list[str]:
    """Returns declared fields as they were written; raises `Usage`."""
    if len(texts) > FIELDS_MAX:
        raise Usage(f"At most {FIELDS_MAX} fields are declared, not {len(texts)}.")
    paths = [field(text).path for text in texts]
    if len(set(paths)) != len(paths):
        twice = next(texts[place] for place, path in enumerate(paths) if path in paths[:place])
        raise Usage(f"The field {shown(twice)} is declared twice.")
    return list(texts)


def content_of(fields: Sequence[Field], payload: bytes, key: str | None, value: Any = MISSING) -> Content:
    """Returns what is kept of a record; `value` is its payload as `decode_exact` gives it, where it is at hand."""
    if not fields:
        is_whole = len(payload) <= KEPT_BYTES_MAX
        kept = payload if is_whole else payload[: 2 * VALUE_CHARACTERS_MAX]
        return Content(None, "", kept, len(payload), b"" if is_whole else digest(payload), key)
    if value is MISSING:
        try:
            value = decode_exact(payload)
        except ValueError as error:
            return Content((), str(error), b"", len(payload), b"", None)
    return Content(tuple(_kept(find(value, item.path)) for item in fields), "", b"", len(payload), b"", None)


def _kept(value: Any) -> Any:
    if value is MISSING or _is_number(value):
        return value
    text = exact_text(value)
    if len(text) <= 2 * VALUE_CHARACTERS_MAX:
        return text
    return digest(text.encode()), cut(text, VALUE_CHARACTERS_MAX)


def _is_number(value: Any) -> bool:
    return hasattr(value, "as_tuple")


def difference(fields: Sequence[Field], source: Content, target: Content) -> Difference | None:
    """Returns the first difference of two counterparts, or None where there is none that counts."""
    if not fields:
        return _of_bytes(source, target)
    if source.why or target.why:
        return Difference("payload", source.why or "(JSON)", target.why or "(JSON)")
    for place, item in enumerate(fields):
        ours, theirs = source.values[place], target.values[place]  # type: ignore[index]
        if not _are_equal(item, ours, theirs):
            return Difference(item.text.rpartition("~")[0] or item.text, _shown(ours), _shown(theirs))
    return None


def _are_equal(item: Field, source: Any, target: Any) -> bool:
    if not (_is_number(source) and _is_number(target)):
        return type(source) is type(target) and bool(source == target)
    if source == target:
        return True
    if item.tolerance is None:
        return False
    from decimal import MAX_EMAX, MIN_EMIN, Context

    exact = Context(prec=_DIGITS, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
    most = item.tolerance
    if item.is_relative:
        most = exact.multiply(most, max(source.copy_abs(), target.copy_abs()))
    return bool(exact.subtract(source, target).copy_abs() <= most)


def _shown(value: Any) -> str:
    if value is MISSING:
        return ABSENT
    if type(value) is tuple:
        return str(value[1])
    return cut(value if type(value) is str else exact_text(value), VALUE_CHARACTERS_MAX)


# --- bytes


def _of_bytes(source: Content, target: Content) -> Difference | None:
    if source.key != target.key:
        return Difference("key", _text(source.key), _text(target.key))
    if source[2:5] == target[2:5]:
        return None
    if not (source.hash or target.hash):
        try:
            found = _first(decode_exact(source.payload), decode_exact(target.payload), "")
        except ValueError:
            found = None
        if found is not None:
            return found
    ours, theirs = (item.payload.decode(errors="backslashreplace") for item in (source, target))
    begin = max(0, _common(ours, theirs) - _BEFORE)
    if begin < 2 * _BEFORE:
        begin = 0
    shown_texts = [("…" if begin else "") + cut(text[begin:], VALUE_CHARACTERS_MAX) for text in (ours, theirs)]
    if shown_texts[0] == shown_texts[1]:  # they differ further on
        shown_texts = [
            f"{cut(text, 60)} ({item.size:,} bytes)"
            for text, item in zip((ours, theirs), (source, target), strict=True)
        ]
    return Difference("payload", *shown_texts)


def _text(text: str | None) -> str:
    return ABSENT if text is None else cut(text, VALUE_CHARACTERS_MAX)


def _common(first: str, second: str) -> int:
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return min(len(first), len(second))


def _first(source: Any, target: Any, path: str) -> Difference | None:
    """Returns the first difference inside two JSON values, or None where they differ in their writing alone."""
    if type(source) is dict and type(target) is dict:
        for key in sorted({*source, *target}):
            escaped = key.replace("\\", "\\\\").replace(".", "\\.")
            found = _first(source.get(key, MISSING), target.get(key, MISSING), f"{path}.{escaped}" if path else escaped)
            if found is not None:
                return found
        return None
    if type(source) is list and type(target) is list:
        for place in range(max(len(source), len(target))):
            pair = [side[place] if place < len(side) else MISSING for side in (source, target)]
            found = _first(pair[0], pair[1], f"{path}.{place}" if path else str(place))
            if found is not None:
                return found
        return None
    ours, theirs = _kept(source), _kept(target)
    if type(ours) is type(theirs) and ours == theirs:
        return None
    return Difference(cut(path or "payload"), _shown(ours), _shown(theirs))
