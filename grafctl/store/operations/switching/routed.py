"""Polls of a group that is attached to a switch: they go to the side that is open, whichever name they come by.

Whoever polls also helps: he opens the side that a committed flip says is open, gives up a closing whose time is over,
and finishes what is owed instead of handing it out.

Promises
- A lease is given only by a group that is open at the generation of the row that was read; the group's own log says so.
- What an ack by that name would refuse, a poll that finishes something refuses too, and then nothing is leased.
"""

from __future__ import annotations

from grafctl import clock
from grafctl.errors import GenerationConflict, GrafctlError, NotFound
from grafctl.results import Delivery, Record
from grafctl.store import switch_keys
from grafctl.store.checked import checked
from grafctl.store.intervals import from_offsets
from grafctl.store.operations.polling import ack, caller_of, give_back, poll_at
from grafctl.store.operations.switching.work import Here, Side, covering, here_in, look, row_of, side_of
from grafctl.store.resources.carrying import PayOwed
from grafctl.store.resources.group import NotOpenHere, group_row, lineage_of
from grafctl.store.resources.switched import OpenGroup
from grafctl.store.resources.switches import Flip
from grafctl.store.session import Session
from grafctl.store.switch_match import match_key
from grafctl.store.switch_rules import SIDES, is_over
from grafctl.typed import Any, NamedTuple, Sequence

_HOPS = 8  # looks at the switch in one poll
_ROUNDS = 100  # deliveries in one poll of which everything was owed


class Route(NamedTuple):
    """Where the polls of a consumer go, as this process knows it."""

    name: str  # of the switch
    resource: str
    group: str
    generation: int | None  # None: it is attached to no switch any more
    match: str
    owed: set[bytes]


class Asked(NamedTuple):
    """What a poll asks for."""

    resource: str
    group: str
    domain: str
    most: int
    visibility_ms: int
    epoch: int | None


def poll_attached(
    session: Session,
    asked: Asked,
    finish: Sequence[int],
    lease: int | None,
    finished: int | None,
    held_at: tuple[str, str] | None = None,
) -> Delivery:
    """Does what `poll` does, at the open side; a delivery without records where neither side is open for now.

    What is to be finished is of `held_at`, or of the group that is asked for."""
    key = asked.resource, asked.group
    held = held_at or key
    route = session.routes.get(key)
    if finish and (route is None or (route.resource, route.group) != held):
        finished = ack(session, *held, list(finish), asked.domain, lease, asked.epoch).count
        finish = ()
    for _ in range(_HOPS):
        route = session.routes.get(key)
        if route is None:
            route = _learn(session, *key)
            if route is None:
                break
            if route.name:
                session.routes[key] = route
        try:
            return _poll(session, asked, route, finish, lease, finished)
        except NotOpenHere:
            session.routes.pop(key, None)
            if finish:
                finished = ack(session, *held, list(finish), asked.domain, lease, asked.epoch).count
                finish = ()
    return _nothing(session, asked, finished)


def _poll(
    session: Session, asked: Asked, route: Route, finish: Sequence[int], lease: int | None, finished: int | None
) -> Delivery:
    def poll(**how: Any) -> Delivery:
        more: dict[str, Any] = {"generation": route.generation, **how}
        who = (session, route.resource, route.group, asked.domain)
        return poll_at(*who, asked.most, asked.visibility_ms, asked.epoch, **more)

    delivery = poll(finish=finish, lease=lease, finished=finished)
    for _ in range(_ROUNDS):
        left = _without_owed(session, asked, route, delivery)
        if left or not delivery.records:
            break
        delivery = poll(finished=delivery.finished)
    else:
        left = []
    told: dict[str, Any] = {"lost": delivery.lost, "switch": route.name or None}
    more = (delivery.ack_floor, delivery.lease, delivery.finished)
    return Delivery(route.resource, route.group, left, *more, **told)


