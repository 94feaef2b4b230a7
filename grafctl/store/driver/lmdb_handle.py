"""A process's one handle to an LMDB file: the map, the journal, the outer lock, and what each of LMDB's errors means.

Promises
- Every transaction looks at `FAILED` and at the inodes of the files, so a drill or a replaced file is seen at once.
- A snapshot is LMDB's and what the journal lays over it; it is at least as new as the mark was before it began.
- A map that another process grew is taken over without a word; the readers' slots of dead processes are given back.

When it fails
    A handle of which LMDB says that it is broken is dropped: nothing begins in it any more, the last one out closes
    it, and the next use opens a new one. A forked child that touches an inherited handle gets an `AssertionError`
    before anything is read or written.
"""

from __future__ import annotations

import os

import lmdb

from grafctl.errors import Damaged, Full, OutcomeUnknown, Unreachable
from grafctl.store.driver import lmdb_files, lmdb_stamp
from grafctl.store.driver.gate import Gate
from grafctl.store.driver.journal import JOURNAL_KEY, Journal
from grafctl.store.driver.journal_bytes import Changes, encode_row, new_generation
from grafctl.store.driver.kill import point
from grafctl.store.driver.lmdb_files import IDENTITY_KEY, Files
from grafctl.store.driver.outer_lock import OuterLock
from grafctl.store.driver.overlay import Overlay
from grafctl.typed import Callable

IDLE_WAIT_S = 5.0  # how long a change of the map, or a new handle, waits for this process's own snapshots
ATTEMPTS = 3
SHED_BYTES = 24 << 20
SNAPSHOT_ATTEMPTS = 20  # each fails only if LMDB took in the journal within microseconds

DAMAGE = (
    lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError,
    lmdb.IncompatibleError, lmdb.PageFullError, lmdb.CursorFullError,
)  # fmt: skip
_MISUSE = (lmdb.BadValsizeError, lmdb.ReadonlyError, lmdb.InvalidParameterError)


def failed(domain: str) -> Unreachable:
    """Returns what a failed domain answers."""
    return Unreachable(domain, "failed by a drill, until it is restored")


