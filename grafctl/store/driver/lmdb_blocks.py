"""The read and write blocks of an LMDB domain: one snapshot or one commit each.

Promises
- A view is LMDB's snapshot with the journal's rows laid over it; the rows that the driver keeps for itself are never
  seen nor changed.
- A write block collects its changes and commits them at its end, to the journal or to LMDB; until then nothing of them
  is on the disk. LMDB is asked only for rows that neither the block nor the journal has.
- What is returned is copied: it outlives the block.

When it fails
    A block that raises leaves nothing. Killed in the commit: see `journal.py`.
"""

from __future__ import annotations

import os
import threading
from itertools import chain

import lmdb

from grafctl import clock
from grafctl.store.driver import lmdb_damage, signals
from grafctl.store.driver.contract import KEY_BYTES_MAX, VALUE_BYTES_MAX
from grafctl.store.driver.journal import JOURNAL_KEY
from grafctl.store.driver.kill import point
from grafctl.store.driver.lmdb_files import IDENTITY_KEY
from grafctl.store.driver.lmdb_handle import ATTEMPTS, Handle
from grafctl.store.driver.overlay import Overlay, ended, overlaid
from grafctl.typed import TYPE_CHECKING, Iterator, Self

if TYPE_CHECKING:
    from types import TracebackType

    from grafctl.store.driver.lmdb import LmdbEnvironment

OWN_KEYS = (IDENTITY_KEY, JOURNAL_KEY)
assert tuple(sorted(OWN_KEYS)) == OWN_KEYS, OWN_KEYS

OVER = ended()
Rows = Iterator[tuple[bytes, bytes]]


class Reading:
    """A read block and its `View`: one object, because a block must cost next to nothing."""

    __slots__ = ("_environment", "_handle", "_number", "_overlay", "_txn")
    _handle: Handle
    _txn: lmdb.Transaction[memoryview]
    _overlay: Overlay
    _number: int

    def __init__(self, environment: LmdbEnvironment) -> None:
        self._environment = environment

    def __enter__(self) -> Self:
        for _ in range(ATTEMPTS):
            self._handle = self._environment.handle()
            begun = self._handle.begin_read()
            if begun is not None:
                self._txn, self._overlay, self._number = begun
                return self
        raise self._environment.unsteady()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._overlay = OVER
        self._handle.end(self._txn)
        if kind is not None:
            _note(self._handle, error)

    def get(self, key: bytes, size: int | None = None) -> bytes | None:
        value = self._overlay.get(key, self._number)
        if isinstance(value, bytes):
            return value if size is None else value[:size]
        return None if value is None else below(self._handle, self._txn, key, size)

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Rows:
        rows = scan_below(self._handle, self._txn, start, stop, reverse=reverse)
        over = self._overlay.span(start, stop, self._number)
        return overlaid(rows, over, reverse=reverse) if over else rows


def _note(handle: Handle, error: BaseException | None) -> None:
    """Marks the domain where a block ends because its bytes are wrong."""
    lmdb_damage.note(handle.domain, handle.files, handle.identity.incarnation, error)


def below(handle: Handle, txn: lmdb.Transaction[memoryview], key: bytes, size: int | None) -> bytes | None:
    """Returns a value, or its first bytes, from LMDB's own snapshot."""
    try:
        value = txn.get(key)
    except lmdb.Error as error:
        raise handle.failure(error) from error
    if value is None or key in OWN_KEYS:
        return None
    handle.bytes_mapped += len(value) if size is None else size
    return bytes(value if size is None else value[:size])


def scan_below(handle: Handle, txn: lmdb.Transaction[memoryview], start: bytes, stop: bytes, *, reverse: bool) -> Rows:
    """Yields a range of LMDB's own snapshot, without the rows that the driver keeps for itself."""
    spans, at = [], start
    for own in OWN_KEYS:
        if at <= own < stop:
            spans.append((at, own))
            at = own + b"\0"
    spans.append((at, stop))
    scan = _scan_back if reverse else _scan
    if len(spans) == 1:
        return scan(handle, txn, start, stop)
    return chain.from_iterable(scan(handle, txn, *span) for span in (reversed(spans) if reverse else spans))


def _scan(handle: Handle, txn: lmdb.Transaction[memoryview], start: bytes, stop: bytes) -> Rows:
    try:
        cursor = txn.cursor()
        if cursor.set_range(start[:KEY_BYTES_MAX]):  # an empty key means the first
            for raw, value in cursor.iternext():
                key = bytes(raw)
                if key >= stop:
                    return
                if key >= start:  # a start that is too long for a key was cut
                    yield key, bytes(value)
    except lmdb.Error as error:
        raise handle.failure(error) from error


