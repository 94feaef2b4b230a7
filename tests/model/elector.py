"""The electing process: promises, the choice of a primary, START, and the copying of the new term's log.

A membership change is the same with other voters.

Promises
- Only members of the voter sets in force, and of the new one, are counted, each by its incarnation (I7).
- Who may lead is `rules.choose_primary`; whether the entries before START are committed is `rules.committed_up_to`.

When it fails: a refused PROMISE or START ends nothing; the elector may try the others, or never take another step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from grafctl.store.rules import NO_TERM, Choice, Config, Member, Promise, Term, Voter
from model.process import (
    DONE,
    Step,
    copied,
    copy_targets,
    first_acks,
    is_locked,
    is_old_copy,
    note_steps,
    put,
    remember,
)
from model.setting import Setting
from model.state import Log, Replica, State, promise_of
from model.transactions import Source, promise, start


class Elector(NamedTuple):
    """A process that starts one term."""

    uid: int
    voters: tuple[Voter, ...] = ()  # the new voter set; () keeps the one that is in force
    write_size: int = 0
    payload_size: int = 0
    fenced: tuple[Member, ...] = ()  # members of the old set that the new one replaces, which are gone for good
    term: Term = NO_TERM
    promises: tuple[Promise, ...] = ()
    logs: tuple[Log, ...] = ()  # of the promisers, in the same order
    sights: tuple[Log, ...] = ()  # in the mutant that trusts them: every log as it was before the promises
    source: Source | None = None  # what is being copied, after START

    @property
    def name(self) -> str:
        return f"e{self.uid}"


def steps(setting: Setting, state: State, position: int, elector: Elector) -> Iterator[Step]:
    """Yields every next step of this elector."""
    if elector.source is not None:
        yield from _copy_steps(setting, state, position, elector, elector.source)
        return
    if setting.behaviour.trusts_sights and not elector.sights:
        newest = [replica.promised for replica in state.replicas]
        sights = tuple(replica.log for replica in state.replicas)
        moved = elector._replace(sights=sights, term=setting.rules.next_term(newest, elector.uid))
        yield (elector.name, "observes"), put(state, position, moved)
        return
    yield from _promise_steps(setting, state, position, elector)
    if elector.promises:
        yield from _start_steps(setting, state, position, elector)


# --- promises


def answer_of(setting: Setting, replica: Replica) -> tuple[Promise, Log]:
    """Returns what a replica answers to an elector; one that is learning answers for no entry at all."""
    log = replica.log
    if replica.learning and not setting.behaviour.counts_learning:
        log = log.path[0]
    return promise_of(replica, log, setting.is_witness(replica.domain)), log


def _promise_steps(setting: Setting, state: State, position: int, elector: Elector) -> Iterator[Step]:
    asked = {given.domain for given in elector.promises}
    invited = {voter.member for voter in elector.voters}
    if not invited <= {replica.member for replica in state.replicas}:
        return  # nobody can know an incarnation that has not begun
    for place, replica in enumerate(state.replicas):
        if replica.domain in asked or is_locked(setting, state, position, replica.domain):
            continue
        if replica.log.length == 0 and replica.member not in invited and not _is_known_voter(state, replica):
            continue
        for term in _terms(setting, state, elector):
            after = promise(setting, replica, term)
            if after is None:
                continue
            peers = tuple(peer for peer, other in enumerate(state.replicas) if other.domain in asked)
            pairs = [*zip(elector.promises, elector.logs, strict=True), answer_of(setting, replica)]
            given = sorted(pairs, key=lambda pair: pair[0].domain)
            moved = elector._replace(
                term=term, promises=tuple(p for p, _ in given), logs=tuple(log for _, log in given)
            )
            label = (elector.name, "promise", term, "at", replica.domain)
            yield label, put(state, position, moved, place, remember(setting, state, after, peers))


def _terms(setting: Setting, state: State, elector: Elector) -> list[Term]:
    """Returns the term of this elector, or each that it may choose by having seen some of the replicas."""
    if elector.term != NO_TERM:
        return [elector.term]
    return sorted({setting.rules.next_term((replica.promised,), elector.uid) for replica in state.replicas})


def _is_known_voter(state: State, replica: Replica) -> bool:
    """Returns whether a log names this very incarnation: what makes an empty replica worth asking."""
    configs = (config for other in state.replicas for config in other.log.configs)
    return any(voter.member == replica.member for config in configs for voter in config.voters)


# --- the choice


def choose(
    setting: Setting,
    promises: Sequence[Promise],
    configs_of: Sequence[tuple[Config, ...]],
    voters: Sequence[Voter] = (),
) -> tuple[Choice, int]:
    """Returns whose log may lead, by the rules, and how many entries the promisers know to be committed.

    `configs_of` are the voter sets in the log of each promiser; `voters` is the new voter set, if there is one.
    """
    rules = setting.rules
    best = max(range(len(promises)), key=lambda place: rules.rank(promises[place]))
    configs = configs_of[best]
    if not configs:
        return Choice((), "no_quorum"), 0
    known = min(max(given.commit for given in promises), promises[best].tail)
    invited = {voter.member for voter in voters}
    counting = rules.in_force(configs, known) if setting.behaviour.forgets_replaced else configs
    counted = rules.of_members(counting, promises, invited)  # also replaced members, for what they know to be committed
    if not counted:
        return Choice((), "no_quorum"), 0
    eligible: set[Member] | None = invited or {voter.member for voter in configs[-1].voters}
    if setting.behaviour.takes_any_primary and not invited:
        eligible = None
    return rules.choose_primary(configs, counted, eligible), known


def _start_steps(setting: Setting, state: State, position: int, elector: Elector) -> Iterator[Step]:
    places = {replica.domain: place for place, replica in enumerate(state.replicas)}
    peers = tuple(places[given.domain] for given in elector.promises)
    sound = [
        (given, log)
        for given, log in zip(elector.promises, elector.logs, strict=True)
        if not is_old_copy(setting, state, places[given.domain], peers)
    ]
    if not sound:
        return
    trusted = [elector.sights[places[given.domain]] if elector.sights else log for given, log in sound]
    choice, known = choose(setting, [given for given, _ in sound], [log.configs for log in trusted], elector.voters)
    for given, log in sound:
        place = places[given.domain]
        replica = state.replicas[place]
        if given.domain not in choice.candidates or replica.log is not log:
            continue
        if is_locked(setting, state, position, given.domain):
            continue
        after = start(setting, replica, elector.term, given.tail, next_config(elector, log, given.domain))
        if after is None:
            continue
        acks = first_acks(setting, state, after)
        source = Source(elector.term, after.log, min(known, log.length), acks)
        label = (elector.name, "START", elector.term, "at", given.domain)
        moved = put(state, position, _resting(setting, state, elector, source), place, after)
        if all(voter.member != replica.member for voter in after.log.configs[-1].voters):
            moved = moved._replace(alarm=f"I7 {replica.member} leads without being a voter")
        yield label, moved


def next_config(elector: Elector, log: Log, primary: str) -> Config:
    """Returns what the START of this elector carries, on this log."""
    current = log.configs[-1]
    if not elector.voters:
        return current._replace(at=log.length, term=elector.term, primary=primary, fenced=())
    write = elector.write_size or len(elector.voters) // 2 + 1
    payload = elector.payload_size or write
    return Config(log.length, elector.term, primary, elector.voters, write, payload, elector.fenced)


# --- after START


def _resting(setting: Setting, state: State, elector: Elector, source: Source) -> Any:
    """Returns the elector without what it does not need any more, or DONE."""
    if not setting.notes_commit and not copy_targets(setting, state, source):
        return DONE
    return Elector(elector.uid, source=source)


def _copy_steps(setting: Setting, state: State, position: int, elector: Elector, source: Source) -> Iterator[Step]:
    for place in copy_targets(setting, state, source):
        domain = state.replicas[place].domain
        if is_locked(setting, state, position, domain):
            continue
        for stop, replica, after in copied(setting, state, source, place):
            label = (elector.name, "copies", stop, "to", domain)
            if replica is None:
                yield label, put(state, position, DONE)._replace(alarm=f"I3 {domain} cut below its commit point")
            else:
                yield label, put(state, position, _resting(setting, state, elector, after), place, replica)
    if setting.notes_commit:
        yield from note_steps(setting, state, position, source)
