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

from dataclasses import dataclass, field
from functools import lru_cache

from grafctl.errors import Busy, Fenced, NotFound, Usage
from grafctl.store import keys
from grafctl.store.authority import ACK, NACK, POLL, Asked, Placement, pass_epoch, pass_locator, pass_placement
from grafctl.store.intervals import Intervals, difference, intersection, size, union
from grafctl.store.records import Entry, encode_json, parse_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.store.resources.delivery import Grants, Judged, Lineage, within
from grafctl.store.resources.leases import Leases, bury
from grafctl.store.resources.queue import records_row
from grafctl.typed import TYPE_CHECKING, Any, Mapping, NamedTuple

if TYPE_CHECKING:
    from types import ModuleType

ALL = "all"  # the filter that leaves nothing out
AT_MOST_ONCE = "at-most-once"
SEMANTICS = (AT_MOST_ONCE, "at-least-once", "effectively-once")


class Leased(NamedTuple):
    """What a poll was given."""

    grants: Grants
    token: int | None
    ack_floor: int
    finished: int = 0  # how many of those it was to finish were not finished before
    cursor: int = 0
    is_behind: bool = False  # nothing was granted, and there is more of which the caller did not say what is wanted
    lost: dict[str, int] | None = None


class Settled(NamedTuple):
    """What an ack or a nack changed."""

    changed: int
    already: int
    ack_floor: int
    dead: int


def group_row(state: State, resource: str, group: str) -> dict[str, Any]:
    """Returns a group's row; raises `NotFound`."""
    body = state.get(keys.group(group))
    if body is None:
        raise NotFound(
            f"{resource} has no group {group}.",
            hint=f"Run `grafctl consumer list {resource}` to see its groups.",
            resource=resource,
            group=group,
        )
    return dict(_parsed(body))


def is_filtered(group: Mapping[str, Any]) -> bool:
    """Returns whether a group is given only what its filter wants."""
    return group.get("filter") not in (None, ALL)


def lineage_of(state: State, name: str) -> Lineage:
    return Lineage.of(_parsed(state.get(keys.lineage(name)) or b"{}"))


@lru_cache(maxsize=16)
def _parsed(body: bytes) -> dict[str, Any]:
    """A poll reads a row twice, to decide and to apply; the values in it are never changed."""
    row: dict[str, Any] = parse_json(body)
    return row


class NotOpenHere(Busy):
    """Raised where a poll comes to an attached group that is not open for it; `poll` itself goes to the open side."""


