"""What one command costs as a process of its own, beside the least that a durable write in Python can cost.

Both processes commit one record durably. They run in turn, so that a machine that is busy for a while slows down both,
and medians are compared.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.rows import Row, Target

NAME = "startup: one `grafctl publish`, as a process"
ROUNDS = 30
MORE_MS_MAX = 60

# What the script that an installer writes for `grafctl` does; `python -m grafctl` imports runpy on top.
GRAFCTL = "import sys; from grafctl.__main__ import main; sys.exit(main())"
RAW = """
import lmdb, sys
with lmdb.open(sys.argv[1], map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
    transaction.put(sys.argv[2].encode(), b"created")
"""
EMPTY = "pass"


def run() -> list[Row]:
    """Measures processes in turn."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        store = Path(name) / "store"
        _run(GRAFCTL, "init", str(store), "--domain", "aws", "--domain", "gcp")
        replicas = ("--replica", "a=aws", "--replica", "b=gcp")
        _run(
            GRAFCTL, "queue", "create", "orders", "-s", str(store), "--schema", "order.v1", "--allow", "aws", *replicas
        )
        times = _in_turn(store, Path(name) / "raw")
    empty, raw, version, publish = (median(found) * 1000 for found in times)
    return [
        Row("python -c pass", empty, "ms"),
        Row("python -c 'import lmdb; open; put; commit'", raw, "ms"),
        Row("grafctl --version", version, "ms"),
        Row("grafctl publish, durable in two domains", publish, "ms"),
        Row("grafctl publish more than raw lmdb", publish - raw, "ms", Target("<=", MORE_MS_MAX)),
    ]


def _in_turn(store: Path, raw: Path) -> tuple[list[float], ...]:
    """Returns the seconds of each round: empty process, raw lmdb, version, publish."""
    times: tuple[list[float], ...] = ([], [], [], [])
    for number in range(ROUNDS + 1):
        commands = (
            (EMPTY,),
            (RAW, str(raw), f"order-{number}"),
            (GRAFCTL, "--version"),
            (GRAFCTL, "publish", "orders", "created", "--id", f"order-{number}", "-d", "aws", "-s", str(store)),
        )
        for command, found in zip(commands, times, strict=True):
            took_s = _run(*command)
            if number:  # the first round fills the caches
                found.append(took_s)
    return times


def _run(source: str, *words: str) -> float:
    """Runs one process to its end and returns how many seconds it took."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GRAFCTL_", "PYTHONDONT"))}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", source, *words], env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
