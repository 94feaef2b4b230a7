"""A pipeline built in Python: what it commits, what it refuses, and that it is a declared one in everything else."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

import grafctl
from grafctl.client import Store
from grafctl.errors import DomainUnavailable, ExternalFailed, GenerationConflict, GrafctlError, NotFound, Usage
from grafctl.pipeline.building import Pipeline
from grafctl.pipeline.message import Message, Output
from grafctl.pipeline.running import Ran
from grafctl.pipeline.transforms.chaining import FILTER, MAP, Chain, named

AWS, GCP = "aws", "gcp"
SINK: dict[str, Any] = {"table": "orders", "key": "text(id)", "columns": {"id": "id", "cents": "cents"}}
SINK |= {"types": {"id": "integer", "cents": "integer"}}


def cents(order: dict[str, Any]) -> dict[str, Any]:
    whole, _, part = order["total"].partition(".")
    return {"id": order["id"], "cents": int(whole) * 100 + int(part or 0)}


def large(order: dict[str, Any]) -> bool:
    return bool(order["cents"] >= 300)


def orders(count: int = 10) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {"id": number, "total": f"{number}.50"}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.chdir(tmp_path)
    grafctl.create(tmp_path / "store", {AWS: None, GCP: None, "azure": None})
    (tmp_path / "orders.jsonl").write_text("".join(f"{json.dumps(order)}\n" for order in orders()))
    with grafctl.open(tmp_path / "store") as opened:
        yield opened


def built(store: Store, **how: Any) -> Pipeline:
    return Pipeline("p", store=store, domain=AWS, **how)


def rows(table: str = "orders", file: str = "orders.db") -> list[tuple[Any, ...]]:
    with sqlite3.connect(file) as warehouse:
        return warehouse.execute(f"SELECT id, cents FROM {table} ORDER BY id").fetchall()


def counts(ran: Ran) -> dict[str, tuple[int, ...]]:
    return {
        stage["stage"]: tuple(stage[name] for name in ("read", "written", "replayed", "filtered", "refused"))
        for stage in ran.stages
    }


def dead(store: Store, resource: str, group: str) -> list[str]:
    return [str(item["reason"]) for item in store.dead.list(resource, group=group).items]


EXPECTED = [(number, number * 100 + 50) for number in range(3, 10)]


def test_records_go_from_a_file_through_functions_into_a_table_once(store: Store) -> None:
    pipeline = built(store).from_source("orders.jsonl", id="id").map(cents).filter(large).sink("orders.db", **SINK)
    assert counts(pipeline.run()) == {
        "ingest": (10, 10, 0, 0, 0),
        "functions": (10, 7, 0, 3, 0),
        "sink": (7, 7, 0, 0, 0),
    }
    assert rows() == EXPECTED
    assert counts(pipeline.run(until="once")) == {
        "ingest": (10, 0, 10, 0, 0),
        "functions": (0, 0, 0, 0, 0),
        "sink": (0, 0, 0, 0, 0),
    }
    with Path("orders.jsonl").open("a") as more:
        more.write('{"id": 10, "total": "10.50"}\n')
    pipeline.run()
    assert rows() == [*EXPECTED, (10, 1050)], "the same again goes on"


SOURCES: dict[str, Callable[[Pipeline], Pipeline]] = {
    "function": lambda made: made.from_source(orders, id="id"),
    "list": lambda made: made.from_source(lambda: list(orders()), id="id"),
    "partial": lambda made: made.from_source(partial(orders, 10), id="id"),
    "paths": lambda made: made.from_source([Path("orders.jsonl"), "empty.jsonl"], id="id"),
    "csv": lambda made: made.from_source("orders.csv", id="id").map(lambda row: {**row, "id": int(row["id"])}),
    "command": lambda made: made.from_source(command=["cat", "orders.jsonl"], id="id"),
    "kind": lambda made: made.from_source("orders", kind="jsonl", id="id"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_rows(store: Store, source: str) -> None:
    Path("empty.jsonl").touch()
    Path("orders").write_bytes(Path("orders.jsonl").read_bytes())
    Path("orders.csv").write_text("id,total\n" + "".join(f"{order['id']},{order['total']}\n" for order in orders()))
    SOURCES[source](built(store)).map(cents).filter(large).sink("orders.db", **SINK).run()
    assert rows() == EXPECTED


def test_a_sink_may_be_a_file_of_lines_or_a_queue_and_functions_are_not_needed(store: Store) -> None:
    built(store).from_source("orders.jsonl", id="id").sink("out.jsonl", key="text(id)", columns={"id": "id"}).run()
    assert [json.loads(line)["id"] for line in Path("out.jsonl").read_text().splitlines()] == list(range(10))
    other = Pipeline("other", store=store, domain=AWS, allow=[AWS, GCP], replicas={"a": AWS, "g": GCP})
    other.from_source(orders, id="id").map(cents).sink(queue="cents", key="text(id)").run()
    found = store.peek("cents", domain=AWS).body["records"]
    assert [json.loads(record.payload)["cents"] for record in found] == [n * 100 + 50 for n in range(10)]
    assert {replica["domain"] for replica in store.locator.show("cents").body["replicas"]} == {AWS, GCP}


def doubled(message: Message) -> list[Output]:
    return [Output(message.value | {"id": message.value["id"] * 2 + half}, None, f"k{half}") for half in (0, 1)]


def test_a_record_may_become_several_or_none_between_two_functions(store: Store) -> None:
    keys: list[str | None] = []

    def keyed(message: Message) -> dict[str, Any] | None:
        keys.append(message.key)
        return None if message.value["id"] == 3 else message.value

    made = built(store).from_source(lambda: orders(2), id="id").map(cents).map(doubled).map(keyed)
    made.sink("orders.db", **SINK).run()
    assert rows() == [(0, 50), (1, 50), (2, 150)] and sorted(map(str, keys)) == ["k0", "k0", "k1", "k1"]


def test_what_is_refused_goes_aside_with_its_reason_and_stops_where_that_is_asked(store: Store) -> None:
    bad: list[Any] = [
        {"id": 1, "total": "1"},
        {"id": 2},
        {"id": 3, "total": "x"},
        {"total": "4"},
        {5},
        {"id": 6, "total": "9"},
    ]
    made = built(store).from_source(lambda: bad, id="id").map(cents).filter(lambda order: order["id"] or 0)
    assert counts(made.sink("orders.db", **SINK).run())["functions"] == (4, 0, 0, 0, 4)
    reasons = dead(store, "p-in", "functions")
    assert any("KeyError in line" in reason for reason in reasons), reasons
    assert any("a filter returns True or False, not a int" in reason for reason in reasons)
    aside = [record.headers["reason"] for record in store.peek("p-dead", domain=AWS).body["records"]]
    assert len(aside) == 2 and any("is no JSON" in reason for reason in aside)
    stopping = Pipeline("q", store=store, domain=AWS, on_error="stop")
    with pytest.raises(GrafctlError, match="Stage functions stopped at offset 1"):
        stopping.from_source(lambda: bad[:3], id="id").map(cents).sink("other.db", **SINK).run()


def test_an_effect_key_has_one_row(store: Store) -> None:
    twice = [{"id": 1, "cents": 1}, {"id": 2, "cents": 2}, {"id": 1, "cents": 9}, {"id": 1, "cents": 1}]
    built(store).from_source(lambda: twice).sink("orders.db", **SINK).run()
    assert rows() == [(1, 1), (2, 2)]
    (reason,) = dead(store, "p-in", "sink")
    assert "effect key was committed before with another row" in reason


def test_a_source_that_fails_ends_the_run_after_what_it_gave(store: Store) -> None:
    def failing() -> Iterator[Any]:
        yield from orders(3)
        raise RuntimeError("secret")

    made = built(store).from_source(failing, id="id").map(cents).sink("orders.db", **SINK)
    with pytest.raises(ExternalFailed, match="failed after 3 records: RuntimeError") as error:
        made.run()
    assert "secret" not in error.value.message
    assert store.queues.show("p-in").body["records"] == 3
    with pytest.raises(NotFound):
        built(store).from_source("absent.jsonl").sink("orders.db", **SINK).run()


def test_the_domain_decides_and_another_allowed_one_goes_on(store: Store) -> None:
    made = {
        domain: Pipeline("p", store=store, domain=domain, allow=[AWS, GCP])
        .from_source("orders.jsonl", id="id")
        .map(cents)
        .filter(large)
        .sink("orders.db", **SINK)
        for domain in (AWS, GCP, "azure")
    }
    with pytest.raises(DomainUnavailable) as refused:
        made["azure"].run()
    assert refused.value.exit_code == 11
    made[AWS].run()
    Path("orders.jsonl").write_text('{"id": 20, "total": "20.50"}\n')
    store.domains.fail(AWS)
    made[GCP].run()
    assert rows() == [*EXPECTED, (20, 2050)]


APP = """
import sys
sys.path.insert(0, {tests!r})
import grafctl
from pipeline.test_building import SINK, cents, large, orders
with grafctl.open("store") as store:
    made = grafctl.Pipeline("p", store=store, domain="aws", batch=3).from_source(orders, id="id")
    made.map(cents).filter(large).sink("orders.db", **SINK).run(until=sys.argv[1], visibility_ms=1000)
