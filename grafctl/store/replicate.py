"""COPY: brings one replica to the log of the primary of a term, in one durable commit.

Promises
- Nothing is taken from a primary that has moved to another term, and nothing given to a replica that has promised a
  newer one.
- The diverged tail of the replica is undone to the last common entry, found by the chain, before anything is added.
- If this copy completes a quorum, the replica's commit point says so in the same commit.
- When another voter set has come into force, its replicas know that durably before anybody is told.

When it fails: the replica is as it was, or has the whole copy. Entries travel as they rest; chain and digest are
checked on the way.
"""

from __future__ import annotations

from functools import partial

from grafctl import threads
from grafctl.errors import Corrupt, Damaged, DriverError, Full
from grafctl.store import keys
from grafctl.store.cluster import Cluster, blaming
from grafctl.store.driver.contract import Batch
from grafctl.store.driver.kill import point
from grafctl.store.observe import Lead
from grafctl.store.records import Entry, decode_entry, encode_seen, follows
from grafctl.store.replica.replica import Appended, Apply, Replica, SafetyAlarm, Writer
from grafctl.store.rules import RULES, Head, Seen, Term

COPY_BYTES_MAX = 16 << 20


class Moved(Exception):
    """The term this client works in is over: a newer promise was seen."""

    def __init__(self, term: Term) -> None:
        super().__init__(f"a newer term than {term[0]} has begun")


class NeedsLearning(Exception):
    """The replica is so far behind that the entries it needs are gone, or its last learning was cut short."""

    def __init__(self, domain: str) -> None:
        super().__init__(domain)
        self.domain = domain


def copy(
    cluster: Cluster, log: bytes, apply: Apply, lead: Lead, domain: str, upto: int, fresh: Appended | None = None
) -> int:
    """Brings the replica in `domain` to at least `upto` entries of the term; returns how many it holds durably.

    `fresh` is the last of them where this client has just appended it: a replica that lacks only that takes it so.
    Raises `Moved`, `NeedsLearning`, `SafetyAlarm` or a `DriverError`.
    """
    held = -1 if fresh is not None else _already(cluster, log, lead, domain)
    while held < upto:
        try:
            held, committed = _copy_once(cluster, log, apply, lead, domain, fresh)
            lead.known = max(lead.known, committed)
        except Full as error:
            if not error.grown:
                raise
    lead.reached(cluster.member(domain), held)
    return held


def _already(cluster: Cluster, log: bytes, lead: Lead, domain: str) -> int:
    with blaming(domain), cluster.environment(domain).read() as view:
        head = Replica(view, log, domain).row.head
    return head.tail if head.acc == lead.term and not head.learning else -1


def _copy_once(
    cluster: Cluster, log: bytes, apply: Apply, lead: Lead, domain: str, fresh: Appended | None
) -> tuple[int, int]:
    """Returns how many entries the replica holds durably now, and how many of them it knows to be committed."""
    with blaming(domain), cluster.writing(domain) as batch:
        target = Writer(batch, log, domain, apply, witness=lead.is_witness(domain))
        if not RULES.may_copy(target.row.head, lead.term):
            raise Moved(lead.term)
        if target.row.head.learning:
            raise NeedsLearning(domain)
        head = target.row.head
        if fresh is not None and head.acc == lead.term and head.tail > fresh.at:
            return head.tail, head.commit  # somebody else has copied it meanwhile
        if fresh is not None and _lacks_only(target, lead, fresh):
            _take_fresh(cluster, lead, target, fresh)
            primary = fresh.primary
        else:
            with cluster.environment(lead.primary).read() as view:
                with blaming(lead.primary):
                    source = Replica(view, log, lead.primary)
                primary = source.row.head
                if primary.acc != lead.term:
                    raise Moved(lead.term)
                _take(cluster, lead, target, source)
        remember(batch, log, lead.primary, cluster.member(lead.primary)[1], primary)
        target.save()
        point("copy.before")
    point("copy.after")
    return target.row.head.tail, target.row.head.commit


