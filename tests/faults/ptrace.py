"""Stopping a child of ours at the system calls of our choice, with nothing but what Python has: ctypes and the kernel.

A child asks to be traced, and a seccomp filter of its own stops it at the calls that were named and at no other, so
everything else runs at full speed. At each stop the parent reads the arguments, and may skip the call, change it, or
let it run to its end. Works for x86-64 and arm64, without root and without a tool.

Promises
- The children of the child's threads are traced too; a thread that is stopped holds up no other.
- When the tracing process ends, for any reason, the traced one is killed (PTRACE_O_EXITKILL).
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
from collections.abc import Iterator
from typing import NamedTuple

MACHINE = platform.machine()
# The calls that change files or make changes last, by machine; a call that a machine does not have stands not there.
NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        "write": 1, "open": 2, "pwrite64": 18, "writev": 20, "fsync": 74, "fdatasync": 75, "truncate": 76,
        "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87, "symlink": 88,
        "openat": 257, "mkdirat": 258, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266,
        "fallocate": 285, "pwritev": 296, "renameat2": 316, "pwritev2": 328, "openat2": 437,
    },
    "aarch64": {
        "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38, "truncate": 45, "ftruncate": 46,
        "fallocate": 47, "openat": 56, "write": 64, "writev": 66, "pwrite64": 68, "pwritev": 70, "fsync": 82,
        "fdatasync": 83, "renameat2": 276, "pwritev2": 287, "openat2": 437,
    },
}  # fmt: skip
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


class _Layout(NamedTuple):
    """Where a machine keeps a call's number, arguments and result among its registers of 8 bytes."""

    size: int
    number: int
    arguments: tuple[int, ...]
    result: int


_LAYOUTS = {
    "x86_64": _Layout(27, 15, (14, 13, 12, 7, 9, 8), 10),
    "aarch64": _Layout(34, 8, (0, 1, 2, 3, 4, 5), 0),
}
_LAYOUT = _LAYOUTS.get(MACHINE, _LAYOUTS["x86_64"])
IS_SUPPORTED = MACHINE in _LAYOUTS

_TRACEME, _CONT, _SETOPTIONS, _SYSCALL, _GETREGSET, _SETREGSET = 0, 7, 0x4200, 24, 0x4204, 0x4205
_SYSGOOD, _FORK, _VFORK, _CLONE, _SECCOMP, _EXITKILL = 1, 2, 4, 8, 0x80, 0x100000
_EVENT_SECCOMP = 7
_NT_PRSTATUS, _NT_ARM_SYSTEM_CALL = 1, 0x404
_WALL = 0x40000000
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
_RET_TRACE, _RET_ALLOW = 0x7FF00000, 0x7FFF0000
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_void_p] * 4)


class _Piece(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, tid, address, data) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"ptrace({request:#x}): {os.strerror(code)}")


def be_traced(names: frozenset[str]) -> None:
    """In the child: waits for the parent, then has itself stopped at these calls, now and in all threads to come."""
    _ptrace(_TRACEME, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    numbers = sorted(NUMBERS[MACHINE][name] for name in names if name in NUMBERS[MACHINE])
    rows = [(_LOAD, 0, 0, 4), (_IF_EQUAL, 1, 0, _AUDIT_ARCH[MACHINE]), (_RETURN, 0, 0, _RET_ALLOW), (_LOAD, 0, 0, 0)]
    rows += [(_IF_EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    rows += [(_RETURN, 0, 0, _RET_ALLOW), (_RETURN, 0, 0, _RET_TRACE)]
    raw = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *row) for row in rows))
    program = _Program(len(rows), ctypes.addressof(raw))
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0), (_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program))):
        if _libc.prctl(*arguments, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "the filter was not taken")


