"""Items that are made in a thread of their own while those before them are used.

Reading, hashing and committing let other threads run, so two of them at once take the time of the longer one.

Promises
- Items come in their order; an exception of their maker comes where the next item would.
- When the block ends, however it does, the maker has ended: nothing that it reads is in use any more.
- At most `depth` items wait beside the one that is used.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from grafctl import threads

T = TypeVar("T")


class Ahead(Generic[T]):
    """Iterates over what a generator makes, from the beginning of the block on."""

    def __init__(self, items: Generator[T, None, None], depth: int = 1) -> None:
        self._items = items
        self._room = threads.semaphore(depth)
        self._made = threads.queue()  # of (item, None), and at the end (None, the exception that ended it)
        self._is_over = False
        self._is_down = threads.event()

    def __enter__(self) -> Self:
        threads.start(self._run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        self._room.release()
        interruption: KeyboardInterrupt | None = None
        while not self._is_down.is_set():
            try:
                self._is_down.wait()
            except KeyboardInterrupt as pressed:  # what the maker reads is taken away after this
                interruption = pressed
        if interruption is not None:
            raise interruption

    def _run(self) -> None:
        try:
            self._room.acquire()
            while not self._is_over:
                self._made.put((next(self._items), None))
                self._room.acquire()
        except BaseException as error:  # `StopIteration` too: it ends the loop at the other end
            self._made.put((None, error))
        finally:
            self._items.close()
            self._is_down.set()

    def __iter__(self) -> Iterator[T]:
        while True:
            item, error = self._made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            self._room.release()
            yield item
