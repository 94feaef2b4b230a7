"""What a verified copy of a resource into a new domain takes, beside `cp` and fsync of the same bytes.

Before each side everything it reads is read once, so that all of it is in the page cache, and nothing waits to be
written.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import grafctl
from bench.rows import Row, Target
from bench.stores import DOMAINS, PAYLOAD_BYTES, make, payloads, publish_all
from bench.turns import ratio
from grafctl.client import Store

NAME = "catching_up: a new domain copies a queue and proves it, Python API"
BYTES = 1 << 30
ROUNDS = 3
RATIO_MIN = 0.6


def run() -> list[Row]:
    """Measures the catch-up of one new domain after another."""
    batch = payloads(1000)
    batches = max(1, BYTES // (len(batch) * PAYLOAD_BYTES))
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        source = directory / "bytes"
        with source.open("wb") as file:
            for _ in range(batches):
                file.write(b"".join(batch))
        with grafctl.open(make(directory / "store", "orders")) as store:
            publish_all(store, "orders", [batch] * batches)
            grafctl.keygen("operator", directory)
            store.authorities.add("operator", directory / "operator.pub")
            copies_s, ours_s = [], []
            for number in range(ROUNDS):
                domain = _add_domain(store, number, directory)
                copies_s.append(_timed(directory, lambda: _copy(source)))
                source.with_suffix(".copy").unlink()
                ours_s.append(_timed(directory, lambda: _catch_up(store, domain, batches * len(batch))))  # noqa: B023
                _drop_domain(store, number)
    size = batches * len(batch) * PAYLOAD_BYTES
    note = f"{ROUNDS} rounds of {size / (1 << 30):.2g} GiB in records of 1 KiB, both sides from the page cache"
    against = "`cp` and fsync of the same bytes"
    return [
        Row("cp and fsync", size / 1e6 / median(copies_s), "MB/s"),
        Row("store.catch_up", size / 1e6 / median(ours_s), "MB/s"),
        Row("catch-up of a new domain, verified", ratio(copies_s, ours_s), "x", Target(">=", RATIO_MIN), against, note),
    ]


def _timed(directory: Path, action: Callable[[], None]) -> float:
    for file in directory.rglob("*"):
        if file.is_file() and file.stat().st_size > 1 << 20:
            with file.open("rb") as opened:
                while opened.read(1 << 20):
                    pass
    os.sync()
    began_s = time.perf_counter()
    action()
    return time.perf_counter() - began_s


def _add_domain(store: Store, number: int, directory: Path) -> str:
    domain = f"azure/zone-{number}"
    store.domains.add(domain)
    store.health.observe(domain, "healthy", authority="operator", key_file=directory / "operator.key")
    store.locator.set("orders", generation=2 + 2 * number, add=[f"orders-{number}={domain}"])
    return domain


def _drop_domain(store: Store, number: int) -> None:
    """Takes the domain out again, so that the next one meets the same store."""
    store.locator.set("orders", generation=3 + 2 * number, remove=[f"orders-{number}"])


def _copy(source: Path) -> None:
    target = source.with_suffix(".copy")
    subprocess.run(["cp", str(source), str(target)], check=True)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _catch_up(store: Store, domain: str, records: int) -> None:
    proof = store.catch_up("orders", domain=domain)
    assert proof.match and proof.count == records and domain not in DOMAINS
