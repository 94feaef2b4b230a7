"""What is known of a vshard in all logs of its table: who owns it, and how far a migration of it is.

Promises
- What is said here is read from the newest committed state of each log; a route is only where to look first.
- A log that has no quorum now hides nothing but what it alone knows: how far a copy in it is.
- Of two logs that both seem to own a vshard, because one was read before a flip and the other after it, the later
  generation counts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from grafctl.errors import Internal, NoQuorum
from grafctl.store import vshard_keys
from grafctl.store.checked import checked, served
from grafctl.store.log import Log
from grafctl.store.moving_rules import BASE_COPY, CANCELLED, COMPLETED, CUTOVER, FAILED, IDLE, REVERSED, WAL_CATCHUP
from grafctl.store.operations.routing import table_of
from grafctl.store.replica.state import State
from grafctl.store.resources import moving, table
from grafctl.store.resources.control import rows as control_rows
from grafctl.store.resources.queue import queue_row
from grafctl.store.resources.table import PART, vshard_row
from grafctl.store.session import Session


class Here(NamedTuple):
    """What one log knows of a vshard."""

    part: str
    row: dict[str, Any] | None
    moving: dict[str, Any] | None
    back: dict[str, Any] | None


class Situation(NamedTuple):
    """A vshard: the log that owns it, the one that it is going to or came from, and its migration's state."""

    state: str
    owner: Here
    other: Here | None  # target of the migration under way; else where the kept copy is

    @property
    def migration(self) -> dict[str, Any] | None:
        """Returns the record of a migration under way."""
        return self.owner.moving


def parts_of(session: Session, name: str) -> list[str]:
    """Returns the names of a table's logs: its home, and its parts in the order in which they were made."""
    from grafctl.store import keys

    records = checked(session.control, lambda state: control_rows(state, keys.resources()))
    parts = [
        (int(part.rpartition("-")[2]), part)
        for part, record in records.items()
        if record["kind"] == PART and record["start"]["queue"]["part_of"] == name
    ]
    return [name, *(part for _, part in sorted(parts))]


def look(log: Log, part: str, number: int) -> Here:
    """Returns what a log knows of a vshard, the newest."""

    def find(state: State) -> Here:
        row = vshard_row(state, queue_row(state, part), number)
        record = state.get_json(vshard_keys.migration(number))
        return Here(part, row, record, state.get_json(vshard_keys.way_back(number)))

    return served(lambda: checked(log, find, newest=True))


def situation_of(session: Session, name: str, number: int) -> Situation:
    """Returns where a vshard is and how far a migration of it is."""
    known = table_of(session, name)
    known.check(number)
    first = known.part_of(number)
    here = look(session.resource(first), first, number)
    if here.row is not None and here.row["state"] in (table.OPEN, table.SEALED):
        found = [here]
        target = (here.moving or {}).get("to") or (here.back or {}).get("to")
        others = [] if target is None else [target]
    else:
        found, others = [], parts_of(session, name)
    away: NoQuorum | None = None
    for part in others:
        try:
            found.append(look(session.resource(part), part, number))
        except NoQuorum as error:
            away = error
    situation = _put_together(name, number, found)
    if away is not None and (situation is None or (situation.owner.row or {})["state"] == table.MOVED):
        raise away  # the owner may be there
    if situation is None:
        raise Internal(f"No log of {name} owns vshard {number}.")
    return situation


def _put_together(name: str, number: int, found: list[Here]) -> Situation | None:
    owners = [here for here in found if here.row is not None and here.row["state"] in (table.OPEN, table.SEALED)]
    if owners:
        owner = max(owners, key=lambda here: _generation(here))
        target = (owner.moving or {}).get("to") or (owner.back or {}).get("to")
        other = next((here for here in found if here.part == target), None)
        return Situation(_state_of(owner, other), owner, other)
    given = [here for here in found if here.row is not None and here.row["state"] == table.MOVED]
    if not given:
        return None
    source = max(given, key=_generation)
    target_here = next((here for here in found if source.row and here.part == source.row["to"]), None)
    return Situation(CUTOVER, source, target_here)  # flipped, and not opened yet


def _generation(here: Here) -> int:
    return int((here.row or {"generation": 0})["generation"])


def _state_of(owner: Here, other: Here | None) -> str:
    record, row = owner.moving, owner.row or {}
    if record is not None:
        if record["state"] == moving.FAILED:
            return FAILED
        if record["state"] == moving.CANCELLING:
            return CANCELLED
        if row["state"] == table.SEALED:
            return CUTOVER
        is_copied = record["reverse"] or (other is not None and other.moving is not None and other.moving["copied"])
        return WAL_CATCHUP if is_copied else BASE_COPY
    if owner.back is None:
        return IDLE
    kept = other.row if other is not None else None
    return REVERSED if kept is not None and kept.get("reverse") else COMPLETED
