"""The values of the model: entries, logs, replicas and whole states, all frozen and hashable.

A log is a node of a tree: two logs with the same entries are the same object, so that comparing and hashing a log costs
nothing, and what is derived from it (the voter sets, the replayed tables, what is wrong with it) is computed once.

Promises
- Equal states compare equal, whatever order of actions led to them.
- `Log.tables` and `Log.flaw` come from replaying the entries alone, never from what a replica keeps: they are what the
  tables of a replica are measured against.

When it fails: nothing here can, except a prefix longer than its log (IndexError: a fault of the model).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from grafctl.store.rules import NO_TERM, Config, Head, Member, Promise, Seen, Term
from model.tables import NO_TABLES, START, PreImage, Tables, apply, refusal


class Entry(NamedTuple):
    """One entry of a log."""

    term: Term
    kind: str
    key: str = ""  # operation key; unique in a log
    author: str = ""  # the client
    body: Any = None  # token of a FINALISE, generation of a SHIFT, client of a REVOKE
    config: Config | None = None  # of a START


class Log:
    """One prefix of entries; the same entries are always the same object."""

    __slots__ = ("_children", "acc", "configs", "entry", "flaw", "length", "path", "positions", "start", "tables")

    def __init__(self, parent: Log | None = None, entry: Entry | None = None) -> None:
        self._children: dict[Entry, Log] = {}
        self.entry = entry
        self.acc: Term = NO_TERM
        self.start, self.length = -1, 0
        self.configs: tuple[Config, ...] = ()
        self.positions: dict[str, int] = {}
        self.tables: Tables = NO_TABLES
        self.flaw: str | None = None
        self.path: tuple[Log, ...] = (self,)
        if parent is not None and entry is not None:
            self._derive(parent, entry)

    def _derive(self, parent: Log, entry: Entry) -> None:
        index = parent.length
        self.length = index + 1
        self.path = (*parent.path, self)
        self.flaw = parent.flaw or flaw_of(parent, entry)
        self.tables, _ = apply(parent.tables, entry.kind, index, entry.key, entry.body)
        self.positions = {**parent.positions, entry.key: index} if entry.key else parent.positions
        if entry.config is None:
            self.acc, self.start, self.configs = parent.acc, parent.start, parent.configs
        else:
            self.acc, self.start, self.configs = entry.term, index, (*parent.configs, entry.config)

    def extended(self, entry: Entry) -> Log:
        """Returns this log with one more entry."""
        child = self._children.get(entry)
        if child is None:
            child = self._children[entry] = Log(self, entry)
        return child

    def contains(self, prefix: Log) -> bool:
        """Returns whether `prefix` is a prefix of this log."""
        return prefix.length <= self.length and self.path[prefix.length] is prefix

    def common(self, other: Log) -> int:
        """Returns the length of the longest common prefix."""
        length = min(self.length, other.length)
        while self.path[length] is not other.path[length]:
            length -= 1
        return length

    def __repr__(self) -> str:
        return "[" + " ".join(_short(log.entry) for log in self.path[1:] if log.entry is not None) + "]"


def _short(entry: Entry) -> str:
    term = f"{entry.term[0]}.{entry.term[1]}"
    if entry.config is None:
        return f"{entry.kind}({entry.key})@{term}"
    return f"START({entry.config.primary}:{''.join(voter.domain for voter in entry.config.voters)})@{term}"


def flaw_of(parent: Log, entry: Entry) -> str | None:
    """Returns what no log may contain, committed or not: the per-log invariants (I5, I4, grants, leases, proofs)."""
    if entry.key and entry.key in parent.positions:
        return f"I5 operation {entry.key} occurs twice in {parent!r}"
    if entry.kind != START:
        if entry.term != parent.acc:
            return f"I4 an entry of term {entry.term} follows the START of {parent.acc}"
        reason = refusal(parent.tables, entry.kind, entry.author, entry.body)
        return f"GATE {entry.kind}({entry.key}) at {parent.length} although {reason}" if reason else None
    config = entry.config
    voter = config.voter(config.primary) if config else None
    if voter is None or voter.witness:
        return f"I7 the primary of {entry.term} keeps no payload or is no voter"
    return f"I4 START of {entry.term} after {parent.acc}" if entry.term <= parent.acc else None


class Replica(NamedTuple):
    """What one replica holds durably."""

    domain: str
    incarnation: str
    promised: Term
    log: Log
    commit: int
    tables: Tables  # at the tail
    undo: tuple[PreImage, ...]  # one for each entry in [commit, tail)
    floor: int = 0
    learning: str = ""  # the session of the learner that copies a snapshot in; "" outside of learning
    seen: tuple[Seen | None, ...] = ()  # what it remembers of the other replicas, by position

    @property
    def member(self) -> Member:
        return (self.domain, self.incarnation)


class State(NamedTuple):
    """One state of the whole system."""

    replicas: tuple[Replica, ...]
    processes: tuple[Any, ...]  # of model.processes
    exposed: tuple[Log, ...] = ()  # prefixes that an answer depended on; the longest only, unless they disagree
    alarm: str = ""  # what a process found that must never be found: a copy that would cut committed entries


def place_of(state: State, domain: str) -> int:
    """Returns where the replica of a domain stands in `State.replicas`."""
    return next(place for place, replica in enumerate(state.replicas) if replica.domain == domain)


def head_of(replica: Replica) -> Head:
    """Returns the head that the rules read."""
    log = replica.log
    return Head(replica.promised, log.acc, replica.floor, log.length, replica.commit, log.start, bool(replica.learning))


def seen_of(replica: Replica) -> Seen:
    """Returns what a peer remembers after reading this replica."""
    return Seen(replica.incarnation, replica.promised, replica.log.acc, replica.log.length, replica.commit)


def promise_of(replica: Replica, log: Log, witness: bool) -> Promise:
    """Returns the answer to an elector, in which the replica answers for `log`."""
    return Promise(replica.domain, replica.incarnation, log.acc, log.length, replica.commit, witness)


def expose(exposed: tuple[Log, ...], prefix: Log) -> tuple[Log, ...]:
    """Returns the exposed prefixes with one more; a prefix of another is dropped, for the longer one implies it."""
    if prefix.length == 0 or any(other.contains(prefix) for other in exposed):
        return exposed
    return (*(other for other in exposed if not prefix.contains(other)), prefix)


def empty_replica(domain: str, incarnation: str, root: Log) -> Replica:
    """Returns a replica that was just created."""
    return Replica(domain, incarnation, NO_TERM, root, 0, NO_TABLES, ())
