"""What a store must answer to an operator: groups, drills, membership, catch-up, shift and fences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stateful.expected import (
    CONFLICT,
    FENCED,
    LATER,
    NEVER,
    NO_QUORUM,
    NOT_FOUND,
    PROOF,
    Group,
    Lineage,
    Queue,
    Refused,
    Replica,
)


class Store(Queue):
    """The plain queue as its operators see it."""

    # --- groups

    def start_of(self, text: str) -> int:
        named = {"earliest": self.first, "latest": len(self.records)}
        return named[text] if text in named else max(int(text), self.first)

    def create(self, group: Group) -> bool:
        """Creates a group with a lineage of its own; returns whether it was not there."""
        self.need_quorum()
        if group.name in self.groups:
            return self._is_same(group)
        start = self.start_of(group.asked_start)
        self.groups[group.name] = replace(group, start=start, cursor=start)
        self.lineages[group.name] = Lineage(set(range(start)))
        return True

    def _is_same(self, group: Group) -> bool:
        """Returns False, for "nothing changed", where the group is there as asked."""
        if self.groups[group.name].definition() != group.definition():
            raise Refused(CONFLICT)
        return False

    def pause(self, name: str, paused: bool) -> bool:
        self.need_quorum()
        group = self.group(name)
        changed, group.paused = group.paused != paused, paused
        return changed

    def seek(self, name: str, to: str) -> tuple[int, int]:
        self.need_quorum()
        group = self.group(name)
        before, after = group.cursor, min(self.start_of(to), len(self.records))
        if after < before:
            group.replay_until = max(group.replay_until, before)
        if after != before:
            group.cursor, group.start = after, min(group.start, after)
        return before, after

    def redrive(self, name: str, offsets: Sequence[int] | None) -> int:
        self.need_quorum()
        lineage = self.lineages[self.group(name).lineage]
        back = set(lineage.dead) if offsets is None else set(lineage.dead) & set(offsets)
        for offset in back:
            del lineage.dead[offset]
            lineage.again[offset] = (0, 0)
        return len(back)

    def place(self, name: str, allow: list[str]) -> bool:
        self.need_quorum()
        group = self.group(name)
        changed, group.allow = group.allow != allow, allow
        return changed

    def fence(self, name: str | None, epoch: int) -> int:
        """Raises the epoch of the queue or of a group; returns the one before."""
        self.need_quorum()
        holder: Group | Store = self.group(name) if name is not None else self
        before = holder.epoch
        if epoch < before:
            raise Refused(FENCED)
        holder.epoch = epoch
        return before

    # --- membership

    def add(self, replica: Replica, generation: int) -> None:
        """Puts a replica in the locator that counts for nothing yet; its domain was observed as healthy."""
        self._pass_generation(generation)
        if self.replica_in(replica.domain) is not None:
            raise Refused(CONFLICT)
        self.need_quorum()
        self.replicas.append(replica)
        self.generation = generation

    def remove(self, replica_id: str, generation: int) -> None:
        if all(replica.id != replica_id for replica in self.replicas):
            raise Refused(NOT_FOUND)
        self._pass_generation(generation)
        left = [replica for replica in self.replicas if replica.id != replica_id]
        voters = [replica.domain for replica in left if replica.ready]
        if not voters:
            raise Refused(NO_QUORUM)
        if self._stranded(voters) - self._stranded(self.voters()):
            raise Refused(NEVER, "not_in_locator")
        self.need_quorum()
        assert self.can_write(voters), "the machine does not ask for this: the outcome would be unknown"
        self.replicas, self.generation = left, generation

    def _pass_generation(self, generation: int) -> None:
        if generation != self.generation + 1:
            raise Refused(CONFLICT)

    def _stranded(self, voters: Sequence[str]) -> set[str]:
        return {group.name for group in self.groups.values() if not set(group.allow) & set(voters)}

    def set_rule(self, ack: str) -> bool:
        changed = ack != self.ack
        if changed:
            self.need_quorum()
            self.ack = ack
        return changed

    # --- catch-up and shift

    def catch_up(self, domain: str) -> int:
        """Makes a replica count; returns how many records its proof covers."""
        self.pass_locator(domain, copying=True)
        self.need_quorum()
        if not set(self.voters()) - {domain} - self.failed:
            raise Refused(NO_QUORUM)
        count = len(self.records) - self.first
        if count == 0:
            raise Refused(PROOF)
        self.replicas = [item._replace(ready=True) if item.domain == domain else item for item in self.replicas]
        return count

    def shift(self, origin: str, name: str, domain: str, proof: str) -> bool:
        """Creates a group in the lineage of another, where a proof says that the copy is whole."""
        old = self.group(origin)
        replica = self.replica_in(domain)
        if replica is None:
            raise Refused(NEVER, "not_in_locator")
        if not replica.ready:
            raise Refused(LATER, "not_caught_up")
        if domain in self.failed:
            raise Refused(LATER, "unreachable")
        bound = self.proofs.get(proof)
        if bound is not None and bound[0] != domain:
            raise Refused(PROOF)
        self.need_quorum()
        if bound is None or bound[1:] != (self.generation, self.epoch):
            raise Refused(PROOF)
        start = self.lineages[old.lineage].floor()
        new = Group(name, old.lineage, [domain], old.semantics, old.max_deliveries, "finalised", start, origin)
        if name in self.groups:
            return self._is_same(new)
        self.groups[name] = replace(new, cursor=start)
        return True
