"""Times and sizes as people write them: `500ms`, `7d`, `10GB`, `2026-01-31T12:00:00Z`; the same on the command line
and in files.

Promises
- A text means a whole number of milliseconds or bytes that 63 bits hold, or `Usage` says how to write one.
- A moment names its zone: nobody guesses whose clock is meant.
"""

from __future__ import annotations

from grafctl.errors import Usage
from grafctl.names import shown
from grafctl.typed import Mapping

INTEGER_MAX = 2**63 - 1
DURATIONS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
DURATIONS_US = {"us": 1, **{unit: 1000 * value for unit, value in DURATIONS_MS.items()}}
SIZES = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
SIZES |= {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def duration_ms(text: str) -> int:
    """Returns the milliseconds of a time with its unit; only 0 needs none."""
    found = _quantity("0ms" if text == "0" else text, DURATIONS_MS)
    if found is None:
        raise Usage(f"{shown(text)} is no time; write 500ms, 5s, 2m, 1h or 7d.")
    return found


def duration_us(text: str) -> int:
    """Returns the microseconds of a time with its unit; only 0 needs none."""
    found = _quantity("0us" if text == "0" else text, DURATIONS_US)
    if found is None:
        raise Usage(f"{shown(text)} is no time; write 500us, 50ms or 2s.")
    return found


def moment_ms(text: str) -> int:
    """Returns the milliseconds since 1970 of a moment in the form of RFC 3339."""
    from datetime import datetime  # here, because few commands take a moment

    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None or len(text) < 17 or text[10] not in "Tt ":
            raise ValueError("a day, or a time without its zone")
        found = int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        found = -1
    if found < 0 or not text.isascii():
        raise Usage(f"{shown(text)} is no moment; write 2026-01-31T12:00:00Z or 2026-01-31T13:00:00+01:00.")
    return found


def size_bytes(text: str) -> int:
    """Returns the bytes of a size; without a unit they are bytes."""
    found = _quantity(text, SIZES)
    if found is None:
        raise Usage(f"{shown(text)} is no size; write 64MiB, 10GB or a number of bytes.")
    return found


def _quantity(text: str, units: Mapping[str, int]) -> int | None:
    import re  # here, because it takes longer to import than a publish takes

    form = re.fullmatch(r"([0-9]{1,18})(?:\.([0-9]{1,6}))?([A-Za-z]*)", text)
    if form is None or form[3] not in units:
        return None
    fraction = form[2] or ""
    number = int(form[1] + fraction) * units[form[3]] // 10 ** len(fraction)
    return number if number <= INTEGER_MAX else None
