"""Records against the schema of what they are published to, before any lock is taken.

Promises
- Each payload is checked once. A refusal by the gate comes before one by the schema.
- What is told of a record is its place, its id and the rule that it breaks; never a value of it.
- Of a batch what conforms is published, and the rest is told, unless it is `atomic` or a single record.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from grafctl.errors import SchemaMismatch
from grafctl.json_schema import Schema, parse_document
from grafctl.store.authority import PUBLISH
from grafctl.store.blocks import Outgoing
from grafctl.store.checked import checked
from grafctl.store.log import Log
from grafctl.store.resources.queue import Publish
from grafctl.store.session import Session

SHOWN_MAX = 100


@lru_cache(maxsize=64)
def _schema(document: str) -> Schema:
    return Schema(parse_document(document.encode()))


def mismatches(document: str, records: Sequence[Outgoing] | Sequence[bytes]) -> list[dict[str, Any]]:
    """Returns for each record that does not conform its place, its line and id, where in it, and the rule."""
    look = _schema(document).mismatch
    found: list[dict[str, Any]] = []
    every: Sequence[Any] = records
    for place, record in enumerate(every):
        is_full = isinstance(record, Outgoing)
        why = look(record.payload if is_full else record)
        if why is not None:
            told = {name: getattr(record, name) for name in ("line", "id") if is_full and getattr(record, name)}
            found.append({"place": place, **told, "path": why.pointer, "rule": why.rule})
    return found


def sift(
    session: Session, log: Log, document: str, request: Publish, *, skips: bool
) -> tuple[Publish | None, list[dict[str, Any]]]:
    """Returns the request with what conforms, None where nothing does, and what does not.

    Raises `SchemaMismatch` for an atomic batch, and for a single record unless it `skips` what does not conform.
    """
    wrong = mismatches(document, request.records)
    if not wrong:
        return request, []
    with session.audited(PUBLISH):
        checked(log, request.pass_gate)
    if request.atomic or (len(request.records) == 1 and not skips):
        raise refusal(request.resource, wrong, one=len(request.records) == 1)
    places = {item["place"] for item in wrong}
    fit: Any = [record for place, record in enumerate(request.records) if place not in places]
    return (request.of(fit) if fit else None), wrong


def refusal(resource: str, wrong: list[dict[str, Any]], *, one: bool) -> SchemaMismatch:
    """Returns the refusal of a record, or of a batch that is published as a whole or not at all."""
    first = wrong[0]
    where = f" at {first['path']}" if first["path"] else ""
    what = "The record does" if one else f"{len(wrong)} records do"
    line = f" (line {first['line']})" if "line" in first else ""
    return SchemaMismatch(
        f"{what} not conform to the schema of {resource}{line}{where}: {first['rule']}.",
        hint=f"Run `grafctl queue show {resource}` for its schema, and `grafctl schema show` for what that says.",
        resource=resource,
        mismatches=wrong[:SHOWN_MAX],
        refused=len(wrong),
    )
