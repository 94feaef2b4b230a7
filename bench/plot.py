"""The pictures of docs/performance.md: what a record costs by how many are stored, and by how many come at once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median

import grafctl
from bench.ids import new_id, small
from bench.report import describe
from bench.stores import ROOT, Raw, add_queue, fill, make, payloads, publish_all, raw
from bench.svg import Series, chart
from bench.turns import in_turn
from grafctl import Outgoing
from grafctl.client import Store

STORED = (1000, 10_000, 100_000, 1_000_000, 5_000_000)
FILL_S_MAX = 120.0
BATCHES, RECORDS = 3, 1000  # in each round of the first picture
SIZES = (1, 10, 100, 1000, 10_000)
AT_ONCE = 3000  # records in each round of the second picture, as far as that is whole batches and few commits
COMMITS_MAX = 60
ROUNDS = 5
NAMES = ("with ids", "without ids", "py-lmdb, packed values, two commits in turn")
COST = "microseconds a record, durable in two copies"


def run(directory: Path = ROOT / "docs") -> None:
    """Draws both."""
    print(describe(), flush=True)
    by_stored = Path(directory, "publish-by-stored.svg")
    by_stored.write_text(
        chart(
            "Publish cost by stored records (streams of 1,000 in a batch, 1 KiB)",
            "records stored before",
            COST,
            _by_stored(),
        )
    )
    print(by_stored.name, flush=True)
    by_batch = Path(directory, "publish-by-batch.svg")
    by_batch.write_text(
        chart(
            "Publish cost by batch size (streams, three batches in flight, 1 KiB)",
            "records in a batch",
            COST,
            _by_batch(),
        )
    )
    print(by_batch.name, flush=True)


def _by_stored() -> list[Series]:
    lines: tuple[list[tuple[float, float]], ...] = ([], [], [])
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        with raw(directory) as pair, grafctl.open(make(directory / "store")) as store:
            for count in STORED:
                stored = 0
                for queue, make_one in ((f"keyed-{count}", small), (f"plain-{count}", lambda: b"-")):
                    stored = fill(store, add_queue(store, queue), count, FILL_S_MAX, make_one)
                costs = _costs(store, pair, f"keyed-{count}", f"plain-{count}", RECORDS, BATCHES)
                for line, cost in zip(lines, costs, strict=True):
                    line.append((stored, cost))
    return [Series(name, points) for name, points in zip(NAMES, lines, strict=True)]


def _by_batch() -> list[Series]:
    lines: tuple[list[tuple[float, float]], ...] = ([], [], [])
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        with raw(directory) as pair, grafctl.open(make(directory / "store", "keyed", "plain")) as store:
            for size in SIZES:
                batches = min(max(AT_ONCE // size, 2), COMMITS_MAX)
                for line, cost in zip(lines, _costs(store, pair, "keyed", "plain", size, batches), strict=True):
                    line.append((size, cost))
    return [Series(name, points) for name, points in zip(NAMES, lines, strict=True)]


def _costs(store: Store, pair: Raw, keyed: str, plain: str, size: int, batches: int) -> list[float]:
    """Returns the microseconds a record with ids, without, and raw."""
    texts = payloads(size)
    packed = b"".join(texts)
    keyed_batches = iter([[Outgoing(text, new_id()) for text in texts] for _ in range(batches * (ROUNDS + 1))])

    def commits() -> None:
        for _ in range(batches):
            pair.commit(packed)

    sides: list[Callable[[], None]] = [
        lambda: publish_all(store, keyed, list(islice(keyed_batches, batches))),
        lambda: publish_all(store, plain, [texts] * batches),
        commits,
    ]
    return [median(found) / (batches * size) * 1e6 for found in in_turn(ROUNDS, *sides)]
