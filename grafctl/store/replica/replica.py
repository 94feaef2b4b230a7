"""One domain's copy of one log: what happens inside a single transaction of its environment.

Promises
- Each function of a batch leaves the replica whole: entries, configurations, state tables, pre-images and head agree.
- State tables are always those at the tail; for every entry at or after the commit point its pre-images are kept, so
  that the tail can be taken back row by row.
- A replica never cuts below its commit point (`SafetyAlarm`), and keeps what it cut in quarantine for audit.

When it fails: an exception aborts the caller's transaction, and nothing of it is there.
"""

from __future__ import annotations

from grafctl.errors import Corrupt
from grafctl.store import keys
from grafctl.store.driver.contract import Batch, View
from grafctl.store.records import (
    BEGINNING_BYTES,
    CTRL,
    ENTRY_HEADER_BYTES,
    NO_CHAIN,
    START,
    Entry,
    HeadRow,
    beginning_bytes,
    decode_config,
    decode_config_row,
    decode_entry,
    decode_head,
    encode_config,
    encode_head,
    encode_row,
    encode_undo,
    entry_bytes,
    entry_chain,
    entry_operation,
    follows,
    make_entry,
    row_checksum,
    strip_block,
)
from grafctl.store.replica.state import State, StateView, Writes, undo_of
from grafctl.store.requests import may_use_reserve, place_in
from grafctl.store.rules import EMPTY_HEAD, Config, Head, Term
from grafctl.typed import Callable, Iterable, Iterator, NamedTuple

Apply = Callable[[State, Entry, int], Writes]
Change = tuple[int, int]  # by how much a write changes the sum over the state rows, and their number
_MANY = 32  # writes of an entry from which on one look at a range is better than many at rows
EMPTY = HeadRow(EMPTY_HEAD, 0, NO_CHAIN, NO_CHAIN)


class SafetyAlarm(Exception):
    """A copy would have cut committed entries: a bug or a broken disk. Nothing was changed."""


class Draft(NamedTuple):
    """An entry that is about to be appended."""

    kind: int
    term: Term
    now_ms: int
    operation: bytes
    meta: bytes
    block: bytes
    block_digest: bytes


class Appended(NamedTuple):
    """An entry as it was appended at the primary, with the writes it came to: equal logs have equal state, so a replica
    whose chain is `previous` may take both as they are."""

    at: int  # index
    previous: bytes  # chain before it
    raw: bytes
    entry: Entry
    writes: Writes
    primary: Head  # after it


