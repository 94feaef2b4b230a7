"""The two ends of an edge as a stage has them open: many records a lease is asked for once.

    with store.edges.writer("parsed", domain="aws") as writer:
        writer.push(b"record")

Promises
- No record is pushed or taken after the deadline that the handle knows, after a `lease` command that ended the lease
  has returned, or from a file that was removed. What none of these shows (the health of the domain, a lease that was
  ended by who could not write to the segment) is met within `LOOK_S`.
- The writer renews its lease when that is due. Where its segment is lost it allocates another, publishes it, and the
  push that met the loss raises all the same: what was in the old segment is its caller's to push again.
- The reader follows newer generations only, and `Taken.generation` says which one a record is of. An older generation
  is a conflict, and a record that cannot be read is `Corrupt`: the last good value is used in neither case.
- It counts what passes, how often it was opened and how often the edge moved (`grafctl.edges.counts`).
- A handle may be used by several threads, one after the other; after a fork it is the parent's.

When it fails: the handle looks again with the next call, so that call succeeds where the trouble is over. What was
taken and not finished comes again. While voters are away the lease counts as it was seen last, up to its deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from grafctl import clock
from grafctl.edges.answers import Pushed, Taken
from grafctl.edges.ring import Ring
from grafctl.edges.ring_bytes import Front
from grafctl.errors import Fenced, GenerationConflict, NoQuorum, Timeout, Usage
from grafctl.nouns.edge_end import EdgeEnd
from grafctl.nouns.edges import TAKE_MAX, Edges
from grafctl.nouns.leases import Leases
from grafctl.results import Record
from grafctl.store.authority import POP, PUSH, Asked, pass_segment
from grafctl.store.checked import checked
from grafctl.store.edge_rules import READER, STEPS, STOP, WRITER
from grafctl.store.resources.edges import Handoff
from grafctl.store.segment_rules import DISCONNECTED, FENCED, RECOVERABLE, judged, refusal
from grafctl.store.session import Session

RENEW_AGAIN_MS = 100  # at least so long a renewal that found no quorum is left alone


class EdgeWriter(EdgeEnd):
    """The end of an edge at which records are pushed."""

    side, op = WRITER, PUSH

    def __init__(self, session: Session, name: str, domain: str, token: int | None = None) -> None:
        super().__init__(session, name, domain)
        if token is not None and (type(token) is not int or token < 1):
            raise Usage("The token of a lease is a number from 1 on.", hint="Take the one that `acquire` gave.")
        self._asked_token = token
        self._acquired = 0  # token of the lease that a relocation has got last, published or not
        self._is_opening = True
        self._do(Ring.front)
        self._is_opening = False

    def push(self, payload: bytes | str) -> Pushed:
        """Appends a record, or says that the edge is full."""
        return self._push([_body(payload)])

    def push_batch(self, payloads: Sequence[bytes | str]) -> Pushed:
        """Appends as many of these records as there is room for, in their order, in one write of the tail."""
        if isinstance(payloads, (bytes, str)):
            raise Usage("push_batch takes a list of records.", hint="Take push for a single one.")
        return self._push([_body(payload) for payload in payloads])

    def keep(self) -> None:
        """Renews the lease if that is due: a writer that has nothing to push calls this instead."""
        self._do(Ring.front)

    def _push(self, bodies: list[bytes]) -> Pushed:
        most = self.payload_bytes_max
        for body in bodies:
            if len(body) > most:
                raise Usage(f"The record has {len(body):,} bytes; one of the edge {self.name} has at most {most:,}.")

        def push(ring: Ring) -> Pushed:
            count, front = ring.push(bodies)
            if count:
                self._count(front.tail)
            return Pushed(count, front.tail - count if count else None, count < len(bodies), self.generation)

        return self._do(push)

    # --- the lease

    def _ready(self) -> Ring:
        ring = super()._ready()
        now_ms = clock.now_ms()
        if now_ms >= self._due_ms:
            self._renew(now_ms)
            ring = super()._ready()
        return ring

    def _renew(self, now_ms: int) -> None:
        try:
            change = Leases(self.session).renew(self.name, token=self.token, domain=self.domain, if_due=True)
        except (NoQuorum, Timeout):  # it is in force yet
            self._due_ms = now_ms + max(RENEW_AGAIN_MS, (self._until_ms - now_ms) // 4)
            return
        except (Fenced, GenerationConflict):
            self._must_look = True  # which says what it means here
            return
        self._look()
        if not change.changed:  # it goes up to the end of a grace, and no further
            self._due_ms = self._until_ms

    # --- a segment that is lost

    def _follow(self, handoff: Handoff, lease: dict[str, Any]) -> bool:
        if not self._is_opening:
            return False  # somebody else is the writer now, as the lease says
        if self._asked_token is not None and self._asked_token not in (lease["token"], lease["replaced"]):
            raise refusal(self.name, FENCED, token=self._asked_token, current=lease["token"])
        return super()._follow(handoff, lease)

    def _stop(self, state: str, why: str | None, found: Handoff, lease: dict[str, Any]) -> None:
        assert self._handoff is not None, "it was judged"
        lost = self._handoff
        # NB a lease ahead of the edge: who had both died, or was refused, before the new segment was published.
        is_ahead = lease["generation"] > found.generation
        own = (lost.token, self._acquired)
        is_own = is_ahead and (self._is_opening or lease["replaced"] in own or lease["token"] == self._acquired)
        if STEPS[WRITER][state] == STOP and not (state == FENCED and is_own):
            raise refusal(self.name, state, token=lost.token, current=lease["token"], why=why)
        self._relocate(lost, lease, is_lost=why is not None)
        if self._is_opening:
            return
        error = refusal(self.name, DISCONNECTED if state == FENCED else state, token=lost.token, why=why)
        error.hint = f"The edge has a new segment, generation {self.generation}: push again what was in the old one."
        error.fields["generation"] = self.generation
        raise error

    def _relocate(self, lost: Handoff, lease: dict[str, Any], *, is_lost: bool) -> None:
        """Publishes an empty segment, a generation later; what another, or this one before, began is finished."""
        edges, leases = Edges(self.session), Leases(self.session)
        token: int = lease["token"]
        if token != lost.token:
            is_lost = not leases.is_there(lease)
        if is_lost or judged(lease, clock.now_ms()) in RECOVERABLE:
            same: dict[str, Any] = {field: lease[field] for field in ("kind", "bytes", "owner", "term_ms")}
            token = (leases.acquire(self.name, domain=self.domain, replace=token, **same).after or {})["token"]
            self._acquired = token
        else:
            leases.clear_up(self.name, lease)  # who got the lease may have died over that
        edges.create(self.name, token=token, slots=lost.slots, domain=self.domain)
        handoff, _ = checked(self.session.control, self._read)
        if handoff.token != token:
            raise refusal(self.name, FENCED, token=token, current=handoff.token)
        self._bind(handoff, relocated=True)


class EdgeReader(EdgeEnd):
    """The end of an edge at which records are taken."""

    side, op = READER, POP

    def __init__(self, session: Session, name: str, domain: str) -> None:
        super().__init__(session, name, domain)
        asked = Asked(self.op, self.name, self.domain, known=session.cluster.knows(self.domain))
        handoff, _ = checked(session.control, self._read)
        pass_segment(asked, handoff.domain)
        self._bind(handoff)

    def take(self, max: int = 1) -> Taken:
        """Returns the next records, which stay until they are finished; none says that the edge is empty."""
        return self._take(Ring.take, max)

    def pop(self, max: int = 1) -> Taken:
        """Takes the next records and finishes them."""

        def pop(ring: Ring, most: int) -> tuple[list[bytes], Front]:
            payloads, front = ring.pop(most)
            if payloads:
                self._count(front.head + len(payloads))
            return payloads, front

        return self._take(pop, max)

    def _take(self, how: Callable[[Ring, int], tuple[list[bytes], Front]], most: int) -> Taken:
        if type(most) is not int or not 1 <= most <= TAKE_MAX:
            raise Usage(f"At most {TAKE_MAX:,} records are taken at once, and at least 1; not {most!r:.40}.")

        def take(ring: Ring) -> Taken:
            payloads, front = how(ring, most)
            return Taken([Record(front.head + place, body) for place, body in enumerate(payloads)], self.generation)

        return self._do(take)

    def finished(self) -> Record | None:
        """Returns the record that was taken out last of the segment there is now, by whomever; None where none was."""
        found = self._do(Ring.finished)
        return None if found is None else Record(found[1].head - 1, found[0])

    def finish(self, taken: Taken) -> bool:
        """Takes the records out that `take` gave; returns False where there were none.

        Raises `GenerationConflict` where somebody else finished them, or the edge is in another segment by now.
        """
        if not isinstance(taken, Taken):
            raise Usage("finish takes what take gave.")
        if not taken.records:
            return False
        start, stop = taken.records[0].offset, taken.records[-1].offset + 1

        def finish(ring: Ring) -> bool:
            if taken.generation != self.generation:
                raise self._not_there(f"is of generation {taken.generation}, and the edge at {self.generation}", start)
            if ring.finish(start, stop) is None:
                return False
            self._count(stop)
            return True

        if not self._do(finish):
            raise self._not_there("was finished by somebody else", start)
        return True

    def _not_there(self, what: str, offset: int) -> GenerationConflict:
        return GenerationConflict(
            f"Record {offset} of the edge {self.name} {what}.",
            hint="Take again: what was not finished comes again, from the writer where its segment was lost.",
            edge=self.name,
            generation=self.generation,
        )

    def _stop(self, state: str, why: str | None, found: Handoff, lease: dict[str, Any]) -> None:
        self._why = None  # the writer decides whether the segment is lost, unless the ring says so
        if STEPS[READER][state] == STOP:
            raise refusal(self.name, state, token=self.token)
        if state == FENCED:
            state, why = DISCONNECTED, "its lease has another one, which is not published yet"
        error = refusal(self.name, state, token=self.token, why=why)
        error.hint = "Take again: its writer gives it a new segment, or you do with `grafctl edge relocate`."
        raise error


def _body(payload: object) -> bytes:
    if isinstance(payload, str):
        return payload.encode()
    if not isinstance(payload, bytes):
        raise Usage(f"A record of an edge is bytes or text, not {type(payload).__name__}.")
    return payload
