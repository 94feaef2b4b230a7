"""Times in expressions: between RFC 3339 texts and whole milliseconds since 1970, without a clock or a time zone.

Promises
- A text is `2024-01-31`, which is midnight in UTC, or `2024-01-31T12:30:00`, with up to nine digits of a second, and
  `Z` or `+hh:mm`; what is smaller than a millisecond is cut off. The years are 1 to 9999.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_FORM = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):(\d\d)))?", re.ASCII
)
_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_FIRST_MS = (datetime(1, 1, 1, tzinfo=UTC) - _BEGIN) // _MILLISECOND
_LAST_MS = (datetime(9999, 12, 31, tzinfo=UTC) - _BEGIN) // _MILLISECOND + 86_400_000 - 1


def to_ms(text: str) -> int | None:
    """Returns the milliseconds since 1970 of a time, or None for a text that is none."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, hours, minutes = found.groups()
    try:
        date = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC)
    except ValueError:
        return None
    away = int(hours or 0) * 60 + int(minutes or 0)
    if int(hours or 0) > 23 or int(minutes or 0) > 59:
        return None
    whole = (date - _BEGIN) // _MILLISECOND + int((fraction or "0").ljust(3, "0")[:3])
    return whole - away * 60_000 * (-1 if sign == "-" else 1)


def from_ms(ms: int) -> str | None:
    """Returns the text of a time in UTC, with milliseconds, or None for one before the year 1 or after 9999."""
    if not _FIRST_MS <= ms <= _LAST_MS:
        return None
    return (_BEGIN + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
