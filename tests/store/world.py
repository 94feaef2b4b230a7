"""A store for tests: over the memory or the LMDB driver, with a clock that is moved by hand, and dumps of every byte.

`dump` reads each environment through its driver, also one that a drill has taken out, so that two dumps are equal only
where no domain has changed in any key or value.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from grafctl import client, clock
from grafctl.nouns.creating import create_store
from grafctl.store import elect as electing
from grafctl.store import files, keys
from grafctl.store.cluster import Cluster
from grafctl.store.driver.contract import Driver, Identity
from grafctl.store.driver.faults import COMMIT_BEFORE, Fault, FaultDriver, Kind
from grafctl.store.driver.lmdb import LmdbDriver
from grafctl.store.driver.memory import MemoryDriver
from grafctl.store.operations.retention import sweep, trim
from grafctl.store.records import decode_entry
from grafctl.store.session import Session

AUTHORITY = "scheduler-a"
DRIVERS = {"memory": MemoryDriver, "lmdb": LmdbDriver}
Dump = dict[str, dict[bytes, bytes]]


@dataclass
class World:
    """A store, its driver, and what a test does to both."""

    directory: Path
    driver: Driver
    store: client.Store
    offset_ms: int = field(default=0)

    def advance(self, by_ms: int) -> None:
        """Moves the wall clock of this process forward."""
        self.offset_ms += by_ms
        os.environ[clock.OFFSET_VARIABLE] = str(self.offset_ms)

    def observe(self, domain: str, status: str = "healthy") -> None:
        """Signs an observation as the one authority of this store, which the first call makes."""
        if not (self.directory / f"{AUTHORITY}.key").exists():
            client.keygen(AUTHORITY, self.directory)
            self.store.authorities.add(AUTHORITY, self.directory / f"{AUTHORITY}.pub")
        self.store.health.observe(domain, status, authority=AUTHORITY, key_file=self.directory / f"{AUTHORITY}.key")

    def log_id(self, resource: str) -> bytes:
        return self.store.session.resource(resource).id

    @contextmanager
    def reopened(self) -> Iterator[client.Store]:
        """Yields the same store as another process would see it."""
        with open_store(self.directory, self.driver) as other:
            yield other

    @contextmanager
    def with_full_disks(self) -> Iterator[tuple[client.Store, set[str]]]:
        """Yields the same store, and the set of domains whose disks are full: a test adds to it and takes away."""
        full: set[str] = set()

        def plan(domain: str, step: str, count: int) -> Fault | None:
            return Fault(Kind.FULL) if domain in full and step == COMMIT_BEFORE else None

        with open_store(self.directory, FaultDriver(self.driver, plan)) as store:
            yield store, full

    def let_entries_go(self, queue: str, group: str, *, domain: str, terms: int) -> None:
        """Publishes and acks a record in each of some new terms, and sweeps: entries go up to the START of a term."""
        log = self.store.session.resource(queue)
        for _ in range(terms):
            electing.elect(log.cluster, log.id, log.apply, log.observe())
            self.store.publish(queue, "y", domain=domain)
            given = self.store.poll(queue, group, domain=domain, max=100)
            self.store.ack(queue, group, [record.offset for record in given.records], domain=domain, lease=given.lease)
        trim(self.store.session, queue)
        sweep(log)

    def dump(self) -> Dump:
        """Returns every key and value of every domain, whether it is out for a drill or not."""
        return {domain: self._dump_domain(domain) for domain in self.store.session.cluster.domains}

    def _dump_domain(self, domain: str) -> dict[bytes, bytes]:
        cluster = self.store.session.cluster
        place = cluster.place(domain)
        failed = self.driver.is_failed(place.path)
        if failed:
            self.driver.restore(place.path)
        environment = self.driver.open(place.path, Identity(cluster.store, domain, place.incarnation))
        try:
            with environment.read() as view:
                return dict(view.scan(b"\x02", b"\xff" * 8))
        finally:
            environment.close()
            if failed:
                self.driver.fail(place.path)

    def audit_records(self) -> list[dict[str, Any]]:
        """Returns the audit records, read from the log's own entries."""
        log = self.store.session.audit
        with log.view() as committed:
            rows = committed.view.scan(*keys.entries(log.id, 0, committed.upto))
            requests = [decode_entry(raw, "entry").request for _, raw in rows]
        return [request["record"] for request in requests if "record" in request]


def without_log(dump: Dump, log: bytes) -> Dump:
    """Returns a dump less the keys of one log."""
    return {domain: {key: value for key, value in rows.items() if key[1:9] != log} for domain, rows in dump.items()}


def changed_keys(before: Dump, after: Dump) -> list[tuple[str, str]]:
    """Returns (domain, key in hex) of everything that was added, removed or changed."""
    return [
        (domain, key.hex())
        for domain in sorted(before.keys() | after.keys())
        for key in sorted(before.get(domain, {}).keys() | after.get(domain, {}).keys())
        if before.get(domain, {}).get(key) != after.get(domain, {}).get(key)
    ]


def open_store(directory: Path, driver: Driver) -> client.Store:
    """Opens a store with this driver instance, as `grafctl.open` does with the one that `store.toml` names."""
    file = files.read(directory)
    return client.Store(Session(Cluster(driver, file.identity, file.places(directory), directory)))


@contextmanager
def world(directory: Path, domains: Sequence[str], driver: str = "memory") -> Iterator[World]:
    """Yields a new store with these domains; its clock offset ends with the block."""
    made: Driver = DRIVERS[driver]()
    before = os.environ.pop(clock.OFFSET_VARIABLE, None)
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # what a disk does is the driver's tests' business
    with TemporaryDirectory(dir=fast) as disk:
        paths = {domain: Path(disk, domain.replace("/", "~")) for domain in domains}
        create_store(directory, paths, made, dry_run=False)
        store = open_store(directory, made)
        try:
            yield World(directory, made, store)
        finally:
            store.close()
            os.environ.pop(clock.OFFSET_VARIABLE, None)
            if before is not None:
                os.environ[clock.OFFSET_VARIABLE] = before
