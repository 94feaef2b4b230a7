"""What a switch costs those who work through it, beside the same work without one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import grafctl
from bench.rows import Row
from bench.stores import DOMAINS, make
from bench.turns import in_turn, ratio
from grafctl.client import Outgoing, Store
from grafctl.store.operations.tables import Item

NAME = "switching: polls, reads and comparisons through a switch, in two domains, Python API"
ROUNDS = 15
RECORDS = 20_000  # of each output
GETS = 200  # in a round
BATCH = 1000
OLD, NEW, GROUP, ALONE = "old", "new", "switched", "alone"
AT: dict[str, Any] = {"domain": DOMAINS[0]}


def run() -> list[Row]:
    """Measures one consumer of each kind."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, grafctl.open(make(Path(name) / "store")) as store:
        where: dict[str, Any] = {"replicas": [f"r-{domain}={domain}" for domain in DOMAINS], "allow": DOMAINS}
        return [*_of_queues(store, where), *_of_tables(store, where)]


def _of_queues(store: Store, where: dict[str, Any]) -> list[Row]:
    records = [Outgoing(b'{"n":%d,"text":"%s"}' % (number, b"x" * 200), f"o-{number}") for number in range(RECORDS)]
    for output in (OLD, NEW):
        store.queues.create(output, **where)
        for group in (GROUP, ALONE):
            store.consumers.create(output, group, allow=list(DOMAINS))
        for first in range(0, RECORDS, BATCH):
            store.publish_batch(output, records[first : first + BATCH], **AT)
    store.switches.attach("s", source=OLD, target=NEW, group=GROUP, window_ms=0)

    def poll(group: str) -> None:
        given = store.poll(OLD, group, max=BATCH // 10, **AT)
        store.ack(given.resource, given.group, [item.offset for item in given.records], lease=given.lease, **AT)

    alone_s, switched_s = in_turn(ROUNDS, lambda: poll(ALONE), lambda: poll(GROUP))
    again_s, read_s = in_turn(3, lambda: store.switches.compare("s", compare_from="start", **AT), lambda: _read(store))
    note = f"{ROUNDS} rounds of {BATCH // 10} records of 200 B"
    return [
        Row("poll and ack through a switch", ratio(alone_s, switched_s), "x", None, "a group without a switch", note),
        Row("compare two queues", ratio(read_s, again_s), "x", None, "reading both", f"{RECORDS:,} records in each"),
    ]


def _read(store: Store) -> None:
    for output in (OLD, NEW):
        for first in range(0, RECORDS, BATCH):
            assert len(store.peek(output, offset=first, max=BATCH, **AT).body["records"]) == BATCH


def _of_tables(store: Store, where: dict[str, Any]) -> list[Row]:
    tables = f"{OLD}-table", f"{NEW}-table"
    items = [Item(b"k%07d" % number, b'{"n":%d,"text":"%s"}' % (number, b"x" * 200)) for number in range(RECORDS)]
    for table in tables:
        store.tables.create(table, **where)
        for first in range(0, RECORDS, BATCH):
            store.tables.put_many(table, items[first : first + BATCH], **AT)
    store.switches.attach("t", source=tables[0], target=tables[1], group=GROUP, window_ms=0)

    def get(group: str | None) -> None:
        for item in items[:GETS]:
            assert store.tables.get(tables[0], item.key, group=group, **AT).version

    def scan() -> None:
        assert sum(1 for table in tables for _ in store.tables.scan(table, **AT)) == 2 * RECORDS

    alone_s, switched_s = in_turn(ROUNDS, lambda: get(None), lambda: get(GROUP))
    scan_s, again_s = in_turn(3, scan, lambda: store.switches.compare("t", compare_from="start", **AT))
    store.switches.compare("t", **AT)
    note = f"{ROUNDS} rounds of {GETS} gets of 200 B"
    return [
        Row("get through a switch", ratio(alone_s, switched_s), "x", None, "a get without a switch", note),
        Row("compare two tables", ratio(scan_s, again_s), "x", None, "scanning both", f"{RECORDS:,} rows in each"),
    ]
