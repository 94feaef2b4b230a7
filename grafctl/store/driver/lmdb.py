"""The driver on LMDB: one directory, one environment, one unnamed database for each failure domain.

Promises
- One durable commit is one write with O_DSYNC to the journal, or LMDB's own: pages, flush, meta page, flush. Nothing
  here weakens either by an option.
- The outer lock (`writer.lock`) is taken before anything is written: it has a deadline, it dies with its holder, and it
  holds even where something made the process lose LMDB's own lock.
- A map that is too small grows: the block that met the limit raises `Full` with `grown` set at its end, having written
  nothing, and may be run again at once.

When it fails
    Killed before the commit: nothing is there. Killed after it: all is there, and the mark is one behind. An error in
    the commit itself leaves the outcome unknown; the handle is dropped and the next use opens a new one. A signal that
    hits a thread between LMDB's begin and its block can leave a snapshot open until the process ends.
"""

from __future__ import annotations

import os
import threading
from functools import lru_cache

import lmdb

from grafctl.errors import Unreachable
from grafctl.store.driver import lmdb_damage, lmdb_directory, lmdb_files
from grafctl.store.driver.contract import Identity
from grafctl.store.driver.journal import JOURNAL_BYTES
from grafctl.store.driver.lmdb_blocks import Reading, Writing
from grafctl.store.driver.lmdb_files import Files
from grafctl.store.driver.lmdb_handle import Handle
from grafctl.store.driver.lmdb_open import acquire, release, structural_findings
from grafctl.store.driver.private import mode_in

MAP_BYTES = 1 << 40  # address space, not disk: the file is as long as its pages
MAP_BYTES_MAX = 1 << 46

__all__ = ["LmdbDriver", "LmdbEnvironment", "structural_findings"]


class LmdbEnvironment:
    """One domain's environment, opened at its first use; several of them share one handle."""

    __slots__ = ("_handle", "_is_closed", "_lock", "_map_bytes", "_map_bytes_max", "_path", "identity_known", "trusts")

    def __init__(self, path: str | os.PathLike[str], identity: Identity, map_bytes: int, map_bytes_max: int) -> None:
        self._path = path
        self.identity_known = identity
        self._map_bytes = map_bytes
        self._map_bytes_max = map_bytes_max
        self._handle: Handle | None = None
        self._is_closed = False
        self._lock = threading.Lock()
        self.trusts = False  # the probe's own: opens what is marked as damaged, or was changed by something else

    @property
    def identity(self) -> Identity:
        if not self.identity_known.incarnation:
            self.handle()
        return self.identity_known

    def read(self) -> Reading:
        return Reading(self)

    def write(self, *, wait_s: float) -> Writing:
        return Writing(self, wait_s)

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
            sizes = (self._map_bytes, self._map_bytes_max)
            self._handle = acquire(str(self._path), self.identity_known, *sizes, trusts=self.trusts)
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

    def reserve(self) -> tuple[int, int]:
        """Returns how many bytes are left of the reserve for what frees or protects, and how many there were.

        Call it inside a read block, so that what others wrote is known.
        """
        journal = self.handle().journal
        position = journal.overlay.position if journal.overlay is not None else 0
        return journal.size - max(position, journal.ordinary), journal.size - journal.ordinary

    def unsteady(self) -> Unreachable:
        """Returns what to say of files that are replaced faster than they can be opened."""
        return Unreachable(self.identity_known.domain, "its files are being replaced")


@lru_cache(maxsize=1024)
def _failed_file(path: str) -> bytes:
    """Every publish asks whether a domain is failed."""
    return Files(path).failed


class LmdbDriver:
    """Makes and opens LMDB environments; the sizes are for tests."""

    name = lmdb_files.DRIVER_NAME

    def __init__(
        self, *, map_size: int = MAP_BYTES, map_size_max: int = MAP_BYTES_MAX, journal_size: int = JOURNAL_BYTES
    ) -> None:
        self._map_size = map_size
        self._map_size_max = map_size_max
        self._journal_size = journal_size

    def create(self, path: str | os.PathLike[str], identity: Identity) -> None:
        lmdb_directory.create(str(path), identity, self._write_first, self._journal_size)

    def _write_first(self, files: Files, rows: dict[bytes, bytes]) -> None:
        env = None
        try:
            env = lmdb.open(
                files.env, map_size=self._map_size, max_readers=lmdb_files.MAX_READERS, create=True, lib_version=0,
                mode=mode_in(files.env),
            )  # fmt: skip
            with env.begin(write=True) as txn:
                for key, value in rows.items():
                    txn.put(key, value)
        except lmdb.Error as error:
            raise OSError(error.code, str(error)) from error
        finally:
            if env is not None:
                env.close()

    def open(self, path: str | os.PathLike[str], identity: Identity) -> LmdbEnvironment:
        return LmdbEnvironment(path, identity, self._map_size, self._map_size_max)

    def fail(self, path: str | os.PathLike[str]) -> None:
        lmdb_directory.fail(Files(str(path)))

    def restore(self, path: str | os.PathLike[str]) -> None:
        lmdb_directory.restore(Files(str(path)))

    def identity_of(self, path: str | os.PathLike[str]) -> Identity | None:
        from grafctl.store.driver.lmdb_identity import identity_of  # because it is hardly ever needed

        return identity_of(Files(str(path)))

    def damage(self, path: str | os.PathLike[str]) -> str | None:
        found = lmdb_damage.marked(Files(str(path)))
        return None if found is None else found["what"]

    def check(self, path: str | os.PathLike[str], identity: Identity) -> None:
        from grafctl.store.driver.lmdb_probe import probe

        files = Files(os.path.realpath(path))
        if not os.path.lexists(files.data):
            raise lmdb_files.missing(identity.domain, files)
        probe(identity.domain, files, identity, None, always=True)

    def absolve(self, path: str | os.PathLike[str], identity: Identity) -> None:
        self.check(path, identity)
        lmdb_damage.unmark(identity.domain, Files(str(path)))

    def is_failed(self, path: str | os.PathLike[str]) -> bool:
        return os.access(_failed_file(os.fspath(path)), os.F_OK)

    def destroy(self, path: str | os.PathLike[str]) -> None:
        lmdb_directory.destroy(Files(str(path)))

    def set_aside(self, path: str | os.PathLike[str], label: str) -> str | None:
        return lmdb_directory.set_aside(Files(str(path)), label)

    def remains(self, path: str | os.PathLike[str]) -> list[str]:
        return lmdb_directory.remains(Files(str(path)))

    def discard(self, path: str | os.PathLike[str]) -> None:
        lmdb_directory.discard(Files(str(path)))
