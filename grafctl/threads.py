"""The only place that starts threads and makes what threads wait for, as `clock` is the only place of time.

Promises
- What is made here is what `threading` and `queue` make, with nothing around it.
- While something stands in (`stand_in`), it makes all of that instead: a simulator lets one thread run at a time and
  decides, by one seed, which.

A driver whose locks belong to a file of this machine takes those from `threading` itself: nothing can stand in for it.
"""

from __future__ import annotations

import threading

from grafctl.typed import TYPE_CHECKING, Any, Callable, Protocol

if TYPE_CHECKING:
    from queue import SimpleQueue
    from types import TracebackType

    class Lock(Protocol):
        """A `threading.Lock`."""

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
        def release(self) -> None: ...
        def __enter__(self) -> bool: ...
        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None: ...

    class Thread(Protocol):
        """A thread that was started."""

        def join(self) -> None: ...

    class Maker(Protocol):
        """What can stand in for the functions below."""

        def start(self, run: Callable[[], object]) -> Thread: ...
        def lock(self) -> Lock: ...
        def semaphore(self, value: int) -> threading.Semaphore: ...
        def event(self) -> threading.Event: ...
        def condition(self) -> threading.Condition: ...
        def queue(self) -> SimpleQueue[Any]: ...


_maker: Maker | None = None


def start(run: Callable[[], object]) -> Thread:
    """Runs `run` in a thread of its own, which does not keep the process from ending."""
    if _maker is not None:
        return _maker.start(run)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def lock() -> Lock:
    """Returns a new `threading.Lock`."""
    return threading.Lock() if _maker is None else _maker.lock()


def semaphore(value: int) -> threading.Semaphore:
    """Returns a new `threading.Semaphore`."""
    return threading.Semaphore(value) if _maker is None else _maker.semaphore(value)


def event() -> threading.Event:
    """Returns a new `threading.Event`."""
    return threading.Event() if _maker is None else _maker.event()


def condition() -> threading.Condition:
    """Returns a new `threading.Condition`."""
    return threading.Condition() if _maker is None else _maker.condition()


def queue() -> SimpleQueue[Any]:
    """Returns a new `queue.SimpleQueue`."""
    if _maker is not None:
        return _maker.queue()
    from queue import SimpleQueue

    return SimpleQueue()


def stand_in(maker: Maker | None) -> Maker | None:
    """Lets `maker` make everything from now on, or nobody; returns who did so before."""
    global _maker
    before, _maker = _maker, maker
    return before
