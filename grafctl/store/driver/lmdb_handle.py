"""A process's one handle to an LMDB file: opening, the map, the outer lock, and what each of LMDB's errors means.

Promises
- A process has at most one handle to a file, however many environments ask for it, because LMDB forbids two.
- Before LMDB sees a file, its length, its meta pages and its lock file are checked; before anybody sees the handle, its
  identity and its age are.
- Every transaction looks at `FAILED` and at the inode of data.mdb, so a drill or a replaced file is seen at once.
- A map that another process grew is taken over without a word; the readers' slots of dead processes are given back.

When it fails
    A handle of which LMDB says that it is broken is dropped: nothing begins in it any more, the last one out closes
    it, and the next use opens a new one. A forked child that touches an inherited handle gets an `AssertionError`
    before anything is read or written.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import lmdb

from grafctl import clock
from grafctl.errors import Damaged, Full, OutcomeUnknown, Unreachable
from grafctl.store.driver import lmdb_files
from grafctl.store.driver.contract import Identity
from grafctl.store.driver.gate import Gate
from grafctl.store.driver.lmdb_files import IDENTITY_KEY, Files
from grafctl.store.driver.outer_lock import OuterLock

IDLE_WAIT_S = 5.0  # how long a change of the map, or a new handle, waits for this process's own snapshots
ATTEMPTS = 3

_DAMAGE = (
    lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError,
    lmdb.IncompatibleError, lmdb.PageFullError, lmdb.CursorFullError,
)  # fmt: skip
_MISUSE = (lmdb.BadValsizeError, lmdb.ReadonlyError, lmdb.InvalidParameterError)


class Handle:
    """One open LMDB environment of this process: engine, outer lock, and a gate that every transaction passes."""

    __slots__ = (
        "bytes_used", "data_fd", "domain", "driver", "env", "fd", "files", "gate", "identity", "key", "map_bytes_max",
        "map_size", "map_wanted", "outer", "page_size", "pid", "references", "watch",
    )  # fmt: skip

    def __init__(self, domain: str, files: Files, key: tuple[int, int], fd: int, env: lmdb.Environment) -> None:
        self.domain, self.files, self.key, self.fd, self.env = domain, files, key, fd, env
        self.watch = lmdb_files.Watch(files, key[1])
        self.gate = Gate(self._close)
        self.pid = os.getpid()
        self.references = 0
        self.page_size = env.stat()["psize"]
        self.map_size = env.info()["map_size"]
        self.bytes_used = (env.info()["last_pgno"] + 1) * self.page_size
        self.map_wanted = self.map_bytes_max = 0
        self.driver, self.identity = self._check_content()
        self.data_fd = lmdb_files.open_data(files)
        self.outer = OuterLock(domain, fd, lmdb_files.open_turnstile(files))

    def _check_content(self) -> tuple[str, Identity]:
        mark = lmdb_files.read_mark(self.fd)  # before the look at LMDB: another process may be committing
        self.check_mark(self.env.info()["last_txnid"], mark)
        self.env.reader_check()
        with self.env.begin() as txn:
            return lmdb_files.decode_identity(self.domain, txn.get(IDENTITY_KEY))

    def _close(self) -> None:
        self.env.close()
        os.close(self.data_fd)
        self.outer.close()
        with _registry_lock:
            _registry.pop(self.key, None)

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

    def begin(self, *, write: bool) -> lmdb.Transaction[memoryview] | None:
        """Returns a transaction whose end must `leave` the gate; None where a new handle is needed first."""
        for attempt in range(ATTEMPTS):
            if not self.is_current() or not self.gate.enter():
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

    def begin_write(self) -> lmdb.Transaction[memoryview] | None:
        """Like `begin`, with the outer lock held: also gives the map its room and compares the file with the mark."""
        if self.map_wanted > self.map_size and not self.gate.is_closed:
            self.env.reader_check()  # because the snapshots of dead readers may be all that fills the map
            self._set_map_size(self.map_wanted)
        txn = self.begin(write=True)
        if txn is not None:
            try:
                self.check_mark(txn.id() - 1, lmdb_files.read_mark(self.fd))
            except BaseException:
                self.end(txn)
                raise
        return txn

    def end(self, txn: lmdb.Transaction[memoryview]) -> None:
        """Ends a transaction without a commit, and leaves the gate."""
        assert os.getpid() == self.pid, "a transaction was carried over a fork"
        try:
            txn.abort()
        finally:
            self.gate.leave()

    def check_mark(self, last_txnid: int, mark: int) -> None:
        """Raises `Damaged` where the file's last commit is older than one that this host finished."""
        if last_txnid < mark:
            why = f"an older copy was put back: its last commit is {last_txnid}, and {mark} was seen on this host"
            raise Damaged(self.domain, why)

    def committed(self, txnid: int) -> None:
        """Writes the mark, and makes sure that what was committed is where the next process will look."""
        lmdb_files.write_mark(self.fd, txnid)
        if not self.watch.is_same():
            self.drop()
            raise OutcomeUnknown(self.domain, "data.mdb was moved or replaced during the commit")
        needed = (self.env.info()["last_pgno"] + 1) * self.page_size
        length = os.lseek(self.data_fd, 0, os.SEEK_END)
        grown, self.bytes_used = needed - self.bytes_used, needed
        if length < needed + lmdb_files.FILL_BYTES_LEFT:
            lmdb_files.extend(self.files, length, needed, is_bulk=grown > lmdb_files.BULK_BYTES)

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
        return Damaged(self.domain, why) if isinstance(error, _DAMAGE) else Unreachable(self.domain, why)

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


