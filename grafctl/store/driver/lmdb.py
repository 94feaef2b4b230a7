"""The driver on LMDB: one directory, one environment, one unnamed database for each failure domain.

Promises
- One durable commit is LMDB's own: pages, flush, meta page, flush. Nothing here weakens it by an option.
- The outer lock (`writer.lock`) is taken before LMDB's: it has a deadline, it dies with its holder, and it holds even
  where something made the process lose LMDB's own lock.
- A map that is too small grows: the block that met the limit raises `Full` with `grown` set, having written nothing,
  and may be run again at once. A block that swallowed a failure of `put` raises it at its end instead of committing.
- What is returned is copied: it outlives the block. The row that holds the identity is never seen nor changed.

When it fails
    Killed before the commit: nothing is there. Killed after it: all is there, and the mark is one behind. An error in
    the commit itself leaves the outcome unknown; the handle is dropped and the next use opens a new one. A signal that
    hits a thread between LMDB's begin and its block can leave a snapshot open until the process ends.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

import lmdb

from grafctl import clock
from grafctl.errors import Unreachable
from grafctl.store.driver import lmdb_directory, lmdb_files, signals
from grafctl.store.driver.contract import KEY_BYTES_MAX, VALUE_BYTES_MAX, Identity
from grafctl.store.driver.kill import point
from grafctl.store.driver.lmdb_files import IDENTITY_KEY, Files
from grafctl.store.driver.lmdb_handle import ATTEMPTS, Handle, acquire, release, structural_findings

MAP_BYTES = 1 << 40  # address space, not disk: the file is as long as its pages
MAP_BYTES_MAX = 1 << 46

__all__ = ["LmdbDriver", "LmdbEnvironment", "structural_findings"]


class _Reading:
    """A read block and its `View`: one object, because a block must cost next to nothing."""

    __slots__ = ("_environment", "_handle", "_txn")
    _handle: Handle
    _txn: lmdb.Transaction[memoryview]

    def __init__(self, environment: LmdbEnvironment) -> None:
        self._environment = environment

    def __enter__(self) -> Self:
        for _ in range(ATTEMPTS):
            self._handle = self._environment.handle()
            txn = self._handle.begin(write=False)
            if txn is not None:
                self._txn = txn
                return self
        raise self._environment.unsteady()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.end(self._txn)

    def get(self, key: bytes, size: int | None = None) -> bytes | None:
        try:
            value = self._txn.get(key)
        except lmdb.Error as error:
            raise self._broken(error, 0) from error
        if value is None:
            return None
        return bytes(value if size is None else value[:size])

    def _broken(self, error: lmdb.Error, room: int) -> Exception:
        return self._handle.failure(error, room=room)

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        scan = self._scan_back if reverse else self._scan
        if not start <= IDENTITY_KEY < stop:
            return scan(start, stop)
        below, above = scan(start, IDENTITY_KEY), scan(IDENTITY_KEY + b"\0", stop)
        return chain(above, below) if reverse else chain(below, above)

    def _scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        try:
            cursor = self._txn.cursor()
            if cursor.set_range(start[:KEY_BYTES_MAX]):  # an empty key means the first
                for raw, value in cursor.iternext():
                    key = bytes(raw)
                    if key >= stop:
                        return
                    if key >= start:  # a start that is too long for a key was cut
                        yield key, bytes(value)
        except lmdb.Error as error:
            raise self._broken(error, 0) from error

    def _scan_back(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        try:
            cursor = self._txn.cursor()
            if cursor.set_range(stop[:KEY_BYTES_MAX]) or cursor.last():
                for raw, value in cursor.iterprev():
                    key = bytes(raw)
                    if key < start:
                        return
                    if key < stop:
                        yield key, bytes(value)
        except lmdb.Error as error:
            raise self._broken(error, 0) from error


class _Writing(_Reading):
    """A write block and its `Batch`."""

    __slots__ = ("_failure", "_is_changed", "_is_holding", "_thread", "_wait_s")

    def __init__(self, environment: LmdbEnvironment, wait_s: float) -> None:
        self._environment = environment
        self._wait_s = wait_s
        self._failure: Exception | None = None
        self._is_changed = False

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
            txn = handle.begin_write()
            if txn is not None:
                self._txn = txn
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
            if kind is None and self._failure is None:
                self._commit()
            else:
                self._handle.end(self._txn)
                if kind is None and self._failure is not None:
                    raise self._failure
        finally:
            self._give_back()

    def _commit(self) -> None:
        handle = self._handle
        try:
            txnid = self._txn.id() if self._is_changed else 0
            point("driver.commit.before")
            try:
                self._txn.commit()
            except lmdb.Error as error:
                raise handle.commit_failure(error) from error
            point("driver.commit.after")
            if txnid:  # because an empty transaction takes no number
                handle.committed(txnid)
        finally:
            handle.gate.leave()

    def put(self, key: bytes, value: bytes) -> None:
        assert 0 < len(key) <= KEY_BYTES_MAX and key != IDENTITY_KEY, key
        assert len(value) <= VALUE_BYTES_MAX, len(value)
        self._is_changed = True
        try:
            self._txn.put(key, value)
        except lmdb.Error as error:
            raise self._broken(error, len(value)) from error

    def delete(self, key: bytes) -> bool:
        assert 0 < len(key) <= KEY_BYTES_MAX and key != IDENTITY_KEY, key
        try:
            is_there = self._txn.delete(key)
        except lmdb.Error as error:
            raise self._broken(error, 0) from error
        self._is_changed |= is_there
        return is_there

    def _broken(self, error: lmdb.Error, room: int) -> Exception:
        """Keeps the first failure, so that a block which swallows it cannot end as if it had been written."""
        self._failure = self._failure or self._handle.failure(error, room=room)
        return self._failure


class LmdbEnvironment:
    """One domain's environment, opened at its first use; several of them share one handle."""

    __slots__ = ("_handle", "_is_closed", "_lock", "_map_bytes", "_map_bytes_max", "_path", "identity_known")

    def __init__(self, path: Path, identity: Identity, map_bytes: int, map_bytes_max: int) -> None:
        self._path = path
        self.identity_known = identity
        self._map_bytes = map_bytes
        self._map_bytes_max = map_bytes_max
        self._handle: Handle | None = None
        self._is_closed = False
        self._lock = threading.Lock()

    @property
    def identity(self) -> Identity:
        if not self.identity_known.incarnation:
            self.handle()
        return self.identity_known

    def read(self) -> _Reading:
        return _Reading(self)

    def write(self, *, wait_s: float) -> _Writing:
        return _Writing(self, wait_s)

    def close(self) -> None:
        with self._lock:
            handle, self._handle, self._is_closed = self._handle, None, True
        if handle is not None and handle.pid == os.getpid():
            release(handle)

    def handle(self) -> Handle:
        """Returns the open handle, opening it where there is none or the last one was dropped."""
        handle = self._handle
        if handle is not None and not handle.gate.is_closed:
            return handle
        with self._lock:
            if self._is_closed:
                raise Unreachable(self.identity_known.domain, "closed")
            self._handle = acquire(str(self._path), self.identity_known, self._map_bytes, self._map_bytes_max)
            self.identity_known = self._handle.identity  # from here on no other incarnation will do
            return self._handle

    def readers(self) -> list[tuple[int, int]]:
        """Returns (process, how many commits ago) of every snapshot that is open; what dead processes left is let go.

        Call it inside a read block, so that the environment stays open.
        """
        env = self.handle().env
        env.reader_check()
        last = env.info()["last_txnid"]
        rows = (line.split() for line in env.readers().splitlines()[1:])
        return [(int(row[0]), last - int(row[2])) for row in rows if len(row) == 3 and row[2].isdigit()]

    def unsteady(self) -> Unreachable:
        """Returns what to say of files that are replaced faster than they can be opened."""
        return Unreachable(self.identity_known.domain, "its files are being replaced")


