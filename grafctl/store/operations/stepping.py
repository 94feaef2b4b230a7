"""One step of a consumer that changes several resources: what it has read, what it made of it, what took effect.

Promises
- Changes of resources that share a log are one entry: in every domain all of them are there, or none is.
- Over several logs there is one entry a log, and the log of the last change comes last. Whoever finishes its input
  there leaves, at worst, outputs whose input is not finished; done again, their ids find them.
- What is published is checked by the schema of its resource before anything is changed.
- A refusal of any change is the refusal of all changes of its log, and no later log is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from grafctl.errors import GrafctlError
from grafctl.store.blocks import NONE
from grafctl.store.checked import checked
from grafctl.store.driver.kill import point
from grafctl.store.log import Log
from grafctl.store.operations.publishing import parse_operation
from grafctl.store.operations.retention import trim
from grafctl.store.requests import Request
from grafctl.store.resources.queue import Publish, Published, queue_row
from grafctl.store.resources.several import Several
from grafctl.store.session import Session


class Change(NamedTuple):
    """What a step asks of one resource."""

    resource: str
    request: Request


class Step:
    """Changes on their way. After an error that may pass, `run` again goes on: with the same keys, and without what is
    done, so that nothing is done twice, also where nobody knew what had come of the first try."""

    def __init__(self, session: Session, changes: Sequence[Change]) -> None:
        self._session, self._changes = session, changes
        self._answers: list[Any] = [None] * len(changes)
        self._left: dict[bytes, list[int]] | None = None  # log -> the places of its changes
        self._operations: dict[bytes, str] = {}  # of tries of which nobody knows

    def run(self) -> list[Any]:
        """Makes the changes and returns their answers in their order; raises the first refusal.

        The answer is None where the key of an earlier try was found, and the request cannot say what it had been told.
        """
        if self._left is None:
            for change in self._changes:
                _prepare(self._session, change)
            self._left = {}
            for place, change in enumerate(self._changes):
                log = self._session.resource(change.resource).id
                # At the end each time: logs stand in the order of their last change.
                self._left[log] = [*self._left.pop(log, []), place]
        for log, places in list(self._left.items()):
            found = self._append(log, [self._changes[place] for place in places])
            for place, answer in zip(places, found, strict=True):
                self._answers[place] = answer
            del self._left[log]
            point("step.appended")
        for change, answer in zip(self._changes, self._answers, strict=True):
            if isinstance(answer, Published) and answer.trim_due:
                trim(self._session, change.resource)
        return self._answers

    def _append(self, log: bytes, changes: Sequence[Change]) -> list[Any]:
        """Appends the changes of one log as one entry."""
        session = self._session
        logs: list[Log] = [session.resource(change.resource) for change in changes]
        operation, hint = parse_operation(self._operations.get(log))
        at: dict[str, Any] = {"operation": operation, "hint": hint}
        try:
            with session.audited("step"):
                if len(changes) == 1:
                    return [logs[0].append(changes[0].request, **at).answer]
                parts = [(log.number, change.request) for log, change in zip(logs, changes, strict=True)]
                answers = session.carrier(logs[0]).append(Several(parts), **at).answer
        except GrafctlError as error:
            if isinstance(name := error.fields.get("operation"), str):
                self._operations[log] = name
            raise
        return [None] * len(changes) if answers is None else list(answers)


def step(session: Session, changes: Sequence[Change]) -> list[Any]:
    """Makes the changes of one step and returns their answers in their order; raises the first refusal."""
    return Step(session, changes).run()


def _prepare(session: Session, change: Change) -> None:
    """Packs and hashes what a request brings, before any lock is taken."""
    request: Any = change.request
    if isinstance(request, Publish):
        request.compression = _compression(session, change.resource)
        _check_schema(session, request)
    prepare = getattr(request, "prepare", None)
    if prepare is not None:
        prepare()


def _check_schema(session: Session, request: Publish) -> None:
    """Raises `SchemaMismatch` with every record that does not conform in `mismatches`."""
    document = session.schema_of(request.resource)
    if document is not None:
        from grafctl.store.operations.conforming import mismatches, refusal

        if wrong := mismatches(document, request.records):
            error = refusal(request.resource, wrong, one=len(request.records) == 1)
            error.fields["mismatches"] = wrong
            raise error


def _compression(session: Session, resource: str) -> str:
    found = session.compressions.get(resource)
    if found is None:
        row = checked(session.resource(resource), lambda state: queue_row(state, resource))
        found = session.compressions[resource] = row.get("compression", NONE)
    return found
