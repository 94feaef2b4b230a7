"""How much many callers at once get through, beside one: the same store, the same records, the same seconds."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import grafctl
from bench.child import Child, publish_for
from bench.rows import Row, Target
from bench.stores import make, payload
from bench.turns import ratio

NAME = "publishers: 32 threads and 8 processes, each publishing one record after another"
ROUNDS, SECONDS = 7, 1.0  # seconds of each side in each round
THREADS, PROCESSES = 32, 8
THREADS_MIN, PROCESSES_MIN = 6.0, 2.0


def run() -> list[Row]:
    """Measures one caller, threads and processes in turn."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        place = make(Path(name) / "store", "orders")
        children = [stack.enter_context(Child(str(place), "orders")) for _ in range(PROCESSES)]
        store = stack.enter_context(grafctl.open(place))
        record = payload()
        pool = stack.enter_context(ThreadPoolExecutor(THREADS))
        sides: list[Callable[[], float]] = [
            lambda: publish_for(store, "orders", record, SECONDS),
            lambda: sum(pool.map(lambda _: publish_for(store, "orders", record, SECONDS), range(THREADS))),
            lambda: _together(children),
        ]
        rates: list[list[float]] = [[] for _ in sides]
        for number in range(ROUNDS + 1):
            for side, found in zip(sides, rates, strict=True):
                rate = side()
                if number:  # the first round fills the caches
                    found.append(rate)
    one, threads, processes = rates
    against, note = "one caller in the same run", f"{ROUNDS} rounds of {SECONDS:g} s each"
    at_least = Target(">=", THREADS_MIN), Target(">=", PROCESSES_MIN)
    return [
        Row("one caller", median(one), "/s"),
        Row(f"{THREADS} threads", median(threads), "/s"),
        Row(f"{PROCESSES} processes", median(processes), "/s"),
        Row("32 concurrent publishers, threads of one process", ratio(threads, one), "x", at_least[0], against, note),
        Row("8 concurrent publishers, each a process", ratio(processes, one), "x", at_least[1], against, note),
    ]


def _together(children: list[Child]) -> float:
    for child in children:
        child.begin("publish_for", SECONDS)
    return sum(child.answer() for child in children)
