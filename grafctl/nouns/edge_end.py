"""What both ends of an edge have in common: when an end that is open looks at the control log, and what it does there.

Promises
- Before each operation the deadline is judged by the clock; within it the ring is asked for a notice, and its file for
  whether it is still there. Only where one of these says so, or every `LOOK_S`, the control log is read.
- What is looked at is read after the notice, so what ends the lease later changes the notice once more.

When it fails: the next operation looks again. `edge_handles` says what is promised to who uses an end.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self, TypeVar

from grafctl import clock, threads
from grafctl.edges import segment
from grafctl.edges.counts import READER_AT, WRITER_AT, Counter
from grafctl.edges.ring import Noticed, Ring
from grafctl.edges.ring_bytes import Front, Lost, Notice
from grafctl.errors import GrafctlError, NoQuorum, Timeout, Usage
from grafctl.names import check_domain, check_name
from grafctl.nouns.edges import layout_in
from grafctl.nouns.leases import pass_domain
from grafctl.store.authority import Asked, pass_segment
from grafctl.store.checked import checked
from grafctl.store.edge_rules import WRITER, is_newer, usable_until_ms
from grafctl.store.replica.state import State
from grafctl.store.resources.edges import Handoff, handoff_of
from grafctl.store.resources.segments import lease_row
from grafctl.store.segment_rules import USABLE, due_ms, judged
from grafctl.store.session import AUDITED, Session

LOOK_S = 0.25  # so soon a handle meets what neither its ring nor its deadline shows

T = TypeVar("T")


class EdgeEnd(ABC):
    """One end of an edge, as both are."""

    side: str
    op: str

    def __init__(self, session: Session, name: str, domain: str) -> None:
        self.session, self.name, self.domain = session, check_name("edge", name), check_domain(domain)
        self._handoff: Handoff | None = None
        self._ring: Ring | None = None
        self._counter: Counter | None = None
        self._notice = Notice(0, 0)
        self._why: str | None = None  # what an operation on this ring was refused for
        self._until_ms = 0
        self._due_ms = 0
        self._look_s = 0.0
        self._must_look = True
        self._told: tuple[str, int | None] | None = None  # the last refusal, and its number in the audit log
        self._process = os.getpid()
        self._turn = threads.lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the file back; the lease and the edge stay as they are."""
        self._process = -1
        self._close_ring()
        if self._counter is not None:
            self._counter.close()

    @property
    def generation(self) -> int:
        """The generation that this handle knows."""
        assert self._handoff is not None, "it is known from the beginning"
        return self._handoff.generation

    @property
    def token(self) -> int:
        """The token of the lease that this handle knows."""
        assert self._handoff is not None, "it is known from the beginning"
        return self._handoff.token

    @property
    def payload_bytes_max(self) -> int:
        """How large a record of this edge may be."""
        assert self._handoff is not None, "it is known from the beginning"
        return layout_in(self._handoff).payload_bytes_max

    # --- each operation

    def _do(self, act: Callable[[Ring], T]) -> T:
        with self._turn:
            if os.getpid() != self._process:
                raise Usage(
                    f"This end of the edge {self.name} was closed, or opened by the parent of this fork.",
                    hint="Open one anew with store.edges.writer or store.edges.reader.",
                )
            try:
                while True:
                    ring = self._ready()
                    try:
                        return act(ring)
                    except Noticed:
                        self._must_look = True
                    except Lost as lost:
                        self._must_look, self._why = True, str(lost)
            except AUDITED as error:
                self._note(error)
                raise

    def _ready(self) -> Ring:
        """Returns the ring, after a look at the control log where one is due."""
        if not self._must_look and clock.monotonic_s() >= self._look_s:
            try:
                self._look()
            except (NoQuorum, Timeout):  # it counts as it was seen last
                self._must_look, self._look_s = False, clock.monotonic_s() + LOOK_S
        if self._must_look or self._notice.is_pending or clock.now_ms() >= self._until_ms:
            self._look()
        assert self._ring is not None, "a look binds or raises"
        return self._ring

    def _note(self, error: GrafctlError) -> None:
        """Audits a refusal once: who waits for a writer asks a thousand times a second."""
        if self._told is not None and self._told[0] == error.message:
            error.fields |= {} if self._told[1] is None else {"audit": self._told[1]}
            return
        self.session.note_refusal(error, self._command, lease=self.name, domain=self.domain)
        self._told = (error.message, error.fields.get("audit"))

    @property
    def _command(self) -> str:
        return "edge push" if self.side == WRITER else "edge pop"

    # --- a look at the control log

    def _look(self) -> None:
        """Follows what is published, and returns where the lease is in force; raises the refusal.

        The notice is read first: what ends the lease after that changes it once more.
        """
        self._must_look = True
        while True:
            front, why = self._state_of_ring()
            asked = Asked(self.op, self.name, self.domain, known=self.session.cluster.knows(self.domain))
            handoff, lease = checked(self.session.control, self._read)
            pass_segment(asked, handoff.domain)
            if is_newer(self.name, self._handoff, handoff) and self._follow(handoff, lease):
                continue
            assert self._handoff is not None, "what is newer than nothing is followed"
            state = judged(lease, clock.now_ms(), token=self._handoff.token, is_there=why is None)
            if state not in USABLE:
                self._stop(state, why, handoff, lease)
                continue
            pass_domain(self.session, asked)
            if front is not None:
                break
        assert self._ring is not None and self._counter is not None, "its front was read"
        self._ring.watch(front.notice)
        self._counter.find(front.tail if self.side == WRITER else front.head)
        self._notice, self._told = front.notice, None
        self._until_ms, self._due_ms = usable_until_ms(lease), due_ms(lease)
        self._look_s = clock.monotonic_s() + LOOK_S
        self._must_look = False

    def _read(self, state: State) -> tuple[Handoff, dict[str, Any]]:
        return handoff_of(state, self.name), lease_row(state, self.name)

    def _state_of_ring(self) -> tuple[Front | None, str | None]:
        """Returns what is in front of the ring, or why the ring is lost; neither where it cannot be asked."""
        if self._handoff is None or self._why is not None:
            return None, self._why
        if self.session.cluster.is_failed(self.domain):
            return None, None  # which is no loss of the segment
        try:
            place = self.session.cluster.place(self.domain).where
            if self._ring is None or not segment.is_there(place, self._handoff.segment, self._handoff.bytes):
                self._close_ring()
                path = segment.path_of(place, self._handoff.segment)
                self._ring = Ring(path, self._handoff.bytes, self._handoff.token)
            return self._ring.look(), None
        except Lost as lost:
            return None, str(lost)

    def _bind(self, handoff: Handoff, *, relocated: bool = False) -> None:
        self._close_ring()
        self._handoff, self._why, self._until_ms = handoff, None, 0
        if self._counter is None:
            at = WRITER_AT if self.side == WRITER else READER_AT
            self._counter = Counter(self.session.cluster.place(self.domain).where, self.name, at)
        self._counter.bind(handoff.generation, relocated=relocated)

    def _count(self, end: int) -> None:
        assert self._counter is not None, "it is bound"
        self._counter.count(end, clock.now_ms())

    def _close_ring(self) -> None:
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def _follow(self, handoff: Handoff, lease: dict[str, Any]) -> bool:
        """Takes a newer handoff; returns whether it did."""
        self._bind(handoff)
        return True

    @abstractmethod
    def _stop(self, state: str, why: str | None, found: Handoff, lease: dict[str, Any]) -> None:
        """Raises the refusal, or returns where it has helped itself and a new look is worth it."""
