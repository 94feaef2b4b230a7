"""Which vshard of a table a key belongs to, and how vshards are written on a command line.

Promises
- A key's vshard depends on the key's bytes and the number of vshards alone: the first 8 bytes of its SHA-256 (FIPS
  180-4), taken as a big-endian number, modulo the number of vshards. It never changes in the life of a table.
"""

from __future__ import annotations

from grafctl.errors import Usage
from grafctl.names import shown
from grafctl.store.records import digest
from grafctl.typed import Iterable

VSHARDS = 1024
VSHARDS_MAX = 65_536
KEY_BYTES_MAX = 480  # what LMDB leaves of 511 is 497


def vshard_of(key: bytes, vshards: int) -> int:
    """Returns the vshard of a key."""
    return int.from_bytes(digest(key)[:8], "big") % vshards


def check_vshards(vshards: int) -> int:
    """Returns how many vshards a table is to have; raises `Usage`."""
    if not 1 <= vshards <= VSHARDS_MAX:
        raise Usage(f"A table has 1 to {VSHARDS_MAX:,} vshards, not {vshards:,}.")
    return vshards


def parse_vshards(text: str) -> list[int]:
    """Returns the vshards of `3,5-9`, in order and each once; raises `Usage`."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last) if dash else (first, first)
        if not all(end.isascii() and end.isdigit() and len(end) <= 5 for end in ends):
            raise Usage(f"{shown(text)} names no vshards.", hint="Write numbers and ranges, such as 3,5-9.")
        low, high = map(int, ends)
        if low > high or high >= VSHARDS_MAX:
            raise Usage(f"{shown(part)} is no range of vshards.", hint="Write the lower number first, such as 5-9.")
        found.update(range(low, high + 1))
    return sorted(found)


def ranges_text(vshards: Iterable[int]) -> str:
    """Returns vshards as `parse_vshards` reads them."""
    parts: list[list[int]] = []
    for number in sorted(set(vshards)):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{low}-{high}" if high > low else str(low) for low, high in parts)
