"""What one publish costs beside what the disk asks for: the same bytes, as many durable commits, py-lmdb alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import grafctl
from bench.rows import Row, Target
from bench.stores import make, payload, raw
from bench.turns import in_turn, ratio

NAME = "single: one durable publish after another, one caller, Python API"
ROUNDS, PUBLISHES = 40, 25  # in each round
RATIO_MIN = 0.9


def run() -> list[Row]:
    """Measures publishes of one record into two domains."""
    record = payload()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        with raw(directory) as pair, grafctl.open(make(directory / "store", "orders")) as store:

            def commits() -> None:
                for _ in range(PUBLISHES):
                    pair.commit(record)

            def publishes() -> None:
                for _ in range(PUBLISHES):
                    store.publish("orders", record, domain="aws")

            raw_s, ours_s = in_turn(ROUNDS, commits, publishes)
    against, note = "py-lmdb: a commit in each of two environments in turn", f"{ROUNDS} rounds of {PUBLISHES}"
    return [
        Row("py-lmdb, two commits of 1 KiB in turn", median(raw_s) / PUBLISHES * 1e6, "us"),
        Row("store.publish of 1 KiB in two domains", median(ours_s) / PUBLISHES * 1e6, "us"),
        Row("single durable publish of 1 KiB", ratio(raw_s, ours_s), "x", Target(">=", RATIO_MIN), against, note),
    ]
