"""Work on idempotency stores: reserve, complete, release, record and expire, and what is kept under a key.

Promises
- The gate is passed before anything is written, and a refusal that holds for ever comes before one that may pass.
- A result is read back from the log's own bytes, whose digest is checked on the way.
- Payloads are hashed here and go no further; no error and no audit record holds one.
"""

from __future__ import annotations

from functools import partial

from grafctl import clock
from grafctl.errors import NoQuorum, NotFound, StoreFull, Timeout, Usage
from grafctl.names import check_domain, check_name, shown
from grafctl.results import Change, Reservation, Shown, text_fields
from grafctl.store import keys
from grafctl.store.authority import COMPLETE, EXPIRE, RELEASE, RESERVE
from grafctl.store.blocks import ID_BYTES_MAX, Packed
from grafctl.store.checked import checked, refuse_rather, served
from grafctl.store.committed import Committed
from grafctl.store.fingerprints import FINGERPRINT_BYTES, fingerprint_text, key_digest
from grafctl.store.log import Log
from grafctl.store.operations.retention import sweep
from grafctl.store.reading import Held, read_columns
from grafctl.store.records import digest, parse_json
from grafctl.store.replica.replica import Replica
from grafctl.store.replica.state import State
from grafctl.store.requests import Context
from grafctl.store.resources.effects import RESULT_BYTES_MAX, Complete, Completed, Recorded, RecordEffects, split_effect
from grafctl.store.resources.idem import (
    Asker,
    Expire,
    Expired,
    Release,
    Reserve,
    Reserved,
    find_completed,
    idem_row,
)
from grafctl.store.session import Session
from grafctl.typed import Any, Callable, Iterator

LEASE_MS_MAX = 366 * 86_400_000
KEYS_MAX = 100_000
Ask = Reserve | Complete | Release | Expire | RecordEffects


def asker_of(session: Session, resource: str, domain: str, epoch: int | None = None) -> Asker:
    """Returns who asks; raises `Usage` where the names cannot be any."""
    check_name("resource", resource)
    check_domain(domain)
    return Asker(resource, domain, epoch, session.cluster.knows(domain))


def check_key(stage: str, key: str) -> None:
    """Raises `Usage` where these cannot be a stage and a key."""
    check_name("stage", stage)
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise Usage("The key is not valid UTF-8.") from None
    if not 0 < size <= ID_BYTES_MAX:
        what = "is empty" if not size else f"has {size:,} bytes; at most {ID_BYTES_MAX:,} are allowed"
        raise Usage(f"The key {what}.")


def _ask(session: Session, op: str, request: Ask, dry_run: bool = False) -> Any:
    """Returns the answer of a request, or with `dry_run` what it would be now."""
    asker = request.asker
    log = session.resource(asker.resource)
    with session.audited(op):
        gate: Callable[[State], object] = partial(asker.pass_gate, op)
        if dry_run or not log.is_leading:
            checked(log, gate)
        if dry_run:
            with log.view() as committed:
                context = Context(committed.upto, clock.now_ms(), committed.lead.config)
                return request.decide(committed.state, context).answer
        try:
            return log.append(request).answer
        except (NoQuorum, Timeout, StoreFull) as error:
            refuse_rather(log, error, gate)
            raise


# --- one key


def reserve(session: Session, request: Reserve, *, dry_run: bool = False) -> Reservation:
    """Returns a reservation, or the first result of the same work."""
    asker = request.asker
    check_key(request.stage, request.key)
    if len(request.fingerprint) != FINGERPRINT_BYTES:
        raise Usage(f"A fingerprint has {FINGERPRINT_BYTES} bytes, not {len(request.fingerprint)}.")
    if not 1 <= request.lease_ms <= LEASE_MS_MAX:
        raise Usage("A lease is a millisecond to 366 days long.")
    answer: Reserved = _ask(session, RESERVE, request, dry_run)
    named: dict[str, Any] = {"resource": asker.resource, "stage": request.stage, "key": request.key}
    named["fingerprint"] = fingerprint_text(request.fingerprint)
    if answer.number is not None:
        result = served(lambda: _result(session, request, answer.number))
        return Reservation(**named, state="completed", replayed=True, result=result)
    if dry_run:
        return Reservation(**named, state="reserved", replayed=False, taken_over=answer.taken_over, dry_run=True)
    lease: dict[str, Any] = {"token": answer.token, "until_ms": answer.until_ms, "taken_over": answer.taken_over}
    return Reservation(**named, state="reserved", replayed=False, **lease)


def _result(session: Session, request: Reserve, number: int | None) -> bytes:
    """Returns the result that was completed under this number."""
    log = session.resource(request.asker.resource)
    with log.view() as committed:
        packed = next(iter(_read(log, committed, number or 0)), None)
        if packed is None or packed.id != request.key:
            raise NotFound(
                f"The result of key {shown(request.key)} has expired meanwhile.", hint="Reserve it again.",
                resource=request.asker.resource,
            )  # fmt: skip
        return split_effect(packed.payload)[1]


def _read(log: Log, committed: Committed, first: int, count: int = 1) -> Iterator[Packed]:
    """Yields what is completed from a number on."""
    replica = Replica(committed.view, log.id, committed.domain)
    for _, _, columns in read_columns(replica, committed.state, [[first, first + count]], Held()):
        yield from map(Packed, *columns)


