"""A consumer's group that a switch ties to its group of the other output: attached, closed and opened.

The group's row says of which switch it is, at which *generation* it was opened or closed last, and whether it is open.
What is carried between the two groups is the matter of `carrying.py`.

Promises
- A group opens only for a generation above the one in its row, and closes only for one that is not below it. So who
  comes late with an older one neither opens nor closes anything.
- What is closed hands out no lease and takes no ack that would finish something: what it has finished is frozen. That
  holds on where it was detached, until somebody resumes it or attaches it again.
"""

from __future__ import annotations

from grafctl.errors import Fenced, GenerationConflict
from grafctl.store import keys, switch_keys
from grafctl.store.intervals import Intervals, difference, union
from grafctl.store.records import CTRL, DATA, Entry, encode_json, parse_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.store.resources.delivery import Lineage
from grafctl.store.resources.group import Caller, NotOpenHere, finish_in, group_row, lineage_of, note_finish
from grafctl.store.resources.leases import Leases
from grafctl.store.resources.queue import records_row
from grafctl.store.switch_rules import SOURCE, TARGET
from grafctl.typed import Any, Mapping, NamedTuple


def pass_poll(caller: Caller, group: Mapping[str, Any]) -> None:
    """Raises `NotOpenHere` unless a group is attached and open at the caller's generation, and not to be closed."""
    switch = group.get("switch")
    if switch is None:  # it was detached since the caller looked, and his name may mean another group now
        raise NotOpenHere(f"Group {caller.group} of {caller.resource} is attached to no switch.")
    if switch["open"] and switch["draining"] is None and caller.generation == switch["generation"]:
        return
    raise NotOpenHere(
        f"Group {caller.group} of {caller.resource} is attached to the switch {switch['name']}.",
        hint=f"Run `grafctl consumer status {switch['name']}` to see which side is open.",
        resource=caller.resource,
        group=caller.group,
        switch=switch["name"],
    )


def pass_finish(caller: Caller, group: Mapping[str, Any], left: Intervals) -> None:
    """Raises `Fenced` (14) where something would be finished in a closed group, also after its switch was detached."""
    switch, first = group.get("switch"), left[0][0]
    if switch is None:
        name, why = group["closed_by"], f"at the other output when {group['closed_by']} was detached"
        then = f"offset {first} is finished by whoever reads it there"
        hint = f"Run `grafctl consumer resume {caller.resource} {caller.group}` to read it by itself again."
    elif switch["open"]:
        return
    else:
        name, why = switch["name"], f"switched to the other output by {switch['name']}"
        then = f"offset {first} comes again from there"
        hint = f"Poll again: `grafctl poll {caller.resource} --group {caller.group} -d {caller.domain}`."
    raise Fenced(
        f"Group {caller.group} of {caller.resource} is closed, since its consumer was {why}: {then}.",
        hint=hint,
        resource=caller.resource,
        group=caller.group,
        domain=caller.domain,
        switch=name,
        offsets=[item[:2] for item in left],
    )


# --- what was carried, as a new group begins with it


class Carried(NamedTuple):
    """What of a group was carried; see the module's text."""

    keep: int
    got: Intervals
    came: Intervals

    def as_row(self) -> dict[str, Any]:
        return {"keep": self.keep, "got": self.got, "came": self.came}

    def kept(self, keep: int) -> Carried:
        """Returns the same with everything below `keep` carried, and then everything behind it that came from there."""
        below = union([[0, keep]] if keep else [], self.got)
        stop = below[0][1] if below and below[0][0] == 0 else 0
        return Carried(stop, difference(self.got, [[0, stop]] if stop else []), self.came)


def finished_of(lineage: Lineage) -> Intervals:
    """Returns every offset that a lineage has finished."""
    return union([[0, lineage.floor]] if lineage.floor else [], lineage.done)


# --- the one entry that changes an attached group


def change(group: str, answer: Any, *, kind: int = CTRL, **what: Any) -> Decision:
    meta = {"do": "switching", "group": group} | {name: value for name, value in what.items() if value is not None}
    return Decision(answer, encode_json(meta), kind=kind)


