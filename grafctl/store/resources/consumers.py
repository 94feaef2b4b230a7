"""What an operator does to consumer groups: create, shift to another place, pause, seek, and bring dead letters back.

Promises
- Creating what is there already, with the same definition, changes nothing; with another definition it is refused.
- A shift makes a new group in the lineage of the original and does not touch the original's row.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from grafctl.errors import GenerationConflict, Usage
from grafctl.store import keys
from grafctl.store.authority import Placement
from grafctl.store.intervals import Intervals, intersection, offsets, size
from grafctl.store.records import CTRL, Entry, encode_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.store.resources.delivery import Lineage
from grafctl.store.resources.group import ALL, group_row, lineage_of
from grafctl.store.resources.membership import check_proof
from grafctl.store.resources.queue import queue_row, records_row
from grafctl.store.resources.starts import resolve_start
from grafctl.store.rules import Member
from grafctl.typed import Any, Mapping

DEFINITION = ("allow", "deny", "semantics", "lineage", "max_deliveries", "asked_start", "shifted_from", "filter")


def new_group(
    name: str,
    placement: Placement,
    semantics: str,
    max_deliveries: int | None,
    *,
    filter: str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Returns a group's row as far as it can be known before its start is; that of a queue's group has no filter."""
    row = {
        "name": name,
        "allow": list(placement.allow),
        "deny": list(placement.deny),
        "semantics": semantics,
        "epoch": 1,
        "lineage": name,
        "cursor": 0,
        "start": 0,
        "asked_start": "earliest",
        "paused": False,
        "max_deliveries": max_deliveries,
        "replay_until": 0,
        "shifted_from": None,
        **fields,
    }
    return row if filter is None else row | {"filter": filter}


def _already(state: State, row: Mapping[str, Any]) -> bool:
    """Returns whether the group is there as asked; raises `GenerationConflict` when another is."""
    there = state.get_json(keys.group(row["name"]))
    if there is None:
        return False
    different = [name for name in DEFINITION if there.get(name) != row.get(name)]
    if different:
        raise GenerationConflict(
            f"Group {row['name']} is there already with another {', '.join(different)}.",
            hint="Take another name, or change the group with `grafctl placement set` or `grafctl consumer seek`.",
            group=row["name"],
        )
    return True


@dataclass(slots=True)
class CreateGroup:
    """The request for a group with a lineage of its own."""

    resource: str
    row: dict[str, Any]

    def decide(self, state: State, context: Context) -> Decision:
        queue = records_row(state, self.resource)
        row = self.row | self._filter(queue)
        if _already(state, row):
            return Decision(False)
        if state.get_json(keys.lineage(row["lineage"])) is not None:
            raise GenerationConflict(f"The name {row['name']} is taken by a lineage.", group=row["name"])
        start = resolve_start(state, queue, row["asked_start"], context.now_ms)
        row |= {"start": start, "cursor": start}
        return Decision(True, encode_json({"do": "group", "group": row, "floor": start}), kind=CTRL)

    def _filter(self, queue: Mapping[str, Any]) -> dict[str, str]:
        """Returns the filter that a topic's group is defined by; raises `Usage` for one of a queue's."""
        if queue["kind"] == "topic":
            return {"filter": self.row.get("filter", ALL)}
        if "filter" in self.row:
            raise Usage(
                f"{self.resource} is a {queue['kind']}, and a {queue['kind']} has no filters: "
                "a record that a filter left out of its group would be work that nobody does.",
                hint="Leave --filter out, or publish to a topic: `grafctl topic create`.",
                resource=self.resource,
            )
        return {}


def apply_group(state: State, entry: Entry, index: int) -> Writes:
    row = entry.request["group"]
    writes: Writes = [json_write(keys.group(row["name"]), row)]
    if entry.request.get("floor") is not None:
        writes.append(json_write(keys.lineage(row["lineage"]), Lineage(floor=entry.request["floor"]).as_row()))
    return writes


