"""Publishing: the gate, the append, and what it answers; one record, one batch, or a stream of batches.

Promises
- A refusal that can be known before anything is touched is known then: an election or a wait never comes before it.
- Acknowledgements of a stream come in the order of the batches, each only when its batch is durable on its quorum.
- With `atomic`, everything is one entry or nothing is there.
"""

from __future__ import annotations

from functools import lru_cache

from grafctl.errors import NoQuorum, StoreFull, Timeout, Usage
from grafctl.names import check_domain, check_name
from grafctl.store.authority import PUBLISH
from grafctl.store.blocks import BLOCK_BYTES_AIM, NONE, Outgoing, check_records
from grafctl.store.checked import checked, refuse_rather
from grafctl.store.group_commit import GroupCommit
from grafctl.store.log import Log
from grafctl.store.records import NO_OPERATION
from grafctl.store.requests import Context, Outcome
from grafctl.store.resources.queue import Publish, Published
from grafctl.store.session import AUDITED, Session
from grafctl.typed import TYPE_CHECKING, Any, Iterable, Iterator, Sequence

if TYPE_CHECKING:
    from grafctl.results import Ack
    from grafctl.store.operations.streaming import Turn
    from grafctl.store.resources.together import Together

Records = Sequence[Outgoing] | Sequence[bytes]
Batches = Iterable[Records]
ATOMIC_BYTES_MAX = 48 << 20


def publish(
    session: Session,
    request: Publish,
    operation: str | None,
    timeout_s: float,
    *,
    dry_run: bool = False,
    turn: Turn | None = None,
    skips: bool = False,
) -> Ack:
    """Publishes the records of one request as one entry and returns when it is committed.

    A single record that does not conform to its schema is refused, or where this is part of a stream, told (`skips`).
    """
    _check(request)
    log = session.resource(request.resource)
    wrong: list[dict[str, Any]] = []
    if (document := session.schema_of(request.resource)) is not None:
        from grafctl.store.operations.conforming import sift

        fit, wrong = sift(session, log, document, request, skips=skips)
        if fit is None:
            return _nothing(log, request, wrong)
        request = fit
    if dry_run:
        return _would_publish(session, log, request, wrong)
    key, hint = parse_operation(operation)
    try:
        outcome = _append(session, log, request, key, hint, timeout_s, turn)
    except AUDITED as error:  # what `audited` does, without the cost of a block
        session.note_refusal(error, PUBLISH)
        raise
    published: Published = outcome.answer
    if published.trim_due:
        from grafctl.store.operations.retention import trim

        trim(session, request.resource)
    return _ack(request.resource, published, outcome.acked_by, outcome.payload_copies, wrong)


def _nothing(log: Log, request: Publish, wrong: list[dict[str, Any]]) -> Ack:
    """Returns the answer to a batch of which nothing conforms."""
    queue, generation = checked(log, request.admitted)
    return _ack(request.resource, Published(queue["next"], 0, None, False, [], generation), [], 0, wrong)


def _append(
    session: Session,
    log: Log,
    request: Publish,
    key: bytes | None,
    hint: int | None,
    timeout_s: float,
    turn: Turn | None,
) -> Outcome:
    compression = session.compressions.get(request.resource)
    if compression is None or not log.is_leading:
        queue = checked(log, request.pass_gate)  # the transaction asks it again
        session.compressions[request.resource] = compression = queue.get("compression", NONE)
    request.compression = compression
    try:
        if turn is None and hint is None:
            return _group(session, log, request.resource).append(request, timeout_s)
        request.prepare()
        return log.append(request, operation=key, hint=hint, deadline_s=timeout_s, turn=turn)
    except (NoQuorum, Timeout, StoreFull) as error:
        refuse_rather(log, error, request.pass_gate)
        raise


def _group(session: Session, log: Log, resource: str) -> GroupCommit:
    """Returns where this process's publishers of a resource meet."""
    group = session.publishers.get(resource)
    return group or session.publishers.setdefault(resource, GroupCommit(log, _together, BLOCK_BYTES_AIM))


def _together(requests: list[Publish]) -> Together:
    from grafctl.store.resources.together import Together  # a command publishes alone and does not wait for this

    return Together(requests)


def _check(request: Publish) -> None:
    _check_names(request.domain, request.resource)
    if not request.records:
        raise Usage("There is no record to publish.")
    check_records(request.records)


@lru_cache(maxsize=256)
def _check_names(domain: str, resource: str) -> None:
    """A program publishes with the same few names over and over; what is refused is not kept."""
    check_domain(domain)
    check_name("resource", resource)


def _would_publish(session: Session, log: Log, request: Publish, wrong: list[dict[str, Any]]) -> Ack:
    """Returns what a publish would answer now; raises its refusal."""
    request.prepare()
    with session.audited(PUBLISH), log.view() as committed:
        decision = request.decide(committed.state, Context(committed.upto, 0, committed.lead.config))
    return _ack(request.resource, decision.answer, [], 0, wrong)


def _ack(resource: str, published: Published, acked_by: list[str], copies: int, wrong: list[dict[str, Any]]) -> Ack:
    from grafctl.results import Ack

    return Ack(
        resource,
        published.first,
        published.records,
        published.generation,
        acked_by,
        published.replayed,
        published.offsets,
        copies if copies != len(acked_by) else None,
        published.conflicts or None,
        wrong or None,
    )


def stream(session: Session, first: Publish, batches: Batches, timeout_s: float, in_flight: int) -> Iterator[Ack]:
    """Yields one acknowledgement a batch; `first` says what all batches have in common."""
    if first.atomic:
        batches = [_gather(batches)]
    if in_flight > 1:
        from grafctl.store.operations.streaming import pipelined

        def one(batch: Records, turn: Turn) -> Ack:
            return publish(session, first.of(batch), None, timeout_s, turn=turn, skips=True)

        yield from pipelined(one, batches, in_flight)
        return
    for batch in batches:
        if batch:
            yield publish(session, first.of(batch), None, timeout_s, skips=True)


def _gather(batches: Batches) -> list[Outgoing]:
    records: list[Outgoing] = []
    size = 0
    for batch in batches:
        for item in batch:
            record = item if isinstance(item, Outgoing) else Outgoing(item)
            size += len(record.payload)
            records.append(record)
            if size > ATOMIC_BYTES_MAX:
                raise Usage(f"--atomic takes up to {ATOMIC_BYTES_MAX >> 20} MiB.", hint="Publish in several runs.")
    return records


def parse_operation(text: str | None) -> tuple[bytes | None, int | None]:
    """Returns the operation key and its hint that an unknown outcome printed; raises `Usage`."""
    if text is None:
        return None, None
    prefix, _, rest = text.partition("_")
    hint, _, key = rest.partition("_")
    try:
        found, operation = int(hint, 16), bytes.fromhex(key)
    except ValueError:
        found, operation = 0, b""
    if prefix != "op" or len(operation) != len(NO_OPERATION):
        raise Usage("--operation takes the key that an unknown outcome printed, op_…")
    return operation, found
