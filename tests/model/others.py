"""The processes beside clients, electors and learners: readers, observers, and the accidents that befall a replica.

Promises
- A reader changes nothing but what has been exposed; an observer changes nothing.
- An accident (wiped, old copy put back) happens once, at any moment.

When it fails: an observer that takes a sound replica for an old copy gives a state with an alarm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from grafctl.store.rules import Member
from model.process import DONE, RollBack, Step, looks_old, put
from model.setting import Setting
from model.state import Log, Replica, State, empty_replica, expose, place_of


class Reader(NamedTuple):
    """R1: reads the heads of the replicas one after the other, and exposes what it counts as committed."""

    heads: tuple[tuple[Member, Log, int], ...] = ()  # (member, its log, its commit point) when it was read


class Observer(NamedTuple):
    """Reads every replica, one after the other, and looks for old copies by what they remember of each other."""

    sights: tuple[tuple[int, Replica], ...] = ()  # (place, replica as it was read), in any order


class Wiper(NamedTuple):
    """Empties a domain, which comes back under this incarnation."""

    domain: str
    incarnation: str


def reader_steps(setting: Setting, state: State, position: int, reader: Reader) -> Iterator[Step]:
    """Yields the reading of one more head; what can be counted is exposed at once."""
    read = {member for member, _, _ in reader.heads}
    for replica in state.replicas:
        if replica.member in read or replica.learning or not replica.log.configs:
            continue
        heads = tuple(sorted((*reader.heads, (replica.member, replica.log, replica.commit)), key=lambda head: head[0]))
        done = len(heads) == len(state.replicas)
        after = put(state, position, DONE if done else Reader(heads))
        prefix = counted(setting, heads)
        if prefix is not None:
            after = after._replace(exposed=expose(after.exposed, prefix))
        yield ("reader reads the head of", replica.domain), after


def counted(setting: Setting, heads: tuple[tuple[Member, Log, int], ...]) -> Log | None:
    """Returns the prefix that these heads prove to be committed, by the rules, in the newest term among them."""
    term = max(log.acc for _, log, _ in heads)
    current = [(member, log, commit) for member, log, commit in heads if log.acc == term]
    longest = max((log for _, log, _ in current), key=lambda log: log.length)
    known = max(commit for _, _, commit in current)
    tails = {member: log.length for member, log, _ in current}
    reached = setting.rules.committed_up_to(longest.configs, tails, known)
    return longest.path[reached] if 0 < reached <= longest.length else None


def observer_steps(setting: Setting, state: State, position: int, observer: Observer) -> Iterator[Step]:
    """Yields the reading of one more replica; after the last, the verdict.

    A memory may be newer than the head that it is compared with, where the head was read first; so the head of a
    suspect is read again before it is judged.
    """
    read = {place for place, _ in observer.sights}
    for place, replica in enumerate(state.replicas):
        if place in read:
            continue
        sights = tuple(sorted((*observer.sights, (place, replica))))
        after = put(state, position, DONE if len(sights) == len(state.replicas) else Observer(sights))
        if len(sights) == len(state.replicas):
            suspect = _suspect(setting, state, sights)
            if suspect:
                after = after._replace(alarm=f"FALSE ALARM an observer takes {suspect} for an old copy")
        yield ("observer reads", replica.domain), after


def _suspect(setting: Setting, state: State, sights: tuple[tuple[int, Replica], ...]) -> str | None:
    memories = [(place, memory) for _, peer in sights for place, memory in enumerate(peer.seen) if memory is not None]
    now = dict(sights) if setting.behaviour.judges_first_sight else dict(enumerate(state.replicas))
    return next((now[place].domain for place, memory in memories if looks_old(setting, now[place], memory)), None)


def wiper_steps(setting: Setting, state: State, position: int, wiper: Wiper) -> Iterator[Step]:
    """Yields the loss of everything in the domain."""
    place = place_of(state, wiper.domain)
    root = state.replicas[place].log.path[0]
    empty = empty_replica(wiper.domain, wiper.incarnation, root)
    yield ("WIPED", wiper.domain, "back as", wiper.incarnation), put(state, position, DONE, place, empty)


def rollback_steps(setting: Setting, state: State, position: int, process: RollBack) -> Iterator[Step]:
    """Yields the saving of a copy, then its return."""
    place = place_of(state, process.domain)
    replica = state.replicas[place]
    if process.saved is None:
        yield ("a copy of", process.domain, "is saved"), put(state, position, process._replace(saved=replica))
    elif process.newest is None and process.saved != replica:
        after = process._replace(newest=replica)
        yield ("OLD COPY of", process.domain, "is put back"), put(state, position, after, place, process.saved)
