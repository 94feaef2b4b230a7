"""The first stage of a chain: it reads what is durable, begins the runs, and reads again from the checkpoint on.

Of a source a record's origin is its number there; the checkpoint says how many of them are committed, and a digest says
that those before it are still the same. Where they are not, another file lies there now, and all of it is read. Of a
group a run counts its own origins from 0, and its records stay leased until the last stage has committed them.

Promises
- A run is begun only where every edge of the chain is there, and a new one as soon as one of them has another
  generation.
- Nothing is acknowledged before the last stage has committed it: a record of a group is finished, and the checkpoint of
  a source moves, behind that.
- A source has ended when its last record is committed, not when it was read.

When it fails: a source is read again from the checkpoint on; records of a group come again when their lease is over.
What the last stage had committed by then changes nothing there, by its effect key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain

from grafctl import clock
from grafctl.errors import Usage
from grafctl.pipeline.message import Refused
from grafctl.pipeline.model import DEAD_LETTER, DeclaredSource, DeclaredStage
from grafctl.pipeline.sources.item import Item
from grafctl.pipeline.sources.opening import Source, open_source
from grafctl.pipeline.sources.reading import check_file
from grafctl.pipeline.stages.ingesting import gather, pass_gates
from grafctl.pipeline.stages.linking import ChainWork, EdgeOut, join
from grafctl.pipeline.stages.parcel import DIGEST_BYTES, NO_DIGEST, Parcel, mark_of, without_marks
from grafctl.pipeline.stages.publishing import put_aside
from grafctl.pipeline.stages.work import Counts, Letter, Place, sort_out, stopped
from grafctl.store.driver.kill import point
from grafctl.store.operations.stepping import Change, step
from grafctl.store.resources.chains import ChainRow
from grafctl.store.resources.queue import Publish

LOOK_S = 0.05  # so often a stage that has work looks whether an edge has lost something


class Head:
    """The runs of a chain, as its first stage sees to them."""

    def __init__(self, work: ChainWork, out: EdgeOut) -> None:
        self.work, self.out = work, out
        self.run: ChainRow | None = None  # that this stage has begun
        self._look_s = 0.0

    def watch(self, *, now: bool) -> bool:
        """Looks at the chain where it is time to; returns False where the run is over, or there is none yet."""
        self.out.keep()
        if now or clock.monotonic_s() >= self._look_s or self.run is None:
            found = self.work.look()
            self._look_s = clock.monotonic_s() + LOOK_S
            if found.row is None or self.run is None or found.row.run != self.run.run or not found.is_whole:
                self.run = None
        if self.run is not None and self.run.edges[self.out.edge.name] != self.out.generation:
            self.run = None
        return self.run is not None

    def begin(self, *, anew: bool) -> ChainRow | None:
        """Begins the next run; returns None where an edge is not there yet."""
        if not all(self.work.look().edges.values()):
            return None
        self.run = self.work.begin(anew=anew)
        return self.run


class HeadIngestStage:
    """A source at work, in front of an edge."""

    def __init__(self, place: Place, declared: DeclaredStage, source: DeclaredSource) -> None:
        self.place, self.declared, self.counts = place, declared, Counts()
        self._resources = [declared.dead_letter] if declared.dead_letter and declared.on_error == DEAD_LETTER else []
        pass_gates(place, declared, self._resources)
        self._declared_source = source
        for path in source.paths:
            check_file(path, source.name)
            if not path.is_file():
                raise Usage(f"Source {source.name}: {path} is no file that could be read again.", hint=_HINT)
        self._work, self._out = join(place, declared, self.counts)
        self._head = Head(self._work, self._out)
        self._source: Source | None = None
        self._batches: Iterator[list[Item]] = iter(())
        self._pending: list[Item] | None = None
        self._letters: list[Letter] = []
        self._origin, self._digest = 0, NO_DIGEST  # before the next item
        self._is_stopped = self._is_at_end = False

    def step(self) -> bool:
        if not self._head.watch(now=self._is_at_end):
            return self._rewind()
        if self._out.is_waiting:
            return self._out.push()
        if self._is_at_end:
            return False
        if self._pending is None:
            self._pending = next(self._batches, None)
            if self._is_stopped:
                return False  # and what ended is not the source
            if self._pending is None:
                return self._end()
            point("stage.read")
            self.counts.read += len(self._pending)
            found = enumerate(self._pending)
            self._letters = [Letter(at, item.problem) for at, item in found if item.problem is not None]
        self._send(self._pending)
        self._pending = None
        return True

    def _send(self, items: Sequence[Item]) -> None:
        """Puts aside what is refused, and the rest on its way; what is refused goes by as a mark."""
        assert self._head.run is not None, "a step has seen to it"
        run, digest, parcels, letters = self._head.run.run, self._digest, list[Parcel](), list(self._letters)
        problems = {letter.at for letter in letters}
        for at, item in enumerate(items):
            digest = rolled(digest, item)
            origin = self._origin + at
            id = item.id if item.id is not None else f"{self._declared_source.name}@{origin}"
            parcel = Parcel(run, origin, True, digest, item.payload, id, item.key, item.headers)
            if at not in problems:
                try:
                    self._out.check(parcel)
                except Refused as error:
                    letters.append(Letter(at, str(error)))
            parcels.append(parcel)
        _, aside, stop = sort_out(self.declared, len(items), letters)
        self._put_aside(items, aside)
        refused = {letter.at for letter in letters}
        if stop is not None:
            parcels = parcels[: stop.at]
        marked = (mark_of(item) if at in refused else item for at, item in enumerate(parcels))
        self._out.put(without_marks(marked), self._head.run.edges[self._out.edge.name])
        self._origin += len(parcels)
        self._digest = parcels[-1].digest if parcels else self._digest
        if stop is not None:
            self._out.push()
            raise stopped(self.declared, items[stop.at].place, stop)

    def _put_aside(self, items: Sequence[Item], letters: Sequence[Letter]) -> None:
        if not letters:
            return
        stage = self.declared
        assert stage.dead_letter is not None, "without one the stage stops"
        dead = [put_aside(stage.name, items[at].place, items[at].payload, reason) for at, reason, _ in letters]
        known = self.place.session.cluster.knows(self.place.domain)
        request = Publish(stage.dead_letter, dead, self.place.domain, atomic=True, known=known)
        step(self.place.session, [Change(stage.dead_letter, request)])
        self.counts.refused += len(letters)

    # --- runs

    def _rewind(self) -> bool:
        """Begins a run, and goes back in the source to the checkpoint."""
        self._out.drop()
        self._pending = None
        if (row := self._head.begin(anew=False)) is None:
            return False
        if not self._go_to(row) and not self._is_stopped:
            row = self._head.begin(anew=True)
            if row is not None:
                self._go_to(row)
        return True

    def _go_to(self, row: ChainRow) -> bool:
        """Opens the source at the checkpoint; returns False where what is before it there is not what was committed."""
        if self._source is not None:
            self._source.close()
        folder = self.place.pipeline.file.absolute().parent
        self._source = source = open_source(self._declared_source, folder=folder)
        if self._is_stopped:
            source.stop()
        batches = source.batches()
        self._origin, self._digest, self._is_at_end, left = 0, NO_DIGEST, False, list[Item]()
        while self._origin < row.next:
            items = next(batches, None)
            if items is None:
                return False
            passed = items[: row.next - self._origin]
            for item in passed:
                self._digest = rolled(self._digest, item)
            self._origin += len(passed)
            left = items[len(passed) :]
        self._batches = gather(chain([left] if left else [], batches), self.declared.batch)
        return row.next == 0 or self._digest.hex() == row.digest

    def _end(self) -> bool:
        assert self._head.run is not None, "a step has seen to it"
        self._is_at_end = True
        self._work.checkpoint(self._head.run.run, end=self._origin)
        return True

    def is_finished(self) -> bool:
        row = self._work.row
        return self._is_at_end and row is not None and self._head.run is not None and row.is_done

    def is_idle(self) -> bool:
        return self.is_finished()

    def leave(self) -> None:
        if self._source is not None:
            self._source.close()
        self._out.close()
        self._work.close()

    def interrupt(self) -> None:
        self._is_stopped = True
        if self._source is not None:
            self._source.stop()


def rolled(digest: bytes, item: Item) -> bytes:
    """Returns the digest of a source up to and with an item, by that of what was before it."""
    problem = (item.problem or "").encode()
    return hashlib.blake2b(digest + item.payload + problem, digest_size=DIGEST_BYTES).digest()


_HINT = "Take a file, or a queue or a topic in the place of the edge."
