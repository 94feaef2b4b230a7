"""A store that is full in every domain: it refuses a publish, and still takes acks, fences and what else frees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from grafctl import client
from grafctl.errors import Fenced, GrafctlError, NoQuorum, StoreFull
from grafctl.nouns.creating import create_store
from grafctl.store import files
from grafctl.store.cluster import Cluster
from grafctl.store.driver.journal import RESERVE_BYTES
from grafctl.store.driver.lmdb import LmdbDriver, LmdbEnvironment
from grafctl.store.session import Session

MAP_BYTES = 2 << 20  # a map that may not grow stands for a full disk
DOMAINS = ("a", "b", "c")
HOUR_MS = 3_600_000


def opened(directory: Path, map_bytes: int | None) -> client.Store:
    driver = LmdbDriver() if map_bytes is None else LmdbDriver(map_size=map_bytes, map_size_max=map_bytes)
    file = files.read(directory)
    return client.Store(Session(Cluster(driver, file.identity, file.places(directory), directory)))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A store whose domains have no room for a publish, with 50 records that a group holds."""
    directory = tmp_path / "store"
    driver = LmdbDriver(map_size=MAP_BYTES, map_size_max=MAP_BYTES)
    create_store(directory, dict.fromkeys(DOMAINS), driver, dry_run=False)
    with opened(directory, MAP_BYTES) as store:
        store.queues.create("q", replicas=["ra=a", "rb=b", "rc=c"], allow=list(DOMAINS))
        store.consumers.create("q", "g", allow=list(DOMAINS))
        store.publish_batch("q", [b"x"] * 50, domain="a")
        store.poll("q", "g", domain="b", max=50, visibility_ms=HOUR_MS)
        while publishes(store, 50_000):
            pass
        while publishes(store, 500):
            pass
    return directory


def publishes(store: client.Store, size: int) -> bool:
    try:
        store.publish("q", "x" * size, domain="a", timeout_s=1)
    except (NoQuorum, StoreFull):
        return False
    return True


def left(store: client.Store) -> list[int]:
    """Returns how much of its reserve each domain has."""
    found = []
    for domain in DOMAINS:
        environment = store.session.cluster.environment(domain)
        assert isinstance(environment, LmdbEnvironment)
        with environment.read():
            found.append(environment.reserve()[0])
    return found


CHANGES: dict[str, Callable[[client.Store], object]] = {
    "ack": lambda store: store.ack("q", "g", range(20), domain="b"),
    "nack": lambda store: store.nack("q", "g", range(20, 40), domain="b"),
    "fence": lambda store: store.fence("q", epoch=7),
    "pause": lambda store: store.consumers.pause("q", "g"),
    "placement": lambda store: store.placement.set("q", allow=["a", "b"]),
}


def test_a_full_store_takes_what_frees_or_protects_it_and_nothing_else(directory: Path) -> None:
    with opened(directory, MAP_BYTES) as store:
        for _ in range(5):
            assert not publishes(store, 500), "it is full"
        assert left(store) == [RESERVE_BYTES] * 3, "a publish takes nothing of the reserve, nor does its election"
        for change in CHANGES.values():
            change(store)
        assert min(left(store)) < RESERVE_BYTES
        assert not publishes(store, 500)
        assert any("reserve" in finding.problem for finding in store.doctor())
    with opened(directory, None) as store:  # with room again
        assert list(store.verify()) == []
        shown = store.consumers.show("q", "g").body
        assert (shown["ack_floor"], shown["paused"], store.queues.show("q").body["epoch"]) == (20, True, 7)
        with pytest.raises(Fenced):
            store.publish("q", "x", domain="a", epoch=6)
        assert sorted(store.publish("q", "x", domain="a", epoch=7).acked_by) == list(DOMAINS)
        assert store.ack("q", "g", range(20), domain="b").already == 20
        assert list(store.verify()) == []


def test_with_the_primary_away_the_reserve_serves_the_election_too(directory: Path) -> None:
    with opened(directory, MAP_BYTES) as store:
        with store.session.resource("q").view() as committed:
            primary = committed.lead.primary
        store.session.cluster.driver.fail(store.session.cluster.place(primary).path)
        assert store.ack("q", "g", range(20), domain="b" if primary != "b" else "c").count == 20


def test_hundreds_of_acks_fit(directory: Path) -> None:
    with opened(directory, MAP_BYTES) as store:
        for offset in range(50):
            store.ack("q", "g", [offset], domain="b")
        used = RESERVE_BYTES - min(left(store))
        assert 0 < used / 50 * 500 <= RESERVE_BYTES


def test_where_the_reserve_is_gone_nothing_is_acknowledged(directory: Path) -> None:
    with opened(directory, MAP_BYTES) as store:
        done = 1
        for domain in DOMAINS:
            with store.session.cluster.environment(domain).write(wait_s=5) as batch:
                batch.put(b"\x50filler", bytes(RESERVE_BYTES - 20_000))
                batch.use_reserve()
        with pytest.raises(GrafctlError):
            for done in range(2, 1_000):
                store.fence("q", epoch=done)
    with opened(directory, None) as store:
        assert store.queues.show("q").body["epoch"] in (done - 1, done)
        assert list(store.verify()) == []
