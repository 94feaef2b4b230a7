"""Elections: how the log of another replica comes to lead, and how the set of voters changes.

Promises
- A term is promised durably before anybody starts it, and carries this elector's own random bits: at most one START a
  term.
- An election that changes the voters is committed only by quorums of the old set and the new one (the joint rule).
- No promise is asked for where the quorums that the election needs cannot answer: a hopeless election would fence for
  nothing.

When it fails: promised terms without a START are harmless; whoever comes next sees the newer promise and elects again.
"""

from __future__ import annotations

from grafctl import clock
from grafctl.errors import DriverError, Full, NoQuorum
from grafctl.store.cluster import Cluster, blaming
from grafctl.store.driver.kill import point
from grafctl.store.observe import Lead, Observation
from grafctl.store.records import NO_DIGEST, NO_OPERATION, START, config_fields, encode_json
from grafctl.store.replica.replica import Apply, Draft, Writer
from grafctl.store.replica.state import State
from grafctl.store.replicate import Moved, remember
from grafctl.store.rules import RULES, Config, Member, Promise, Term, Voter
from grafctl.typed import Any, Callable, NamedTuple


class NewVoters(NamedTuple):
    """What a START brings beside leadership: another voter set, and the fields of its meta that go with it."""

    voters: tuple[Voter, ...]
    write_size: int
    payload_size: int
    fields: dict[str, Any]
    fenced: tuple[Member, ...] = ()  # members of the sets before that no process can ever write again


Change = Callable[[State, Config], NewVoters]  # decides on state and voters at the tail; may raise a refusal


class VoterChange(NamedTuple):
    """An election that brings another voter set."""

    change: Change
    eligible: frozenset[Member]  # of the new set: one of them is to lead
    planned: tuple[
        Config, ...
    ] = ()  # what the START will carry, where it fences members: that counts before it is there
    loses: bool = False  # an operator has given up what only the fenced members held, so no quorum need promise


def elect(
    cluster: Cluster,
    log: bytes,
    apply: Apply,
    seen: Observation,
    change: VoterChange | None = None,
    prefer: str | None = None,
    exclude: frozenset[str] = frozenset(),
    reserved: bool = False,
) -> Lead:
    """Promises and starts a new term; returns its lead, not yet committed. Raises `Moved` or `NoQuorum`."""
    best = seen.best()
    if best is None:
        raise NoQuorum("No replica of the log answers.", outcome="not_written")
    _require_electable(seen, exclude, change)
    newest = [sight.head.promised for sight in seen.sights.values()] + [
        sight.head.acc for sight in seen.sights.values()
    ]
    term = RULES.next_term(newest, clock.random_u64())
    promises = _collect(cluster, log, apply, seen, term, exclude, reserved)
    if not promises:
        raise NoQuorum("No replica of the log promises a new term.", outcome="not_written")
    lead = seen.lead()
    assert lead is not None
    promises = RULES.of_members(lead.configs, promises, None)
    if not promises:
        raise NoQuorum("No voter of the log promises a new term.", outcome="not_written")
    configs = seen.sights[max(promises, key=RULES.rank).domain].configs
    if change is not None and change.loses:
        choice = RULES.choose_survivor(promises, change.eligible)
    else:
        choice = RULES.choose_primary(configs, promises, change.eligible if change else None)
    if choice.refusal == "payload" and change is None:
        raise NoQuorum(
            "Only a witness holds the newest entries; a domain that keeps their payloads must come back first.",
            hint="Run `grafctl status` to see which domains are away.",
            outcome="not_written",
        )
    if not choice.candidates and choice.refusal != "no_quorum":
        raise Moved(term)  # no member of the new set has the newest log yet: level and try again
    if not choice.candidates:
        raise NoQuorum("Too few voters answer to elect a primary.", outcome="not_written", domains=sorted(seen.errors))
    domain = prefer if prefer in choice.candidates else choice.candidates[0]
    tails = {(promise.domain, promise.incarnation): promise.tail for promise in promises}
    return _start(cluster, log, apply, term, domain, tails[cluster.member(domain)], change, reserved)


def _require_electable(seen: Observation, exclude: frozenset[str], change: VoterChange | None) -> None:
    """Raises `NoQuorum` unless both quorums of the voters in force can answer."""
    lead = seen.lead()
    assert lead is not None
    there = {sight.member for domain, sight in seen.sights.items() if domain not in exclude}
    force = lead.force()
    config = None if change and change.loses else RULES.lacks_promises(force, there)
    config = config or RULES.lacks_holders([*(change.planned if change else ()), *force], there)
    if config is not None:
        away = sorted(voter.domain for voter in config.voters if voter.member not in there)
        raise NoQuorum(
            f"Only {len(config.voters) - len(away)} of {len(config.voters)} voters answer; {', '.join(away)} "
            f"{'is' if len(away) == 1 else 'are'} away.",
            hint="Run `grafctl status` to see which domains are in trouble, and try again when they are back.",
            outcome="not_written",
            domains=away,
        )


def _collect(
    cluster: Cluster, log: bytes, apply: Apply, seen: Observation, term: Term, exclude: frozenset[str], reserved: bool
) -> list[Promise]:
    promises = []
    for domain in seen.sights:
        if domain in exclude:
            continue
        try:
            promises.append(_promise(cluster, log, apply, domain, term, reserved))
        except DriverError as error:
            seen.errors[domain] = error
    return promises


def _promise(cluster: Cluster, log: bytes, apply: Apply, domain: str, term: Term, reserved: bool) -> Promise:
    with blaming(domain), cluster.writing(domain) as batch:
        replica = Writer(batch, log, domain, apply)
        if reserved:
            batch.use_reserve()
        head = replica.row.head
        if not RULES.may_promise(head, term):
            raise Moved(head.promised)
        config = replica.config() if head.start >= 0 else None
        voter = config.voter(domain) if config else None
        replica.set(promised=term)
        replica.save()
        point("promise.before")
    point("promise.after")
    incarnation = cluster.member(domain)[1]
    acc, tail = (head.acc, head.tail) if not head.learning else ((0, 0), 0)
    return Promise(domain, incarnation, acc, tail, head.commit, voter is not None and voter.witness)


def _start(
    cluster: Cluster,
    log: bytes,
    apply: Apply,
    term: Term,
    domain: str,
    tail: int,
    change: VoterChange | None,
    reserved: bool,
) -> Lead:
    while True:
        try:
            with blaming(domain), cluster.writing(domain) as batch:
                replica = Writer(batch, log, domain, apply)
                if reserved:
                    batch.use_reserve()
                if not RULES.may_start(replica.row.head, term, tail):
                    raise Moved(replica.row.head.promised)
                old = replica.config()
                new = (
                    change.change(replica.state, old)
                    if change
                    else NewVoters(old.voters, old.write_size, old.payload_size, {})
                )
                config = Config(tail, term, domain, new.voters, new.write_size, new.payload_size, new.fenced)
                meta = encode_json({"do": "start", **config_fields(config), **new.fields})
                replica.append(Draft(START, term, clock.now_ms(), NO_OPERATION, meta, b"", NO_DIGEST))
                configs = replica.configs()
                remember(batch, log, domain, cluster.member(domain)[1], replica.row.head)
                replica.save()
                point("start.before")
            point("start.after")
            return Lead(term, configs, replica.row.head.commit, {cluster.member(domain): tail + 1})
        except Full as error:
            if not error.grown:
                raise
