"""The stores that are damaged: made once, copied for each trial, with what is known of them from outside.

Three domains hold the queue `q`: three voters, or two and a witness of which one may be away. What is in it is either
`small`, all of it in the journals, or `large`: folded into LMDB with inner pages, blocks on pages of their own, ids in
runs, finished, leased and dead records, and the last commits in the journals.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from faults.deeds import GROUP, HOUR_MS, QUEUE
from faults.verdict import Ledger

import grafctl.client as client
from grafctl.store import files
from grafctl.store.blocks import Outgoing

DOMAINS = ("a", "b", "c")
SETS: dict[str, tuple[list[str], int | None]] = {  # replicas, --min-payload
    "three": (["ra=a", "rb=b", "rc=c"], None),
    "witness1": (["ra=a", "rb=b", "rc=c:witness"], 1),
}
CONTENTS = ("small", "large")


class Store(NamedTuple):
    """One store, an earlier state of the same store, and another store."""

    path: Path
    earlier: Path
    other: Path
    ledger: Ledger
    voters: tuple[str, ...]
    leased: frozenset[int]


def place(store: Path, domain: str) -> Path:
    """Returns the directory of a domain."""
    return files.read(store).places(store)[domain].path


class Stores:
    """Makes stores in a folder; `settle` is called for the directory of each domain that was copied."""

    def __init__(self, folder: Path, settle: Callable[[Path], None]) -> None:
        self._folder = folder
        self._settle = settle
        self._made: dict[tuple[str, str], Store] = {}
        self._copies = 0

    def copy(self, voters: str, content: str) -> Store:
        """Returns a fresh copy."""
        made = self._template(voters, content)
        self._copies += 1
        path = self._folder / f"copy{self._copies}"
        shutil.copytree(made.path, path)
        for domain in DOMAINS:
            self._settle(place(path, domain))
        return made._replace(path=path, ledger=copy.deepcopy(made.ledger))

    def discard(self, store: Store) -> None:
        shutil.rmtree(store.path, ignore_errors=True)

    def _template(self, voters: str, content: str) -> Store:
        if (voters, content) not in self._made:
            name = f"{voters}-{content}"
            paths = [self._folder / f"{name}{end}" for end in ("", "-earlier", "-other")]
            ledger = Ledger(QUEUE)
            _begin(paths[0], voters, ledger)
            shutil.copytree(paths[0], paths[1])
            leased = (_fill_large if content == "large" else _fill_small)(paths[0], ledger)
            _begin(paths[2], voters, Ledger(QUEUE))
            holders = tuple("ab" if voters == "witness1" else DOMAINS)
            self._made[voters, content] = Store(paths[0], paths[1], paths[2], ledger, holders, frozenset(leased))
        return self._made[voters, content]


def _begin(path: Path, voters: str, ledger: Ledger) -> None:
    """Six records, of which 0 and 1 are final."""
    replicas, min_payload = SETS[voters]
    client.create(path, dict.fromkeys(DOMAINS))
    with client.open(path) as store:
        store.queues.create(QUEUE, replicas=replicas, min_payload=min_payload, allow=list(DOMAINS))
        store.consumers.create(QUEUE, GROUP, allow=list(DOMAINS), semantics="effectively-once")
        publish(store, ledger, [(f"record {n}", f"r{n}" if n % 2 else None) for n in range(6)])
        store.poll(QUEUE, GROUP, domain="a", max=2, visibility_ms=HOUR_MS)
        ledger.finalised(GROUP, [0, 1], store.ack(QUEUE, GROUP, [0, 1], domain="a").count)


def _fill_small(path: Path, ledger: Ledger) -> list[int]:
    with client.open(path) as store:
        publish(store, ledger, [("one more", "more")])
        return [record.offset for record in store.poll(QUEUE, GROUP, domain="a", max=2, visibility_ms=HOUR_MS).records]


def _fill_large(path: Path, ledger: Ledger) -> list[int]:
    with client.open(path) as store:
        for batch in range(4):
            records = [(f"{batch} {n} " + "x" * 100, f"id {batch} {n}") for n in range(150)]
            publish_batch(store, ledger, records)
            publish(store, ledger, [(f"single {batch} {n} " + "y" * 300, None) for n in range(15)])
        publish_batch(store, ledger, [(f"long {n} " + "z" * 3000, f"long {n}") for n in range(60)])
        for _ in range(8):
            offsets = [r.offset for r in store.poll(QUEUE, GROUP, domain="a", max=25, visibility_ms=HOUR_MS).records]
            ledger.finalised(GROUP, offsets[:-1], store.ack(QUEUE, GROUP, offsets[:-1], domain="a").count)
        publish_batch(store, ledger, [(f"wide {n} " + "z" * 3000, f"wide {n}") for n in range(60)])
        publish(store, ledger, [(f"last {n}", f"last{n}") for n in range(5)])
        leased = [r.offset for r in store.poll(QUEUE, GROUP, domain="b", max=5, visibility_ms=HOUR_MS).records]
        with store.session.resource(QUEUE).view() as committed:
            from grafctl.store.resources.leases import leases_of

            held = [g[:2] for _, lease in leases_of(committed.state, GROUP) for g in lease["grants"]]
    return leased + [offset for start, stop in held for offset in range(start, stop)]


def publish(store: client.Store, ledger: Ledger, records: list[tuple[str, str | None]]) -> None:
    for payload, record_id in records:
        ledger.publishes([payload])
        ledger.published(store.publish(QUEUE, payload, domain="a", id=record_id).offset, payload, record_id)


def publish_batch(store: client.Store, ledger: Ledger, records: list[tuple[str, str]]) -> None:
    ledger.publishes(payload for payload, _ in records)
    ack = store.publish_batch(QUEUE, [Outgoing(text.encode(), name) for text, name in records], domain="a")
    for offset, (payload, name) in zip(range(ack.offset, ack.offset + ack.count), records, strict=True):
        ledger.published(offset, payload, name)
