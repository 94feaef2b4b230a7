"""What take-and-finish costs by 1,000 records, beside a raw cursor that commits its place in two environments."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import lmdb

import grafctl
from bench.rows import Row, Target
from bench.stores import DOMAINS, Raw, make, payloads, publish_all, raw
from bench.turns import in_turn, ratio
from grafctl.client import Store
from grafctl.results import Delivery

NAME = "polling: poll and ack of 1,000 records at a time, leases durable, Python API"
VISIBILITY_MS = 3_600_000  # longer than this takes, also where the disk is slow
ROUNDS, BATCHES, RECORDS = 9, 10, 1000  # batches in each round, records in each
RATIO_MIN = 0.5


def run() -> list[Row]:
    """Measures consumers that take every record once."""
    batch = payloads(RECORDS)
    batches = (ROUNDS + 1) * BATCHES
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        with raw(directory) as pair, grafctl.open(make(directory / "store", "orders")) as store:
            for group in ("billing", "shipping"):
                store.consumers.create("orders", group, allow=DOMAINS)
            publish_all(store, "orders", [batch] * (batches + 1))  # one more, because a poll is always one ahead
            for _ in range(batches):
                pair.commit(*batch)
            cursor = _read_raw(pair)
            consumer = _finish_with_next(store)
            sides = (lambda: next(cursor), lambda: next(consumer), lambda: _take_and_ack(store))
            raw_s, ours_s, two_s = in_turn(ROUNDS, *sides)
    records = BATCHES * RECORDS
    against = "py-lmdb: a cursor over the same records, its place committed in two environments in turn"
    note = f"{ROUNDS} rounds of {BATCHES} batches of {RECORDS:,} x 1 KiB"
    return [
        Row("py-lmdb, cursor and two commits a batch", records / median(raw_s), "/s"),
        Row("store.poll that finishes the batch before", records / median(ours_s), "/s"),
        Row("store.poll, then store.ack", records / median(two_s), "/s"),
        Row("store.poll, then store.ack", ratio(raw_s, two_s), "x", None, against),
        Row("poll and ack by 1,000", ratio(raw_s, ours_s), "x", Target(">=", RATIO_MIN), against, note),
    ]


def _read_raw(pair: Raw) -> Iterator[int]:
    """Reads on by one round's batches each time it is asked, and commits after each batch how far it is."""
    at = 0
    while True:
        for _ in range(BATCHES):
            taken = _read_batch(pair.environments[0], at)
            at += len(taken)
            for environment in pair.environments:
                with environment.begin(write=True) as transaction:
                    transaction.put(b"~cursor", b"%012d" % at)
        yield at


def _read_batch(environment: lmdb.Environment, at: int) -> list[bytes]:
    with environment.begin() as transaction, transaction.cursor() as cursor:
        assert cursor.set_key(b"%012d" % at)
        pairs = cursor.iternext(keys=False)
        return [value for value, _ in zip(pairs, range(RECORDS), strict=False)]


def _finish_with_next(store: Store) -> Iterator[int]:
    """Takes one round's batches each time it is asked; each poll finishes the batch before in the same commit."""
    given = _poll(store, "billing")
    while True:
        for _ in range(BATCHES):
            given = _poll(store, "billing", finish=_offsets(given), lease=given.lease)
            assert given.finished == RECORDS
        yield given.ack_floor


def _take_and_ack(store: Store) -> None:
    for _ in range(BATCHES):
        given = _poll(store, "shipping")
        done = store.ack("orders", "shipping", _offsets(given), domain="aws", lease=given.lease)
        assert done.count == RECORDS


def _poll(store: Store, group: str, **finished: Any) -> Delivery:
    return store.poll("orders", group, domain="aws", max=RECORDS, visibility_ms=VISIBILITY_MS, **finished)


def _offsets(given: Delivery) -> list[int]:
    offsets = [record.offset for record in given.records]
    assert len(offsets) == RECORDS
    return offsets
