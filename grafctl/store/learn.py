"""LEARN: gives a domain that has no usable log the committed prefix: first the entries, then the state tables.

Promises
- Only committed entries are copied, and a replica that is learning is counted nowhere and serves nobody.
- Entries are copied in chunks, each durable, and a killed copy goes on where it was. The state tables come from one
  snapshot of the source; a copy that died among them begins the tables again.
- Entries travel as they rest. While one chunk is committed, header, chain and digest of the next one's entries are
  checked, and those that were committed before are read back from the domain and checked there as well.
- One call at a time copies a log to a domain; a second one would put back what the first has finished.
- When it ends, the replica holds exactly what the source held at one committed index, and COPY takes over from there.

When it fails: `learning` stays set in the head, and the same call goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import NamedTuple

from grafctl.errors import Corrupt, Damaged, Full
from grafctl.store import keys
from grafctl.store.ahead import Ahead
from grafctl.store.cluster import Cluster
from grafctl.store.committed import Committed
from grafctl.store.driver.contract import Batch
from grafctl.store.driver.kill import point
from grafctl.store.log import Log
from grafctl.store.records import (
    NO_CHAIN,
    HeadRow,
    check_entry,
    decode_config_row,
    encode_head,
    encode_row,
    follows,
    strip_block,
)
from grafctl.store.replica.replica import Change, Replica, sum_of, wipe
from grafctl.store.replica.scope import whole
from grafctl.store.replica.state import State
from grafctl.store.replicate import match_point
from grafctl.store.rules import EMPTY_HEAD

CHUNK_BYTES = 24 << 20  # three chunks are in memory: one being made, one being put, and the driver's own copy of that
CHUNK_ROWS = 5_000

Progress = Callable[[str, int, int], None]


class Checked(NamedTuple):
    """Entries whose every byte was read in a domain and found right."""

    domain: str
    incarnation: str
    start: int
    stop: int

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and self.start <= index < self.stop


class _Finished(Exception):
    """Somebody else has brought the replica up meanwhile."""


class _ReadingBack:
    """Reads what was committed in a domain from there, and checks it."""

    def __init__(self, cluster: Cluster, log: bytes, domain: str, at: int, chain: bytes) -> None:
        self.committed = self.start = self.at = at
        self._cluster, self._log, self._domain, self._chain = cluster, log, domain, chain
        self._is_wrong = False

    def go_on(self) -> None:
        """Checks what was committed since the last call; where a byte is wrong it stops, and the proof finds it."""
        stop = self.committed
        if self.at == stop or self._is_wrong:
            return
        with self._cluster.environment(self._domain).read() as view:
            reader = Replica(view, self._log, self._domain)
            try:
                for raw in reader.raw_entries(self.at, stop):
                    self._chain = _checked(reader, self.at, raw, self._chain)
                    self.at += 1
            except (Corrupt, Damaged):
                self._is_wrong = True

    @property
    def checked(self) -> Checked:
        return Checked(*self._cluster.member(self._domain), self.start, self.at)


class Chunk(NamedTuple):
    """Checked entries on their way."""

    at: int
    entries: list[bytes]
    chain: bytes  # after them


def needs_learning(log: Log, domain: str) -> bool:
    """Returns whether COPY cannot reach this domain: nothing there, learning cut short, or behind what is kept."""
    with log.view() as source:
        floor = Replica(source.view, log.id, source.domain).row.head.floor
        with log.cluster.environment(domain).read() as view:
            head = Replica(view, log.id, domain).row.head
        if head.learning or head.tail < floor:
            return True
        return head.tail == 0 and _is_long(Replica(source.view, log.id, source.domain), source.upto)


def _is_long(reader: Replica, upto: int) -> bool:
    """Returns whether the entries come to more than one chunk."""
    size = 0
    for index in range(reader.row.head.floor, min(upto, CHUNK_ROWS)):
        size += reader.entry_bytes(index)
        if size > CHUNK_BYTES:
            return True
    return upto > CHUNK_ROWS


def learn(log: Log, domain: str, *, witness: bool = False, progress: Progress | None = None) -> list[Checked]:
    """Copies the committed prefix and its state to `domain`; returns what of both sides was read on the way."""
    with log.view() as source:
        reader = Replica(source.view, log.id, source.domain)
        if source.domain == domain:
            return []
        with log.cluster.learning_turn(domain, log.id):
            try:
                at = _begin(log.cluster, log.id, domain, reader)
            except _Finished:
                return []
            back = _ReadingBack(log.cluster, log.id, domain, at, reader.chain_at(at) or NO_CHAIN)
            _entries(log.cluster, log.id, domain, source, reader, back, witness, progress)
            change = (0, 0) if witness else _tables(log.cluster, log.id, domain, source, progress)
            _finish(log.cluster, log.id, domain, source, reader, change)
        return [Checked(*log.cluster.member(source.domain), at, source.upto), back.checked]


def durable_step(cluster: Cluster, domain: str, change: Callable[[Batch], bool]) -> bool:
    """Runs one durable step, again where the map had to grow; returns what the step returned."""
    while True:
        try:
            with cluster.writing(domain) as batch:
                result = change(batch)
                point("learn.before")
            point("learn.after")
            return result
        except Full as error:
            if not error.grown:
                raise


def _begin(cluster: Cluster, log: bytes, domain: str, reader: Replica) -> int:
    """Marks the replica as learning and returns the index to go on from."""
    source = reader.row.head

    def mark(batch: Batch) -> bool:
        target = Replica(batch, log, domain)
        head = target.row.head
        if not head.learning and head.tail > 0 and match_point(target, reader) is not None:
            raise _Finished  # it may vote by now: nothing of it may be taken back
        chain = target.chain_at(head.tail)
        has_begun = head.learning and head.tail > head.floor  # before its first entry, what was there may not be gone
        goes_on = has_begun and source.floor <= head.tail and chain == reader.chain_at(head.tail)
        if not goes_on:
            row = HeadRow(
                EMPTY_HEAD._replace(
                    promised=head.promised, floor=source.floor, tail=source.floor, commit=source.floor, learning=True
                ),
                0,
                reader.row.floor_chain,
                reader.row.floor_chain,
            )
            batch.put(keys.head(log), encode_head(row))
        return goes_on

    if not durable_step(cluster, domain, mark):
        for span in (keys.entries(log, 0, keys.U64_MAX), keys.undos(log, 0, keys.U64_MAX), keys.configs(log)):
            while durable_step(cluster, domain, lambda batch, span=span: wipe(batch, span, CHUNK_ROWS)):  # type: ignore[misc]
                pass
    with cluster.environment(domain).read() as view:
        return Replica(view, log, domain).row.head.tail


def _entries(
    cluster: Cluster,
    log: bytes,
    domain: str,
    source: Committed,
    reader: Replica,
    back: _ReadingBack,
    witness: bool,
    progress: Progress | None,
) -> None:
    with Ahead(checked_chunks(reader, back.at, source.upto, back.go_on)) as chunks:
        for chunk in chunks:

            def put(batch: Batch, chunk: Chunk = chunk) -> bool:
                for index, raw in enumerate(chunk.entries, start=chunk.at):
                    batch.put(keys.entry(log, index), strip_block(raw) if witness else raw)
                row = Replica(batch, log, domain).row
                tail = chunk.at + len(chunk.entries)
                head = row.head._replace(tail=tail, commit=tail)
                batch.put(keys.head(log), encode_head(row._replace(head=head, chain=chunk.chain)))
                return True

            durable_step(cluster, domain, put)
            done = chunk.at + len(chunk.entries)
            if progress:
                progress("entries", done, source.upto)
            back.committed = done
    back.go_on()


def checked_chunks(
    reader: Replica, at: int, stop: int, between: Callable[[], None] = lambda: None
) -> Generator[Chunk, None, None]:
    """Yields the entries, each checked on its own and against the one before it; calls `between` between chunks."""
    chain = reader.chain_at(at) or NO_CHAIN
    entries: list[bytes] = []
    size = 0
    for index, raw in enumerate(reader.raw_entries(at, stop), start=at):
        chain = _checked(reader, index, raw, chain)
        entries.append(raw)
        size += len(raw)
        if size >= CHUNK_BYTES or len(entries) >= CHUNK_ROWS:
            yield Chunk(index + 1 - len(entries), entries, chain)
            entries, size = [], 0
            between()
    if entries:
        yield Chunk(stop - len(entries), entries, chain)


def _checked(reader: Replica, index: int, raw: bytes, chain: bytes) -> bytes:
    """Returns the chain after an entry; raises `Damaged` where a byte of it is wrong, or it follows another one."""
    what = f"{reader.domain}: entry {index} of log {reader.log.hex()}"
    try:
        entry, _ = check_entry(raw, what)
    except Corrupt as error:
        raise Damaged(reader.domain, error.message) from error
    if not follows(chain, raw):
        raise Damaged(reader.domain, f"{what} does not follow the one before it")
    return entry.chain


def _tables(cluster: Cluster, log: bytes, domain: str, source: Committed, progress: Progress | None) -> Change:
    """Copies the state; returns the sum over its rows and their number."""
    while durable_step(cluster, domain, lambda batch: wipe(batch, keys.states(log), CHUNK_ROWS)):
        pass
    total = done = 0
    with Ahead(state_chunks(log, source.state)) as chunks:
        for chunk in chunks:

            def put(batch: Batch, chunk: list[tuple[bytes, bytes]] = chunk) -> bool:
                for key, raw in chunk:
                    batch.put(key, raw)
                return True

            durable_step(cluster, domain, put)
            total += sum_of(chunk)[0]
            done += len(chunk)
            if progress:
                progress("state", done, done)
    return total % (1 << 64), done


def state_chunks(log: bytes, state: State) -> Generator[list[tuple[bytes, bytes]], None, None]:
    """Yields the rows of the state, of all resources and as they are to rest, some at a time."""
    rows: list[tuple[bytes, bytes]] = []
    size = 0
    for row, body in whole(state).scan((b"", b"\xff" * 8)):
        key = keys.state(log, row)
        rows.append((key, encode_row(body, key)))
        size += len(body)
        if size >= CHUNK_BYTES or len(rows) >= CHUNK_ROWS:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _finish(cluster: Cluster, log: bytes, domain: str, source: Committed, reader: Replica, state: Change) -> None:
    """Ends learning: configurations and head of the index that was copied."""
    configs = [(key, raw) for key, raw in source.view.scan(*keys.configs(log)) if keys.parse_index(key) < source.upto]
    if not configs:
        raise Damaged(source.domain, f"log {log.hex()} has no committed configuration")
    last = decode_config_row(configs[-1][1], f"{source.domain}: configuration")
    stamped_ms = (
        reader.entry(source.upto - 1, verify_block=False).stamped_ms if source.upto > reader.row.head.floor else 0
    )

    def put(batch: Batch) -> bool:
        for key, raw in configs:
            batch.put(key, raw)
        row = Replica(batch, log, domain).row
        promised = max(row.head.promised, last.term)  # because peers take a promise below the term for an old copy
        head = row.head._replace(
            promised=promised, acc=last.term, start=last.at, tail=source.upto, commit=source.upto, learning=False
        )
        batch.put(keys.head(log), encode_head(HeadRow(head, stamped_ms, row.chain, row.floor_chain, *state)))
        return True

    durable_step(cluster, domain, put)
