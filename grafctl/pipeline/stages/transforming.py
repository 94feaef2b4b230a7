"""A stage that makes records of records: read, transform, and commit what came of it together with what was read.

Promises
- Where input, outputs and effects share a log, a batch is one entry: the records are finished, their effects recorded
  and the outputs published in every domain, or nothing of it is. In several logs the input's comes last.
- A record that the transform, a schema or the store refuses goes to the dead letters of the group with its reason, or
  stops the stage there; what came before it is committed, and nothing is dropped.

When it fails: a process that dies leaves records whose lease runs out; whoever reads them next, in whichever allowed
domain, makes the same outputs under the same ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from grafctl.errors import GrafctlError
from grafctl.pipeline.message import Refused, Transform, decode_value
from grafctl.pipeline.model import DeclaredStage
from grafctl.pipeline.stages.publishing import outgoing, refused_too, weight
from grafctl.pipeline.stages.reading import ReadingStage
from grafctl.pipeline.stages.work import BYTES_AIM, RECORD_BYTES_MAX, Letter, Place, sort_out, stopped, stops
from grafctl.results import Record
from grafctl.store.blocks import Outgoing
from grafctl.store.driver.kill import point
from grafctl.store.operations.stepping import Change, step
from grafctl.store.resources.effects import RecordEffects
from grafctl.store.resources.queue import Publish, Published


class Made(NamedTuple):
    """What came of one record."""

    record: Record
    outputs: list[tuple[str, Outgoing]]  # where each goes
    effect: tuple[str, bytes, bytes] | None
    weight: int = 0  # of the outputs


class TransformStage(ReadingStage):
    """A transform at work."""

    def __init__(self, place: Place, declared: DeclaredStage, transform: Transform) -> None:
        super().__init__(place, declared, transform)
        self._transform = transform
        self._definition = transform.fingerprint.encode()
        self._begun = len(self._definition).to_bytes(4, "big") + self._definition

    def _work(self, records: Sequence[Record]) -> None:
        """Transforms and commits the batch, in parts where much comes of it."""
        made: list[Made] = []
        letters: list[Letter] = []
        size = begun = 0
        for at, record in enumerate(records):
            self._input.hold()
            try:
                found = self._make(record, at - begun)
            except Refused as error:
                letters.append(Letter(at - begun, str(error)))
                found = Made(record, [], None)
                if stops(self.declared):
                    made.append(found)
                    break
            made.append(found)
            size += found.weight
            if size >= BYTES_AIM:
                self._commit(made, letters)
                made, letters, size, begun = [], [], 0, at + 1
        if made:
            self._commit(made, letters)

    def _make(self, record: Record, at: int) -> Made:
        stage, source = self.declared, self._input.name_of(record)
        outputs = self._transform(self._input.message(record, decode_value(record.payload)))
        found, size = [], 0
        for number, output in enumerate(outputs):
            to = output.to
            if to is None:
                to = stage.outputs[0]
            elif to not in stage.outputs:
                raise Refused(f"It is routed to {to[:100]!r}, which is no output of the stage.")
            item = outgoing(stage.name, source, record, output, number, at)
            found.append((to, item))
            size += weight(item)
        if size > RECORD_BYTES_MAX:
            raise Refused(
                f"What comes of it has {size:,} bytes; at most {RECORD_BYTES_MAX:,} are committed for one record."
            )
        effect = self._effect(source, record, len(found)) if stage.effects is not None else None
        return Made(record, found, effect, size)

    def _effect(self, source: str, record: Record, outputs: int) -> tuple[str, bytes, bytes]:
        """Returns what is recorded of a record: what it was, by which definition, and how much came of it."""
        whole = hashlib.sha256(self._begun + record.payload)
        result = b"%s %d" % (self._definition, outputs)
        return source, whole.digest(), result

    def _commit(self, made: list[Made], letters: list[Letter]) -> None:
        """Commits what came of some records; those that the store refuses are put aside, and the rest tried again."""
        while True:
            places, aside, stop = sort_out(self.declared, len(made), letters)
            kept = {at: made[at] for at in places}
            effects = {at: item.effect for at, item in kept.items() if item.effect is not None}
            changes = self._changes(made, kept, aside, list(effects.values()))
            try:
                answers = step(self.place.session, changes) if changes else []
            except GrafctlError as error:
                letters = refused_too(error, letters, effects)
                continue
            point("stage.committed")
            self._count(kept, aside, answers)
            self._input.settled([made[at].record.offset for at in (*kept, *(letter.at for letter in aside))])
            if stop is not None:
                raise stopped(self.declared, self._input.place_of(made[stop.at].record), stop)
            return

    def _changes(
        self, made: list[Made], kept: dict[int, Made], aside: list[Letter], effects: list[tuple[str, bytes, bytes]]
    ) -> list[Change]:
        stage, place = self.declared, self.place
        known = place.session.cluster.knows(place.domain)
        changes = []
        if effects and stage.effects is not None:  # first, because its refusal says more than that of an output
            request = RecordEffects(stage.effects, stage.name, effects, place.domain, None, known)
            changes.append(Change(stage.effects, request))
        for resource in stage.outputs:
            records = [item for found in kept.values() for to, item in found.outputs if to == resource]
            if records:
                changes.append(Change(resource, Publish(resource, records, place.domain, atomic=True, known=known)))
        finished = [item.record.offset for item in kept.values()]
        letters = [(made[letter.at].record.offset, letter.reason) for letter in aside]
        return changes + self._input.changes(finished, letters)

    def _count(self, kept: dict[int, Made], aside: list[Letter], answers: list[object]) -> None:
        counts = self.counts
        counts.refused += len(aside)
        counts.filtered += sum(not item.outputs for item in kept.values())
        for answer in answers:
            if isinstance(answer, Published):
                counts.written += answer.added
                counts.replayed += answer.records - answer.added