class Replica:
    """A log in one view of an environment; a `Batch` where it is to be changed."""

    __slots__ = ("domain", "log", "row", "view")

    def __init__(self, view: View, log: bytes, domain: str) -> None:
        self.view = view
        self.log = log
        self.domain = domain
        raw = view.get(keys.head(log))
        self.row = EMPTY if raw is None else decode_head(raw, f"{domain}: head of log {log.hex()}")

    @property
    def state(self) -> StateView:
        """Returns the tables at the tail."""
        return StateView(self.view, self.log, self.domain)

    def config(self) -> Config:
        """Returns the configuration of the last START; raises `Corrupt` when the log has none."""
        raw = self.view.get(keys.config(self.log, self.row.head.start))
        if raw is None:
            raise Corrupt(f"{self.domain}: log {self.log.hex()} has no configuration.", domain=self.domain)
        return decode_config_row(raw, f"{self.domain}: configuration {self.row.head.start}")

    def configs(self) -> list[Config]:
        """Returns the configurations that may be in force, oldest first."""
        what = f"{self.domain}: configuration"
        return [decode_config_row(raw, what) for _, raw in self.view.scan(*keys.configs(self.log))]

    def lacks_state(self) -> bool:
        """Returns whether state rows are missing, or others than the head counts; not to be asked while it learns."""
        return sum_of(self.view.scan(*keys.states(self.log))) != self.row[4:]

    def entry(self, index: int, *, verify_block: bool = True) -> Entry:
        """Returns an entry that must be there; raises `Corrupt` when it is not or was changed."""
        return decode_entry(self.raw_entry(index), self._entry_name(index), verify_block=verify_block)

    def raw_entry(self, index: int) -> bytes:
        """Returns an entry as it is stored; raises `Corrupt` where it is missing."""
        key = keys.entry(self.log, index)
        raw = self.view.get(key)
        if raw is None:
            raise Corrupt(f"{self._entry_name(index)} is missing.", domain=self.domain, key=key.hex())
        return raw

    def _entry_name(self, index: int) -> str:
        return f"{self.domain}: entry {index} of log {self.log.hex()}"

    def beginning(self, index: int) -> bytes:
        """Returns the header and the meta of an entry, and perhaps more; raises `Corrupt` where it is not there."""
        key = keys.entry(self.log, index)
        raw = self.view.get(key, BEGINNING_BYTES) or b""
        if len(raw) < ENTRY_HEADER_BYTES:
            raise Corrupt(f"{self._entry_name(index)} is torn or missing.", domain=self.domain)
        needed = beginning_bytes(raw)
        return raw if len(raw) >= needed else self.view.get(key, needed) or raw

    def entry_bytes(self, index: int) -> int:
        """Returns how many bytes of meta and block an entry has, 0 where it is not there."""
        raw = self._header(index)
        return 0 if raw is None else entry_bytes(raw)

    def _header(self, index: int) -> bytes | None:
        """Returns the header of an entry, or None where it is not there; raises `Corrupt` where it is torn."""
        raw = self.view.get(keys.entry(self.log, index), ENTRY_HEADER_BYTES)
        if raw is not None and len(raw) < ENTRY_HEADER_BYTES:
            raise Corrupt(f"{self._entry_name(index)} is torn.", domain=self.domain)
        return raw

    def chain_at(self, count: int) -> bytes | None:
        """Returns the chain after the first `count` entries, or None where that is not kept."""
        head = self.row.head
        if count == head.tail:
            return self.row.chain
        if count == head.floor:
            return self.row.floor_chain
        if not head.floor < count < head.tail:
            return None
        raw = self.view.get(keys.entry(self.log, count - 1), ENTRY_HEADER_BYTES)
        return None if raw is None or len(raw) < ENTRY_HEADER_BYTES else entry_chain(raw)

    def find_operation(self, operation: bytes, start: int) -> tuple[int, int] | None:
        """Returns the entry at or after `start` that holds an operation, and the operation's place in it, or None.

        Raises `Corrupt` where an entry on the way is not the one that was chained there: it may be the one sought.
        """
        first, tail = max(start, self.row.head.floor), self.row.head.tail
        chain = self.chain_at(first)
        for index in range(first, tail):
            raw = self.beginning(index)
            if chain is None or not follows(chain, raw):
                raise Corrupt(f"{self._entry_name(index)} does not follow the one before it.", domain=self.domain)
            place, chain = place_in(entry_operation(raw), operation), entry_chain(raw)
            if place is not None and place < len(self.entry(index, verify_block=False).request.get("parts", (None,))):
                return index, place
        if first < tail and chain != self.row.chain:
            raise Corrupt(f"{self._entry_name(tail - 1)} is not the last one.", domain=self.domain)
        return None

    def raw_entries(self, start: int, stop: int) -> Iterator[bytes]:
        """Returns stored entries, read one by one; raises `Corrupt` where one is missing."""
        return map(self.raw_entry, range(start, stop))


