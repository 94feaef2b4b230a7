"""Log catch-up: the source's entries that write to the vshard, applied at the target in their order.

When it fails: how far the target is stands in the same entry as what was applied, so the next operator goes on there.
Entries that are applied once more change nothing, because versions decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from grafctl import clock
from grafctl.errors import Corrupt, NoQuorum
from grafctl.store.checked import served
from grafctl.store.committed import Committed
from grafctl.store.driver.kill import point
from grafctl.store.log import Log
from grafctl.store.moving_rules import Pace
from grafctl.store.operations.moving.work import Work
from grafctl.store.records import decode_beginning
from grafctl.store.replica.replica import Replica
from grafctl.store.replica.scope import FIRST
from grafctl.store.resources.receiving import Replay
from grafctl.store.resources.table import numbered_writes
from grafctl.store.table_block import WRITE_BYTES, Write

BATCH_BYTES = 8 << 20
BATCH_WRITES = 10_000


class Collected(NamedTuple):
    """Writes to the vshard in the source's entries [start, stop), in their order."""

    start: int
    stop: int
    writes: list[Write]
    has_more: bool  # there are entries behind `stop`, because the batch is full


@contextmanager
def covering(log: Log, least: int) -> Iterator[Committed]:
    """Yields the committed state that covers so many entries, where there are so many.

    With domains away a view may lag behind what was acknowledged; then the log settles first. Raises `NoQuorum` where
    it cannot.
    """
    with ExitStack() as stack:
        committed = stack.enter_context(log.view())
        if committed.upto < least:
            stack.close()
            log.settle()
            committed = stack.enter_context(log.view())
        yield committed


def collect(log: Log, number: int, start: int, until: int | None = None) -> Collected:
    """Reads the committed entries from `start` on, up to the end or before `until`, which were acknowledged; raises
    `Corrupt`, and `NoQuorum` where too many domains are away to say what is committed up to there."""
    least = start if until is None else until

    def read() -> Collected:
        with covering(log, least) as committed:
            if committed.upto < least:
                raise NoQuorum(f"Entry {least - 1} of the source is not known to be committed.", outcome="not_written")
            replica = Replica(committed.view, log.id, committed.domain)
            if start < replica.row.head.floor:
                raise Corrupt(f"Entry {start} of the source is needed for a migration, and is not kept any more.")
            return _collect(replica, log.number, number, start, until or committed.upto)

    return served(read)


def _collect(replica: Replica, resource: int, number: int, start: int, stop: int) -> Collected:
    writes: list[Write] = []
    size = 0
    for index in range(start, stop):
        if size >= BATCH_BYTES or len(writes) >= BATCH_WRITES:
            return Collected(start, index, writes, True)
        what = f"{replica.domain}: entry {index}"
        request = decode_beginning(replica.beginning(index), what).request
        if request.get("do") != "put" or request.get("of", FIRST) != resource:
            continue
        if not any(number == vshard for vshard, _ in request["vs"]):
            continue
        for write in numbered_writes(replica.entry(index), what):
            if write.vshard == number:
                writes.append(write)
                size += WRITE_BYTES + len(write.key) + len(write.value or b"")
    return Collected(start, stop, writes, False)


def replay(work: Work, found: Collected, token: int | None = None, deadline_s: float | None = None) -> None:
    """Applies what was collected at the target; with a token the vshard is ready there for it."""
    span = (found.start, found.stop)
    request = Replay.of(work.place, span, found.writes, token, work.generation)
    began_s = clock.monotonic_s()
    work.at_target(request, **({} if deadline_s is None else {"deadline_s": deadline_s}))
    point("moving.replayed")
    took_us = max(1, int((clock.monotonic_s() - began_s) * 1e6))
    work.applied = found.stop
    if found.writes:
        work.replayed += len(found.writes)
        work.pace = Pace(len(found.writes), took_us)