def _lacks_only(target: Writer, lead: Lead, fresh: Appended) -> bool:
    head = target.row.head
    return head.acc == lead.term and head.tail == fresh.at and target.row.chain == fresh.previous


def _take_fresh(cluster: Cluster, lead: Lead, target: Writer, fresh: Appended) -> None:
    tails = lead.durable() | {cluster.member(target.domain): fresh.at + 1}
    commit = RULES.committed_up_to(lead.configs, tails, lead.known)
    target.put(fresh.raw, fresh.entry, fresh.writes, keep_undo=fresh.at >= commit)
    target.advance_commit(commit)


def _take(cluster: Cluster, lead: Lead, target: Writer, source: Replica) -> None:
    match = match_point(target, source)
    if match is None:
        raise NeedsLearning(target.domain)
    with blaming(source.domain):
        configs = source.configs()
    known = max(source.row.head.commit, lead.known)
    if not RULES.may_cut(target.row.head, lead.term, match):
        _require_intact(target, source, match)
        raise SafetyAlarm(
            f"{target.domain}: log {target.log.hex()} would be cut to {match}; {source.domain} is an old copy."
        )
    cuts = match < target.row.head.tail
    stop = _copy_stop(source, match, known, cuts=cuts)
    target.cut(match)
    tails = lead.durable()
    tails[cluster.member(source.domain)] = source.row.head.tail
    tails[cluster.member(target.domain)] = stop
    commit = RULES.committed_up_to(configs, tails, known) if stop > configs[-1].at else min(known, stop)
    chain = target.row.chain
    for index in range(match, stop):
        with blaming(source.domain):
            raw = source.raw_entry(index)
        entry = _checked(source, raw, index)
        if not follows(chain, raw):
            raise Damaged(source.domain, f"entry {index} of log {source.log.hex()} does not follow the one before it")
        target.put(raw, entry, keep_undo=index >= commit)
        chain = entry.chain
    if stop > configs[-1].at:
        target.set(promised=max(target.row.head.promised, lead.term))
    target.advance_commit(commit)


def _require_intact(target: Replica, source: Replica, index: int) -> None:
    """Raises `Damaged` where two logs part at an entry only because one of them holds wrong bytes there."""
    for replica in (source, target):
        with blaming(replica.domain):
            replica.entry(index, verify_block=False)


def _checked(source: Replica, raw: bytes, index: int) -> Entry:
    with blaming(source.domain):
        return decode_entry(raw, f"{source.domain}: entry {index} of log {source.log.hex()}")


def _copy_stop(source: Replica, match: int, known: int, *, cuts: bool) -> int:
    """Returns where one transaction stops: at the tail, or earlier where that is large and the rules allow it."""
    tail = source.row.head.tail
    with blaming(source.domain):
        config = source.config()
    size, stop = 0, match
    while stop < tail:
        raw = source.view.get(keys.entry(source.log, stop), 12)
        size += int.from_bytes(raw[4:8], "big") + int.from_bytes(raw[8:12], "big") if raw else 0
        stop += 1
        if size > COPY_BYTES_MAX and RULES.may_stop_copy_at(stop, config, known, cuts=cuts):
            break
    return stop


def match_point(target: Replica, source: Replica) -> int | None:
    """Returns the length of the longest common prefix, or None where the entries to compare are no longer kept.

    Because each chain value covers everything before it, equal chains at one count mean equal logs up to there: a
    binary search finds the last such count.
    """
    low = max(target.row.head.floor, source.row.head.floor)
    high = min(target.row.head.tail, source.row.head.tail)
    if high < low:
        return None
    if _same(target, source, high):
        return high
    if not _same(target, source, low):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if _same(target, source, middle):
            low = middle
        else:
            high = middle
    return low


