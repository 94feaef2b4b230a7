"""Switches of tables in the control log: what they are beside those of queues and topics.

Who reads a table finishes nothing, so there is no group to close, nothing to carry and nobody to wait for: each verb is
one entry. A group that reads a table through a switch has a *reader* row, which says what it reads since which
generation, and is small, because each read looks at it twice: a read counts only where what it began with is in force
when it ends.

Promises
- A group reads one side of its switch: the flip is one entry, and whatever was read across it is read again.
- A group that was detached at the target does not fall back to the source by itself: it is told to name the target.
"""

from __future__ import annotations

from grafctl.errors import Fenced
from grafctl.store import switch_keys
from grafctl.store.records import CTRL, encode_json
from grafctl.store.replica.state import State
from grafctl.store.requests import Context, Decision
from grafctl.store.resources.control import rows
from grafctl.store.resources.switches import (
    Switched,
    asked_again,
    first_row,
    flipped,
    pass_compared,
    refused,
    row_at,
)
from grafctl.store.switch_rules import (
    ROLLED_BACK,
    SIDES,
    SOURCE,
    SWITCHED,
    TABLE,
    TARGET,
    check_move,
    in_flight,
    pass_flight,
)
from grafctl.typed import Any, Mapping, NamedTuple


class Way(NamedTuple):
    """Where the reads of a group go."""

    table: str
    switch: str | None = None  # None: it is attached to none
    generation: int | None = None


def way_of(state: State, table: str, group: str) -> Way:
    """Returns where the reads of a group go that names a table; raises `Fenced` where it has moved for good."""
    reader: dict[str, Any] | None = state.get_json(switch_keys.reader(table, group))
    if reader is None:
        return Way(table)
    if (gone := reader.get("gone")) is not None:
        raise Fenced(
            f"Group {group} of {table} was moved to {gone['resource']} by the switch {reader['switch']}, for good.",
            hint=f"Read {gone['resource']} instead.",
            resource=table,
            group=group,
            switch=reader["switch"],
        )
    return Way(reader["table"], reader["switch"], reader["generation"])


def _set(name: str, row: dict[str, Any] | None, answer: dict[str, Any], readers: list[Any] | None = None) -> Decision:
    request: dict[str, Any] = {"do": "switch", "name": name, "row": row}
    request |= {} if readers is None else {"readers": readers}
    return Decision(Switched(True, answer), encode_json(request), kind=CTRL)


def _readers(name: str, row: Mapping[str, Any]) -> list[Any]:
    """Returns the reader rows of a switch: by either name its group reads the open side."""
    way = {"switch": name, "table": row[row["side"]]["resource"], "generation": row["generation"]}
    return [[row[side]["resource"], row[side]["group"], way] for side in SIDES]


class TieTables(NamedTuple):
    """The request for a switch of two tables; `definition` is as `CreateSwitch` takes it."""

    name: str
    definition: Mapping[str, Any]

    def decide(self, state: State, context: Context) -> Decision:
        if (there := asked_again(state, self.name, self.definition)) is not None:
            return there
        row = first_row(self.definition, context) | {"kind": TABLE}
        return _set(self.name, row, row, _readers(self.name, row))


class FlipTables(NamedTuple):
    """The request to read the other table from now on. `cursors` says of each side how many writes it had had, `why`
    and `soak` are kept as by `Flip`, `wave` as by `BeginClosing`."""

    name: str
    generation: int
    to: str
    why: str
    cursors: Mapping[str, Any]
    wave: Mapping[str, Any] | None = None
    soak: Mapping[str, Any] | None = None

    def decide(self, state: State, context: Context) -> Decision:
        row = row_at(state, self.name, self.generation)
        after = SWITCHED if self.to == TARGET else ROLLED_BACK
        check_move(self.name, row["state"], after)
        if row["side"] == self.to:
            raise refused(self.name, row, f"is at the {self.to} already")
        wave = row["wave"]
        if self.to == TARGET:
            pass_compared(self.name, row)
            pass_flight(self.name, rows(state, switch_keys.switches()), self.wave)
            wave = dict(self.wave) if self.wave is not None else None
        made = flipped(row, self.to, after, self.why, self.cursors, self.soak, context.now_ms) | {"wave": wave}
        return _set(self.name, made, made, _readers(self.name, made))


class UntieTables(NamedTuple):
    """The request to take a switch of tables apart; a group that is at the target does not fall back to the source."""

    name: str
    generation: int

    def decide(self, state: State, context: Context) -> Decision:
        row = row_at(state, self.name, self.generation)
        if in_flight(row):
            raise refused(self.name, row, f"is in flight ({row['state']}); take it back or lock it before")
        source, target = row[SOURCE], row[TARGET]
        gone = {"switch": self.name, "gone": target} if row["side"] == TARGET else None
        readers = [[source["resource"], source["group"], gone], [target["resource"], target["group"], None]]
        return _set(self.name, None, row, readers)
