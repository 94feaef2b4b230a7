"""What a source gives: one record at a time, or why there is none in its place.

Promises
- An item is a record, or has a `problem`; nothing that a source read is left out, but for blank lines.
- A sentence of `problem` says what is wrong and never holds a value.
"""

from __future__ import annotations

from typing import NamedTuple

from grafctl.store.blocks import PAYLOAD_BYTES_MAX


class Item(NamedTuple):
    """One line of JSON Lines, one row of a CSV file."""

    payload: bytes  # of a bad line its own bytes; none where it is too long to be kept
    id: str | None
    key: str | None
    headers: dict[str, str] | None
    place: str  # "orders.jsonl:17", counted from 1
    problem: str | None  # why this is no record


def bad(payload: bytes, place: str, problem: str) -> Item:
    """Returns the item of a line that is no record."""
    return Item(payload, None, None, None, place, problem)


TOO_LONG = f"It is longer than {PAYLOAD_BYTES_MAX >> 20} MiB, which is the most that a record may have."
EMPTY: list[Item] = []  # what a source gives before it waits
