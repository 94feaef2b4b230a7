"""Reads published records back from one domain's own bytes: for polls, peeks and proofs alike.

Promises
- Every block's digest is checked on the way; a wrong byte is `Corrupt` with domain and entry, never a record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from grafctl.errors import Corrupt
from grafctl.store import blocks, keys
from grafctl.store.blocks import Packed
from grafctl.store.records import Entry
from grafctl.store.replica.replica import Replica
from grafctl.store.replica.state import State


class BlockRef(NamedTuple):
    """Where a block of records is."""

    first: int
    records: int
    at: int  # index of its entry
    bytes: int


def block_refs(state: State, start: int, stop: int) -> Iterator[BlockRef]:
    """Yields the blocks that hold offsets of [start, stop), in order."""
    if start >= stop:
        return
    before = next(iter(state.scan(keys.blocks(0, start + 1), reverse=True)), None)
    begin = keys.parse_block(before[0]) if before else start
    for row, body in state.scan(keys.blocks(begin, stop)):
        ref = json.loads(body)
        first = keys.parse_block(row)
        if first + ref["count"] > start:
            yield BlockRef(first, ref["count"], ref["index"], ref["bytes"])


def block_entry(replica: Replica, ref: BlockRef) -> Entry:
    """Returns the entry that holds a block; raises `Corrupt`."""
    entry = replica.entry(ref.at)
    if blocks.count(entry.block, f"{replica.domain}: entry {ref.at}") != ref.records:
        raise Corrupt(
            f"{replica.domain}: entry {ref.at} does not hold the block of offset {ref.first}.", domain=replica.domain
        )
    return entry


def read_records(replica: Replica, state: State, ranges: Sequence[Sequence[int]]) -> Iterator[tuple[int, Packed]]:
    """Yields (offset, record) for every offset of these ranges, range by range."""
    held: tuple[int, list[Packed]] | None = None  # neighbours share a block: unpack it once
    for item in ranges:
        start, stop = item[0], item[1]
        for ref in block_refs(state, start, stop):
            if held is None or held[0] != ref.at:
                block = block_entry(replica, ref).block
                held = (ref.at, list(blocks.unpack(block, f"{replica.domain}: entry {ref.at}")))
            for offset in range(max(start, ref.first), min(stop, ref.first + ref.records)):
                yield offset, held[1][offset - ref.first]
