"""Poll, peek, ack, nack and renew: a consumer's work, from its own domain.

Promises
- The gate is passed before anything is written: placement, epoch, locator, health and reach of the caller's own domain.
- A poll's records are read from the caller's domain, after their lease is committed; what cannot be read is given
  back, and comes again at the latest when the lease runs out.
"""

from __future__ import annotations

from functools import partial
from itertools import repeat

from grafctl.errors import (
    Corrupt,
    Damaged,
    DomainUnavailable,
    DriverError,
    GrafctlError,
    NoQuorum,
    StoreFull,
    Timeout,
    Usage,
    told,
)
from grafctl.names import check_domain, check_name
from grafctl.results import Change, Delivery, Finished, Record, Shown
from grafctl.store import keys
from grafctl.store.authority import ACK, PEEK, POLL, Asked, Placement, pass_epoch, pass_locator, pass_placement
from grafctl.store.checked import checked, refuse_rather, served
from grafctl.store.committed import Committed
from grafctl.store.intervals import Intervals, from_offsets
from grafctl.store.log import Log
from grafctl.store.operations.filtering import lagging, look, take
from grafctl.store.reading import read_columns
from grafctl.store.replica.replica import Replica
from grafctl.store.replica.state import State
from grafctl.store.requests import Outcome
from grafctl.store.resources.group import (
    Caller,
    Finalise,
    GiveBack,
    Lease,
    Leased,
    NotOpenHere,
    Settled,
    group_row,
)
from grafctl.store.resources.queue import records_row
from grafctl.store.resources.renewing import Renew
from grafctl.store.session import Session
from grafctl.typed import Any, Callable, Sequence

POLL_MAX = 10_000_000
OFFSETS_MAX = 1_000_000
LEASE_RECORDS_MAX = 100_000
GIVE_BACK_S = 2.0


def caller_of(session: Session, resource: str, group: str, domain: str, epoch: int | None) -> Caller:
    """Returns who asks; raises `Usage` for names that are none."""
    check_name("resource", resource)
    check_name("group", group)
    check_domain(domain)
    return Caller(resource, group, domain, epoch, session.cluster.knows(domain))


def _is_away(session: Session, domain: str) -> bool:
    if session.cluster.is_failed(domain):
        return True
    try:
        with session.cluster.environment(domain).read():
            return False
    except DriverError:
        return True


def pass_local_gate(session: Session, state: State, asked: Asked, placement: Placement, epochs: Sequence[int]) -> str:
    """Passes everything that an operation on the caller's own replica needs; returns the replica's id."""
    pass_placement(asked, placement)
    for epoch in epochs:
        pass_epoch(asked, epoch)
    return pass_locator(
        asked, state.get_json(keys.locator()), session.health(), unreachable=_is_away(session, asked.domain)
    )


def poll(
    session: Session,
    resource: str,
    group: str,
    domain: str,
    count: int,
    visibility_ms: int,
    epoch: int | None,
    *,
    finish: Sequence[int] = (),
    lease: int | None = None,
    finished: int | None = None,
    held_at: tuple[str, str] | None = None,
) -> Delivery:
    """Leases up to `count` records and returns them; what is to be finished is finished in the same entry, or refused
    as an ack refuses it, and then nothing is leased. `finished` is what an earlier try of the same poll finished, and
    `held_at` the resource and group of what is to be finished, where a switch handed out the records of another."""
    if not 1 <= count <= POLL_MAX:
        raise Usage(f"--max takes 1 to {POLL_MAX:,}, not {count}.")
    if visibility_ms < 1:
        raise Usage("The visibility must be at least a millisecond.")
    if finish:
        _check_offsets(finish)
    how: dict[str, Any] = {"finish": finish, "lease": lease, "finished": finished}
    if (resource, group) not in session.routes and held_at in (None, (resource, group)):
        try:
            return poll_at(session, resource, group, domain, count, visibility_ms, epoch, **how)
        except NotOpenHere:  # few groups are attached to a switch
            pass
    from grafctl.store.operations.switching.routed import Asked as AskedFor
    from grafctl.store.operations.switching.routed import poll_attached

    asked = AskedFor(resource, group, domain, count, visibility_ms, epoch)
    return poll_attached(session, asked, **how, held_at=held_at)


