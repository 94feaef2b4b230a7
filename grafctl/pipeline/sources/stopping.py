"""How a source is told to stop while it waits for input.

Promises
- `set` may be called in a signal handler, in another thread and more than once; whoever waits wakes at once.
- After `set`, `check` raises `Stopped`, so that half a line that was read is never taken for a whole one.
"""

from __future__ import annotations

import os
import select


class Stopped(Exception):
    """The source was told to stop; it never leaves the source."""


class Stop:
    """A flag, and a pipe that becomes readable when it is set."""

    def __init__(self) -> None:
        self.is_set = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    def set(self) -> None:
        self.is_set = True
        try:
            os.write(self._write, b"\0")
        except OSError:  # the pipe is full, so whoever waits is awake; or closed, so that nobody waits
            pass

    def check(self) -> None:
        if self.is_set:
            raise Stopped

    def is_ready(self, descriptor: int) -> bool:
        """Returns whether there is something to read now."""
        return bool(_poll(descriptor).poll(0))

    def wait_for(self, descriptor: int) -> None:
        """Waits until there is something to read; raises `Stopped`."""
        self.check()
        _poll(descriptor, self._read).poll()
        self.check()

    def pause(self, seconds: float) -> None:
        """Waits so long; raises `Stopped`."""
        self.check()
        _poll(self._read).poll(round(seconds * 1000))
        self.check()

    def close(self) -> None:
        """Gives back the pipe; `set` does nothing more than set the flag from then on."""
        read, write = self._read, self._write
        self._read = self._write = -1
        for descriptor in (write, read):
            if descriptor >= 0:
                os.close(descriptor)


def _poll(*descriptors: int) -> select.poll:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return poll