@dataclass(slots=True)
class Caller:
    """Who polls, acks or nacks."""

    resource: str
    group: str
    domain: str
    epoch: int | None = None
    known: bool = True
    generation: int | None = None  # of the switch that the group is attached to, as the caller knows it

    def pass_gate(self, op: str, state: State) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the queue's and the group's row when the caller may do this; raises the refusal."""
        queue = records_row(state, self.resource)
        group = group_row(state, self.resource, self.group)
        asked = Asked(op, self.resource, self.domain, self.group, self.epoch, self.known)
        pass_placement(asked, Placement.of(group))
        pass_epoch(asked, group["epoch"])
        pass_epoch(asked._replace(group=None), queue["epoch"])
        if op == POLL:
            pass_locator(asked, _parsed(state.get(keys.locator()) or b"{}"), {})
            if "switch" in group or self.generation is not None:
                _switched().pass_poll(self, group)
        return queue, group


def _switched() -> ModuleType:
    """Returns what is to be asked of attached groups, imported with the first one."""
    from grafctl.store.resources import switched

    return switched


@dataclass(slots=True)
class Lease:
    """The request to be given records, and before that to finish others: an ack and a poll in one entry."""

    caller: Caller
    count: int
    visibility_ms: int
    finish: Intervals = field(default_factory=list)
    token: int | None = None  # of the lease that holds what is to be finished
    judged: Judged | None = None  # where the group has a filter

    def decide(self, state: State, context: Context) -> Decision:
        queue, group = self.caller.pass_gate(POLL, state)
        lineage, leases = lineage_of(state, group["lineage"]), Leases(state, group["lineage"])
        settled = NOTHING
        if self.finish:
            settled = _finish(self.caller, queue, group, lineage, leases, self.finish, self.token)
        if group["paused"]:
            raise _paused(self.caller, group)
        expired = leases.expired(lineage, context.now_ms)
        leases.end(lineage, expired, context.now_ms)
        grants, cursor, skipped = self._grants(queue, group, lineage, context)
        final = group["semantics"] == AT_MOST_ONCE
        is_behind = not grants and cursor < queue["next"]
        if not (grants or expired or settled.ranges) and cursor == group["cursor"]:
            answer = Leased([], None, lineage.floor, settled.changed, cursor, is_behind, lineage.loss())
            return Decision(answer)
        meta = {
            "do": "lease",
            "group": self.caller.group,
            "domain": self.caller.domain,
            "grants": grants,
            "cursor": cursor,
            "until": context.now_ms + self.visibility_ms,
            "expired": expired,
            "final": final,
            "finish": settled.ranges,
        }
        if skipped:
            meta["skipped"] = skipped
            lineage.skip(skipped)
        if final:
            lineage.finalise([grant[:2] for grant in grants])
        token = context.at if grants and not final else None
        answer = Leased(grants, token, lineage.floor, settled.changed, cursor, is_behind, lineage.loss())
        return Decision(answer, encode_json(meta))

    def _grants(
        self, queue: dict[str, Any], group: dict[str, Any], lineage: Lineage, context: Context
    ) -> tuple[Grants, int, Intervals]:
        """Returns what the caller gets, redeliveries first, the group's cursor after it, and what its filter left out.

        Where the caller does not know yet what a filter wants, nothing is given and nothing left out.
        """
        grants = lineage.due(group["start"], context.now_ms, self.count)
        left = self.count - sum(stop - start for start, stop, _ in grants)
        begin, stop = max(group["cursor"], queue["first"]), queue["next"]
        if not is_filtered(group):
            fresh, cursor = lineage.fresh(begin, stop, left, group["replay_until"])
            return grants + fresh, cursor, []
        judged = self.judged
        if judged is None or judged[:2] != (group["filter"], context.config.term):
            return grants, group["cursor"], []
        stop = judged.known_to(begin, stop)
        fresh, cursor = lineage.fresh(begin, stop, left, group["replay_until"], judged.matched)
        return grants + fresh, cursor, lineage.unwanted(begin, cursor, judged.matched)


def _paused(caller: Caller, group: Mapping[str, Any]) -> Busy:
    why, hint = "", f"Run `grafctl consumer resume {caller.resource} {caller.group}`."
    if (switch := group.get("closed_by")) is not None:
        why = f", since its consumer was at the other output when {switch} was detached"
        hint = f"Read the other output. {hint[:-1]} where what was finished there is to be given out again."
    told = f"Group {caller.group} is paused{why}."
    return Busy(told, hint=hint, resource=caller.resource, group=caller.group)


def apply_lease(state: State, entry: Entry, index: int) -> Writes:
    request = entry.request
    group = group_row(state, "", request["group"])
    name = group["lineage"]
    lineage, leases = lineage_of(state, name), Leases(state, name)
    writes = finish_in(lineage, leases, request["finish"])
    writes += leases.end(lineage, request["expired"], entry.stamped_ms)
    group["cursor"] = request["cursor"]
    grants = request["grants"]
    lineage.skip(request.get("skipped", []))
    writes += leases.writes()
    if request["final"]:
        lineage.finalise([grant[:2] for grant in grants])
    elif grants:
        lineage.lease(grants, request["until"])
        lease = {"group": request["group"], "grants": grants, "until": request["until"], "domain": request["domain"]}
        writes.append(json_write(keys.lease(name, index), lease))
    if request["finish"] or (grants and request["final"]):
        note_finish(group, entry)
    writes.append(json_write(keys.group(request["group"]), group))
    writes.append(json_write(keys.lineage(name), lineage.as_row()))
    return writes


@dataclass(slots=True)
class Finalise:
    """The request to finish records for the whole lineage."""

    reserved = True  # no field: all of them may use the reserve

    caller: Caller
    ranges: Intervals
    token: int | None = None
    all_held: bool = False  # what was finished before is refused too: other changes depend on its being finished now

    def decide(self, state: State, context: Context) -> Decision:
        queue, group = self.caller.pass_gate(ACK, state)
        lineage, leases = lineage_of(state, group["lineage"]), Leases(state, group["lineage"])
        if self.all_held:
            held = union(leases.held_by(self.caller.group, self.token), [])
            if lost := difference(union(self.ranges, []), held):
                raise not_leased(self.caller, lost, self.token)
        done = _finish(self.caller, queue, group, lineage, leases, self.ranges, self.token)
        answer = Settled(done.changed, done.already, lineage.floor, 0)
        if not done.ranges:
            return Decision(answer)
        return Decision(answer, encode_json({"do": "finalise", "group": self.caller.group, "ranges": done.ranges}))


class Finishing(NamedTuple):
    """What finishing some offsets comes to; `ranges` are they, or nothing where that would change nothing."""

    changed: int
    already: int
    ranges: Intervals


NOTHING = Finishing(0, 0, [])


def _finish(
    caller: Caller,
    queue: dict[str, Any],
    group: dict[str, Any],
    lineage: Lineage,
    leases: Leases,
    offsets: Intervals,
    token: int | None,
) -> Finishing:
    """Finishes offsets in `lineage` and `leases`; raises the refusal where the caller may not."""
    _check_published(caller, offsets, queue)
    ranges = union(offsets, [])
    rest = lineage.unfinished(ranges)
    already = size(ranges) - size(rest)
    if rest and ("switch" in group or "closed_by" in group):
        _switched().pass_finish(caller, group, rest)
    held = union(leases.held_by(caller.group, token), [])
    strange = difference(rest, held)
    if strange and (group["semantics"] == "effectively-once" or token is not None):
        raise not_leased(caller, strange, token)
    undelivered = difference(strange, union([item[:2] for item in lineage.retry], lineage.dead)) if strange else []
    if undelivered:
        raise not_leased(caller, undelivered, token)
    if not rest and not intersection(ranges, held):  # those that are read again are leased, though they are finished
        return Finishing(0, already, [])
    finish_in(lineage, leases, ranges)
    return Finishing(size(rest), already, ranges)


def finish_in(lineage: Lineage, leases: Leases, ranges: Intervals) -> Writes:
    """Finishes offsets in `lineage` and `leases`; returns the rows of dead letters that are none any more."""
    if not ranges:
        return []
    writes: Writes = [
        (keys.dead(leases.name, offset), None)
        for start, stop in intersection(lineage.dead, ranges)
        for offset in range(start, stop)
    ]
    lineage.finalise(ranges)
    leases.take_out(lineage, ranges)
    return writes


def apply_finalise(state: State, entry: Entry, index: int) -> Writes:
    group = group_row(state, "", entry.request["group"])
    name = group["lineage"]
    lineage, leases = lineage_of(state, name), Leases(state, name)
    writes = finish_in(lineage, leases, entry.request["ranges"])
    if note_finish(group, entry):
        writes.append(json_write(keys.group(group["name"]), group))
    return [*writes, *leases.writes(), json_write(keys.lineage(name), lineage.as_row())]


def note_finish(group: dict[str, Any], entry: Entry) -> bool:
    """Keeps in the row of an attached group when it has finished something last; returns whether it is one."""
    if "switch" not in group:
        return False
    group["switch"] = group["switch"] | {"finished_ms": entry.stamped_ms}
    return True


def _check_published(caller: Caller, ranges: Intervals, queue: dict[str, Any]) -> None:
    highest = max((stop for _, stop in ranges), default=0)
    if highest > queue["next"]:
        raise Usage(
            f"Offset {highest - 1} of {caller.resource} has not been published; the next one is {queue['next']}.",
            resource=caller.resource,
        )


def not_leased(caller: Caller, ranges: Intervals, token: int | None) -> Fenced:
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


@dataclass(slots=True)
class GiveBack:
    """The request to end the lease of records without finishing them."""

    reserved = True  # no field: all of them may use the reserve

    caller: Caller
    ranges: Intervals
    token: int | None = None
    delay_ms: int = 0
    counted: bool = True  # False: nobody began with them, so this was no delivery

    def decide(self, state: State, context: Context) -> Decision:
        queue, group = self.caller.pass_gate(NACK, state)
        _check_published(self.caller, self.ranges, queue)
        lineage = lineage_of(state, group["lineage"])
        held = Leases(state, group["lineage"]).held_by(self.caller.group, self.token)
        strange = difference(lineage.unfinished(self.ranges), union(held, []))
        strange = difference(strange, union([item[:2] for item in lineage.retry], lineage.dead))  # given back before
        if strange:
            raise not_leased(self.caller, strange, self.token)
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
    lineage, leases = lineage_of(state, name), Leases(state, name)
    ranges = request["ranges"]
    grants = [grant for lease in leases.rows.values() for grant in within(lease["grants"], ranges)]
    grants = _delivered(grants, request["counted"])
    buried = lineage.give_back(grants, request["not_before"], group["max_deliveries"])
    leases.take_out(lineage, ranges)
    writes = leases.writes() + bury(name, buried, request["group"], "given back too often", entry.stamped_ms)
    writes.append(json_write(keys.lineage(name), lineage.as_row()))
    return writes
