"""LEARN: how a domain that COPY cannot reach gets the committed prefix, in many transactions (`store/learn.py`).

A `Learner` gives the domain the entries of a committed prefix and then the state tables as of it; while it does, the
replica is counted nowhere. Each learner has a session of its own, which is written when it begins: whoever begins
later takes over, and no transaction of the earlier one passes any more. A `Chunker` copies the committed entries of a
primary's log to a domain that COPY can reach, without its START.

Promises
- What is copied is committed, so it is the same whoever copies it; the session only keeps two snapshots of tables
  apart.
- A replica begins to learn only if COPY cannot reach it, which is looked up in the transaction that begins.
- Learning raises the promise to the last term that was learnt, as every copy does.

When it fails: a transaction whose session is over is refused, and its learner has no next step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from model.process import DONE, Step, put
from model.setting import Setting
from model.state import Log, Replica, State, place_of
from model.tables import NO_TABLES
from model.transactions import ALARM, Source, copy

# fields of the tables, part by part
PARTS: Final = (("value", "revoked"), ("generation", "lease", "finalised"))
BEGIN, ENTRIES, WIPE, FIRST_PART = -1, 0, 1, 2
FINISH: Final = FIRST_PART + len(PARTS)


class Chunker(NamedTuple):
    """Copies the committed prefix of a primary's log to one domain, entry by entry or in larger chunks."""

    domain: str
    source: Source | None = None


class Learner(NamedTuple):
    """Copies entries and tables as of a committed point to one domain whose missing entries are not kept any more."""

    domain: str
    session: str
    prefix: Log | None = None
    phase: int = BEGIN  # what comes next
    at: int = 0  # entries that it has copied


def chunk_steps(setting: Setting, state: State, position: int, chunker: Chunker) -> Iterator[Step]:
    """Yields the reading of a primary's log, then every chunk that may come next."""
    if chunker.source is None:
        for replica in state.replicas:
            log = replica.log
            if log.configs and log.configs[-1].primary == replica.domain and not replica.learning:
                source = Source(log.acc, log, replica.commit, ())
                yield ("chunker reads", replica.domain), put(state, position, chunker._replace(source=source))
        return
    place, source = place_of(state, chunker.domain), chunker.source
    replica = state.replicas[place]
    match = replica.log.common(source.log)
    for stop in sorted({min(match + 1, source.log.length), source.log.length}):
        if stop <= match:
            continue
        after = copy(setting, replica, source, stop)
        label = ("chunker copies", stop, "to", chunker.domain)
        if after == ALARM:
            alarm = f"I3 {chunker.domain} cut below its commit point"
            yield label, put(state, position, DONE)._replace(alarm=alarm)
        elif after is not None:
            # where it has got to stands in the replica: the process itself need not remember anything
            yield label, put(state, position, chunker, place, after)


def learner_steps(setting: Setting, state: State, position: int, learner: Learner) -> Iterator[Step]:
    """Yields the choice of a snapshot, then one transaction after the other."""
    place = place_of(state, learner.domain)
    replica = state.replicas[place]
    if learner.prefix is None:
        for source in state.replicas:
            if source.domain == learner.domain or source.learning or source.commit <= setting.floor:
                continue
            prefix = source.log.path[source.commit]
            if _needs(setting, replica, prefix):
                label = ("learner", learner.session, "views", prefix.length, "at", source.domain)
                yield label, put(state, position, learner._replace(prefix=prefix))
        return
    if learner.phase == BEGIN:
        begun = _begun(setting, replica, learner, learner.prefix)
        if begun is not None:
            moved = learner._replace(phase=ENTRIES, at=begun.log.length)
            yield ("learner", learner.session, "begins"), put(state, position, moved, place, begun)
        return
    if replica.learning != learner.session and not setting.behaviour.learns_without_session:
        return
    for moved, after in _went_on(setting, replica, learner, learner.prefix):
        done = moved.phase > FINISH
        step = ("learner", learner.session, "phase", learner.phase, "at", moved.at)
        yield step, put(state, position, DONE if done else moved, place, after)


def _needs(setting: Setting, replica: Replica, prefix: Log) -> bool:
    """Returns whether COPY cannot reach this replica."""
    if replica.learning:
        return True
    empty = replica.log.length == 0
    return replica.commit < prefix.length and (empty or replica.log.common(prefix) < setting.floor)


def _begun(setting: Setting, replica: Replica, learner: Learner, prefix: Log) -> Replica | None:
    """The first transaction: the own log is given up, or the entries of an earlier learner are kept."""
    behaviour = setting.behaviour
    if not behaviour.learns_without_check and not _needs(setting, replica, prefix):
        return None
    goes_on: bool = (
        bool(replica.learning)
        and setting.floor <= replica.log.length
        and (prefix.contains(replica.log) or (behaviour.learns_beyond and replica.log.contains(prefix)))
    )
    log = replica.log if goes_on else prefix.path[setting.floor]
    return replica._replace(log=log, commit=log.length, undo=(), learning=learner.session, floor=setting.floor)


def _went_on(setting: Setting, replica: Replica, learner: Learner, prefix: Log) -> Iterator[tuple[Learner, Replica]]:
    """Every transaction after the first one."""
    following = learner._replace(phase=learner.phase + 1)
    if learner.phase == ENTRIES and learner.at < prefix.length:
        for at in sorted({learner.at + 1, prefix.length}):
            moved = (following if at == prefix.length else learner)._replace(at=at)
            yield moved, replica._replace(log=prefix.path[at], commit=at, undo=())
    elif learner.phase in (ENTRIES, WIPE):
        yield learner._replace(phase=FIRST_PART), replica._replace(tables=NO_TABLES)
    elif learner.phase < FINISH:
        fields = PARTS[learner.phase - FIRST_PART]
        arrived = {field: getattr(prefix.tables, field) for field in fields}
        yield following, replica._replace(tables=replica.tables._replace(**arrived))
    else:
        log = replica.log if setting.behaviour.learns_beyond else prefix
        promised = replica.promised if setting.behaviour.leaves_promise else max(replica.promised, log.acc)
        yield following, replica._replace(log=log, commit=prefix.length, undo=(), learning="", promised=promised)
