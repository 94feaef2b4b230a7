"""How an LMDB domain's directory comes, fails, is restored and goes.

Promises
- `create` makes a directory appear under its name whole and durable, or not at all: it is made under another name, its
  first commit holds the identity, everything is flushed, then it is renamed and the directory above is flushed.
- `fail` is one file, seen by every process at its next transaction.
- `set_aside` takes the name away and nothing else. Whoever has the files open finds them moved in the next transaction,
  and one that was being committed meanwhile does not count as done (`Watch`), so it needs no lock.
- `destroy` takes the name away first, so that nobody opens half of what is left; twice is allowed.

When it fails
    A process that dies while creating or destroying leaves a directory `.NAME.new_…` or `.NAME.gone_…` beside the
    domain, which nothing ever opens; `destroy` of that domain clears away both.
"""

from __future__ import annotations

import os

from grafctl import clock
from grafctl.errors import Unreachable
from grafctl.store.driver import lmdb_stamp
from grafctl.store.driver.contract import Identity
from grafctl.store.driver.journal import JOURNAL_BYTES, JOURNAL_KEY
from grafctl.store.driver.journal_bytes import encode_row, new_generation, write_mark
from grafctl.store.driver.kill import point
from grafctl.store.driver.lmdb_files import (
    IDENTITY_KEY,
    Files,
    driver_error,
    encode_identity,
    missing,
    open_writer_lock,
    prepare_lock_file,
)
from grafctl.store.driver.private import make_directory, open_file, sync_path
from grafctl.typed import Callable

_HALF = (b".gone_", b".new_")  # how the names of what is half made or half removed go on
_ALL = (*_HALF, b".fenced_")

WriteFirst = Callable[[Files, dict[bytes, bytes]], None]


def create(path: str, identity: Identity, write_first: WriteFirst, journal_bytes: int = JOURNAL_BYTES) -> None:
    """Makes the directory; `write_first` makes the engine's files with its first rows in them."""
    files = Files(os.path.abspath(path))
    if os.path.lexists(files.data):
        raise _already(identity.domain, files)
    temporary = Files(os.fsdecode(_sibling(files, "new")))
    try:
        _make_directories(os.path.dirname(files.directory))
        make_directory(temporary.directory)
        make_directory(temporary.env)
        prepare_lock_file(temporary)
        _make_writer_lock(temporary)
        _make_journal(temporary, journal_bytes)
        write_first(temporary, {IDENTITY_KEY: encode_identity(identity), JOURNAL_KEY: encode_row(new_generation(), 0)})
        _make_stamp(temporary)
        _flush_all(temporary)
        point("driver.create.rename")
        os.rename(temporary.directory, files.directory)
    except OSError as error:
        _remove(temporary.directory)
        if os.path.lexists(files.data):  # another process was quicker
            raise _already(identity.domain, files) from error
        raise driver_error(identity.domain, error) from error
    try:
        sync_path(os.path.dirname(files.directory))
    except OSError as error:
        raise driver_error(identity.domain, error) from error


def _make_writer_lock(files: Files) -> None:
    fd = open_writer_lock(files)
    try:
        write_mark(fd, 0)  # so that the block is there when the disk is full
    finally:
        os.close(fd)


def _make_stamp(files: Files) -> None:
    fd = open_writer_lock(files)
    try:
        lmdb_stamp.note(fd, lmdb_stamp.look_at(files.data))
    finally:
        os.close(fd)


def _make_journal(files: Files, size: int) -> None:
    """Writes all of it, because a block that is there already needs no change of the file's own metadata."""
    with open(open_file(files.journal, os.O_WRONLY | os.O_EXCL), "wb") as file:
        file.write(bytes(size))


def _already(domain: str, files: Files) -> Unreachable:
    return Unreachable(domain, f"there is an environment already at {os.fsdecode(files.directory)}")


def _sibling(files: Files, word: str) -> bytes:
    parent, name = os.path.split(files.directory)
    return os.path.join(parent, b"." + name + b"." + clock.random_token(word).encode())


def _flush_all(files: Files) -> None:
    inside = (files.data, files.journal, files.lock, files.writer)
    for path in (*inside, files.env, files.directory):
        sync_path(path)


def _make_directories(path: bytes) -> None:
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    _make_directories(parent)
    try:
        make_directory(path)
    except FileExistsError:
        return
    sync_path(parent)


def _remove(path: bytes) -> None:
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def fail(files: Files) -> None:
    """Marks the domain as failed; raises `Unreachable` where there is no directory to mark."""
    domain = os.fsdecode(files.directory)
    try:
        os.close(open_file(files.failed, os.O_WRONLY))
        sync_path(files.directory)
    except FileNotFoundError:
        raise missing(domain, files) from None
    except OSError as error:
        raise driver_error(domain, error) from error


def restore(files: Files) -> None:
    """Takes the mark of `fail` away; where there is none, one that died may have taken it away, and not durably."""
    try:
        try:
            os.unlink(files.failed)
        except FileNotFoundError:
            pass
        sync_path(files.directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise driver_error(os.fsdecode(files.directory), error) from error


def destroy(files: Files) -> None:
    """Removes the directory and what dead processes left beside it; what was set aside stays until `discard`."""
    parent, name = os.path.split(os.path.abspath(files.directory))
    files = Files(os.fsdecode(os.path.join(parent, name)))
    try:
        os.rename(files.directory, _sibling(files, "gone"))
        sync_path(parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise driver_error(os.fsdecode(files.directory), error) from error
    for path in _siblings(files, _HALF):
        _remove(path)


def discard(files: Files) -> None:
    """Deletes everything that `remains` names."""
    for path in _siblings(files, _ALL):
        _remove(path)


def set_aside(files: Files, label: str) -> str | None:
    """Renames the directory to `.NAME.fenced_LABEL` beside it, durably; returns that path, None where nothing is."""
    parent, name = os.path.split(os.path.abspath(files.directory))
    target = os.path.join(parent, b"." + name + b".fenced_" + label.encode())
    if os.path.lexists(target):
        target += b"_" + clock.random_token("again").encode()
    try:
        os.rename(files.directory, target)
        sync_path(parent)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise driver_error(os.fsdecode(files.directory), error) from error
    return os.fsdecode(target)


def remains(files: Files) -> list[str]:
    """Returns the directories beside a domain's that nothing opens any more: set aside, half made or half removed.

    None where nobody can look.
    """
    try:
        return sorted(os.fsdecode(path) for path in _siblings(files, _ALL))
    except OSError:
        return []


def _siblings(files: Files, words: tuple[bytes, ...]) -> list[bytes]:
    parent, name = os.path.split(os.path.abspath(files.directory))
    prefixes = tuple(b"." + name + word for word in words)
    if not os.path.isdir(parent):
        return []
    return [os.path.join(parent, entry) for entry in os.listdir(parent) if entry.startswith(prefixes)]
