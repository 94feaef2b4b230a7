"""The probe: files that something else has changed are read through by a process that may die of it.

A damaged page can kill whoever asks LMDB for it, and an inner page can hide rows without a sign. So before such a file
is opened here, a child walks its pages without the engine, reads all of it through the engine, and compares it with
everything that the rows say of each other (`store/checking.py`).

Promises
- A domain that comes out of a probe holds every row it should hold, each byte of it as it was written. What the child
  finds, and its death by a signal, is damage, marked in the domain (`lmdb_damage.py`).
- The child holds the domain's outer lock, so nobody writes meanwhile, and it renews the stamp only where the file still
  looks as it did when it began.
- Whoever waits does so for `WAIT_S` at most: then the domain is unreachable until the child, which goes on by itself,
  is done. `verify` and `domain restore` wait as long as it takes.

When it fails
    A child that is killed by somebody else is taken for one that damage has killed; a second check takes that back
    (`domain restore`). A parent that dies leaves the child, which marks or stamps all the same.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

from grafctl.errors import BeingChecked, Damaged, DriverError, Unreachable
from grafctl.store.driver import lmdb_damage, lmdb_files, lmdb_stamp
from grafctl.store.driver.contract import Identity, View
from grafctl.store.driver.lmdb import LmdbDriver
from grafctl.store.driver.lmdb_files import Files
from grafctl.store.driver.lmdb_open import structural_findings
from grafctl.store.driver.outer_lock import OuterLock
from grafctl.typed import Any, Callable, Iterator

MODULE = "grafctl.store.checking"
WAIT_S = 5.0
LOCK_WAIT_S, WHOLE_DAY_S = 2.0, 86_400.0
SOUND, DAMAGED, UNREACHABLE = "sound", "damaged", "unreachable"
_CODE = f"import sys, json; sys.path[:] = json.loads(sys.argv[1]); from {MODULE} import main; main(sys.argv[2:])"
_left: list[subprocess.Popen[bytes]] = []  # children that nobody waits for any more
_refused: dict[bytes, tuple[lmdb_stamp.Look, DriverError]] = {}  # files that are not the domain's, as they looked then

Contents = Callable[[View, str], Iterator[str]]  # what is wrong with the rows of a domain


def probe(domain: str, files: Files, identity: Identity, wait_s: float | None, *, always: bool) -> None:
    """Returns when a child found a domain's files to be sound; raises `Damaged`, or `Unreachable` where it cannot tell.

    With `always` it reads them even where the stamp says that nothing else has changed them.
    """
    before = _refused.get(files.data)
    if before is not None and before[0] == lmdb_stamp.look_at(files.data) and not always:
        raise before[1]
    asked = [
        "always" if always else "once",
        str(LOCK_WAIT_S if wait_s is not None else WHOLE_DAY_S),
        os.fsdecode(files.directory),
        *map(str, identity),
    ]
    _left[:] = [child for child in _left if child.poll() is None]
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _CODE, json.dumps(sys.path), *asked],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if not name.startswith("GRAFCTL_")},
        start_new_session=True,
        cwd="/",
    )
    try:
        said, _ = child.communicate(timeout=wait_s)
    except subprocess.TimeoutExpired:
        _left.append(child)
        why = "something else has changed its files, and they are still being checked; `grafctl verify` waits for that"
        raise BeingChecked(domain, why) from None
    _hear(domain, files, identity, child.returncode, said)


def _hear(domain: str, files: Files, identity: Identity, code: int, said: bytes) -> None:
    if code < 0:
        what = f"a process that read all of it was killed by {signal.Signals(-code).name}"
        lmdb_damage.mark(files, what, identity.incarnation)
        raise Damaged(domain, what)
    try:
        found = json.loads(said)
    except ValueError:
        raise Unreachable(domain, f"its files cannot be checked: the check ended with {code}") from None
    if found["kind"] == SOUND:
        return
    error = (Damaged if found["kind"] == DAMAGED else Unreachable)(domain, found["why"])
    if found["look"] is not None:
        _refused[files.data] = (lmdb_stamp.Look(*found["look"]), error)
    raise error


# --- the child's side


def check(path: str, identity: Identity, contents: Contents, lock_wait_s: float, *, always: bool) -> dict[str, Any]:
    """Reads all of a domain, marks it where it is damaged, and returns what its parent should know."""
    files, domain = Files(path), identity.domain
    fd = lmdb_files.open_writer_lock(files)
    lock = OuterLock(domain, fd)
    try:
        lock.take(lock_wait_s)
    except DriverError as error:
        return _said(UNREACHABLE, error.why)
    look = lmdb_stamp.look_at(files.data)
    try:
        finding = _check(files, identity, contents, fd, always)
    except Damaged as error:  # not to be marked: another incarnation, say, or a file that is no environment
        return _said(DAMAGED, error.why, look)
    except DriverError as error:
        return _said(UNREACHABLE, error.why, look)
    except OSError as error:
        return _said(UNREACHABLE, lmdb_files.driver_error(domain, error).why)
    finally:
        lock.give()
        os.close(fd)
    if finding is None:
        return _said(SOUND, "")
    lmdb_damage.mark(files, finding, identity.incarnation)
    return _said(DAMAGED, finding)


def _said(kind: str, why: str, look: lmdb_stamp.Look | None = None) -> dict[str, Any]:
    """`look` where the same files would be refused again."""
    return {"kind": kind, "why": why, "look": look}


def _check(files: Files, identity: Identity, contents: Contents, fd: int, always: bool) -> str | None:
    domain = identity.domain
    if not always and lmdb_stamp.is_expected(fd, files.data, lambda: lmdb_files.read_meta(domain, files).transaction):
        return None  # another one has checked it, or a commit was under way
    look = lmdb_stamp.look_at(files.data)
    finding = next(iter(structural_findings(os.fsdecode(files.directory))), None)
    if finding is not None:
        return f"a page of data.mdb is wrong: {finding}"
    meta = lmdb_files.read_meta(domain, files)
    if meta.bytes_missing:
        lmdb_files.extend(files, meta.bytes_needed)
        look = lmdb_stamp.look_at(files.data)
    finding = _read_all(files, identity, contents)
    if finding is None:
        lmdb_stamp.note(fd, look)
    return finding


def _read_all(files: Files, identity: Identity, contents: Contents) -> str | None:
    """Returns the first thing that is wrong with the rows of a domain, read through the engine."""
    environment = LmdbDriver().open(os.fsdecode(files.directory), identity)
    environment.trusts = True
    environment.handle()  # what is not this domain's at all is refused, and not marked as its damage
    try:
        with environment.read() as view:
            return next(contents(view, identity.domain), None)
    except Damaged as error:
        return error.why
    finally:
        environment.close()
