"""Records on their way to resources, with ids that are the same each time, and what the store refuses of them.

Promises
- The id of what a stage publishes is a function of its name, of the record that it came from and of its place among
  what came of that; so whatever is done twice is published once.
- A batch is published as a whole or not at all. Where the store refuses some records, `culprits` says which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from grafctl.errors import GrafctlError, IdempotencyConflict, SchemaMismatch, Usage
from grafctl.pipeline.message import Message, Output, Refused, encode_value
from grafctl.pipeline.sources.item import Item
from grafctl.pipeline.stages.work import Letter
from grafctl.results import Record
from grafctl.store.blocks import HEADERS_BYTES_MAX, ID_BYTES_MAX, Outgoing, check_part_by_part, is_plainly_fine

REASON, PLACE, STAGE = "reason", "place", "stage"  # headers of what is put aside

_new = tuple.__new__  # of a tuple whose fields are all there: half the time of its class


def source_id(resource: str, record: Record) -> str:
    """Returns what names a record of a resource for ever: its id, or where it stands."""
    return record.id if record.id is not None else place_id(resource, record)


def place_id(resource: str, record: Record) -> str:
    """Returns what names a record by where it stands."""
    return f"{resource}@{record.offset}"


def derived_id(stage: str, source: str, number: int) -> str:
    """Returns the id of the number-th record that a stage made of another."""
    text = f"{stage}:{source}#{number}" if number else f"{stage}:{source}"
    if len(text.encode()) <= ID_BYTES_MAX:
        return text
    return f"{stage}:sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def outgoing(stage: str, source: str, record: Record, output: Output, number: int, at: int) -> Outgoing:
    """Returns the record of one output of what `source` names, at a place of its batch; raises `Refused` where a record
    cannot be so."""
    value, _, key, id, headers = output
    if id is None:
        id = derived_id(stage, source, number)
    if key is None:
        key = record.key
    headers = record.headers if headers is None else dict(headers)
    found = _new(Outgoing, (encode_value(value), id, key, headers, at + 1))
    if not is_plainly_fine(found):
        try:
            check_part_by_part(found._replace(line=0))
        except Usage as error:
            raise Refused(error.message) from None
    return found


def put_aside(stage: str, place: str, payload: bytes, reason: str) -> Outgoing:
    """Returns the dead letter of a stage without a group: the bytes as they came, and in headers why and from where."""
    name = hashlib.sha256(b"\0".join((place.encode(), payload))).hexdigest()[:32]
    headers = {REASON: reason[: HEADERS_BYTES_MAX // 16], PLACE: place[-1000:], STAGE: stage}
    return Outgoing(payload, f"{stage}:{name}", None, headers)


def weight(item: Outgoing | Item) -> int:
    """Returns how many bytes a record takes in an entry, or some more."""
    names = 4 * (len(item.id or "") + len(item.key or "")) + 24
    plain = len(item.payload) + names
    if not item.headers:
        return plain
    return plain + 6 * sum(len(name) + len(text) + 6 for name, text in item.headers.items())


def message_of(record: Record, value: object) -> Message:
    return _new(Message, (value, record.id, record.key, record.headers, record.offset))


def refused_too(error: GrafctlError, letters: Sequence[Letter], effects: Iterable[int] = ()) -> list[Letter]:
    """Returns the letters with those of the records for which the store refused a batch; else raises the error."""
    found = culprits(error, effects)
    if not found or not {letter.at for letter in letters}.isdisjoint(letter.at for letter in found):
        raise error
    return [*letters, *found]


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