def poll_at(
    session: Session,
    resource: str,
    group: str,
    domain: str,
    count: int,
    visibility_ms: int,
    epoch: int | None,
    *,
    finish: Sequence[int] = (),
    lease: int | None = None,
    finished: int | None = None,
    generation: int | None = None,
) -> Delivery:
    """Does what `poll` does for this very group; one that is attached to a switch must be open at the generation."""
    caller = caller_of(session, resource, group, domain, epoch)
    caller.generation = generation
    log = session.resource(resource)
    with session.audited(POLL, group=group):
        gate = partial(_pass_poll, session, caller)
        if (resource, group) not in session.known or not log.is_leading or not _serves(session, domain):
            look(session, resource, checked(log, gate, domain))  # where all is well, the transaction asks the rest
        request = Lease(caller, min(count, LEASE_RECORDS_MAX), visibility_ms, from_offsets(finish), lease)
        outcome = take(session, log, request, lambda asked: _append(log, asked, gate, domain))
    leased: Leased = outcome.answer
    try:
        records = _read_or_level(session, log, domain, outcome)
    except GrafctlError:
        give_back(log, caller, [[start, stop] for start, stop, _ in leased.grants], leased.token)
        raise
    finished = leased.finished if finish else finished
    return Delivery(resource, group, records, leased.ack_floor, leased.token, finished, leased.lost)


def _serves(session: Session, domain: str) -> bool:
    """Returns whether a domain is there and not observed as anything but healthy."""
    return session.health().get(domain, "healthy") == "healthy" and (
        session.is_complete or not _is_away(session, domain)
    )


def _pass_poll(session: Session, caller: Caller, state: State) -> dict[str, Any]:
    """Returns the group's row where it may be polled; raises the refusal."""
    queue = records_row(state, caller.resource)
    group = group_row(state, caller.resource, caller.group)
    asked = Asked(POLL, caller.resource, caller.domain, caller.group, caller.epoch, caller.known)
    pass_local_gate(session, state, asked, Placement.of(group), (group["epoch"], queue["epoch"]))
    return group


def _read_or_level(session: Session, log: Log, domain: str, outcome: Outcome) -> list[Record]:
    """Returns what was leased; a replica that lags is brought up first, under another primary where one is broken."""
    try:
        return _read_leased(session, log, domain, outcome)
    except DomainUnavailable as error:
        try:
            log.settle(deadline_s=GIVE_BACK_S)
        except GrafctlError:
            raise error from None
        return _read_leased(session, log, domain, outcome)


def _read_leased(session: Session, log: Log, domain: str, outcome: Outcome) -> list[Record]:
    """Returns what was leased, from a replica that holds the lease: another may hold other records at these offsets."""
    leased: Leased = outcome.answer
    if not leased.grants:
        return []
    try:
        with session.cluster.environment(domain).read() as view:
            replica = Replica(view, log.id, domain)
            head = replica.row.head
            if head.learning or head.acc < outcome.term or head.tail < outcome.tail:
                raise lagging(domain, "it has not received them yet")
            found = _records(session, replica, log.scope(replica.state), leased.grants)
    except DriverError as error:
        raise lagging(domain, error.why) from error
    except Corrupt as error:
        error.fields.setdefault("domain", domain)
        raise
    if len(found) != sum(stop - start for start, stop, _ in leased.grants):
        raise lagging(domain, "it has not received them yet")
    return found


def _records(session: Session, replica: Replica, state: State, ranges: Sequence[Sequence[int]]) -> list[Record]:
    """Returns the records of some [start, stop, delivery], or of some [start, stop] that were not delivered."""
    make = partial(tuple.__new__, Record)  # what `Record` itself does with its arguments, without a call in Python
    found: list[Record] = []
    for item, first, columns in read_columns(replica, state, ranges, session.held):
        offsets = range(first, first + len(columns.payloads))
        delivery = item[2] if len(item) > 2 else None
        found.extend(map(make, zip(offsets, *columns, repeat(delivery), strict=False)))
    return found


def give_back(log: Log, caller: Caller, ranges: Intervals, token: int | None) -> None:
    """Lets others have at once what was leased and is not handed out; where that fails too, the deadline does."""
    if token is not None and ranges:
        try:
            log.append(GiveBack(caller, ranges, token, counted=False), deadline_s=GIVE_BACK_S)
        except GrafctlError:
            pass


def peek(session: Session, resource: str, domain: str, offset: int | None, count: int) -> Shown:
    """Returns committed records from the caller's own domain; takes no lease."""
    if not 1 <= count <= POLL_MAX:
        raise Usage(f"--max takes 1 to {POLL_MAX:,}, not {count}.")
    if offset is not None and offset < 0:
        raise Usage(f"An offset is 0 or more, not {offset}.")
    check_domain(domain)
    return served(
        lambda: _peek(session, session.resource(check_name("resource", resource)), resource, domain, offset, count)
    )


