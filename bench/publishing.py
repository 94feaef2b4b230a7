"""How much a publish costs beside what the disk asks for: the same bytes, as many durable commits, with py-lmdb alone.

Both sides work in turn on the same disk, so that a disk that is slow for a while slows down both; a ratio is the median
of the ratios of the rounds. 1 means as fast as raw LMDB.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import lmdb

import grafctl
from bench.rows import Row, Target

NAME = "publishing: into two domains, beside two raw LMDB environments"
PAYLOAD_BYTES = 1024
SINGLE_ROUNDS, SINGLES = 30, 20  # rounds, publishes in each
LINES, LINE_ROUNDS = 200_000, 3
BATCH = 1000  # lines in one commit of the raw side, about what a pipe gives at once
SINGLE_RATIO_MIN, LINES_PER_S_MIN = 0.7, 100_000


def run() -> list[Row]:
    """Measures single publishes through the Python API, then `publish -` from a pipe."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        return [*_single(directory), *_stream(directory)]


def _payload() -> bytes:
    return os.urandom(PAYLOAD_BYTES // 2).hex().encode()


def _store(directory: Path) -> Path:
    grafctl.create(directory, {"aws": None, "gcp": None})
    with grafctl.open(directory) as store:
        store.queues.create("orders", replicas=["a=aws", "b=gcp"], allow=["aws", "gcp"])
    return directory


@contextmanager
def _raw(directory: Path) -> Iterator[Callable[[list[tuple[bytes, bytes]]], None]]:
    """Yields a function that commits these items durably in one environment and then in another."""
    places = [directory / "raw-a", directory / "raw-b"]
    environments = [lmdb.open(str(place), map_size=4 << 30, lib_version=0) for place in places]

    def commit(items: list[tuple[bytes, bytes]]) -> None:
        for environment in environments:
            with environment.begin(write=True) as transaction:
                for key, value in items:
                    transaction.put(key, value)

    try:
        yield commit
    finally:
        for environment in environments:
            environment.close()


def _single(directory: Path) -> list[Row]:
    payload = _payload()
    raw_s, ours_s = [], []
    with _raw(directory) as commit, grafctl.open(_store(directory / "single")) as store:
        for number in range(SINGLE_ROUNDS + 1):
            began = time.perf_counter()
            for at in range(SINGLES):
                commit([(b"%d-%d" % (number, at), payload)])
            middle = time.perf_counter()
            for _ in range(SINGLES):
                store.publish("orders", payload, domain="aws")
            if number:  # the first round fills the caches
                raw_s.append((middle - began) / SINGLES)
                ours_s.append((time.perf_counter() - middle) / SINGLES)
    ratio = median(raw / ours for raw, ours in zip(raw_s, ours_s, strict=True))
    return [
        Row("two raw commits of 1 KiB, in turn", median(raw_s) * 1e6, "us"),
        Row("store.publish of 1 KiB, durable in two domains", median(ours_s) * 1e6, "us"),
        Row("store.publish, as fast as raw lmdb", ratio, "x", Target(">=", SINGLE_RATIO_MIN)),
    ]


def _stream(directory: Path) -> list[Row]:
    line = _payload()[:-1]
    source = directory / "lines"
    source.write_bytes((line + b"\n") * LINES)
    store = _store(directory / "stream")
    rates, ratios = [], []
    with _raw(directory) as commit:
        for number in range(LINE_ROUNDS):
            began = time.perf_counter()
            for first in range(0, LINES, BATCH):
                commit([(b"%d-%d" % (number, first), line * BATCH)])
            raw_s = time.perf_counter() - began
            ours_s = _publish_lines(store, source)
            rates.append(LINES / ours_s)
            ratios.append(raw_s / ours_s)
    return [
        Row("publish - of 1 KiB lines from a pipe, with its start", max(rates), "/s", Target(">=", LINES_PER_S_MIN)),
        Row("publish -, as fast as raw lmdb with 1,000 lines a commit", median(ratios), "x"),
    ]


def _publish_lines(store: Path, source: Path) -> float:
    """Returns the seconds of one `cat FILE | grafctl publish orders -`."""
    command = [sys.executable, "-m", "grafctl", "publish", "orders", "-", "-d", "aws", "-s", str(store), "--quiet"]
    began = time.perf_counter()
    with subprocess.Popen(["cat", str(source)], stdout=subprocess.PIPE) as cat:
        subprocess.run(command, stdin=cat.stdout, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
