"""A stage that commits rows outside the store: read, make rows, commit each under its effect key, and then finish.

Promises
- Rows and their effect keys are one transaction of the warehouse, and the records are finished only after it. Whoever
  dies in between leaves records that come again and change nothing: their effect keys are there.
- A record that makes no row, or whose effect key holds another row, goes to the dead letters with its reason, or stops
  the stage there.
"""

from __future__ import annotations

from collections.abc import Sequence

from grafctl.errors import IdempotencyConflict
from grafctl.pipeline.message import Refused, decode_value
from grafctl.pipeline.model import DeclaredStage
from grafctl.pipeline.sinks.row import Row, Sink
from grafctl.pipeline.stages.reading import ReadingStage
from grafctl.pipeline.stages.work import Letter, Place, stopped, stops
from grafctl.results import Record
from grafctl.store.driver.kill import point
from grafctl.store.operations.stepping import step


class SinkStage(ReadingStage):
    """A sink at work."""

    def __init__(self, place: Place, declared: DeclaredStage, sink: Sink) -> None:
        super().__init__(place, declared, sink)
        self._sink = sink

    def _work(self, records: Sequence[Record]) -> None:
        rows, places, letters = self._rows(records)
        self._input.hold()
        if rows:
            written = self._sink.commit(rows)
            point("sink.committed")
            self.counts.written += written.written
            self.counts.replayed += written.replayed
            letters += [Letter(places[number], reason, _conflict(reason)) for number, reason in written.conflicts]
        stop = min((letter.at for letter in letters), default=None) if stops(self.declared) else None
        refused = {letter.at for letter in letters}
        done = [records[at].offset for at in places if at not in refused]
        if stop is not None:
            self._input.done(done)
            letter = next(letter for letter in letters if letter.at == stop)
            raise stopped(self.declared, self._input.place_of(records[stop]), letter)
        if letters:
            aside = [(records[letter.at].offset, letter.reason) for letter in letters]
            step(self.place.session, self._input.changes(done, aside))
            point("stage.committed")
            self._input.settled([*done, *(offset for offset, _ in aside)])
            self.counts.refused += len(letters)
        else:
            self._input.done(done)

    def _rows(self, records: Sequence[Record]) -> tuple[list[Row], list[int], list[Letter]]:
        """Returns the rows, the place of each in the batch, and the records that make none."""
        rows: list[Row] = []
        places: list[int] = []
        letters: list[Letter] = []
        for at, record in enumerate(records):
            try:
                rows.append(self._sink.make_row(self._input.message(record, decode_value(record.payload))))
            except Refused as error:
                letters.append(Letter(at, str(error)))
                if stops(self.declared):
                    break
            else:
                places.append(at)
        return rows, places, letters


def _conflict(reason: str) -> IdempotencyConflict:
    """Returns the error of a row whose effect key holds another one."""
    return IdempotencyConflict(reason, hint="Give the new row a key of its own, or mend the record.")
