"""Consumer groups: who reads a queue from where, and polls, acks and nacks as entries of its log.

Row `G` defines a group; row `N` is the delivery state of its lineage; row `T` of a token is a lease: which offsets,
whose, until when. The token is the index of the entry that granted it, so tokens only grow.

Promises
- A record leased in one group is withheld from its whole lineage until it is finalised, given back, or the deadline
  has passed.
- It is finalised once for the lineage. With `effectively-once`, only the holder of its present lease can do that.
- Expiry is an entry with the log's own monotonic stamp: a wrong clock makes a record come early or late, never twice
  final.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from grafctl.errors import Busy, Fenced, NotFound, Usage
from grafctl.store import keys
from grafctl.store.authority import ACK, NACK, POLL, Asked, Placement, pass_epoch, pass_locator, pass_placement
from grafctl.store.intervals import Intervals, difference, intersection, size, union
from grafctl.store.records import Entry, encode_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.store.resources.delivery import Grants, Lineage, within, without
from grafctl.store.resources.queue import queue_row

SEMANTICS = ("at-most-once", "at-least-once", "effectively-once")


class Leased(NamedTuple):
    """What a poll was given."""

    grants: Grants
    token: int | None
    ack_floor: int
    semantics: str


class Settled(NamedTuple):
    """What an ack or a nack changed."""

    changed: int
    already: int
    ack_floor: int
    dead: int


def group_row(state: State, resource: str, group: str) -> dict[str, Any]:
    """Returns a group's row; raises `NotFound`."""
    row: dict[str, Any] | None = state.get_json(keys.group(group))
    if row is None:
        raise NotFound(
            f"{resource} has no group {group}.",
            hint=f"Run `grafctl consumer list {resource}` to see its groups.",
            resource=resource,
            group=group,
        )
    return row


def lineage_of(state: State, name: str) -> Lineage:
    return Lineage.of(state.get_json(keys.lineage(name)))


def leases_of(state: State, name: str) -> list[tuple[int, dict[str, Any]]]:
    """Returns (token, lease) of every lease of a lineage."""
    return [(keys.last_u64(row), json.loads(body)) for row, body in state.scan(keys.leases(name))]


