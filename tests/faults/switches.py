"""A consumer that is switched between two outputs while its operator is killed: the deeds, and what must hold after.

The outputs hold orders by id. What the consumer has finished is known from outside: an order counts once its ack was
acknowledged. Whoever lives later lives an hour later, so that no closing and no lease is waited for.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grafctl.client as client
from grafctl import clock
from grafctl.errors import Fenced
from grafctl.store.blocks import Outgoing
from grafctl.store.operations.switching.work import look, row_of, side_of
from grafctl.store.resources.switched import finished_of
from grafctl.store.switch_rules import SIDES

Say = Callable[..., None]
OLD, NEW, GROUP, NAME = "old", "new", "billing", "s"
DOMAINS = ("a", "b")
HOUR_MS = 3_600_000
PIECES = {"grafctl.store.operations.switching.carrying.PIECE": 4}


@dataclass
class Orders:
    """What is known from outside of the work of one consumer."""

    written: set[str] = field(default_factory=set)
    done: Counter[str] = field(default_factory=Counter)  # ids whose ack was acknowledged
    tried: Counter[str] = field(default_factory=Counter)  # ids whose ack was not answered
    held: tuple[str, int, list[tuple[int, str]]] | None = None  # output, lease, offsets and ids
    name: str = NAME  # of the consumer's switch
    group: str = GROUP

    def write(self, store: client.Store, numbers: Iterable[int], *outputs: str) -> None:
        names = [f"o-{number}" for number in numbers]
        for output in outputs or (OLD, NEW):
            store.publish_batch(output, [Outgoing(name.encode(), name, None, None) for name in names], domain="a")
        self.written.update(names)

    def hold(self, store: client.Store, count: int) -> None:
        given = store.poll(OLD, self.group, domain="a", max=count, visibility_ms=HOUR_MS // 2)
        assert given.lease is not None and len(given.records) == count
        self.held = given.resource, given.lease, [(record.offset, str(record.id)) for record in given.records]

    def ack_held(self, store: client.Store) -> None:
        """Acks one of what is held; where its group was closed meanwhile that is refused, and it comes again."""
        assert self.held is not None
        output, lease, (offset, name) = *self.held[:2], self.held[2].pop(0)
        with suppress(Fenced):
            self.done[name] += store.ack(output, self.group, [offset], lease=lease, domain="a").count

    def take(self, store: client.Store, count: int = 5) -> int:
        given = store.poll(OLD, self.group, domain="b", max=count)
        if given.records:
            offsets = [record.offset for record in given.records]
            done = store.ack(given.resource, given.group, offsets, lease=given.lease, domain="b")
            assert done.count == len(offsets), f"{done} of {given}"
            self.done.update(str(record.id) for record in given.records)
        return len(given.records)


# --- what is done


def _verb(verb: str, **about: Any) -> Callable[..., None]:
    def deed(store: Path, say: Say, later_ms: int = 0) -> None:
        os.environ[clock.OFFSET_VARIABLE] = str(later_ms)
        with client.open(store) as opened:
            change = getattr(opened.switches, verb)(NAME, **about)
            say(changed=change.changed)

    return deed


def consume(store: Path, say: Say, later_ms: int = 0) -> None:
    """Polls and acks by the name that the consumer always had, until nothing comes."""
    os.environ[clock.OFFSET_VARIABLE] = str(later_ms)
    with client.open(store) as opened:
        while (given := opened.poll(OLD, GROUP, domain="a", max=3)).records:
            say(begins=[record.id for record in given.records])
            offsets = [record.offset for record in given.records]
            opened.ack(given.resource, given.group, offsets, lease=given.lease, domain="a")
            say(worked=[record.id for record in given.records])


def compare(store: Path, say: Say) -> None:
    with client.open(store) as opened:
        say(compared=opened.switches.compare(NAME, domain="a", grace_ms=GRACE_MS).body["compared"])


def soak(store: Path, say: Say) -> None:
    """Judges once, and takes the consumer back where its outputs differ."""
    os.environ[clock.OFFSET_VARIABLE] = "0"
    with client.open(store) as opened:
        say(state=opened.switches.soak(NAME, domain="a", drain_ms=0).body["state"])


_TIE: dict[str, Any] = {"source": OLD, "target": NEW, "group": GROUP, "window_ms": 0}
_AT: dict[str, Any] = {"domain": "a", "drain_ms": 0}
GRACE_MS = 24 * HOUR_MS  # the engine that lags does so for as long as cases are drawn
DEEDS: dict[str, Callable[..., None]] = {
    "switch_attach": _verb("attach", **_TIE),
    "switch_compare": compare,
    "switch_target": _verb("switch", to="target", grace_ms=GRACE_MS, **_AT),
    "switch_soak": soak,
    "switch_regress": soak,
    "switch_back": _verb("rollback", **_AT),
    "switch_lock": _verb("lock", domain="a"),
    "switch_detach": _verb("detach"),
    "switch_consume": consume,
}


# --- the stores it begins in


def made(store: Path) -> Orders:
    """Two outputs, of which the new engine's lags, and a consumer that has finished some orders and holds some."""
    orders = Orders()
    client.create(store, dict.fromkeys(DOMAINS))
    with client.open(store) as opened:
        for output in (OLD, NEW):
            opened.queues.create(output, replicas=[f"r{name}={name}" for name in DOMAINS], allow=list(DOMAINS))
            opened.consumers.create(output, GROUP, allow=list(DOMAINS))
        orders.write(opened, range(8))
        orders.take(opened, 6)
    return orders


