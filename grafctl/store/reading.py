"""Reads published records back from one domain's own bytes: for polls, peeks and proofs alike.

Promises
- Every block's digest is checked on the way; a wrong byte is `Corrupt` with domain and entry, never a record.
"""

from __future__ import annotations

from grafctl.errors import Corrupt
from grafctl.store import blocks, keys
from grafctl.store.blocks import Columns
from grafctl.store.records import Entry, parse_json
from grafctl.store.replica.replica import Replica
from grafctl.store.replica.state import State
from grafctl.typed import Iterator, NamedTuple, Sequence, TypeVar

HELD_BYTES_MAX = 4 << 20
Range = TypeVar("Range", bound=Sequence[int])


class BlockRef(NamedTuple):
    """Where a block of records is."""

    first: int
    records: int
    at: int  # index of its entry
    bytes: int
    start: int | None = None  # where it begins in the data of an entry that holds several blocks
    ms: int = 0  # when it was published

    @property
    def span(self) -> slice:
        """Returns which part of the data of its entry it is."""
        return slice(None) if self.start is None else slice(self.start, self.start + self.bytes)


def block_refs(state: State, start: int, stop: int) -> Iterator[BlockRef]:
    """Yields the blocks that hold offsets of [start, stop), in order."""
    if start >= stop:
        return
    before = next(iter(state.scan(keys.blocks(0, start + 1), reverse=True)), None)
    begin = keys.parse_block(before[0]) if before else start
    for row, body in state.scan(keys.blocks(begin, stop)):
        ref = parse_json(body)
        first = keys.parse_block(row)
        if first + ref["count"] > start:
            yield BlockRef(first, ref["count"], ref["index"], ref["bytes"], ref.get("at"), ref["ms"])


def block_entry(replica: Replica, ref: BlockRef) -> Entry:
    """Returns the entry that holds a block, with no other data; raises `Corrupt`."""
    entry = replica.entry(ref.at)
    block = entry.block[ref.span]
    if blocks.count(block, f"{replica.domain}: entry {ref.at}") != ref.records:
        raise Corrupt(
            f"{replica.domain}: entry {ref.at} does not hold the block of offset {ref.first}.", domain=replica.domain
        )
    return entry if ref.start is None else entry._replace(block=block)


class Held:
    """The last block that was unpacked: polls of few records come back to it, and it need not be read again.

    It is told from another block of the same offsets by the chain of its entry, which is read each time.
    """

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: tuple[bytes, BlockRef, Columns] | None = None  # chain of its entry; put in whole, for threads

    def unpacked(self, replica: Replica, ref: BlockRef) -> Columns:
        """Returns the records of a block; raises `Corrupt`."""
        found = self.found
        chain = replica.chain_at(ref.at + 1)
        if found is not None and found[0] == chain and found[1] == ref:
            return found[2]
        entry = block_entry(replica, ref)
        columns = blocks.columns(entry.block, f"{replica.domain}: entry {ref.at}")
        self.found = (entry.chain, ref, columns) if ref.bytes <= HELD_BYTES_MAX else None
        return columns


def read_columns(
    replica: Replica, state: State, ranges: Sequence[Range], held: Held
) -> Iterator[tuple[Range, int, Columns]]:
    """Yields the records of these ranges in parts: (their range, offset of the first, records)."""
    ref = BlockRef(0, 0, -1, 0)
    columns = Columns([], [], [], [])
    for item in ranges:
        start, stop = item[0], item[1]
        inside = ref.first <= start and stop <= ref.first + ref.records
        for found in (ref,) if inside else block_refs(state, start, stop):
            if found != ref:  # neighbours share a block
                ref, columns = found, held.unpacked(replica, found)
            first, last = max(start, ref.first), min(stop, ref.first + ref.records)
            whole = last - first == ref.records
            yield item, first, columns if whole else columns.cut(first - ref.first, last - ref.first)
