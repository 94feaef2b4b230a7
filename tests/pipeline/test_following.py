"""Stages whose consumer is switched while they work: at either output each record has its effect once, or the stage is
refused the other output before it has worked on anything of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import Busy, Fenced
from grafctl.pipeline import declaring, watching
from grafctl.pipeline.live import differences
from grafctl.pipeline.running import Run
from grafctl.store.blocks import Outgoing
from grafctl.store.operations.polling import poll
from pipeline.shop import Shop
from pipeline.switched import (
    APART,
    NEW,
    NOW,
    OLD,
    STAGES,
    Hand,
    finished,
    flip,
    ids,
    once,
    rows,
    switched,
    tie,
    write,
)

KINDS = {"in one log": {}, "in several logs": APART}


@pytest.fixture(params=list(KINDS))
def ours(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    with switched(tmp_path, **KINDS[request.param]) as made:
        yield made


def effects(shop: Shop, stage: str) -> Any:
    """Returns what came of the orders, as far as a stage made it."""
    return ids(shop) if stage == "tidy" else shop.rows()


def wanted(stage: str, count: int) -> Any:
    return once(range(count)) if stage == "tidy" else rows(range(count))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_goes_on_at_the_other_output_and_back(ours: Shop, stage: str) -> None:
    store = ours.world.store
    write(store, range(10))
    hand = Hand(ours, stage)
    hand.stage.step()
    flip(store, stage, "target")  # what it holds, and what its sink has not finished, comes again from there
    hand.drain()
    assert effects(ours, stage) == wanted(stage, 10) and hand.stage.counts.fields()["reads"] == NEW
    write(store, range(10, 20))
    hand.stage.step()
    flip(store, stage, "source")
    hand.drain()
    hand.stage.leave()
    assert effects(ours, stage) == wanted(stage, 20) and hand.stage.counts.fields()["reads"] == OLD
    assert finished(store, stage, "source") == [[0, 20]] and not store.dead.list(OLD, stage).items
    assert ours.is_whole()


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_owed_at_the_other_output_is_not_worked_on_there(ours: Shop, stage: str) -> None:
    store = ours.world.store
    write(store, range(6))
    write(store, range(6, 10), OLD)
    hand = Hand(ours, stage)
    hand.drain()
    store.switches.switch(stage, "target", domain="aws", drain_ms=0, compare_from="now")
    before = hand.stage.counts.read
    write(store, range(6, 12), NEW)
    hand.drain()
    hand.stage.leave()
    assert hand.stage.counts.read - before == 2 and effects(ours, stage) == wanted(stage, 12)
    assert finished(store, stage, "target") == [[0, 12]]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_slept_through_a_flip_finishes_nothing(ours: Shop, stage: str) -> None:
    store = ours.world.store
    write(store, range(8))
    late = Hand(ours, stage)
    records = late.stage._input.take()
    flip(store, stage, "target")
    flip(store, stage, "source")  # the group is open again, by a later generation
    with pytest.raises(Fenced):
        late.stage._work(records)
        late.stage._input.take()  # a sink finishes with its next poll
    late.stage._input.lost()
    assert finished(store, stage, "source") == []
    Hand(ours, stage).drain().leave()
    assert effects(ours, stage) == wanted(stage, 8)


POINTS = {
    "stage.leased": ("grafctl.pipeline.stages.reading", STAGES),
    "step.appended": ("grafctl.store.operations.stepping", ["tidy"]),
    "stage.committed": ("grafctl.pipeline.stages.transforming", ["tidy"]),
    "sink.committed": ("grafctl.pipeline.stages.sinking", ["load"]),
}


@pytest.mark.parametrize("begins", ["source", "target"])
@pytest.mark.parametrize(("name", "stage"), [(name, stage) for name, (_, found) in POINTS.items() for stage in found])
def test_a_stage_that_sleeps_at_a_point_of_its_step_over_a_flip_does_nothing_twice(
    ours: Shop, monkeypatch: pytest.MonkeyPatch, begins: str, name: str, stage: str
) -> None:
    """While it sleeps, another process of the stage does the same records at the other output, and more."""
    store = ours.world.store
    write(store, range(8))
    sides = ["target", "source"] if begins == "source" else ["source", "target"]
    if begins == "target":
        flip(store, stage, "target")
    hits: list[str] = []

    def sleep(point: str) -> None:
        if point == name and not hits:
            hits.append(point)
            flip(store, stage, sides[0])
            Hand(ours, stage).drain().leave()

    monkeypatch.setattr(f"{POINTS[name][0]}.point", sleep)
    hand = Hand(ours, stage)
    hand.drain()
    hand.stage.leave()
    assert hits and effects(ours, stage) == wanted(stage, 8)
    flip(store, stage, sides[1])
    assert finished(store, stage, sides[1]) == [[0, 8]] and finished(store, stage, sides[0]) == [[0, 8]]


def test_the_lease_of_the_other_output_is_renewed_there(ours: Shop) -> None:
    store = ours.world.store
    write(store, range(4))
    flip(store, "tidy", "target")
    hand = Hand(ours, "tidy", visibility_ms=1)
    records = hand.stage._input.take()
    hand.stage._input.place = Hand(ours, "tidy").stage.place
    hand.stage._input.hold()
    ours.world.advance(30_000)
    assert not Hand(ours, "tidy").stage.step(), "the lease was held for another minute"
    hand.stage._work(records)
    assert ids(ours) == once(range(4))


def test_a_sink_finishes_with_the_lease_of_its_next_batch_at_either_output(ours: Shop) -> None:
    store = ours.world.store
    write(store, range(8))
    flip(store, "load", "target")
    given = poll(store.session, OLD, "load", "aws", 3, 60_000, None)
    place = given.resource, given.group
    assert place == (NEW, "load")
    before = store.session.resource(NEW).observe().best()
    more = poll(store.session, OLD, "load", "aws", 3, 60_000, None, finish=[0, 1, 2], lease=given.lease, held_at=place)
    after = store.session.resource(NEW).observe().best()
    assert more.finished == 3 and finished(store, "load", "target") == [[0, 3]]
    assert before is not None and after is not None and after.head.tail == before.head.tail + 1, "one entry"
    store.session.routes.clear()  # as after a poll that came between two sides
    last = poll(store.session, OLD, "load", "aws", 1, 60_000, None, finish=[3], lease=more.lease, held_at=place)
    assert last.finished == 1 and finished(store, "load", "target") == [[0, 4]]
    flip(store, "load", "source")
    with pytest.raises(Fenced):
        poll(store.session, OLD, "load", "aws", 3, 60_000, None, finish=[4], lease=more.lease, held_at=place)
    assert finished(store, "load", "source") == [[0, 4]]


@pytest.mark.parametrize("is_detached", [False, True])
def test_offsets_of_one_output_are_never_finished_at_the_other(tmp_path: Path, is_detached: bool) -> None:
    """A lease is named after a place in its own log, so one of the other output may have the same name."""
    with switched(tmp_path, attach=["load"], **APART) as ours:
        store = ours.world.store
        write(store, range(4))
        flip(store, "load", "target")
        for number in range(4, 30):
            write(store, [number], NEW)
        late = poll(store.session, OLD, "load", "aws", 3, 60_000, None)
        assert late.lease is not None and late.resource == NEW
        if is_detached:
            store.switches.lock("load", domain="aws")
            store.switches.detach("load")
            store.consumers.resume(OLD, "load")
            store.session.routes.clear()
        else:
            store.switches.rollback("load", **NOW)
        for number in range(4, 1000):
            tail = store.session.resource(OLD).observe().best()
            assert tail is not None and tail.head.tail <= late.lease, "the new log was not far enough ahead"
            if tail.head.tail == late.lease:
                break
            write(store, [number], OLD)
        other = poll(store.session, OLD, "load", "aws", 3, 60_000, None)
        assert (other.resource, other.lease, other.records[0].offset) == (OLD, late.lease, 0)
        held: dict[str, Any] = {"finish": [0, 1, 2], "lease": late.lease, "held_at": (NEW, "load")}
        if is_detached:
            assert poll(store.session, OLD, "load", "aws", 1, 60_000, None, **held).finished == 3
        else:
            with pytest.raises(Fenced, match="is closed"):
                poll(store.session, OLD, "load", "aws", 1, 60_000, None, **held)
        assert store.consumers.show(OLD, "load").body["ack_floor"] == 0, "that is for who has its lease"


def test_records_without_an_id_come_at_both_outputs_and_are_named_after_where_they_stand(ours: Shop) -> None:
    """They have no match key, so nobody knows that they are counterparts."""
    store = ours.world.store
    for output in (OLD, NEW):
        store.publish_batch(output, [Outgoing(b'{"id":"%s","n":1}' % output.encode())], domain="aws")
    hand = Hand(ours, "tidy")
    hand.drain()
    store.switches.switch("tidy", "target", domain="aws", drain_ms=0, compare_from="now")
    hand.drain()
    hand.stage.leave()
    assert {record.id for record in ours.records("clean")} == {f"tidy:{OLD}@0", f"tidy:{NEW}@0"}
    assert finished(store, "tidy", "target") == [[0, 1]] and not store.dead.list(NEW, "tidy").items


def test_a_run_until_idle_looks_at_the_open_output(ours: Shop) -> None:
    store = ours.world.store
    write(store, range(6), NEW)
    write(store, range(4), OLD)
    for stage in STAGES:
        store.switches.switch(stage, "target", domain="aws", drain_ms=0, compare_from="now")
        ran = ours.run(stage)
        assert ran.stages[0]["read"] == 6 and effects(ours, stage) == wanted(stage, 6)
        store.switches.rollback(stage, domain="aws", drain_ms=0)
    write(store, range(4, 6), OLD)
    assert [row["read"] for row in ours.run().stages] == [0, 0], "they were finished at the other output"


def test_everything_says_which_output_a_stage_reads(ours: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    store, file = ours.world.store, ours.folder / "shop.toml"
    write(store, range(5))
    flip(store, "tidy", "target")
    said: list[str] = []
    run = Run(store, ours.pipeline, "aws", say=said.append)
    assert [row.get("reads") for row in run.counts()] == [NEW, OLD]
    tidy, load = watching.status(store, ours.pipeline).body["stages"]
    assert (tidy["input"], tidy["switch"], tidy["side"], tidy["reads"]) == (OLD, "tidy", "target", NEW)
    assert (load["reads"], load["side"], tidy["lag"]) == (OLD, "source", 5) and "stays" not in tidy
    assert [watching.read_now(store, ours.pipeline, stage, OLD) for stage in STAGES] == [NEW, OLD]
    Hand(ours, "tidy").drain().leave()
    assert watching.status(store, ours.pipeline).body["stages"][0]["lag"] == 0
    examined = declaring.examine_file(file)
    assert not [item for item in differences(store, examined) if "switch" in item.problem]
    store.placement.set(NEW, group="tidy", allow=["gcp"])
    (found,) = [item for item in differences(store, examined) if "poll" in item.problem]
    assert f"may not poll {NEW} in aws: not_in_placement" in found.problem


def test_a_stage_says_when_it_goes_to_another_output(tmp_path: Path) -> None:
    with switched(tmp_path, attach=()) as ours:
        store = ours.world.store
        write(store, range(3))
        said: list[str] = []

        def say(sentence: str) -> None:
            said.append(sentence)
            if len(said) == 1:
                flip(store, "tidy", "target")
            else:
                run.stop()

        tie(store, "tidy")
        run = Run(store, ours.pipeline, "aws", stages=["tidy"], say=say, timeout_s=60)
        run.routed.clear()  # as if it had been attached after the run had begun
        run._lanes[0]._reads = None
        run.run()
        assert said == [f"tidy: It reads {name}, as the switch tidy says." for name in (OLD, NEW)]


def test_after_the_lock_it_stays_there_and_after_a_detach_its_own_group_is_paused(tmp_path: Path) -> None:
    with switched(tmp_path, attach=["tidy"], **APART) as ours:
        store = ours.world.store
        write(store, range(4))
        flip(store, "tidy", "target")
        hand = Hand(ours, "tidy")
        hand.drain()
        store.switches.lock("tidy", domain="aws")
        write(store, range(4, 8))
        hand.stage.step()
        store.switches.detach("tidy")
        with pytest.raises(Busy, match="paused"):
            hand.stage.step()
        hand.stage.leave()
        assert ids(ours) == once(range(8)) and len(ours.records("clean")) == 8


def test_a_group_without_a_switch_asks_nothing_of_switches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with switched(tmp_path, attach=()) as ours:
        write(ours.world.store, range(10))
        for name in ("grafctl.pipeline.stages.following", "grafctl.store.operations.switching.routed"):
            monkeypatch.setitem(sys.modules, name, None)  # whoever imports it now fails
        assert [row["read"] for row in ours.run().stages] == [10, 10]
        assert ids(ours) == once(range(10)) and ours.rows() == rows(range(10))