def _without_owed(session: Session, asked: Asked, route: Route, delivery: Delivery) -> list[Record]:
    """Returns what of a delivery is for the consumer; what was finished at the other output before is finished."""
    if not route.owed or not delivery.records:
        return delivery.records
    paid: dict[bytes, list[int]] = {}
    left: list[Record] = []
    for record in delivery.records:
        own = match_key(route.match, record.payload, record.id, record.key).hash
        if own in route.owed:
            paid.setdefault(own, []).append(record.offset)
        else:
            left.append(record)
    if not paid:
        return delivery.records
    caller = caller_of(session, route.resource, route.group, asked.domain, asked.epoch)
    log = session.resource(route.resource)
    try:
        log.append(PayOwed(caller, route.name, paid))
    except GrafctlError:
        give_back(log, caller, from_offsets([record.offset for record in left]), delivery.lease)
        raise
    route.owed.difference_update(paid)
    return left


def _nothing(session: Session, asked: Asked, finished: int | None) -> Delivery:
    with session.state(asked.resource) as state:
        floor = lineage_of(state, group_row(state, asked.resource, asked.group)["lineage"]).floor
    return Delivery(asked.resource, asked.group, [], floor, None, finished)


# --- where the open side is


class Reads(NamedTuple):
    """What the consumer of an attached group reads now, for people and for who asks whether it may."""

    switch: str
    side: str
    resource: str
    group: str
    is_open: bool  # no: it is being closed, or opens with the next poll
    row: dict[str, Any]


def reads(session: Session, resource: str, group: str) -> Reads | None:
    """Returns where the polls of a group go, or None where it is attached to no switch. Changes nothing."""
    switch = checked(session.resource(resource), lambda state: group_row(state, resource, group).get("switch"))
    if switch is None:
        return None
    try:
        row = row_of(session, switch["name"])
    except NotFound:  # it is being detached
        return None
    places = [(row[side]["resource"], row[side]["group"]) for side in SIDES]
    if (resource, group) not in places:
        return None
    side = side_of(session, switch["name"], row, row["side"])
    there = look(side).switch
    is_open = there is not None and there["open"] and there["generation"] == row["generation"]
    return Reads(side.name, side.side, side.resource, side.group, is_open, row)


def _learn(session: Session, resource: str, group: str) -> Route | None:
    """Returns the way to the open side, which is opened where that is due; None where there is none for now."""
    for _ in range(_HOPS):
        with session.state(resource) as state:
            switch = group_row(state, resource, group).get("switch")
        if switch is None:  # detached meanwhile: it is a group as any other
            return Route("", resource, group, None, "id", set())
        name = switch["name"]
        try:
            row = row_of(session, name)
            places = [(row[side]["resource"], row[side]["group"]) for side in SIDES]
        except NotFound:
            places = []
        if (resource, group) not in places:
            continue  # it is being detached
        side = side_of(session, name, row, row["side"])
        here = look(side)
        found = _open(session, side, here, row)
        if found != "again":
            return _route(side, row) if found == "open" else None
    return None


def _open(session: Session, side: Side, here: Here, row: dict[str, Any]) -> str:
    """Returns `open`, `closed` for now, or `again` where something was changed; opens and gives up what is due."""
    switch, generation = here.switch, row["generation"]
    if switch is None or switch["generation"] > generation:
        return "again"  # not attached yet, or the switch went on
    if switch["generation"] < generation:
        side.log.append(OpenGroup(*side.place, generation))
        return "again"
    if switch["open"] and switch["draining"] is None:
        return "open"
    if not is_over(row, clock.now_ms()):
        return "closed"
    try:
        session.control.append(Flip(side.name, generation, side.side, "given up: its time was over", is_late=True))
    except GenerationConflict:  # somebody was quicker, or has asked for more time
        return "again"
    session.note("changed", "consumer switch given up", switch=side.name, resource=side.resource, group=side.group)
    return "again"


def _route(side: Side, row: dict[str, Any]) -> Route | None:
    """Returns the way to an open side, with what is owed there: from now on that only gets less."""
    with covering(side) as committed:
        switch = here_in(committed.state, side).switch
        if switch is None or switch["generation"] != row["generation"]:
            return None
        rows = committed.state.scan(switch_keys.all_owed(side.group)) if switch["owed"] else []
        owed = {switch_keys.parse_owed(key) for key, _ in rows}
    return Route(side.name, side.resource, side.group, row["generation"], row["match"], owed)
