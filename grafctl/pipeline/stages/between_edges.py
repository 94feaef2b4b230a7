"""A stage that writes to an edge: what comes of a record goes on as parcels of the record's origin, in their order.

It reads an edge, in the middle of a chain, or a group, as the first of one.

Promises
- Of every origin one parcel says that it is the last: where nothing comes of a record, a mark.
- What is refused is a dead letter before its origin goes on, or stops the stage there; what came before it has gone on.
- A record of a group is finished when the last stage of the chain has committed what came of it.

When it fails: parcels that were pushed and not finished behind are pushed again; records of a group come again when
their lease is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from grafctl import clock
from grafctl.errors import GrafctlError
from grafctl.pipeline.message import Message, Refused, Transform, decode_value
from grafctl.pipeline.model import DeclaredStage
from grafctl.pipeline.stages.beginning_edges import Head
from grafctl.pipeline.stages.behind_edges import is_chain_idle, letter_of, place_on_edge, record_of
from grafctl.pipeline.stages.linking import EdgeIn, join
from grafctl.pipeline.stages.parcel import NO_DIGEST, Parcel, mark_of, without_marks
from grafctl.pipeline.stages.publishing import message_of, outgoing, source_id
from grafctl.pipeline.stages.reading import Input, is_lost_lease
from grafctl.pipeline.stages.work import Counts, Letter, Place, pass_stage, sort_out, stopped
from grafctl.results import Record
from grafctl.store.driver.kill import point
from grafctl.store.operations.stepping import Change, step
from grafctl.store.resources.queue import Publish

HOLD_MS = 10  # a tenth of the shortest term


class Ahead(NamedTuple):
    """A record that is worked on, and the parcel as which it came, or would have come."""

    record: Record
    parcel: Parcel


class _Linking:
    """What both have in common: one record to the parcels of it."""

    def __init__(self, place: Place, declared: DeclaredStage, transform: Transform) -> None:
        pass_stage(place, declared)
        self.place, self.declared, self.counts = place, declared, Counts()
        self._transform = transform
        self._work, self._out = join(place, declared, self.counts)
        self._held_ms = 0

    def _message(self, record: Record) -> Message:
        return message_of(record, decode_value(record.payload))

    def _hold(self) -> None:
        """Keeps the lease of the edge while a batch is worked on, which may take longer than its term.

        Not for each record: that took longer than most records do, and the ring's lock from who reads it.
        """
        now_ms = clock.now_ms()
        if not self._held_ms <= now_ms < self._held_ms + HOLD_MS:
            self._out.keep()
            self._held_ms = now_ms

    def _parcels(self, ahead: Ahead, resource: str) -> list[Parcel]:
        """Returns what comes of a record; raises `Refused`."""
        record, came = ahead
        source, found = source_id(resource, record), []
        for number, output in enumerate(self._transform(self._message(record))):
            if output.to is not None and output.to != self.declared.outputs[0]:
                raise Refused(f"It is routed to {output.to[:100]!r}, which is no output of the stage.")
            item = outgoing(self.declared.name, source, record, output, number, 0)
            parcel = came._replace(payload=item.payload, id=item.id, key=item.key, headers=item.headers, is_last=False)
            self._out.check(parcel)
            found.append(parcel)
        if not found:
            self.counts.filtered += 1
        elif came.is_last:
            found[-1] = found[-1]._replace(is_last=True)
        return found or ([mark_of(came)] if came.is_last else [])

    def _made(self, batch: Sequence[Ahead], resource: str) -> tuple[list[list[Parcel]], list[Letter]]:
        """Returns what comes of each record of a batch, and those that are refused."""
        made: list[list[Parcel]] = []
        letters: list[Letter] = []
        for at, ahead in enumerate(batch):
            self._hold()
            try:
                made.append(self._parcels(ahead, resource))
            except Refused as error:
                letters.append(Letter(at, str(error)))
                made.append([mark_of(ahead.parcel)] if ahead.parcel.is_last else [])
        return made, letters

    def _leave(self) -> None:
        try:
            self._out.close()
        finally:
            self._transform.close()
            self._work.close()

    def is_finished(self) -> bool:
        return False

    def interrupt(self) -> None:
        """Nothing here waits."""


class LinkingStage(_Linking):
    """A transform from one edge to another."""

    def __init__(self, place: Place, declared: DeclaredStage, transform: Transform) -> None:
        super().__init__(place, declared, transform)
        self._in = EdgeIn(place, declared, self._work, self.counts)
        self._until: int | None = None  # before which offset what is under way is to be finished

    def _message(self, record: Record) -> Message:
        return Message(decode_value(record.payload), record.id, record.key, record.headers, None)

    def step(self) -> bool:
        self._out.keep()
        if self._until is None:
            batch = self._in.take(self._out)
            if batch is None:
                return False
            self._until = self._begin(batch)
        moved = self._out.push()
        if not self._out.is_waiting:
            self._in.finish(self._until)
            self._until, moved = None, True
        return moved

    def _begin(self, batch: list[tuple[int, Parcel]]) -> int:
        """Puts what comes of a batch on its way, or of its part before a record at which the stage stops; returns
        before which offset."""
        generation = self._out.generation
        records = [Ahead(record_of(at, parcel), parcel) for at, parcel in batch if parcel.payload is not None]
        made, letters = self._made(records, self._in.name)
        places, aside, stop = sort_out(self.declared, len(records), letters)
        if stop is not None and stop.at == 0:
            raise stopped(self.declared, place_on_edge(self._in.name, records[0].record), stop)
        self._put_aside([records[letter.at].record for letter in aside], aside)
        until = self._in.end if stop is None else records[stop.at].record.offset
        by_offset = {records[at].record.offset: made[at] for at in range(len(places) if stop else len(records))}
        ways = [by_offset.get(at, [parcel]) for at, parcel in batch if at < until]
        self._out.put(without_marks(parcel for way in ways for parcel in way), generation)
        return until

    def _put_aside(self, records: Sequence[Record], letters: Sequence[Letter]) -> None:
        if not letters:
            return
        stage = self.declared
        assert stage.dead_letter is not None, "without one the stage stops"
        dead = [letter_of(stage, record, letter.reason) for record, letter in zip(records, letters, strict=True)]
        known = self.place.session.cluster.knows(self.place.domain)
        request = Publish(stage.dead_letter, dead, self.place.domain, atomic=True, known=known)
        step(self.place.session, [Change(stage.dead_letter, request)])
        point("stage.committed")
        self.counts.refused += len(letters)

    def is_idle(self) -> bool:
        return self._until is None and is_chain_idle(self.place, self._work)

    def leave(self) -> None:
        try:
            self._in.close()
        finally:
            self._leave()


class HeadStage(_Linking):
    """A transform from a group to an edge."""

    def __init__(self, place: Place, declared: DeclaredStage, transform: Transform) -> None:
        super().__init__(place, declared, transform)
        self._head = Head(self._work, self._out)
        self._input = Input(place, declared, self.counts)
        self._origin = 0  # in the run under way
        self._sent: list[tuple[int, int]] = []  # origin and offset of what is on its way

    def step(self) -> bool:
        try:
            return self._step()
        except GrafctlError as error:
            if not is_lost_lease(error):
                raise
            # What was pushed is committed all the same, and comes again: who has the lease now works on it too.
            self.counts.lost += self._input.lost()
            self._sent = []
            return True

    def _step(self) -> bool:
        if not self._head.watch(now=bool(self._sent) and not self._out.is_waiting):
            self._out.drop()
            self._origin, self._sent = 0, []
            return self._head.begin(anew=True) is not None
        if self._out.is_waiting:
            self._input.hold()
            return self._out.push()
        if self._sent:
            return self._settle()
        records = self._input.take()
        if not records:
            return False
        point("stage.leased")
        self._send(records)
        return True

    def _send(self, records: Sequence[Record]) -> None:
        assert self._head.run is not None, "a step has seen to it"
        run, generation = self._head.run.run, self._out.generation
        numbered = enumerate(records, self._origin)
        batch = [Ahead(record, Parcel(run, origin, True, NO_DIGEST, b"")) for origin, record in numbered]
        made, letters = self._made(batch, self._input.resource)
        places, aside, stop = sort_out(self.declared, len(batch), letters)
        if stop is not None and stop.at == 0:
            raise stopped(self.declared, self._input.place_of(records[0]), stop)
        if aside:
            gone = [(records[letter.at].offset, letter.reason) for letter in aside]
            step(self.place.session, self._input.changes([], gone))
            point("stage.committed")
            self._input.settled([offset for offset, _ in gone])
            self.counts.refused += len(gone)
        count = len(places) if stop is not None else len(batch)
        self._out.put(without_marks(parcel for way in made[:count] for parcel in way), generation)
        self._sent = [(batch[at].parcel.origin, records[at].offset) for at in places]
        self._origin += count
        self._out.push()

    def _hold(self) -> None:
        super()._hold()
        self._input.hold()

    def _settle(self) -> bool:
        """Finishes what the last stage has committed of what is on its way."""
        row = self._work.row
        until = row.next if row is not None and self._head.run is not None and row.run == self._head.run.run else 0
        done = [offset for origin, offset in self._sent if origin < until]
        if not done:
            self._input.hold()
            return False
        step(self.place.session, self._input.changes(done, []))
        point("stage.committed")
        self._input.settled(done)
        self._sent = [item for item in self._sent if item[0] >= until]
        return True

    def is_idle(self) -> bool:
        return not self._sent and self._input.is_idle()

    def leave(self) -> None:
        try:
            self._input.leave()
        finally:
            self._leave()
