"""Where audit records wait while the audit log has no quorum: `audit.spool` in the store's directory, a line each.

Promises
- `add` returns when the record is on stable storage; no record is lost between one who adds and one who takes.
- `take` hands every record to the caller, who appends it to the audit log, and removes a spool only when all of it has
  been handed over. Two processes never take the same spool at once; nobody waits for one that does or was stopped.
- A line that is not whole was never answered for, and is passed over; so is one that is damaged.

When it fails
    A process that dies while it takes leaves `audit.spool.…`, which the next one takes from the beginning: a record may
    be noted twice, and is never lost.
"""

from __future__ import annotations

import fcntl
import os

from grafctl import clock
from grafctl.errors import Corrupt
from grafctl.store import files
from grafctl.store.driver.private import open_file, sync_path
from grafctl.store.records import encode_json, parse_json
from grafctl.typed import TYPE_CHECKING, Any, Callable, Iterator, Mapping

if TYPE_CHECKING:
    from pathlib import Path

SPOOL_NAME = "audit.spool"


def add(directory: Path, record: Mapping[str, Any]) -> None:
    """Keeps a record durably; in a spool of its own where somebody holds the common one."""
    line = encode_json(dict(record)) + b"\n"
    path = directory / SPOOL_NAME
    while not _write(path, line):
        path = _name(directory)  # which a taker may find before there is a line in it


def _write(path: Path, line: bytes) -> bool:
    """Appends a line; returns False where the file is being taken away."""
    handle = open_file(path, os.O_RDWR | os.O_APPEND)
    try:
        if not _is_mine(handle, path):
            return False
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            line = b"\n" + line  # what was cut short must not take this one with it
        files.write_whole(handle, line)
        os.fsync(handle)
        sync_path(path.parent)
        return True
    finally:
        os.close(handle)


def take(directory: Path, append: Callable[[dict[str, Any]], object]) -> None:
    """Hands over every record that waits, the oldest spool first; what the caller raises leaves its spool there."""
    spool = directory / SPOOL_NAME
    try:
        os.rename(spool, _name(directory))
    except FileNotFoundError:
        pass  # there is none, or another process was quicker
    for taken in sorted(directory.glob(f"{SPOOL_NAME}.*")):
        try:
            handle = os.open(taken, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # another process was quicker, or somebody has put a link there
            continue
        with open(handle, "rb") as file:
            if _is_mine(handle, taken):
                for record in _records(file.read()):
                    append(record)
                taken.unlink(missing_ok=True)


def _name(directory: Path) -> Path:
    return directory / f"{SPOOL_NAME}.{clock.random_u64():x}"


def _is_mine(handle: int, path: Path) -> bool:
    """Returns whether the lock could be had, and the file is still under its name now that we have it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False


def _records(text: bytes) -> Iterator[dict[str, Any]]:
    for line in text.split(b"\n")[:-1]:
        try:
            record = parse_json(line)
        except Corrupt:
            continue
        if isinstance(record, dict):
            yield record