def _same(target: Replica, source: Replica, count: int) -> bool:
    chain = target.chain_at(count)
    return chain is not None and chain == source.chain_at(count)


def remember(batch: Batch, log: bytes, domain: str, incarnation: str, head: Head) -> None:
    """Writes what a peer's head was, so that an old copy put back there is noticed."""
    seen = Seen(incarnation, head.promised, head.acc, head.tail, head.commit)
    batch.put(keys.seen(log, domain), encode_seen(seen))


def remember_peers(batch: Batch, log: bytes, lead: Lead) -> None:
    """Writes at the primary how far each peer is durable in this term."""
    for (domain, incarnation), tail in lead.durable().items():
        if domain != lead.primary:
            batch.put(keys.seen(log, domain), encode_seen(Seen(incarnation, lead.term, lead.term, tail, 0)))


class Failures(dict[str, BaseException]):
    """Why a copy to a domain did not happen."""

    def of_source(self, primary: str) -> Damaged | None:
        """Returns what is wrong with the primary itself, where that is why: another one must lead then."""
        return next((e for e in self.values() if isinstance(e, Damaged) and e.domain == primary), None)

    def raise_of_source(self, primary: str) -> None:
        """Raises that, if it is so."""
        if (damaged := self.of_source(primary)) is not None:
            raise damaged


def copy_all(
    cluster: Cluster, log: bytes, apply: Apply, lead: Lead, upto: int, fresh: Appended | None = None
) -> Failures:
    """Copies `upto` entries of the primary to every other voter, in parallel; returns what failed.

    Raises `Corrupt` where a copy would have cut what is committed, whether or not a quorum is there without it.
    """
    failures = Failures()

    def run(domain: str) -> None:
        try:
            copy(cluster, log, apply, lead, domain, upto, fresh)
        except (DriverError, Moved, NeedsLearning, SafetyAlarm) as error:
            failures[domain] = error
        except BaseException as error:
            failures[domain] = error
            raise

    # Payload holders before witnesses: a witness that alone knows of an entry blocks an election.
    for wave in lead.backups():
        there = [domain for domain in wave if not cluster.is_failed(domain)] if len(wave) > 1 else wave
        others = [threads.start(partial(run, domain)) for domain in there[1:]]
        if there:
            run(there[0])
        for thread in others:
            thread.join()
    for error in failures.values():
        if isinstance(error, SafetyAlarm):
            raise Corrupt(str(error), hint="Run `grafctl verify`.")
    if len(lead.configs) > 1 and _changes_voters(lead):
        failures |= note_commit(cluster, log, apply, lead)
    return failures


def _changes_voters(lead: Lead) -> bool:
    return len({(config.voters, config.write_size, config.payload_size) for config in lead.configs}) > 1


def note_commit(cluster: Cluster, log: bytes, apply: Apply, lead: Lead, at: int | None = None) -> Failures:
    """Writes to each voter in force that the entry `at` is committed, or the START of its set; returns what failed.

    Without this only the replica that completed the quorum knows. If that is the one that was removed, and it is lost,
    the others would ask for its vote for ever, though the removal was acknowledged; and if it is away for a while, what
    an operator has just set up would not be shown.
    """
    failures = Failures()
    at = lead.config.at if at is None else at
    if lead.settle() <= at:
        return failures
    for voter in lead.config.voters:
        try:
            _note_commit_in(cluster, log, apply, lead, voter.domain, at)
        except DriverError as error:
            failures[voter.domain] = error
    lead.forget_replaced()
    return failures


def _note_commit_in(cluster: Cluster, log: bytes, apply: Apply, lead: Lead, domain: str, at: int) -> None:
    with blaming(domain), cluster.writing(domain) as batch:
        writer = Writer(batch, log, domain, apply, witness=lead.is_witness(domain))
        head = writer.row.head
        if head.acc == lead.term and head.commit <= at < head.tail and not head.learning:
            writer.advance_commit(lead.known)
            writer.save()
