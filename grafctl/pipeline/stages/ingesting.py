"""A stage that brings records in: read a source, publish, and put aside what is no record or is refused.

Promises
- The placement of the stage and that of its output are asked before the source is opened: who may not, reads nothing.
- An item that comes twice is stored once, by its id, and keeps its first offset. The same id with another payload is
  refused: it goes to the dead-letter resource with its reason, or stops the stage.
- Items are published in their order, and what is refused in the same entry where the resources share a log.
- Where that fails for now (no quorum, say), the next step tries the same items again; no later one overtakes them. One
  without an id may then be there twice, where nobody could tell whether the first try was written.

When it fails: what was published stays; the source is read again from its beginning, and the ids find what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from grafctl.errors import GrafctlError
from grafctl.pipeline.model import DEAD_LETTER, DeclaredSource, DeclaredStage
from grafctl.pipeline.sources.item import Item
from grafctl.pipeline.sources.opening import open_source
from grafctl.pipeline.stages.publishing import put_aside, refused_too, weight
from grafctl.pipeline.stages.work import BYTES_AIM, Counts, Letter, Place, pass_stage, sort_out, stopped
from grafctl.store.authority import PUBLISH
from grafctl.store.blocks import Outgoing
from grafctl.store.checked import checked
from grafctl.store.driver.kill import point
from grafctl.store.operations.stepping import Change, Step
from grafctl.store.resources.queue import Publish, Published


class Items(Protocol):
    """What a source is to a stage."""

    def batches(self) -> Iterator[list[Item]]:
        """Yields items as they come together, and an empty list before it waits for more."""
        ...

    def stop(self) -> None:
        """Ends the items soon; may be called in a signal handler and in another thread."""
        ...

    def close(self) -> None:
        """Gives back what the source holds."""
        ...


class Begin(Protocol):
    """What opens a source."""

    def __call__(self, source: DeclaredSource, *, folder: Path) -> Items: ...


class IngestStage:
    """A source at work."""

    def __init__(
        self, place: Place, declared: DeclaredStage, source: DeclaredSource, begin: Begin = open_source
    ) -> None:
        self.place, self.declared, self.counts = place, declared, Counts()
        pass_gates(place, declared, self._resources())
        self._source = begin(source, folder=place.pipeline.file.absolute().parent)
        self._batches = gather(self._source.batches(), declared.batch)
        self._pending: list[Item] | None = None  # read, and not committed yet
        self._letters: list[Letter] = []  # those of them that are refused, as far as it is known
        self._is_finished = False
        self._step: Step | None = None  # which an error that may pass has cut short

    def _resources(self) -> list[str]:
        stage = self.declared
        aside = [stage.dead_letter] if stage.dead_letter is not None and stage.on_error == DEAD_LETTER else []
        return [*stage.outputs[:1], *aside]

    def step(self) -> bool:
        if self._pending is None:
            self._pending = next(self._batches, None)
            if self._pending is None:
                self._is_finished = True
                return False
            point("stage.read")
            self.counts.read += len(self._pending)
            found = enumerate(self._pending)
            self._letters = [Letter(at, item.problem) for at, item in found if item.problem is not None]
        self._commit(self._pending)
        self._pending = None
        return True

    def _commit(self, items: Sequence[Item]) -> None:
        while True:
            kept, aside, stop = sort_out(self.declared, len(items), self._letters)
            changes = self._changes(items, kept, aside)
            try:
                answers = self._run(changes) if changes else []
            except GrafctlError as error:
                self._letters = refused_too(error, self._letters)
                continue
            point("stage.committed")
            self._count(answers[0] if kept else None, len(aside))
            if stop is not None:
                raise stopped(self.declared, items[stop.at].place, stop)
            return

    def _run(self, changes: list[Change]) -> list[Any]:
        """Makes the changes, or goes on with those of an earlier try: equal, since items and letters are the same."""
        if self._step is None:
            self._step = Step(self.place.session, changes)
        try:
            answers = self._step.run()
        except GrafctlError as error:
            if not error.as_json()["retryable"]:
                self._step = None
            raise
        self._step = None
        return answers

    def _changes(self, items: Sequence[Item], kept: list[int], aside: list[Letter]) -> list[Change]:
        place, output = self.place, self.declared.outputs[0]
        known = place.session.cluster.knows(place.domain)
        changes = []
        if kept:
            records = [
                Outgoing(item.payload, item.id, item.key, item.headers, at + 1) for at, item in _chosen(items, kept)
            ]
            changes.append(Change(output, Publish(output, records, place.domain, atomic=True, known=known)))
        if aside:
            assert self.declared.dead_letter is not None
            dead = [self._letter(items[letter.at], letter.reason) for letter in aside]
            request = Publish(self.declared.dead_letter, dead, place.domain, atomic=True, known=known)
            changes.append(Change(self.declared.dead_letter, request))
        return changes

    def _letter(self, item: Item, reason: str) -> Outgoing:
        return put_aside(self.declared.name, item.place, item.payload, reason)

    def _count(self, published: Published | None, aside: int) -> None:
        self.counts.refused += aside
        if published is not None:
            self.counts.written += published.added
            self.counts.replayed += published.records - published.added

    def is_finished(self) -> bool:
        return self._is_finished

    def is_idle(self) -> bool:
        return self._is_finished

    def leave(self) -> None:
        self._source.close()

    def interrupt(self) -> None:
        self._source.stop()


def _chosen(items: Sequence[Item], places: list[int]) -> Iterator[tuple[int, Item]]:
    return ((at, items[at]) for at in places)


def pass_gates(place: Place, stage: DeclaredStage, resources: Sequence[str]) -> None:
    """Raises `DomainUnavailable` (11) where the stage, or a publish to one of these, is not allowed here."""
    pass_stage(place, stage)
    known = place.session.cluster.knows(place.domain)
    for resource in resources:
        with place.session.audited(PUBLISH):
            request = Publish(resource, [], place.domain, known=known)
            checked(place.session.resource(resource), request.pass_gate)


def gather(batches: Iterator[list[Item]], most: int) -> Iterator[list[Item]]:
    """Yields as many items as a stage takes at once, and what there is before the source waits for more."""
    waiting: list[Item] = []
    size = 0
    try:
        for items in batches:
            for item in items:
                waiting.append(item)
                size += weight(item)
                if len(waiting) == most or size >= BYTES_AIM:
                    yield waiting
                    waiting, size = [], 0
            if waiting and not items:
                yield waiting
                waiting, size = [], 0
    except GrafctlError:
        if waiting:  # what was read before the source failed
            yield waiting
        raise
    if waiting:
        yield waiting
