"""Retention: lets go of blocks that are old or too many, once every lineage has finalised them.

Promises
- Which blocks go is an entry of the log, the same in every domain; the bytes are removed afterwards, in each domain
  by itself.
- An entry is removed only where it is committed; a replica that needs it later learns the state instead.
"""

from __future__ import annotations

from grafctl.errors import DriverError
from grafctl.store.log import Log
from grafctl.store.replica.replica import Writer
from grafctl.store.replica.scope import scoped, whole
from grafctl.store.resources.carried import numbers
from grafctl.store.resources.queue import Trim, first_kept_index


def trim(log: Log, resource: str) -> int:
    """Lets go of what retention allows; returns the lowest offset that is kept."""
    outcome = log.append(Trim(resource))
    if outcome.at is not None:
        sweep(log)
    return int(outcome.answer)


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
