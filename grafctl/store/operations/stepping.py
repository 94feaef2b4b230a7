"""One step of a consumer that changes several resources: what it has read, what it made of it, what took effect.

Promises
- Changes of resources that share a log are one entry: in every domain all of them are there, or none is.
- Over several logs there is one entry a log, and the log of the last change comes last. Whoever finishes its input
  there leaves, at worst, outputs whose input is not finished; done again, their ids find them.
- A refusal of any change is the refusal of all changes of its log, and no later log is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from grafctl.store.blocks import NONE
from grafctl.store.checked import checked
from grafctl.store.driver.kill import point
from grafctl.store.log import Log
from grafctl.store.operations.retention import trim
from grafctl.store.requests import Request
from grafctl.store.resources.queue import Publish, Published, queue_row
from grafctl.store.resources.several import Several
from grafctl.store.session import Session


class Change(NamedTuple):
    """What a step asks of one resource."""

    resource: str
    request: Request


def step(session: Session, changes: Sequence[Change]) -> list[Any]:
    """Makes the changes and returns their answers in their order; raises the first refusal."""
    for change in changes:
        _prepare(session, change)
    places: dict[bytes, list[int]] = {}
    for place, change in enumerate(changes):
        log = session.resource(change.resource).id
        places[log] = [*places.pop(log, []), place]  # at the end: logs stand in the order of their last change
    answers: list[Any] = [None] * len(changes)
    for mine in places.values():
        found = _append(session, [changes[place] for place in mine])
        for place, answer in zip(mine, found, strict=True):
            answers[place] = answer
        point("step.appended")
    for change, answer in zip(changes, answers, strict=True):
        if isinstance(answer, Published) and answer.trim_due:
            trim(session, change.resource)
    return answers


def _prepare(session: Session, change: Change) -> None:
    """Packs and hashes what a request brings, before any lock is taken."""
    request: Any = change.request
    if isinstance(request, Publish):
        request.compression = _compression(session, change.resource)
    prepare = getattr(request, "prepare", None)
    if prepare is not None:
        prepare()


def _compression(session: Session, resource: str) -> str:
    found = session.compressions.get(resource)
    if found is None:
        row = checked(session.resource(resource), lambda state: queue_row(state, resource))
        found = session.compressions[resource] = row.get("compression", NONE)
    return found


def _append(session: Session, changes: Sequence[Change]) -> list[Any]:
    """Appends the changes of one log as one entry."""
    logs: list[Log] = [session.resource(change.resource) for change in changes]
    with session.audited("step"):
        if len(changes) == 1:
            return [logs[0].append(changes[0].request).answer]
        parts = [(log.number, change.request) for log, change in zip(logs, changes, strict=True)]
        answers: list[Any] = session.carrier(logs[0]).append(Several(parts)).answer
    return answers