@dataclass(slots=True)
class ShiftGroup:
    """The request for a group of the same lineage elsewhere, on the strength of a proof."""

    resource: str
    origin: str
    name: str
    placement: Placement
    proof_id: str
    claimed: Mapping[str, Any] | None
    start: str | None
    members: Mapping[str, Member]

    def decide(self, state: State, context: Context) -> Decision:
        queue = queue_row(state, self.resource)
        origin = group_row(state, self.resource, self.origin)
        if "switch" in origin:
            raise GenerationConflict(
                f"Group {self.origin} is attached to the switch {origin['switch']['name']}: two groups of one lineage "
                "would read on where one is closed.",
                hint=f"Run `grafctl consumer detach {origin['switch']['name']}` first.",
                group=self.origin,
                switch=origin["switch"]["name"],
            )
        row = new_group(
            self.name,
            self.placement,
            origin["semantics"],
            origin["max_deliveries"],
            lineage=origin["lineage"],
            asked_start=self.start or "finalised",
            shifted_from=self.origin,
            filter=origin.get("filter"),  # all groups of a lineage have one, or what one finishes another would skip
        )
        check_proof(state, self.resource, self.proof_id, self.claimed, self.members)
        if _already(state, row):
            return Decision((False, state.get_json(keys.group(self.name))))
        lineage = lineage_of(state, origin["lineage"])
        start = lineage.floor if self.start is None else resolve_start(state, queue, self.start, context.now_ms)
        final = lineage.done[-1][1] if lineage.done else lineage.floor  # nothing after this is finalised
        row |= {"start": start, "cursor": start, "replay_until": final if self.start and start < final else 0}
        return Decision((True, row), encode_json({"do": "group", "group": row, "floor": None}), kind=CTRL)


@dataclass(slots=True)
class Pause:
    """The request to stop handing out records to a group, or to go on."""

    reserved = True  # no field: all of them may use the reserve

    resource: str
    group: str
    paused: bool

    def decide(self, state: State, context: Context) -> Decision:
        row = group_row(state, self.resource, self.group)
        if row["paused"] == self.paused:
            return Decision(False)
        return Decision(True, encode_json({"do": "pause", "group": self.group, "paused": self.paused}), kind=CTRL)


def apply_pause(state: State, entry: Entry, index: int) -> Writes:
    request = entry.request
    row = group_row(state, "", request["group"]) | {"paused": request["paused"]}
    if not request["paused"]:
        row.pop("closed_by", None)  # it is read by itself again, also what was finished at another output
    return [json_write(keys.group(request["group"]), row)]


@dataclass(slots=True)
class Seek:
    """The request to move a group's cursor; backwards, finalised records are handed out again.

    Whoever moves it has seen what the lineage lost to retention: that is no longer told.
    """

    resource: str
    group: str
    to: str

    def decide(self, state: State, context: Context) -> Decision:
        queue = queue_row(state, self.resource)
        row = group_row(state, self.resource, self.group)
        to = min(resolve_start(state, queue, self.to, context.now_ms), queue["next"])
        is_told = lineage_of(state, row["lineage"]).lost > 0
        answer = (row["cursor"], to, is_told)
        if to == row["cursor"] and not is_told:
            return Decision(answer)
        meta = {"do": "seek", "group": self.group, "to": to}
        return Decision(answer, encode_json(meta | {"told": True} if is_told else meta), kind=CTRL)


def apply_seek(state: State, entry: Entry, index: int) -> Writes:
    request = entry.request
    row = group_row(state, "", request["group"])
    replay = max(row["replay_until"], row["cursor"]) if request["to"] < row["cursor"] else row["replay_until"]
    row |= {"cursor": request["to"], "replay_until": replay, "start": min(row["start"], request["to"])}
    writes: Writes = [json_write(keys.group(request["group"]), row)]
    if request.get("told"):
        lineage = lineage_of(state, row["lineage"])
        lineage.lost, lineage.lost_range = 0, []
        writes.append(json_write(keys.lineage(row["lineage"]), lineage.as_row()))
    return writes


@dataclass(slots=True)
class Redrive:
    """The request to hand dead letters out again; without ranges, all of them."""

    resource: str
    group: str
    ranges: Intervals | None

    def decide(self, state: State, context: Context) -> Decision:
        lineage = lineage_of(state, group_row(state, self.resource, self.group)["lineage"])
        back = lineage.dead if self.ranges is None else intersection(lineage.dead, self.ranges)
        if not back:
            return Decision(0)
        meta = {"do": "redrive", "group": self.group, "ranges": back}
        return Decision(size(back), encode_json(meta), kind=CTRL)


def apply_redrive(state: State, entry: Entry, index: int) -> Writes:
    name = group_row(state, "", entry.request["group"])["lineage"]
    lineage = lineage_of(state, name)
    lineage.redrive(entry.request["ranges"])
    writes: Writes = [(keys.dead(name, offset), None) for offset in offsets(entry.request["ranges"])]
    return [*writes, json_write(keys.lineage(name), lineage.as_row())]


def dead_letters(state: State, resource: str, group: str) -> list[dict[str, Any]]:
    """Returns the dead letters of a group's lineage by offset."""
    name = group_row(state, resource, group)["lineage"]
    return [{"offset": keys.last_u64(row), **json.loads(body)} for row, body in state.scan(keys.dead_letters(name))]
