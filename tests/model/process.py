"""What every kind of process shares: steps, and the copying of a primary's log to the voters.

A process is a value inside the state. Nothing makes it go on: that it may stop for ever after any step is how crashes,
pauses and late resumptions are covered.

Promises
- One step changes at most one replica.
- A copy goes only to members of voter sets in force, by incarnation, and to none that is known to be an old copy.

When it fails: a copy below a commit point gives a state with an alarm, which the invariants report.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from grafctl.store.rules import NO_TERM, Member, Seen
from model.setting import Setting
from model.state import Replica, State, head_of, seen_of
from model.transactions import ALARM, Source, certified, committed, copy, with_ack

Label = tuple[Any, ...]
Step = tuple[Label, State]


class Done(NamedTuple):
    """A process that takes no further step; what it was makes no difference any more."""

    name: str = "done"


DONE = Done()


class RollBack(NamedTuple):
    """Puts an old copy of a replica back, once; afterwards it is the memory of what the replica was before."""

    domain: str
    saved: Replica | None = None
    newest: Replica | None = None  # the replica just before the old copy was put back


def put(state: State, position: int, process: Any, place: int = -1, replica: Replica | None = None) -> State:
    """Returns the state with this process, and with this replica if one is given."""
    processes = state.processes
    processes = (*processes[:position], process, *processes[position + 1 :])
    if replica is None:
        return state._replace(processes=processes)
    replicas = (*state.replicas[:place], replica, *state.replicas[place + 1 :])
    return State(replicas, processes, state.exposed, state.alarm)


def is_old_copy(setting: Setting, state: State, place: int, observers: tuple[int, ...]) -> bool:
    """Returns whether the observers (by place) know that this replica is older than it was."""
    if not setting.detection:
        return False
    replica = state.replicas[place]
    if setting.detection == "ideal":
        memories = [p.newest for p in state.processes if isinstance(p, RollBack) and p.domain == replica.domain]
        seen = [seen_of(memory) for memory in memories if memory is not None]
    else:
        seen = [memory for peer in observers if (memory := state.replicas[peer].seen[place]) is not None]
    return any(looks_old(setting, replica, memory) for memory in seen)


def looks_old(setting: Setting, replica: Replica, memory: Seen) -> bool:
    """Returns whether a replica is older than this memory of it; one that is learning has kept its promise only."""
    if memory.incarnation != replica.incarnation:
        return False
    if replica.learning and not setting.behaviour.judges_learning:
        return replica.promised < memory.promised
    head = head_of(replica)
    if replica.learning:
        head = head._replace(acc=NO_TERM)
    return setting.rules.is_rolled_back(memory, head)


def remember(setting: Setting, state: State, replica: Replica, observed: tuple[int, ...]) -> Replica:
    """Returns the replica with what its transaction carries along: the other heads that were read before."""
    if setting.detection != "carried":
        return replica
    seen = list(replica.seen)
    for place in observed:
        if state.replicas[place].domain != replica.domain:
            seen[place] = seen_of(state.replicas[place])
    return replica._replace(seen=tuple(seen))


def remember_members(setting: Setting, state: State, primary: Replica) -> Replica:
    """Returns the primary with what an APPEND carries along: that the others in its term hold their promise."""
    if setting.detection != "carried":
        return primary
    seen, term = list(primary.seen), primary.log.acc
    for place, other in enumerate(state.replicas):
        if other.domain != primary.domain and other.log.acc == term and not other.learning:
            seen[place] = Seen(other.incarnation, term, term, other.log.length, 0)
    return primary._replace(seen=tuple(seen))


def is_locked(setting: Setting, state: State, position: int, domain: str) -> bool:
    """Returns whether another process holds this domain's lock across its steps (only the mutants that plan do)."""
    if setting.behaviour.plans != "locked":
        return False
    return any(
        other != position and getattr(process, "holds", "") == domain for other, process in enumerate(state.processes)
    )


def copy_targets(setting: Setting, state: State, source: Source) -> list[int]:
    """Returns the places of the replicas that have not got all of the source's log from this copier, and are to."""
    force = setting.rules.in_force(source.log.configs, source.known)
    members = {voter.member for config in force for voter in config.voters}
    tails = dict(source.acks)
    return [
        place
        for place, replica in enumerate(state.replicas)
        if replica.member in members and tails.get(replica.member, 0) < source.log.length
    ]


def first_acks(setting: Setting, state: State, primary: Replica) -> tuple[tuple[Member, int], ...]:
    """Returns who holds the primary's log at once: the primary alone, and in a mutant every voter that was added."""
    acks = with_ack((), primary.member, primary.log.length)
    if setting.behaviour.counts_learners:
        for voter in primary.log.configs[-1].voters:
            if voter not in setting.voters:
                acks = with_ack(acks, voter.member, primary.log.length)
    return acks


def copied(setting: Setting, state: State, source: Source, place: int) -> Iterator[tuple[int, Replica | None, Source]]:
    """Yields (stop, replica, source) for each way to copy to this place; a replica of None is the alarm."""
    replica = state.replicas[place]
    peers = tuple(peer for peer, other in enumerate(state.replicas) if any(other.member == m for m, _ in source.acks))
    if is_old_copy(setting, state, place, peers):
        return
    if not (is_there(state, source) or setting.behaviour.reads_what_is_gone or _lacks_only_last(replica, source)):
        return
    first = replica.log.common(source.log) + 1 if setting.partial_copies else source.log.length
    for stop in range(min(first, source.log.length), source.log.length + 1):
        outcome = copy(setting, replica, source, stop)
        if outcome is None and _holds(replica, source, stop):
            outcome = replica  # it is enough to read that the replica has it, whatever it has promised since
        if outcome is None:
            continue
        if outcome == ALARM:
            yield stop, None, source
            continue
        acks = with_ack(source.acks, replica.member, stop)
        after = Source(source.term, source.log, max(source.known, outcome.commit), acks)
        yield stop, remember(setting, state, outcome, peers), after


def is_there(state: State, source: Source) -> bool:
    """Returns whether the primary of this term can still be read: its domain was not wiped or fenced since."""
    config = source.log.configs[-1]
    primary = config.voter(config.primary)
    return primary is not None and any(replica.member == primary.member for replica in state.replicas)


def _lacks_only_last(replica: Replica, source: Source) -> bool:
    """Returns whether a replica lacks but the entry that the copier has just appended, which it need not read."""
    log = source.log
    return replica.log is log.path[-2] and log.start < log.length - 1


def _holds(replica: Replica, source: Source, stop: int) -> bool:
    """Returns whether the replica is in the term of the source, up to this point."""
    log = replica.log
    return log.acc == source.term and not replica.learning and log.length >= stop > source.log.start


def count(setting: Setting, source: Source) -> int:
    """Returns how many entries of the source are committed for this copier, which may know of more than it read."""
    return min(committed(setting, source), source.log.length)


def note_steps(setting: Setting, state: State, position: int, source: Source) -> Iterator[Step]:
    """Writes a commit point where nobody else would until the next copy: at the primary, most of all."""
    reached = count(setting, source)
    for place, replica in enumerate(state.replicas):
        if replica.log.contains(source.log) and replica.commit < reached and not replica.learning:
            after = certified(setting, replica, reached)
            yield ("note commit", reached, "at", replica.domain), put(state, position, DONE, place, after)
