"""The durable transactions of one replica, as the product runs them: each is one commit and asks the product's rules.

Promises
- Nothing here decides by itself whether an entry is committed, a promise may be given or a copy may be taken: that is
  `grafctl.store.rules`, through `Setting.rules`.
- The tables of a replica are changed only by applying an entry or by undoing one with its pre-image, never by replaying
  the log.

When it fails: a guard that does not hold gives None; a copy that would cut below the commit point gives `ALARM`.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from grafctl.store.rules import Config, Member, Term
from model.setting import Setting
from model.state import Entry, Log, Replica, head_of
from model.tables import Tables, apply, undo

ALARM: Final = "alarm"


class Source(NamedTuple):
    """What a copier read at the primary, and what it learnt since."""

    term: Term
    log: Log
    known: int  # entries that are known to be committed
    acks: tuple[tuple[Member, int], ...]  # how far each member is durable in this term, in order


# --- the parts of a transaction


def applied(replica: Replica, entry: Entry) -> Replica:
    """Returns the replica with one more entry, applied, with its pre-image."""
    tables, before = apply(replica.tables, entry.kind, replica.log.length, entry.key, entry.body)
    return replica._replace(log=replica.log.extended(entry), tables=tables, undo=(*replica.undo, before))


def cut(setting: Setting, replica: Replica, length: int) -> Replica:
    """Returns the replica without the entries from `length` on; their changes are undone, last first."""
    tables, images = replica.tables, replica.undo
    for _ in range(replica.log.length - length):
        if images:
            if not setting.behaviour.loses_undo:
                tables = undo(tables, images[-1])
            images = images[:-1]
    return replica._replace(log=replica.log.path[length], tables=tables, undo=images)


def certified(setting: Setting, replica: Replica, commit: int) -> Replica:
    """Returns the replica with a commit point that is at least `commit`; pre-images below it are dropped."""
    if setting.behaviour.drops_images_early:
        replica = replica._replace(undo=())
    if commit <= replica.commit:
        return replica
    return replica._replace(commit=commit, undo=replica.undo[commit - replica.commit :])


def overlay(replica: Replica, length: int) -> Tables:
    """Returns the tables as of the first `length` entries, read through the pre-images, as a reader does."""
    tables = replica.tables
    for before in reversed(replica.undo[length - replica.commit :]):
        tables = undo(tables, before)
    return tables


def committed(setting: Setting, source: Source) -> int:
    """Returns how many entries of the source are committed, as far as its copier can tell."""
    return setting.rules.committed_up_to(source.log.configs, dict(source.acks), source.known)


def with_ack(acks: tuple[tuple[Member, int], ...], member: Member, tail: int) -> tuple[tuple[Member, int], ...]:
    """Returns the acks with one more, each member at its longest."""
    longest = dict(acks)
    longest[member] = max(tail, longest.get(member, 0))
    return tuple(sorted(longest.items()))


# --- the transactions


def may_append(setting: Setting, replica: Replica) -> bool:
    """Returns whether an APPEND at this replica would pass its guard."""
    configs = replica.log.configs
    return bool(configs) and setting.rules.may_append(head_of(replica), configs[-1], replica.member)


def append(setting: Setting, replica: Replica, entry: Entry) -> Replica | None:
    """APPEND, its gate and its operation key excepted: those are asked by the client in the same step."""
    if not may_append(setting, replica):
        return None
    return certified(setting, applied(replica, entry), 0)


def copy(setting: Setting, replica: Replica, source: Source, stop: int) -> Replica | Literal["alarm"] | None:
    """COPY: takes the source's log up to `stop`, undoing what disagrees, and certifies what is now committed."""
    rules, head = setting.rules, head_of(replica)
    if replica.learning or not rules.may_copy(head, source.term):
        return None
    match = replica.log.common(source.log)
    cuts = match < min(stop, replica.log.length)
    if not rules.may_stop_copy_at(stop, source.log.configs[-1], source.known, cuts=cuts):
        return None
    if match < min(stop, setting.floor):
        return None  # what comes next is not kept any more: only a snapshot helps
    if match < stop or (setting.behaviour.late_copy_cuts and stop < replica.log.length):
        match = min(match, stop)
        if not rules.may_cut(head, source.term, match):
            return ALARM
        replica = cut(setting, replica, match)
        for node in source.log.path[match + 1 : stop + 1]:
            assert node.entry is not None
            replica = applied(replica, node.entry)
    known = max(source.known, head.commit)
    acks = with_ack(source.acks, replica.member, stop) if stop > source.log.start else source.acks
    certain = rules.committed_up_to(source.log.configs, dict(acks), known)
    if setting.behaviour.certifies_early:
        certain = stop
    replica = certified(setting, replica, min(certain, stop))
    if setting.behaviour.leaves_promise and stop <= source.log.start:
        return replica
    return replica._replace(promised=max(replica.promised, source.term))


def promise(setting: Setting, replica: Replica, term: Term) -> Replica | None:
    """PROMISE: from now on nothing of an older term is taken."""
    if not setting.rules.may_promise(head_of(replica), term):
        return None
    return replica if setting.behaviour.forgets_promises else replica._replace(promised=term)


def start(setting: Setting, replica: Replica, term: Term, promised_tail: int, config: Config) -> Replica | None:
    """START: this replica's log leads the term, under these voters."""
    if not setting.rules.may_start(head_of(replica), term, promised_tail):
        return None
    entry = Entry(term, "START", config=config)
    return certified(setting, applied(replica, entry)._replace(promised=term), 0)