def complete(session: Session, request: Complete, *, dry_run: bool = False) -> Change:
    """Keeps the result of the work under a key."""
    asker = request.asker
    check_key(request.stage, request.key)
    if len(request.result) > RESULT_BYTES_MAX:
        raise Usage(
            f"The result has {len(request.result):,} bytes; at most {RESULT_BYTES_MAX:,} are kept.",
            hint="Keep what is large elsewhere, and its place here.",
        )
    answer: Completed = _ask(session, COMPLETE, request, dry_run)
    after = {"stage": request.stage, "key": request.key, "state": "completed"}
    after["result_digest"] = fingerprint_text(digest(request.result))
    return Change(answer.changed, resource=asker.resource, after=after, dry_run=dry_run or None)


def release(session: Session, request: Release, *, dry_run: bool = False) -> Change:
    """Gives a reservation back."""
    check_key(request.stage, request.key)
    changed: bool = _ask(session, RELEASE, request, dry_run)
    after = {"stage": request.stage, "key": request.key, "state": "absent"}
    return Change(changed, resource=request.asker.resource, after=after, dry_run=dry_run or None)


def record(session: Session, request: RecordEffects, *, dry_run: bool = False) -> Recorded:
    """Completes many keys of a stage as one entry, or none of them."""
    check_name("stage", request.stage)
    request.check()
    request.prepare()
    answer: Recorded = _ask(session, COMPLETE, request, dry_run)
    return answer


def expire(session: Session, asker: Asker, older_than_ms: int | None, *, dry_run: bool = False) -> Expired:
    """Lets go of what is older than the retention, step by step; it may be cut short, and the next call goes on."""
    if older_than_ms is not None and older_than_ms < 1:
        raise Usage("--older-than is a millisecond or more.")
    request = Expire(asker, older_than_ms, steps=None if dry_run else 1)
    whole: Expired = _ask(session, EXPIRE, request, dry_run)
    after = whole.after
    while after is not None and not dry_run:
        step: Expired = _ask(session, EXPIRE, request._replace(after=after))
        whole = Expired(whole.completed + step.completed, whole.reservations + step.reservations, None)
        after = step.after
    if whole.completed and not dry_run:
        sweep(session.resource(asker.resource))
    return whole


# --- looking


def key_fields(session: Session, resource: str, stage: str, key: str) -> Shown:
    """Returns what is kept under a key; raises `NotFound`."""
    check_key(stage, key)
    log = session.resource(check_name("resource", resource))
    return served(lambda: _key_fields(log, resource, stage, key))


def _key_fields(log: Log, resource: str, stage: str, key: str) -> Shown:
    named: dict[str, Any] = {"resource": resource, "stage": stage, "key": key}
    with log.view() as committed:
        row = idem_row(committed.state, resource)
        own = key_digest(stage, key)
        found = find_completed(committed.state, row, own)
        if found is not None:
            packed = next(_read(log, committed, found.number))
            return Shown(named | completed_fields(packed, found.ref))
        there = committed.state.get_json(keys.reservation(stage, own))
    if there is None:
        raise NotFound(
            f"Nothing is kept under key {shown(key)} of stage {stage}.", hint=f"Run `grafctl idem list {resource}`.",
            resource=resource, stage=stage, key=key,
        )  # fmt: skip
    return Shown(named | reserved_fields(there, clock.now_ms()))


def completed_fields(packed: Packed, ref: dict[str, Any]) -> dict[str, Any]:
    """Returns what is shown of a completed key; its result is text, or base64 where it is not UTF-8."""
    fingerprint, result = split_effect(packed.payload)
    fields = {"state": "completed", "fingerprint": fingerprint_text(fingerprint), "token": ref.get("token")}
    fields |= {"domain": ref["domain"], "completed_ms": ref["ms"]}
    return fields | text_fields("result", result)


def reserved_fields(row: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """Returns what is shown of a reservation."""
    print_ = fingerprint_text(bytes.fromhex(row["print"]))
    fields = {"state": "reserved", "fingerprint": print_, "token": row["token"], "domain": row["domain"]}
    return fields | {"reserved_ms": row["ms"], "until_ms": row["until"], "live": row["until"] > now_ms}


def list_keys(session: Session, resource: str, stage: str | None, most: int) -> list[dict[str, Any]]:
    """Returns up to so many keys, those that are reserved first, then those completed from the oldest on."""
    if not 1 <= most <= KEYS_MAX:
        raise Usage(f"--max takes 1 to {KEYS_MAX:,}, not {most}.")
    if stage is not None:
        check_name("stage", stage)
    log = session.resource(check_name("resource", resource))
    return served(lambda: _list_keys(log, resource, stage, most))


def _list_keys(log: Log, resource: str, stage: str | None, most: int) -> list[dict[str, Any]]:
    now_ms = clock.now_ms()
    items: list[dict[str, Any]] = []
    with log.view() as committed:
        row = idem_row(committed.state, resource)
        for held, body in committed.state.scan(keys.reservations(stage)):
            if len(items) == most:
                return items
            named = {"stage": keys.parse_reservation(held)[0], "key": (there := parse_json(body))["key"]}
            items.append(named | reserved_fields(there, now_ms))
        for block, body in committed.state.scan(keys.blocks(row["first"])):
            ref = parse_json(body)
            if stage is not None and ref["stage"] != stage:
                continue
            if len(items) == most:
                break
            count = min(ref["count"], most - len(items))
            for packed in _read(log, committed, keys.parse_block(block), count):
                items.append(_listed(packed, ref))
    return items


def _listed(packed: Packed, ref: dict[str, Any]) -> dict[str, Any]:
    """Returns a completed key as a list shows it: without its result."""
    fields = completed_fields(packed, ref)
    shown = {name: fields[name] for name in ("state", "fingerprint", "domain", "completed_ms")}
    return {"stage": ref["stage"], "key": packed.id, **shown}
