"""What the tests of backups share in a module: a store, and one backup of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from grafctl import client

DOMAINS = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with everything in it: ids, leases, finalised marks, dead letters, a witness, a copy in progress."""
    directory = tmp_path_factory.mktemp("made") / "store"
    client.create(directory, dict.fromkeys(DOMAINS))
    client.keygen("watch", directory)
    with client.open(directory) as store:
        store.authorities.add("watch", public_key=directory / "watch.pub")
        store.health.observe("d", "healthy", authority="watch", key_file=directory / "watch.key")
        store.queues.create("q", replicas=["ra=a", "rb=b", "rc=c:witness"], allow=list(DOMAINS), min_payload=1)
        store.queues.create("other", replicas=["rd=d"], allow=["d"], compression="zstd")
        store.consumers.create("q", "g", allow=["a", "b"], max_deliveries=1)
        for number in range(9):
            store.publish("q", f"record {number}", domain="a", id=f"id-{number}", key="k", headers={"h": "v"})
        store.publish("other", "x" * 3000, domain="d")
        store.poll("q", "g", domain="b", max=6, visibility_ms=3_600_000)
        store.ack("q", "g", [0, 2], domain="b")
        store.nack("q", "g", [4], domain="b")
        store.fence("q", epoch=5)
        store.locator.set("q", generation=2, add=["rd=d:learner"])
    return directory


@pytest.fixture(scope="module")
def backup(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("backup") / "one"
    with client.open(made) as store:
        store.backup(target)
    return target
