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
- A resource of which no replica is left is named like any other loss; once that is accepted it begins anew, empty.
- A domain whose data is only out of reach is not repaired.

When it fails: whatever is done is done; the same command goes on. The rules are in `rules.lacks_holders`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from grafctl import clock
from grafctl.errors import Busy, ConfirmationRequired, Damaged, DriverError, NoQuorum, Timeout, Unreachable, Usage
from grafctl.store import keys
from grafctl.store.beginning import begin_anew, config_of, may_have_begun
from grafctl.store.driver.kill import point
from grafctl.store.elect import NewVoters, VoterChange
from grafctl.store.learn import Progress, learn, needs_learning
from grafctl.store.log import Log
from grafctl.store.observe import Lead, Observation, fenced_members
from grafctl.store.records import HeadRow, config_fields, encode_head
from grafctl.store.replica.replica import Replica
from grafctl.store.resources.carried import ANEW_MS
from grafctl.store.resources.membership import VOTER, WITNESS, sizes_of, voters_of
from grafctl.store.rules import EMPTY_HEAD, RULES, Config, Member, Promise
from grafctl.store.session import Session

TRIES = 5
SETTLE_S = 5.0
FORGOTTEN = b"\xff" * 32  # the chain of no log: whoever learns to it begins with clearing it away


class Need(NamedTuple):
    """What has to be done in one log."""

    name: str  # of the resource, or `control`, `audit`
    log: Log
    role: str  # what the domain is in it: voter, witness, learner
    blocked: str = ""  # why it cannot be done now, or not without a loss
    away: tuple[str, ...] = ()  # domains that would make it possible by coming back
    damaged: tuple[str, ...] = ()  # those among them that need a repair too
    lost: str = ""  # what is given up where it is done all the same
    record: Mapping[str, Any] | None = None  # its registration, where nothing is left of it and it begins anew

    @property
    def waits(self) -> bool:
        """Returns whether only the repair of other damaged domains is missing, which must fence them first."""
        return bool(self.damaged) and self.away == self.damaged


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


def loss_of(
    session: Session, name: str, log: Log, record: Mapping[str, Any], domain: str, *, is_lost: bool
) -> Need | None:
    """Returns what a resource needs of which no replica is left, None where one is, or nothing was acknowledged.

    A domain that is about to be fenced may hold any log that nobody else shows; of others the first one of a log is
    where it begins anew.
    """
    found = log.observe(frozenset({domain}) if is_lost else frozenset())
    config = config_of(record)
    if found.lead() is not None or not may_have_begun(session.cluster, found, config):
        return None
    away = tuple(sorted(set(found.errors) - {domain}))
    is_first = domain == config.primary or not session.cluster.knows(config.primary)
    if (away and not (is_lost and config.voter(domain))) or not (is_lost or is_first):
        return None
    damaged = tuple(other for other in away if isinstance(found.errors[other], Damaged))
    names = ", ".join([name, *sorted(_joined(session, record))])
    return Need(name, log, "voter", "no replica of it is left", away, damaged, f"{names}: all of it", record)