def _scan_back(handle: Handle, txn: lmdb.Transaction[memoryview], start: bytes, stop: bytes) -> Rows:
    try:
        cursor = txn.cursor()
        if cursor.set_range(stop[:KEY_BYTES_MAX]) or cursor.last():
            for raw, value in cursor.iterprev():
                key = bytes(raw)
                if key < start:
                    return
                if key < stop:
                    yield key, bytes(value)
    except lmdb.Error as error:
        raise handle.failure(error) from error


class Writing:
    """A write block and its `Batch`."""

    __slots__ = (
        *("_changes", "_environment", "_handle", "_is_holding", "_overlay", "_reserved", "_thread", "_txn", "_wait_s"),
    )
    _handle: Handle
    _overlay: Overlay
    _txn: lmdb.Transaction[memoryview] | None

    def __init__(self, environment: LmdbEnvironment, wait_s: float) -> None:
        self._environment = environment
        self._wait_s = wait_s
        self._reserved = False
        self._changes: dict[bytes, bytes | None] = {}

    def __enter__(self) -> Self:
        deadline = clock.monotonic_s() + self._wait_s
        for _ in range(ATTEMPTS):
            self._handle = handle = self._environment.handle()
            is_taken = handle.outer.take_at_once()
            if not is_taken and handle.is_current():  # asked here so that nobody waits for a failed domain's lock
                is_taken = handle.outer.take(deadline - clock.monotonic_s())
            if is_taken and self._begin(handle):
                return self
        raise self._environment.unsteady()

    def _begin(self, handle: Handle) -> bool:
        """Begins with the outer lock held and signals on hold; gives both back where it did not begin."""
        is_begun = self._is_holding = False
        try:
            self._is_holding = signals.hold()
            overlay = handle.begin_write()
            if overlay is not None:
                self._overlay, self._txn = overlay, None
                self._thread = threading.get_ident()
                is_begun = True
        finally:
            if not is_begun:
                self._give_back()
        return is_begun

    def _give_back(self) -> None:
        try:
            self._handle.outer.give()
        finally:
            if self._is_holding:
                signals.release()  # last, because it raises what it held back

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert os.getpid() == self._handle.pid, "a write block was carried over a fork"
        assert threading.get_ident() == self._thread, "a write block ends in the thread that opened it"
        try:
            try:
                if self._txn is not None:
                    self._handle.end(self._txn)
                if kind is None:
                    point("driver.commit.before")
                    self._commit()
                else:
                    _note(self._handle, error)
            finally:
                self._handle.outer.give()
            if kind is None:
                self._handle.finish(self._overlay)  # without the lock, so that others write while we wait for the disk
        finally:
            self._overlay, self._changes = OVER, {}
            if self._is_holding:
                signals.release()

    def _commit(self) -> None:
        if self._changes:
            self._overlay = self._handle.commit(self._overlay, self._changes, reserved=self._reserved)
        else:
            point("driver.commit.after")  # so that each block passes both points

    def _beneath(self) -> lmdb.Transaction[memoryview]:
        """Returns the snapshot under the journal, begun when it is first asked for; nobody else can commit now."""
        if self._txn is None:
            self._txn = self._handle.begin(write=False)
            if self._txn is None:
                raise self._environment.unsteady()
        return self._txn

    def get(self, key: bytes, size: int | None = None) -> bytes | None:
        value: bytes | None
        if key in self._changes:
            value = self._changes[key]
        else:
            version = self._overlay.rows.get(key)
            if version is None:
                return below(self._handle, self._beneath(), key, size)
            value = version[1]
        return value if size is None or value is None else value[:size]

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Rows:
        rows = scan_below(self._handle, self._beneath(), start, stop, reverse=reverse)
        over = self._overlay.span(start, stop, self._overlay.number)
        if ours := [key for key in self._changes if start <= key < stop]:
            over |= {key: self._changes[key] for key in ours}
            over = {key: over[key] for key in sorted(over)}
        return overlaid(rows, over, reverse=reverse) if over else rows

    def use_reserve(self) -> None:
        self._reserved = True

    def put(self, key: bytes, value: bytes) -> None:
        assert 0 < len(key) <= KEY_BYTES_MAX and key not in OWN_KEYS, key
        assert len(value) <= VALUE_BYTES_MAX, len(value)
        assert self._overlay is not OVER, "this block is over"
        self._changes[key] = value

    def delete(self, key: bytes) -> bool:
        assert 0 < len(key) <= KEY_BYTES_MAX and key not in OWN_KEYS, key
        if self.get(key, 0) is None:
            return False
        self._changes[key] = None
        return True
