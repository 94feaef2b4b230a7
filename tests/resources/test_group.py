"""Groups: leases, deadlines, redelivery, dead letters, holes and the three semantics, as cases over rows in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from grafctl.errors import Busy, DomainUnavailable, Fenced, NotFound, Usage
from grafctl.store import keys
from grafctl.store.resources.consumers import Pause
from grafctl.store.resources.leases import leases_of
from resources.rows import AWS, GCP, Q, Rows, a_queue, replica


def a_group(records: int = 6, **fields: Any) -> Rows:
    """Returns a queue of that many records with group `g`."""
    rows = a_queue()
    rows.group("g", **fields)
    rows.publish(*(f"record {number}".encode() for number in range(records)))
    return rows


def tokens(rows: Rows, lineage: str = "g") -> list[int]:
    return [token for token, _ in leases_of(rows, lineage)]


# --- leases


def test_a_poll_leases_and_the_next_one_goes_on() -> None:
    rows = a_group()
    first, second, third = rows.poll("g", 2), rows.poll("g", 2, domain=GCP), rows.poll("g")
    assert [leased.grants for leased in (first, second, third)] == [[[0, 2, 1]], [[2, 4, 1]], [[4, 6, 1]]]
    assert first.token is not None and second.token is not None and third.token is not None
    assert first.token < second.token < third.token
    assert tokens(rows) == [first.token, second.token, third.token]
    assert rows.lineage("g").leased == [[0, 6]]


def test_a_poll_of_nothing_writes_nothing() -> None:
    rows = a_group(0)
    before, entries = dict(rows.rows), len(rows.entries)
    for _ in range(2):
        leased = rows.poll("g")
        assert (leased.grants, leased.token) == ([], None)
    assert (rows.rows, len(rows.entries)) == (before, entries)


def test_a_poll_of_what_others_hold_writes_nothing_the_second_time() -> None:
    rows = a_group()
    rows.poll("g")
    rows.poll("g")
    before = dict(rows.rows)
    assert rows.poll("g").grants == [] and rows.rows == before


def test_a_lease_ends_by_the_stamp_of_the_log() -> None:
    rows = a_group(2)
    rows.poll("g", visibility_ms=100)
    rows.now_ms += 99
    assert rows.poll("g").grants == []
    rows.now_ms += 1
    again = rows.poll("g", visibility_ms=100)
    assert again.grants == [[0, 2, 2]] and tokens(rows) == [again.token]
    rows.now_ms += 100
    assert rows.poll("g").grants == [[0, 2, 3]]


def test_leases_of_one_group_end_each_at_its_own_time() -> None:
    rows = a_group()
    rows.poll("g", 2, visibility_ms=300)
    short = rows.poll("g", 2, visibility_ms=100)
    rows.poll("g", 2, visibility_ms=200)
    assert short.token is not None
    assert rows.lineage("g").deadline_ms == rows.now_ms + 100
    rows.now_ms += 100
    assert rows.poll("g").grants == [[2, 4, 2]]
    rows.now_ms += 100
    assert rows.poll("g").grants == [[2, 4, 3], [4, 6, 2]]
    rows.now_ms += 100
    assert rows.poll("g").grants == [[0, 2, 2], [2, 4, 4], [4, 6, 3]]


def test_redeliveries_come_before_first_deliveries_and_within_the_number_asked_for() -> None:
    rows = a_group()
    rows.poll("g", 3)
    rows.now_ms += 100
    for expected in ([[0, 2, 2]], [[2, 3, 2], [3, 4, 1]], [[4, 6, 1]]):
        assert rows.poll("g", 2).grants == expected


def test_a_poll_that_is_filled_by_redeliveries_leaves_the_rest_alone() -> None:
    """It was an error that a poll without room for first deliveries looked for the last of them."""
    rows = a_group()
    rows.poll("g", 3)
    rows.now_ms += 100
    assert rows.poll("g", 3).grants == [[0, 3, 2]]
    assert rows.row("g")["cursor"] == 3
    assert rows.poll("g", 3).grants == [[3, 6, 1]]


def test_renewing_holds_a_lease() -> None:
    rows = a_group(2)
    leased = rows.poll("g", visibility_ms=100)
    assert leased.token is not None
    rows.now_ms += 99
    assert rows.renew("g", leased.token, 100) == rows.now_ms + 100
    rows.now_ms += 99
    assert rows.poll("g").grants == []
    rows.now_ms += 1
    assert rows.poll("g").grants == [[0, 2, 2]]
    with pytest.raises(Fenced):
        rows.renew("g", leased.token, 100)


def test_renewing_one_lease_does_not_hold_another() -> None:
    rows = a_group()
    first = rows.poll("g", 3, visibility_ms=100)
    rows.poll("g", 3, visibility_ms=100)
    assert first.token is not None
    rows.renew("g", first.token, 1_000)
    assert rows.lineage("g").deadline_ms == rows.now_ms + 100
    rows.now_ms += 100
    assert rows.poll("g").grants == [[3, 6, 2]]


# --- acks: what was polled, what is acked -> changed, already, floor, done

ACKS: list[tuple[str, list[tuple[tuple[int, int], ...]], tuple[int, int, int], list[list[int]]]] = [
    ("one", [((0, 1),)], (1, 0, 1), []),
    ("all", [((0, 6),)], (6, 0, 6), []),
    ("a hole", [((1, 2),)], (1, 0, 0), [[1, 2]]),
    ("holes", [((1, 2), (4, 5))], (2, 0, 0), [[1, 2], [4, 5]]),
    ("a hole that is filled", [((1, 3),), ((0, 1),)], (1, 0, 3), []),
    ("out of order", [((4, 6),), ((2, 4),), ((0, 2),)], (2, 0, 6), []),
    ("the same again", [((0, 2),), ((0, 2),)], (0, 2, 2), []),
    ("some again", [((0, 2),), ((1, 4),)], (2, 1, 4), []),
    ("twice in one", [((0, 2), (1, 3))], (3, 0, 3), []),
    ("backwards in one", [((4, 6), (0, 1))], (3, 0, 1), [[4, 6]]),
]


@pytest.mark.parametrize("semantics", ["at-least-once", "effectively-once"])
@pytest.mark.parametrize(("acks", "answer", "done"), [pytest.param(*row[1:], id=row[0]) for row in ACKS])
def test_acks(
    acks: list[tuple[tuple[int, int], ...]], answer: tuple[int, int, int], done: list[list[int]], semantics: str
) -> None:
    rows = a_group(semantics=semantics)
    rows.poll("g")
    settled = [rows.ack("g", *ranges) for ranges in acks][-1]
    assert (settled.changed, settled.already, settled.ack_floor) == answer
    held = rows.lineage("g")
    assert (held.floor, held.done) == (answer[2], done)
    assert held.finalised == answer[2] + sum(stop - start for start, stop in done)
    rows.now_ms += 100
    left = [start for start, stop, _ in rows.poll("g").grants for start in range(start, stop)]
    assert left == [offset for offset in range(answer[2], 6) if not any(a <= offset < b for a, b in done)]


def test_an_empty_lease_is_over() -> None:
    rows = a_group()
    leased = rows.poll("g", 2)
    rows.ack("g", (0, 1), token=leased.token)
    assert tokens(rows) == [leased.token]
    rows.ack("g", (1, 2), token=leased.token)
    assert tokens(rows) == [] and rows.lineage("g").deadline_ms is None


@pytest.mark.parametrize("offset", [6, 7, 1 << 40])
def test_what_was_never_published_cannot_be_finished(offset: int) -> None:
    rows = a_group()
    rows.poll("g")
    for call in (rows.ack, rows.nack):
        with pytest.raises(Usage, match="has not been published"):
            call("g", (0, offset + 1))
    assert rows.lineage("g").floor == 0


@pytest.mark.parametrize("semantics", ["at-least-once", "effectively-once"])
def test_what_was_never_delivered_cannot_be_finished(semantics: str) -> None:
    rows = a_group(semantics=semantics)
    rows.poll("g", 2)
    for ranges in (((2, 3),), ((0, 3),), ((5, 6),)):
        with pytest.raises(Fenced):
            rows.ack("g", *ranges)
        with pytest.raises(Fenced):
            rows.nack("g", *ranges)
    assert rows.lineage("g").finalised == 0


LATE: list[tuple[str, str, bool, bool]] = [
    # semantics, what happened meanwhile, an ack without a token passes, one with the old token passes
    ("at-least-once", "nothing", True, True),
    ("at-least-once", "expired", True, False),
    ("at-least-once", "given out again", True, False),
    ("effectively-once", "nothing", True, True),
    ("effectively-once", "expired", False, False),
    ("effectively-once", "given out again", True, False),
]


@pytest.mark.parametrize(("semantics", "meanwhile", "without", "with_token"), LATE)
@pytest.mark.parametrize("use_token", [True, False])
def test_an_ack_that_comes_late(
    semantics: str, meanwhile: str, without: bool, with_token: bool, use_token: bool
) -> None:
    """Without a token the group speaks, and it holds the lease again; with one, that lease must still stand."""
    rows = a_group(2, semantics=semantics)
    old = rows.poll("g", visibility_ms=100)
    rows.now_ms += 100
    if meanwhile != "nothing":
        rows.publish(b"more")
        rows.run(Pause(Q, "g", False))
        newer = rows.poll("g", 1) if meanwhile == "expired" else rows.poll("g", 3)
        assert newer.grants[0][0] == 0
    target = (1, 2) if meanwhile == "expired" else (0, 1)  # offset 1 is not leased to anybody after the short poll
    call: Callable[[], Any] = lambda: rows.ack("g", target, token=old.token if use_token else None)  # noqa: E731
    if with_token if use_token else without:
        assert call().changed == 1
    else:
        with pytest.raises(Fenced) as refused:
            call()
        assert refused.value.exit_code == 14
        assert rows.lineage("g").finalised == 0


def test_the_token_of_another_group_is_no_token() -> None:
    rows = a_group(2)
    rows.group("other")
    leased, other = rows.poll("g"), rows.poll("other")
    assert leased.token != other.token
    with pytest.raises(Fenced):
        rows.ack("g", (0, 1), token=other.token)
    with pytest.raises(Fenced):
        rows.renew("g", other.token or 0, 100)
    assert rows.ack("other", (0, 1), token=other.token).changed == 1
    assert rows.lineage("g").finalised == 0


# --- nacks and dead letters


def test_what_is_given_back_comes_again_at_once_with_a_higher_count() -> None:
    rows = a_group(3)
    rows.poll("g")
    settled = rows.nack("g", (0, 2))
    assert (settled.changed, settled.dead) == (2, 0)
    assert rows.lineage("g").leased == [[2, 3]]
    assert rows.poll("g").grants == [[0, 2, 2]]


def test_what_is_given_back_with_a_delay_comes_after_it() -> None:
    rows = a_group(2)
    rows.poll("g")
    rows.nack("g", (0, 1), delay_ms=500)
    assert rows.poll("g").grants == []
    rows.now_ms += 499
    assert [grant[:2] for grant in rows.poll("g").grants] == [[1, 2]]  # its lease ended meanwhile
    rows.now_ms += 1
    assert rows.poll("g").grants == [[0, 1, 2]]


def test_what_is_finished_cannot_be_given_back() -> None:
    rows = a_group(2)
    rows.poll("g")
    rows.ack("g", (0, 1))
    settled = rows.nack("g", (0, 1))
    assert (settled.changed, settled.already) == (0, 1)
    assert rows.nack("g", (0, 2)).changed == 1
    assert rows.poll("g").grants == [[1, 2, 2]]


@pytest.mark.parametrize("how", ["nack", "expiry"])
def test_too_many_deliveries_end_in_a_dead_letter(how: str) -> None:
    rows = a_group(2, max_deliveries=3)
    for delivery in (1, 2, 3):
        assert rows.poll("g").grants == [[0, 2, delivery]]
        if how == "nack":
            assert rows.nack("g", (0, 2)).dead == (2 if delivery == 3 else 0)
        else:
            rows.now_ms += 100
    assert rows.poll("g").grants == []
    letters = rows.dead("g")
    assert sorted(letters) == [0, 1] and rows.lineage("g").dead == [[0, 2]]
    reason = {"nack": "given back too often", "expiry": "lease expired"}[how]
    assert letters[0] == {"deliveries": 3, "group": "g", "ms": rows.now_ms, "reason": reason}
    assert rows.lineage("g").floor == 0, "a dead letter is not finished"


def test_a_dead_letter_can_be_finished_by_hand() -> None:
    rows = a_group(2, max_deliveries=1)
    rows.poll("g")
    rows.nack("g", (0, 1))
    assert rows.ack("g", (0, 2)).changed == 2
    assert rows.dead("g") == {} and rows.lineage("g").dead == [] and rows.lineage("g").floor == 2


def test_one_record_dies_and_the_others_go_on() -> None:
    rows = a_group(4, max_deliveries=1)
    rows.poll("g")
    rows.nack("g", (1, 2))
    rows.ack("g", (0, 1), (2, 4))
    rows.publish(b"more")
    assert rows.poll("g").grants == [[4, 5, 1]]
    assert (rows.lineage("g").floor, rows.lineage("g").done) == (1, [[2, 4]])


# --- at most once


def test_at_most_once_is_finalised_before_it_is_delivered() -> None:
    rows = a_group(4, semantics="at-most-once")
    leased = rows.poll("g", 3)
    assert (leased.grants, leased.token, leased.ack_floor) == ([[0, 3, 1]], None, 3)
    assert tokens(rows) == [] and rows.lineage("g").floor == 3
    rows.now_ms += 1 << 40
    assert rows.poll("g").grants == [[3, 4, 1]]
    assert rows.ack("g", (0, 4)).changed == 0
    assert rows.nack("g", (0, 4)).changed == 0


# --- who may


GATES: list[tuple[str, dict[str, Any], set[str]]] = [
    ("denied", {"domain": "azure/x"}, {"poll", "ack", "nack"}),
    ("unknown", {"known": False}, {"poll", "ack", "nack"}),
    ("old epoch", {"epoch": 0}, {"poll", "ack", "nack"}),
    ("allowed and without a replica", {"domain": "aws/elsewhere"}, {"poll"}),
]


@pytest.mark.parametrize("op", ["poll", "ack"])
@pytest.mark.parametrize(("fields", "refused"), [pytest.param(*row[1:], id=row[0]) for row in GATES])
def test_the_gate_stands_before_everything(fields: dict[str, Any], refused: set[str], op: str) -> None:
    rows = a_group()
    rows.poll("g", 1)
    before = dict(rows.rows)
    call: Callable[[], Any] = {
        "poll": lambda: rows.poll("g", **fields),
        "ack": lambda: rows.ack("g", (0, 1), **fields),
    }[op]
    if op not in refused:
        call()
        return
    with pytest.raises((DomainUnavailable, Fenced)):
        call()
    assert rows.rows == before


@pytest.mark.parametrize(
    ("role", "state", "reason"),
    [
        ("voter", "catching_up", "not_caught_up"),
        ("learner", "copied", "not_caught_up"),
        ("witness", "ready", "not_in_locator"),
    ],
)
def test_a_replica_that_does_not_serve(role: str, state: str, reason: str) -> None:
    rows = a_queue(replicas=[replica(AWS), replica(GCP, role, state)])
    rows.group("g")
    rows.publish(b"a")
    with pytest.raises(DomainUnavailable) as refused:
        rows.poll("g", domain=GCP)
    assert refused.value.reason == reason
    assert rows.poll("g", domain=AWS).grants == [[0, 1, 1]]
    assert rows.ack("g", (0, 1), domain=GCP).changed == 1, "an ack needs no replica"


def test_the_groups_placement_decides_and_not_the_queues() -> None:
    rows = a_group()
    rows.group("only-gcp", allow=("gcp",))
    with pytest.raises(DomainUnavailable):
        rows.poll("only-gcp", domain=AWS)
    rows.group("denied", allow=("aws", "gcp"), deny=("aws/a",))
    with pytest.raises(DomainUnavailable):
        rows.poll("denied", domain=AWS)
    assert rows.poll("denied", domain=GCP).grants


def test_a_paused_group_gets_nothing_and_may_finish() -> None:
    rows = a_group()
    leased = rows.poll("g", 2)
    assert rows.run(Pause(Q, "g", True)) and not rows.run(Pause(Q, "g", True))
    with pytest.raises(Busy):
        rows.poll("g")
    assert leased.token is not None
    rows.renew("g", leased.token, 1_000)
    assert rows.ack("g", (0, 1), token=leased.token).changed == 1
    assert rows.nack("g", (1, 2)).changed == 1
    assert rows.run(Pause(Q, "g", False))
    assert rows.poll("g", 1).grants == [[1, 2, 2]]


def test_a_group_that_is_not_there() -> None:
    rows = a_group()
    for call in (rows.poll, rows.ack, rows.nack):
        with pytest.raises(NotFound):
            call("nobody")
    assert rows.get(keys.group("nobody")) is None
