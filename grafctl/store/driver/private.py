"""Files and directories of a store, as they are made: for their owner alone, or for a group that was let in on purpose.

Promises
- What is made is for its owner only (0600, 0700), less what the umask takes; in a directory that its group may write
  to (`chmod -R g+rwX`), it is for that group as well. What is there already keeps its mode.
- No symbolic link is followed in the last part of a path: a store from a stranger cannot have another file written to.

When it fails: `OSError`, and nothing was made.
"""

from __future__ import annotations

import os
import stat

from grafctl.errors import Unreachable


def mode_in(directory: str | bytes | os.PathLike[str]) -> int:
    """Returns the mode of a new file in a directory."""
    try:
        is_shared = os.stat(directory).st_mode & stat.S_IWGRP
    except OSError:
        return 0o600
    return 0o660 if is_shared else 0o600


def open_file(path: str | bytes | os.PathLike[str], flags: int) -> int:
    """Opens a file for writing, made where it is absent unless `flags` say otherwise; returns the descriptor."""
    path = os.fspath(path)
    directory = os.path.dirname(path) or os.curdir
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode_in(directory))


def make_directory(path: bytes) -> None:
    """Makes a directory; the one above it says whether a group may use it."""
    mode = mode_in(os.path.dirname(path))
    os.mkdir(path, mode | (mode & 0o440) >> 2)


def sync_path(path: str | bytes | os.PathLike[str]) -> None:
    """Flushes a file, or what a directory names, to stable storage."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def require_files(domain: str, *paths: bytes) -> None:
    """Raises `Unreachable` where one of these is no regular file: a link leads elsewhere, and a pipe may block."""
    for path in paths:
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            continue  # whoever needs it finds out
        if not stat.S_ISREG(mode):
            raise Unreachable(domain, f"{os.fsdecode(path)} is no regular file")