class Writer(Replica):
    """A replica in a write transaction."""

    __slots__ = ("_apply", "batch", "witness")

    def __init__(self, batch: Batch, log: bytes, domain: str, apply: Apply, *, witness: bool = False) -> None:
        super().__init__(batch, log, domain)
        self.batch = batch
        self._apply = apply
        self.witness = witness

    def save(self) -> None:
        """Writes the head; the last step of every transaction."""
        self.batch.put(keys.head(self.log), encode_head(self.row))

    def set(self, **points: object) -> None:
        """Changes fields of the head, in memory until `save`."""
        self.row = HeadRow(self.row.head._replace(**points), *self.row[1:])  # type: ignore[arg-type]

    def append(self, draft: Draft) -> Appended:
        """Appends a new entry at the primary and applies it."""
        at, previous = self.row.head.tail, self.row.chain
        stamped = max(draft.now_ms, self.row.stamped_ms)
        raw, chain = make_entry(
            self.row.chain,
            draft.kind,
            draft.term,
            stamped,
            draft.operation,
            draft.meta,
            draft.block,
            draft.block_digest,
        )
        entry = Entry(
            draft.kind, draft.term, stamped, draft.operation, draft.meta, draft.block, draft.block_digest, chain
        )
        writes = self._apply(self.state, entry, at)
        self.put(raw, entry, writes, keep_undo=True)
        return Appended(at, previous, raw, entry, writes, self.row.head)

    def put(self, raw: bytes, entry: Entry, writes: Writes | None = None, *, keep_undo: bool) -> None:
        """Adds an entry at the tail, with its effect on configuration and state; `writes` where that is known."""
        head = self.row.head
        if may_use_reserve(entry.request):
            self.batch.use_reserve()
        index, acc, start = head.tail, head.acc, head.start
        self.batch.put(keys.entry(self.log, index), strip_block(raw) if self.witness else raw)
        if entry.kind == START:
            config = decode_config(entry.request, index, entry.term)
            self.batch.put(keys.config(self.log, index), encode_config(config))
            acc, start = entry.term, index
        if self.witness:
            change = (0, 0)
        else:
            writes = self._apply(self.state, entry, index) if writes is None else writes
            change = self._write_state(index, writes, keep_undo)
        # Made anew, not with `_replace`: this is where a publish spends its time.
        head = Head(head.promised, acc, head.floor, index + 1, head.commit, start, head.learning)
        row = self.row
        self.row = HeadRow(
            head, entry.stamped_ms, entry.chain, row.floor_chain, *_changed(row.state_sum, row.state_rows, change)
        )

    def _write_state(self, index: int, writes: Writes, keep_undo: bool) -> Change:
        """Returns how the sum over the state changed, by what was here: the primary may lack a row and not know."""
        prefix = keys.state(self.log, b"")
        before: list[tuple[bytes, bytes | None]] = []
        total = rows = 0
        new = self._new_rows(prefix, writes)
        for row, body in writes[:new]:
            key = prefix + row
            raw = encode_row(body or b"", key)
            total += row_checksum(raw)
            self.batch.put(key, raw)
        rows += new
        before += [(row, None) for row, _ in writes[:new]]
        for row, body in writes[new:] if new else writes:
            key = prefix + row
            old = self.batch.get(key)
            before.append((row, old))
            if old is not None:
                total -= row_checksum(old)
                rows -= 1
            if body is None:
                self.batch.delete(key)
            else:
                raw = encode_row(body, key)
                total += row_checksum(raw)
                rows += 1
                self.batch.put(key, raw)
        if before and keep_undo:
            key = keys.undo(self.log, index)
            self.batch.put(key, encode_undo(before, key))
        return total, rows

    def _new_rows(self, prefix: bytes, writes: Writes) -> int:
        """Returns how many of the first writes put rows in ascending order where there are none: many new rows are
        looked for with one look at their range."""
        if len(writes) < _MANY:
            return 0
        last, count = b"", 0
        for row, body in writes:
            if body is None or row <= last:
                break
            last, count = row, count + 1
        span = (prefix + writes[0][0], prefix + last + b"\0")
        return count if count >= _MANY and next(iter(self.batch.scan(*span)), None) is None else 0

    def advance_commit(self, commit: int) -> None:
        """Moves the commit point up, never down, and drops pre-images and configurations that can no longer matter."""
        head, known = self.row.head, self.row.head.commit
        commit = min(commit, head.tail)
        if commit <= known:
            return
        for index in range(known, commit):
            self.batch.delete(keys.undo(self.log, index))
        head = Head(head.promised, head.acc, head.floor, head.tail, commit, head.start, head.learning)
        self.row = HeadRow(head, *self.row[1:])
        if known <= head.start < commit:
            stale = [key for key, _ in self.batch.scan(*keys.configs(self.log)) if keys.parse_index(key) < head.start]
            for key in stale:
                self.batch.delete(key)

    def cut(self, count: int) -> None:
        """Takes the tail back to `count` entries; what is dropped goes to quarantine."""
        if count < self.row.head.commit:
            raise SafetyAlarm(f"{self.domain}: log {self.log.hex()} would be cut to {count} below its commit point.")
        for index in range(self.row.head.tail - 1, count - 1, -1):
            key = keys.undo(self.log, index)
            raw_undo = self.batch.get(key)
            if raw_undo is not None:
                self._put_back(undo_of(raw_undo, key, self.domain))
                self.batch.delete(key)
            self._drop_entry(index)
        self._settle_after_cut(count)

    def _put_back(self, before: list[tuple[bytes, bytes | None]]) -> None:
        """Makes state rows what they were."""
        prefix = keys.state(self.log, b"")
        total = rows = 0
        for row, old in reversed(before):
            present = self.batch.get(prefix + row)
            if present is not None:
                total -= row_checksum(present)
                rows -= 1
            if old is None:
                self.batch.delete(prefix + row)
            else:
                total += row_checksum(old)
                rows += 1
                self.batch.put(prefix + row, old)
        state = _changed(self.row.state_sum, self.row.state_rows, (total, rows))
        self.row = self.row._replace(state_sum=state[0], state_rows=state[1])

    def _drop_entry(self, index: int) -> None:
        raw = self.raw_entry(index)
        term = decode_entry(raw, f"{self.domain}: entry {index}", verify_block=False).term
        self.batch.put(keys.quarantine(self.log, index, term), raw)
        self.batch.delete(keys.entry(self.log, index))
        self.batch.delete(keys.config(self.log, index))

    def _settle_after_cut(self, count: int) -> None:
        """Makes the head agree with the shorter log."""
        chain = self.chain_at(count)
        last = next(iter(self.batch.scan(*keys.configs(self.log), reverse=True)), None)
        if chain is None:
            raise Corrupt(f"{self.domain}: log {self.log.hex()} has no chain at {count}.", domain=self.domain)
        acc, start = EMPTY_HEAD.acc, -1
        if last is not None:
            config = decode_config_row(last[1], f"{self.domain}: configuration")
            acc, start = config.term, config.at
        self.set(tail=count, acc=acc, start=start)
        self.row = self.row._replace(chain=chain)

    def sweep(self, floor: int) -> int:
        """Removes entries before `floor`, all of which are committed; returns how many went."""
        head = self.row.head
        floor = min(floor, head.commit, max(head.start, 0))
        if floor <= head.floor:
            return 0
        chain = self.chain_at(floor)
        assert chain is not None
        for index in range(head.floor, floor):
            self.batch.delete(keys.entry(self.log, index))
        self.set(floor=floor)
        self.row = self.row._replace(floor_chain=chain)
        return floor - head.floor


def _changed(total: int, rows: int, change: Change) -> Change:
    return (total + change[0]) % (1 << 64), (rows + change[1]) % (1 << 64)


def sum_of(rows: Iterable[tuple[bytes, bytes]]) -> Change:
    """Returns what a head should say of these state rows: the sum of their checksums, and their number."""
    total = count = 0
    for _, raw in rows:
        total += row_checksum(raw)
        count += 1
    return total % (1 << 64), count


def wipe(batch: Batch, span: tuple[bytes, bytes], most: int) -> bool:
    """Deletes up to `most` keys of a range; returns whether any are left."""
    found: list[bytes] = []
    for key, _ in batch.scan(*span):
        if len(found) == most:
            break
        found.append(key)
    for key in found:
        batch.delete(key)
    return len(found) == most


__all__ = ["CTRL", "EMPTY", "Apply", "Draft", "Replica", "SafetyAlarm", "Writer", "wipe"]
