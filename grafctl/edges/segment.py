"""The file of a segment: preallocated beside a domain's environment, found again by its name, removed when it is over.

Promises
- A segment has its whole size from the beginning: who may write to it does not run out of disk later.
- Its file is made before anybody is told of it, and never under a name that is there: what is lost is not made again
  as something empty.
- No symbolic link is followed, and what is no regular file of the right size is no segment.

- Who clears up after a lease removes no segment that somebody is making.

When it fails: a `StoreFull`, or another refusal, and nothing is left. A process that dies between making a file and
getting its lease, or after it and before the earlier one is removed, leaves a file; the next one that asks for a lease
of that name removes it.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager, suppress

from grafctl import clock
from grafctl.store.driver.kill import point
from grafctl.store.driver.private import open_file, sync_path
from grafctl.store.files import make_folders, unwritable
from grafctl.typed import Iterator

FOLDER = "segments"


def new_name(lease: str) -> str:
    """Returns a name for a segment of this lease; a random end, so that two who ask at once make two files."""
    return f"{lease}.{clock.random_bytes(6).hex()}"


def path_of(place: str, segment: str) -> str:
    """Returns where the segment of a domain is whose environment is at `place`."""
    return os.path.join(place, FOLDER, segment)


@contextmanager
def allocated(place: str, segment: str, size: int) -> Iterator[None]:
    """Makes a segment of zeros, durably; raises `StoreFull`, or another refusal.

    In the block nobody clears it up, who knows of no lease that has it.
    """
    from pathlib import Path

    path = path_of(place, segment)
    try:
        make_folders(Path(place, FOLDER))
        handle = open_file(path, os.O_RDWR | os.O_EXCL)
    except OSError as error:
        raise unwritable(Path(path), error) from None
    try:
        _fill(path, handle, size)
        yield
    finally:
        os.close(handle)


def _fill(path: str, handle: int, size: int) -> None:
    from pathlib import Path

    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(handle, 0, size)
            os.fsync(handle)
        except BaseException:
            os.unlink(path)
            raise
        sync_path(os.path.dirname(path))
        point("segment.allocated")
    except OSError as error:
        raise unwritable(Path(path), error) from None


def is_there(place: str, segment: str, size: int) -> bool:
    """Returns whether a segment can be used: a regular file of its size."""
    try:
        found = os.lstat(path_of(place, segment))
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size


def remove(place: str, segment: str) -> None:
    """Removes a segment that is over; one that cannot be removed now only takes room."""
    try:
        os.unlink(path_of(place, segment))
    except OSError:
        pass


def of_lease(place: str, lease: str) -> list[str]:
    """Returns the segments of a lease in a domain: of all generations, and of those who died."""
    try:
        found = os.listdir(os.path.join(place, FOLDER))
    except OSError:
        return []
    return [segment for segment in found if segment.rpartition(".")[0] == lease]


@contextmanager
def unused(place: str, segment: str) -> Iterator[bool]:
    """Yields whether nobody is making a segment, or is in it at this moment; in the block that stays so."""
    handle = -1
    is_unused = True  # what cannot be opened
    try:
        with suppress(OSError):
            handle = os.open(path_of(place, segment), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                is_unused = False
        yield is_unused
    finally:
        if handle >= 0:
            os.close(handle)
