"""What exactly-once publishing by id costs in batches, with few and with many ids stored.

The ids are random, so that none of them is near the one before. Each round with few ids is into a queue of its own,
because there they would not stay few.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import grafctl
from bench.rows import Row, Target
from bench.stores import add_queue, fill, make, payloads, publish_all, said
from bench.turns import in_turn, ratio
from grafctl import Outgoing

NAME = "ids: batches of 1,000 records with ids, beside the same without, Python API"
FEW, MANY = 1000, 5_000_000
FILL_S_MAX = 120.0
ROUNDS, BATCHES, RECORDS = 9, 10, 1000  # batches in each round, records in each
RATIO_MIN, FLAT_MAX = 0.5, 1.10


def run() -> list[Row]:
    """Measures streams into a queue without ids, queues with few and a queue with many."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, grafctl.open(make(Path(name), "none", "many")) as store:
        stored = fill(store, "many", MANY, FILL_S_MAX, small)
        few = [add_queue(store, f"few-{number}") for number in range(ROUNDS + 1)]
        for queue in few:
            fill(store, queue, FEW, FILL_S_MAX, small)
        texts = payloads(RECORDS)
        keyed = ([[Outgoing(text, new_id()) for text in texts] for _ in range(BATCHES)] for _ in range(2 * len(few)))
        prepared = iter(list(keyed))
        last: dict[str, list[Outgoing]] = {}
        queues: Iterator[str] = iter(few)

        def publish_keyed(queue: str) -> None:
            batches = next(prepared)
            last[queue] = batches[-1]
            publish_all(store, queue, batches)

        sides: list[Callable[[], None]] = [
            lambda: publish_all(store, "none", [texts] * BATCHES),
            lambda: publish_keyed(next(queues)),
            lambda: publish_keyed("many"),
        ]
        none_s, few_s, many_s = in_turn(ROUNDS, *sides)
        for queue, batch in last.items():
            assert store.publish_batch(queue, batch, domain="aws").replayed, (
                "ids that are there are not published again"
            )
    records, without = BATCHES * RECORDS, "the same records without ids"
    found = said(stored, MANY, "ids stored")
    rounds = f"{ROUNDS} rounds of {records:,} records"
    at_least, flat = Target(">=", RATIO_MIN), Target("<=", FLAT_MAX)
    return [
        Row("without ids", records / median(none_s), "/s"),
        Row("with ids, few stored", records / median(few_s), "/s"),
        Row("with ids, many stored", records / median(many_s), "/s"),
        Row("with ids, many stored, all rounds together", sum(none_s) / sum(many_s), "x", None, without, found),
        Row("batched publish with ids, few stored", ratio(none_s, few_s), "x", at_least, without, f"{FEW:,} ids"),
        Row("batched publish with ids, many stored", ratio(none_s, many_s), "x", at_least, without, found),
        Row("time with many ids stored", ratio(many_s, few_s), "x", flat, f"with {FEW:,} stored", f"{found}, {rounds}"),
    ]


def new_id() -> str:
    """Returns an id that is nowhere yet."""
    return os.urandom(16).hex()


def small() -> Outgoing:
    """Returns a record that is little more than its id."""
    return Outgoing(b"-", new_id())
