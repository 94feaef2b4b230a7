"""The lock in front of an engine's own: exclusive over threads and processes, with a deadline.

Promises
- At most one holder at a time; a holder that died is none, because the kernel gives a `flock` back.
- `take` returns within `wait_s`, holding the lock, or raises `Locked` (an `Unreachable`). It can be interrupted while
  it waits.
- The file also carries the mark of `lmdb_files`; it is never removed or renamed while the domain exists.
- A process that gives the lock back and wants it again at once does not overtake those who wait: whoever waits first
  holds the turnstile (a `flock` on the directory), and everybody passes it on the way to the lock.

When it fails
    A stopped holder keeps the lock: everyone else meets the deadline, and the domain counts as unreachable until then.
    A stopped waiter keeps the turnstile: the others give up on it after `_TURN_WAIT_S` and go without.
"""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock

from grafctl import clock, threads
from grafctl.errors import Locked, Unreachable

_FIRST_PAUSE_S = 0.0002
_LONGEST_PAUSE_S = 0.002  # of those who wait for their turn
_NEXT_PAUSE_S = 0.00005  # of the one whose turn it is: a commit takes some hundred microseconds, and one process looks
_NEXT_PAUSES = 40  # as often as that, before it begins to wait as the others do
_TURN_WAIT_S = 1.0


class OuterLock:
    """A lock between threads and, where there is a file, a `flock` on it: to the kernel one open file is one holder."""

    __slots__ = ("_domain", "_fd", "_is_closing", "_threads", "_turn_fd")

    def __init__(self, domain: str, fd: int | None, turn_fd: int | None = None) -> None:
        self._domain = domain
        self._fd = fd
        self._turn_fd = turn_fd
        self._is_closing = False
        self._threads = threads.lock()

    def take_at_once(self) -> bool:
        """Takes the lock where it is free and nobody waits for it; returns whether it did."""
        if not self._threads.acquire(blocking=False):
            return False
        is_taken = False
        try:
            fd = self._fd
            is_taken = fd is None or (fd >= 0 and self._take_file_at_once(fd))
        finally:
            if not is_taken:
                self._threads.release()
        return is_taken

    def take(self, wait_s: float) -> bool:
        """Waits at most `wait_s` for the lock, then raises `Locked`; returns False where the lock was closed."""
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
                    if self._turn_fd is not None:
                        os.close(self._turn_fd)
            finally:
                self._threads.release()

    def _take_file_at_once(self, fd: int) -> bool:
        turn = self._turn_fd
        try:
            if turn is not None:
                flock(turn, LOCK_EX | LOCK_NB)
            try:
                flock(fd, LOCK_EX | LOCK_NB)
            finally:
                if turn is not None:
                    flock(turn, LOCK_UN)
        except OSError:  # somebody has it or waits for it; what else there may be, `take` says
            return False
        return True

    def _take_file(self, fd: int, wait_s: float, deadline: float) -> None:
        deadline = deadline or clock.monotonic_s() + wait_s
        turn = self._turn_fd
        until = min(deadline, clock.monotonic_s() + _TURN_WAIT_S)
        if turn is not None and not self._poll(turn, until, _LONGEST_PAUSE_S):
            turn = None
        try:
            if not self._poll(fd, deadline, _LONGEST_PAUSE_S, 0 if turn is None else _NEXT_PAUSES):
                raise self._locked(wait_s)
        finally:
            if turn is not None:
                flock(turn, LOCK_UN)

    def _poll(self, fd: int, deadline: float, longest_s: float, short: int = 0) -> bool:
        """Returns whether the file could be locked before the deadline; the first `short` pauses are the shortest."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                flock(fd, LOCK_EX | LOCK_NB)
                return True
            except BlockingIOError:
                now = clock.monotonic_s()
            except OSError as error:
                raise Unreachable(self._domain, f"its lock cannot be taken: {error.strerror}") from error
            if now >= deadline:
                return False
            if short > 0:
                short -= 1
                clock.sleep(min(_NEXT_PAUSE_S, deadline - now))
                continue
            clock.sleep(min(pause_s + clock.jitter_s(pause_s), deadline - now))
            pause_s = min(pause_s * 2, longest_s)

    def _locked(self, wait_s: float) -> Locked:
        return Locked(self._domain, f"locked: another writer kept its lock for {max(wait_s, 0):g} s")
