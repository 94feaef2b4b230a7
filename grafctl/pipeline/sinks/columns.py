"""The types of columns: which values a column takes, exactly or not at all.

Promises
- Nothing is rounded, cut or guessed: a value that a column does not hold as it is raises `ValueError` with the reason,
  in words that hold no value. null is NULL in every column.
- An integer has 64 bits; a `real` that is an integer is one that a double holds; a timestamp is kept in UTC with
  microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from grafctl.expression.failing import kind_of
from grafctl.pipeline.model import POSTGRES, SQLITE
from grafctl.store.records import encode_json

INTEGER_MAX = 2**63 - 1
Take = Callable[[Any], Any]  # returns what is stored; raises ValueError

_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:[0-9]{2})?)?"
)


def take_for(type_name: str, kind: str) -> Take:
    """Returns what turns JSON values into those of a column of this type in a sink of this kind."""
    if type_name == "timestamp":
        return _timestamp_text if kind == SQLITE else _timestamp
    if kind == POSTGRES and type_name in ("text", "json"):
        return _postgres_text if type_name == "text" else _postgres_json
    return _TAKES[type_name]


def _integer(value: Any) -> int | None:
    if type(value) is int:
        if -INTEGER_MAX - 1 <= value <= INTEGER_MAX:
            return value
        raise ValueError("it is an integer of more than 64 bits, which would be rounded")
    _check_null(value, "an integer")
    return None


def _real(value: Any) -> float | None:
    if type(value) is float:
        if value - value == 0.0:
            return value
        raise ValueError("it is not a finite number")
    if type(value) is int:
        if abs(value) <= 1 << 53 or (abs(value) < 1 << 1023 and int(float(value)) == value):
            return float(value)
        raise ValueError("it is an integer that no double holds exactly")
    _check_null(value, "a fraction")
    return None


def _boolean(value: Any) -> bool | None:
    if type(value) is bool:
        return value
    _check_null(value, "a boolean")
    return None


def _text(value: Any) -> str | None:
    if type(value) is not str:
        _check_null(value, "text")
        return None
    if not value.isascii():
        _check_text(value)
    return value


def _postgres_text(value: Any) -> str | None:
    text = _text(value)
    if text is not None and "\0" in text:
        raise ValueError("it holds the character NUL, which PostgreSQL has in no text")
    return text


def _json(value: Any) -> str | None:
    return None if value is None else json_text(value)


def _postgres_json(value: Any) -> str | None:
    text = _json(value)
    # NB before it stands an even number of backslashes, or it is no escape but a text about one.
    if text is not None and "\\u0000" in text and _NUL.search(text):
        raise ValueError("it holds the character NUL, which PostgreSQL has in no text")
    return text


_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def json_text(value: Any) -> str:
    """Returns the canonical JSON of a value; raises ValueError where it has none."""
    try:
        return encode_json(value).decode()
    except UnicodeEncodeError:
        raise ValueError("it holds half a surrogate pair, which no UTF-8 text can") from None
    except (TypeError, ValueError, RecursionError):
        raise ValueError("it holds what JSON cannot") from None


def _timestamp(value: Any) -> datetime | None:
    if type(value) is not str:
        _check_null(value, "text with a timestamp")
        return None
    try:
        if not _TIMESTAMP.fullmatch(value):
            raise ValueError
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            "it is no timestamp, which is written as 2024-05-31T12:00:00.000001Z, at most with microseconds"
        ) from None


def _timestamp_text(value: Any) -> str | None:
    found = _timestamp(value)
    return None if found is None else f"{found.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half a surrogate pair, which no UTF-8 text can") from None


def _check_null(value: Any, wanted: str) -> None:
    if value is not None:
        raise ValueError(f"it is {kind_of(value)}, not {wanted}")


_TAKES: dict[str, Take] = {
    "integer": _integer, "real": _real, "boolean": _boolean, "text": _text, "json": _json,
}  # fmt: skip
