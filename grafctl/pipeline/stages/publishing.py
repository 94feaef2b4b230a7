"""Records on their way to resources, with ids that are the same each time, and what the store refuses of them.

Promises
- The id of what a stage publishes is a function of its name, of the record that it came from and of its place among
  what came of that; so whatever is done twice is published once.
- A batch is published as a whole or not at all. Where the store refuses some records, `culprits` says which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from grafctl.errors import GrafctlError, IdempotencyConflict, SchemaMismatch, Usage
from grafctl.pipeline.message import Message, Output, Refused, encode_value
from grafctl.pipeline.sources.item import Item
from grafctl.pipeline.stages.work import Letter
from grafctl.results import Record
from grafctl.store.blocks import ID_BYTES_MAX, Outgoing, check_record


def source_id(resource: str, record: Record) -> str:
    """Returns what names a record of a resource for ever: its id, or where it stands."""
    return record.id if record.id is not None else f"{resource}@{record.offset}"


def derived_id(stage: str, source: str, number: int) -> str:
    """Returns the id of the number-th record that a stage made of another."""
    text = f"{stage}:{source}#{number}" if number else f"{stage}:{source}"
    if len(text.encode()) <= ID_BYTES_MAX:
        return text
    return f"{stage}:sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def outgoing(stage: str, resource: str, record: Record, output: Output, number: int, at: int) -> Outgoing:
    """Returns the record of one output, at a place of its batch; raises `Refused` where a record cannot be so."""
    found = Outgoing(
        encode_value(output.value),
        output.id if output.id is not None else derived_id(stage, source_id(resource, record), number),
        output.key if output.key is not None else record.key,
        dict(output.headers) if output.headers is not None else record.headers,
        at + 1,
    )
    try:
        check_record(found._replace(line=0))
    except Usage as error:
        raise Refused(error.message) from None
    return found


def weight(item: Outgoing | Item) -> int:
    """Returns how many bytes a record takes in an entry, or some more."""
    names = 4 * (len(item.id or "") + len(item.key or "")) + 24
    return len(item.payload) + names + 6 * sum(len(name) + len(text) + 6 for name, text in (item.headers or {}).items())


def message_of(record: Record, value: object) -> Message:
    return Message(value, record.id, record.key, record.headers, record.offset)


def culprits(error: GrafctlError, effects: Iterable[int] = ()) -> list[Letter]:
    """Returns the records for which the store refused a batch, by their places; nothing where it was not for records.

    `effects` are the places of the records whose effects were to be recorded, in their order.
    """
    if isinstance(error, IdempotencyConflict) and "places" in error.fields:
        order = list(effects)
        reason = "Its effect was recorded for another payload, or by another definition of the stage."
        return [Letter(order[number], reason, error) for number in error.fields["places"]]
    if isinstance(error, (IdempotencyConflict, SchemaMismatch)):
        items = error.fields.get("conflicts") or error.fields.get("mismatches") or []
        return [Letter(item["line"] - 1, _reason_of(item, error), error) for item in items if item.get("line")]
    return []


def _reason_of(item: dict[str, object], error: GrafctlError) -> str:
    if "stored" in item:
        return f"Its id {str(item['id'])!r} is there already with another payload, at offset {item['offset']}."
    if "rule" in item:
        where = f" at {item['path']}" if item.get("path") else ""
        return f"It does not conform to the schema of {error.fields['resource']}{where}: {item['rule']}."
    return error.message