@dataclass(slots=True)
class Caller:
    """Who polls, acks or nacks."""

    resource: str
    group: str
    domain: str
    epoch: int | None = None
    known: bool = True

    def pass_gate(self, op: str, state: State) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the queue's and the group's row when the caller may do this; raises the refusal."""
        queue = queue_row(state, self.resource)
        group = group_row(state, self.resource, self.group)
        asked = Asked(op, self.resource, self.domain, self.group, self.epoch, self.known)
        pass_placement(asked, Placement.of(group))
        pass_epoch(asked, group["epoch"])
        pass_epoch(asked._replace(group=None), queue["epoch"])
        if op == POLL:
            pass_locator(asked, state.get_json(keys.locator()), {})
        return queue, group


@dataclass(slots=True)
class Lease:
    """The request to be given records."""

    caller: Caller
    count: int
    visibility_ms: int

    def decide(self, state: State, context: Context) -> Decision:
        queue, group = self.caller.pass_gate(POLL, state)
        if group["paused"]:
            raise Busy(
                f"Group {self.caller.group} is paused.",
                hint=f"Run `grafctl consumer resume {self.caller.resource} {self.caller.group}`.",
                resource=self.caller.resource,
                group=self.caller.group,
            )
        lineage = lineage_of(state, group["lineage"])
        expired = self._expired(state, group["lineage"], lineage, context.now_ms)
        end(state, group["lineage"], lineage, expired, context.now_ms)
        grants = lineage.due(group["start"], context.now_ms, self.count)
        left = self.count - sum(stop - start for start, stop, _ in grants)
        cursor = max(group["cursor"], queue["first"])
        fresh, cursor = lineage.fresh(cursor, queue["next"], left, group["replay_until"])
        grants += fresh
        final = group["semantics"] == "at-most-once"
        if not grants and not expired and cursor == group["cursor"]:
            return Decision(Leased([], None, lineage.floor, group["semantics"]))
        meta = {
            "do": "lease",
            "group": self.caller.group,
            "domain": self.caller.domain,
            "grants": grants,
            "cursor": cursor,
            "until": context.now_ms + self.visibility_ms,
            "expired": expired,
            "final": final,
        }
        if final:
            lineage.finalise([grant[:2] for grant in grants])
        token = context.at if grants and not final else None
        return Decision(Leased(grants, token, lineage.floor, group["semantics"]), encode_json(meta))

    def _expired(self, state: State, name: str, lineage: Lineage, now_ms: int) -> list[int]:
        if lineage.deadline_ms is None or lineage.deadline_ms > now_ms:
            return []
        return [token for token, lease in leases_of(state, name) if lease["until"] <= now_ms]


def end(state: State, name: str, lineage: Lineage, tokens: Sequence[int], now_ms: int) -> Writes:
    """Ends leases whose deadline has passed, in `lineage` and in the returned writes."""
    if not tokens:
        return []
    writes: Writes = []
    for token in tokens:
        lease = state.get_json(keys.lease(name, token))
        holder = state.get_json(keys.group(lease["group"]))
        buried = lineage.give_back(lease["grants"], 0, holder["max_deliveries"])
        writes.append((keys.lease(name, token), None))
        writes += _bury(name, buried, lease["group"], "lease expired", now_ms)
    left = [lease["until"] for token, lease in leases_of(state, name) if token not in set(tokens)]
    lineage.deadline_ms = min(left, default=None)
    return writes


def _bury(name: str, buried: Grants, group: str, reason: str, now_ms: int) -> Writes:
    return [
        json_write(keys.dead(name, offset), {"group": group, "deliveries": count, "reason": reason, "ms": now_ms})
        for start, stop, count in buried
        for offset in range(start, stop)
    ]


def apply_lease(state: State, entry: Entry, index: int) -> Writes:
    request = entry.request
    group = group_row(state, "", request["group"])
    name = group["lineage"]
    lineage = lineage_of(state, name)
    writes = end(state, name, lineage, request["expired"], entry.stamped_ms)
    group["cursor"] = request["cursor"]
    grants = request["grants"]
    if request["final"]:
        lineage.finalise([grant[:2] for grant in grants])
    elif grants:
        lineage.lease(grants, request["until"])
        lease = {"group": request["group"], "grants": grants, "until": request["until"], "domain": request["domain"]}
        writes.append(json_write(keys.lease(name, index), lease))
    writes.append(json_write(keys.group(request["group"]), group))
    writes.append(json_write(keys.lineage(name), lineage.as_row()))
    return writes


@dataclass(slots=True)
class Finalise:
    """The request to finish records for the whole lineage."""

    caller: Caller
    ranges: Intervals
    token: int | None = None

    def decide(self, state: State, context: Context) -> Decision:
        queue, group = self.caller.pass_gate(ACK, state)
        _check_published(self.caller, self.ranges, queue)
        lineage = lineage_of(state, group["lineage"])
        rest = lineage.unfinished(self.ranges)
        already = size(union(self.ranges, [])) - size(rest)
        held = _held(state, self.caller, group["lineage"], self.token)
        strange = difference(rest, union(held, []))
        if strange and (group["semantics"] == "effectively-once" or self.token is not None):
            raise _not_leased(self.caller, strange, self.token)
        undelivered = difference(strange, union([item[:2] for item in lineage.retry], lineage.dead))
        if undelivered:
            raise _not_leased(self.caller, undelivered, self.token)
        replayed = intersection(union(self.ranges, []), union(held, []))
        if not rest and not replayed:
            return Decision(Settled(0, already, lineage.floor, 0))
        lineage.finalise(union(self.ranges, []))
        meta = {"do": "finalise", "group": self.caller.group, "ranges": union(self.ranges, [])}
        return Decision(Settled(size(rest), already, lineage.floor, 0), encode_json(meta))


def _check_published(caller: Caller, ranges: Intervals, queue: dict[str, Any]) -> None:
    highest = max((stop for _, stop in ranges), default=0)
    if highest > queue["next"]:
        raise Usage(
            f"Offset {highest - 1} of {caller.resource} has not been published; the next one is {queue['next']}.",
            resource=caller.resource,
        )


def _held(state: State, caller: Caller, name: str, token: int | None) -> Grants:
    """Returns what the caller's group holds, or what one of its leases holds."""
    if token is not None:
        lease = state.get_json(keys.lease(name, token))
        return lease["grants"] if lease is not None and lease["group"] == caller.group else []
    return [grant for _, lease in leases_of(state, name) if lease["group"] == caller.group for grant in lease["grants"]]


def _not_leased(caller: Caller, ranges: Intervals, token: int | None) -> Fenced:
    what = f"offset {ranges[0][0]}" + (f" and {size(ranges) - 1} more" if size(ranges) > 1 else "")
    lease = f"lease {token}" if token is not None else f"group {caller.group}"
    return Fenced(
        f"{lease} does not hold {what} of {caller.resource}: the lease has ended, or was never given.",
        hint=f"Poll again: `grafctl poll {caller.resource} --group {caller.group} -d {caller.domain}`.",
        resource=caller.resource,
        group=caller.group,
        domain=caller.domain,
        offsets=[item[:2] for item in ranges],
    )


