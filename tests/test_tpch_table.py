"""TPC-H customers and orders in keyed tables: one vshard and then a quarter of all moved while orders are written.

Every order is there once with its price, whoever touched it meanwhile, and every touch is there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
import tpch
import tpch_writer

import grafctl
from grafctl.client import Store, create, keygen
from grafctl.store.operations.tables import Item

SCALE = 0.002
DOMAINS = ("aws/us-east-1", "gcp/us-central1", "azure/eastus", "oci/iad", "hetzner/fsn1")
HOME, AWAY = DOMAINS[:3], DOMAINS[2:]
VSHARDS = 64
BUDGET_US = 5_000_000  # the machine may be busy; what is asked here is that nothing is lost


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    directory = tmp_path / "store"
    create(directory, dict.fromkeys(DOMAINS))
    keygen("watch", tmp_path)
    with grafctl.open(directory) as opened:
        opened.authorities.add("watch", public_key=tmp_path / "watch.pub")
        for domain in DOMAINS:
            opened.health.observe(domain, "healthy", authority="watch", key_file=tmp_path / "watch.key")
        replicas = [f"{domain.partition('/')[0]}={domain}" for domain in HOME]
        for table in ("orders", "customers"):
            opened.tables.create(table, replicas=replicas, allow=DOMAINS, vshards=VSHARDS)
        yield opened


@contextmanager
def writing(directory: Path, count: int) -> Iterator[list[int]]:
    """Runs so many writers; the list holds what each of them won, once the block is over."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, tpch_writer.__file__, str(directory)]
    writers = [
        subprocess.Popen([*command, DOMAINS[place], str(place)], stdout=subprocess.PIPE, text=True, env=env)
        for place in range(count)
    ]
    won: list[int] = []
    try:
        yield won
        (directory / "calm").touch()
        for writer in writers:
            said, _ = writer.communicate(timeout=60)
            assert writer.returncode == 0, "a writer met an error because of a migration"
            won.append(int(said))
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()


def load(store: Store, table: str, rows: Iterator[tuple[str, bytes]]) -> int:
    count = 0
    while batch := [Item(key.encode(), value) for key, value in islice(rows, 1000)]:
        store.tables.put_many(table, batch, domain=DOMAINS[0])
        count += len(batch)
    return count


def moved(store: Store, table: str, vshards: Sequence[int]) -> list[str]:
    done = store.vshards.migrate(table, vshards, to=AWAY, domain=DOMAINS[0], budget_us=BUDGET_US)
    return [f"{one.state} in {','.join(one.owner)}" for one in done]


def test_counts_and_sums_are_the_generators_after_a_quarter_was_moved_under_load(
    store: Store, tmp_path: Path, seed: int
) -> None:
    cache = tmp_path / "tpch"
    customers = (
        (row[0], "|".join(row[1:]).encode()) for row in tpch.read_table(tpch.generate(SCALE, cache) / "customer.tbl")
    )
    customer_count = load(store, "customers", customers)
    load(store, "orders", ((str(order.key), order.text) for order in tpch.keyed_orders(SCALE, cache)))
    first = seed % VSHARDS
    with writing(tmp_path / "store", 2) as won:
        assert moved(store, "orders", [first]) == [f"completed in {','.join(sorted(AWAY))}"]
        quarter = [number for number in range(VSHARDS) if number % 4 == first % 4]
        assert moved(store, "orders", quarter) == [f"completed in {','.join(sorted(AWAY))}"] * (VSHARDS // 4)
        moved(store, "customers", quarter)
    told = tpch.totals(SCALE, cache)
    rows = [json.loads(row.value) for row in store.tables.scan("orders", domain=DOMAINS[4])]
    keys = {order["order_key"] for order in rows}
    assert (len(keys), sum(tpch.cents(order["total_price"]) for order in rows)) == tuple(told)
    assert len(rows) == len(keys) == store.tables.count("orders").body["count"]
    assert sum(order.get("touched", 0) for order in rows) == sum(won) > 0
    assert store.tables.count("customers").body["count"] == customer_count
    owners = {item["vshard"]: set(item["owner"]) for item in store.vshards.list("orders").items}
    assert owners == {number: set(AWAY if number in quarter else HOME) for number in range(VSHARDS)}
    assert not list(store.verify())
