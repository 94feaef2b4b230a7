"""Stages at work and what goes wrong: a refusal, a conflict, a source that fails, an outcome that nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import (
    ExternalFailed,
    IdempotencyConflict,
    NoQuorum,
)
from grafctl.pipeline import declaring
from grafctl.pipeline.running import Run, Until
from grafctl.store.blocks import Outgoing
from grafctl.store.log import Log
from grafctl.store.operations.stepping import Step
from pipeline.shop import counts_of, orders, shop


def test_what_does_not_conform_to_the_schema_of_an_output_goes_aside(tmp_path: Path) -> None:
    with shop(tmp_path, "memory", take='dead_letter = "aside"') as ours:
        store = ours.world.store
        store.queues.create("checked", log="shop", allow=["aws", "gcp"], schema="order.v1")
        store.schemas.add("order.v1", '{"properties": {"total": {"maximum": 500}}}')
        text = ours.pipeline.file.read_text().replace('output = "clean"', 'output = "checked"')
        text += '[[queue]]\nname = "checked"\nlog = "shop"\nschema = "order.v1"\nallow = ["aws", "gcp"]\n'
        (ours.folder / "checked.toml").write_text(text)
        ours.orders(*orders(range(9)))
        pipeline = declaring.read(ours.folder / "checked.toml")
        Run(store, pipeline, "aws", stages=["take", "tidy"], until=Until.IDLE, timeout_s=60).run()
        assert [record.id for record in ours.records("checked")] == [f"tidy:o{number}" for number in range(5)]
        letters = store.dead.list("raw", "tidy").items
        assert [letter["offset"] for letter in letters] == [5, 6, 7, 8]
        assert "schema of checked at /total" in letters[0]["reason"]


def test_what_nobody_knew_of_is_not_stored_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with shop(tmp_path, "memory") as ours:
        file = ours.pipeline.file
        file.write_text(file.read_text().replace('id = "id"\n', ""))
        ours.orders(*orders(range(20)))
        tries: list[bytes] = []
        real = Log._commit

        def lost(log: Log, attempt: Any, *rest: Any) -> None:
            if log.id == ours.world.log_id("raw") and attempt.may_be_written and len(tries) < 3:
                tries.append(attempt.operation)
                raise NoQuorum("Nobody knows.", outcome="unknown", operation=attempt.name)
            real(log, attempt, *rest)

        monkeypatch.setattr(Log, "_commit", lost)
        Run(ours.world.store, declaring.read(file), "aws", stages=["take"], until=Until.IDLE, timeout_s=60).run()
        assert len(tries) == 3 and len(set(tries)) == 1
        assert [record.offset for record in ours.records("raw")] == list(range(20))


@pytest.mark.parametrize("until", list(Until))
def test_a_source_that_fails_is_no_source_that_has_ended(tmp_path: Path, until: Until) -> None:
    with shop(tmp_path, "memory") as ours:
        file = ours.pipeline.file
        ours.orders(*orders(range(5)))
        text = file.read_text().replace('kind = "jsonl"', 'kind = "exec"')
        file.write_text(text.replace('path = "orders.jsonl"', 'command = ["sh", "-c", "cat orders.jsonl; exit 3"]'))
        with pytest.raises(ExternalFailed, match="ended with 3"):
            Run(ours.world.store, declaring.read(file), "aws", stages=["take"], until=until, timeout_s=20).run()
        assert len(ours.records("raw")) == 5, "what it printed before was taken"


def test_a_row_that_conflicts_stops_a_sink_that_is_to_stop(tmp_path: Path) -> None:
    with shop(tmp_path, "memory", load='on_error = "stop"') as ours:
        made = [Outgoing(b'{"id": "x", "total": 1}', "1"), Outgoing(b'{"id": "x", "total": 2}', "2")]
        ours.world.store.publish_batch("clean", made, domain="aws")
        with pytest.raises(IdempotencyConflict, match="load stopped at offset 1 of clean"):
            ours.run("load")
        assert ours.rows() == {"x": 1}


@pytest.mark.parametrize("policy", ['on_error = "stop"', 'dead_letter = "aside"'])
def test_what_was_found_out_of_a_batch_is_not_forgotten_while_something_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """The conflict is known, and then there is no quorum for a moment: nothing behind it may pass for committed."""
    with shop(tmp_path, "memory", take=policy) as ours:
        ours.orders(*orders(range(3)), {"id": "o1", "status": "new", "total": "9.99"}, *orders([5]))
        calls = 0
        real = Step.run

        def run(step: Step) -> list[Any]:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise NoQuorum("Not for now.", outcome="not_written")
            return real(step)

        monkeypatch.setattr(Step, "run", run)
        if "stop" in policy:
            with pytest.raises(IdempotencyConflict, match=r"take stopped at orders\.jsonl:4"):
                ours.run("take")
            assert [record.id for record in ours.records("raw")] == ["o0", "o1", "o2"]
        else:
            counts = counts_of(ours.run("take"))["take"]
            assert (counts["written"], counts["refused"], len(ours.records("aside"))) == (4, 1, 1)
