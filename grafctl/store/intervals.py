"""Sets of offsets as sorted lists of half-open, disjoint, non-touching intervals `[start, stop]`: small whatever they
hold.

Promises
- Every function returns a new list; arguments are never changed.
- The result is canonical: the same set always has the same list, so replicas that agree on the set agree on the bytes.
"""

from __future__ import annotations

from bisect import bisect_right

from grafctl.typed import Iterable, Sequence

Intervals = list[list[int]]


def union(first: Sequence[Sequence[int]], second: Sequence[Sequence[int]]) -> Intervals:
    """Returns every offset that is in either."""
    out: Intervals = []
    for start, stop in sorted([list(item[:2]) for item in first] + [list(item[:2]) for item in second]):
        if start >= stop:
            continue
        if out and start <= out[-1][1]:
            out[-1][1] = max(out[-1][1], stop)
        else:
            out.append([start, stop])
    return out


def difference(first: Sequence[Sequence[int]], second: Sequence[Sequence[int]]) -> Intervals:
    """Returns every offset of `first` that is not in `second`; both canonical."""
    out: Intervals = []
    cuts, count = second, len(second)
    # The first cut that matters is looked up, because leases are cut piece by piece by lists of a thousand pieces.
    position = bisect_right(cuts, first[0][0], key=_stop) if first and count > 8 else 0
    for start, stop in first:
        while position < count and cuts[position][1] <= start:
            position += 1
        at = position
        while at < count and cuts[at][0] < stop:
            if start < cuts[at][0]:
                out.append([start, cuts[at][0]])
            start = max(start, cuts[at][1])
            at += 1
        if start < stop:
            out.append([start, stop])
    return out


def _stop(item: Sequence[int]) -> int:
    return item[1]


def intersection(first: Sequence[Sequence[int]], second: Sequence[Sequence[int]]) -> Intervals:
    """Returns every offset that is in both."""
    return difference(first, difference(first, second))


def contains(intervals: Sequence[Sequence[int]], offset: int) -> bool:
    """Returns whether the offset is in the set."""
    at = bisect_right(intervals, offset, key=lambda item: item[0])
    return at > 0 and offset < intervals[at - 1][1]


def size(intervals: Sequence[Sequence[int]]) -> int:
    """Returns how many offsets the set holds."""
    return sum(item[1] - item[0] for item in intervals)


def from_offsets(offsets: Iterable[int]) -> Intervals:
    """Returns the set of these offsets."""
    ordered = sorted(set(offsets))
    if ordered and ordered[-1] - ordered[0] == len(ordered) - 1:  # no gap: what is acked is mostly what was polled
        return [[ordered[0], ordered[-1] + 1]]
    return union([[offset, offset + 1] for offset in ordered], [])


def take(intervals: Sequence[Sequence[int]], count: int) -> Intervals:
    """Returns the lowest `count` offsets of the set."""
    out: Intervals = []
    for start, stop in intervals:
        if count <= 0:
            break
        stop = min(stop, start + count)
        out.append([start, stop])
        count -= stop - start
    return out


def offsets(intervals: Sequence[Sequence[int]]) -> list[int]:
    """Returns the offsets one by one, in order."""
    return [offset for start, stop in intervals for offset in range(start, stop)]
