"""The keys of the state rows of tables, and of their routes in the control log; `keys.py` has all others.

Promises
- A vshard is 2 bytes, so no key of one reaches into another's range; a user's key stands at the end, and needs no mark.
- A table's name in a route ends in a zero byte, which no name can hold.
"""

from __future__ import annotations

from grafctl.errors import Corrupt
from grafctl.store.keys import PAYLOAD, U16, last_number, range_of


def vshard(number: int) -> bytes:
    return PAYLOAD + b"V" + U16.pack(number)


def vshards() -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"V")


def table_row(number: int, key: bytes) -> bytes:
    return PAYLOAD + b"W" + U16.pack(number) + key


def table_rows(number: int, prefix: bytes = b"") -> tuple[bytes, bytes]:
    """Returns the range of a vshard's rows whose keys begin with a prefix."""
    return range_of(PAYLOAD + b"W" + U16.pack(number) + prefix)


def all_table_rows() -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"W")


def vshard_of_row(row: bytes) -> int:
    """Returns the vshard of a table's row."""
    if len(row) < 6:
        raise Corrupt(f"Row {row.hex()} is not that of a table.", key=row.hex())
    return int.from_bytes(row[3:5], "big")


def key_of(row: bytes) -> bytes:
    """Returns the user's key of a table's row."""
    if len(row) < 6:
        raise Corrupt(f"Row {row.hex()} is not that of a table.", key=row.hex())
    return row[5:]


def migration(number: int) -> bytes:
    return PAYLOAD + b"M" + U16.pack(number)


def migrations() -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"M")


def way_back(number: int) -> bytes:
    return PAYLOAD + b"Y" + U16.pack(number)


def ways_back() -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"Y")


def parse_vshard(row: bytes) -> int:
    """Returns the vshard that ends a row's subkey."""
    return last_number(U16, row)


def route(table: str, number: int) -> bytes:
    return PAYLOAD + b"V" + table.encode() + b"\0" + U16.pack(number)


def routes(table: str) -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"V" + table.encode() + b"\0")
