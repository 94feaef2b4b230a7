"""Locks, semaphores and the like for tasks of a scheduler: waiting gives the baton away.

They do what those of `threading` and `queue` do, as far as the product uses that. What is not waiting is plain code,
because only one task runs at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol


class Waiter(Protocol):
    """The part of a scheduler that is needed here."""

    def wait(self, ready: Callable[[], bool] | None, timeout_s: float | None = None) -> bool: ...


class Lock:
    """A `threading.Lock`."""

    __slots__ = ("_is_held", "_scheduler")

    def __init__(self, scheduler: Waiter) -> None:
        self._scheduler = scheduler
        self._is_held = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._is_held and not (blocking and self._scheduler.wait(self._is_free, timeout)):
            return False
        self._is_held = True
        return True

    def _is_free(self) -> bool:
        return not self._is_held

    def release(self) -> None:
        assert self._is_held, "released and not held"
        self._is_held = False

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Condition(Lock):
    """A `threading.Condition` with a lock of its own."""

    __slots__ = ()

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        if predicate():
            return True
        self.release()
        try:
            return self._scheduler.wait(lambda: not self._is_held and predicate(), timeout)
        finally:
            self._is_held = True

    def notify_all(self) -> None:
        assert self._is_held, "notified without the lock"


class Semaphore:
    """A `threading.Semaphore`."""

    def __init__(self, scheduler: Waiter, value: int) -> None:
        self._scheduler = scheduler
        self._value = value

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        if self._value == 0 and not (blocking and self._scheduler.wait(lambda: self._value > 0, timeout)):
            return False
        self._value -= 1
        return True

    def release(self) -> None:
        self._value += 1


class Event:
    """A `threading.Event`."""

    def __init__(self, scheduler: Waiter) -> None:
        self._scheduler = scheduler
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True

    def wait(self, timeout: float | None = None) -> bool:
        return self._is_set or self._scheduler.wait(self.is_set, timeout)


class Queue:
    """A `queue.SimpleQueue`."""

    def __init__(self, scheduler: Waiter) -> None:
        self._scheduler = scheduler
        self._items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        self._items.append(item)

    def get(self) -> Any:
        if not self._items:
            self._scheduler.wait(lambda: bool(self._items))
        return self._items.popleft()
