"""The keys of the state rows of segments, edges and chains of edges in the control log; `keys.py` has all others.

Promises
- A name stands at the end of its row, and no row of one table reaches into another's range.
"""

from __future__ import annotations

from grafctl.store.keys import PAYLOAD, range_of


def segment_lease(name: str) -> bytes:
    return PAYLOAD + b"L" + name.encode()


def segment_leases() -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"L")


def edge(name: str) -> bytes:
    return PAYLOAD + b"E" + name.encode()


def edges() -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"E")


def chain(name: str) -> bytes:
    return PAYLOAD + b"F" + name.encode()


def chains() -> tuple[bytes, bytes]:
    return range_of(PAYLOAD + b"F")
