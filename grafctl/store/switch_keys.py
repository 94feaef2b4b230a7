"""The keys of the state rows of switches, in the control log and in the logs of their groups; `keys.py` has all others.

Promises
- A name ends its row, or a zero byte ends the name, so no row of one table reaches into another's range.
"""

from __future__ import annotations

from grafctl.store.keys import PAYLOAD, range_of

MATCH_BYTES = 16  # of what makes two records counterparts, hashed


# --- in the control log


def switch(name: str) -> bytes:
    return PAYLOAD + b"X" + name.encode()


def switches() -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"X")


def reader(table: str, group: str) -> bytes:
    """Returns the row of a group that reads a table through a switch."""
    return PAYLOAD + b"Y" + table.encode() + b"\0" + group.encode()


# --- in the log of a group


def carried(group: str) -> bytes:
    """Returns the row that says what of a group was carried, to it and from it."""
    return PAYLOAD + b"XC" + group.encode() + b"\0"


def owed(group: str, match: bytes) -> bytes:
    """Returns the row of a record that is to be finished without a delivery when it comes."""
    return PAYLOAD + b"XO" + group.encode() + b"\0" + match


def all_owed(group: str) -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"XO" + group.encode() + b"\0")


def parse_owed(row: bytes) -> bytes:
    """Returns the hash at the end of such a row."""
    return row[-MATCH_BYTES:]
