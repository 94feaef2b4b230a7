"""Publishing a stream: several batches on their way at once, in the order in which they came.

While the backups write one batch, the primary writes the next one and the one after that is packed and hashed.

Promises
- Batches stand in the log in the order in which they were given, also after a change of primary in between: a batch is
  appended only after the one before it in the same term, or after that one is committed (`Turn`).
- Acknowledgements come in that order. After an error nothing new is begun, and what is on its way is waited for.
- An empty batch asks for every acknowledgement so far before the next batch is looked for.

When it fails: the error is that of the first batch that failed; `later` in its fields names what came after it and is
durable all the same. Interrupted, the stream gives the acknowledgements of what was on its way and then raises.
"""

from __future__ import annotations

from collections import deque

from grafctl import threads
from grafctl.errors import GrafctlError
from grafctl.store.rules import NO_TERM, Term
from grafctl.typed import TYPE_CHECKING, Callable, Iterable, Iterator, TypeVar

if TYPE_CHECKING:
    from grafctl.results import Ack

Batch = TypeVar("Batch")


class Abandoned(Exception):
    """The batch before this one failed, so this one was not tried."""


class Turn:
    """The place of one batch in its stream; passed by the append of each try."""

    __slots__ = ("_before", "_changed", "_is_done", "_is_failed", "_term")

    def __init__(self, before: Turn | None) -> None:
        self._before = before
        self._changed = threads.condition()
        self._term: Term = NO_TERM
        self._is_done = self._is_failed = False

    def enter(self, term: Term) -> None:
        """Waits until the batch before is in the log of this term, or committed; raises `Abandoned` where it failed."""
        if self._before is not None:
            self._before._wait(term)

    def _wait(self, term: Term) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_done or self._term == term)
            if self._is_failed:
                raise Abandoned

    def appended(self, term: Term) -> None:
        """Says that the batch is in the log of this term, durable with its primary."""
        with self._changed:
            self._term = term
            self._changed.notify_all()

    def end(self, *, is_failed: bool) -> None:
        """Says that the batch is committed, or will not be tried again."""
        with self._changed:
            self._is_done, self._is_failed = True, is_failed
            self._before = None  # so that a long stream is no long chain
            self._changed.notify_all()


Publish = Callable[[Batch, Turn], "Ack"]


class _Flight:
    """One batch on its way."""

    def __init__(self, publish: Callable[[Turn], Ack], before: Turn | None) -> None:
        self.turn = Turn(before)
        self.ack: Ack | None = None
        self.error: BaseException | None = None
        self._publish = publish
        self._is_down = threads.event()  # not `Thread.join`, which an interruption makes forget its thread (3.11)
        threads.start(self._run)

    def _run(self) -> None:
        try:
            self.ack = self._publish(self.turn)
        except BaseException as error:
            self.error = error
        finally:
            self.turn.end(is_failed=self.ack is None)
            self._is_down.set()

    def wait(self) -> None:
        """Waits for the end."""
        self._is_down.wait()

    def land(self) -> Ack:
        """Waits for the end and returns the acknowledgement, or raises what it failed with."""
        self.wait()
        if self.error is not None:
            raise self.error
        assert self.ack is not None
        return self.ack


def pipelined(publish: Publish[Batch], batches: Iterable[Batch], in_flight: int) -> Iterator[Ack]:
    """Yields the acknowledgement of each batch that is not empty, with up to `in_flight` of them on their way."""
    flights: deque[_Flight] = deque()
    turn: Turn | None = None
    try:
        for batch in batches:
            while flights and (not batch or len(flights) >= in_flight):
                ack = flights[0].land()
                flights.popleft()
                yield ack
            if batch:
                flights.append(_Flight(_bound(publish, batch), turn))
                turn = flights[-1].turn
        while flights:
            ack = flights[0].land()
            flights.popleft()
            yield ack
    except GeneratorExit:
        raise
    except BaseException as error:
        if not flights or error is not flights[0].error:  # the source ended badly, or somebody pressed Ctrl-C
            yield from _landed(flights)
        elif isinstance(error, GrafctlError):
            later = [[ack.offset, ack.count] for ack in _landed(deque(list(flights)[1:]))]
            error.fields |= {"later": later} if later else {}
        raise
    finally:
        for flight in flights:
            flight.wait()


def _bound(publish: Publish[Batch], batch: Batch) -> Callable[[Turn], Ack]:
    return lambda turn: publish(batch, turn)


def _landed(flights: deque[_Flight]) -> Iterator[Ack]:
    """Yields the acknowledgements up to the first batch that failed."""
    while flights:
        try:
            ack = flights[0].land()
        except (GrafctlError, Abandoned):
            return
        flights.popleft()
        yield ack
