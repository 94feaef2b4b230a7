"""What a traced child does to the files under one folder: counted, written down, and made to fail at any call.

A `Fault` names a kind of call, which one of them, and what becomes of it: an error, a write that is cut short, or the
process killed right before or right after it. The calls of all threads run one after the other, in the order in which
they were stopped; so the log that is kept of them is what a disk would have seen.

Promises
- Only calls on the store's files under the folder count; what else a process opens or writes is let through.
- An injected call is reported, so that a case whose fault never came can be told from one that survived it.
"""

from __future__ import annotations

import errno
import os
import pickle
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from faults.ptrace import Call, Child, be_traced

# How calls are counted: a fault of one kind means the same for each of them.
KINDS: dict[str, tuple[str, ...]] = {
    "open": ("open", "openat", "openat2"),
    "create": ("creat", "mkdir", "mkdirat", "link", "linkat", "symlink", "symlinkat"),  # and an open that may make it
    "write": ("write", "writev", "pwrite64", "pwritev", "pwritev2"),
    "flush": ("fsync", "fdatasync"),
    "resize": ("truncate", "ftruncate", "fallocate"),
    "rename": ("rename", "renameat", "renameat2"),
    "unlink": ("unlink", "unlinkat", "rmdir"),
}
_KIND = {name: kind for kind, names in KINDS.items() for name in names}
ON_DESCRIPTORS = frozenset({*KINDS["write"], *KINDS["flush"], "ftruncate", "fallocate"})

SHORT, BEFORE, AFTER = "short", "killed before", "killed after"
TORN = "torn"  # half of a write, and then the process is killed
# Once; for ever in the domain of the first one; for ever everywhere.
ONCE, THERE, EVERYWHERE = "once", "there", "everywhere"
TRIES = "tries"  # what a deed counts its own tries in: no command writes it, so no fault is of it
_DIRECTORY_AT = {"openat", "openat2", "mkdirat", "unlinkat", "renameat", "renameat2", "linkat"}


class Fault(NamedTuple):
    """The n-th call of a kind, and what becomes of it: the name of an error, SHORT, BEFORE, AFTER or TORN."""

    kind: str
    n: int
    how: str
    lasts: str = ONCE

    def __str__(self) -> str:
        lasting = {ONCE: "", THERE: ", and all later ones there", EVERYWHERE: ", and all later ones"}[self.lasts]
        return f"{self.kind} {self.n} {self.how}{lasting}"


class Event(NamedTuple):
    """One line of the log.

    `what` is open, create, cut (an open that empties the file), mkdir, link, symlink, write, flush, resize, grow,
    rename, unlink or said. `sync` means durable when it returned, `ok` that it was carried out. Of a rename, `data` is
    the new name; of words that were said, the words.
    """

    what: str
    path: str
    offset: int = 0
    data: bytes = b""
    sync: bool = False
    ok: bool = True


@dataclass
class Traced:
    """What a tracer saw."""

    reached: Counter[str] = field(default_factory=Counter)  # kind -> how many calls
    injected: list[str] = field(default_factory=list)
    log: list[Event] = field(default_factory=list)


def run_traced(act: Callable[[], None], folder: str, fault: Fault | None, said_fd: int, log: str | None) -> Any:
    """Runs `act` in a child of this process and returns (its status, what was seen); the log goes to the file `log`."""
    pid = os.fork()
    if pid == 0:
        try:
            be_traced(frozenset(_KIND))
            act()
        finally:
            os._exit(70)
    tracer = Tracer(Child(pid), folder, fault, said_fd, is_logging=log is not None)
    tracer.run()
    if log is not None:
        with open(log, "wb") as file:
            pickle.dump([tuple(event) for event in tracer.seen.log], file)
    return tracer.child.status, {"reached": dict(tracer.seen.reached), "injected": tracer.seen.injected}