def _joined(session: Session, begun: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the registrations of the resources that joined a log."""
    return {name: row for name, row in session.resources().items() if row["log"] == begun["log"] and "start" not in row}


def _weighed(need: Need, found: Observation, lead: Lead, planned: Config, new: Member) -> Need:
    """Returns the need with what stands in its way."""
    there = {sight.member for sight in found.sights.values()}
    voters = {voter.member for config in lead.force() for voter in config.voters}
    away = tuple(sorted({member[0] for member in voters - there - set(planned.fenced)}))
    damaged = tuple(name for name in away if isinstance(found.errors.get(name), Damaged))
    need = need._replace(away=away, damaged=damaged)
    promises = promises_of(found, lead)
    best = max(promises, key=RULES.rank, default=None)
    if RULES.lacks_promises(lead.force(), there) is not None or best is None:
        told = f"whatever was acknowledged after entry {max(lead.tails.values(), default=0) - 1}"
        return need._replace(blocked="too few of its voters are left", lost=f"{need.name}: {told}")
    if RULES.choose_primary(found.sights[best.domain].configs, promises).refusal == "payload":
        told = "; ".join(_known_to_witness(need.log, promises)) or "entries whose payloads are lost"
        return need._replace(blocked="only a witness knows its newest entries", lost=f"{need.name}: {told}")
    if RULES.lacks_holders([planned, *lead.force()], there | {new}) is not None:
        return need._replace(blocked="too few of its voters answer")
    return need._replace(away=(), damaged=())


def promises_of(found: Observation, lead: Lead) -> list[Promise]:
    """Returns what the members that answer would promise now."""
    voters = {voter.member for config in lead.force() for voter in config.voters}
    return [
        Promise(s.domain, s.incarnation, s.head.acc, s.head.tail, s.head.commit, lead.is_witness(s.domain))
        for s in found.sights.values()
        if not s.head.learning and s.member in voters
    ]


def _ahead(promises: Iterable[Promise]) -> tuple[int, list[str]]:
    """Returns how many entries the best log with payloads has, and the witnesses that have a newer one."""
    promises = list(promises)
    best = max((RULES.rank(given) for given in promises if not given.witness), default=((0, 0), 0))
    return best[1], [given.domain for given in promises if given.witness and RULES.rank(given) > best]


def _known_to_witness(log: Log, promises: list[Promise]) -> Iterator[str]:
    """Yields index, operation and digest of each entry that only a witness knows."""
    tail, witnesses = _ahead(promises)
    for domain in witnesses:
        with log.cluster.environment(domain).read() as view:
            reader = Replica(view, log.id, domain)
            for index in range(min(tail, reader.row.head.tail), reader.row.head.tail):
                entry = reader.entry(index, verify_block=False)
                yield f"entry {index} ({entry.request.get('do')}, block sha256:{entry.block_digest.hex()[:16]}…)"


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
        if loses:
            lead = _forget_what_only_witnesses_know(log)
        for domain in sorted({member[0] for member in gone} | _unfinished(log)):
            _teach(log, domain, lead.is_witness(domain), progress)
        point("repair.learnt")
        if gone & {voter.member for voter in lead.config.voters}:
            _replace(log, gone, members, lead, loses=loses)
        else:
            log.settle()
        point("repair.started")


def begin_lost(session: Session, need: Need, domain: str) -> None:
    """Begins a resource anew, empty, with those of its first replicas whose domains are there, else with this one.

    Nobody may use it before an operator says who: what was forbidden since it was created is lost too. Neither may they
    use what else the log carried, which whoever opens it begins anew.
    """
    assert need.record is not None
    start = need.record["start"]
    row = {**start["queue"], "allow": [], "deny": []}
    if joined := _joined(session, need.record):
        row[ANEW_MS] = max(clock.now_ms(), *(record["row"]["created_ms"] for record in joined.values()))
    replicas = [item for item in start["locator"]["replicas"] if session.cluster.knows(item["domain"])]
    if all(item["role"] == WITNESS for item in replicas):
        replicas = [{**start["locator"]["replicas"][0], "domain": domain, "role": VOTER}]
    locator = {**start["locator"], "replicas": replicas}
    voters = voters_of(locator, session.members())
    try:
        write, payload = sizes_of(voters, row["ack"], row["min_payload"])
    except NoQuorum:  # some of its first domains were removed
        row |= {"ack": "majority", "min_payload": None}
        write, payload = sizes_of(voters, row["ack"], row["min_payload"])
    primary = next(voter.domain for voter in voters if not voter.witness)
    fields = config_fields(Config(0, (0, 0), primary, voters, write, payload))
    begin_anew(session.cluster, need.log, {**start, **fields, "locator": locator, "queue": row})
    point("repair.started")


def _forget_what_only_witnesses_know(log: Log) -> Lead:
    """Empties the witnesses whose newest entries were given up, so that they can learn what is left; returns the lead.

    Their promises stay. What the others remember of them goes with it, or they would look like old copies.
    """
    found = log.observe()
    lead = found.lead()
    assert lead is not None
    _, witnesses = _ahead(promises_of(found, lead))
    for witness in witnesses:
        for domain in found.sights:
            with log.cluster.writing(domain) as batch:
                batch.delete(keys.seen(log.id, witness))
                if domain == witness:
                    promised = Replica(batch, log.id, domain).row.head.promised
                    head = EMPTY_HEAD._replace(promised=promised, learning=True)
                    batch.put(keys.head(log.id), encode_head(HeadRow(head, 0, FORGOTTEN, FORGOTTEN)))
            point("repair.forgotten")
    return _lead_of(log)


def _unfinished(log: Log) -> set[str]:
    """Returns the domains in which learning was cut short, and that vote."""
    found = log.observe()
    lead = found.lead()
    return {d for d, sight in found.sights.items() if sight.head.learning and lead and d in lead.domains()}


def _lead_of(log: Log) -> Lead:
    lead = log.observe().lead()
    if lead is None:
        raise NoQuorum("No replica of the log answers.", outcome="not_written")
    return lead


def _teach(log: Log, domain: str, witness: bool, progress: Progress | None) -> None:
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
            _teach(need.log, domain, lead.is_witness(domain), progress)
        except DriverError as error:
            raise NoQuorum(
                f"{error.domain} cannot be reached: {error.why}.",
                hint="Run the same command again; it goes on where it was.",
                outcome="not_written",
                domains=[error.domain],
            ) from error


# --- what is given up


def check_losses(needs: Iterable[Need], accepted: Iterable[str], domain: str, *, goes_on: bool) -> set[str]:
    """Returns the names of the logs that are done with a loss; raises where the names given are not exactly those, or a
    log waits for a domain that may come back.

    A repair that `goes_on` may have given up before what it names.
    """
    needs = list(needs)
    names, given = {need.name for need in needs if need.lost}, set(accepted)
    flags = " ".join(f"--accept-loss {name}" for name in sorted(names))
    away = sorted({name for need in needs if not need.waits for name in need.away if name not in need.damaged})
    told = "; ".join(f"{need.name}: {need.blocked}" for need in needs if need.blocked)
    if given - names and not goes_on:
        raise Usage(
            f"Nothing of {', '.join(sorted(given - names))} needs to be given up.",
            hint=f"What does is: {flags}." if names else "Run the command without --accept-loss.",
        )
    if away:
        raise NoQuorum(
            f"Nothing was touched, because {', '.join(away)} did not answer. {told}.",
            hint=f"Bring {away[0]} back first; if it is lost too, begin with `grafctl domain repair {away[0]} --lost`.",
            outcome="not_written",
            domains=away,
        )
    if names - given:
        raise ConfirmationRequired(
            f"Nothing was touched, because something may be lost. {told}.",
            hint=f"If that cannot be helped, name it: {flags}.",
            domain=domain,
        )
    return names
