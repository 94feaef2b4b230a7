"""One vshard on its way: what an operator holds while it migrates it, and what it measures meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from grafctl import clock
from grafctl.errors import Timeout
from grafctl.store.checked import checked
from grafctl.store.log import Log
from grafctl.store.moving_rules import (
    BASE_COPY,
    COMPLETED,
    REVERSED,
    WAL_CATCHUP,
    Convergence,
    Limits,
    Pace,
    check_move,
)
from grafctl.store.requests import Outcome, Request
from grafctl.store.resources.moving import Beat, Place
from grafctl.store.resources.queue import queue_row
from grafctl.store.resources.table import vshard_row
from grafctl.store.session import Session

Watch = Callable[[dict[str, Any]], None]
BEAT_S = 1.0
_TIMES = 32


class Stopped(Timeout):
    """Raised in the thread of one migration when its caller was interrupted."""


class Work:
    """A migration under way, as one operator sees it."""

    def __init__(
        self, session: Session, place: Place, source: str, record: dict[str, Any], watch: Watch | None
    ) -> None:
        self.session, self.place, self.record = session, place, record
        self.source_part, self.target_part = source, str(record["to"])
        self.source: Log = session.resource(source)
        self.target: Log = session.resource(self.target_part)
        self.limits = Limits(record["max_lag"], record["budget_us"], record["lock_wait_us"])
        self.source_us: list[int] = []  # how long recent commits took
        self.target_us: list[int] = []
        self.read_back_us = 0
        self.pace: Pace | None = None
        self.applied = 0  # index of the source up to which the target has its entries
        self.replayed = 0  # records of the vshard that were replayed here
        self.convergence = Convergence(self.limits.max_lag)
        self.proof: dict[str, Any] | None = None
        self.state = WAL_CATCHUP if record.get("reverse") else BASE_COPY
        self._watch = watch
        self.is_stopping: Callable[[], bool] = bool
        self._beaten_s = clock.monotonic_s()

    @property
    def what(self) -> str:
        return f"vshard {self.place.vshard} of {self.place.table}"

    @property
    def generation(self) -> int:
        """Returns the generation that the vshard has at the target."""
        return int(self.record["generation"]) + 1

    def at_source(self, request: Request, **limits: Any) -> Outcome:
        """Appends to the source's log, and remembers how long it took."""
        return self._timed(self.source, self.source_us, request, limits)

    def at_target(self, request: Request, **limits: Any) -> Outcome:
        """Appends to the target's log, and remembers how long it took."""
        return self._timed(self.target, self.target_us, request, limits)

    def _timed(self, log: Log, times: list[int], request: Request, limits: dict[str, Any]) -> Outcome:
        began_s = clock.monotonic_s()
        outcome = log.append(request, **limits)
        times.append(int((clock.monotonic_s() - began_s) * 1e6))
        del times[:-_TIMES]
        return outcome

    def source_row(self) -> dict[str, Any] | None:
        """Returns the vshard's row at the source, the newest."""
        number = self.place.vshard
        definition = partial(queue_row, resource=self.source_part)
        row: dict[str, Any] | None = checked(
            self.source, lambda state: vshard_row(state, definition(state), number), newest=True
        )
        return row

    def beat(self) -> None:
        """Says that an operator is at it, measures a commit at the source, and takes over what was asked of it since;
        raises the refusal where the migration was cancelled."""
        self._beaten_s = clock.monotonic_s()
        record = self.at_source(Beat(self.place)).answer
        if record is not None:
            self.record = record

    def beat_at_times(self) -> None:
        """Beats where the last beat is a second old."""
        if clock.monotonic_s() - self._beaten_s >= BEAT_S:
            self.beat()

    def check_stop(self) -> None:
        """Raises `Stopped` where the caller was asked to stop: between two steps, never inside a pause."""
        if self.is_stopping():
            raise Stopped(f"The migration of {self.what} was stopped; its copy is kept.", outcome="kept")

    def enter(self, state: str, **fields: Any) -> None:
        """Says that the migration is in another state now; one that may not follow the last is refused."""
        if state != self.state:
            check_move(self.state, state, what=self.what, back=bool(self.record.get("reverse")))
        self.state = state
        self.tell("state", state=state, **fields)

    def ended(self) -> str:
        """Returns the state in which a flip leaves the vshard."""
        state = REVERSED if self.record["reverse"] else COMPLETED
        check_move(self.state, state, what=self.what, back=bool(self.record["reverse"]))
        return state

    def tell(self, event: str, **fields: Any) -> None:
        """Tells whoever watches."""
        if self._watch is not None:
            at = {"event": event, "table": self.place.table, "vshard": self.place.vshard}
            self._watch(at | {name: value for name, value in fields.items() if value is not None})
