"""What every operation on a switch asks: its row, the groups of its two sides, and whether the caller's domain may.

Promises
- A row and a group are read as they are committed, and where voters are away as the newest that was acknowledged.
- The gate is passed for the groups of both sides; the side that is about to be opened must also be served in the
  caller's domain, since the consumer goes on there.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial

from grafctl import clock
from grafctl.store import switch_keys
from grafctl.store.authority import SWITCH, Asked, Placement, pass_epoch, pass_placement
from grafctl.store.checked import checked
from grafctl.store.committed import Committed
from grafctl.store.intervals import difference, size, union
from grafctl.store.log import Log
from grafctl.store.operations.polling import pass_local_gate
from grafctl.store.operations.tables import caller_of as table_caller
from grafctl.store.reading import block_refs
from grafctl.store.replica.state import State
from grafctl.store.requests import Context, Request
from grafctl.store.resources.carrying import carried_of
from grafctl.store.resources.control import rows
from grafctl.store.resources.delivery import Lineage
from grafctl.store.resources.group import group_row, lineage_of
from grafctl.store.resources.leases import leases_of
from grafctl.store.resources.queue import records_row
from grafctl.store.resources.switched import Carried
from grafctl.store.resources.switches import switch_row
from grafctl.store.session import Session
from grafctl.store.switch_health import Numbers
from grafctl.store.switch_rules import SIDES, TARGET, is_of_tables
from grafctl.typed import Any, Iterator, Mapping, NamedTuple


class Side(NamedTuple):
    """One side of a switch: a consumer's group of one of the outputs."""

    name: str  # of the switch
    side: str
    resource: str
    group: str
    log: Log

    @property
    def place(self) -> tuple[str, str, str]:
        """Returns what every request to the log of a side begins with."""
        return self.resource, self.group, self.name


class Here(NamedTuple):
    """A side as its log has it."""

    switch: dict[str, Any] | None  # None where the group is not attached (yet)
    row: dict[str, Any]  # of the group
    queue: dict[str, Any]
    lineage: Lineage
    carried: Carried
    leases: list[tuple[int, dict[str, Any]]]


def other(side: str) -> str:
    """Returns the other side."""
    return SIDES[1 - SIDES.index(side)]


def row_of(session: Session, name: str) -> dict[str, Any]:
    """Returns the row of a switch, the newest; raises `NotFound`."""
    return checked(session.control, lambda state: switch_row(state, name), newest=True)


def settled_row(session: Session, name: str) -> dict[str, Any]:
    """Returns the row of a switch after everything that anybody has begun to write to it, who may have died over it."""
    session.control.settle()
    return row_of(session, name)


def all_rows(session: Session) -> dict[str, dict[str, Any]]:
    """Returns the rows of all switches by name."""
    return checked(session.control, lambda state: rows(state, switch_keys.switches()))


def side_of(session: Session, name: str, row: Mapping[str, Any], side: str) -> Side:
    place = row[side]
    return Side(name, side, place["resource"], place["group"], session.resource(place["resource"]))


def here_in(state: State, side: Side) -> Here:
    """Returns a side as a state of its log has it."""
    queue = records_row(state, side.resource)
    row = group_row(state, side.resource, side.group)
    switch = row.get("switch")
    mine = switch if switch is not None and switch["name"] == side.name else None
    name = row["lineage"]
    return Here(mine, row, queue, lineage_of(state, name), carried_of(state, side.group), leases_of(state, name))


def look(side: Side) -> Here:
    """Returns a side as it is now."""
    return checked(side.log, partial(here_in, side=side), newest=True)


def run_request(log: Log, request: Request, dry_run: bool) -> Any:
    """Returns the answer of a request, or with `dry_run` what it would be now."""
    if not dry_run:
        return log.append(request).answer
    with log.view() as committed:
        return request.decide(committed.state, Context(committed.upto, clock.now_ms(), committed.lead.config)).answer


@contextmanager
def covering(side: Side, least: int = 0, prefer: str | None = None) -> Iterator[Committed]:
    """Yields the committed state of a side's log, with at least so many entries."""
    with side.log.view(prefer) as committed:
        if committed.upto >= least:
            yield committed
            return
    side.log.settle()
    with side.log.view(prefer) as committed:
        yield committed


def pass_gate(session: Session, name: str, row: Mapping[str, Any], domain: str, opens: str | None = None) -> None:
    """Raises `DomainUnavailable` unless the domain may act for the groups of both sides, and is served at `opens`."""
    if is_of_tables(row):
        for side in SIDES:
            table = row[side]["resource"]
            checked(session.resource(table), partial(table_caller(session, table, domain).pass_gate, SWITCH))
        return
    known = session.cluster.knows(domain)
    for side in SIDES:
        at = side_of(session, name, row, side)
        asked = Asked(SWITCH, at.resource, domain, at.group, None, known)

        def gate(state: State, asked: Asked = asked, is_opened: bool = side == opens) -> None:
            group = group_row(state, asked.resource, str(asked.group))
            if is_opened:
                pass_local_gate(session, state, asked, Placement.of(group), (group["epoch"],))
                return
            pass_placement(asked, Placement.of(group))
            pass_epoch(asked, group["epoch"])

        checked(at.log, gate)


def cursors_of(session: Session, name: str, row: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Returns where both groups stand: what a flip records."""
    found = {}
    for side in SIDES:
        here = look(side_of(session, name, row, side))
        found[side] = {"floor": here.lineage.floor, "cursor": here.row["cursor"]}
    return found


def look_closely(side: Side) -> tuple[Here, int]:
    """Returns a side as it is now, and when the first record that waits there was published; 0 where none does."""

    def found(state: State) -> tuple[Here, int]:
        here = here_in(state, side)
        return here, _waiting_ms(state, here)

    return checked(side.log, found, newest=True)


def _waiting_ms(state: State, here: Here) -> int:
    lineage, following = here.lineage, here.queue["next"]
    waiting = difference([[lineage.floor, following]], union(lineage.done, lineage.dead))
    first = waiting[0][0] if lineage.floor < following and waiting else following
    ref = next(block_refs(state, first, first + 1), None) if first < following else None
    return 0 if ref is None else ref.ms


def numbers_at(session: Session, name: str, row: Mapping[str, Any], mismatches: int) -> Numbers:
    """Returns what the store says of the health of a consumer at its target; of one that reads a table, little."""
    if is_of_tables(row):
        return Numbers(0, 0, 0, 0, mismatches)
    here, waiting_ms = look_closely(side_of(session, name, row, TARGET))
    lineage = here.lineage
    dead = size(lineage.dead)
    lag = here.queue["next"] - lineage.floor - size(lineage.done) - dead
    finished = lineage.finalised - lineage.skipped - lineage.lost
    finished_ms = (here.switch or {}).get("finished_ms", 0)
    return Numbers(lag, finished, lineage.redelivered, dead, mismatches, finished_ms, waiting_ms)
