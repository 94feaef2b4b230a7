"""What one command costs as a process of its own, beside the least that a process can cost.

The processes run in turn, so that a machine that is busy for a while slows down all of them, and the median of the
differences is taken.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path
from statistics import median

import grafctl
from bench.rows import Row, Target
from bench.stores import GRAFCTL, add_queue, make, run_process
from bench.turns import in_turn

NAME = "startup: grafctl as a process of its own, through the entry that an installer writes"
ROUNDS = 25
RESOURCES = 100
PUBLISH_MS_MAX, HELP_MS_MAX, STATUS_MS_MAX = 45, 60, 150

RAW = """
import lmdb, sys
with lmdb.open(sys.argv[1], map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
    transaction.put(sys.argv[2].encode(), b"created")
"""


def run() -> list[Row]:
    """Measures processes in turn."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        store = str(make(Path(name) / "store", "orders"))
        many = make(Path(name) / "many")
        with grafctl.open(many) as opened:
            for number in range(RESOURCES):
                add_queue(opened, f"queue-{number:03}")
        keys = (f"order-{number}" for number in itertools.count())
        times = in_turn(
            ROUNDS,
            lambda: run_process(sys.executable, "-c", "pass"),
            lambda: run_process(sys.executable, "-c", RAW, f"{name}/raw", next(keys)),
            lambda: run_process(*GRAFCTL, "publish", "orders", "created", "--id", next(keys), "-d", "aws", "-s", store),
            lambda: run_process(*GRAFCTL, "--help"),
            lambda: run_process(*GRAFCTL, "status", "-s", str(many)),
        )
    empty, raw, publish, aid, status = times
    start, note = "`python -c pass`", f"{ROUNDS} rounds"
    commit = "bare python that opens an environment and commits"
    resources = f"{RESOURCES} resources, {note}"
    return [
        Row("python -c pass", median(empty) * 1000, "ms"),
        Row("python -c 'import lmdb; open; put; commit'", median(raw) * 1000, "ms"),
        Row("grafctl publish", median(publish) * 1000, "ms"),
        Row("grafctl publish, one process", _more_ms(publish, raw), "ms", Target("<=", PUBLISH_MS_MAX), commit, note),
        Row("grafctl --help", _more_ms(aid, empty), "ms", Target("<=", HELP_MS_MAX), start, note),
        Row("grafctl status", _more_ms(status, empty), "ms", Target("<=", STATUS_MS_MAX), start, resources),
    ]


def _more_ms(ours: list[float], bare: list[float]) -> float:
    return median(mine - theirs for mine, theirs in zip(ours, bare, strict=True)) * 1000
