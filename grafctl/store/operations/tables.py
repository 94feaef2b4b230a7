"""Work on keyed tables: put, delete, get, scan and count, wherever their vshards are.

Promises
- Writes of one call that belong to one log are one entry, up to 10,000 of them or 16 MiB: all of them or none. What
  goes to several logs, or is more, comes in several.
- What is read is the newest that was acknowledged; where voters are away and that cannot be known, the answer is that
  there is no quorum.
- Whoever comes to a vshard that is being moved waits, and is sent on to where it went; no error is due to a move.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from grafctl import clock
from grafctl.errors import DomainUnavailable, Fenced, Timeout, Usage
from grafctl.names import check_domain
from grafctl.store import vshard_keys
from grafctl.store.authority import DELETE, GET, PUT, SCAN
from grafctl.store.blocks import PAYLOAD_BYTES_MAX
from grafctl.store.checked import checked, served
from grafctl.store.keys import U64
from grafctl.store.log import DEADLINE_S, Log
from grafctl.store.operations.retention import sweep_at_times
from grafctl.store.operations.routing import Patience, Table, table_of
from grafctl.store.replica.state import State
from grafctl.store.requests import Context, Outcome
from grafctl.store.resources.table import Ask, Caller, Elsewhere, NotServed, Put, elsewhere, require_served, vshard_row
from grafctl.store.session import Session
from grafctl.store.table_block import WRITE_BYTES
from grafctl.store.vshards import KEY_BYTES_MAX
from grafctl.table_results import Row

WHO = (DomainUnavailable, Fenced)  # refusals to be audited: a compare-and-set that was lost is none of them
VALUE_BYTES_MAX = PAYLOAD_BYTES_MAX
ENTRY_BYTES = 16 << 20  # of the writes of one entry
ENTRY_WRITES = 10_000
_CHUNK_ROWS, _CHUNK_BYTES = 5_000, 8 << 20


class Item(NamedTuple):
    """One write that is asked for: without a value the key is deleted; `expect` is the version that must be there."""

    key: bytes
    value: bytes | None
    expect: int | None = None


class Written(NamedTuple):
    """What became of one write."""

    vshard: int
    version: int
    changed: bool
    acked_by: list[str]


def check_key(key: bytes) -> bytes:
    """Returns the key; raises `Usage` where it cannot be one."""
    if not 1 <= len(key) <= KEY_BYTES_MAX:
        raise Usage(f"A key has 1 to {KEY_BYTES_MAX} bytes, not {len(key):,}.")
    return key


def check_item(item: Item) -> Item:
    """Returns the item; raises `Usage` where it cannot be written."""
    check_key(item.key)
    if item.value is not None and len(item.value) > VALUE_BYTES_MAX:
        raise Usage(f"A value has at most {VALUE_BYTES_MAX:,} bytes, not {len(item.value):,}.")
    if item.expect is not None and item.expect < 0:
        raise Usage("A version is 0 or more; 0 says that the key must not be there.")
    return item


def caller_of(session: Session, table: str, domain: str, epoch: int | None = None) -> Caller:
    """Returns who asks; raises `Usage` where the domain cannot be one."""
    return Caller(table, check_domain(domain), epoch, session.cluster.knows(domain))


# --- writing


def put(
    session: Session,
    name: str,
    items: Sequence[Item],
    *,
    domain: str,
    epoch: int | None = None,
    timeout_s: float = DEADLINE_S,
) -> list[Written]:
    """Writes the items and returns what became of each, in their order."""
    table = table_of(session, name)
    caller = caller_of(session, name, domain, epoch)
    patience = Patience(table, timeout_s)
    last = {item.key: place for place, item in enumerate(items)}
    asks: dict[int, list[Ask]] = {}
    for item in map(check_item, items):
        number = table.vshard_of(item.key)
        asks.setdefault(number, []).append(Ask(number, *item))
    if len(last) < len(items):
        asks = {number: _without_repeats(found) for number, found in asks.items()}
    done: dict[bytes, Written] = {}
    while asks:
        waiting: dict[int, Elsewhere] = {}
        for number in list(asks):
            if number in asks and number not in waiting:
                waiting |= _write_beside(table, caller, asks, number, set(waiting), patience, done)
        for number, reason in list(waiting.items())[:1]:
            patience.wait(number, reason)
    return [done[item.key] for item in items]


def would_put(session: Session, name: str, item: Item, *, domain: str, epoch: int | None = None) -> Written:
    """Returns what `put` of one item would come to now; raises what it would raise."""
    table = table_of(session, name)
    patience = Patience(table, 0.0)
    number = table.vshard_of(check_item(item).key)
    while True:
        caller = caller_of(session, name, domain, epoch)._replace(claims=table.claims([number]))
        request = Put(caller, [Ask(number, *item)], PUT if item.value is not None else DELETE)
        log = table.log_of(number)
        try:
            with session.audited(request.op, WHO, resource=name):
                decision = checked(log, partial(_would, log, request), newest=True)
        except NotServed as error:
            for other in patience.learn(error.reasons):
                patience.wait(other, error.reasons[other])
            continue
        ((version, changed),) = decision.answer
        return Written(number, version, changed, [])


def _would(log: Log, request: Put, state: State) -> Any:
    with log.view() as committed:
        return request.decide(state, Context(committed.upto, clock.now_ms(), committed.lead.config))


def _without_repeats(asks: list[Ask]) -> list[Ask]:
    """Returns one write a key, the last; raises `Usage` where one of several expects a version."""
    found: dict[bytes, Ask] = {}
    for ask in asks:
        if ask.key in found and (ask.expect is not None or found[ask.key].expect is not None):
            raise Usage("One call cannot write a key twice where it expects a version of it.")
        found[ask.key] = ask
    return list(found.values())


def _write_beside(
    table: Table,
    caller: Caller,
    asks: dict[int, list[Ask]],
    number: int,
    left_out: set[int],
    patience: Patience,
    done: dict[bytes, Written],
) -> dict[int, Elsewhere]:
    """Writes what belongs to one vshard with what goes to the same log; returns the vshards to be waited for."""
    part = table.part_of(number)
    beside = [other for other in asks if other not in left_out and table.part_of(other) == part]
    chosen = _fitting([ask for other in beside for ask in asks[other]])
    taken = {ask.vshard for ask in chosen}
    log = table.session.resource(part)
    op = DELETE if all(ask.value is None for ask in chosen) else PUT
    request = Put(caller._replace(claims=table.claims(taken)), chosen, op)
    try:
        with table.session.audited(op, WHO, resource=table.name):
            outcome = log.append(request, deadline_s=max(patience.left_s, 0.05))
    except NotServed as error:
        waiting = patience.learn(error.reasons)
        return {other: error.reasons[other] for other in waiting}
    _settle(outcome, chosen, done)
    for other in taken:
        asks[other] = [ask for ask in asks[other] if ask.key not in done]
        if not asks[other]:
            del asks[other]
    sweep_at_times(log, outcome.tail, sum(len(ask.key) + len(ask.value or b"") for ask in chosen))
    return {}


def _fitting(asks: list[Ask]) -> list[Ask]:
    """Returns as many of the first writes as fit into one entry; at least one."""
    size = 0
    for place, ask in enumerate(asks):
        size += WRITE_BYTES + len(ask.key) + len(ask.value or b"")
        if place and (size > ENTRY_BYTES or place == ENTRY_WRITES):
            return asks[:place]
    return asks


def _settle(outcome: Outcome, chosen: Sequence[Ask], done: dict[bytes, Written]) -> None:
    if outcome.answer is None:
        raise Timeout("Whether it was written is unknown.", hint="Run the same command again.", outcome="unknown")
    for ask, (version, changed) in zip(chosen, outcome.answer, strict=True):
        done[ask.key] = Written(ask.vshard, version, changed, outcome.acked_by)


# --- reading


def get(
    session: Session, name: str, wanted: Sequence[bytes], *, domain: str, timeout_s: float = DEADLINE_S
) -> list[Row | None]:
    """Returns what is there under each key, in their order."""
    table = table_of(session, name)
    caller = caller_of(session, name, domain)
    patience = Patience(table, timeout_s)
    left: dict[int, list[bytes]] = {}
    for key in map(check_key, wanted):
        left.setdefault(table.vshard_of(key), []).append(key)
    found: dict[bytes, Row | None] = {}
    while left:
        number = next(iter(left))
        part = table.part_of(number)
        beside = {other: left[other] for other in left if table.part_of(other) == part}
        look = partial(_look, caller, table.claims(beside), beside)
        try:
            with session.audited(GET, WHO, resource=name):
                rows = _read(session.resource(part), look, domain)
        except NotServed as error:
            for other in patience.learn(error.reasons):
                patience.wait(other, error.reasons[other])
            continue
        found |= rows
        for other in beside:
            del left[other]
    return [found[key] for key in wanted]


def _read(log: Log, look: Any, domain: str) -> Any:
    return served(lambda: checked(log, look, domain, newest=True))


def _look(caller: Caller, claims: Any, wanted: dict[int, list[bytes]], state: State) -> dict[bytes, Row | None]:
    definition = caller.pass_gate(GET, state)
    rows: dict[bytes, Row | None] = {}
    for number, found_keys in wanted.items():
        require_served(state, definition, caller.table, number, claims.get(number))
        prefix, version_of = vshard_keys.table_row(number, b""), U64.unpack_from
        for key in found_keys:
            body = state.get(prefix + key)
            rows[key] = None if body is None else Row(key, body[8:], version_of(body)[0], number)
    return rows


class _Chunk(NamedTuple):
    """Rows of one log, and where to go on: behind a key of a vshard; `reason` says why not in the same log."""

    rows: list[Row]
    number: int
    after: bytes | None
    reason: Elsewhere | None


def scan(
    session: Session,
    name: str,
    *,
    domain: str,
    prefix: bytes = b"",
    vshard: int | None = None,
    timeout_s: float = DEADLINE_S,
) -> Iterator[Row]:
    """Yields the rows of a table, or of one vshard, by vshard and then by key.

    Rows are read some thousands at a time, each time the newest: what is written meanwhile may be seen or not.
    """
    span = None if vshard is None else (vshard, vshard + 1)
    for rows in scan_chunks(session, name, domain=domain, prefix=prefix, span=span, timeout_s=timeout_s):
        yield from rows


def scan_chunks(
    session: Session,
    name: str,
    *,
    domain: str,
    prefix: bytes = b"",
    span: tuple[int, int] | None = None,
    timeout_s: float = DEADLINE_S,
) -> Iterator[list[Row]]:
    """Yields what `scan` does, as it is read; of the vshards [first, stop) where a span is given."""
    if len(prefix) > KEY_BYTES_MAX:
        raise Usage(f"A key has at most {KEY_BYTES_MAX} bytes, and the prefix has {len(prefix):,}.")
    table = table_of(session, name)
    caller = caller_of(session, name, domain)
    number, stop = (0, table.vshards) if span is None else (table.check(span[0]), span[1])
    after: bytes | None = None
    patience = Patience(table, timeout_s)
    while number < stop:
        part = table.part_of(number)
        ours = partial(_chunk, caller, table, part, number, stop, after, prefix)
        with session.audited(SCAN, WHO, resource=name):
            chunk: _Chunk = _read(session.resource(part), ours, domain)
        if chunk.rows or chunk.reason is None:
            patience = Patience(table, timeout_s)
        yield chunk.rows
        number, after = chunk.number, chunk.after
        if chunk.reason is not None and patience.learn({number: chunk.reason}):
            patience.wait(number, chunk.reason)


def _chunk(
    caller: Caller,
    table: Table,
    part: str,
    number: int,
    stop: int,
    after: bytes | None,
    prefix: bytes,
    state: State,
) -> _Chunk:
    definition = caller.pass_gate(SCAN, state)
    rows: list[Row] = []
    size = 0
    while number < stop:
        if table.part_of(number) != part:
            return _Chunk(rows, number, after, None)
        reason = elsewhere(vshard_row(state, definition, number), table.claims([number]).get(number))
        if reason is not None:
            return _Chunk(rows, number, after, reason)
        first, last = vshard_keys.table_rows(number, prefix)
        if after is not None:
            first = vshard_keys.table_row(number, after + b"\0")
        cut, version_of = len(vshard_keys.table_row(number, b"")), U64.unpack_from
        for row, body in state.scan((first, last)):
            key = row[cut:]
            rows.append(Row(key, body[8:], version_of(body)[0], number))
            size += len(row) + len(body)
            if len(rows) >= _CHUNK_ROWS or size >= _CHUNK_BYTES:
                return _Chunk(rows, number, key, None)
        number, after = number + 1, None
    return _Chunk(rows, number, None, None)
