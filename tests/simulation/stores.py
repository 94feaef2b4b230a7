"""The stores that histories begin with: made once a process for each voter set, and copied for each history.

A store lives in memory; only `store.toml`, the locks of electors and catch-ups, and the spool of the audit log are
files, in a directory that all histories of a shape use one after the other.
"""

from __future__ import annotations

import atexit
import copy
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faults.stores import DOMAINS, SHAPES
from faults.verdict import Ledger

from grafctl import client
from grafctl.nouns.creating import create_store
from grafctl.store import files
from grafctl.store.cluster import Cluster
from grafctl.store.driver.contract import Driver
from grafctl.store.driver.memory import MemoryDriver
from grafctl.store.session import Session
from simulation.scheduler import Process, Scheduler, simulated

QUEUE, GROUPS = "q", ("g", "h")


@dataclass
class Ground:
    """A store, and what is known to be in it."""

    shape: str
    directory: Path
    driver: MemoryDriver
    file: files.StoreFile
    ledger: Ledger

    def copy(self) -> Ground:
        """Returns the same store for one more history; whatever files the last one left are gone."""
        for path in self.directory.iterdir():
            if path.is_file() and path.name not in (files.FILE_NAME, "watch.key", "watch.pub"):
                path.unlink()
        return Ground(self.shape, self.directory, self.driver.copy(), self.file, copy.deepcopy(self.ledger))

    def open(self, driver: Driver) -> client.Store:
        """Opens the store through a driver around its own, as a process does."""
        places = self.file.places(self.directory)
        return client.Store(Session(Cluster(driver, self.file.identity, places, self.directory)))

    def path(self, domain: str) -> Path:
        return self.file.places(self.directory)[domain].path


Fill = Callable[[Ground], None]
_made: dict[tuple[str, Fill], Ground] = {}


def prepare(shape: str, fill: Fill | None = None) -> None:
    """Makes the store of a shape, unless it is there."""
    fill = fill or begin_queue
    if (shape, fill) not in _made:
        _made[shape, fill] = _make(shape, fill)


def ground(shape: str, fill: Fill | None = None) -> Ground:
    """Returns a fresh copy of the store of a shape, whose locks are those of the scheduler that is simulated."""
    prepare(shape, fill)
    return _made[shape, fill or begin_queue].copy()


def _make(shape: str, fill: Fill) -> Ground:
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="grafctl-simulation-", dir=fast))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    made = Ground(shape, directory, MemoryDriver(), files.StoreFile("", "memory", {}), Ledger(QUEUE))
    scheduler = Scheduler(seed=0, switch=0.0)
    with simulated(scheduler):
        scheduler.spawn(Process("maker"), "maker", lambda: fill(made))
        scheduler.run()
    assert scheduler.failure is None, scheduler.failure
    return made


def begin(made: Ground) -> None:
    """A store with its domains and nothing else."""
    create_store(made.directory, dict.fromkeys(DOMAINS), made.driver, dry_run=False)
    made.file = files.read(made.directory)
    for domain in DOMAINS:
        made.path(domain).mkdir(parents=True)  # so that a catch-up finds where to lock


def begin_queue(made: Ground) -> None:
    """Three records, of which the first is final in the lineage of `g`; d was observed as healthy."""
    begin(made)
    replicas, min_payload = SHAPES[made.shape]
    client.keygen("watch", made.directory)
    with made.open(made.driver) as store:
        store.authorities.add("watch", public_key=made.directory / "watch.pub")
        store.health.observe("d", "healthy", authority="watch", key_file=made.directory / "watch.key")
        store.queues.create(QUEUE, replicas=replicas, min_payload=min_payload, allow=list(DOMAINS))
        for group in GROUPS:
            store.consumers.create(QUEUE, group, allow=list(DOMAINS), semantics="effectively-once")
        for number in range(3):
            made.ledger.publishes([f"record {number}"])
            made.ledger.published(store.publish(QUEUE, f"record {number}", domain="a").offset, f"record {number}")
        store.poll(QUEUE, "g", domain="a", max=1)
        made.ledger.finalised("g", [0], store.ack(QUEUE, "g", [0], domain="a").count)
