"""Runs of `examples/mirrored-etl.toml` as real processes: its input, its store, its four processes, their memory."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from bench.child import status_mb
from bench.stores import GRAFCTL, ROOT, run_process, surroundings

EXAMPLE = "mirrored-etl.toml"
AWS, GCP = "aws/us-east-1", "gcp/us-central1"
BATCH = 5000  # as in the example
WATCH_S = 0.02
STALLED_S = 120.0


class Inputs(NamedTuple):
    """Both files, how many lines they have, and what the generator says must come out."""

    files: tuple[Path, ...]
    lines: int
    expected: dict[str, Any]


def inputs(folder: Path, scale: float) -> Inputs:
    """Makes the orders of both domains."""
    run_process(sys.executable, str(ROOT / "examples" / "order_feeds.py"), str(folder), "--scale", f"{scale:g}")
    told = json.loads((folder / "orders.expected.json").read_text())
    return Inputs(tuple(folder / name for name in told["lines"]), sum(told["lines"].values()), told)


def prepare(place: Path) -> None:
    """Makes a directory with the example and the store that it declares."""
    place.mkdir()
    for name in (EXAMPLE, "order.v1.schema.json"):
        shutil.copy(ROOT / "examples" / name, place)
    run_process(*GRAFCTL, "apply", str(place / EXAMPLE), "--store", str(place / "store"))


class Peak(NamedTuple):
    """The most memory in MB that a process had: all of it, and what is not pages of files, as often as we looked."""

    all_mb: float = 0.0
    own_mb: float = 0.0


def run_ours(place: Path, given: Inputs) -> dict[str, Peak]:
    """Runs the four processes until every order is in the warehouse; returns the most memory of each."""
    peaks: dict[str, Peak] = {}
    with started(place, given) as processes:
        began_s = moved_s = time.monotonic()
        rows = -1
        while rows < given.expected["rows"]:
            time.sleep(WATCH_S)
            for stage, process in processes.items():
                before = peaks.get(stage, Peak())
                now = (status_mb(field, process.pid) or 0.0 for field in ("VmHWM", "RssAnon"))
                peaks[stage] = Peak(*map(max, before, now))
                assert process.poll() in (None, 0), f"{stage} ended with {process.returncode}"
            found = rows_in(place / "warehouse.db")
            if found != rows:
                rows, moved_s = found, time.monotonic()
            assert time.monotonic() - moved_s < STALLED_S, f"{rows} rows after {moved_s - began_s:.0f} s, and no more"
    return peaks


@contextmanager
def started(place: Path, given: Inputs) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Starts two processes that ingest and one for each other stage, and asks them to leave at the end."""
    processes = {}
    for domain, file in zip((AWS, GCP), given.files, strict=True):
        with file.open("rb") as source:
            processes[f"ingest in {domain}"] = _start(place, "ingest", domain, source)
    processes["normalise"] = _start(place, "normalise", GCP)
    processes["warehouse"] = _start(place, "warehouse", AWS)
    try:
        yield processes
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait()


def _start(place: Path, stage: str, domain: str, source: IO[bytes] | int = subprocess.DEVNULL) -> Any:
    words = (*GRAFCTL, "pipeline", "run", EXAMPLE, "--stage", stage, "-d", domain, "--store", "store", "--quiet")
    return subprocess.Popen(words, cwd=place, env=surroundings(), stdin=source, stdout=subprocess.DEVNULL)


def rows_in(database: Path) -> int:
    """Returns how many rows there are, without making the database where it is not there yet."""
    try:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        ((count,),) = connection.execute("SELECT max(rowid) FROM orders").fetchall()
        connection.close()
    except sqlite3.Error:  # not there yet, or being made
        return 0
    return int(count or 0)
