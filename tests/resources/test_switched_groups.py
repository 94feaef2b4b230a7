"""Groups that are tied to a switch and freed from it, as entries of their log: who comes late does nothing."""

from __future__ import annotations

import pytest

from grafctl.errors import GenerationConflict
from grafctl.store import keys
from grafctl.store.resources.carrying import CarryInto, PayOwed
from grafctl.store.resources.group import AT_MOST_ONCE, Caller, Lease, Leased
from grafctl.store.resources.switched import AttachGroup, DetachGroup, OpenGroup
from resources.rows import AWS, Q, Rows, a_queue

SIDES = ("source", "target")


@pytest.fixture
def rows() -> Rows:
    made = a_queue()
    made.group("g")
    return made


def attach(rows: Rows, generation: int, side: str = "target") -> bool:
    return bool(rows.run(AttachGroup(Q, "g", "s", side, "id", generation)))


def detach(rows: Rows, generation: int, *, paused: bool = False) -> bool:
    return bool(rows.run(DetachGroup(Q, "g", "s", generation, paused)))


@pytest.mark.parametrize("side", SIDES)
def test_who_comes_late_to_attach_is_refused_by_the_detach(rows: Rows, side: str) -> None:
    assert attach(rows, 5, side) and not attach(rows, 5, side)
    assert detach(rows, 6) and not detach(rows, 6)
    for late in (5, 6):
        with pytest.raises(GenerationConflict, match="was detached from the switch s"):
            attach(rows, late, side)
    assert "switch" not in rows.row("g")
    assert attach(rows, 7, side) and rows.row("g")["switch"]["generation"] == 7


@pytest.mark.parametrize("side", SIDES)
def test_a_detach_goes_before_an_attach_that_has_not_come_yet(rows: Rows, side: str) -> None:
    assert detach(rows, 5, paused=True) and not detach(rows, 5, paused=True)
    with pytest.raises(GenerationConflict, match="was detached"):
        attach(rows, 5, side)


def test_a_late_detach_leaves_a_newer_switch_alone(rows: Rows) -> None:
    attach(rows, 7)
    assert not detach(rows, 6)
    assert rows.row("g")["switch"]["name"] == "s"


def poll(rows: Rows, count: int = 1, *, group: str = "g", finish: tuple[int, int] | None = None) -> Leased:
    """Polls as somebody who knows that the group is open at generation 5."""
    answer: Leased = rows.run(
        Lease(Caller(Q, group, AWS, generation=5), count, 1000, [list(finish)] if finish else [], None)
    )
    return answer


def finished_ms(rows: Rows, group: str = "g") -> int | None:
    found: int | None = rows.row(group)["switch"].get("finished_ms")
    return found


def test_an_attached_group_knows_when_it_finished_something_last(rows: Rows) -> None:
    rows.publish(*(b"%d" % number for number in range(9)))
    attach(rows, 5, "source")
    poll(rows, 3)
    assert finished_ms(rows) is None
    rows.now_ms = 2_000
    rows.ack("g", (0, 1))
    assert finished_ms(rows) == 2_000
    rows.now_ms = 3_000
    rows.ack("g", (0, 1))
    rows.nack("g", (2, 3))
    assert finished_ms(rows) == 2_000, "nothing was finished by that"
    poll(rows, 3, finish=(1, 2))
    assert finished_ms(rows) == 3_000
    rows.now_ms = 4_000
    poll(rows)
    detach(rows, 6)
    assert "switch" not in rows.row("g")


def test_so_does_one_that_is_given_each_record_once(rows: Rows) -> None:
    rows.publish(b"a", b"b")
    rows.group("once", semantics=AT_MOST_ONCE)
    rows.run(AttachGroup(Q, "once", "s", "source", "id", 5))
    rows.now_ms = 2_000
    poll(rows, group="once")
    assert finished_ms(rows, "once") == 2_000


def test_what_is_carried_is_no_work_of_the_consumer_and_what_is_paid_is(rows: Rows) -> None:
    rows.publish(b"a", b"b")
    attach(rows, 5)
    rows.now_ms = 2_000
    rows.run(CarryInto(Q, "g", "s", 5, [[0, 1]], [[0, 1]], 0, [bytes(16)]))
    assert finished_ms(rows) is None
    rows.run(OpenGroup(Q, "g", "s", 6))
    rows.run(PayOwed(Caller(Q, "g", AWS, generation=6), "s", {bytes(16): [1]}))
    assert finished_ms(rows) == 2_000


def test_a_group_of_its_own_keeps_its_row_as_it_was(rows: Rows) -> None:
    rows.publish(b"a", b"b")
    rows.poll("g", 2)
    before = rows.rows[keys.group("g")]
    rows.ack("g", (0, 1))
    assert rows.rows[keys.group("g")] == before