def apply_switching(state: State, entry: Entry, index: int) -> Writes:
    request = entry.request
    group = group_row(state, "", request["group"])
    name = group["lineage"]
    lineage, leases = lineage_of(state, name), Leases(state, name)
    writes: Writes = []
    if request.get("ends"):
        _end_leases(lineage, leases)
    if request.get("ranges"):
        writes += finish_in(lineage, leases, request["ranges"])
    if "switch" in request:
        group["switch"] = request["switch"]
        group.pop("closed_by", None)
    if request.get("paid"):  # the consumer was about to be given it, so it is at work
        note_finish(group, entry)
    if request.get("resumes"):
        group["paused"] = False
    if "detach" in request:
        switch = group.pop("switch", None)
        if switch is not None and not switch["open"] and request["paused"]:
            group["closed_by"] = switch["name"]
        group["detached"] = request["detach"]
        group["paused"] = group["paused"] or request["paused"]
        writes.append((switch_keys.carried(group["name"]), None))
        writes += [(row, None) for row, _ in state.scan(switch_keys.all_owed(group["name"]))]
    if "carried" in request:
        writes.append(json_write(switch_keys.carried(group["name"]), request["carried"]))
    writes += [(switch_keys.owed(group["name"], bytes.fromhex(text)), b"{}") for text in request.get("owed", [])]
    writes += [(switch_keys.owed(group["name"], bytes.fromhex(text)), None) for text in request.get("paid", [])]
    writes += [*leases.writes(), json_write(keys.lineage(name), lineage.as_row())]
    return [*writes, json_write(keys.group(group["name"]), group)]


def _end_leases(lineage: Lineage, leases: Leases) -> None:
    """Ends every lease of a group that is closed; it was nobody's failure, so it counts as no delivery."""
    for token in list(leases.rows):
        grants = leases.rows.pop(token)["grants"]
        lineage.give_back([[start, stop, count - 1] for start, stop, count in grants], 0, None)
    lineage.deadline_ms = None


def attached(state: State, resource: str, group: str, name: str) -> dict[str, Any]:
    """Returns the row of a group that is attached to this switch; raises `GenerationConflict`."""
    row = group_row(state, resource, group)
    if row.get("switch", {}).get("name") != name:
        raise GenerationConflict(
            f"Group {group} of {resource} is not attached to the switch {name}.",
            hint=f"Run `grafctl consumer status {name}`.",
            resource=resource,
            group=group,
            switch=name,
        )
    return row


class AttachGroup(NamedTuple):
    """The request to tie a group to a switch: that of the source stays open, that of the target is closed.

    What ties it at a lower generation belongs to a switch that is gone: the control log has given the group to this.
    """

    resource: str
    group: str
    name: str
    side: str
    match: str
    generation: int

    def decide(self, state: State, context: Context) -> Decision:
        if self.check(state):
            return Decision(False)
        queue = records_row(state, self.resource)
        row = group_row(state, self.resource, self.group)
        lineage = lineage_of(state, row["lineage"])
        switch = {"name": self.name, "side": self.side, "generation": self.generation, "open": self.side == SOURCE}
        switch |= {"draining": None, "match": self.match, "owed": 0}
        carried = Carried(queue["first"] if self.side == SOURCE else 0, [], [])
        if self.side == TARGET:
            carried = carried._replace(got=finished_of(lineage)).kept(0)
        ends = self.side == TARGET or None
        resumes = (ends and row["paused"]) or None  # it is closed, so a pause from an earlier detach would outlast that
        return change(self.group, True, switch=switch, carried=carried.as_row(), ends=ends, resumes=resumes)

    def check(self, state: State) -> bool:
        """Returns whether the group is attached already; raises the refusal where it cannot be."""
        queue = records_row(state, self.resource)
        row = group_row(state, self.resource, self.group)
        there = row.get("switch")
        if self.generation <= row.get("detached", 0):
            raise self._conflict(f"was detached from the switch {self.name} since")
        if there is not None and there["generation"] >= self.generation:
            if (there["name"], there["side"]) == (self.name, self.side):
                return True
            raise self._conflict(f"is attached to the switch {there['name']} already")
        for _, body in state.scan(keys.groups()):
            other = parse_json(body)
            if other["lineage"] == row["lineage"] and other["name"] != self.group:
                raise self._conflict(f"shares its lineage with {other['name']}, which would go on reading")
        if self.side == TARGET and row["start"] > queue["first"]:
            raise self._conflict(
                f"begins at offset {row['start']}, so what is before it would never be delivered once it is switched to"
            )
        return False

    def _conflict(self, what: str) -> GenerationConflict:
        return GenerationConflict(
            f"Group {self.group} of {self.resource} {what}.",
            hint="Attach a group of its own, made with `grafctl consumer create … --start earliest`.",
            resource=self.resource,
            group=self.group,
            switch=self.name,
        )


