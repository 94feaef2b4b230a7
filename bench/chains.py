"""The four stages of `examples/edges.toml` over edges, beside the same file with topics in their place.

A row in the warehouse is written once either way. What a topic adds is a copy in another domain of each record between
two stages, durable before the next stage sees it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from bench.pipeline_runs import AWS, Inputs, inputs, rows_in
from bench.rows import Row
from bench.stores import GRAFCTL, ROOT, run_process, surroundings
from bench.turns import in_turn, ratio

NAME = "chains: four stages that hand orders over on edges, beside the same with topics, to the last row"
EXAMPLE = "edges.toml"
STAGES = ("ingest", "parse", "enrich", "store")
SCALE = 0.02
ROUNDS = 3
WATCH_S = 0.02
STALLED_S = 120.0


def run() -> list[Row]:
    """Measures one process with all stages, and a process for each."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        given = inputs(folder / "feeds", SCALE)
        return [
            _compared(folder, given, "four processes", [[stage] for stage in STAGES]),
            _compared(folder, given, "one process", [STAGES]),
        ]


def _compared(folder: Path, given: Inputs, what: str, processes: Iterable[Iterable[str]]) -> Row:
    edges_s, topics_s = in_turn(
        ROUNDS,
        lambda: _run(folder, given, processes, "[[edge]]"),
        lambda: _run(folder, given, processes, "[[topic]]"),
    )
    note = f"{given.lines:,} events, {ROUNDS} rounds; {min(edges_s):.1f} s and {min(topics_s):.1f} s, starts included"
    return Row(f"a chain of edges in {what}", ratio(topics_s, edges_s), "x", None, "the same with topics", note)


def _run(folder: Path, given: Inputs, processes: Iterable[Iterable[str]], word: str) -> None:
    """Runs the stages until every order is in the warehouse."""
    place = folder / "place"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    (place / "feeds").symlink_to(folder / "feeds")
    text = (ROOT / "examples" / EXAMPLE).read_text()
    (place / EXAMPLE).write_text(text.replace("\n[[edge]]\n", f"\n{word}\n"))
    run_process(*GRAFCTL, "apply", str(place / EXAMPLE), "--store", str(place / "store"))
    running = [_start(place, stages) for stages in processes]
    try:
        _wait(place, given, running)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def _start(place: Path, stages: Iterable[str]) -> subprocess.Popen[bytes]:
    chosen = [word for stage in stages for word in ("--stage", stage)]
    words = (*GRAFCTL, "pipeline", "run", EXAMPLE, *chosen, "-d", AWS, "--store", "store", "--quiet")
    return subprocess.Popen(words, cwd=place, env=surroundings(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _wait(place: Path, given: Inputs, running: Iterable[subprocess.Popen[bytes]]) -> None:
    found, moved_s = -1, time.monotonic()
    while found < given.expected["rows"]:
        time.sleep(WATCH_S)
        before, found = found, rows_in(place / "warehouse.db")
        moved_s = time.monotonic() if found != before else moved_s
        assert all(process.poll() in (None, 0) for process in running), "a stage has ended"
        assert time.monotonic() - moved_s < STALLED_S, f"{found} rows, and no more"
