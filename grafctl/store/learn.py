"""LEARN: gives a domain that has no usable log the committed prefix: first the entries, then the state tables.

Promises
- Only committed entries are copied, and a replica that is learning is counted nowhere and serves nobody.
- Entries are copied in chunks, each durable, and a killed copy goes on where it was. The state tables come from one
  snapshot of the source; a copy that died among them begins the tables again.
- When it ends, the replica holds exactly what the source held at one committed index, and COPY takes over from there.

When it fails: `learning` stays set in the head, and the same call goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from grafctl.errors import Corrupt, Damaged, Full
from grafctl.store import keys
from grafctl.store.cluster import Cluster
from grafctl.store.committed import Committed
from grafctl.store.driver.contract import Batch
from grafctl.store.driver.kill import point
from grafctl.store.log import Log
from grafctl.store.records import (
    NO_CHAIN,
    HeadRow,
    decode_config_row,
    decode_entry,
    encode_head,
    encode_row,
    follows,
    strip_block,
)
from grafctl.store.replica.replica import Replica, wipe
from grafctl.store.rules import EMPTY_HEAD

CHUNK_BYTES = 8 << 20
CHUNK_ROWS = 5_000

Progress = Callable[[str, int, int], None]


def needs_learning(log: Log, domain: str) -> bool:
    """Returns whether COPY cannot reach this domain: nothing there, learning cut short, or behind what is kept."""
    with log.view() as source:
        floor = Replica(source.view, log.id, source.domain).row.head.floor
        with log.cluster.environment(domain).read() as view:
            head = Replica(view, log.id, domain).row.head
        return head.learning or (head.tail < floor) or (head.tail == 0 and source.upto > CHUNK_ROWS)


def learn(log: Log, domain: str, *, witness: bool = False, progress: Progress | None = None) -> int:
    """Copies the committed prefix and its state to `domain`; returns how many entries it covers."""
    with log.view() as source:
        reader = Replica(source.view, log.id, source.domain)
        if source.domain == domain:
            return source.upto
        at = _begin(log.cluster, log.id, domain, reader)
        _entries(log.cluster, log.id, domain, source, reader, at, witness, progress)
        if not witness:
            _tables(log.cluster, log.id, domain, source, progress)
        _finish(log.cluster, log.id, domain, source, reader)
        return source.upto


def _write(cluster: Cluster, domain: str, change: Callable[[Batch], bool]) -> bool:
    """Runs one durable step, again where the map had to grow; returns what the step returned."""
    while True:
        try:
            with cluster.environment(domain).write(wait_s=cluster.lock_wait_s) as batch:
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
        chain = target.chain_at(head.tail)
        goes_on = head.learning and source.floor <= head.tail and chain == reader.chain_at(head.tail)
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

    if not _write(cluster, domain, mark):
        for span in (keys.entries(log, 0, keys.U64_MAX), keys.undos(log, 0, keys.U64_MAX), keys.configs(log)):
            while _write(cluster, domain, lambda batch, span=span: wipe(batch, span, CHUNK_ROWS)):  # type: ignore[misc]
                pass
    with cluster.environment(domain).read() as view:
        return Replica(view, log, domain).row.head.tail


def _entries(
    cluster: Cluster,
    log: bytes,
    domain: str,
    source: Committed,
    reader: Replica,
    at: int,
    witness: bool,
    progress: Progress | None,
) -> None:
    chain = reader.chain_at(at) or NO_CHAIN
    while at < source.upto:
        chunk, chain = _chunk(reader, at, source.upto, chain)

        def put(batch: Batch, at: int = at, chunk: list[bytes] = chunk, chain: bytes = chain) -> bool:
            for index, raw in enumerate(chunk, start=at):
                batch.put(keys.entry(log, index), strip_block(raw) if witness else raw)
            row = Replica(batch, log, domain).row
            head = row.head._replace(tail=at + len(chunk), commit=at + len(chunk))
            batch.put(keys.head(log), encode_head(row._replace(head=head, chain=chain)))
            return True

        _write(cluster, domain, put)
        at += len(chunk)
        if progress:
            progress("entries", at, source.upto)


def _chunk(reader: Replica, at: int, stop: int, chain: bytes) -> tuple[list[bytes], bytes]:
    """Returns the next entries, checked, and the chain after them."""
    chunk: list[bytes] = []
    size = 0
    for index, raw in enumerate(reader.raw_entries(at, stop), start=at):
        what = f"{reader.domain}: entry {index} of log {reader.log.hex()}"
        try:
            entry = decode_entry(raw, what)
        except Corrupt as error:
            raise Damaged(reader.domain, error.message) from error
        if not follows(chain, raw):
            raise Damaged(reader.domain, f"{what} does not follow the one before it")
        chunk.append(raw)
        chain = entry.chain
        size += len(raw)
        if size >= CHUNK_BYTES or len(chunk) >= CHUNK_ROWS:
            break
    return chunk, chain


def _tables(cluster: Cluster, log: bytes, domain: str, source: Committed, progress: Progress | None) -> None:
    while _write(cluster, domain, lambda batch: wipe(batch, keys.states(log), CHUNK_ROWS)):
        pass
    rows = _rows(source)
    done = 0
    while chunk := list(islice(rows, CHUNK_ROWS)):

        def put(batch: Batch, chunk: list[tuple[bytes, bytes]] = chunk) -> bool:
            for row, body in chunk:
                batch.put(keys.state(log, row), encode_row(body))
            return True

        _write(cluster, domain, put)
        done += len(chunk)
        if progress:
            progress("state", done, done)


def _rows(source: Committed) -> Iterator[tuple[bytes, bytes]]:
    return source.state.scan((b"", b"\xff" * 8))


def _finish(cluster: Cluster, log: bytes, domain: str, source: Committed, reader: Replica) -> None:
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
        batch.put(keys.head(log), encode_head(row._replace(head=head, stamped_ms=stamped_ms)))
        return True

    _write(cluster, domain, put)