def apply_finalise(state: State, entry: Entry, index: int) -> Writes:
    request = entry.request
    name = group_row(state, "", request["group"])["lineage"]
    lineage = lineage_of(state, name)
    ranges = request["ranges"]
    writes: Writes = [
        (keys.dead(name, offset), None)
        for start, stop in intersection(lineage.dead, ranges)
        for offset in range(start, stop)
    ]
    lineage.finalise(ranges)
    writes += _shrink_leases(state, name, lineage, ranges)
    writes.append(json_write(keys.lineage(name), lineage.as_row()))
    return writes


def _shrink_leases(state: State, name: str, lineage: Lineage, ranges: Intervals) -> Writes:
    """Takes these offsets out of every lease of the lineage; an empty lease is over."""
    writes: Writes = []
    untils = []
    for token, lease in leases_of(state, name):
        left = without(lease["grants"], ranges)
        if left:
            untils.append(lease["until"])
        if left != lease["grants"]:
            row = keys.lease(name, token)
            writes.append(json_write(row, lease | {"grants": left}) if left else (row, None))
    lineage.deadline_ms = min(untils, default=None)
    return writes


@dataclass(slots=True)
class GiveBack:
    """The request to end the lease of records without finishing them."""

    caller: Caller
    ranges: Intervals
    token: int | None = None
    delay_ms: int = 0
    counted: bool = True  # False: nobody began with them, so this was no delivery

    def decide(self, state: State, context: Context) -> Decision:
        queue, group = self.caller.pass_gate(NACK, state)
        _check_published(self.caller, self.ranges, queue)
        lineage = lineage_of(state, group["lineage"])
        held = _held(state, self.caller, group["lineage"], self.token)
        strange = difference(lineage.unfinished(self.ranges), union(held, []))
        strange = difference(strange, union([item[:2] for item in lineage.retry], lineage.dead))  # given back before
        if strange:
            raise _not_leased(self.caller, strange, self.token)
        rest = intersection(lineage.unfinished(self.ranges), union(held, []))
        already = size(union(self.ranges, [])) - size(rest)
        if not rest:
            return Decision(Settled(0, already, lineage.floor, 0))
        buried = lineage.give_back(_delivered(within(held, rest), self.counted), 0, group["max_deliveries"])
        dead = sum(stop - start for start, stop, _ in buried)
        meta = {
            "do": "give_back",
            "group": self.caller.group,
            "ranges": rest,
            "not_before": context.now_ms + self.delay_ms if self.delay_ms else 0,
            "counted": self.counted,
        }
        return Decision(Settled(size(rest), already, lineage.floor, dead), encode_json(meta))


def _delivered(grants: Grants, counted: bool) -> Grants:
    """Returns the grants with their deliveries so far: the last one is none where it was not counted."""
    return grants if counted else [[start, stop, delivery - 1] for start, stop, delivery in grants]


def apply_give_back(state: State, entry: Entry, index: int) -> Writes:
    request = entry.request
    group = group_row(state, "", request["group"])
    name = group["lineage"]
    lineage = lineage_of(state, name)
    ranges = request["ranges"]
    grants = [grant for _, lease in leases_of(state, name) for grant in within(lease["grants"], ranges)]
    grants = _delivered(grants, request["counted"])
    buried = lineage.give_back(grants, request["not_before"], group["max_deliveries"])
    writes = _shrink_leases(state, name, lineage, ranges)
    writes += _bury(name, buried, request["group"], "given back too often", entry.stamped_ms)
    writes.append(json_write(keys.lineage(name), lineage.as_row()))
    return writes


@dataclass(slots=True)
class Renew:
    """The request to hold a lease longer."""

    caller: Caller
    token: int
    visibility_ms: int

    def decide(self, state: State, context: Context) -> Decision:
        _, group = self.caller.pass_gate(ACK, state)
        lease = state.get_json(keys.lease(group["lineage"], self.token))
        if lease is None or lease["group"] != self.caller.group:
            raise Fenced(
                f"Lease {self.token} of {self.caller.group} is over.",
                hint="Poll again; the records are given out anew.",
                resource=self.caller.resource,
                group=self.caller.group,
            )
        until = context.now_ms + self.visibility_ms
        meta = {"do": "renew", "group": self.caller.group, "token": self.token, "until": until}
        return Decision(until, encode_json(meta))


def apply_renew(state: State, entry: Entry, index: int) -> Writes:
    request = entry.request
    name = group_row(state, "", request["group"])["lineage"]
    lineage = lineage_of(state, name)
    row = keys.lease(name, request["token"])
    lease = state.get_json(row) | {"until": request["until"]}
    untils = [held["until"] for token, held in leases_of(state, name) if token != request["token"]]
    lineage.deadline_ms = min([*untils, request["until"]])
    return [json_write(row, lease), json_write(keys.lineage(name), lineage.as_row())]