class DetachGroup(NamedTuple):
    """The request to free a group from a switch; `paused` for the one that was not open, so that nobody reads twice.

    The group remembers the generation, so that who comes late to tie it to what is gone is refused.
    """

    resource: str
    group: str
    name: str
    generation: int
    paused: bool

    def decide(self, state: State, context: Context) -> Decision:
        row = group_row(state, self.resource, self.group)
        switch = row.get("switch")
        if switch is None and row.get("detached", 0) >= self.generation:
            return Decision(False)
        if switch is not None and (switch["name"] != self.name or switch["generation"] > self.generation):
            return Decision(False)
        return change(self.group, True, detach=self.generation, paused=self.paused)


class DrainGroup(NamedTuple):
    """The request to hand out no new leases; acks go on."""

    resource: str
    group: str
    name: str
    generation: int
    until_ms: int

    def decide(self, state: State, context: Context) -> Decision:
        switch = attached(state, self.resource, self.group, self.name)["switch"]
        pass_generation(self, switch)
        if not switch["open"] or switch["draining"] is not None:
            return Decision(False)
        changed = switch | {"generation": self.generation, "draining": self.until_ms}
        return change(self.group, True, kind=DATA, switch=changed)


class CloseGroup(NamedTuple):
    """The request to close a group at a generation: its leases are over, and it opens only for a later one."""

    resource: str
    group: str
    name: str
    generation: int

    def decide(self, state: State, context: Context) -> Decision:
        switch = attached(state, self.resource, self.group, self.name)["switch"]
        pass_generation(self, switch)
        closed = switch | {"generation": self.generation, "open": False, "draining": None}
        if closed == switch:
            return Decision(False)
        return change(self.group, True, switch=closed, ends=True)


class OpenGroup(NamedTuple):
    """The request to open a group for a generation, by whoever has read the committed row that says so."""

    resource: str
    group: str
    name: str
    generation: int

    def decide(self, state: State, context: Context) -> Decision:
        switch = attached(state, self.resource, self.group, self.name)["switch"]
        if self.generation <= switch["generation"]:
            return Decision(False)
        opened = switch | {"generation": self.generation, "open": True, "draining": None}
        return change(self.group, True, switch=opened)


class LockGroup(NamedTuple):
    """The request to keep nothing for the way back any more."""

    resource: str
    group: str
    name: str
    generation: int

    def decide(self, state: State, context: Context) -> Decision:
        switch = attached(state, self.resource, self.group, self.name)["switch"]
        pass_generation(self, switch)
        if switch.get("locked"):
            return Decision(False)
        return change(self.group, True, switch=switch | {"locked": True})


def pass_generation(asked: Any, switch: Mapping[str, Any]) -> None:
    """Raises `GenerationConflict` where a group was opened or closed for a later generation already."""
    if asked.generation < switch["generation"]:
        raise GenerationConflict(
            f"Group {asked.group} of {asked.resource} is at generation {switch['generation']} of the switch "
            f"{asked.name}, not at {asked.generation}: somebody was quicker.",
            hint=f"Run `grafctl consumer status {asked.name}`.",
            switch=asked.name,
            generation=switch["generation"],
        )