class Tracer:
    """Watches a child to its end."""

    def __init__(self, child: Child, folder: str, fault: Fault | None, said_fd: int, *, is_logging: bool) -> None:
        self.child = child
        self.seen = Traced()
        self._folder = os.path.realpath(folder)
        self._fault = fault
        self._said_fd = said_fd
        self._is_logging = is_logging
        self._where = ""  # the domain in which a lasting fault began

    def run(self) -> None:
        """Returns when the child is gone."""
        for call in self.child.calls():
            try:
                self._take(call)
            except ProcessLookupError:
                pass  # the process was killed meanwhile, by its alarm or in another thread

    def _take(self, call: Call) -> None:
        if call.name in ("write", "writev") and call.integer(0) == self._said_fd:
            if self._is_logging:
                self.seen.log.append(Event("said", "", data=call.bytes_at(call.arguments[1], call.arguments[2])))
            return call.resume()
        path = self._path(call)
        if path is None:
            return call.resume()
        kind = kind_of(call)
        is_own = path == TRIES
        self.seen.reached[kind] += not is_own
        fault = self._fault
        if fault is not None and not is_own and fault.kind == kind and self._is_due(fault, path):
            self.seen.injected.append(f"{call.name} {path}")
            self._inject(call, fault, path, kind)
        elif self._is_logging:
            self._log(call, path, kind, call.run)
        else:
            call.run()
        if self.child.status is None:
            call.resume()

    def _is_due(self, fault: Fault, path: str) -> bool:
        reached = self.seen.reached[fault.kind]
        if reached == fault.n:
            self._where = domain_of(path)
            return True
        is_there = fault.lasts == EVERYWHERE or (fault.lasts == THERE and domain_of(path) == self._where)
        return reached > fault.n and is_there

    def _inject(self, call: Call, fault: Fault, path: str, kind: str) -> None:
        if fault.how == BEFORE:
            self.child.kill()  # the kernel does not carry out the call of a process that is to be killed
        elif fault.how in (AFTER, TORN):
            self._log(call, path, kind, call.run if fault.how == AFTER else lambda: _run_short(call))
            self.child.kill()
        elif fault.how == SHORT and self.seen.reached[kind] == fault.n:
            self._log(call, path, kind, lambda: _run_short(call))
        else:  # what is short for ever is a disk without room: the first one finds a little of it
            code = errno.ENOSPC if fault.how == SHORT else getattr(errno, fault.how)
            call.skip(-code)
            self.seen.log.append(Event(kind, path, ok=False))

    def _log(self, call: Call, path: str, kind: str, run: Callable[[], int | None]) -> None:
        """Carries a call out, and notes what it did."""
        if not self._is_logging:
            run()
            return
        event = Event(kind, path)
        data = b""
        if kind == "write":
            fd = call.integer(0)
            is_sync = bool(_fd_info(call.tid, fd)[1] & os.O_DSYNC)
            event = event._replace(offset=self._offset(call, fd), sync=is_sync)
            data = b"".join(call.bytes_at(*piece) for piece in _pieces(call))
        elif kind == "rename":
            event = event._replace(data=os.fsencode(self._named(call, *_TARGET[call.name]) or ""))
        elif kind == "resize":
            event = event._replace(what="grow" if call.name == "fallocate" else kind, offset=_new_size(call))
        elif kind == "open" or (kind == "create" and call.name in KINDS["open"]):
            is_cut = bool(_flags(call) & os.O_TRUNC)
            event = event._replace(what="cut" if is_cut else kind)
        elif kind == "create":
            event = event._replace(what=call.name.removesuffix("at"))
        result = run()
        if result is not None:
            self.seen.log.append(
                event._replace(data=data[:result] if kind == "write" and result > 0 else event.data, ok=result >= 0)
            )

    # --- which file it is about

    def _path(self, call: Call) -> str | None:
        """Returns the path of a call inside the folder, or None where it is about something else."""
        if call.name in ON_DESCRIPTORS:
            return self._inside(_link(f"/proc/{call.tid}/fd/{call.integer(0)}"))
        if call.name in ("linkat", "symlink", "symlinkat"):
            return self._named(call, *_TARGET[call.name])
        is_at = call.name in _DIRECTORY_AT
        return self._named(call, 0 if is_at else None, int(is_at))

    def _named(self, call: Call, directory: int | None, place: int) -> str | None:
        text = call.text_at(call.arguments[place])
        if not os.path.isabs(text):
            fd = -100 if directory is None else call.integer(directory)
            start = _link(f"/proc/{call.tid}/cwd" if fd == -100 else f"/proc/{call.tid}/fd/{fd}")
            text = os.path.join(start or "/", text)
        folder, name = os.path.split(os.path.normpath(text))
        return self._inside(os.path.join(os.path.realpath(folder), name))

    def _inside(self, path: str | None) -> str | None:
        if path is None or not (path + "/").startswith(self._folder + "/"):
            return None
        return path[len(self._folder) + 1 :]

    def _offset(self, call: Call, fd: int) -> int:
        if call.name in ("pwrite64", "pwritev", "pwritev2"):
            return call.arguments[3]
        position, flags = _fd_info(call.tid, fd)
        return os.stat(f"/proc/{call.tid}/fd/{fd}").st_size if flags & os.O_APPEND else position


_TARGET = {  # which arguments hold the directory and the name of what comes to be
    "rename": (None, 1), "renameat": (2, 3), "renameat2": (2, 3), "linkat": (2, 3), "link": (None, 1),
    "symlink": (None, 1), "symlinkat": (1, 2),
}  # fmt: skip


def kind_of(call: Call) -> str:
    """Returns the kind of a call; an open that may make its file is `create`."""
    kind = _KIND[call.name]
    return "create" if kind == "open" and _flags(call) & os.O_CREAT else kind


def domain_of(path: str) -> str:
    """Returns the part of a store that a path belongs to: a domain, or all that is in none."""
    found = re.search(r"(?:^|/)domains/\.?([^/]+?)(?:\.(?:new|gone)_[^/]*)?(?:/|$)", path)
    return found[1] if found else ""


def _flags(call: Call) -> int:
    if call.name == "openat2":
        return int.from_bytes(call.bytes_at(call.arguments[2], 8), "little")
    return call.integer(2 if call.name == "openat" else 1)


def _pieces(call: Call) -> list[tuple[int, int]]:
    """Returns (address, bytes) of what a call writes."""
    if call.name in ("write", "pwrite64"):
        return [(call.arguments[1], call.arguments[2])]
    return call.pieces_at(call.arguments[1], call.arguments[2])


def _run_short(call: Call) -> int | None:
    """Writes the first half of what was asked for, in whole bytes."""
    pieces = _pieces(call)
    half = sum(size for _, size in pieces) // 2
    if len(pieces) > 1:
        return call.run_as(call.name, a2=max(1, len(pieces) // 2))
    plain = "pwrite64" if call.name.startswith("pwrite") else "write"
    return call.run_as(plain, a1=pieces[0][0], a2=half)


def _new_size(call: Call) -> int:
    return call.arguments[1] if call.name != "fallocate" else call.arguments[2] + call.arguments[3]


def _fd_info(tid: int, fd: int) -> tuple[int, int]:
    """Returns (position, flags) of a descriptor."""
    with open(f"/proc/{tid}/fdinfo/{fd}") as file:
        rows = dict(line.split(":", 1) for line in file if line.startswith(("pos:", "flags:")))
    return int(rows["pos"]), int(rows["flags"], 8)


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
