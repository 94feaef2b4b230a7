"""Two operators who change the same switch at the same time, or two switches of which one may be in flight.

Both die at points that are drawn, or one, or none; one may be stopped at a point of its own until the other has ended,
and wakes late. Consumers poll meanwhile, and both outputs grow.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import grafctl.client as client
from faults.forks import STOP
from faults.switches import DOMAINS, GRACE_MS, HOUR_MS, NEW, OLD, Orders, made
from grafctl import clock
from grafctl.errors import Fenced, NotFound
from grafctl.store.operations.switching.work import all_rows, look, row_of, side_of
from grafctl.store.switch_rules import SIDES, in_flight

Say = Callable[..., None]
OTHER, OTHER_GROUP = "t", "letters"
GROUPS = {"s": "billing", OTHER: OTHER_GROUP}
WAIT_S = 0.004
MORE = 6  # orders that both engines write while it goes on
ATTACH, TARGET, BACK, LOCK, DETACH = "attach", "switch", "rollback", "lock", "detach"


class Deed(NamedTuple):
    """What one operator does, from which domain."""

    verb: str
    name: str = "s"
    domain: str = "a"

    def about(self) -> dict[str, Any]:
        return self._asdict()

    def __str__(self) -> str:
        return f"{self.verb} {self.name}"


def there(name: str) -> dict[str, Any]:
    return {"source": OLD, "target": NEW, "group": GROUPS[name], "window_ms": 0}


# --- what the processes do


def operate(store: Path, say: Say, verb: str, name: str, domain: str, drain_ms: int = 0, later_ms: int = 0) -> None:
    """One command of an operator."""
    os.environ[clock.OFFSET_VARIABLE] = str(later_ms)
    about: dict[str, dict[str, Any]] = {
        ATTACH: there(name),
        TARGET: {"to": "target", "domain": domain, "drain_ms": drain_ms, "grace_ms": GRACE_MS},
        BACK: {"domain": domain, "drain_ms": drain_ms},
        LOCK: {"domain": domain},
        DETACH: {},
    }
    with client.open(store) as opened:
        say(changed=getattr(opened.switches, verb)(name, **about[verb]).changed)


def consume(store: Path, say: Say, groups: list[str], domain: str, until: str) -> None:
    """Polls and acks by the names that the consumers always had, until `until` is there and nothing comes."""
    with client.open(store) as opened:
        while True:
            is_last, gave = Path(until).exists(), False
            for group in groups:
                given = opened.poll(OLD, group, domain=domain, max=3, visibility_ms=HOUR_MS)
                if not given.records:
                    continue
                gave = True
                names = [str(record.id) for record in given.records]
                say(begins=names, of=group)
                offsets = [record.offset for record in given.records]
                try:
                    done = opened.ack(given.resource, given.group, offsets, lease=given.lease, domain=domain)
                except Fenced:  # its group was closed: they come again
                    say(fenced=names, of=group)
                    continue
                assert done.count == len(offsets), f"{done} of {offsets}"
                say(worked=names, of=group)
            if is_last and not gave:
                return
            if not gave:
                time.sleep(WAIT_S)


# --- the stores it begins in


@dataclass
class World:
    """A store with two outputs, and what is known from outside of the work of its consumers."""

    store: Path
    orders: dict[str, Orders] = field(default_factory=dict)  # group -> orders


def bare(store: Path) -> World:
    orders = made(store)
    with client.open(store) as opened:
        for output in (OLD, NEW):
            opened.consumers.create(output, OTHER_GROUP, allow=list(DOMAINS))
        other = Orders(set(orders.written), name=OTHER, group=OTHER_GROUP)
        other.take(opened, 3)
    return World(store, {orders.group: orders, OTHER_GROUP: other})


def attached(store: Path) -> World:
    """Both consumers are attached, and the engines are not equally far."""
    world = bare(store)
    with client.open(store) as opened:
        for orders in world.orders.values():
            opened.switches.attach(orders.name, **there(orders.name))
        write(world, opened, range(8, 11), OLD)
        for orders in world.orders.values():
            orders.take(opened, 4)
        world.orders["billing"].hold(opened, 1)
    return world


def switched(store: Path) -> World:
    """One of both is at its target, where its window is over, and has finished something there."""
    world = attached(store)
    with client.open(store) as opened:
        opened.switches.switch("s", "target", domain="a", drain_ms=0, grace_ms=GRACE_MS)
        orders = world.orders["billing"]
        orders.take(opened, 2)
        write(world, opened, range(8, 14), NEW)
        write(world, opened, range(14, 16), OLD)
        orders.take(opened, 3)
        orders.hold(opened, 1)
    return world


STAGES: dict[str, Callable[[Path], World]] = {"bare": bare, "attached": attached, "switched": switched}

# What both do, and in which store that begins.
RIVALS: dict[str, tuple[str, Deed, Deed]] = {
    "attach and attach": ("bare", Deed(ATTACH), Deed(ATTACH, domain="b")),
    "attach and detach": ("bare", Deed(ATTACH), Deed(DETACH)),
    "switch and switch": ("attached", Deed(TARGET), Deed(TARGET, domain="b")),
    "switch and rollback": ("attached", Deed(TARGET), Deed(BACK, domain="b")),
    "switch and detach": ("attached", Deed(TARGET), Deed(DETACH)),
    "rollback and rollback": ("switched", Deed(BACK), Deed(BACK, domain="b")),
    "rollback and switch": ("switched", Deed(BACK), Deed(TARGET, domain="b")),
    "rollback and lock": ("switched", Deed(BACK), Deed(LOCK, domain="b")),
    "rollback and detach": ("switched", Deed(BACK), Deed(DETACH)),
    "two switches": ("attached", Deed(TARGET), Deed(TARGET, OTHER, "b")),
    "one back, one there": ("switched", Deed(BACK), Deed(TARGET, OTHER, "b")),
}


def write(world: World, opened: client.Store, numbers: range, *outputs: str) -> None:
    """Lets engines write orders, which are there for both consumers."""
    first, *others = world.orders.values()
    first.write(opened, numbers, *outputs)
    for orders in others:
        orders.written |= first.written


# --- what must hold, at any moment


def wrong_now(opened: client.Store, at_once: int = 1) -> Iterator[str]:
    """Yields what does not hold while others change it: each look is one that time cannot have made up."""
    rows = all_rows(opened.session)
    flying = [name for name, row in rows.items() if in_flight(row)]
    if len(flying) > at_once:
        yield f"{flying} are in flight"
    for name in rows:
        try:
            row = row_of(opened.session, name)
        except NotFound:
            continue
        first, second, again = (_open_at(opened, name, row, side) for side in (*SIDES, SIDES[0]))
        # Open before and after at one generation is open in between: none is opened twice at the same.
        if first is not None and first == again and second is not None:
            yield f"both sides of {name} are open: {first} and {second}"


def _open_at(opened: client.Store, name: str, row: dict[str, Any], side: str) -> int | None:
    switch = look(side_of(opened.session, name, row, side)).switch
    return int(switch["generation"]) if switch is not None and switch["open"] else None


# --- plans


class Fate(NamedTuple):
    """When an operator begins, where it is stopped until the other one has ended, and where it dies."""

    delay_s: float
    stop: tuple[str, int] | None
    kill: tuple[str, int] | None

    def plan(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        if self.stop is not None:
            found[STOP] = dict([self.stop])
        if self.kill is not None:
            found["kill"] = dict([self.kill])
        return found


def fates(chance: random.Random, first: dict[str, int], second: dict[str, int]) -> tuple[Fate, Fate]:
    """Draws what becomes of both, of how often each passes which point when it is alone."""
    dies = chance.choice(("both", "both", "first", "second"))
    stops = chance.random() < 0.4
    return (
        _fate(chance, first, stops=stops, dies=dies != "second", delay_s=0.0),
        _fate(chance, second, stops=False, dies=dies != "first", delay_s=chance.choice((0.0, 0.0, 0.01, 0.03))),
    )


def _fate(chance: random.Random, hits: dict[str, int], *, stops: bool, dies: bool, delay_s: float) -> Fate:
    # NB whoever is stopped elsewhere has locks, and then nobody does anything until it goes on.
    own = [kill for kill in every(hits) if kill[0].startswith("switching.")]
    stop = chance.choice(own) if stops and own else None
    kills = [kill for kill in every(hits) if stop is None or kill[0] != stop[0]]
    if stop is not None:
        later = [kill for kill in kills if kill[0].startswith("switching.")]
        kills = later or kills
    return Fate(delay_s, stop, chance.choice(kills) if dies and kills else None)


def every(hits: dict[str, int]) -> list[tuple[str, int]]:
    return [(point, n) for point, count in sorted(hits.items()) for n in range(1, count + 1)]
