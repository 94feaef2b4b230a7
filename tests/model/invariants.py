"""What must hold in every state (I1 to I7 of docs/protocol.md, the gate, and the tables).

Promises
- I1, I3, I6 are measured against every set of replicas that the product's own `choose_primary` would accept.
- A check whose inputs were seen before is not made again: most steps change little.

When it fails: the first invariant that does not hold is returned as a sentence that begins with its name.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

from grafctl.store.rules import NO_TERM
from model.elector import answer_of, choose
from model.others import counted
from model.process import RollBack, is_old_copy, looks_old
from model.setting import Setting
from model.state import Log, Replica, State, head_of, seen_of
from model.transactions import overlay


class Invariants:
    """The checks of one setting, with what they have already found to hold."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._sound_replicas: set[Any] = set()
        self._sound_pairs: set[tuple[Log, Log]] = set()
        self._electable: dict[Any, tuple[Log, ...]] = {}
        self._sound: set[Any] = set()

    def broken(self, state: State) -> str | None:
        """Returns the invariant that this state breaks, or None."""
        if state.alarm:
            return state.alarm
        excluded = self._excluded(state)
        replicas = ((r.log, r.commit, r.incarnation, r.learning, r.tables, r.undo, r.seen) for r in state.replicas)
        key = (state.exposed, excluded, *replicas)
        if key in self._sound:
            return None
        wrong = (
            self._broken_replica(state)
            or self._broken_pair(state)
            or self._lost(state, excluded)
            or self._head_counting(state, excluded)
            or self._payloads(state)
            or self._false_alarm(state)
        )
        if wrong is None:
            self._sound.add(key)
        return wrong

    def step_looks_like_an_old_copy(self, before: State, after: State) -> str | None:
        """Returns the replica whose ordinary step the peers would take for an old copy put back: a false alarm."""
        for old, new in zip(before.replicas, after.replicas, strict=True):
            emptied = new.promised == NO_TERM and new.log.length == 0
            if old is not new and not old.learning and not emptied and looks_old(self.setting, new, seen_of(old)):
                return f"FALSE ALARM {new.domain} looks like an old copy of itself: {head_of(old)} -> {head_of(new)}"
        return None

    def _false_alarm(self, state: State) -> str | None:
        """No replica looks like an old copy to any other, unless one was put back."""
        if self.setting.detection != "carried" or has_old_copy(state):
            return None
        everybody = tuple(range(len(state.replicas)))
        for place, replica in enumerate(state.replicas):
            if is_old_copy(self.setting, state, place, everybody):
                return f"FALSE ALARM {replica.domain} looks like an old copy to its peers: {head_of(replica)}"
        return None

    def _excluded(self, state: State) -> tuple[int, ...]:
        """Returns the places of replicas that are known to be old copies, and so are counted nowhere."""
        if self.setting.detection != "ideal":
            return ()
        return tuple(p for p in range(len(state.replicas)) if is_old_copy(self.setting, state, p, ()))

    def _broken_replica(self, state: State) -> str | None:
        """One replica alone: what its log may not contain (I5, gate), its commit point, its tables."""
        for replica in state.replicas:
            key = (replica.log, replica.commit, replica.tables, replica.undo, replica.learning)
            if key in self._sound_replicas:
                continue
            wrong = replica.log.flaw or _broken_tables(replica)
            if wrong:
                return wrong
            if replica.commit > replica.log.length:
                return f"I3 {replica.domain} has a commit point beyond its tail"
            self._sound_replicas.add(key)
        return None

    def _broken_pair(self, state: State) -> str | None:
        """Two logs: I2 (same index and term, same prefix) and I4 (one START a term)."""
        for one, other in combinations({replica.log: None for replica in state.replicas}, 2):
            if (one, other) in self._sound_pairs:
                continue
            wrong = _disagreement(one, other)
            if wrong:
                return wrong
            self._sound_pairs.add((one, other))
        return None

    def _lost(self, state: State, excluded: tuple[int, ...]) -> str | None:
        """I1 and I3: what was answered, and what a replica knows to be committed, is in every log that may lead."""
        electable = self._electable_logs(state, excluded)
        for log in electable:
            for prefix in state.exposed:
                if not log.contains(prefix):
                    return f"I1 {prefix!r} was answered, and {log!r} may lead"
            for place, replica in enumerate(state.replicas):
                known = replica.log.path[replica.commit]
                if place not in excluded and not log.contains(known):
                    return f"I3 {replica.domain} knows {known!r} to be committed, and {log!r} may lead"
        if len(state.exposed) > 1:
            return f"I1 answers disagree: {state.exposed[0]!r} and {state.exposed[1]!r}"
        for one, other in combinations(state.replicas, 2):
            length = min(one.commit, other.commit)
            if one.log.path[length] is not other.log.path[length]:
                return f"I3 the committed prefixes of {one.domain} and {other.domain} differ"
        return None

    def _electable_logs(self, state: State, excluded: tuple[int, ...]) -> tuple[Log, ...]:
        """Returns the logs that some set of replicas may elect, now or later without any more copying."""
        answering = tuple(replica for place, replica in enumerate(state.replicas) if place not in excluded)
        answers = {replica.domain: answer_of(self.setting, replica) for replica in answering}
        key = tuple((replica.member, *answers[replica.domain]) for replica in answering)
        known = self._electable.get(key)
        if known is None:
            found: dict[Log, None] = {}
            for size in range(1, len(answering) + 1):
                for chosen in combinations(answering, size):
                    promises = [answers[replica.domain][0] for replica in chosen]
                    choice, _ = choose(
                        self.setting, promises, [answers[replica.domain][1].configs for replica in chosen]
                    )
                    found.update((replica.log, None) for replica in chosen if replica.domain in choice.candidates)
            known = self._electable[key] = tuple(found)
        return known

    def _head_counting(self, state: State, excluded: tuple[int, ...]) -> str | None:
        """I6: what a reader of all heads would expose now is in every log that may lead."""
        if not self.setting.counts_heads:
            return None
        heads = tuple(
            (replica.member, replica.log, replica.commit)
            for place, replica in enumerate(state.replicas)
            if not replica.learning and replica.log.configs and place not in excluded
        )
        prefix = counted(self.setting, heads) if heads else None
        if prefix is None:
            return None
        for log in self._electable_logs(state, excluded):
            if not log.contains(prefix):
                return f"I6 a reader of all heads would expose {prefix!r}, and {log!r} may lead"
        return None

    def _payloads(self, state: State) -> str | None:
        """An answered prefix is held, with its payloads, by as many voters as the voter set promises."""
        if not self.setting.keeps_payloads:
            return None
        for prefix in state.exposed:
            holders = sum(
                1
                for replica in state.replicas
                if replica.log.contains(prefix) and not replica.learning and not self.setting.is_witness(replica.domain)
            )
            if holders < prefix.configs[-1].payload_size:
                return f"I1 only {holders} payload copies of {prefix!r}, which was answered"
        return None