def _peek(session: Session, log: Log, resource: str, domain: str, offset: int | None, count: int) -> Shown:
    with session.audited(PEEK), log.view(prefer=domain) as committed:
        queue = records_row(committed.state, resource)
        asked = Asked(PEEK, resource, domain, None, None, session.cluster.knows(domain))
        pass_local_gate(session, committed.state, asked, Placement.of(queue), ())
        if committed.domain != domain:
            error = committed.found.errors.get(domain)
            if isinstance(error, Damaged):
                raise told(error)
            raise lagging(domain, "it has not received what is committed")
        start = max(queue["first"], offset or 0)
        records = _read_committed(session, log, committed, start, min(queue["next"], start + count))
    return Shown({"resource": resource, "domain": domain, "records": records, "next_offset": queue["next"]})


def _read_committed(session: Session, log: Log, committed: Committed, start: int, stop: int) -> list[Record]:
    return _records(session, Replica(committed.view, log.id, committed.domain), committed.state, [[start, stop]])


def _check_offsets(offsets: Sequence[int]) -> None:
    if not offsets:
        raise Usage("There is no offset to acknowledge.")
    if len(offsets) > OFFSETS_MAX:
        raise Usage(f"At most {OFFSETS_MAX:,} offsets at once, not {len(offsets):,}.")
    if min(offsets) < 0:
        raise Usage(f"An offset is 0 or more, not {min(offsets)}.")


def ack(
    session: Session,
    resource: str,
    group: str,
    offsets: list[int],
    domain: str,
    lease: int | None,
    epoch: int | None,
    *,
    dry_run: bool = False,
) -> Finished:
    """Finalises records for the lineage."""
    _check_offsets(offsets)
    request = Finalise(caller_of(session, resource, group, domain, epoch), from_offsets(offsets), lease)
    return _settle(session, "ack", request, dry_run)


def nack(
    session: Session,
    resource: str,
    group: str,
    offsets: list[int],
    domain: str,
    lease: int | None,
    delay_ms: int,
    epoch: int | None,
    *,
    counted: bool = True,
    dry_run: bool = False,
) -> Finished:
    """Gives leased records back."""
    _check_offsets(offsets)
    if delay_ms < 0:
        raise Usage(f"A delay is 0 or more, not {delay_ms} ms.")
    caller = caller_of(session, resource, group, domain, epoch)
    request = GiveBack(caller, from_offsets(offsets), lease, delay_ms, counted)
    return _settle(session, "nack", request, dry_run)


def _settle(session: Session, op: str, request: Finalise | GiveBack, dry_run: bool) -> Finished:
    caller = request.caller
    log = session.resource(caller.resource)
    with session.audited(op, group=caller.group):
        gate = partial(caller.pass_gate, op)
        if dry_run or not log.is_leading:
            checked(log, gate)
        if dry_run:
            with log.view() as committed:
                return _would_settle(request, committed)
        settled: Settled = _append(log, request, gate).answer
    return _finished(caller, settled)


def _append(
    log: Log, request: Lease | Finalise | GiveBack | Renew, gate: Callable[[State], object], prefer: str | None = None
) -> Outcome:
    """Returns the outcome of a request; a refusal that holds for ever is said before one that may pass."""
    try:
        return log.append(request)
    except (NoQuorum, Timeout, StoreFull) as error:
        refuse_rather(log, error, gate, prefer)
        raise


def _would_settle(request: Finalise | GiveBack, committed: Committed) -> Finished:
    from grafctl.store.requests import Context

    decision = request.decide(committed.state, Context(committed.upto, 0, committed.lead.config))
    return _finished(request.caller, decision.answer)


def _finished(caller: Caller, settled: Settled) -> Finished:
    return Finished(
        caller.resource,
        caller.group,
        settled.changed > 0,
        settled.changed,
        settled.already,
        settled.ack_floor,
        settled.dead or None,
    )


def renew(session: Session, resource: str, group: str, token: int, domain: str, visibility_ms: int) -> Change:
    """Holds a lease longer."""
    if visibility_ms < 1:
        raise Usage("The visibility must be at least a millisecond.")
    caller = caller_of(session, resource, group, domain, None)
    with session.audited("renew", group=group):
        request = Renew(caller, token, visibility_ms)
        until = _append(session.resource(resource), request, partial(caller.pass_gate, ACK)).answer
    return Change(True, resource=resource, group=group, after={"lease": token, "until_ms": until})
