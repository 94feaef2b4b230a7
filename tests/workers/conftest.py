"""What the tests of the worker share: a store with a queue and a group, and looks at what is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import grafctl
from grafctl.client import create

QUEUE, GROUP = "orders", "billing"
HERE, THERE, THIRD = "aws", "gcp", "azure"


def make(directory: Path, domains: tuple[str, ...] = (HERE, THERE), count: int = 0, **group: Any) -> Path:
    """Makes a store with a queue of `count` records and a group; returns its path."""
    path = directory / "store"
    create(path, dict.fromkeys(domains))
    with grafctl.open(path) as store:
        replicas = [f"orders-{domain}={domain}" for domain in domains]
        store.queues.create(QUEUE, replicas=replicas, allow=domains)
        store.consumers.create(QUEUE, GROUP, allow=domains, **group)
    publish(path, count)
    return path


def publish(path: Path, count: int) -> None:
    with grafctl.open(path) as store:
        if count:
            store.publish_batch(QUEUE, [b"order %d" % number for number in range(count)], domain=HERE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make(tmp_path, count=6)


@pytest.fixture
def store(path: Path) -> Iterator[grafctl.Store]:
    with grafctl.open(path) as opened:
        yield opened


def worker(store: grafctl.Store, **options: Any) -> grafctl.Worker:
    return grafctl.Worker(store, QUEUE, GROUP, domain=HERE, **{"idle_s": 0.0, **options})


def rest(store: grafctl.Store, **options: Any) -> list[tuple[int, int | None]]:
    """Returns (offset, delivery) of what somebody else is given now."""
    records = store.poll(QUEUE, GROUP, domain=THERE, **options).records
    return [(record.offset, record.delivery) for record in records]


def floor(store: grafctl.Store) -> int:
    found: int = store.consumers.show(QUEUE, GROUP).body["ack_floor"]
    return found