def attached(store: Path) -> Orders:
    orders = made(store)
    with client.open(store) as opened:
        opened.switches.attach(NAME, **_TIE)
        orders.write(opened, range(8, 11), OLD)
        orders.take(opened, 4)
        orders.hold(opened, 1)
    return orders


def switched(store: Path) -> Orders:
    orders = attached(store)
    with client.open(store) as opened:
        opened.switches.switch(NAME, "target", grace_ms=GRACE_MS, **_AT)
        orders.take(opened, 2)
        orders.write(opened, range(8, 14), NEW)
        orders.write(opened, range(14, 16), OLD)
        orders.take(opened, 3)
        orders.hold(opened, 1)
    return orders


def spoilt(store: Path) -> Orders:
    """The new engine writes another record than the old one, which the next judgement finds."""
    orders = switched(store)
    with client.open(store) as opened:
        for output, payload in ((OLD, b"right"), (NEW, b"wrong")):
            opened.publish_batch(output, [Outgoing(payload, "o-spoilt", None, None)], domain="a")
    orders.written.add("o-spoilt")
    return orders


STAGES = {"made": made, "attached": attached, "switched": switched, "spoilt": spoilt}
VERBS = {
    "switch_attach": "made",
    "switch_compare": "attached",
    "switch_target": "attached",
    "switch_soak": "switched",
    "switch_regress": "spoilt",
    "switch_back": "switched",
    "switch_lock": "switched",
    "switch_detach": "attached",
    "switch_consume": "switched",
}


# --- what must hold


def open_sides(opened: client.Store, name: str = NAME) -> list[str]:
    """Returns the sides that are open, as their own logs say."""
    row = row_of(opened.session, name)
    found = {side: look(side_of(opened.session, name, row, side)).switch for side in SIDES}
    return [side for side, switch in found.items() if switch is not None and switch["open"]]


def wrong_at_once(opened: client.Store) -> Iterator[str]:
    """Yields what does not hold whenever somebody died."""
    for row in opened.switches.status().fields().get("switches", []):
        if len(sides := open_sides(opened, row["switch"])) > 1:
            yield f"both sides of {row['switch']} are open: {sides}"


def wrong_in_the_end(opened: client.Store, orders: Orders, *, is_tied: bool) -> Iterator[str]:
    """Yields what does not hold once both outputs have every order and the consumer was given all there was."""
    for name in sorted(orders.written):
        if not orders.done[name] + orders.tried[name] >= 1 or orders.done[name] > 1:
            yield f"{name} was finished {orders.done[name]} times"
    if is_tied:
        row = row_of(opened.session, orders.name)
        if open_sides(opened, orders.name) != [row["side"]]:
            yield f"{open_sides(opened, orders.name)} is open and {row['side']} is the side"
        here = look(side_of(opened.session, orders.name, row, row["side"]))
        if finished_of(here.lineage) != [[0, here.queue["next"]]]:
            yield f"the open side has finished {finished_of(here.lineage)} of {here.queue['next']}"
        if here.switch is not None and here.switch["owed"]:
            yield f"{here.switch['owed']} records are owed still"
    for finding in opened.verify():
        yield f"verify: {finding.where}: {finding.problem}"
