"""Whether work costs the same in a store with many records as in one with few, and what memory it takes.

Each store has processes of its own that stay, one that loads and one that works; so the memory is that of a process
which has met only one store. Both are loaded with batches of the same size, because a read takes a whole block.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import grafctl
from bench.child import SHORT, Child
from bench.rows import Row, Target
from bench.stores import DOMAINS, make, said
from bench.turns import ratio

NAME = "flatness: the same work with few records stored and with many"
FEW, MANY = 1000, 20_000_000
FILL_S_MAX = 200.0
ROUNDS = 31
COUNTS = {"publish": 20, "poll": 8, "status": 5, "open": 5}  # of each in a round
FLAT_MAX, MEMORY_MB_MAX = 1.10, 150

WHAT = {
    "publish": "publish of 1 KiB with many records stored",
    "poll": "poll and ack of 5 with many records stored",
    "status": "status with many records stored",
    "open": "open and read one record with many records stored",
}


def run() -> list[Row]:
    """Measures two stores in turn."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        workers, memory, began_s = [], [], time.monotonic()
        for size in (FEW, MANY):
            place = str(make(Path(name) / f"store-{size}", "orders"))
            with Child(place, "orders") as loader:
                loader.ask("limit", FILL_S_MAX)
                stored = int(loader.ask("fill", size))
                memory.append(loader.ask("memory"))
                own_mb = loader.ask("own_memory")
            with grafctl.open(place) as store:
                store.consumers.create("orders", "billing", allow=DOMAINS)
            workers.append(stack.enter_context(Child(place, "orders", "billing")))
        loaded_s = time.monotonic() - began_s
        times = {action: _in_turn(workers, action, count) for action, count in COUNTS.items()}
        memory += [worker.ask("memory") for worker in workers]
    note = f"{said(stored, MANY, 'records')} of {len(SHORT)} bytes; {ROUNDS} rounds"
    against, flat = f"{FEW:,} records stored", Target("<=", FLAT_MAX)
    most = Target("<=", MEMORY_MB_MAX)
    rows = [Row("loading the records in batches of 1,000", stored / loaded_s, "/s", None, "", f"{loaded_s:.0f} s")]
    for action, (few_s, many_s) in times.items():
        rows.append(Row(f"{action}, {FEW:,} records stored", median(few_s) / COUNTS[action] * 1e6, "us"))
        rows.append(Row(WHAT[action], ratio(many_s, few_s), "x", flat, against, note))
    made = f"{said(stored, MANY, 'records')}; the most it ever had, mapped pages included"
    rows.append(Row("memory of a process that loads", memory[1], "MB", most, "", made))
    rows.append(Row("memory of a process that works", memory[3], "MB", most, "", made))
    rows.append(Row("of a process that loads, what is not pages of files", own_mb, "MB"))
    return rows


def _in_turn(workers: list[Child], action: str, count: int) -> tuple[list[float], list[float]]:
    """Returns the seconds of each round in the store with few records and in the one with many."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS + 1):
        order = list(zip(workers, times, strict=True))
        for worker, found in order if number % 2 else reversed(order):
            took_s = worker.ask(action, count)
            if number:  # the first round fills the caches
                found.append(took_s)
    return times
