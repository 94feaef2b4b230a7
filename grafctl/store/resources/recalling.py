"""What a publish answers whose entry an earlier try has appended: the same answer as then, found from entry and state.

Promises
- Each record gets the offset it had in the first answer, also where some were stored before, or were in conflict.
- An operation key that is used for other records than those of its entry is refused: an answer that named an offset for
  them would lose them.
"""

from __future__ import annotations

from grafctl.errors import IdempotencyConflict
from grafctl.store.blocks import Outgoing, Packed, unpack
from grafctl.store.records import Entry
from grafctl.store.replica.scope import FIRST, number_of
from grafctl.store.replica.state import State
from grafctl.store.resources import ids
from grafctl.store.resources.queue import Publish, Published, conflict_of, generation_of, scattered


def recall(request: Publish, entry: Entry, place: int, state: State) -> Published | None:
    """Returns the answer of the request that has this place in an entry, found by its operation key.

    None where all its records were there before: then nothing of it is in the entry, and it is decided again.
    """
    body = entry.request
    if body.get("do") != "publish" or body.get("of", FIRST) != number_of(state):
        raise _other_records(request)
    parts: list[int] = body.get("parts", [body["count"]])
    first = body["first"] + sum(parts[:place])
    stop = first + parts[place]
    if first == stop:
        return None
    stored = list(unpack(entry.block, "the entry of an operation"))[first - body["first"] : stop - body["first"]]
    hashes = ids.hash_records(request.records)
    known = ids.find(state, hashes)
    at, offsets, conflicts = first, [], []
    for number, own in enumerate(hashes):
        record = request.records[number]
        held = known.get(number)
        if held is None or held.offset == at:
            if at == stop or not _is_same(record, stored[at - first]):
                raise _other_records(request)
            offsets.append(at)
            at += 1
        elif own is not None and held.fingerprint == own[ids.ID_DIGEST_BYTES :]:
            offsets.append(held.offset)
        elif own is not None:
            conflicts.append(conflict_of(record, held, own))
    if at < stop:
        raise _other_records(request)
    answer = Published(offsets[0], len(offsets), scattered(offsets), True, conflicts, generation_of(state))
    return answer._replace(added=stop - first)


def _is_same(record: Outgoing | bytes, stored: Packed) -> bool:
    if not isinstance(record, Outgoing):
        return stored == (record, None, None, None)
    return stored == (record.payload, record.id, record.key, record.headers or None)


def _other_records(request: Publish) -> IdempotencyConflict:
    return IdempotencyConflict(
        f"The operation that was named did not publish these records to {request.resource}; nothing was published.",
        hint="Repeat the command that gave the key as it was, or leave --operation out to publish something else.",
        resource=request.resource,
    )