class Handle:
    """One open LMDB environment of this process: engine, outer lock, and a gate that every transaction passes."""

    __slots__ = (
        "_forget", "bytes_mapped", "bytes_used", "data_fd", "domain", "driver", "env", "fd", "files", "gate",
        "identity", "journal", "journal_fd", "key", "map_bytes_max", "map_size", "map_wanted", "outer", "page_size",
        "pid", "references", "watch",
    )  # fmt: skip

    def __init__(
        self,
        domain: str,
        files: Files,
        key: tuple[int, int],
        fd: int,
        env: lmdb.Environment,
        forget: Callable[[Handle], None],
    ) -> None:
        self.domain, self.files, self.key, self.fd, self.env = domain, files, key, fd, env
        self._forget = forget  # called once, when the handle is closed
        self.watch = lmdb_files.Watch(files, key[1])
        self.gate = Gate(self._close)
        self.pid = os.getpid()
        self.references = 0
        self.page_size = env.stat()["psize"]
        self.map_size = env.info()["map_size"]
        self.bytes_used = (env.info()["last_pgno"] + 1) * self.page_size
        self.map_wanted = self.map_bytes_max = 0
        self.bytes_mapped = 0  # about how many bytes of the map were looked at since it was made
        env.reader_check()
        with env.begin() as txn:
            self.driver, self.identity = lmdb_files.decode_identity(domain, txn.get(IDENTITY_KEY))
        self.journal_fd = lmdb_files.open_journal(domain, files)
        self.journal = Journal(domain, self.journal_fd, fd)
        try:
            self.data_fd = lmdb_files.open_data(files)
            self.outer = OuterLock(domain, fd, lmdb_files.open_turnstile(files))
        except BaseException:
            os.close(self.journal_fd)
            raise

    def _close(self) -> None:
        self.env.close()
        os.close(self.data_fd)
        os.close(self.journal_fd)
        self.outer.close()
        self._forget(self)

    def drop(self) -> None:
        """Lets no new transaction begin; the engine is closed by whoever leaves last."""
        self.gate.close()

    def is_current(self) -> bool:
        """Returns whether the open file is still the domain's; raises `Unreachable` while the domain is failed."""
        if os.getpid() != self.pid:
            raise AssertionError("an LMDB environment was carried over a fork; open it after the fork, or spawn")
        if os.access(self.files.failed, os.F_OK):
            raise failed(self.domain)
        if self.watch.is_same():
            return True
        self.drop()
        return False

    def begin_read(self) -> tuple[lmdb.Transaction[memoryview], Overlay, int] | None:
        """Returns a snapshot whose end must `leave` the gate, what lies over it, and the last commit of that which is
        durable; None where a new handle is needed.

        Raises `Damaged` where the files lack a commit that was finished.
        """
        for _ in range(SNAPSHOT_ATTEMPTS):
            if not self.is_current() or not self.gate.enter():
                return None
            try:
                marked = self.journal.marked()  # before the snapshot, which is then at least as new
            finally:
                self.gate.leave()
            txn = self.begin(write=False)
            if txn is None:
                return None
            over = self._over(txn, marked)
            if over is not None:
                return txn, *over
            self.end(txn)
        self.drop()
        raise self.journal.lacks(marked or 0, self.journal.overlay.number if self.journal.overlay else 0)

    def _over(self, txn: lmdb.Transaction[memoryview], marked: int | None) -> tuple[Overlay, int] | None:
        """Returns what lies over a snapshot, and up to which commit it is durable."""
        try:
            overlay = self.journal.snapshot(txn.id(), lambda: bytes(txn.get(JOURNAL_KEY, b"")), marked)
            return None if overlay is None else (overlay, self.journal.flush(overlay))
        except OutcomeUnknown as error:
            self.end(txn)
            self.drop()
            raise Unreachable(self.domain, error.why) from error
        except BaseException:
            self.end(txn)
            raise

    def begin(self, *, write: bool) -> lmdb.Transaction[memoryview] | None:
        """Returns a transaction whose end must `leave` the gate; None where a new handle is needed first."""
        for attempt in range(ATTEMPTS):
            if not self.gate.enter():
                return None
            try:
                return self.env.begin(write=write, buffers=True)
            except lmdb.Error as error:
                self.gate.leave()
                self._recover(error, is_last=attempt == ATTEMPTS - 1)
            except BaseException:
                self.gate.leave()
                raise
        raise AssertionError("the last attempt raises")

    def _recover(self, error: lmdb.Error, *, is_last: bool) -> None:
        """Does what makes another attempt sensible, or raises."""
        if is_last:
            raise self.failure(error)
        if isinstance(error, lmdb.MapResizedError):
            self._set_map_size(0)
        elif isinstance(error, lmdb.ReadersFullError):
            self.env.reader_check()
        elif isinstance(error, lmdb.PanicError):
            self.drop()
        else:
            raise self.failure(error)

    def begin_write(self) -> Overlay | None:
        """Returns what lies over LMDB, with the outer lock held and what others wrote taken in.

        Also gives the map its room. Returns None where a new handle is needed first.
        """
        if self.map_wanted > self.map_size and not self.gate.is_closed:
            self.env.reader_check()  # because the snapshots of dead readers may be all that fills the map
            self._set_map_size(self.map_wanted)
        if not self.is_current() or not self.gate.enter():
            return None
        try:
            marked = self.journal.marked()
            overlay = self.journal.overlay
            is_over = overlay is not None and overlay.base == self.env.info()["last_txnid"]
        finally:
            self.gate.leave()
        if not is_over:
            overlay = self._overlay_of_writer()
        if overlay is None or not self.gate.enter():
            return None
        try:
            self.journal.settle(overlay, marked)
        except (Damaged, OutcomeUnknown):
            self.drop()
            raise
        finally:
            self.gate.leave()
        return overlay

    def _overlay_of_writer(self) -> Overlay | None:
        txn = self.begin(write=False)
        if txn is None:
            return None
        try:
            overlay = self.journal.snapshot(txn.id(), lambda: bytes(txn.get(JOURNAL_KEY, b"")), 0)
        finally:
            self.end(txn)
        assert overlay is not None, "nobody else commits while we hold the outer lock"
        return overlay

    def commit(self, overlay: Overlay, changes: Changes, *, reserved: bool = False) -> Overlay:
        """Writes changes with the outer lock held and returns what they lie in now; raises a `DriverError`.

        They are durable and seen by all when `finish` returns. With `reserved` the end of the journal may be used,
        where LMDB has no room.
        """
        if self._append(overlay, changes, reserved=False):
            return overlay
        try:
            with lmdb_stamp.Work(self.domain, self.gate, self.fd, self.data_fd, self.env):
                return self._fold(overlay, changes)
        except Full:
            if reserved and self._append(overlay, changes, reserved=True):
                return overlay
            raise

    def _append(self, overlay: Overlay, changes: Changes, *, reserved: bool) -> bool:
        """Writes changes to the journal, or returns False where they do not go there."""
        if not self.gate.enter():
            raise Unreachable(self.domain, "its files are being replaced")
        try:
            has_room = self.journal.has_room(overlay, changes, reserved=reserved)
            if has_room:
                self.journal.append(overlay, changes)
            return has_room
        except OutcomeUnknown:
            self.drop()
            raise
        finally:
            self.gate.leave()

    def finish(self, overlay: Overlay) -> None:
        """Makes durable what a write block saw or wrote, without a lock; raises `OutcomeUnknown`."""
        if self.journal.durable >= overlay.number:
            return
        if not self.gate.enter():
            raise OutcomeUnknown(self.domain, "its files are being replaced")
        try:
            self.journal.flush(overlay)
            point("driver.commit.after")
            self.journal.mark()
            self._still_there()
        except OutcomeUnknown:
            self.drop()
            raise
        finally:
            self.gate.leave()

    def _fold(self, overlay: Overlay, changes: Changes) -> Overlay:
        """Commits to LMDB itself, with everything that the journal holds."""
        txn = self.begin(write=True)
        if txn is None:
            raise Unreachable(self.domain, "its files are being replaced")
        generation, number = new_generation(), overlay.number + 1
        try:
            self._put_all(txn, [*overlay.newest(), *changes.items(), (JOURNAL_KEY, encode_row(generation, number))])
            base = txn.id()
        except BaseException:
            self.end(txn)
            raise
        try:
            try:
                txn.commit()
            except lmdb.Error as error:
                raise self.commit_failure(error) from error
            point("driver.commit.after")
            self.journal.renew(base, generation, number)
            self.journal.mark()
            self._still_there()
            self._lengthen()
            assert self.journal.overlay is not None
            return self.journal.overlay
        except OutcomeUnknown:
            self.drop()
            raise
        finally:
            self.gate.leave()
            if self.bytes_mapped > SHED_BYTES:
                self._shed()

    def _put_all(self, txn: lmdb.Transaction[memoryview], changes: list[tuple[bytes, bytes | None]]) -> None:
        try:
            for key, value in changes:
                if value is None:
                    txn.delete(key)
                else:
                    txn.put(key, value)
        except lmdb.Error as error:
            room = sum(len(value) for _, value in changes if value is not None)
            raise self.failure(error, room=room) from error

    def end(self, txn: lmdb.Transaction[memoryview]) -> None:
        """Ends a transaction without a commit, and leaves the gate."""
        assert os.getpid() == self.pid, "a transaction was carried over a fork"
        try:
            txn.abort()
        finally:
            self.gate.leave()
        if self.bytes_mapped > SHED_BYTES:
            self._shed()

    def _shed(self) -> None:
        """Maps the file anew, so that pages which were looked at no longer count as this process's memory.

        It is put off while other threads have snapshots.
        """
        try:
            if self.gate.alone(lambda: self.env.set_mapsize(self.map_size), 0):
                self.bytes_mapped = 0
        except (lmdb.Error, MemoryError, OSError):
            self.drop()  # since LMDB unmaps before it maps

    def _still_there(self) -> None:
        """Makes sure that what was committed is where the next process will look."""
        if not self.watch.is_same():
            raise OutcomeUnknown(self.domain, "its files were moved or replaced during the commit")

    def _lengthen(self) -> None:
        needed = (self.env.info()["last_pgno"] + 1) * self.page_size
        grown, self.bytes_used = needed - self.bytes_used, needed
        self.bytes_mapped += grown  # since the tree's pages lie among them, and the kernel maps neighbours too
        if os.lseek(self.data_fd, 0, os.SEEK_END) < needed:
            lmdb_files.extend(self.files, needed)

    def failure(self, error: lmdb.Error, *, room: int = 0) -> Exception:
        """Returns what an error before the commit means: in every case nothing was written."""
        why = str(error)
        if isinstance(error, lmdb.MapFullError):
            return Full(self.domain, why, grown=self._want_room(room))
        if error.code in lmdb_files.DISK_FULL_CODES or isinstance(error, (lmdb.DiskError, lmdb.TxnFullError)):
            return Full(self.domain, why)
        if isinstance(error, _MISUSE) or "closed/deleted/dropped" in why:
            return AssertionError(why)
        self.drop()
        return Damaged(self.domain, why) if isinstance(error, DAMAGE) else Unreachable(self.domain, why)

    def commit_failure(self, error: lmdb.Error) -> Exception:
        """Returns what an error of the commit means; a full disk is sure only while LMDB trusts its meta page."""
        if isinstance(error, (lmdb.MapFullError, lmdb.TxnFullError)):
            return self.failure(error)
        is_full = isinstance(error, lmdb.DiskError) or error.code in lmdb_files.DISK_FULL_CODES
        if error.code == lmdb_files.EIO:  # which LMDB also says of a write that was cut short by the end of the disk
            is_full = lmdb_files.is_disk_full(self.files)
        if is_full and self._is_sane():
            return Full(self.domain, str(error))
        self.drop()
        return OutcomeUnknown(self.domain, str(error))

    def _is_sane(self) -> bool:
        """Returns whether no write of a meta page failed: then no meta page was written, since it is the last step."""
        try:
            self.env.begin().abort()
        except lmdb.Error:
            return False
        return True

    def _want_room(self, room: int) -> bool:
        wanted = 2 * self.map_size
        while wanted < self.map_size + 2 * room:
            wanted *= 2
        self.map_wanted = min(wanted, self.map_bytes_max)
        return self.map_wanted > self.map_size

    def _set_map_size(self, size: int) -> None:
        """Changes the map, 0 for what the file says, as soon as this process has no transaction in it."""

        def change() -> None:
            self.env.set_mapsize(size)
            self.map_size = self.env.info()["map_size"]

        try:
            is_done = self.gate.alone(change, IDLE_WAIT_S)
        except (lmdb.Error, MemoryError, OSError) as error:
            self.drop()  # since LMDB unmaps before it maps
            raise Full(self.domain, f"the map cannot grow: {error}") from error
        if not is_done:
            raise Unreachable(self.domain, "snapshots of this process keep the map from growing")
