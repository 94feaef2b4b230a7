"""What of an attached group is finished at the other output too, and how a group is told so.

Row `XC` of a group says which offsets of the other group are finished here too (`came`), which offsets of its own were
finished by that (`got`), and up to where everything of its own is finished there (`keep`). Rows `XO` are what is
*owed*: records that were finished at the other output and are not here yet, by their match key; they are finished when
they come, and delivered to nobody.

Promises
- Only a closed group is told what was finished at the other output, so nothing is finished behind a consumer's back.
- What is told again changes nothing, and no more than `OWED_MAX` records are owed.
- What is finished here and was not carried there is not let go of by retention.
"""

from __future__ import annotations

from grafctl.errors import Busy, Usage
from grafctl.store import keys, switch_keys
from grafctl.store.authority import ACK
from grafctl.store.intervals import Intervals, difference, from_offsets, size, union
from grafctl.store.records import DATA, parse_json
from grafctl.store.replica.state import State
from grafctl.store.requests import Context, Decision
from grafctl.store.resources.group import Caller, group_row, lineage_of
from grafctl.store.resources.queue import queue_row
from grafctl.store.resources.switched import Carried, attached, change, finished_of, pass_generation
from grafctl.store.switch_rules import OWED_MAX
from grafctl.typed import Mapping, NamedTuple, Sequence


def carried_of(state: State, group: str) -> Carried:
    """Returns what of an attached group was carried."""
    return Carried(**(state.get_json(switch_keys.carried(group)) or {"keep": 0, "got": [], "came": []}))


def uncarried(state: State, group: str) -> Intervals:
    """Returns what an attached group has finished by itself and nobody is known to have carried."""
    row = group_row(state, "", group)
    carried = carried_of(state, group)
    rest = difference(finished_of(lineage_of(state, row["lineage"])), [[0, carried.keep]] if carried.keep else [])
    return difference(rest, carried.got)


def first_uncarried(state: State) -> int | None:
    """Returns the lowest offset that retention must keep for what the attached groups of a resource finished."""
    found: list[int] = []
    for _, body in state.scan(keys.groups()):
        row = parse_json(body)
        if "switch" not in row or row["switch"].get("locked"):
            continue
        if left := uncarried(state, row["name"]):
            found.append(left[0][0])
    return min(found, default=None)


class CarryInto(NamedTuple):
    """The request to finish here what was finished at the other output; raises `Busy` where this group is open.

    `ranges` are offsets of this group, `came` those of the other one that they, and what is `owed`, stand for, and
    `keep` is up to where the other group is not asked any more.
    """

    resource: str
    group: str
    name: str
    generation: int
    ranges: Intervals
    came: Intervals
    keep: int = 0
    owed: Sequence[bytes] = ()

    def decide(self, state: State, context: Context) -> Decision:
        queue = queue_row(state, self.resource)
        switch = attached(state, self.resource, self.group, self.name)["switch"]
        pass_generation(self, switch)
        if switch["open"]:
            raise Busy(f"Group {self.group} of {self.resource} is open, so nothing is carried to it.", switch=self.name)
        if self.ranges and self.ranges[-1][1] > queue["next"]:
            raise Usage(f"Offset {self.ranges[-1][1] - 1} of {self.resource} has not been published.")
        lineage = lineage_of(state, group_row(state, self.resource, self.group)["lineage"])
        before = carried_of(state, self.group)
        fresh = lineage.unfinished(self.ranges)
        added = [item for item in self.owed if state.get(switch_keys.owed(self.group, item)) is None]
        count = switch["owed"] + len(added)
        if count > OWED_MAX:
            raise lags(self.name, count)
        came = difference(union(before.came, self.came), [[0, self.keep]] if self.keep else [])
        after = Carried(before.keep, union(before.got, fresh), came).kept(before.keep)
        if after == before and not (fresh or added):
            return Decision(0)
        return change(
            self.group,
            size(fresh),
            kind=DATA,
            ranges=fresh or None,
            switch=switch | {"owed": count} if count != switch["owed"] else None,
            carried=after.as_row(),
            owed=sorted(item.hex() for item in added) or None,
        )


def lags(name: str, count: int) -> Busy:
    """Returns the refusal of a switch to a side that has not got what the other one has finished."""
    return Busy(
        f"The other output of switch {name} lags by {count:,} finished records, and at most {OWED_MAX:,} may be owed.",
        hint=f"Try again when it has caught up; `grafctl consumer status {name}` shows how far it is.",
        switch=name,
        owed=count,
    )


class KeepFrom(NamedTuple):
    """The request to say that everything below an offset was carried; it never goes back."""

    resource: str
    group: str
    name: str
    generation: int
    keep: int

    def decide(self, state: State, context: Context) -> Decision:
        pass_generation(self, attached(state, self.resource, self.group, self.name)["switch"])
        before = carried_of(state, self.group)
        after = before.kept(max(before.keep, self.keep))
        if after == before:
            return Decision(False)
        return change(self.group, True, kind=DATA, carried=after.as_row())


class PayOwed(NamedTuple):
    """The request to finish records that were owed, by whoever was given them: they were finished at the other output,
    so it does not matter whose lease they are in."""

    caller: Caller
    name: str
    paid: Mapping[bytes, Sequence[int]]  # offsets by match key

    def decide(self, state: State, context: Context) -> Decision:
        self.caller.pass_gate(ACK, state)
        row = attached(state, self.caller.resource, self.caller.group, self.name)
        switch = row["switch"]
        gone = [item for item in self.paid if state.get(switch_keys.owed(self.caller.group, item)) is not None]
        if not gone:
            return Decision(0)
        offsets = from_offsets(sorted(at for item in gone for at in self.paid[item]))
        fresh = lineage_of(state, row["lineage"]).unfinished(offsets)
        before = carried_of(state, self.caller.group)
        after = before._replace(got=union(before.got, offsets)).kept(before.keep)
        return change(
            self.caller.group,
            len(gone),
            kind=DATA,
            ranges=fresh or None,
            switch=switch | {"owed": switch["owed"] - len(gone)},
            carried=after.as_row(),
            paid=sorted(item.hex() for item in gone),
        )