"""


def app(until: str, **env: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", APP.format(tests=str(ROOT / "tests")), until]
    return subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(ROOT), **env})


@pytest.mark.parametrize("step", ["stage.committed:1", "stage.committed:4"])
def test_a_run_that_was_killed_is_finished_by_the_next(store: Store, step: str) -> None:
    assert app("idle", GRAFCTL_KILL_AT=step).wait(60) == -signal.SIGKILL
    assert app("idle").wait(60) == 0
    assert rows() == EXPECTED


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_lets_the_commit_finish(store: Store, number: signal.Signals, code: int) -> None:
    running = app("stopped")
    while not Path("orders.db").exists() or _written() < len(EXPECTED):
        assert running.poll() is None
        signal.sigtimedwait([], 0.02)
    running.send_signal(number)
    assert running.wait(60) == code
    assert rows() == EXPECTED


def _written() -> int:
    try:
        return len(rows())
    except sqlite3.Error:
        return 0


async def later(value: Any) -> Any:
    return value


def several(value: Any) -> Iterator[Any]:
    yield value


def two(first: Any, second: Any) -> Any:
    return first, second


MISUSES: dict[str, Callable[[Pipeline], object]] = {
    "map of text": lambda made: made.map("clean"),  # type: ignore[arg-type]
    "map of None": lambda made: made.map(None),  # type: ignore[arg-type]
    "map of a class": lambda made: made.map(dict),
    "asynchronous": lambda made: made.map(later),
    "generator": lambda made: made.filter(several),
    "two arguments": lambda made: made.map(two),
    "no source file": lambda made: made.map(len),
    "two sources": lambda made: made.from_source("a.jsonl").from_source("b.jsonl"),
    "no source at all": lambda made: made.from_source(),
    "source and command": lambda made: made.from_source("a.jsonl", command=["cat"]),
    "source of a number": lambda made: made.from_source(5),  # type: ignore[arg-type]
    "empty paths": lambda made: made.from_source([]),
    "unknown ending": lambda made: made.from_source("orders.txt"),
    "command of text": lambda made: made.from_source(command="cat x"),
    "asynchronous source": lambda made: made.from_source(later),  # type: ignore[arg-type]
    "source with an argument": lambda made: made.from_source(cents),  # type: ignore[arg-type]
    "headers": lambda made: made.from_source("a.jsonl", headers={"a": 1}),  # type: ignore[dict-item]
    "sink of nothing": lambda made: made.sink(key="id"),
    "sink of two": lambda made: made.sink("a.db", queue="q", key="id"),
    "two sinks": lambda made: made.sink("a.db", **SINK).sink("b.db", **SINK),
    "sink of a number": lambda made: made.sink(5, key="id"),  # type: ignore[arg-type]
    "run without a source": lambda made: made.sink("a.db", **SINK).run(),
    "run without a sink": lambda made: made.from_source("a.jsonl").run(),
    "no table": lambda made: made.from_source("a.jsonl").sink("a.db", key="id", columns={"a": "id"}).run(),
    "a key that is none": lambda made: made.from_source("a.jsonl").sink("a.db", **SINK | {"key": "id +"}).run(),
    "an id that is none": lambda made: made.from_source("a.jsonl", id="((").sink("a.db", **SINK).run(),
    "a column's name": lambda made: made.from_source("a.jsonl").sink("a.db", **SINK | {"columns": {"a b": "id"}}).run(),
    "half a surrogate": lambda made: made.from_source("a.jsonl", id="'\ud800'").sink("a.db", **SINK).run(),
    "a queue of this pipeline": lambda made: made.from_source("a.jsonl").sink(queue="p-in", key="id").run(),
    "until": lambda made: made.run(until="done"),
    "timeout": lambda made: made.run(timeout_s=-1),
    "visibility": lambda made: made.run(visibility_ms=0),
}
MADE: dict[str, dict[str, Any]] = {
    "name": {"name": "no name"},
    "name of another type": {"name": 5},
    "domain": {"domain": "A B"},
    "allow of text": {"allow": "aws"},
    "allow of numbers": {"allow": [1]},
    "replicas": {"replicas": ["aws"]},
    "on_error": {"on_error": "ignore"},
    "batch": {"batch": 0},
    "store": {"store": None},
}


@pytest.mark.parametrize("what", MISUSES)
def test_misuse_is_one_clear_sentence_and_makes_nothing(store: Store, what: str) -> None:
    with pytest.raises(Usage) as error:
        MISUSES[what](built(store))
    sentence = error.value.message
    assert sentence.endswith(".") and "\n" not in sentence and len(sentence) < 300, sentence
    assert store.queues.list().items == []


@pytest.mark.parametrize("what", MADE)
def test_what_no_pipeline_can_be_made_of_is_refused(store: Store, what: str) -> None:
    with pytest.raises(Usage) as error:
        asked: dict[str, Any] = {"name": "p", "store": store, "domain": AWS} | MADE[what]
        Pipeline(**asked)
    assert error.value.message.endswith(".") and "\n" not in error.value.message


def test_a_replica_where_no_domain_is_and_another_definition_are_refused(store: Store) -> None:
    with pytest.raises(Usage, match="mars"):
        built(store, replicas={"a": AWS, "m": "mars"}).from_source("orders.jsonl").sink("a.db", **SINK).run()
    built(store, replicas={"a": AWS, "g": GCP}).from_source("orders.jsonl", id="id").map(cents).sink(
        "a.db", **SINK
    ).run()
    with pytest.raises(GenerationConflict):
        built(store, replicas={"a": AWS}).from_source("orders.jsonl", id="id").map(cents).sink("a.db", **SINK).run()


def test_a_step_leaves_the_pipeline_as_it_was(store: Store) -> None:
    base = built(store).from_source("orders.jsonl", id="id").map(cents)
    small = Pipeline("small", store=store, domain=AWS).from_source("orders.jsonl", id="id").map(cents)
    base.filter(large)
    base.sink("all.db", **SINK).run()
    small.filter(lambda order: order["cents"] < 300).sink("small.db", **SINK).run()
    assert len(rows(file="all.db")) == 10 and len(rows(file="small.db")) == 3


def test_the_fingerprint_is_of_the_functions_in_their_order() -> None:
    def of(*steps: tuple[str, Callable[..., Any]]) -> str:
        return Chain([named(kind, function) for kind, function in steps]).fingerprint

    assert of((MAP, cents), (FILTER, large)) == of((MAP, cents), (FILTER, large))
    first, second = (
        (lambda value: value),
        (  # on two lines
            lambda value: None
        ),
    )
    others = [
        of((FILTER, large), (MAP, cents)),
        of((MAP, cents)),
        of((MAP, cents), (MAP, large)),
        of((MAP, first)),
        of((MAP, second)),
    ]
    assert len({of((MAP, cents), (FILTER, large)), *others}) == len(others) + 1


def test_a_store_may_be_named_by_its_path(store: Store, tmp_path: Path) -> None:
    made = Pipeline("p", store=tmp_path / "store", domain=AWS).from_source(orders, id="id").map(cents)
    made.filter(large).sink("orders.db", **SINK).run()
    assert rows() == EXPECTED
