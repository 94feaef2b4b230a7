"""Judging: which records a subscription's filter wants, found out by its reader, outside every lock.

Promises
- Only committed records are judged, as the reader's own domain holds them, and at most `JUDGED_RECORDS` or
  `JUDGED_BYTES` (and the rest of a block) for one request: a long way over unwanted records is made in steps, each of
  which is committed.
- What was judged for a group is kept for the session's next poll and not judged again.

When it fails: nothing depends on it. What is not judged is neither granted nor left out; the next poll judges it.
"""

from __future__ import annotations

from contextlib import suppress

from grafctl.errors import Corrupt, DomainUnavailable, GrafctlError
from grafctl.store import filters
from grafctl.store.committed import Committed
from grafctl.store.intervals import difference, size, union
from grafctl.store.log import Log
from grafctl.store.reading import read_columns
from grafctl.store.replica.replica import Replica
from grafctl.store.requests import Outcome
from grafctl.store.resources.delivery import Judged
from grafctl.store.resources.group import ALL, Lease, Leased, group_row, is_filtered
from grafctl.store.resources.queue import queue_row
from grafctl.store.session import Known, Session
from grafctl.typed import Any, Callable, Mapping

JUDGED_RECORDS = 10_000
JUDGED_BYTES = 8 << 20
SETTLE_S = 2.0

Append = Callable[[Lease], Outcome]


def look(session: Session, resource: str, row: Mapping[str, Any]) -> None:
    """Takes in a group's row: from now on the session knows whether it has a filter."""
    session.known[resource, row["name"]] = Known(row["cursor"]) if is_filtered(row) else None


def take(session: Session, log: Log, request: Lease, append: Append) -> Outcome:
    """Returns the outcome of a poll: it goes on over records that nobody wants until one is wanted or all were judged.

    What stops it on the way leaves it where it is, with what was finished and nothing granted; the next poll meets it.
    """
    key = request.caller.resource, request.caller.group
    first: Outcome | None = None
    before = -1
    while True:
        try:
            request.judged = _judged(session, log, request)
            outcome = append(request)
        except GrafctlError:
            if first is None:
                raise
            return first
        leased: Leased = outcome.answer
        known = session.known.get(key)
        if known is None:  # it was thought to have no filter, or has none now
            if leased.is_behind:
                session.known.pop(key, None)
            return outcome
        if request.judged is None and leased.is_behind and first is None:
            raise lagging(request.caller.domain, "it has not received them yet")
        session.known[key] = _known(leased, known.judged)
        first = outcome if first is None else outcome._replace(answer=leased._replace(finished=first.answer.finished))
        if leased.grants or not leased.is_behind or leased.cursor == before:
            return first
        before, request.finish, request.token = leased.cursor, [], None


def lagging(domain: str, why: str) -> DomainUnavailable:
    """Returns the refusal of a poll in a domain that cannot show what is committed."""
    return DomainUnavailable(
        f"The records cannot be read in {domain}: {why}. They come again.",
        reason="not_caught_up",
        hint=f"Run `grafctl domain show {domain}`, and poll again.",
        domain=domain,
    )


def _known(leased: Leased, judged: Judged | None) -> Known:
    """Returns what is known after a poll; what it was not taken from, though it was at hand, counts no more."""
    is_refused = judged is not None and leased.is_behind and leased.cursor < judged.stop
    return Known(leased.cursor, None if is_refused else judged)


def _judged(session: Session, log: Log, request: Lease) -> Judged | None:
    """Returns what is known of the records from the group's cursor on, enough for this request where there are such."""
    caller = request.caller
    known = session.known.get((caller.resource, caller.group))
    if known is None:
        return None
    judged = known.judged
    if judged is not None and judged.start <= known.cursor and _ahead(judged, known.cursor) >= request.count:
        return judged
    found = _judge(session, log, request, judged)
    if found is None:  # the caller's domain lags behind what is committed
        with suppress(GrafctlError):  # who may not poll is told so by the append, and so is what stands in its way
            log.settle(deadline_s=SETTLE_S)
        found = _judge(session, log, request, judged)
    if found is not None:
        session.known[caller.resource, caller.group] = Known(found.start, found)
    return found


def _ahead(judged: Judged, cursor: int) -> int:
    """Returns how many wanted records were found from a cursor on."""
    return size(difference(judged.matched, [[0, cursor]]))


def _judge(session: Session, log: Log, request: Lease, judged: Judged | None) -> Judged | None:
    """Judges what is committed from the group's cursor on, after what was judged before.

    Returns None where the caller's domain cannot show what is committed yet.
    """
    caller = request.caller
    with log.view(prefer=caller.domain) as committed:
        if committed.domain != caller.domain:
            return None
        queue = queue_row(committed.state, caller.resource)
        group = group_row(committed.state, caller.resource, caller.group)
        own = Judged(group.get("filter") or ALL, committed.lead.term, max(group["cursor"], queue["first"]), 0, [])
        own = own._replace(stop=own.start)
        if judged is not None and judged[:2] == own[:2] and judged.start <= own.start <= judged.stop:
            own = own._replace(stop=judged.stop, matched=difference(judged.matched, [[0, own.start]]))
        try:
            return _further(session, log, committed, own, queue["next"], request.count)
        except Corrupt as error:
            error.fields.setdefault("domain", caller.domain)
            raise


def _further(session: Session, log: Log, committed: Committed, own: Judged, end: int, count: int) -> Judged:
    """Returns what is known when so many more records were judged as a request may take."""
    replica = Replica(committed.view, log.id, committed.domain)
    matched, stop, seen_bytes = own.matched, own.stop, 0
    ranges = [[stop, end]] if stop < end else []
    for _, first, columns in read_columns(replica, committed.state, ranges, session.held):
        matched = union(matched, filters.matched(own.filter, first, columns))
        stop = first + len(columns.payloads)
        seen_bytes += sum(map(len, columns.payloads))
        if stop - own.stop >= JUDGED_RECORDS or seen_bytes >= JUDGED_BYTES or size(matched) >= count:
            break
    return own._replace(stop=stop, matched=matched)
