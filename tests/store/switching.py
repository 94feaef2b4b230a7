"""Two outputs written side by side and a consumer between them, for the tests of switches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grafctl import client, clock
from grafctl.results import Shown
from grafctl.store.blocks import Outgoing
from grafctl.store.operations.switching.work import look, row_of, side_of
from grafctl.store.resources.switched import CloseGroup, DrainGroup, finished_of
from grafctl.store.resources.switches import BeginClosing, NoteShadow
from grafctl.store.switch_rules import SIDES
from store.world import World, world

AWS, GCP = "aws", "gcp"
OLD, NEW, GROUP = "old", "new", "billing"
WHO: dict[str, Any] = {"domain": AWS}
NOW: dict[str, Any] = {"domain": AWS, "drain_ms": 0}


def make(store: client.Store, *, topic: bool = False, retain_count: int = 0, **group: Any) -> None:
    """Makes both outputs and a group of each."""
    kept: dict[str, Any] = {"retain_count": retain_count} if retain_count else {}
    for name in (OLD, NEW):
        making = store.topics.create if topic else store.queues.create
        making(name, schema="s", replicas=[f"a={AWS}", f"g={GCP}"], allow=["aws", "gcp"], **kept)
        store.consumers.create(name, GROUP, allow=["aws", "gcp"], **group)


def write(store: client.Store, numbers: Iterable[int], *outputs: str, payload: str = "order") -> None:
    """Publishes these orders to outputs, to both where none is named; id, key and a field say which one it is."""
    records = [Outgoing(b'{"n":%d,"is":"%s"}' % (n, payload.encode()), f"o-{n}", f"k-{n}", None) for n in numbers]
    for name in outputs or (OLD, NEW):
        store.publish_batch(name, records, domain=AWS)


def take(store: client.Store, count: int = 100, **more: Any) -> list[str]:
    """Polls and acks, by the name that the consumer always had; returns the ids it was given."""
    given = store.poll(OLD, GROUP, max=count, **WHO, **more)
    offsets = [record.offset for record in given.records]
    if offsets:
        store.ack(given.resource, given.group, offsets, lease=given.lease, **WHO)
    return [str(record.id) for record in given.records]


def drain(store: client.Store) -> list[str]:
    """Takes until nothing comes."""
    found: list[str] = []
    while some := take(store):
        found += some
    return found


@contextmanager
def attached(directory: Path, driver: str = "memory", **how: Any) -> Iterator[World]:
    """Yields a store with a switch between both outputs, and 10 orders in each."""
    group = how.pop("group", {})
    with world(directory, [AWS, GCP], driver) as here:
        make(here.store, topic=how.pop("topic", False), retain_count=how.pop("retain_count", 0), **group)
        write(here.store, range(10))
        here.store.switches.attach("s", source=OLD, target=NEW, group=GROUP, **how)
        yield here


def state(store: client.Store) -> tuple[str, str]:
    row = row_of(store.session, "s")
    return row["state"], row["side"]


def open_sides(store: client.Store) -> list[str]:
    """Returns the sides that are open."""
    row = row_of(store.session, "s")
    found = {side: look(side_of(store.session, "s", row, side)).switch for side in SIDES}
    return [side for side, switch in found.items() if switch is not None and switch["open"]]


def is_once(ids: Iterable[str], expected: Iterable[int]) -> bool:
    """Returns whether each order was finished exactly once."""
    return Counter(ids) == Counter(f"o-{n}" for n in expected)


def finished(store: client.Store, side: str) -> list[list[int]]:
    row = row_of(store.session, "s")
    return finished_of(look(side_of(store.session, "s", row, side)).lineage)


def began(here: World, drain_ms: int = 0) -> None:
    """Leaves a switch as an operator who died while it drained."""
    row = row_of(here.store.session, "s")
    here.store.session.control.append(NoteShadow("s", row["generation"], {"mismatches": 0}, begins=True))
    until_ms = clock.now_ms() + drain_ms + 30_000
    here.store.session.control.append(BeginClosing("s", row["generation"], "target", until_ms))
    here.store.session.resource(OLD).append(DrainGroup(OLD, GROUP, "s", row["generation"], until_ms))


def closed(here: World) -> int:
    """Leaves a switch as an operator who died after the closing; returns the generation."""
    began(here)
    generation = int(row_of(here.store.session, "s")["generation"])
    here.store.session.resource(OLD).append(CloseGroup(OLD, GROUP, "s", generation))
    return generation


def status(store: client.Store, name: str = "s") -> dict[str, Any]:
    shown = store.switches.status(name)
    assert isinstance(shown, Shown)
    return shown.body


def owed(store: client.Store) -> int:
    return int(status(store)["target"]["owed"])