@lru_cache(maxsize=1024)
def _failed_file(path: Path) -> bytes:
    """Every publish asks whether a domain is failed."""
    return Files(str(path)).failed


class LmdbDriver:
    """Makes and opens LMDB environments; the sizes of the map are for tests."""

    name = lmdb_files.DRIVER_NAME

    def __init__(self, *, map_size: int = MAP_BYTES, map_size_max: int = MAP_BYTES_MAX) -> None:
        self._map_size = map_size
        self._map_size_max = map_size_max

    def create(self, path: Path, identity: Identity) -> None:
        lmdb_directory.create(str(path), identity, self._write_first)

    def _write_first(self, files: Files, key: bytes, value: bytes) -> None:
        env = lmdb.open(
            files.env, map_size=self._map_size, max_readers=lmdb_files.MAX_READERS, create=True, lib_version=0
        )
        try:
            with env.begin(write=True) as txn:
                txn.put(key, value)
        except lmdb.Error as error:
            raise OSError(error.code, str(error)) from error
        finally:
            env.close()

    def open(self, path: Path, identity: Identity) -> LmdbEnvironment:
        return LmdbEnvironment(path, identity, self._map_size, self._map_size_max)

    def fail(self, path: Path) -> None:
        lmdb_directory.fail(Files(str(path)))

    def restore(self, path: Path) -> None:
        lmdb_directory.restore(Files(str(path)))

    def is_failed(self, path: Path) -> bool:
        return os.access(_failed_file(path), os.F_OK)

    def destroy(self, path: Path) -> None:
        lmdb_directory.destroy(Files(str(path)))