class Call:
    """One system call of a stopped thread, before it is carried out."""

    def __init__(self, child: Child, tid: int) -> None:
        self.child, self.tid = child, tid
        self._registers = _registers(tid)
        self.name = _NAMES.get(self._registers[_LAYOUT.number], "?")
        self.arguments = [self._registers[place] for place in _LAYOUT.arguments]

    def integer(self, place: int) -> int:
        """Returns an argument as the signed 32 bits that most calls take."""
        value = self.arguments[place] & 0xFFFFFFFF
        return value - (1 << 32) if value >> 31 else value

    def run(self) -> int | None:
        """Carries the call out and returns its result, negative for an error; None where the process died in it."""
        _ptrace(_SYSCALL, self.tid)
        _, status = os.waitpid(self.tid, _WALL)
        if not os.WIFSTOPPED(status):
            self.child.died(self.tid, status)
            return None
        assert os.WSTOPSIG(status) == signal.SIGTRAP | 0x80, f"{self.name} was left with {status:#x}"
        return struct.unpack("q", struct.pack("Q", _registers(self.tid)[_LAYOUT.result]))[0]  # type: ignore[no-any-return]

    def run_as(self, name: str, **changed: int) -> int | None:
        """Carries another call out in its place, with the arguments `a0`, `a1` … that are given; returns its result."""
        other = list(self._registers)
        other[_LAYOUT.number] = NUMBERS[MACHINE][name]
        for argument, value in changed.items():
            other[_LAYOUT.arguments[int(argument[1:])]] = value
        _set_registers(self.tid, other)
        _set_number(self.tid, NUMBERS[MACHINE][name])
        result = self.run()
        if result is not None:  # a call leaves its arguments as they were, and programs count on it
            after, before = _registers(self.tid), self._registers
            for place in _LAYOUT.arguments:
                if place != _LAYOUT.result:
                    after[place] = before[place]
            _set_registers(self.tid, after)
        return result

    def skip(self, result: int) -> None:
        """Lets the thread go on as if the call had ended with this result."""
        self._registers[_LAYOUT.result] = result & (2**64 - 1)
        if MACHINE == "x86_64":
            self._registers[_LAYOUT.number] = 2**64 - 1
        _set_registers(self.tid, self._registers)
        _set_number(self.tid, -1)

    def resume(self) -> None:
        """Lets the thread run to its next stop."""
        _go(self.tid)

    def bytes_at(self, address: int, size: int) -> bytes:
        """Returns memory of the process; shorter where it has none."""
        memory = os.open(f"/proc/{self.tid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(memory, size, address) if size else b""
        finally:
            os.close(memory)

    def text_at(self, address: int) -> str:
        """Returns the path that an argument points at."""
        found = b""
        while b"\0" not in found and len(found) < 8192:
            rest = 4096 - (address + len(found)) % 4096  # to the end of a page, since the next may not be there
            found += self.bytes_at(address + len(found), rest)
        return os.fsdecode(found.split(b"\0", 1)[0])

    def pieces_at(self, address: int, count: int) -> list[tuple[int, int]]:
        """Returns (address, bytes) of each piece of a vector."""
        return [(base, size) for base, size in struct.iter_unpack("QQ", self.bytes_at(address, 16 * count))]


class Child:
    """A traced process with its threads and children: everything that its parent does with it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None
        self._known: set[int] = set()

    def calls(self) -> Iterator[Call]:
        """Yields each call at which a thread stops, until the process is gone; the taker lets the thread go on."""
        while self.status is None:
            tid, status = os.waitpid(-1, _WALL)
            if not os.WIFSTOPPED(status):
                self.died(tid, status)
            elif status >> 16 == _EVENT_SECCOMP:
                yield Call(self, tid)
            else:
                self._pass(tid, status)

    def _pass(self, tid: int, status: int) -> None:
        """Lets a thread go on after a stop that is no call: it is new, it made one, or it gets a signal."""
        is_new = tid not in self._known
        self._known.add(tid)
        if is_new and tid == self.pid:
            _ptrace(_SETOPTIONS, tid, 0, _SYSGOOD | _FORK | _VFORK | _CLONE | _SECCOMP | _EXITKILL)
        signum = os.WSTOPSIG(status)
        is_ours = status >> 16 or signum == signal.SIGTRAP or (is_new and signum == signal.SIGSTOP)
        _go(tid, 0 if is_ours else signum)

    def died(self, tid: int, status: int) -> None:
        """Notes the end of a thread; with the first one, that of the process."""
        if tid == self.pid:
            self.status = status

    def kill(self) -> None:
        """Kills the process, at once: its threads carry nothing out any more."""
        os.kill(self.pid, signal.SIGKILL)


_NAMES = {number: name for name, number in NUMBERS.get(MACHINE, {}).items()}


def _go(tid: int, signum: int = 0) -> None:
    try:
        _ptrace(_CONT, tid, 0, signum)
    except ProcessLookupError:
        pass  # it was killed meanwhile


def _registers(tid: int) -> list[int]:
    raw = ctypes.create_string_buffer(8 * _LAYOUT.size)
    piece = _Piece(ctypes.addressof(raw), len(raw))
    _ptrace(_GETREGSET, tid, _NT_PRSTATUS, ctypes.addressof(piece))
    return list(struct.unpack(f"{_LAYOUT.size}Q", raw.raw))


def _set_registers(tid: int, values: list[int]) -> None:
    raw = ctypes.create_string_buffer(struct.pack(f"{_LAYOUT.size}Q", *values), 8 * _LAYOUT.size)
    piece = _Piece(ctypes.addressof(raw), 8 * _LAYOUT.size)
    _ptrace(_SETREGSET, tid, _NT_PRSTATUS, ctypes.addressof(piece))


def _set_number(tid: int, number: int) -> None:
    """Changes the number of a call where it is no register's business."""
    if MACHINE == "aarch64":
        raw = ctypes.create_string_buffer(struct.pack("i", number), 4)
        piece = _Piece(ctypes.addressof(raw), 4)
        _ptrace(_SETREGSET, tid, _NT_ARM_SYSTEM_CALL, ctypes.addressof(piece))