_registry: dict[tuple[int, int], Handle] = {}
_registry_lock = threading.RLock()


def _after_fork() -> None:
    global _registry_lock
    _registry_lock = threading.RLock()  # because another thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork)


def failed(domain: str) -> Unreachable:
    """Returns what a failed domain answers."""
    return Unreachable(domain, "failed by a drill, until it is restored")


def acquire(path: str, expected: Identity, map_bytes: int, map_bytes_max: int) -> Handle:
    """Returns this process's handle to the environment at `path`, opened now where there is none yet."""
    files = Files(os.path.realpath(path))
    if os.access(files.failed, os.F_OK):
        raise failed(expected.domain)
    deadline = 0.0
    while True:
        with _registry_lock:
            handle = _registry.get(lmdb_files.data_key(expected.domain, files))
            if handle is None:
                handle = _open_handle(expected.domain, files, map_bytes, map_bytes_max)
                _registry[handle.key] = handle
            assert handle.pid == os.getpid(), "the parent of this fork has the environment open"
            if not handle.gate.is_closed:
                return _retain(handle, expected)
        deadline = deadline or clock.monotonic_s() + IDLE_WAIT_S
        if clock.monotonic_s() > deadline:
            raise Unreachable(expected.domain, "snapshots of this process keep a broken handle open")
        clock.sleep(0.001)


def _retain(handle: Handle, expected: Identity) -> Handle:
    handle.references += 1
    try:
        lmdb_files.check_identity(expected, handle.driver, handle.identity)
    except BaseException:
        release(handle)
        raise
    return handle


def release(handle: Handle) -> None:
    """Counts one user less; with the last one the handle is dropped."""
    with _registry_lock:
        handle.references -= 1
        if handle.references == 0:
            handle.drop()


def _open_handle(domain: str, files: Files, map_bytes: int, map_bytes_max: int) -> Handle:
    key = lmdb_files.data_key(domain, files)
    meta = lmdb_files.read_meta(domain, files)
    fd, env = -1, None
    try:
        fd = lmdb_files.open_writer_lock(files)
        if meta.bytes_missing:
            _check_short_file(domain, files, fd)
        lmdb_files.prepare_lock_file(files)
        env = _open_engine(files, min(max(map_bytes, meta.map_size), map_bytes_max), meta.bytes_needed)
        if lmdb_files.data_key(domain, files) != key:
            raise Unreachable(domain, "data.mdb was replaced while it was opened")
        handle = Handle(domain, files, key, fd, env)
        handle.map_bytes_max = map_bytes_max
        return handle
    except BaseException as error:
        if env is not None:
            env.close()
        if fd >= 0:
            os.close(fd)
        if isinstance(error, lmdb.Error):
            raise (Damaged if isinstance(error, _DAMAGE) else Unreachable)(domain, str(error)) from error
        if isinstance(error, OSError):
            raise lmdb_files.driver_error(domain, error) from error
        raise


def _open_engine(files: Files, map_size: int, bytes_needed: int) -> lmdb.Environment:
    """Opens LMDB with the largest map that the process may have, which is all of it but under `ulimit -v`."""
    while True:
        try:
            return lmdb.open(
                files.env, map_size=map_size, max_readers=lmdb_files.MAX_READERS, max_spare_txns=2, create=False,
                lib_version=0,
            )  # fmt: skip
        except (lmdb.Error, MemoryError) as error:
            if not isinstance(error, (MemoryError, lmdb.MemoryError)) or map_size // 2 < bytes_needed:
                raise
            map_size //= 2


def _check_short_file(domain: str, files: Files, fd: int) -> None:
    """Raises `Damaged` where the pages that data.mdb lacks are in use.

    LMDB never writes pages that were freed in the transaction that made them, so a sound file may be shorter than its
    meta page says. A writer mends that after its commit; after one that died in between we walk the file and mend it.
    """
    lock = OuterLock(domain, fd)
    lock.take(IDLE_WAIT_S)
    try:
        meta = lmdb_files.read_meta(domain, files)
        if meta.bytes_missing:
            findings = structural_findings(Path(os.fsdecode(files.directory)))
            if findings:
                raise Damaged(domain, f"data.mdb lacks {meta.bytes_missing} bytes at its end: {findings[0]}")
            lmdb_files.extend(files, os.stat(files.data).st_size, meta.bytes_needed)
    finally:
        lock.give()


def structural_findings(path: Path) -> list[str]:
    """Returns what an offline walk of the pages finds wrong; no writer may be at work meanwhile."""
    from lmdb.verify import VerifyError, verify

    try:
        findings: list[object] = verify(os.fsdecode(Files(str(path)).data))  # type: ignore[no-untyped-call]
        return [str(finding) for finding in findings]
    except (VerifyError, OSError) as error:
        return [str(error)]
