"""Opening an LMDB domain's files, once in a process, and what is checked before.

Promises
- A process has at most one handle to a file, however many environments ask for it, because LMDB forbids two.
- Before LMDB sees a file, its length, its meta pages and its lock file are checked; before anybody sees the handle, its
  identity is.
- A file that something else has changed, or that a process died reading, is probed by a child first (`lmdb_probe.py`);
  one in which damage was found is not opened at all.

When it fails
    What was opened is closed again, and nothing is left in the registry.
"""

from __future__ import annotations

import os
import threading

import lmdb

from grafctl import clock
from grafctl.errors import Damaged, Unreachable
from grafctl.store.driver import lmdb_damage, lmdb_files, lmdb_stamp
from grafctl.store.driver.contract import Identity
from grafctl.store.driver.lmdb_files import Files, Meta
from grafctl.store.driver.lmdb_handle import DAMAGE, IDLE_WAIT_S, Handle, failed
from grafctl.store.driver.outer_lock import OuterLock
from grafctl.store.driver.private import require_files

SUSPECT_BYTES_MAX = 256 << 20  # a file this long is read through in a second or two after a reader died

_registry: dict[tuple[int, int], Handle] = {}
_registry_lock = threading.RLock()


def _after_fork() -> None:
    global _registry_lock
    _registry_lock = threading.RLock()  # because another thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork)


def acquire(path: str, expected: Identity, map_bytes: int, map_bytes_max: int, *, trusts: bool = False) -> Handle:
    """Returns this process's handle to the environment at `path`, opened now where there is none yet.

    With `trusts` it is opened as it is, damaged or not.
    """
    files = Files(os.path.realpath(path))
    if os.access(files.failed, os.F_OK):
        raise failed(expected.domain)
    if not trusts:
        lmdb_damage.refuse(expected.domain, files)
    deadline = 0.0
    while True:
        with _registry_lock:
            handle = _registry.get(lmdb_files.data_key(expected.domain, files))
            if handle is None:
                handle = _open_handle(expected, files, map_bytes, map_bytes_max, trusts)
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


def _forget(handle: Handle) -> None:
    with _registry_lock:
        _registry.pop(handle.key, None)


def release(handle: Handle) -> None:
    """Counts one user less; with the last one the handle is dropped."""
    with _registry_lock:
        handle.references -= 1
        if handle.references == 0:
            handle.drop()


def _open_handle(expected: Identity, files: Files, map_bytes: int, map_bytes_max: int, trusts: bool) -> Handle:
    domain = expected.domain
    require_files(domain, files.data, files.lock, files.journal, files.writer)
    key = lmdb_files.data_key(domain, files)
    meta = lmdb_files.read_meta(domain, files)
    fd, env = -1, None
    try:
        fd = lmdb_files.open_writer_lock(files)
        if meta.bytes_missing:
            _check_short_file(domain, files, fd)
        lmdb_files.prepare_lock_file(files)
        if not trusts:
            _check_suspect(expected, files, fd, meta)
        env = _open_engine(files, min(max(map_bytes, meta.map_size), map_bytes_max), meta.bytes_needed)
        if lmdb_files.data_key(domain, files) != key:
            raise Unreachable(domain, "data.mdb was replaced while it was opened")
        handle = Handle(domain, files, key, fd, env, _forget)
        handle.map_bytes_max = map_bytes_max
        handle.watch.heeds_damage = not trusts
        return handle
    except BaseException as error:
        if env is not None:
            env.close()
        if fd >= 0:
            os.close(fd)
        if isinstance(error, lmdb.Error):
            raise (Damaged if isinstance(error, DAMAGE) else Unreachable)(domain, str(error)) from error
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
            is_ours = lmdb_stamp.is_expected(fd, files.data, lambda: meta.transaction)
            findings = structural_findings(os.fsdecode(files.directory))
            if findings:
                raise Damaged(domain, f"data.mdb lacks {meta.bytes_missing} bytes at its end: {findings[0]}")
            lmdb_files.extend(files, meta.bytes_needed)
            if is_ours:
                lmdb_stamp.note(fd, lmdb_stamp.look_at(files.data))
    finally:
        lock.give()


def _check_suspect(expected: Identity, files: Files, fd: int, meta: Meta) -> None:
    """Has a file probed that something else than a commit has changed, or that a process died reading."""
    domain = expected.domain
    is_ours = lmdb_stamp.is_expected(fd, files.data, lambda: lmdb_files.read_meta(domain, files).transaction)
    is_small = meta.bytes_needed <= SUSPECT_BYTES_MAX
    if not is_ours or (is_small and lmdb_files.has_died_reading(files, meta.transaction)):
        from grafctl.store.driver import lmdb_probe  # because it is hardly ever needed

        lmdb_probe.probe(domain, files, expected, lmdb_probe.WAIT_S, always=is_ours)


def structural_findings(path: str | os.PathLike[str]) -> list[str]:
    """Returns what an offline walk of the pages finds wrong; no writer may be at work meanwhile.

    Raises `OSError` where they cannot be read: that may pass, and is no damage.
    """
    from lmdb.verify import VerifyError, verify

    try:
        findings: list[object] = verify(os.fsdecode(Files(str(path)).data))  # type: ignore[no-untyped-call]
        return [str(finding) for finding in findings]
    except VerifyError as error:
        return [str(error)]
