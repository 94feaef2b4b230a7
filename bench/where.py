"""Where the time of a publish and of a poll goes: flushes, the processor, and how many callers share a commit."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grafctl
from bench.rows import Row
from bench.stores import DOMAINS, make, payload, payloads, publish_all
from grafctl.client import Store

NAME = "where: the time of one publish and of one poll, and what callers share"
PUBLISHES, POLLS, RECORDS = 1000, 100, 1000
THREADS, EACH = 32, 50


def run() -> list[Row]:
    """Measures one caller, then many threads."""
    record = payload()
    with tempfile.TemporaryDirectory(prefix="bench-") as name, grafctl.open(make(Path(name) / "s", "orders")) as store:
        publish = lambda: store.publish("orders", record, domain="aws")  # noqa: E731
        rows = _parts("publish of 1 KiB", publish, PUBLISHES)
        store.consumers.create("orders", "billing", allow=DOMAINS)
        publish_all(store, "orders", [payloads(RECORDS)] * (POLLS + 3))
        rows += _parts(f"poll of {RECORDS:,} that finishes the batch before", _polls(store), POLLS)
        rows.append(Row(f"publishes in one commit, {THREADS} threads", _shared(store, publish), ""))
    return rows


def _parts(what: str, action: Callable[[], object], count: int) -> list[Row]:
    """Returns the time of one action, and how much of it are flushes and how much the processor."""
    flushed_s, fdatasync = 0.0, os.fdatasync

    def timed(fd: int) -> None:
        nonlocal flushed_s
        began_s = time.perf_counter()
        fdatasync(fd)
        flushed_s += time.perf_counter() - began_s

    action()
    os.fdatasync = timed  # type: ignore[assignment]
    try:
        began_s, cpu_s = time.perf_counter(), time.process_time()
        for _ in range(count):
            action()
        cpu_s, whole_s = time.process_time() - cpu_s, time.perf_counter() - began_s
    finally:
        os.fdatasync = fdatasync
    parts = ((what, whole_s), ("  of it waiting for the journals' flushes", flushed_s), ("  processor time", cpu_s))
    return [Row(part, seconds / count * 1e6, "us") for part, seconds in parts]


def _polls(store: Store) -> Callable[[], object]:
    given = store.poll("orders", "billing", domain="aws", max=RECORDS)

    def poll() -> None:
        nonlocal given
        offsets = [record.offset for record in given.records]
        given = store.poll("orders", "billing", domain="aws", max=RECORDS, finish=offsets, lease=given.lease)

    return poll


def _shared(store: Store, publish: Callable[[], object]) -> float:
    """Returns how many publishes of many threads share an entry."""

    def work() -> None:
        for _ in range(EACH):
            publish()

    before = _entries(store)
    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return THREADS * EACH / (_entries(store) - before)


def _entries(store: Store) -> int:
    with store.session.resource("orders").view() as committed:
        return committed.upto
