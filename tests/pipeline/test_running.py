"""Stages at work in one process: what they make of good records, of bad ones, of doubles, and of being stopped."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import (
    Busy,
    DomainUnavailable,
    ExternalFailed,
    IdempotencyConflict,
    NoQuorum,
    NotFound,
    SchemaMismatch,
    Timeout,
    Usage,
)
from grafctl.pipeline import declaring
from grafctl.pipeline.running import Run, Until
from grafctl.pipeline.sources.item import Item
from grafctl.pipeline.stages.ingesting import IngestStage, gather
from grafctl.pipeline.stages.transforming import TransformStage
from grafctl.pipeline.stages.work import Place
from grafctl.pipeline.transforms.making import make_transform
from grafctl.store.blocks import Outgoing
from pipeline.shop import Shop, counts_of, orders, rows_of, shop


@pytest.fixture(params=["memory", "lmdb"])
def ours(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    with shop(tmp_path, request.param, take='dead_letter = "aside"') as made:
        yield made


def test_orders_become_rows_and_a_second_run_changes_nothing(ours: Shop) -> None:
    ours.orders(*orders(range(50)), {"id": "t1", "status": "test", "total": "1.00"}, *orders(range(5)))
    counts = counts_of(ours.run())
    assert counts["take"] == {"read": 56, "written": 51, "replayed": 5, "filtered": 0, "refused": 0, "lost": 0}
    assert counts["tidy"] == {"read": 51, "written": 50, "replayed": 0, "filtered": 1, "refused": 0, "lost": 0}
    assert counts["load"] == {"read": 50, "written": 50, "replayed": 0, "filtered": 0, "refused": 0, "lost": 0}
    assert ours.rows() == rows_of(range(50))
    assert [record.id for record in ours.records("clean")][:2] == ["tidy:o0", "tidy:o1"]
    again = counts_of(ours.run())
    assert (again["take"]["written"], again["take"]["replayed"], again["tidy"]["read"]) == (0, 56, 0)
    assert ours.rows() == rows_of(range(50)) and ours.is_whole()


def test_what_is_refused_goes_aside_with_its_reason_and_nothing_is_dropped(ours: Shop) -> None:
    ours.orders(*orders(range(3)), "no json", {"id": "o1", "status": "new", "total": "9.99"}, *orders([7]))
    ours.orders(
        *orders(range(3)),
        "no json",
        {"id": "o1", "status": "new", "total": "9.99"},
        {"id": "odd", "status": "new", "total": "1.005"},
        *orders([7]),
    )
    counts = counts_of(ours.run())
    assert (counts["take"]["written"], counts["take"]["refused"]) == (5, 2)
    aside = {record.payload: record.headers for record in ours.records("aside")}
    assert aside[b"no json"]["place"] == "orders.jsonl:4"
    conflict = aside[b'{"id": "o1", "status": "new", "total": "9.99"}']
    assert "another payload, at offset 1" in conflict["reason"] and conflict["stage"] == "take"
    letters = ours.world.store.dead.list("raw", "tidy").items
    assert [(letter["offset"], "total" in letter["reason"]) for letter in letters] == [(3, True)]
    assert ours.rows() == rows_of([0, 1, 2, 7])
    assert ours.run().stages[1]["read"] == 0, "a dead letter comes again only when it is redriven"


def test_a_stage_that_is_to_stop_commits_what_came_before(tmp_path: Path) -> None:
    with shop(tmp_path, "memory", tidy='on_error = "stop"') as ours:
        ours.orders(*orders(range(8)), {"id": "odd", "status": "new", "total": "1.005"}, *orders([9]))
        with pytest.raises(SchemaMismatch, match=r"tidy stopped at offset 8 of raw: .*total"):
            ours.run()
        assert len(ours.records("clean")) == 8
        assert not ours.world.store.dead.list("raw", "tidy").items
        shown = ours.world.store.consumers.show("raw", "tidy").body
        assert shown["ack_floor"] == 8
        delivery = ours.world.store.poll("raw", "tidy", domain="aws")
        assert [record.offset for record in delivery.records] == [8, 9], "nothing waits for a lease"


def test_the_same_id_with_another_payload_stops_an_ingest_that_puts_nothing_aside(tmp_path: Path) -> None:
    with shop(tmp_path, "memory") as ours:
        ours.orders(*orders(range(3)), {"id": "o1", "status": "new", "total": "9.99"}, *orders([5]))
        with pytest.raises(IdempotencyConflict, match=r"take stopped at orders\.jsonl:4"):
            ours.run("take")
        assert [record.id for record in ours.records("raw")] == ["o0", "o1", "o2"]


def test_a_stage_runs_only_where_it_may(ours: Shop) -> None:
    ours.orders(*orders(range(3)))
    before = ours.world.dump()
    with pytest.raises(DomainUnavailable, match="azure may not run take") as refused:
        ours.run("take", domain="azure")
    assert refused.value.reason == "not_in_placement"
    with pytest.raises(DomainUnavailable):
        ours.run(domain="azure")
    ours.world.store.placement.set("raw", allow=["gcp"])
    (ours.folder / "orders.jsonl").unlink()  # who may not, does not even look for it
    with pytest.raises(DomainUnavailable, match="aws may not publish raw"):
        ours.run("take", domain="aws")
    raw = ours.world.log_id("raw")
    entries = {domain: {key for key in rows if key[0] == 0x20 and key[1:9] == raw} for domain, rows in before.items()}
    now = ours.world.dump()
    added = {key for rows in now.values() for key in rows if key[0] == 0x20 and key[1:9] == raw}
    assert len(added - entries["aws"]) == 1, "only the placement was changed"


def test_a_run_names_what_is_not_there(ours: Shop) -> None:
    with pytest.raises(NotFound, match="no stage elsewhere"):
        ours.run("elsewhere")
    ours.texts["tidy"] = 'group = "others"'
    with pytest.raises(NotFound, match="no group others") as missing:
        ours.run("tidy")
    assert "grafctl apply" in (missing.value.hint or "")


def test_what_makes_no_row_goes_aside_or_stops_the_sink(ours: Shop) -> None:
    ours.texts["load"] = 'on_error = "stop"'
    store = ours.world.store
    given = ['{"id": "a", "total": 1}', '{"id": "none"}', '{"id": "a", "total": 2}', '{"id": "b", "total": 3}']
    store.publish_batch("clean", [Outgoing(line.encode()) for line in given], domain="aws")
    with pytest.raises(SchemaMismatch, match="load stopped at offset 1 of clean"):
        ours.run("load")
    assert ours.rows() == {"a": 1} and store.consumers.show("clean", "load").body["ack_floor"] == 1
    ours.texts["load"] = ""
    counts = counts_of(ours.run("load"))["load"]
    assert (counts["read"], counts["written"], counts["refused"]) == (3, 1, 2)
    assert ours.rows() == {"a": 1, "b": 3}
    assert [letter["offset"] for letter in store.dead.list("clean", "load").items] == [1, 2]
    assert ours.run("load").stages[0]["read"] == 0 and ours.is_whole()


def test_a_warehouse_that_another_program_holds_is_waited_for(ours: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grafctl.pipeline.sinks.opening.open_sink.__kwdefaults__", {"wait_s": 0.1})
    ours.orders(*orders(range(9)))
    ours.run("take", "tidy")
    other = sqlite3.connect(ours.folder / "rows.db", isolation_level=None, check_same_thread=False)
    other.execute("create table held (x)")
    other.execute("begin exclusive")
    said: list[str] = []

    def say(sentence: str) -> None:
        said.append(sentence)
        other.execute("commit")

    with pytest.raises(Busy):
        ours.run("load", until=Until.ONCE)
    run = Run(ours.world.store, ours.pipeline, "aws", stages=["load"], until=Until.IDLE, timeout_s=60, say=say)
    assert run.run().stages[0]["written"] == 9
    assert ours.rows() == rows_of(range(9)) and len(said) == 1 and "Waiting for it." in said[0]


def test_a_group_that_finishes_what_it_delivers_is_no_input(ours: Shop) -> None:
    ours.world.store.consumers.create("raw", "hasty", allow=["aws"], semantics="at-most-once")
    ours.texts["tidy"] = 'group = "hasty"'
    ours.orders(*orders(range(3)))
    ours.run("take")
    pipeline = ours.pipeline
    with pytest.raises(Usage, match="hasty of raw is at-most-once"):
        Run(ours.world.store, pipeline, "aws", stages=["tidy"])
    assert ours.world.store.consumers.show("raw", "hasty").body["cursor"] == 0


def test_a_record_that_becomes_too_much_for_one_entry_goes_aside(tmp_path: Path) -> None:
    steps = '[[stage.step]]\nop = "explode"\nfield = "items"'
    with shop(tmp_path, "lmdb", steps=steps) as ours:
        more = {"pad": "x" * 400_000, "items": list(range(200))}
        ours.orders(*orders([1], items=[1, 2]), *orders([2], **more), *orders([3], items=[]), *orders([4], items=[7]))
        counts = counts_of(ours.run("take", "tidy"))["tidy"]
        assert (counts["written"], counts["refused"]) == (3, 1)
        (letter,) = ours.world.store.dead.list("raw", "tidy").items
        assert letter["offset"] == 1 and "at most 33,554,432 are committed for one record" in letter["reason"]
        assert [record.id for record in ours.records("clean")] == ["tidy:o1", "tidy:o1#1", "tidy:o4"]


def test_a_changed_definition_does_not_pass_for_a_replay(ours: Shop) -> None:
    ours.orders(*orders(range(4)))
    ours.run()
    ours.world.store.consumers.seek("raw", "tidy", "earliest")
    counts = counts_of(ours.run("tidy"))
    assert (counts["tidy"]["read"], counts["tidy"]["replayed"], counts["tidy"]["refused"]) == (4, 4, 0)
    ours.texts["steps"] = '[[stage.step]]\nop = "set"\nfields = { more = "1" }'
    ours.world.store.consumers.seek("raw", "tidy", "earliest")
    counts = counts_of(ours.run("tidy"))
    assert (counts["tidy"]["written"], counts["tidy"]["refused"]) == (0, 4)
    reasons = {letter["reason"] for letter in ours.world.store.dead.list("raw", "tidy").items}
    assert all("another definition" in reason for reason in reasons)
    assert len(ours.records("clean")) == 4


def test_stages_go_on_in_another_domain_where_one_was_left(ours: Shop) -> None:
    ours.orders(*orders(range(30)))
    ours.run("take", domain="aws")
    ours.run("tidy", domain="gcp")
    run = Run(ours.world.store, ours.pipeline, "aws", stages=["load"])
    run.stop()
    run.run()
    assert not ours.rows()
    ours.run("load", domain="gcp")
    assert ours.rows() == rows_of(range(30))


def test_resources_of_several_logs_are_served_too(tmp_path: Path) -> None:
    with shop(tmp_path, "memory", shared=False) as ours:
        assert ours.world.log_id("raw") != ours.world.log_id("clean")
        ours.orders(*orders(range(20)))
        ours.run()
        assert ours.rows() == rows_of(range(20)) and ours.is_whole()


def test_a_lost_lease_finishes_nothing_and_its_records_come_again(ours: Shop) -> None:
    ours.orders(*orders(range(4)))
    ours.run("take")
    declared = ours.pipeline.stages[1]
    inner = make_transform(declared, ours.folder)

    class Slow:
        fingerprint = inner.fingerprint

        def __call__(self, message: Any) -> Any:
            if message.offset == 2:
                ours.world.advance(3_600_000)
                others = ours.world.store.poll("raw", "tidy", domain="gcp")
                assert [record.offset for record in others.records] == [0, 1, 2, 3]
            return inner(message)

        def close(self) -> None:
            inner.close()

    stage = TransformStage(Place(ours.world.store.session, ours.pipeline, "aws"), declared, Slow())
    assert stage.step()
    assert stage.counts.lost == 4 and not ours.records("clean")
    ours.world.advance(3_600_000)
    ours.run("tidy")
    assert len(ours.records("clean")) == 4


def test_a_run_gives_up_at_its_deadline(ours: Shop) -> None:
    ours.orders()
    with pytest.raises(Timeout):
        Run(ours.world.store, ours.pipeline, "aws", stages=["load"], timeout_s=0.2).run()


def test_a_run_waits_for_what_others_hold_only_until_idle(ours: Shop) -> None:
    ours.world.store.publish_batch("clean", [Outgoing(b'{"id": "x", "total": 1}', "x")], domain="aws")
    ours.world.store.poll("clean", "load", domain="gcp", visibility_ms=1500)
    assert ours.run("load", until=Until.ONCE).stages[0]["read"] == 0
    assert ours.run("load", until=Until.IDLE).stages[0]["read"] == 1
    assert ours.rows() == {"x": 1}


def test_what_could_not_be_committed_for_now_is_tried_again_and_not_passed_over(ours: Shop) -> None:
    ours.orders(*orders(range(20)))
    store, pipeline = ours.world.store, ours.pipeline

    def without_quorum(step: Callable[[], object]) -> None:
        for domain in ("gcp", "azure"):
            store.domains.fail(domain)
        with pytest.raises(NoQuorum):
            step()
        for domain in ("gcp", "azure"):
            store.domains.restore(domain)

    place = Place(store.session, pipeline, "aws")
    take = IngestStage(place, pipeline.stages[0], pipeline.sources[0])
    assert take.step()
    without_quorum(take.step)
    assert take.step() and take.step() and not take.step()
    assert [record.id for record in ours.records("raw")] == [f"o{number}" for number in range(20)]
    assert (take.counts.read, take.counts.written) == (20, 20)

    inner = make_transform(pipeline.stages[1], ours.folder)
    away: list[int] = []

    class Failing:
        fingerprint, close = inner.fingerprint, inner.close

        def __call__(self, message: Any) -> Any:
            if message.offset == 7 and not away:
                away.append(7)
                for domain in ("gcp", "azure"):
                    store.domains.fail(domain)
            return inner(message)

    tidy = TransformStage(place, pipeline.stages[1], Failing())
    assert tidy.step()
    with pytest.raises(NoQuorum):
        tidy.step()
    for domain in ("gcp", "azure"):
        store.domains.restore(domain)
    assert tidy.step() and tidy.step() and tidy.step() and not tidy.step()
    assert [record.id for record in ours.records("clean")] == [f"tidy:o{number}" for number in range(20)]
    assert (tidy.counts.read, tidy.counts.written, tidy.counts.lost) == (20, 20, 0), "nothing waits for a lease"
    assert tidy.is_idle()


def test_a_program_that_is_a_source_runs_in_the_folder_of_the_file(tmp_path: Path) -> None:
    with shop(tmp_path, "memory") as ours:
        file = ours.pipeline.file
        ours.orders(*orders(range(5)))
        text = file.read_text().replace('kind = "jsonl"', 'kind = "exec"')
        file.write_text(text.replace('path = "orders.jsonl"', 'command = ["cat", "orders.jsonl"]'))
        Run(ours.world.store, declaring.read(file), "aws", stages=["take"], until=Until.ONCE, timeout_s=60).run()
        assert len(ours.records("raw")) == 5


def test_what_was_read_before_a_source_failed_is_taken(ours: Shop) -> None:
    ours.orders()
    item = Item(b"{}", "1", None, None, "orders.jsonl:1", None)

    def failing() -> Iterator[list[Item]]:
        yield [item]
        raise ExternalFailed("The program ended with 3.")

    gathered = gather(failing(), 7)
    assert next(gathered) == [item]
    with pytest.raises(ExternalFailed):
        next(gathered)
