"""Ctrl-C and SIGTERM in each phase of a migration: writers go on, the copy is kept, and the command says which one
goes on.

Real processes: each stops itself at a named step, gets its signal there, and goes on.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from conftest import Runner

from cli.test_interrupted_changes import CODES, interrupted

WIDE = "--write-pause-budget 30s --lock-wait 30s -q"
MOVE = f"vshard migrate t 0 --to azure -d aws {WIDE}"
# The step, the state in which the vshard is left there, and what the command calls that.
PHASES = [
    ("append.before:1", "idle", "not_written"),
    ("moving.received:1", "base_copy", "kept"),
    ("moving.copied:1", "wal_catchup", "kept"),
    ("moving.replayed:1", "wal_catchup", "kept"),
    ("moving.sealed:1", "wal_catchup", "kept"),
    ("moving.drained:1", "wal_catchup", "kept"),
    ("moving.flipped:1", "cutover", "kept"),
    ("moving.routed:1", "cutover", "kept"),
    ("moving.opened:1", "completed", "done"),
]


@pytest.fixture
def table(run: Runner) -> Path:
    run("init", "store", "-d", "aws", "-d", "gcp", "-d", "azure")
    run("authority", "keygen", "watch")
    run("authority", "add", "watch", "--public-key", "watch.pub", store="store")
    run("health", "observe", "azure", "healthy", "--authority", "watch", "--key-file", "watch.key", store="store")
    places = "--replica a=aws --replica g=gcp --allow aws --allow gcp --allow azure --vshards 2"
    run("table", "create", "t", *places.split(), store="store")
    for key in range(6):
        run("table", "put", "t", key, f"value {key}", "-d", "aws", store="store")
    return run.cwd / "store"


def state_of(run: Runner, vshard: int = 0) -> str:
    return str(run("vshard", "show", "t", vshard, "--json", store="store").json["state"])


@pytest.mark.parametrize(("step", "state", "outcome"), PHASES, ids=[step for step, _, _ in PHASES])
def test_each_phase_is_left_with_writers_going_on(
    run: Runner, table: Path, step: str, state: str, outcome: str
) -> None:
    number = signal.SIGINT if PHASES.index((step, state, outcome)) % 2 else signal.SIGTERM
    code, out, said = interrupted(run, MOVE, step, number)
    body = json.loads(said)
    assert (code, out, body["outcome"]) == (CODES[number], "", outcome), said
    assert state_of(run) == state
    if outcome == "kept":
        assert "`grafctl vshard resume t 0 -d aws`" in body["notes"][0]
    for key in range(6):  # some of them are of vshard 0, and none waits for an operator who is gone
        run("table", "put", "t", key, "later", "-d", "gcp", "--timeout", "20s", store="store")
    done = run(*MOVE.split(), "--json", store="store").json
    assert (done["state"], done["owner"]) == ("completed", ["azure"])
    assert run("table", "count", "t", "--json", store="store").json["count"] == 6
    assert run("verify", "--exit-code", store="store").code == 0


@pytest.mark.parametrize("step", ["moving.copied:1", "moving.sealed:1", "moving.flipped:1"])
def test_what_is_left_is_cancelled_or_was_flipped(run: Runner, table: Path, step: str) -> None:
    interrupted(run, MOVE, step, signal.SIGINT)
    is_flipped = step.startswith("moving.flipped")
    ended = run("vshard", "cancel", "t", "0", "-d", "gcp", "--json", store="store", check=13 if is_flipped else 0)
    if not is_flipped:
        assert (ended.json["state"], ended.json["owner"], state_of(run)) == ("cancelled", ["aws", "gcp"], "idle")
    assert run("table", "count", "t", "--json", store="store").json["count"] == 6


def test_a_pause_is_finished_when_several_are_moved(run: Runner, table: Path) -> None:
    slow = f"vshard migrate t 1 --to azure -d aws --rate 1 {WIDE}"  # so that the second one is never there first
    interrupted(run, slow, "moving.received:1", signal.SIGINT)
    run(*MOVE.split(), "--hold-cutover", store="store")
    code, out, said = interrupted(run, "vshard resume t -d aws", "moving.sealed:1", signal.SIGINT)
    body = json.loads(said.splitlines()[-1])
    assert (code, body["outcome"]) == (130, "kept") and "stopping between two steps" in said
    assert [item["vshard"] for item in json.loads(out)["migrations"]] == [0]
    assert [state_of(run, vshard) for vshard in (0, 1)] == ["completed", "base_copy"]
    assert body["notes"][0] == "vshard 0 of t: completed, it is done."
    assert "`grafctl vshard resume t 1 -d aws` goes on" in body["notes"][1]


@pytest.mark.parametrize("verb", ["resume", "cutover"])
def test_whoever_goes_on_is_interrupted_alike(run: Runner, table: Path, verb: str) -> None:
    run(*MOVE.split(), "--hold-cutover", store="store")
    code, _, said = interrupted(run, f"vshard {verb} t 0 -d aws", "moving.sealed:1", signal.SIGTERM, is_json=False)
    assert (code, state_of(run)) == (143, "wal_catchup")
    assert "vshard 0 of t: wal_catchup, the copy is kept and writers go on; `grafctl vshard resume t 0 -d aws`" in said
    run("vshard", verb, "t", "0", "-d", "aws", *WIDE.split(), store="store")
    assert state_of(run) == "completed"


def test_a_way_back_that_is_interrupted_goes_on(run: Runner, table: Path) -> None:
    run(*MOVE.split(), store="store")
    back = f"vshard reverse t 0 -d aws {WIDE}"
    code, _, _ = interrupted(run, back, "moving.drained:1", signal.SIGINT)
    assert (code, state_of(run)) == (130, "wal_catchup")
    assert run(*back.split(), "--json", store="store").json["state"] == "reversed"


@pytest.mark.parametrize("step", ["moving.forgotten:1", "moving.dropped:1", "append.committed:1"])
def test_a_retire_that_is_interrupted_goes_on(run: Runner, table: Path, step: str) -> None:
    run(*MOVE.split(), store="store")
    retire = "vshard retire t 0 -d aws --yes"
    code, _, said = interrupted(run, retire, step, signal.SIGINT)
    if code == 130:  # a copy of a few rows is dropped in one step
        assert "same command again" in json.loads(said)["notes"][0]
    run(*retire.split(), store="store")
    assert run(*retire.split(), "--json", store="store").json["changed"] is False
    assert run("verify", "--exit-code", store="store").code == 0


def test_a_cancel_that_is_interrupted_goes_on(run: Runner, table: Path) -> None:
    run(*MOVE.split(), "--hold-cutover", store="store")
    code, _, said = interrupted(run, "vshard cancel t 0 -d aws", "moving.cancelling:1", signal.SIGINT)
    assert (code, state_of(run)) == (130, "cancelled")
    assert "`grafctl vshard cancel t 0 -d aws` goes on" in json.loads(said)["notes"][0]
    assert run("vshard", "cancel", "t", "0", "-d", "aws", "--json", store="store").json["changed"] is True
    assert state_of(run) == "idle"
