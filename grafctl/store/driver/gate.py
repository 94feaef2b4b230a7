"""Counts who is inside, so that something can be done when nobody is, and closed by whoever leaves last.

Promises
- `alone` runs its action while nobody is inside and nobody can come in; it waits for that, with a deadline.
- After `close` nobody comes in any more, and `finish` runs exactly once, as soon as nobody is inside.

When it fails
    A thread that entered and never leaves makes `alone` meet its deadline and keeps `finish` from running.
"""

from __future__ import annotations

import threading

from grafctl.typed import Callable


class Gate:
    """A door with a counter; made for a handful of nanoseconds, since each transaction passes it twice."""

    __slots__ = ("_change", "_finish", "_inside", "_is_finished", "_is_kept", "_lock", "is_closed")

    def __init__(self, finish: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._change = threading.Condition(self._lock)
        self._finish = finish
        self._inside = 0
        self._is_kept = self._is_finished = self.is_closed = False

    def enter(self) -> bool:
        """Counts the caller in, after waiting for `alone` to end; returns False where the gate is closed."""
        with self._lock:
            while self._is_kept and not self.is_closed:
                self._change.wait()
            if self.is_closed:
                return False
            self._inside += 1
            return True

    def leave(self) -> None:
        """Counts the caller out."""
        with self._lock:
            self._inside -= 1
            if self._inside or not (self._is_kept or self.is_closed):
                return
            self._change.notify_all()
        self._finish_if_idle()

    def alone(self, action: Callable[[], None], wait_s: float) -> bool:
        """Runs the action with nobody inside; returns False where somebody still was after `wait_s`."""
        with self._lock:
            if not self._change.wait_for(lambda: not self._is_kept, wait_s):
                return False
            self._is_kept = True
            try:
                is_idle = self._change.wait_for(lambda: not self._inside, wait_s)
                if is_idle:
                    action()
            finally:
                self._is_kept = False
                self._change.notify_all()
        self._finish_if_idle()
        return is_idle

    def close(self) -> None:
        """Lets nobody in any more. Twice is allowed."""
        with self._lock:
            self.is_closed = True
            self._change.notify_all()
        self._finish_if_idle()

    def _finish_if_idle(self) -> None:
        with self._lock:
            if self._inside or self._is_kept or self._is_finished or not self.is_closed:
                return
            self._is_finished = True
        self._finish()
