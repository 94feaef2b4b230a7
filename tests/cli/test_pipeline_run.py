"""`pipeline run` as processes: stopped, interrupted, killed, several at once, and what they leave and print."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Runner
from pipeline.shop import Shop, orders, rows_of, shop

POINTS = ["stage.leased", "append.before", "append.after", "step.appended", "stage.committed", "driver.commit.after"]


@pytest.fixture
def ours(run: Runner) -> Iterator[Shop]:
    with shop(run.cwd, "lmdb", take='dead_letter = "aside"') as made:
        yield made


def _command(ours: Shop, *words: str, domain: str = "aws") -> tuple[str, ...]:
    assert ours.pipeline
    return ("pipeline", "run", str(ours.folder / "shop.toml"), "-s", str(ours.world.directory), "-d", domain, *words)


def _wait_for_rows(ours: Shop, count: int) -> None:
    until = time.monotonic() + 60
    while len(ours.rows()) < count:
        assert time.monotonic() < until, f"only {len(ours.rows())} rows"
        time.sleep(0.05)


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_the_commit_under_way_finish(run: Runner, ours: Shop, number: int, code: int) -> None:
    ours.orders(*orders(range(40)))
    started = run.start(*_command(ours, "--json"))
    _wait_for_rows(ours, 1)
    started.send_signal(number)
    out, said = started.communicate(timeout=60)
    assert started.returncode == code, said
    counts = {row["stage"]: row for row in json.loads(out)["stages"]}
    assert counts["load"]["written"] == len(ours.rows()) and b"is committed" in said
    groups = ours.world.store.status().body["resources"]
    assert all(group["leased"] == 0 for item in groups for group in item["groups"]), "nothing waits for a lease"
    run(*_command(ours, "--until-idle", domain="gcp"))
    assert ours.rows() == rows_of(range(40)) and ours.is_whole()


@pytest.mark.parametrize("step", [f"{name}:{hit}" for name in POINTS for hit in (1, 4)] + ["sink.committed:1"])
def test_whoever_is_killed_is_followed_in_another_domain(run: Runner, ours: Shop, step: str) -> None:
    ours.orders(*orders(range(23)), "no json", *orders(range(3)))
    killed = run.start(*_command(ours, "--until-idle"), env={"GRAFCTL_KILL_AT": step})
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    done = run(*_command(ours, "--until-idle", domain="gcp"), env={"GRAFCTL_CLOCK_OFFSET_MS": "3600000"})
    assert done.code == 0
    assert ours.rows() == rows_of(range(23))
    assert [record.payload for record in ours.records("aside")] == [b"no json"]
    assert len({record.id for record in ours.records("clean")}) == len(ours.records("clean")) == 23
    assert ours.is_whole()


def test_workers_share_what_there_is(run: Runner, ours: Shop) -> None:
    ours.orders(*orders(range(60)))
    ended = run(*_command(ours, "--workers", "3", "--until-idle", "--json"))
    counts = {row["stage"]: row for row in ended.json["stages"]}
    assert (ended.json["workers"], counts["take"]["written"], counts["load"]["written"]) == (3, 60, 60)
    assert ours.rows() == rows_of(range(60))


def test_workers_end_together(run: Runner, ours: Shop) -> None:
    ours.orders(*orders(range(5)))
    started = run.start(*_command(ours, "--workers", "2"))
    _wait_for_rows(ours, 5)
    started.send_signal(signal.SIGTERM)
    started.communicate(timeout=60)
    assert started.returncode == 143
    refused = run(*_command(ours, "--workers", "2", "--stage", "tidy", domain="azure"), check=11)
    assert not refused.out


def test_standard_input_is_a_source(run: Runner, ours: Shop) -> None:
    file = ours.folder / "shop.toml"
    assert ours.pipeline
    file.write_text(file.read_text().replace('path = "orders.jsonl"', 'path = "-"'))
    words = ("pipeline", "run", str(file), "-s", str(ours.world.directory), "-d", "aws", "--until-idle", "--json")
    feed = "".join(json.dumps(order) + "\n" for order in orders(range(9))) + "no json\n"
    ended = run(*words, input=feed)
    assert {row["stage"]: row["refused"] for row in ended.json["stages"]}["take"] == 1
    assert ours.records("aside")[0].headers["place"] == "stdin:10"
    assert ours.rows() == rows_of(range(9))


def test_what_is_wrong_is_told_before_anything_is_read(run: Runner, ours: Shop) -> None:
    assert "orders.jsonl" in run(*_command(ours, "--stage", "take", "--once"), check=10).err
    ours.orders(*orders(range(2)))
    assert "azure may not run take" in run(*_command(ours, "--stage", "take", domain="azure"), check=11).err
    run(*_command(ours, "--workers", "0"), check=2)
    run(*_command(ours, "--workers", "65"), check=2)
    run(*_command(ours, "--timeout", "x"), check=2)
    assert run(*_command(ours, "--stage", "load", "--timeout", "300ms"), check=24).err
    assert not ours.records("raw")


def test_progress_is_told_as_it_goes(run: Runner, ours: Shop) -> None:
    ours.orders(*orders(range(200)))
    lines: list[Any] = run(*_command(ours, "--until-idle", "-o", "jsonl")).jsonl
    assert lines[-1]["stages"][0]["written"] == 200
    assert all(line["state"] == "running" for line in lines[:-1])


def test_status_and_tap_look_without_taking(run: Runner, ours: Shop) -> None:
    ours.orders(*orders(range(12)))
    run(*_command(ours, "--stage", "take", "--once"))
    at = ("-s", str(ours.world.directory))
    file = str(ours.folder / "shop.toml")
    rows = {row["stage"]: row for row in run("pipeline", "status", file, *at, "--json").json["stages"]}
    assert (rows["take"]["records"], rows["tidy"]["lag"], rows["load"]["lag"]) == (12, 12, 0)
    seen = run("pipeline", "tap", file, "take", *at, "-d", "gcp", "--max", "2", "--json").json["records"]
    assert [record["offset"] for record in seen] == [10, 11]
    assert "sqlite" in run("pipeline", "tap", file, "load", *at, "-d", "gcp", check=2).err
    run("pipeline", "tap", file, "take", *at, "-d", "azure", check=11)
    assert not (ours.folder / "rows.db").exists()
