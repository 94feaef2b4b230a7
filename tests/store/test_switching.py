"""A consumer between two outputs: what it is given is each record once, whoever dies, waits or comes late."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import Busy, Fenced, GenerationConflict
from grafctl.store.operations.switching.carrying import carry
from grafctl.store.operations.switching.work import row_of
from grafctl.store.resources.carrying import CarryInto, KeepFrom
from grafctl.store.resources.group import Caller, Lease, NotOpenHere
from grafctl.store.resources.switched import CloseGroup, DrainGroup, OpenGroup
from grafctl.store.resources.switches import Flip
from store.switching import (
    AWS,
    GROUP,
    NEW,
    NOW,
    OLD,
    WHO,
    attached,
    began,
    closed,
    drain,
    is_once,
    open_sides,
    owed,
    state,
    take,
    write,
)
from store.world import World


@pytest.fixture(params=["memory", "lmdb"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with attached(tmp_path / "store", request.param) as here:
        yield here


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with attached(tmp_path / "store") as made:
        yield made


def test_a_consumer_goes_over_and_back_and_over_again(made: World) -> None:
    store = made.store
    got = take(store, 4)
    change = store.switches.switch("s", "target", **NOW)
    assert change.changed and state(store) == ("soaking", "target") and open_sides(store) == ["target"]
    assert not store.switches.switch("s", "target", **NOW).changed
    given = store.poll(OLD, GROUP, max=3, **WHO)
    assert (given.resource, given.group, given.switch) == (NEW, GROUP, "s")
    store.ack(NEW, GROUP, [record.offset for record in given.records], lease=given.lease, **WHO)
    got += [str(record.id) for record in given.records]
    write(store, range(10, 20))
    assert store.switches.rollback("s", **NOW).changed
    assert state(store) == ("rolled_back", "source") and open_sides(store) == ["source"]
    assert not store.switches.rollback("s", **NOW).changed
    got += take(store, 5)
    store.switches.switch("s", "target", **NOW)
    got += drain(store)
    assert is_once(got, range(20))
    told = [record["op"] for record in made.audit_records() if record["op"].startswith("consumer ")]
    assert [op for op in told if op != "consumer create"] == [
        "consumer attach",
        "consumer switch",
        "consumer rollback",
        "consumer switch",
    ]


def test_what_is_leased_when_it_closes_comes_again_from_the_other_side_alone(here: World) -> None:
    store = here.store
    held = store.poll(OLD, GROUP, max=4, **WHO)
    store.ack(OLD, GROUP, [held.records[0].offset], lease=held.lease, **WHO)
    store.switches.switch("s", "target", **NOW)
    assert not store.ack(OLD, GROUP, [held.records[0].offset], lease=held.lease, **WHO).changed
    for offsets, lease in (([1], held.lease), ([1], None), ([0, 1], None)):
        with pytest.raises(Fenced, match="comes again from there"):
            store.ack(OLD, GROUP, offsets, lease=lease, **WHO)
    with pytest.raises(Fenced):
        store.renew(OLD, GROUP, held.lease or 0, **WHO)
    with pytest.raises(Fenced):
        store.poll(OLD, GROUP, finish=[1], lease=held.lease, **WHO)
    store.nack(OLD, GROUP, [0], lease=held.lease, **WHO)
    assert is_once([str(held.records[0].id), *drain(store)], range(10))


def test_draining_hands_out_nothing_more_and_waits_for_acks(here: World) -> None:
    store = here.store
    held = store.poll(OLD, GROUP, max=2, **WHO)
    began(here, drain_ms=60_000)
    assert store.poll(OLD, GROUP, **WHO).records == []
    assert store.ack(OLD, GROUP, [0], lease=held.lease, **WHO).count == 1
    given = store.poll(OLD, GROUP, finish=[1], lease=held.lease, **WHO)
    assert (given.records, given.finished) == ([], 1)
    store.switches.switch("s", "target", domain=AWS, drain_ms=60_000)  # nothing is leased, so it does not wait
    assert is_once(["o-0", "o-1", *drain(store)], range(10))


@pytest.mark.parametrize("leave", [began, closed])
def test_nobody_waits_for_a_dead_operator_for_longer_than_he_said(here: World, leave: Any) -> None:
    leave(here)
    assert store_is_waiting(here)
    with here.reopened() as other:
        assert other.poll(OLD, GROUP, **WHO).records == []
        here.advance(30_001)
        assert is_once(drain(other), range(10))
    assert state(here.store) == ("shadow", "source") and open_sides(here.store) == ["source"]
    assert here.audit_records()[-1]["op"] == "consumer switch given up"


def store_is_waiting(here: World) -> bool:
    return here.store.poll(OLD, GROUP, **WHO).records == [] and open_sides(here.store) in ([], ["source"])


@pytest.mark.parametrize("leave", [began, closed])
def test_the_same_command_goes_on_where_another_operator_died(here: World, leave: Any) -> None:
    got = take(here.store, 3)
    leave(here)
    with here.reopened() as other:
        other.switches.switch("s", "target", **NOW)
    assert is_once(got + drain(here.store), range(10)) and open_sides(here.store) == ["target"]


def test_an_operator_who_wakes_late_opens_and_closes_nothing(here: World) -> None:
    store = here.store
    old = closed(here)
    here.advance(30_001)
    got = take(store, 2)  # gives the closing up
    late: list[tuple[str, Any]] = [
        (OLD, DrainGroup(OLD, GROUP, "s", old, 9)),
        (OLD, CloseGroup(OLD, GROUP, "s", old)),
        (OLD, OpenGroup(OLD, GROUP, "s", old)),
        (NEW, OpenGroup(NEW, GROUP, "s", old)),
        (OLD, KeepFrom(OLD, GROUP, "s", old, 9)),
    ]
    for log, request in late:
        with suppress(GenerationConflict):
            store.session.resource(log).append(request)
    with pytest.raises(GenerationConflict):
        store.session.control.append(Flip("s", old, "target", "late"))
    assert open_sides(store) == ["source"]
    store.switches.switch("s", "target", **NOW)
    for log, request in late:
        with suppress(GenerationConflict):
            store.session.resource(log).append(request)
    assert open_sides(store) == ["target"] and is_once(got + drain(store), range(10))


def test_a_poll_opens_the_side_whose_operator_died_after_the_flip(here: World) -> None:
    got = take(here.store, 3)
    generation = closed(here)
    row = row_of(here.store.session, "s")
    carry(here.store.session, "s", row, is_final=True)
    here.store.session.control.append(Flip("s", generation, "target", "switch"))
    assert open_sides(here.store) == []
    with here.reopened() as other:
        assert is_once(got + drain(other), range(10))
        assert state(other) == ("switched", "target")
        assert other.switches.switch("s", "target", **NOW).changed
    assert state(here.store) == ("soaking", "target")


def test_a_claim_that_comes_after_the_way_back_opens_nothing(here: World) -> None:
    store, generation = here.store, closed(here)
    carry(store.session, "s", row_of(store.session, "s"), is_final=True)
    store.session.control.append(Flip("s", generation, "target", "switch"))
    store.switches.rollback("s", **NOW)
    store.session.resource(NEW).append(OpenGroup(NEW, GROUP, "s", generation + 1))
    assert open_sides(store) == ["source"]


def test_a_rollback_takes_over_a_closing_and_its_operator_is_told(here: World) -> None:
    generation = closed(here)
    here.store.switches.rollback("s", **NOW)
    assert state(here.store) == ("rolled_back", "source") and open_sides(here.store) == ["source"]
    with pytest.raises(GenerationConflict, match="quicker"):
        here.store.session.control.append(Flip("s", generation, "target", "late"))


def test_what_the_target_lacks_is_owed_and_never_delivered(here: World) -> None:
    store = here.store
    write(store, range(10, 20), OLD)
    forgive = {**NOW, "compare_from": "now"}
    got = take(store, 15)
    store.switches.switch("s", "target", **forgive)
    assert owed(store) == 5
    got += drain(store)
    write(store, range(10, 25), NEW)
    with here.reopened() as other:
        got += drain(other)
    write(store, range(20, 25), OLD)
    assert owed(store) == 0
    store.switches.rollback("s", **NOW)
    assert is_once(got + drain(store), range(25))


def test_too_many_owed_records_refuse_the_switch_and_change_nothing(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("grafctl.store.operations.switching.turning", "grafctl.store.operations.switching.carrying"):
        monkeypatch.setattr(f"{module}.OWED_MAX", 3)
    store = here.store
    write(store, range(10, 20), OLD)
    got = take(store, 14)
    before = row_of(store.session, "s")["generation"]
    with pytest.raises(Busy, match="lags by"):
        store.switches.switch("s", "target", **NOW, compare_from="now")
    assert row_of(store.session, "s")["generation"] == before
    write(store, range(10, 20), NEW)
    store.switches.switch("s", "target", **NOW)
    assert is_once(got + drain(store), range(20))


def test_what_is_owed_at_the_close_is_bounded_too(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    store = here.store
    monkeypatch.setattr("grafctl.store.operations.switching.carrying.OWED_MAX", 3)
    write(store, range(10, 20), OLD)
    drain(store)
    closed(here)
    with pytest.raises(Busy, match="lags by"):
        carry(store.session, "s", row_of(store.session, "s"), is_final=True)
    assert owed(store) == 0


def test_nothing_is_carried_into_an_open_group(here: World) -> None:
    store = here.store
    generation = row_of(store.session, "s")["generation"]
    with pytest.raises(Busy, match="open"):
        store.session.resource(OLD).append(CarryInto(OLD, GROUP, "s", generation, [[0, 1]], [[0, 1]]))
    with pytest.raises(GenerationConflict):
        store.session.resource(NEW).append(CarryInto(NEW, GROUP, "s", generation - 1, [[0, 1]], [[0, 1]]))
    assert is_once(drain(store), range(10))


def test_a_poll_that_does_not_know_the_generation_is_refused_in_the_transaction(here: World) -> None:
    store = here.store
    generation = row_of(store.session, "s")["generation"]
    for log, known in ((OLD, None), (OLD, generation - 1), (OLD, generation + 1), (NEW, generation)):
        caller = Caller(log, GROUP, AWS, generation=known)
        with pytest.raises(NotOpenHere):
            store.session.resource(log).append(Lease(caller, 1, 1_000))
    assert store.session.resource(OLD).append(Lease(Caller(OLD, GROUP, AWS, generation=generation), 1, 9)).answer.token
