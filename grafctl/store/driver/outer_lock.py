"""The lock in front of an engine's own: exclusive over threads and processes, with a deadline.

Promises
- At most one holder at a time; a holder that died is none, because the kernel gives a `flock` back.
- `take` returns within `wait_s`, holding the lock, or raises `Unreachable`. It can be interrupted while it waits.
- The file also carries the mark of `lmdb_files`; it is never removed or renamed while the domain exists.

When it fails
    A stopped holder keeps the lock: everyone else meets the deadline, and the domain counts as unreachable until then.
    Between processes nobody queues: who looks first after the release has it.
"""

from __future__ import annotations

import os
import threading
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock

from grafctl import clock
from grafctl.errors import Unreachable

_FIRST_PAUSE_S = 0.0002
_LONGEST_PAUSE_S = 0.005


class OuterLock:
    """A lock between threads and, where there is a file, a `flock` on it: to the kernel one open file is one holder."""

    __slots__ = ("_domain", "_fd", "_is_closing", "_threads")

    def __init__(self, domain: str, fd: int | None) -> None:
        self._domain = domain
        self._fd = fd
        self._is_closing = False
        self._threads = threading.Lock()

    def take(self, wait_s: float) -> bool:
        """Waits at most `wait_s` for the lock, then raises `Unreachable`; returns False where the lock was closed."""
        deadline = 0.0
        if not self._threads.acquire(blocking=False):
            deadline = clock.monotonic_s() + wait_s
            if wait_s <= 0 or not self._threads.acquire(timeout=wait_s):
                raise self._locked(wait_s)
        is_taken = False
        try:
            if self._fd is None:
                is_taken = True
            elif self._fd >= 0:
                self._take_file(self._fd, wait_s, deadline)
                is_taken = True
        finally:
            if not is_taken:
                self._threads.release()
        return is_taken

    def give(self) -> None:
        """Gives the lock back."""
        try:
            if self._fd is not None:
                flock(self._fd, LOCK_UN)
        finally:
            self._threads.release()
            if self._is_closing:
                self._close_if_free()

    def close(self) -> None:
        """Closes the file, now or when its holder gives it back: a number that was closed may soon be another file."""
        self._is_closing = True
        self._close_if_free()

    def _close_if_free(self) -> None:
        if self._threads.acquire(blocking=False):
            try:
                if self._fd is not None and self._fd >= 0:
                    os.close(self._fd)
                    self._fd = -1
            finally:
                self._threads.release()

    def _take_file(self, fd: int, wait_s: float, deadline: float) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return flock(fd, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                now = clock.monotonic_s()
            except OSError as error:
                raise Unreachable(self._domain, f"its lock cannot be taken: {error.strerror}") from error
            deadline = deadline or now + wait_s
            if now >= deadline:
                raise self._locked(wait_s)
            clock.sleep(min(pause_s + clock.jitter_s(pause_s), deadline - now))
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _locked(self, wait_s: float) -> Unreachable:
        return Unreachable(self._domain, f"locked: another writer kept its lock for {max(wait_s, 0):g} s")