def _broken_tables(replica: Replica) -> str | None:
    """The tables equal the replay of the log, at the tail and (through the pre-images) where a reader may see them."""
    if replica.learning:
        return None
    if replica.tables != replica.log.tables:
        return f"TABLES of {replica.domain} are {replica.tables}, but {replica.log!r} replays to {replica.log.tables}"
    if len(replica.undo) != replica.log.length - replica.commit:
        return f"TABLES of {replica.domain} have {len(replica.undo)} pre-images from {replica.commit}: {replica.log!r}"
    for length in range(replica.commit, replica.log.length):
        if overlay(replica, length) != replica.log.path[length].tables:
            return f"TABLES of {replica.domain} as of {length} differ from the replay"
    return None


def _disagreement(one: Log, other: Log) -> str | None:
    for length in range(1, min(one.length, other.length) + 1):
        first, second = one.path[length], other.path[length]
        if first is not second and first.entry and second.entry and first.entry.term == second.entry.term:
            return f"I2 {one!r} and {other!r} differ at {length - 1}, in one term"
    terms = {config.term: config for config in one.configs}
    for config in other.configs:
        if terms.get(config.term, config) != config:
            return f"I4 two STARTs of {config.term}"
    return None


def has_old_copy(state: State) -> bool:
    """Returns whether an old copy was put back on the way to this state."""
    return any(isinstance(process, RollBack) and process.newest is not None for process in state.processes)
