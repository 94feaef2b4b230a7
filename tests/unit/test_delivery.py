"""Lineages: what polls may hand out and what finishing does, against a dict that holds one word for each offset."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from grafctl.store.intervals import from_offsets
from grafctl.store.resources.delivery import Lineage, within, without

NEXT = 24
OFFSETS = st.lists(st.integers(0, NEXT - 1), min_size=1, max_size=6)


def lineage(**fields: Any) -> Lineage:
    return Lineage(**fields)


# --- tables


FRESH: list[tuple[str, Lineage, int, int, int, int, list[list[int]], int]] = [
    # name, lineage, cursor, stop, count, replay until -> grants, cursor after
    ("everything", lineage(), 0, 5, 10, 0, [[0, 5, 1]], 5),
    ("as many as asked", lineage(), 0, 5, 2, 0, [[0, 2, 1]], 2),
    ("from the cursor on", lineage(), 3, 5, 10, 0, [[3, 5, 1]], 5),
    ("nothing is left", lineage(), 5, 5, 10, 0, [], 5),
    ("the cursor is beyond", lineage(), 9, 5, 10, 0, [], 9),
    ("none are asked for", lineage(), 0, 5, 0, 0, [], 0),
    ("finalised ones are hidden", lineage(floor=2, done=[[3, 4]]), 0, 5, 10, 0, [[2, 3, 1], [4, 5, 1]], 5),
    ("finalised ones are replayed", lineage(floor=2, done=[[3, 4]]), 0, 5, 10, 4, [[0, 5, 1]], 5),
    ("replayed up to a point", lineage(floor=4), 0, 5, 10, 2, [[0, 2, 1], [4, 5, 1]], 5),
    ("leased ones are withheld", lineage(leased=[[0, 2]]), 0, 5, 10, 0, [[2, 5, 1]], 5),
    ("dead ones are withheld", lineage(dead=[[1, 2]]), 0, 3, 10, 0, [[0, 1, 1], [2, 3, 1]], 3),
    ("retries are not fresh", lineage(retry=[[0, 2, 1, 0]]), 0, 3, 10, 0, [[2, 3, 1]], 3),
    ("all are withheld", lineage(leased=[[0, 5]]), 0, 5, 10, 0, [], 5),
    ("the cursor passes what is withheld", lineage(leased=[[1, 4]]), 0, 5, 1, 0, [[0, 1, 1]], 1),
]


@pytest.mark.parametrize(
    ("held", "cursor", "stop", "count", "replay", "grants", "after"), [pytest.param(*r[1:], id=r[0]) for r in FRESH]
)
def test_first_deliveries(
    held: Lineage, cursor: int, stop: int, count: int, replay: int, grants: list[list[int]], after: int
) -> None:
    assert held.fresh(cursor, stop, count, replay) == (grants, after)


DUE: list[tuple[str, list[list[int]], int, int, int, list[list[int]]]] = [
    # name, retries, start, now, count -> grants
    ("at once", [[0, 2, 1, 0]], 0, 0, 10, [[0, 2, 2]]),
    ("as many as asked", [[0, 4, 1, 0]], 0, 0, 3, [[0, 3, 2]]),
    ("not before its time", [[0, 2, 1, 100]], 0, 99, 10, []),
    ("at its time", [[0, 2, 1, 100]], 0, 100, 10, [[0, 2, 2]]),
    ("the later one is due first", [[0, 2, 1, 100], [5, 6, 3, 0]], 0, 50, 10, [[5, 6, 4]]),
    ("not before the group's start", [[0, 4, 1, 0]], 2, 0, 10, [[2, 4, 2]]),
    ("wholly before the group's start", [[0, 4, 1, 0]], 4, 0, 10, []),
    ("after a redrive it counts from one", [[0, 1, 0, 0]], 0, 0, 10, [[0, 1, 1]]),
    ("none are asked for", [[0, 2, 1, 0]], 0, 0, 0, []),
]


@pytest.mark.parametrize(
    ("retry", "start", "now_ms", "count", "grants"), [pytest.param(*row[1:], id=row[0]) for row in DUE]
)
def test_redeliveries(retry: list[list[int]], start: int, now_ms: int, count: int, grants: list[list[int]]) -> None:
    assert lineage(retry=retry).due(start, now_ms, count) == grants


def test_the_floor_passes_holes_when_they_fill() -> None:
    held = lineage()
    assert held.finalise([[2, 4]]) == 2 and (held.floor, held.done) == (0, [[2, 4]])
    assert held.finalise([[0, 1]]) == 1 and (held.floor, held.done) == (1, [[2, 4]])
    assert held.finalise([[0, 2]]) == 1 and (held.floor, held.done) == (4, [])
    assert held.finalise([[0, 4]]) == 0 and held.finalised == 4


def test_a_part_of_a_retry_can_be_leased_or_finished() -> None:
    held = lineage(retry=[[0, 4, 2, 0]])
    held.lease([[0, 1, 3]], 50)
    assert (held.retry, held.leased, held.deadline_ms) == ([[1, 4, 2, 0]], [[0, 1]], 50)
    held.finalise([[2, 3]])
    assert held.retry == [[1, 2, 2, 0], [3, 4, 2, 0]]


def test_every_delivery_after_the_first_is_counted() -> None:
    held = lineage(retry=[[0, 4, 1, 0], [6, 7, 0, 0]])
    assert "redelivered" not in held.as_row()
    held.lease([[0, 2, 2], [6, 7, 1], [8, 9, 1]], 50)  # the one in the middle was redriven, the last one is new
    assert held.redelivered == 2 and held.as_row()["redelivered"] == 2
    held.give_back([[0, 2, 2]], 0, None)
    held.lease([[0, 1, 3]], 50)
    assert Lineage.of(held.as_row()).redelivered == 3


@pytest.mark.parametrize(("deliveries_max", "buried"), [(None, []), (3, []), (2, [[0, 2, 2]]), (1, [[0, 2, 2]])])
def test_too_many_deliveries_end_in_a_dead_letter(deliveries_max: int | None, buried: list[list[int]]) -> None:
    held = lineage(leased=[[0, 2]])
    assert held.give_back([[0, 2, 2]], 7, deliveries_max) == buried
    assert held.dead == [item[:2] for item in buried]
    assert held.retry == ([] if buried else [[0, 2, 2, 7]])
    assert held.leased == []


def test_what_is_finished_is_not_given_back() -> None:
    held = lineage(floor=1, done=[[2, 3]], leased=[[0, 4]])
    assert held.give_back([[0, 4, 1]], 0, 1) == [[1, 2, 1], [3, 4, 1]]
    assert held.dead == [[1, 2], [3, 4]]


def test_a_redrive_takes_dead_letters_alone() -> None:
    held = lineage(dead=[[1, 3], [5, 6]])
    assert held.redrive([[0, 2], [4, 9]]) == 2
    assert held.dead == [[2, 3]] and held.retry == [[1, 2, 0, 0], [5, 6, 0, 0]]
    assert held.redrive([[0, 2]]) == 0


def test_deadlines_only_come_closer() -> None:
    held = lineage()
    for until_ms, expected in ((100, 100), (50, 50), (70, 50)):
        held.lease([], until_ms)
        assert held.deadline_ms == expected


def test_grants_can_be_cut() -> None:
    grants = [[0, 4, 1], [6, 8, 3]]
    assert without(grants, [[1, 2], [7, 9]]) == [[0, 1, 1], [2, 4, 1], [6, 7, 3]]
    assert within(grants, [[1, 2], [7, 9]]) == [[1, 2, 1], [7, 8, 3]]


@given(st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=2)))
def test_a_row_comes_back(ranges: list[list[int]]) -> None:
    held = lineage(floor=3, done=ranges, retry=[[9, 10, 1, 7]], deadline_ms=8)
    assert Lineage.of(held.as_row()) == held


# --- any order of transitions


class LineageMachine(RuleBasedStateMachine):
    """The oracle holds one of free, leased, retry, dead and final for each offset."""

    def __init__(self) -> None:
        super().__init__()
        self.lineage = Lineage()
        self.words = dict.fromkeys(range(NEXT), "free")
        self.deliveries = dict.fromkeys(range(NEXT), 0)

    def having(self, word: str) -> list[int]:
        return [offset for offset, mine in self.words.items() if mine == word]

    @rule(count=st.integers(0, 6), cursor=st.integers(0, NEXT))
    def fresh(self, count: int, cursor: int) -> None:
        grants, after = self.lineage.fresh(cursor, NEXT, count, 0)
        free = [offset for offset in self.having("free") if offset >= cursor]
        given_out = [offset for start, stop, _ in grants for offset in range(start, stop)]
        assert given_out == free[:count]
        assert after >= cursor and not [offset for offset in free[count:] if offset < after]
        self.lease(grants)

    @rule(count=st.integers(0, 6))
    def retry(self, count: int) -> None:
        grants = self.lineage.due(0, 0, count)
        given_out = [offset for start, stop, _ in grants for offset in range(start, stop)]
        assert given_out == self.having("retry")[:count]
        self.lease(grants)

    def lease(self, grants: list[list[int]]) -> None:
        self.lineage.lease(grants, 1)
        for start, stop, delivery in grants:
            for offset in range(start, stop):
                self.words[offset] = "leased"
                self.deliveries[offset] += 1
                assert self.deliveries[offset] == delivery

    @rule(offsets=OFFSETS)
    def finalise(self, offsets: list[int]) -> None:
        new = {offset for offset in offsets if self.words[offset] != "final"}
        assert self.lineage.finalise(from_offsets(offsets)) == len(new)
        self.words |= dict.fromkeys(new, "final")

    @rule(offsets=OFFSETS, most=st.none() | st.integers(1, 3))
    def give_back(self, offsets: list[int], most: int | None) -> None:
        held = sorted({offset for offset in offsets if self.words[offset] == "leased"})
        grants = [[offset, offset + 1, self.deliveries[offset]] for offset in held]
        buried = [item[0] for item in self.lineage.give_back(grants, 0, most)]
        for offset in held:
            dies = most is not None and self.deliveries[offset] >= most
            assert dies == (offset in buried)
            self.words[offset] = "dead" if dies else "retry"

    @rule(offsets=OFFSETS)
    def redrive(self, offsets: list[int]) -> None:
        back = {offset for offset in offsets if self.words[offset] == "dead"}
        assert self.lineage.redrive(from_offsets(offsets)) == len(back)
        self.words |= dict.fromkeys(back, "retry")
        self.deliveries |= dict.fromkeys(back, 0)

    @invariant()
    def agrees(self) -> None:
        mine = self.lineage
        final = self.having("final")
        floor = next((offset for offset in range(NEXT) if self.words[offset] != "final"), NEXT)
        assert (mine.floor, mine.finalised) == (floor, len(final))
        assert mine.done == from_offsets([offset for offset in final if offset > floor])
        assert mine.leased == from_offsets(self.having("leased"))
        assert mine.dead == from_offsets(self.having("dead"))
        retries = [offset for start, stop, *_ in mine.retry for offset in range(start, stop)]
        assert retries == self.having("retry")
        assert all(mine.is_finalised(offset) == (self.words[offset] == "final") for offset in range(NEXT))


TestLineageMachine = LineageMachine.TestCase
