"""Signals to a running pipeline: the first lets the commits under way finish, a second one acts at once.

Promises
- Handlers that Python did not install, and signals that are ignored, are left alone; so is every thread but the main.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Came:
    """Which signal came, if one did."""

    number: int | None = None


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[Came]:
    """Yields what will say which signal came; `stop` is called in its handler."""
    came, former = Came(), dict[int, Any]()

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)
        former.clear()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if came.number is not None:
            restore()
            signal.raise_signal(number)
            return
        came.number = number
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if callable(handler):
            try:
                signal.signal(number, on_signal)
            except ValueError:  # not in the main thread
                break
            former[number] = handler
    try:
        yield came
    finally:
        restore()
