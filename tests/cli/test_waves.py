"""`consumer plan` and `consumer wave` as processes: what they print, how they end, and Ctrl-C in the middle."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from conftest import Runner

from cli.golden_waves import MADE

AWS = "aws/us-east-1"
WAVE = ("consumer", "wave", "wave.toml", "-d", AWS)


@pytest.fixture
def store(run: Runner) -> Path:
    """A store with one consumer, whose outputs hold the same record."""
    (run.cwd / "wave.toml").write_text(MADE)
    run("apply", "wave.toml", store="store")
    for queue in ("old", "new"):
        run("publish", queue, "a", "--id", "1", "-d", AWS, store="store")
    return run.cwd / "store"


def test_a_wave_says_what_it_does_and_what_came_of_it(run: Runner, store: Path) -> None:
    assert "1. attach billing" in run(*WAVE, "--dry-run", store=store).out
    done = run(*WAVE, store=store)
    assert done.out.splitlines()[-3:] == [
        "Wave w: 1 locked",
        "CONSUMER  STATE   STANDING",
        "billing   locked  locked",
    ]
    assert done.out.startswith("billing: soaking (generation ") and "billing: locked (generation " in done.out
    assert run(*WAVE, store=store).out.startswith("Wave w: 1 locked")
    assert "locked" in run("consumer", "plan", "wave.toml", store=store).out


def test_each_change_is_a_line_of_json(run: Runner, store: Path) -> None:
    *events, last = run(*WAVE, "-o", "jsonl", store=store).jsonl
    assert [event["state"] for event in events] == ["source", "soaking", "locked"]
    assert {event["event"] for event in events} == {"state"} and {event["consumer"] for event in events} == {"billing"}
    assert (last["wave"], last["changed"], last["consumers"][0]["standing"]) == ("w", True, "locked")


def test_who_was_left_behind_is_an_exit_code(run: Runner, store: Path) -> None:
    run("publish", "old", "b", "--id", "2", "-d", AWS, store=store)
    ended = run(*WAVE, "--json", store=store, check=19)
    assert ended.json["consumers"][0]["standing"] == "blocked" and ended.error["behind"] == ["billing"]
    said = run(*WAVE, store=store, check=19)
    assert (
        "Wave w: 1 blocked" in said.out and "1 of 1 consumers of wave w are not at their target: billing." in said.err
    )
    planned = run("consumer", "plan", "wave.toml", store=store).out
    assert "blocked" in planned and "1 mismatch" in planned


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_wave_and_the_same_command_goes_on(run: Runner, store: Path, signum: int, code: int) -> None:
    (run.cwd / "slow.toml").write_text(MADE.replace('window = "1ms"', 'window = "10m"'))
    process = run.start("consumer", "wave", "slow.toml", "-d", AWS, "-o", "jsonl", store=store)
    try:
        assert process.stdout is not None
        while json.loads(process.stdout.readline())["state"] != "soaking":
            pass
        process.send_signal(signum)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code and b"Run the same command again" in err
    soaking = run("consumer", "wave", "slow.toml", "-d", AWS, "--dry-run", "--json", store=store).json
    assert [action.split()[0] for action in soaking["actions"]] == ["watch", "lock"]
    run("consumer", "rollback", "billing", "-d", AWS, store=store)
    assert run("consumer", "wave", "slow.toml", "-d", AWS, store=store, check=19).out.endswith("went back  rollback\n")


@pytest.mark.parametrize(
    "name", ["", "absent.toml", ".", "a\nb", "x" * 5000], ids=["empty", "absent", "folder", "lines", "huge"]
)
def test_a_file_that_is_none(run: Runner, name: str) -> None:
    assert not run("consumer", "plan", name, check=2).out
    assert not run("consumer", "wave", name, "-d", AWS, store="store", check=2).out


def test_what_is_wrong_with_a_file_is_told_by_line(run: Runner, store: Path) -> None:
    (run.cwd / "bad.toml").write_text(MADE.replace('risk = "low"', 'risk = "tiny"').replace('shape = "orders"', ""))
    for words in (("plan", "bad.toml"), ("wave", "bad.toml", "-d", AWS)):
        ended = run("consumer", *words, store=store, check=78)
        lines = [line.partition(": ")[0] for line in ended.err.splitlines() if line.startswith("bad.toml:")]
        assert lines == ["bad.toml:6", "bad.toml:11"] and not ended.out
    run("consumer", "wave", "wave.toml", store=store, check=2)
    run("consumer", "wave", "wave.toml", "-d", "gcp", store=store, check=11)
