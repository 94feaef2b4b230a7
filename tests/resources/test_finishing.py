"""A poll that finishes records first: whatever was before, it does what an ack and then a poll do, or nothing."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.errors import Busy, DomainUnavailable, Fenced, GrafctlError, Usage
from grafctl.store import keys
from grafctl.store.authority import Placement
from grafctl.store.records import encode_json
from grafctl.store.requests import Decision
from grafctl.store.resources.consumers import Pause, Seek, new_group
from grafctl.store.resources.group import SEMANTICS
from grafctl.store.resources.leases import leases_of
from resources.rows import AWS, Q, Rows, a_queue, replica

RANGES = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 4)).map(lambda it: (it[0], it[0] + it[1])), min_size=1)
STEPS = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 4)),
    st.tuples(st.just("poll"), st.sampled_from("gh"), st.integers(1, 6), st.integers(1, 50)),
    st.tuples(st.just("nack"), st.sampled_from("gh"), RANGES),
    st.tuples(st.just("wait"), st.integers(1, 40)),
    st.tuples(st.just("seek"), st.integers(0, 4)),
    st.tuples(st.just("pause"), st.booleans()),
    # whose, what, under which of the leases so far (or none), how many records afterwards
    st.tuples(st.just("finish"), st.sampled_from("gh"), RANGES, st.integers(-1, 6), st.integers(1, 6)),
)


class Side:
    """One of two states that are to stay the same, but for the tokens: an entry less is written on one of them."""

    def __init__(self, semantics: str) -> None:
        self.rows = a_queue()
        self.rows.group("g", semantics=semantics, max_deliveries=3)
        shifted = new_group("h", Placement(("aws", "gcp"), ()), semantics, 3, lineage="g")
        self.rows.append(Decision(None, encode_json({"do": "group", "group": shifted, "floor": None})))
        self.tokens: list[int | None] = []

    def step(self, step: tuple[Any, ...]) -> object:
        """Does what both sides do alike."""
        if step[0] == "publish":
            return self.rows.publish(*[b"x"] * step[1])
        if step[0] == "poll":
            return self.poll(step[1], step[2], visibility_ms=step[3])
        if step[0] == "nack":
            return self.rows.nack(step[1], *step[2])
        if step[0] == "seek":
            return self.rows.run(Seek(Q, "g", str(step[1])))
        if step[0] == "pause":
            return self.rows.run(Pause(Q, "h", step[1]))
        self.rows.now_ms += step[1]
        return None

    def poll(self, group: str, count: int, **how: Any) -> object:
        leased = self.rows.poll(group, count, **how)
        if leased.token is not None:
            self.tokens.append(leased.token)
        return leased.grants, leased.ack_floor, leased.token is None

    def token(self, place: int) -> int | None:
        return self.tokens[place] if 0 <= place < len(self.tokens) else None

    def everything(self) -> list[object]:
        """Returns the state, with the place of each token in place of the token."""
        other = {row: body for row, body in self.rows.rows.items() if not row.startswith(keys.PAYLOAD + b"B")}
        leases = [(self.tokens.index(token), lease) for token, lease in leases_of(self.rows, "g")]
        for row, _ in self.rows.scan(keys.all_leases()):
            del other[row]
        return [other, leases]


def attempt(call: Any) -> tuple[object, GrafctlError | None]:
    try:
        return call(), None
    except GrafctlError as error:
        return None, error


def words(error: GrafctlError | None, side: Side) -> str:
    text = "" if error is None else f"{error.code} {error.message}"
    for place, token in reversed(list(enumerate(side.tokens))):
        text = text.replace(f"lease {token} ", f"lease #{place} ")
    return text


@given(st.sampled_from(SEMANTICS), st.lists(STEPS, max_size=25))
def test_it_is_an_ack_and_then_a_poll(semantics: str, steps: list[tuple[Any, ...]]) -> None:
    apart, together = Side(semantics), Side(semantics)
    for step in [("publish", 6), ("poll", "g", 4, 100), *steps]:
        if step[0] != "finish":
            answers = [attempt(partial(side.step, step)) for side in (apart, together)]
            assert words(answers[0][1], apart) == words(answers[1][1], together)
            continue
        _, group, ranges, place, count = step
        before = dict(together.rows.rows)
        settled, refused = attempt(partial(apart.rows.ack, group, *ranges, token=apart.token(place)))
        given_out, refused = (None, refused) if refused else attempt(partial(apart.poll, group, count))
        entries = len(together.rows.entries)
        answer, error = attempt(partial(together.poll, group, count, finish=ranges, token=together.token(place)))
        assert words(error, together) == words(refused, apart)
        if error is None:
            assert answer == given_out and len(together.rows.entries) <= entries + 1
        else:
            assert together.rows.rows == before
            if settled is not None:  # only the poll was refused: the caller acks by itself
                together.rows.ack(group, *ranges, token=together.token(place))
        assert apart.everything() == together.everything()


def a_group(records: int = 6, **fields: Any) -> Rows:
    rows = a_queue()
    rows.group("g", **fields)
    rows.publish(*(b"record %d" % number for number in range(records)))
    return rows


def test_the_lease_of_what_is_finished_ends_with_the_entry_that_gives_the_next() -> None:
    rows = a_group()
    first = rows.poll("g", 2)
    entries = len(rows.entries)
    second = rows.poll("g", 2, finish=[(0, 2)], token=first.token)
    assert (second.grants, second.ack_floor, second.finished) == ([[2, 4, 1]], 2, 2)
    assert len(rows.entries) == entries + 1
    assert [token for token, _ in leases_of(rows, "g")] == [second.token]
    last = rows.poll("g", 9, finish=[(2, 4)], token=second.token)
    empty = rows.poll("g", 9, finish=[(4, 6)], token=last.token)
    assert (empty.grants, empty.token, empty.ack_floor, empty.finished) == ([], None, 6, 2)
    assert leases_of(rows, "g") == [] and rows.lineage("g").deadline_ms is None
    entries = len(rows.entries)
    again = rows.poll("g", 9, finish=[(0, 6)])
    assert (again.grants, again.finished) == ([], 0) and len(rows.entries) == entries, "nothing changed"


def test_a_lease_that_is_late_but_not_ended_can_be_finished_and_does_not_come_again() -> None:
    """The ack comes before the poll, which is what ends leases."""
    rows = a_group(3)
    leased = rows.poll("g", 2, visibility_ms=100)
    rows.now_ms += 100
    assert rows.poll("g", finish=[(0, 1)], token=leased.token).grants == [[1, 2, 2], [2, 3, 1]]


def test_the_lease_of_another_group_of_the_lineage_is_no_lease() -> None:
    side = Side("at-least-once")
    side.rows.publish(b"a", b"b")
    leased = side.rows.poll("g", 1)
    for call in (
        lambda: side.rows.poll("h", finish=[(0, 1)], token=leased.token),
        lambda: side.rows.ack("h", (0, 1), token=leased.token),
    ):
        with pytest.raises(Fenced):
            call()
    assert side.rows.poll("g", finish=[(0, 1)], token=leased.token).grants == [[1, 2, 1]]


@pytest.mark.parametrize("semantics", ["at-least-once", "effectively-once"])
@pytest.mark.parametrize("use_token", [True, False])
def test_a_lease_that_has_ended_is_refused_and_nothing_is_leased(semantics: str, use_token: bool) -> None:
    rows = a_group(3, semantics=semantics)
    old = rows.poll("g", 2, visibility_ms=100)
    rows.now_ms += 100
    rows.poll("g", 1)
    before = dict(rows.rows)
    call = lambda: rows.poll("g", finish=[(1, 2)], token=old.token if use_token else None)  # noqa: E731
    if semantics == "effectively-once" or use_token:
        with pytest.raises(Fenced):
            call()
        assert rows.rows == before
    else:
        assert (call().grants, rows.lineage("g").done) == ([[2, 3, 1]], [[1, 2]])


def test_what_was_never_published_or_delivered_is_refused_as_an_ack_refuses_it() -> None:
    rows = a_group(3)
    rows.poll("g", 1)
    before = dict(rows.rows)
    with pytest.raises(Usage, match="has not been published"):
        rows.poll("g", finish=[(0, 4)])
    with pytest.raises(Fenced):
        rows.poll("g", finish=[(0, 2)])
    assert rows.rows == before


def test_who_may_not_poll_finishes_nothing() -> None:
    rows = a_queue(replicas=[replica(AWS), replica("gcp/b", state="catching_up")])
    rows.group("g")
    rows.publish(b"a", b"b")
    leased = rows.poll("g", 1)
    before = dict(rows.rows)
    with pytest.raises(DomainUnavailable):
        rows.poll("g", finish=[(0, 1)], token=leased.token, domain="gcp/b")
    with pytest.raises(Fenced):
        rows.poll("g", finish=[(0, 1)], token=leased.token, epoch=0)
    assert rows.rows == before
    rows.run(Pause(Q, "g", True))
    before = dict(rows.rows)
    with pytest.raises(Busy):
        rows.poll("g", finish=[(0, 1)], token=leased.token)
    with pytest.raises(Fenced):  # which holds for ever, and is said before what will pass
        rows.poll("g", finish=[(1, 2)], token=leased.token)
    assert rows.rows == before
    assert rows.ack("g", (0, 1), token=leased.token).changed == 1
