"""Retention at work: appends what `resources/retention.py` decides, and removes the bytes.

Promises
- Which blocks go is an entry of the log, the same in every domain; the bytes are removed afterwards, in each domain
  by itself.
- A loss is told in the audit log the first time, and again each time that it has doubled, but not at every publish; the
  lineage's row always says all of it.
- An entry is removed only where it is committed; a replica that needs it later learns the state instead.
"""

from __future__ import annotations

from grafctl import clock
from grafctl.errors import DriverError
from grafctl.store.log import Log
from grafctl.store.replica.replica import Writer
from grafctl.store.replica.scope import scoped, whole
from grafctl.store.requests import Context
from grafctl.store.resources.carried import numbers
from grafctl.store.resources.retention import Trim, Trimmed, first_kept_index
from grafctl.store.session import Session

SWEEP_EVERY = 1024  # entries


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


def sweep_at_times(log: Log, tail: int) -> None:
    """Sweeps once in so many entries: those of a table are needed only until every voter has them."""
    if tail % SWEEP_EVERY == 0:
        sweep(log)


def sweep(log: Log) -> None:
    """Removes entries before the first block that any resource retains, in every domain that can be reached."""
    with log.view() as committed:
        state = whole(committed.state)
        kept = [first_kept_index(scoped(state, number)) for number in numbers(state)]
        floor = min([committed.upto, *(index for index in kept if index is not None)])
        domains = list(committed.found.sights)
    for domain in domains:
        try:
            with log.cluster.writing(domain) as batch:
                writer = Writer(batch, log.id, domain, log.apply)
                if not writer.row.head.learning and writer.sweep(floor):
                    writer.save()
        except DriverError:
            continue  # whoever trims next does it
