"""Sinks killed in the middle of commits: what was told as written is there, and every row is there once in the end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.warehouses import KINDS, held

ROOT = Path(__file__).resolve().parents[2]
ROWS, BATCH = 6_000, 50
KILLS = 12

# Gives rows from one on, some of which are there by then, as a stage does that was killed before it could note how far
# it was; says after each commit how far it is. Where told so, it kills itself at a flush of the file of lines: before
# it, after it, or after a part of what was written was lost.
WRITER = """
import os, signal, sys
from pathlib import Path
from grafctl.errors import Busy
from pipeline.warehouses import open_at, row
kind, path, when, (first, rows, batch, at) = sys.argv[1], Path(sys.argv[2]), sys.argv[3], map(int, sys.argv[4:])
sink = open_at(kind, path)
flush, left = os.fsync, [at]
def fsync(descriptor):
    left[0] -= 1
    if at and left[0] == 0:
        if when == "torn":
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - 7)
        if when == "after":
            flush(descriptor)
        os.kill(os.getpid(), signal.SIGKILL)
    flush(descriptor)
os.fsync = fsync
if when == "start":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    print("ready", flush=True)
    signal.sigwait([signal.SIGUSR1])
for start in range(first, rows, batch):
    while True:
        try:
            sink.commit([row(sink, number) for number in range(start, min(rows, start + batch))])
            break
        except Busy:  # as a stage does where another one is writing
            assert when == "start"
    print(start + batch, flush=True)
sink.close()
"""


def writer(
    kind: str, path: Path, rows: int, batch: int, *, first: int = 0, when: str = "", at: int = 0
) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "-c", WRITER, kind, str(path), when, *map(str, (first, rows, batch, at))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)


def finish(kind: str, path: Path, rows: int, batch: int) -> None:
    with writer(kind, path, rows, batch) as last:
        assert last.communicate()[0].split()[-1] == b"%d" % rows and last.returncode == 0
    assert held(kind, path) == [(number, f"name {number}") for number in range(rows)]


def numbers(kind: str, path: Path) -> list[int]:
    """Returns the rows that are there after a kill; of a file of lines, the whole ones."""
    if kind != "jsonl":
        return [number for number, _ in held(kind, path)]
    return [json.loads(line)["number"] for line in path.read_bytes().split(b"\n")[:-1]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_sink_killed_at_any_moment_loses_no_row_and_writes_none_twice(tmp_path: Path, kind: str) -> None:
    dice, path, told = random.Random(kind), tmp_path / "w", 0
    for _ in range(KILLS):
        first = max(0, told - 3 * BATCH)
        with writer(kind, path, ROWS, BATCH, first=first) as child:
            assert child.stdout is not None
            for _ in range(dice.randrange(4, 12)):
                told = max(told, int(child.stdout.readline() or 0))
            time.sleep(dice.random() * 0.003)
            child.kill()
            told = max([told, *map(int, child.stdout.read().split())])
        there = numbers(kind, path)
        assert there == [*range(len(there))] and told <= len(there)
    finish(kind, path, ROWS, BATCH)


@pytest.mark.parametrize("when", ["before", "after", "torn"])
@pytest.mark.parametrize("at", [1, 2, 5])
def test_lines_that_were_not_committed_are_cut_off_and_come_again(tmp_path: Path, when: str, at: int) -> None:
    path = tmp_path / "w"
    for _ in range(3):
        with writer("jsonl", path, 100, 10, when=when, at=at) as child:
            child.communicate()
            assert child.returncode in (-9, 0)
    assert path.read_bytes()
    finish("jsonl", path, 100, 10)


@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
def test_two_processes_write_each_row_once_between_them(tmp_path: Path, kind: str) -> None:
    """Both at once, from their first commit on. DuckDB lets one in at a time, so it is not asked."""
    path = tmp_path / "w"
    finish(kind, path, 1, 1)
    both = [writer(kind, path, 1000, 3, when="start") for _ in range(2)]
    for child in both:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    for child in both:
        child.send_signal(signal.SIGUSR1)
    for child in both:
        assert child.communicate()[0].split()[-1] == b"1002" and child.returncode == 0
    assert sorted(held(kind, path)) == [(number, f"name {number}") for number in range(1000)]
