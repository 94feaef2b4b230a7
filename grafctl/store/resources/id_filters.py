"""The filters of runs that a process has loaded: "surely not in this run" without reading the run.

Promises
- A filter is used only where it covers all that the run holds in the state at hand; else the run itself is asked. So
  one that is out of date, or not loaded, costs time and never an answer.
- It is found by the run's tag, a hash of its content, so an entry that is undone and another in its place cannot be
  mixed up. The cells it has are those of the rows, whose checksums were right.
- A filter is loaded once the rows that were read for want of it come to as many bytes; all of them together stay within
  `BYTES_MAX`, and those that were not used for longest go first.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections import OrderedDict

from grafctl.store import keys
from grafctl.store.replica.state import State
from grafctl.store.resources.id_runs import CELL_BYTES, ROW_BYTES, Directory, Run, cell_of
from grafctl.typed import NamedTuple

BYTES_MAX = 64 << 20
_RUNS_MAX = 1024
_MAPPED_BYTES = 1 << 20


class Span(NamedTuple):
    """A run, and the cells of its filter that say what it alone holds."""

    run: Run
    low: int
    high: int


def spans(directory: Directory) -> list[Span]:
    """Returns all runs of a directory, those that are being merged among them."""
    found = [Span(run, 0, run.cells) for run in directory.runs]
    for merge in directory.merges:
        found.append(Span(merge.target, 0, merge.upto))
        bound = int.from_bytes(merge.bound[:8], "big")
        found += [Span(run, cell_of(bound, run.cells), run.cells) for run in merge.sources]
    return found


class Filter:
    """The cells [low, high) of a run's filter in memory; the others are zero, and of no use."""

    __slots__ = ("cells", "high", "low")

    def __init__(self, cells: int) -> None:
        size = cells * CELL_BYTES
        # Mapped, because pages that are not written yet take no memory: a target fills up while its sources shrink.
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.cells: mmap.mmap | bytearray = bytearray(size) if size < _MAPPED_BYTES else mmap.mmap(-1, size, private)
        self.low = self.high = 0

    def read(self, state: State, span: Span) -> bool:
        """Reads what is missing at the upper end, or everything where nothing is there; returns whether it is whole."""
        start = max(self.high, span.low)
        before = next(iter(state.scan(keys.id_filters_of(span.run.number, 0, start + 1), reverse=True)), None)
        at = keys.last_u64(before[0]) if before is not None else start
        if self.high == 0:
            self.low = at
        for row, body in state.scan(keys.id_filters_of(span.run.number, at, span.high)):
            if keys.last_u64(row) != at or at + len(body) // CELL_BYTES > span.run.cells:
                return False  # a row is missing or too long: not to be relied on
            self.cells[at * CELL_BYTES : at * CELL_BYTES + len(body)] = body
            at += len(body) // CELL_BYTES
        self.high = max(self.high, at)
        return self.covers(span)

    def covers(self, span: Span) -> bool:
        """Returns whether what is not in these cells is not in the run either."""
        return self.low <= span.low and span.high <= self.high

    def passes(self, place: int, mask: int) -> bool:
        """Returns whether an item with these bits may be there."""
        return int.from_bytes(self.cells[place * CELL_BYTES : (place + 1) * CELL_BYTES], "little") & mask == mask


class _Held:
    """What is remembered of one run: its filter if it is loaded, and how many look-ups went without."""

    __slots__ = ("asked", "filter")

    def __init__(self) -> None:
        self.filter: Filter | None = None
        self.asked = 0

    @property
    def bytes(self) -> int:
        return 0 if self.filter is None else CELL_BYTES * (self.filter.high - self.filter.low)


class Filters:
    """The filters of one process, for all its stores and threads."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._held: OrderedDict[bytes, _Held] = OrderedDict()
        self._lock = threading.Lock()

    def free_lock(self) -> None:
        """Makes the lock anew in a child process, because another thread of the parent may have held it."""
        self._lock = threading.Lock()

    def find(self, state: State, span: Span, asked: int) -> Filter | None:
        """Returns the filter of a run for so many look-ups, or None where the run is to be asked instead."""
        with self._lock:
            held = self._held.get(span.run.tag)
            if held is None:
                held = self._held[span.run.tag] = _Held()
            self._held.move_to_end(span.run.tag)
            kept = held.filter
            if kept is not None and kept.covers(span) and 2 * (span.low - kept.low) <= kept.high - kept.low:
                return kept
            held.asked += asked
            is_longer = kept is not None and kept.low <= span.low <= kept.high
            missing = span.high - (kept.high if is_longer and kept is not None else span.low)
            if held.asked * ROW_BYTES < missing * CELL_BYTES:
                return kept if kept is not None and kept.covers(span) else None
            return self._load(state, span, held)

    def _load(self, state: State, span: Span, held: _Held) -> Filter | None:
        kept = held.filter
        held.asked, held.filter = 0, None
        # One that is only too short grows in place: more bits never hide anything from whoever is using it meanwhile.
        if kept is None or kept.covers(span) or not kept.low <= span.low <= kept.high:
            kept = Filter(span.run.cells)
        if not kept.read(state, span):
            return None
        held.filter = kept
        total = sum(other.bytes for other in self._held.values())
        while total > self._bytes_max or len(self._held) > _RUNS_MAX:
            total -= self._held.popitem(last=False)[1].bytes
        return kept


FILTERS = Filters()


def _after_fork() -> None:
    FILTERS.free_lock()


os.register_at_fork(after_in_child=_after_fork)
