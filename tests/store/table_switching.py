"""Two tables written side by side and a group that reads them, for the tests of switches of tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grafctl import client
from grafctl.store.operations.switching.work import row_of
from grafctl.store.operations.tables import Item
from store.world import World, world

AWS, GCP = "aws", "gcp"
OLD, NEW, GROUP = "old", "new", "billing"
WHO: dict[str, Any] = {"domain": AWS}
READ: dict[str, Any] = {"domain": AWS, "group": GROUP}


def make(store: client.Store, name: str, **how: Any) -> None:
    store.tables.create(name, replicas=[f"a={AWS}", f"g={GCP}"], **{"allow": [AWS, GCP], "vshards": 8, **how})


def put(store: client.Store, numbers: Iterable[int], *names: str, value: str = "row") -> None:
    items = [Item(b"k%03d" % n, f'{{"n":{n},"is":"{value}"}}'.encode()) for n in numbers]
    for name in names or (OLD, NEW):
        store.tables.put_many(name, items, **WHO)


@contextmanager
def filled(directory: Path, driver: str) -> Iterator[World]:
    """Yields a store with both tables, and 20 rows in each."""
    with world(directory, [AWS, GCP], driver) as made:
        for name in (OLD, NEW):
            make(made.store, name)
        put(made.store, range(20))
        yield made


def attach(here: World, **how: Any) -> None:
    here.store.switches.attach("s", source=OLD, target=NEW, group=GROUP, **{"window_ms": 0, **how})


def from_where(store: client.Store, key: str = "k001") -> str | None:
    return store.tables.get(OLD, key, **READ).resource


def state(store: client.Store) -> tuple[str, str]:
    row = row_of(store.session, "s")
    return row["state"], row["side"]


def counts(store: client.Store) -> dict[str, int]:
    found = row_of(store.session, "s")["shadow"]["counts"]
    return {kind: count for kind, count in found.items() if count}
