"""One snapshot of each domain tells of every log what a look at that log alone would tell."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from grafctl.store import keys
from grafctl.store.committed import Committed
from grafctl.store.driver.contract import Identity
from grafctl.store.driver.memory import MemoryDriver, MemoryEnvironment
from grafctl.store.snapshots import Snapshots
from store.world import DRIVERS, World, open_store, world

DOMAINS = ("a", "b", "c")
QUEUES = ("one", "two", "three")


def begin(place: World) -> None:
    """Makes queues in two or three domains, with records, a group and a lease."""
    for number, name in enumerate(QUEUES):
        place.store.queues.create(name, replicas=[f"{d}={d}" for d in DOMAINS[: 2 + number % 2]], allow=list(DOMAINS))
        place.store.consumers.create(name, "g", allow=list(DOMAINS))
        for count in range(number + 1):
            place.store.publish(name, f"{name}-{count}", domain="a")
    place.store.poll("three", "g", domain="a", max=1)


def told(committed: Committed) -> tuple[Any, ...]:
    rows = list(committed.state.scan((b"\0", b"\xff")))
    sights = {domain: sight.head for domain, sight in committed.found.sights.items()}
    errors = {domain: error.why for domain, error in committed.found.errors.items()}
    return committed.upto, committed.domain, committed.lead.term, committed.lead.primary, sights, errors, rows


def compare(place: World) -> int:
    """Compares every resource with a look at its own log; returns how many the snapshots told of."""
    with place.reopened() as other:
        session = other.session
        resources = session.resources()
        alone = {}
        for name in resources:
            with session.resource(name).view() as committed:
                alone[name] = told(committed)
        with Snapshots(session.cluster) as snapshots:
            found = {
                name: snapshots.committed(bytes.fromhex(row["log"]), row["domains"]) for name, row in resources.items()
            }
            assert {name: told(each) for name, each in found.items() if each} == {
                name: alone[name] for name, each in found.items() if each
            }
        return sum(each is not None for each in found.values())


@pytest.mark.parametrize("driver", sorted(DRIVERS))
@pytest.mark.parametrize("away", [(), ("a",), ("b",), ("c",)])
def test_it_tells_what_each_log_tells(tmp_path: Path, driver: str, away: Sequence[str]) -> None:
    with world(tmp_path, DOMAINS, driver) as place:
        begin(place)
        for domain in away:
            place.store.domains.fail(domain)
        assert compare(place) == len(QUEUES)


def test_a_replica_that_lags_behind_is_told_of_as_it_is(tmp_path: Path) -> None:
    with world(tmp_path, DOMAINS) as place:
        begin(place)
        place.store.domains.fail("c")
        place.store.publish("two", "later", domain="a")
        place.store.domains.restore("c")
        assert compare(place) == len(QUEUES)


def test_where_an_older_copy_was_put_back_it_leaves_the_log_to_a_look_of_its_own(tmp_path: Path) -> None:
    with world(tmp_path, DOMAINS) as place:
        begin(place)
        assert isinstance(place.driver, MemoryDriver)
        domain = place.driver.domains[os.path.abspath(place.store.session.cluster.place("a").path)]
        older = domain.snapshot
        place.store.publish("two", "later", domain="a")
        domain.snapshot = older
        session, log = place.store.session, place.log_id("two")
        with Snapshots(session.cluster) as snapshots:
            assert snapshots.committed(log, DOMAINS) is None
            assert snapshots.committed(place.log_id("one"), DOMAINS) is not None
        with place.reopened() as other:
            (replica, *_) = next(item for item in other.status().body["resources"] if item["name"] == "two")["replicas"]
            assert "an older copy was put back" in replica["trouble"]


def test_a_log_that_was_never_begun_is_left_to_a_look_of_its_own(tmp_path: Path) -> None:
    with world(tmp_path, DOMAINS) as place:
        with Snapshots(place.store.session.cluster) as snapshots:
            assert snapshots.committed(b"12345678", DOMAINS) is None
            assert snapshots.committed(keys.CONTROL_LOG, DOMAINS) is not None


class CountingDriver(MemoryDriver):
    """Counts how often a snapshot is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def open(self, path: str | os.PathLike[str], identity: Identity) -> MemoryEnvironment:
        environment = super().open(Path(path), identity)
        read = environment.read

        def counted() -> Any:
            self.reads += 1
            return read()

        environment.read = counted  # type: ignore[method-assign]
        return environment


def test_neither_a_status_nor_a_publish_opens_more_snapshots_for_more_resources(tmp_path: Path) -> None:
    with world(tmp_path, DOMAINS) as place:
        begin(place)
        assert isinstance(place.driver, MemoryDriver)
        driver = CountingDriver()
        driver.domains = place.driver.domains
        counts: list[tuple[int, int]] = []
        for number in range(2):
            with open_store(tmp_path, driver) as other:
                driver.reads = 0
                assert len(other.status().body["resources"]) == len(QUEUES) + 10 * number
                looked, driver.reads = driver.reads, 0
            with open_store(tmp_path, driver) as other:
                other.publish("one", "x", domain="a")
                counts.append((looked, driver.reads))
            for more in range(10):
                place.store.queues.create(f"more-{more}", replicas=["a=a", "b=b"], allow=["a"])
        assert counts[0] == counts[1] and counts[0][0] > 0 < counts[0][1]
