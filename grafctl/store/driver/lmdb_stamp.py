"""The stamp: what data.mdb looked like when the last one who may change it was done; it tells when something else did.

LMDB's pages bear no checksums, and a page that was changed from outside can hide rows or kill the process that reads
it. So whoever commits to LMDB notes the file's inode, size and times in writer.lock, behind the mark, and whoever opens
a file that looks otherwise has it checked first (`lmdb_probe.py`).

Promises
- A change by anything but a commit of ours is seen at the next opening and before the next commit, unless it leaves no
  trace in the file's inode: what rots under the file system is not seen here.
- A commit under way is told from a change by others: the stamp says so before the first byte is written.
- It costs a small commit nothing: those go to the journal.

When it fails
    Killed in the middle of a commit: the stamp says that work was under way and at which transaction. LMDB survives the
    death of a process, so such a file counts as it should be until the host is started again. After that, and where an
    error left the outcome of a commit unknown, it is checked. The stamp is not flushed; without it there is a check.
"""

from __future__ import annotations

import os
import struct
from zlib import crc32

from grafctl.errors import Unreachable
from grafctl.store.driver.gate import Gate
from grafctl.store.driver.journal_bytes import boot_id
from grafctl.typed import TYPE_CHECKING, Callable, NamedTuple

if TYPE_CHECKING:
    from types import TracebackType

    import lmdb

_STAMP = struct.Struct("<8s4Q2qI")  # boot, state, transaction, inode, size, changed, inode changed, crc of all these
_AT = 64  # in writer.lock, behind the mark
_AT_REST, _AT_WORK = 1, 2
_NOTHING = bytes(_STAMP.size)
_ATTEMPTS = 100


class Look(NamedTuple):
    """What the file system says of data.mdb."""

    inode: int
    size: int
    changed_ns: int
    inode_changed_ns: int


def look_at(file: int | bytes) -> Look:
    """Returns how a file looks, by its descriptor or name."""
    state = os.stat(file)
    return Look(state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


def _read(fd: int) -> tuple[bytes, int, int, Look] | None:
    raw = os.pread(fd, _STAMP.size, _AT)
    if len(raw) < _STAMP.size or crc32(raw[:-4]) != _STAMP.unpack(raw)[-1]:
        return None
    of_boot, state, transaction, *look, _ = _STAMP.unpack(raw)
    return of_boot, state, transaction, Look(*look)


def _write(fd: int, state: int, transaction: int, look: Look) -> None:
    body = _STAMP.pack(boot_id(), state, transaction, *look, 0)[:-4]
    try:
        os.pwrite(fd, body + struct.pack("<I", crc32(body)), _AT)
    except OSError:
        pass  # on a full disk, say: then the next opening checks the file


def is_expected(fd: int, file: int | bytes, transaction: Callable[[], int]) -> bool:
    """Returns whether a file is as the last commit left it, or a commit is under way.

    `transaction` reads the newest one from the meta pages. A stamp that changes meanwhile is read again.
    """
    for _ in range(_ATTEMPTS):
        stamp = _read(fd)
        if stamp is None:
            return False
        of_boot, state, number, look = stamp
        now = look_at(file)
        if state == _AT_REST:
            is_so = now == look
        else:
            is_so = (
                of_boot == boot_id() != bytes(8) and now.inode == look.inode and transaction() in (number, number + 1)
            )
        if is_so or _read(fd) == stamp:
            return is_so
    return False


def note(fd: int, look: Look) -> None:
    """Says that a file is as it should be; the caller holds the outer lock, or nobody else knows the file yet."""
    _write(fd, _AT_REST, 0, look)


class Work:
    """A block in which data.mdb is changed by its rightful writer, who holds the outer lock.

    Raises `Unreachable` where something else has changed it; the gate is closed then, so that it is opened anew.
    """

    __slots__ = ("_domain", "_env", "_fd", "_file", "_gate")

    def __init__(self, domain: str, gate: Gate, fd: int, file: int, env: lmdb.Environment) -> None:
        self._domain, self._gate, self._fd, self._file, self._env = domain, gate, fd, file, env

    def __enter__(self) -> None:
        if not self._gate.enter():
            raise Unreachable(self._domain, "its files are being replaced")
        try:
            transaction = self._env.info()["last_txnid"]
            is_ours = is_expected(self._fd, self._file, lambda: transaction)
            if is_ours:
                _write(self._fd, _AT_WORK, transaction, look_at(self._file))
        finally:
            self._gate.leave()
        if not is_ours:
            self._gate.close()
            raise Unreachable(self._domain, "something else has changed its files")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._gate.enter():
            try:
                note(self._fd, look_at(self._file))
            finally:
                self._gate.leave()
            return
        try:
            os.pwrite(self._fd, _NOTHING, _AT)  # the commit broke the handle: nobody knows what it left
        except OSError:
            pass
