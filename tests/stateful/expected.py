"""What a store must answer, in plain lists, sets and dicts: one queue, its groups, and the domains that hold it.

Nothing here is shared with the product: no log, no terms, no intervals. Time is a number of whole hours. A method
answers as the store must, or raises `Refused` with the exit code and the reason that the store must give, in the
order of checks that the command line promises; a refused method has changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

USAGE, NOT_FOUND, NEVER, LATER, CONFLICT, FENCED, SAME_ID, PROOF, NO_QUORUM, BUSY = (
    2,
    10,
    11,
    12,
    13,
    14,
    16,
    19,
    21,
    22,
)


class Refused(Exception):
    """What the store must refuse; the arguments are the exit code and the reason."""

    def __init__(self, code: int, reason: str | None = None) -> None:
        super().__init__(code, reason)


class Record(NamedTuple):
    """One published record."""

    payload: bytes
    id: str | None = None
    key: str | None = None


class Replica(NamedTuple):
    """A line of the locator."""

    id: str
    domain: str
    ready: bool


@dataclass
class Group:
    """What defines a group, and how far it has been handed out."""

    name: str
    lineage: str
    allow: list[str]
    semantics: str
    max_deliveries: int | None
    asked_start: str
    start: int
    shifted_from: str | None = None
    replay_until: int = 0
    paused: bool = False
    epoch: int = 1
    cursor: int = 0

    def definition(self) -> tuple[object, ...]:
        return (*self.allow, self.semantics, self.lineage, self.max_deliveries, self.asked_start, self.shifted_from)


@dataclass
class Lease:
    """Records that a group holds until an hour; each with the number of its delivery."""

    group: str
    until: int
    holds: dict[int, int]


@dataclass
class Lineage:
    """Where each record is for the groups of one lineage; one that is in none of these was never delivered."""

    final: set[int]
    leases: dict[int, Lease] = field(default_factory=dict)
    again: dict[int, tuple[int, int]] = field(default_factory=dict)  # offset -> deliveries so far, not before this hour
    dead: dict[int, tuple[int, str, str]] = field(default_factory=dict)  # offset -> deliveries, group, reason
    finalised: int = 0

    def floor(self) -> int:
        return next(offset for offset in range(len(self.final) + 1) if offset not in self.final)

    def leased(self) -> set[int]:
        return {offset for lease in self.leases.values() for offset in lease.holds}

    def held_by(self, group: str, token: int | None) -> dict[int, int]:
        """Returns what a group holds, or what it holds by one of its leases."""
        return {
            offset: delivery
            for name, lease in self.leases.items()
            if lease.group == group and token in (None, name)
            for offset, delivery in lease.holds.items()
        }

    def release(self, offsets: Iterable[int]) -> None:
        gone = set(offsets)
        for token, lease in list(self.leases.items()):
            lease.holds = {offset: delivery for offset, delivery in lease.holds.items() if offset not in gone}
            if not lease.holds:
                del self.leases[token]

    def finalise(self, offsets: Sequence[int]) -> int:
        """Finishes these offsets; returns how many were not finished before."""
        new = set(offsets) - self.final
        self.release(offsets)
        self.final |= new
        for offset in new:
            self.again.pop(offset, None)
            self.dead.pop(offset, None)
        self.finalised += len(new)
        return len(new)

    def give_back(self, holds: dict[int, int], not_before: int, holder: Group, reason: str) -> int:
        """Ends the lease of these offsets; returns how many became dead letters."""
        self.release(holds)
        buried = 0
        for offset, delivery in holds.items():
            if offset in self.final:
                continue  # it was read again after a seek
            if holder.max_deliveries is not None and delivery >= holder.max_deliveries:
                self.dead[offset] = (delivery, holder.name, reason)
                buried += 1
            else:
                self.again[offset] = (delivery, not_before)
        return buried


class Caller(NamedTuple):
    """Who polls or settles: a group in a domain, with an epoch or without."""

    group: str
    domain: str
    epoch: int | None = None


class Settled(NamedTuple):
    """What an ack or a nack answers."""

    settled: int
    already: int
    ack_floor: int
    dead: int | None


class Published(NamedTuple):
    """What a publish answers."""

    offsets: list[int]
    replayed: bool
    conflicts: list[str]
    generation: int


@dataclass
class Queue:
    """One queue of a store with these domains."""

    domains: Sequence[str]
    ack: str
    retain_hours: int | None
    retain_bytes: int | None
    replicas: list[Replica]
    generation: int = 1
    epoch: int = 1
    now: int = 0
    failed: set[str] = field(default_factory=set)
    records: list[Record] = field(default_factory=list)
    first: int = 0
    blocks: list[tuple[int, int, int]] = field(default_factory=list)  # first, after the last, hour
    ids: dict[str, int] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    lineages: dict[str, Lineage] = field(default_factory=dict)
    proofs: dict[str, tuple[str, int, int]] = field(default_factory=dict)  # domain, generation, epoch

    # --- who may, and whether enough voters are there

    def voters(self) -> list[str]:
        return [replica.domain for replica in self.replicas if replica.ready]

    def can_write(self, voters: Sequence[str] | None = None) -> bool:
        voters = self.voters() if voters is None else voters
        needed = len(voters) if self.ack == "all" else len(voters) // 2 + 1
        return len(set(voters) - self.failed) >= needed

    def need_quorum(self) -> None:
        if not self.can_write():
            raise Refused(NO_QUORUM)

    def pass_placement(self, domain: str, allow: Sequence[str]) -> None:
        if domain not in allow:
            raise Refused(NEVER, "not_in_placement")

    def pass_epoch(self, epoch: int | None, *current: int) -> None:
        if epoch is not None and epoch < max(current):
            raise Refused(FENCED)

    def pass_locator(self, domain: str, *, copying: bool = False) -> None:
        replica = self.replica_in(domain)
        if replica is None:
            raise Refused(NEVER, "not_in_locator")
        if not replica.ready and not copying:
            raise Refused(LATER, "not_caught_up")
        if domain in self.failed:
            raise Refused(LATER, "unreachable")

    def replica_in(self, domain: str) -> Replica | None:
        return next((replica for replica in self.replicas if replica.domain == domain), None)

    def caller(self, caller: Caller) -> tuple[Group, Lineage]:
        """Passes the part of the gate that polls, acks and nacks share."""
        group = self.group(caller.group)
        self.pass_placement(caller.domain, group.allow)
        self.pass_epoch(caller.epoch, group.epoch, self.epoch)
        return group, self.lineages[group.lineage]

    def group(self, name: str) -> Group:
        if name not in self.groups:
            raise Refused(NOT_FOUND)
        return self.groups[name]

    # --- records

    def publish(self, domain: str, batch: Sequence[Record], atomic: bool, epoch: int | None) -> Published:
        self.pass_placement(domain, self.domains)
        self.pass_epoch(epoch, self.epoch)
        self.need_quorum()
        ids, fresh = dict(self.ids), list[Record]()
        offsets, conflicts = [], []
        for record in batch:
            at = ids.get(record.id) if record.id is not None else None
            if at is None:
                at = len(self.records) + len(fresh)
                fresh.append(record)
                if record.id is not None:
                    ids[record.id] = at
            elif (self.records + fresh)[at].payload != record.payload:
                conflicts.append(str(record.id))
                continue
            offsets.append(at)
        if conflicts and (atomic or len(batch) == 1):
            raise Refused(SAME_ID)
        if fresh:
            self.blocks.append((len(self.records), len(self.records) + len(fresh), self.now))
            self.records += fresh
            self.ids = ids
            self.trim()
        return Published(offsets, not fresh, conflicts, self.generation)

    def trim(self) -> None:
        """Lets go of whole blocks from the oldest on, as long as everybody has finished them and a limit is passed."""
        floor = min((lineage.floor() for lineage in self.lineages.values()), default=0)
        for start, stop, hour in self.blocks:
            kept = sum(len(record.payload) for record in self.records[self.first :])
            too_old = self.retain_hours is not None and hour + self.retain_hours <= self.now
            too_much = self.retain_bytes is not None and kept > self.retain_bytes
            if start < self.first:
                continue
            if stop > floor or not (too_old or too_much):
                return
            self.first = stop

    def kept(self) -> list[tuple[int, Record]]:
        return [(offset, self.records[offset]) for offset in range(self.first, len(self.records))]

    # --- delivery

    def poll(self, caller: Caller, count: int, hours: int) -> tuple[list[tuple[int, int]], int, Lease | None]:
        """Returns (offset, delivery) pairs, the ack floor, and the lease that the store has yet to give a number."""
        group, lineage = self.caller(caller)
        self.pass_locator(caller.domain)
        self.need_quorum()
        if group.paused:
            raise Refused(BUSY)
        self._expire(lineage)
        due = [
            (offset, deliveries + 1)
            for offset, (deliveries, not_before) in sorted(lineage.again.items())
            if offset >= group.start and not_before <= self.now
        ][:count]
        given = due + [(offset, 1) for offset in self._fresh(group, lineage, count - len(due))]
        for offset, _ in given:
            lineage.again.pop(offset, None)
        if group.semantics == "at-most-once":
            lineage.finalise([offset for offset, _ in given])
            return given, lineage.floor(), None
        lease = Lease(group.name, self.now + hours, dict(given)) if given else None
        return given, lineage.floor(), lease

    def _expire(self, lineage: Lineage) -> None:
        for lease in [lease for lease in lineage.leases.values() if lease.until <= self.now]:
            lineage.give_back(dict(lease.holds), 0, self.groups[lease.group], "lease expired")

    def _fresh(self, group: Group, lineage: Lineage, count: int) -> list[int]:
        """Returns what a group has not had yet, and moves its cursor behind that, or to the end."""
        busy = lineage.leased() | lineage.again.keys() | lineage.dead.keys()
        group.cursor = max(group.cursor, self.first)
        free = [
            offset
            for offset in range(group.cursor, len(self.records))
            if offset not in busy and (offset not in lineage.final or offset < group.replay_until)
        ]
        given = free[:count]
        if len(given) == len(free):
            group.cursor = len(self.records)
        elif given:
            group.cursor = given[-1] + 1
        return given

    def _settling(self, caller: Caller, offsets: Sequence[int]) -> tuple[Group, Lineage]:
        group, lineage = self.caller(caller)
        self.need_quorum()
        if max(offsets) >= len(self.records):
            raise Refused(USAGE)
        return group, lineage

    def finish(self, caller: Caller, offsets: Sequence[int], token: int | None) -> Settled:
        group, lineage = self._settling(caller, offsets)
        held = lineage.held_by(group.name, token)
        strange = set(offsets) - lineage.final - held.keys()
        if token is None and group.semantics != "effectively-once":
            strange -= lineage.again.keys() | lineage.dead.keys()  # whoever had it may be late
        if strange:
            raise Refused(FENCED)
        already = len(lineage.final & set(offsets))
        if not set(offsets) - lineage.final and not held.keys() & set(offsets):
            return Settled(0, already, lineage.floor(), None)
        return Settled(lineage.finalise(offsets), already, lineage.floor(), None)

    def give_back(
        self, caller: Caller, offsets: Sequence[int], token: int | None, hours: int, counted: bool
    ) -> Settled:
        group, lineage = self._settling(caller, offsets)
        held = lineage.held_by(group.name, token)
        open_ = set(offsets) - lineage.final
        if open_ - held.keys() - lineage.again.keys() - lineage.dead.keys():
            raise Refused(FENCED)
        given = {offset: held[offset] - (not counted) for offset in sorted(open_ & held.keys())}
        not_before = self.now + hours if hours else 0
        dead = lineage.give_back(given, not_before, group, "given back too often")
        return Settled(len(given), len(set(offsets)) - len(given), lineage.floor(), dead or None)

    def renew(self, caller: Caller, token: int, hours: int) -> None:
        group, lineage = self.caller(caller)
        self.need_quorum()
        lease = lineage.leases.get(token)
        if lease is None or lease.group != group.name:
            raise Refused(FENCED)
        lease.until = self.now + hours
