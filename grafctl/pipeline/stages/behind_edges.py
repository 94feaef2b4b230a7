"""The last stage of a chain: its input is an edge, and what it writes is durable.

To what works on records it looks like the records of a group (`reading.py`): they are taken, worked on, finished or put
aside. What is put aside goes to the stage's own dead letters, since an edge has no group that would keep them.

Promises
- A parcel is finished only after what came of it is durable; the checkpoint is written behind that, every so often
  and whenever there is nothing more to do.
- The checkpoint goes beyond an origin when the last parcel of it has been finished here, and not before.

When it fails: what was committed and not finished comes again. What was finished and is not in the checkpoint is found
in the free slot of the ring by the next one who is this stage; where that segment is lost, the first stage reads it
again. The effect keys find what comes again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from grafctl import clock
from grafctl.pipeline.message import Message
from grafctl.pipeline.model import DeclaredStage
from grafctl.pipeline.stages.linking import ChainWork, EdgeIn
from grafctl.pipeline.stages.parcel import Parcel
from grafctl.pipeline.stages.publishing import put_aside, source_id
from grafctl.pipeline.stages.reading import is_finished_for
from grafctl.pipeline.stages.work import Counts, Place
from grafctl.results import Record
from grafctl.store.blocks import Outgoing
from grafctl.store.operations.stepping import Change
from grafctl.store.resources.queue import Publish

CHECKPOINT_S = 0.5  # so often the checkpoint is written while there is always more to do


class EdgeInput:
    """The records of an edge, for the last stage of a chain."""

    def __init__(self, place: Place, stage: DeclaredStage, counts: Counts) -> None:
        assert stage.input is not None
        self.place, self.declared, self.resource = place, stage, stage.input
        self.work = ChainWork(place, stage)
        self._edge = EdgeIn(place, stage, self.work, counts)
        self._records: list[Record] = []
        self._open: set[int] = set()
        self._run, self._next, self._digest = 0, 0, ""
        self._is_written = True
        self._is_taken_up = False
        self._write_at_s = 0.0

    def work_on(self, work: Callable[[Sequence[Record]], None]) -> bool:
        """Takes a batch and works on it; returns whether anything was done."""
        if not self._is_taken_up:
            self._take_up()
        if not self._open:
            found = self._edge.take()
            if found is None:
                return self._write()
            kept = [(offset, parcel) for offset, parcel in found if parcel.payload is not None]
            self._records = [record_of(offset, parcel) for offset, parcel in kept]
            self._open = {offset for offset, _ in kept}
        left = [record for record in self._records if record.offset in self._open]
        if left:
            work(left)
        self._advance()
        if clock.monotonic_s() >= self._write_at_s:
            self._write()
        return True

    def _take_up(self) -> None:
        """Takes up where who was this stage before died: what it finished last may not be in the checkpoint yet, and
        nothing more may come before it is."""
        self._is_taken_up, parcel = self._edge.finished()
        if parcel is not None and parcel.is_last:
            self._run, self._next, self._digest = parcel.run, parcel.origin + 1, parcel.digest.hex()
            self._is_written = False

    def _advance(self) -> None:
        """Finishes what nothing is left to be done about, from the first one on."""
        for parcel in self._edge.finish(min(self._open, default=None)):
            row = self.work.row
            if row is not None and parcel.run == row.run and parcel.is_last:
                self._run, self._next, self._digest = parcel.run, parcel.origin + 1, parcel.digest.hex()
                self._is_written = False

    def _write(self) -> bool:
        """Writes the checkpoint, where it has moved."""
        if self._is_written:
            return False
        self.work.checkpoint(self._run, next=self._next, digest=self._digest)
        self._is_written = True
        self._write_at_s = clock.monotonic_s() + CHECKPOINT_S
        return True

    def message(self, record: Record, value: object) -> Message:
        """Returns what a transform sees: where it stands on an edge says nothing, so there is no offset."""
        return Message(value, record.id, record.key, record.headers, None)

    def name_of(self, record: Record) -> str:
        return source_id(self.resource, record)

    def place_of(self, record: Record) -> str:
        """Returns how a sentence calls the place of a record: its number on an edge would say nothing."""
        return place_on_edge(self.resource, record)

    def hold(self) -> None:
        """An edge needs no lease of who reads it."""

    def changes(self, offsets: list[int], letters: list[tuple[int, str]]) -> list[Change]:
        """Returns what puts records aside; what is finished needs no change of the store."""
        if not letters:
            return []
        assert self.declared.dead_letter is not None, "without one a stage of a chain stops"
        place, records = self.place, {record.offset: record for record in self._records}
        dead = [letter_of(self.declared, records[offset], reason) for offset, reason in letters]
        known = place.session.cluster.knows(place.domain)
        request = Publish(self.declared.dead_letter, dead, place.domain, atomic=True, known=known)
        return [Change(self.declared.dead_letter, request)]

    def settled(self, offsets: Sequence[int]) -> None:
        """Notes that these are finished, or put aside."""
        self._open.difference_update(offsets)

    def done(self, offsets: Sequence[int]) -> None:
        self.settled(offsets)

    def is_idle(self) -> bool:
        """Returns whether all of the chain's input is committed."""
        return not self._open and self._is_written and is_chain_idle(self.place, self.work)

    def leave(self) -> None:
        try:
            self._advance()
            self._write()
        finally:
            self._edge.close()
            self.work.close()


def letter_of(stage: DeclaredStage, record: Record, reason: str) -> Outgoing:
    """Returns the dead letter of a record of an edge."""
    return put_aside(stage.name, place_on_edge(str(stage.input), record), record.payload, reason)


def place_on_edge(edge: str, record: Record) -> str:
    return f"{edge}:{record.id}"


def record_of(offset: int, parcel: Parcel) -> Record:
    """Returns a parcel as the record that it is."""
    assert parcel.payload is not None, "a mark is no record"
    headers = None if parcel.headers is None else dict(parcel.headers)
    return Record(offset, parcel.payload, parcel.id, parcel.key, headers)


def is_chain_idle(place: Place, work: ChainWork) -> bool:
    """Returns whether all that the first stage of a chain reads is committed by the last."""
    first = next(stage for stage in place.pipeline.stages if stage.name == work.chain.stages[0])
    if first.input is not None:
        return is_finished_for(place.session, first.input, first.group)
    row = work.look().row
    return row is not None and row.is_done
