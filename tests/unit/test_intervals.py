"""Sets of offsets: every function against Python's own sets, and one list for one set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from grafctl.store import intervals
from grafctl.store.intervals import Intervals

SETS = st.frozensets(st.integers(0, 40))
PAIRS = st.lists(st.lists(st.integers(0, 40), min_size=2, max_size=2))


def runs(members: frozenset[int] | set[int]) -> Intervals:
    """Returns the canonical list of a set, made one offset at a time."""
    out: Intervals = []
    for offset in sorted(members):
        if out and out[-1][1] == offset:
            out[-1][1] += 1
        else:
            out.append([offset, offset + 1])
    return out


def members(ranges: Intervals) -> set[int]:
    return {offset for start, stop in ranges for offset in range(start, stop)}


@given(PAIRS, PAIRS)
def test_union_takes_any_ranges(first: Intervals, second: Intervals) -> None:
    assert intervals.union(first, second) == runs(members(first) | members(second))


@given(SETS, SETS)
def test_the_algebra_is_that_of_sets(first: frozenset[int], second: frozenset[int]) -> None:
    one, other = runs(first), runs(second)
    assert intervals.union(one, other) == runs(first | second)
    assert intervals.difference(one, other) == runs(first - second)
    assert intervals.intersection(one, other) == runs(first & second)
    assert (one, other) == (runs(first), runs(second)), "an argument was changed"


@given(SETS, st.integers(0, 45))
def test_membership_and_size(given_set: frozenset[int], offset: int) -> None:
    assert intervals.contains(runs(given_set), offset) == (offset in given_set)
    assert intervals.size(runs(given_set)) == len(given_set)


@given(st.lists(st.integers(0, 40)))
def test_offsets_in_any_order_and_repeated(offsets: list[int]) -> None:
    assert intervals.from_offsets(offsets) == runs(set(offsets))
    assert intervals.offsets(intervals.from_offsets(offsets)) == sorted(set(offsets))


@given(SETS, st.integers(-1, 45))
def test_take_gives_the_lowest(given_set: frozenset[int], count: int) -> None:
    assert intervals.take(runs(given_set), count) == runs(set(sorted(given_set)[: max(0, count)]))


@given(PAIRS)
def test_results_are_new_lists(ranges: Intervals) -> None:
    before = [list(item) for item in ranges]
    out = intervals.union(ranges, [])
    for item in out:
        item[1] += 1
    assert ranges == before


def test_grants_and_retries_are_ranges_too() -> None:
    """Longer items count by their first two numbers, which is how leases and retries are stored."""
    assert intervals.union([[3, 5, 1], [0, 2, 7, 99]], []) == [[0, 2], [3, 5]]
