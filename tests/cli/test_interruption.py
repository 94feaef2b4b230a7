"""A publish that is interrupted while its append is under way says what became of the record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import Runner

SIGNALS = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


def stopped_in(run: Runner, point: str, *words: str) -> subprocess.Popen[bytes]:
    """Starts a publish and returns when it has stopped itself at a named step of its append."""
    words = ("publish", "q", "created", "--id", "order-1", "-d", "aws", *words)
    started = run.start(*words, store="store", env={"GRAFCTL_STOP_AT": f"{point}:1"})
    os.waitid(os.P_PID, started.pid, os.WSTOPPED | os.WNOWAIT)
    return started


def go_on(started: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    started.send_signal(signal.SIGCONT)
    out, said = started.communicate(timeout=30)
    return started.returncode, out, said


def count(run: Runner) -> int:
    return len(run("peek", "q", "-d", "aws", "--json", store="store").json["records"])


@SIGNALS
@pytest.mark.parametrize("point", ["append.before", "append.after", "append.committed"])
def test_an_interrupted_publish_prints_its_offset(
    run: Runner, store: Path, point: str, number: signal.Signals, code: int
) -> None:
    started = stopped_in(run, point, "--json")
    started.send_signal(number)
    ended, out, said = go_on(started)
    assert (ended, json.loads(out)["offset"], json.loads(said)["outcome"]) == (code, 0, "published")
    assert count(run) == 1


def test_people_read_the_offset_and_that_it_is_published(run: Runner, store: Path) -> None:
    started = stopped_in(run, "append.after")
    started.send_signal(signal.SIGINT)
    ended, out, said = go_on(started)
    assert (ended, out) == (130, b"offset 0 (durable in aws, gcp)\n")
    assert said == b"error: Interrupted.\nThe record is published.\n"


def test_an_interrupted_publish_without_a_quorum_says_that_nobody_knows(run: Runner, store: Path) -> None:
    started = stopped_in(run, "append.after", "--json")
    run("domain", "fail", "gcp", store="store")
    started.send_signal(signal.SIGINT)
    ended, out, said = go_on(started)
    assert (ended, out, json.loads(said)["outcome"]) == (130, b"", "unknown")
    run("domain", "restore", "gcp", store="store")
    again = run("publish", "q", "created", "--id", "order-1", "-d", "aws", "--json", store="store").json
    assert again["offset"] == 0 and count(run) == 1


def test_an_interrupted_refusal_says_that_nothing_was_written(run: Runner, store: Path) -> None:
    run("publish", "q", "other", "--id", "order-1", "-d", "aws", store="store")
    started = stopped_in(run, "append.committed", "--json")
    started.send_signal(signal.SIGTERM)
    ended, out, said = go_on(started)
    assert (ended, out, json.loads(said)["outcome"]) == (143, b"", "not_written")
    assert count(run) == 1


def test_whoever_insists_is_obeyed_at_once(run: Runner, store: Path) -> None:
    started = stopped_in(run, "append.after", "--json")
    for number in (signal.SIGINT, signal.SIGTERM):
        started.send_signal(number)
    ended, out, said = go_on(started)
    assert ended in (130, 143) and (out, json.loads(said)["outcome"]) == (b"", "unknown")
