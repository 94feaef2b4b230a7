"""How much of a disk published bytes take: what is allocated in one domain's directory, beside the bytes published."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import grafctl
from bench.rows import Row, Target, unmeasured
from bench.stores import DOMAINS, PAYLOAD_BYTES, ROOT, make, surroundings
from grafctl.client import Store

NAME = "disk: bytes allocated in one domain for each byte published, 1,000 records in a batch"
RECORDS = 400_000
SINGLES = 5000
SCALE = "0.1"  # of TPC-H: 150,000 orders
PLAIN_MAX, COMPRESSED_MAX = 1.3, 0.35
COMPRESSION = "zstd"


def run() -> list[Row]:
    """Measures random bytes, and real orders in a queue that compresses."""
    against = "the bytes published"
    plain = Row("disk of a domain, incompressible records", None, "x", Target("<=", PLAIN_MAX), against)
    packed = Row("disk of a domain, JSON orders, compression on", None, "x", Target("<=", COMPRESSED_MAX), against)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        place = make(Path(name) / "random", "orders")
        before = _allocated(place)
        with grafctl.open(place) as store:
            size = _publish(store, "orders", (os.urandom(PAYLOAD_BYTES) for _ in range(RECORDS)))
        rows = [
            Row("one domain of an empty store", before / 1e6, "MB"),
            plain._replace(value=_allocated(place) / size, note=f"{size / 1e6:,.0f} MB of 1 KiB records"),
        ]
    return [*rows, _singles()._replace(against=against), _orders(packed)]


def _singles() -> Row:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        place = make(Path(name) / "random", "orders")
        before = _allocated(place)
        with grafctl.open(place) as store:
            for _ in range(SINGLES):
                store.publish("orders", os.urandom(PAYLOAD_BYTES), domain=DOMAINS[0])
        added = (_allocated(place) - before) / (SINGLES * PAYLOAD_BYTES)
    return Row("what records that come one by one add to it", added, "x", note=f"{SINGLES:,} of 1 KiB")


def _orders(row: Row) -> Row:
    beside = Path(sys.executable).with_name("tpchgen-cli")
    if not beside.is_file() and shutil.which("tpchgen-cli") is None:
        return unmeasured(row, "tpchgen-cli, which makes the orders, is not installed")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        place = make(Path(name) / "orders")
        with grafctl.open(place) as store:
            replicas = [f"orders-{domain}={domain}" for domain in DOMAINS]
            store.queues.create("orders", replicas=replicas, allow=DOMAINS, compression=COMPRESSION)
            command = [sys.executable, str(ROOT / "examples" / "tpch.py"), "--scale", SCALE]
            with subprocess.Popen(command, env=surroundings(), stdout=subprocess.PIPE) as made:
                assert made.stdout is not None
                size = _publish(store, "orders", (line.rstrip(b"\n") for line in made.stdout))
        return row._replace(value=_allocated(place) / size, note=f"{size / 1e6:,.0f} MB of TPC-H orders, {COMPRESSION}")


def _publish(store: Store, queue: str, records: Iterable[bytes]) -> int:
    """Publishes everything, 1,000 in a batch, and returns how many bytes that were."""
    size = 0
    batch: list[bytes] = []
    for record in records:
        batch.append(record)
        size += len(record)
        if len(batch) == 1000:
            store.publish_batch(queue, batch, domain=DOMAINS[0])
            batch = []
    if batch:
        store.publish_batch(queue, batch, domain=DOMAINS[0])
    return size


def _allocated(place: Path) -> int:
    """Returns the bytes that the disk keeps for the first domain of the store."""
    with grafctl.open(place) as store:
        domain = next(item["path"] for item in store.domains.list().items if item["domain"] == DOMAINS[0])
    return sum(file.stat().st_blocks * 512 for file in (place / domain).rglob("*") if file.is_file())
