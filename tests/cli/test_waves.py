"""`consumer plan` and `consumer wave` as processes: what they print, how they end, and Ctrl-C in the middle."""

from __future__ import annotations

import json
import os
import pty
import signal
from pathlib import Path

import pytest
from conftest import Runner

from cli.golden_waves import MADE
from grafctl import render_waves
from grafctl.errors import ConfirmationRequired
from grafctl.results import Shown

AWS = "aws/us-east-1"
UNASKED = ("consumer", "wave", "wave.toml", "-d", AWS)
WAVE = (*UNASKED, "--yes")


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
    process = run.start("consumer", "wave", "slow.toml", "-d", AWS, "--yes", "-o", "jsonl", store=store)
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
    again = run("consumer", "wave", "slow.toml", "-d", AWS, store=store, check=19)  # nobody is left to be locked
    assert again.out.endswith("went back  rollback\n")


def test_who_is_to_be_locked_is_asked_for_once(run: Runner, store: Path) -> None:
    before = run("consumer", "status", "--json", store=store).json
    refused = run(*UNASKED, "--json", store=store, check=15)
    assert refused.error["message"] == (
        "This needs --yes: Lock billing at its target when its window is over? There is no way back after it; "
        "--no-lock leaves it to you."
    )
    assert not refused.out and run("consumer", "status", "--json", store=store).json == before
    assert "waits to be locked" in run(*UNASKED, "--no-lock", store=store).out
    run(*UNASKED, store=store, check=15)
    run(*WAVE, store=store)
    assert "1 locked" in run(*UNASKED, store=store).out, "nobody is left to be locked"


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 15)])
def test_a_terminal_is_asked_before_a_wave(run: Runner, store: Path, answer: bytes, code: int) -> None:
    leader, follower = pty.openpty()
    try:
        process = run.start(*UNASKED, store=store, stdin=follower, stderr=follower)
        os.close(follower)
        asked = b""
        while b"[y/N]" not in asked:
            asked += os.read(leader, 1000)
        assert b"Lock billing at its target" in asked
        os.write(leader, answer)
        out, _ = process.communicate(timeout=60)
    finally:
        os.close(leader)
    assert process.returncode == code and (b"1 locked" in out) == (code == 0)


@pytest.mark.parametrize("count", [2, 20, 21, 1000])
def test_the_names_that_are_asked_for_fit_a_line(count: int) -> None:
    rows = [{"consumer": f"c{number}", "standing": "waiting"} for number in range(count)]
    done = [{"consumer": "done", "standing": "locked"}, {"consumer": "back", "standing": "went_back"}]
    with pytest.raises(ConfirmationRequired) as asked:
        render_waves.confirm(Shown({"consumers": [*done, *rows]}))
    others = f" and {count - 20:,} others" if count > 20 else ""
    assert f"Lock c0, c1{'' if count == 2 else ', c2'}" in asked.value.message
    assert f"c{min(count, 20) - 1}{others} at their targets as their windows end?" in asked.value.message


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
    run("consumer", "wave", "wave.toml", "-d", "gcp", "--yes", store=store, check=11)
