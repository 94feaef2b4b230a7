"""The same as `id_runs` does item by item, for thousands of items at once; the only module that knows numpy.

Promises
- Every function returns the same bytes as the one of the same name in `id_runs`.
- It is imported only where a batch is large, because numpy takes longer to import than a publish takes.
"""

from __future__ import annotations

import numpy as np

from grafctl.store.resources.id_runs import FIRST_SHIFTS, ITEM_BYTES, MIX, SECOND_SHIFTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafctl.store.resources.id_filters import Filter

    Words = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]

_HALF = np.uint64(32)
_LOW_SIX = np.uint64(63)
_ONE = np.uint64(1)


def _columns(items: bytes) -> tuple[Words, Words]:
    """Returns prefixes and numbers."""
    both = np.frombuffer(items, ">u8").reshape(-1, 2)
    return both[:, 0].astype(np.uint64), both[:, 1].astype(np.uint64)


def sort_items(items: bytes, low: bytes = b"", stop: bytes | None = None) -> bytes:
    """Returns the items of [low, stop) sorted."""
    prefixes, numbers = _columns(items)
    whole = np.frombuffer(items, f"V{ITEM_BYTES}")
    if low or stop is not None:
        inside = prefixes >= np.uint64(int.from_bytes(low, "big"))
        if stop is not None:
            inside &= prefixes < np.uint64(int.from_bytes(stop, "big"))
        prefixes, numbers, whole = prefixes[inside], numbers[inside], whole[inside]
    order = np.argsort(prefixes, kind="stable")
    ordered = prefixes[order]
    if (ordered[1:] == ordered[:-1]).any():
        order = np.lexsort((numbers, prefixes))
    return whole[order].tobytes()


def _masks(prefixes: Words) -> tuple[Words, Words]:
    """Returns the bits in the first and in the second word of a cell."""
    mixed = prefixes * np.uint64(MIX)
    one, two = (
        _ONE << (mixed >> np.uint64(a) & _LOW_SIX)
        | _ONE << (mixed >> np.uint64(b) & _LOW_SIX)
        | _ONE << (mixed >> np.uint64(c) & _LOW_SIX)
        for a, b, c in (FIRST_SHIFTS, SECOND_SHIFTS)
    )
    return one, two


def filter_of(items: bytes, cells: int, start: int, stop: int) -> bytes:
    """Returns the cells [start, stop) of the filter of a run, of which these are the items, sorted."""
    found = np.zeros((stop - start, 2), "<u8")
    if items:
        prefixes, _ = _columns(items)
        places = ((prefixes >> _HALF) * np.uint64(cells) >> _HALF) - np.uint64(start)
        firsts = np.flatnonzero(np.concatenate(([True], places[1:] != places[:-1])))
        for word, masks in enumerate(_masks(prefixes)):
            found[places[firsts], word] = np.bitwise_or.reduceat(masks, firsts)
    return found.tobytes()


def make_records(hashes: Sequence[bytes], offsets: Sequence[int]) -> bytes:
    """Returns the records of new ids."""
    held = np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), -1)
    records = np.empty((len(hashes), 40), np.uint8)
    records[:, :16], records[:, 24:] = held[:, :16], held[:, 16:]
    records[:, 16:24] = np.asarray(offsets, ">u8").view(np.uint8).reshape(-1, 8)
    return records.tobytes()


def make_items(records: bytes, first: int) -> bytes:
    """Returns the items of records that are numbered from `first`."""
    prefixes = np.frombuffer(records, ">u8")[::5]
    return np.column_stack((prefixes, np.arange(first, first + len(prefixes), dtype=">u8"))).astype(">u8").tobytes()


def fold(items: bytes) -> int:
    """Returns a sum over items, modulo 2^64, that others or fewer of them hardly have."""
    prefixes, numbers = _columns(items)
    return int(((prefixes ^ numbers * np.uint64(MIX)) * (numbers + numbers + _ONE)).sum())


class Probe:
    """Ids, as hashes or as items, that are looked for, ready to be held against one filter after another."""

    def __init__(self, parts: Sequence[bytes], count: int | None = None) -> None:
        every = np.frombuffer(b"".join(parts), ">u8")
        prefixes = every[:: len(every) // (len(parts) if count is None else count)].astype(np.uint64)
        self._tops = prefixes >> _HALF
        self._first, self._second = _masks(prefixes)

    def pass_filter(self, held: Filter, cells: int) -> list[int]:
        """Returns the places of those that may be in the run."""
        every = np.frombuffer(held.cells, "<u8")
        at = self._tops * np.uint64(cells) >> _HALF << _ONE
        passed = np.flatnonzero((every.take(at) & self._first) == self._first)
        second = self._second[passed]
        places: list[int] = passed[(every.take(at[passed] + _ONE) & second) == second].tolist()
        return places
