"""Retention at work: appends what `resources/retention.py` decides, and removes the bytes.

Promises
- Which blocks go is an entry of the log, the same in every domain; the bytes are removed afterwards, in each domain
  by itself.
- A loss is told in the audit log the first time, and again each time that it has doubled, but not at every publish; the
  lineage's row always says all of it.
- An entry is removed only where it is committed; a replica that needs it later learns the state instead. Of a table
  none is removed that a voter still needs.
"""

from __future__ import annotations

from contextlib import suppress

from grafctl import clock
from grafctl.errors import Corrupt, DriverError, GenerationConflict, NoQuorum, StoreFull, Timeout
from grafctl.store.committed import Committed
from grafctl.store.elect import NewVoters
from grafctl.store.log import Log
from grafctl.store.replica.replica import Writer
from grafctl.store.replica.scope import scoped, whole
from grafctl.store.replica.state import State
from grafctl.store.requests import Context
from grafctl.store.resources.carried import numbers
from grafctl.store.resources.retention import Trim, Trimmed, first_kept_index
from grafctl.store.rules import Config
from grafctl.store.session import Session
from grafctl.typed import Sequence

SWEEP_EVERY, SWEEP_BYTES = 1024, 64 << 20  # entries, and what they come to where they are large
RENEW_AFTER = 4  # times that number of entries stay because of the START


def trim(session: Session, resource: str) -> Trimmed:
    """Lets go of what retention allows, and notes what a subscription lost by it."""
    log = session.resource(resource)
    outcome = log.append(Trim(resource))
    trimmed: Trimmed = outcome.answer
    if outcome.at is not None:
        sweep(log)
    for lineage, (before, loss) in trimmed.lost.items():
        if before.bit_length() != loss["records"].bit_length():
            session.note("changed", "discard", resource=resource, group=lineage, lost=loss)
    return trimmed


def would_trim(session: Session, resource: str) -> Trimmed:
    """Returns what `trim` would come to now."""
    with session.resource(resource).view() as committed:
        context = Context(committed.upto, clock.now_ms(), committed.lead.config)
        trimmed: Trimmed = Trim(resource).decide(committed.state, context).answer
    return trimmed


def sweep_at_times(log: Log, tail: int, size: int) -> None:
    """Sweeps once in so many entries, or in fewer that are large; a table needs its own until every voter has them.

    `size` is that of the last entry. Whatever cannot be done now is left to whoever comes next.
    """
    every = max(1, min(SWEEP_EVERY, SWEEP_BYTES // max(size, 1)))
    if tail % every == 0:
        with suppress(NoQuorum, Timeout, StoreFull, Corrupt, DriverError):
            sweep_what_all_have(log, RENEW_AFTER * every)


def sweep_what_all_have(log: Log, most: int) -> None:
    """Removes the entries that all voters have and nothing needs; where more than `most` stay, a new term lets them go.

    Entries since the last START stay, because a voter that comes back from an older term is brought up with them. So a
    log that nobody else leads for long begins a term with the same primary and the same voters. Where a voter is away,
    nothing is removed: it would have to learn the state.
    """
    with log.view() as committed:
        lead, sights = committed.lead, committed.found.sights
        heads = {sight.member: sight.head for sight in sights.values()}
        voters = {voter.member for config in lead.force() for voter in config.voters}
        if any((head := heads.get(voter)) is None or head.acc != lead.term or head.learning for voter in voters):
            return
        floor = min(_floor(committed), *(heads[voter].tail for voter in voters))
    _sweep(log, floor, list(sights))
    if floor - lead.config.at > most:
        _renew(log, lead.config)  # the next sweep removes the rest: whom it interrupted now looks for what he wrote


def _renew(log: Log, before: Config) -> bool:
    """Begins a new term with the same primary and voters, unless somebody else has begun one; returns whether."""

    def change(_: State, config: Config) -> NewVoters:
        if config.at != before.at:
            raise GenerationConflict("Another term has begun.")
        return NewVoters(config.voters, config.write_size, config.payload_size, {})

    try:
        log.change_voters(change, frozenset(voter.member for voter in before.voters))
    except GenerationConflict:
        return False
    log.settle()
    return True


def sweep(log: Log) -> None:
    """Removes entries before the first block that any resource retains, in every domain that can be reached."""
    with log.view() as committed:
        floor, domains = _floor(committed), list(committed.found.sights)
    _sweep(log, floor, domains)


def _floor(committed: Committed) -> int:
    """Returns the first entry that a resource of a log still needs, or where the committed ones end."""
    state = whole(committed.state)
    kept = [first_kept_index(scoped(state, number)) for number in numbers(state)]
    return min([committed.upto, *(index for index in kept if index is not None)])


def _sweep(log: Log, floor: int, domains: Sequence[str]) -> None:
    for domain in domains:
        try:
            with log.cluster.writing(domain) as batch:
                writer = Writer(batch, log.id, domain, log.apply)
                if not writer.row.head.learning and writer.sweep(floor):
                    writer.save()
        except DriverError:
            continue  # whoever trims next does it
