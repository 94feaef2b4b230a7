"""Repair: a damaged, rolled-back, wiped or lost domain comes back as a new incarnation; the others serve meanwhile.

Steps, each safe to do again, and a repair that was cut short goes on where it was: look at everything and refuse before
anything is touched; fence the old incarnation (its directory is moved aside, `store.toml` names a new one, an empty
environment is made); then in each log that counted the old one: learn what is committed, and start a term in which the
new incarnation votes in the old one's place.

Promises
- Before a log is asked to go on without the old incarnation, no process can write that one any more or begin to read
  it. What was moved aside stays there; nothing opens it, whatever name it is given back.
- A log goes on with what an election quorum of the others holds, which is everything that was acknowledged, or it is
  not touched. Only names given to `--accept-loss` change that, and they are exactly the logs that need it.
- A domain whose data is only out of reach is not repaired.

When it fails: whatever is done is done; the same command goes on. The rules are in `rules.lacks_holders`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from grafctl.errors import Busy, ConfirmationRequired, DriverError, NoQuorum, Timeout, Unreachable, Usage
from grafctl.store.driver.kill import point
from grafctl.store.elect import NewVoters, VoterChange
from grafctl.store.learn import Progress, learn, needs_learning
from grafctl.store.log import Log
from grafctl.store.observe import Lead, Observation
from grafctl.store.rules import RULES, Config, Member, Promise
from grafctl.store.session import Session

TRIES = 5
SETTLE_S = 5.0


class Need(NamedTuple):
    """What has to be done in one log."""

    name: str  # of the resource, or `control`, `audit`
    log: Log
    role: str  # what the domain is in it: voter, witness, learner
    blocked: str = ""  # why it cannot be done without a loss
    away: tuple[str, ...] = ()  # domains that would make it possible by coming back
    lost: str = ""  # what is given up where it is done all the same


def fenced_members(force: Iterable[Config], members: dict[str, Member]) -> set[Member]:
    """Returns the voters whose incarnation is no longer the registered one: nobody can write or read them any more."""
    voters = {voter.member for config in force for voter in config.voters}
    return {member for member in voters if member[0] in members and members[member[0]] != member}


def replaced(config: Config, gone: set[Member], members: dict[str, Member]) -> Config:
    """Returns the voter set with the present incarnations of fenced members in their places."""
    voters = tuple(
        voter._replace(incarnation=members[voter.domain][1]) if voter.member in gone else voter
        for voter in config.voters
    )
    return config._replace(voters=voters, fenced=tuple(sorted(gone)))


# --- looking


def need_of(name: str, log: Log, domain: str, members: dict[str, Member], *, is_lost: bool) -> Need | None:
    """Returns what a log needs so that it counts the domain's present incarnation, None where that is nothing.

    With `is_lost` the present one is about to be fenced too, and counts nowhere.
    """
    found = log.observe(frozenset({domain}) if is_lost else frozenset())
    lead = found.lead()
    if lead is None:
        return None
    members = members | {domain: (domain, "the next one")} if is_lost else members
    force = lead.force()
    gone = fenced_members(force, members)
    voter = next((v for config in force for v in config.voters if v.member in gone and v.domain == domain), None)
    if voter is None:
        return None
    need = Need(name, log, "witness" if voter.witness else "voter")
    return _weighed(need, found, lead, replaced(lead.config, gone, members), members[domain])


def _weighed(need: Need, found: Observation, lead: Lead, planned: Config, new: Member) -> Need:
    """Returns the need with what stands in its way."""
    there = {sight.member for sight in found.sights.values()}
    voters = {voter.member for config in lead.force() for voter in config.voters}
    away = tuple(sorted({member[0] for member in voters - there - set(planned.fenced)}))
    if RULES.lacks_promises(lead.force(), there) is not None:
        return need._replace(blocked="too few of its voters are left", away=away, lost=_unknown_loss(need, lead))
    if RULES.lacks_holders([planned, *lead.force()], there | {new}) is not None:
        return need._replace(blocked="too few of its voters answer", away=away)
    promises = [
        Promise(sight.domain, sight.incarnation, sight.head.acc, sight.head.tail, sight.head.commit, is_witness)
        for sight in found.sights.values()
        if not sight.head.learning and sight.member in voters
        for is_witness in [lead.is_witness(sight.domain)]
    ]
    best = max(promises, key=RULES.rank, default=None)
    if best is not None and RULES.choose_primary(found.sights[best.domain].configs, promises).refusal == "payload":
        return need._replace(blocked="only a witness knows its newest entries", away=away)
    return need


def _unknown_loss(need: Need, lead: Lead) -> str:
    tail = max(lead.tails.values(), default=0)
    return f"{need.name}: whatever was acknowledged after entry {tail - 1}"


# --- doing


def bring_back(session: Session, need: Need, progress: Progress | None, *, loses: bool = False) -> None:
    """Makes a log count the present incarnations of fenced members; raises `NoQuorum` where it cannot now."""
    log = need.log
    for _ in range(TRIES):
        with suppress(NoQuorum, Timeout):  # for what can be settled with the voters as they are
            log.settle(deadline_s=SETTLE_S)
        session.cluster.refresh()
        members = session.members()
        lead = _lead_of(log)
        gone = fenced_members(lead.force(), members)
        if not gone:
            break
        for domain in sorted({member[0] for member in gone}):
            _teach(session, log, domain, lead.is_witness(domain), progress)
        point("repair.learnt")
        if gone & {voter.member for voter in lead.config.voters}:
            _replace(log, gone, members, lead, loses=loses)
        else:
            log.settle()
        point("repair.started")


def _lead_of(log: Log) -> Lead:
    lead = log.observe().lead()
    if lead is None:
        raise NoQuorum("No replica of the log answers.", outcome="not_written")
    return lead


def _teach(session: Session, log: Log, domain: str, witness: bool, progress: Progress | None) -> None:
    """Brings the committed prefix to a domain, where copying alone would not."""
    try:
        if needs_learning(log, domain):
            learn(log, domain, witness=witness, progress=progress)
    except Unreachable as error:
        raise Busy(
            f"{error.domain} cannot be written now: {error.why}.",
            hint="Run the same command again; it goes on where it was.",
            domain=error.domain,
        ) from error


def _replace(log: Log, gone: set[Member], members: dict[str, Member], lead: Lead, *, loses: bool) -> None:
    planned = replaced(lead.config, gone, members)

    def change(_: Any, old: Config) -> NewVoters:
        new = replaced(old, gone, members)
        return NewVoters(new.voters, new.write_size, new.payload_size, {}, new.fenced)

    eligible = frozenset(voter.member for voter in planned.voters)
    log.replace_fenced(VoterChange(change, eligible, (planned,), loses))


def level(session: Session, need: Need, domain: str, progress: Progress | None) -> None:
    """Brings all of the log to the domain's copy, so that it is whole when the repair says so."""
    for _ in range(TRIES):
        lead = need.log.settle()
        member, primary = session.cluster.member(domain), session.cluster.member(lead.primary)
        if lead.tails.get(member, -1) >= lead.tails[primary]:
            return
        try:
            _teach(session, need.log, domain, lead.is_witness(domain), progress)
        except DriverError as error:
            raise NoQuorum(
                f"{error.domain} cannot be reached: {error.why}.",
                hint="Run the same command again; it goes on where it was.",
                outcome="not_written",
                domains=[error.domain],
            ) from error


# --- what is given up


def check_losses(needs: Iterable[Need], accepted: Iterable[str], domain: str) -> set[str]:
    """Returns the names of the logs that are done with a loss; raises where the names given are not exactly those."""
    blocked = [need for need in needs if need.blocked]
    names, given = {need.name for need in blocked}, set(accepted)
    if given - names:
        raise Usage(
            f"Nothing of {', '.join(sorted(given - names))} needs to be given up.",
            hint=f"Run `grafctl domain repair {domain} --dry-run` to see what does.",
        )
    if not blocked or given == names:
        return names
    away = sorted({name for need in blocked for name in need.away})
    flags = " ".join(f"--accept-loss {name}" for name in sorted(names))
    told = "; ".join(f"{need.name}: {need.blocked}" for need in blocked)
    if given:
        raise ConfirmationRequired(f"All that may be lost must be named. {told}.", hint=f"That is: {flags}.")
    raise NoQuorum(
        f"Nothing was touched, because something might be lost. {told}.",
        hint=f"Bring {', '.join(away)} back first." if away else f"If that cannot be helped, add {flags}.",
        outcome="not_written",
        domains=away,
    )
