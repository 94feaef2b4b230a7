"""Queues: publishing records, and what a queue is.

Row `Q` holds the definition and the two ends (`first` retained, `next` to be given); row `B` of a first offset says
which entry holds the block; row `I` of an id's hash holds its offset and fingerprint.

Promises
- Offsets are consecutive from 0, and the same in every domain, because they are given by the entry's place in the log.
- An id is stored once. The same id with the same payload answers the first offset; with another payload it fails
  closed, and only hashes are shown.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from grafctl.errors import IdempotencyConflict, NotFound, SchemaMismatch
from grafctl.store import blocks, keys
from grafctl.store.authority import PUBLISH, Asked, Placement, pass_epoch, pass_placement
from grafctl.store.blocks import Outgoing
from grafctl.store.records import Entry, digest, encode_json, parse_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision

_ID_ROW = struct.Struct(">Q16s")
ID_DIGEST_BYTES = 16


class Published(NamedTuple):
    """What became of the records of one request, in their order."""

    first: int
    records: int
    offsets: list[int] | None  # where they are not consecutive
    replayed: bool  # all of them were there before
    conflicts: list[dict[str, Any]]
    generation: int
    trim_due: bool = False


def queue_row(state: State, resource: str) -> dict[str, Any]:
    """Returns the queue's row; raises `NotFound` when this log holds none."""
    body = state.get(keys.queue())
    if body is None:
        raise NotFound(
            f"There is no queue {resource}.", hint="Run `grafctl queue list` to see those there are.", resource=resource
        )
    return dict(_parsed_queue(body))


@lru_cache(maxsize=16)
def _parsed_queue(body: bytes) -> dict[str, Any]:
    """A publish reads the row twice, to decide and to apply; the values in it are never changed."""
    row: dict[str, Any] = parse_json(body)
    return row


@lru_cache(maxsize=64)
def _generation(locator: bytes) -> int:
    """The locator is asked for in every publish and hardly ever changes."""
    return int(parse_json(locator)["generation"])


def id_digest(record_id: str) -> bytes:
    return hashlib.sha256(record_id.encode()).digest()[:ID_DIGEST_BYTES]


def fingerprint(record_id: str, payload: bytes) -> bytes:
    """Returns the hash of the canonical encoding of (id, payload)."""
    name = record_id.encode()
    return hashlib.sha256(struct.pack(">I", len(name)) + name + payload).digest()[:ID_DIGEST_BYTES]


class Publish:
    """The request to add records; those with an id that is stored already are answered, not added."""

    __slots__ = ("atomic", "domain", "epoch", "known", "packed", "records", "resource", "schema")

    def __init__(
        self,
        resource: str,
        records: Sequence[Outgoing] | Sequence[bytes],
        domain: str,
        epoch: int | None = None,
        schema: str | None = None,
        atomic: bool = False,
        known: bool = True,
    ) -> None:
        self.resource, self.records, self.domain = resource, records, domain
        self.epoch, self.schema, self.atomic, self.known = epoch, schema, atomic, known
        self.packed: tuple[bytes, bytes] | None = None  # block and digest, made before the lock is taken

    def of(self, records: Sequence[Outgoing] | Sequence[bytes]) -> Publish:
        """Returns the same request for other records."""
        return Publish(self.resource, records, self.domain, self.epoch, self.schema, self.atomic, self.known)

    def prepare(self) -> None:
        """Packs and hashes records without ids, so that no lock is held meanwhile."""
        if not self._with_ids():
            block = blocks.pack(self.records)
            self.packed = (block, digest(block))

    def _with_ids(self) -> bool:
        return any(isinstance(record, Outgoing) and record.id is not None for record in self.records)

    def pass_gate(self, state: State) -> dict[str, Any]:
        """Returns the queue's row where the caller may publish to it now; raises the refusal."""
        queue = queue_row(state, self.resource)
        asked = Asked(PUBLISH, self.resource, self.domain, None, self.epoch, self.known)
        pass_placement(asked, Placement.of(queue))
        pass_epoch(asked, queue["epoch"])
        return queue

    def decide(self, state: State, context: Context) -> Decision:
        queue = self.pass_gate(state)
        if self.schema is not None and self.schema != queue["schema"]:
            raise SchemaMismatch(
                f"{self.resource} takes records of {queue['schema'] or 'no schema'}, not of {self.schema}.",
                hint=f"Run `grafctl queue show {self.resource}` to see its schema.",
                resource=self.resource,
            )
        generation = _generation(state.get(keys.locator()) or b"{}")
        if self.packed is not None:
            return self._append(queue, generation, *self.packed, len(self.records), None, [])
        return self._with_known_ids(state, queue, generation)

    def _with_known_ids(self, state: State, queue: dict[str, Any], generation: int) -> Decision:
        fresh: list[Outgoing] = []
        offsets: list[int] = []
        conflicts: list[dict[str, Any]] = []
        mine: dict[str, tuple[int, bytes]] = {}
        for record in self.records:
            assert isinstance(record, Outgoing)
            known = self._find(state, mine, record)
            if known is None:
                offset = queue["next"] + len(fresh)
                if record.id is not None:
                    mine[record.id] = (offset, fingerprint(record.id, record.payload))
                fresh.append(record)
                offsets.append(offset)
            elif record.id is not None and known[1] == fingerprint(record.id, record.payload):
                offsets.append(known[0])
            else:
                conflicts.append(self._conflict(record, known))
        if conflicts and (self.atomic or len(self.records) == 1):
            raise self._refuse(conflicts, queue["next"])
        if not fresh:
            first = offsets[0] if offsets else queue["next"]
            answer = Published(first, len(offsets), _scattered(offsets), True, conflicts, generation)
            return Decision(answer)
        block = blocks.pack(fresh)
        return self._append(queue, generation, block, digest(block), len(fresh), offsets, conflicts)

    def _find(self, state: State, mine: dict[str, tuple[int, bytes]], record: Outgoing) -> tuple[int, bytes] | None:
        if record.id is None:
            return None
        if record.id in mine:
            return mine[record.id]
        body = state.get(keys.id_(id_digest(record.id)))
        return None if body is None else _ID_ROW.unpack(body)

    def _conflict(self, record: Outgoing, known: tuple[int, bytes]) -> dict[str, Any]:
        assert record.id is not None
        offered = fingerprint(record.id, record.payload).hex()
        return {"line": record.line, "id": record.id, "offset": known[0], "stored": known[1].hex(), "offered": offered}

    def _refuse(self, conflicts: list[dict[str, Any]], following: int) -> IdempotencyConflict:
        first = conflicts[0]
        was = f"of {self.resource} was published with another payload, at offset {first['offset']}"
        if first["offset"] >= following:
            was = "comes twice here, with two payloads; nothing was published"
        return IdempotencyConflict(
            f"Id {first['id']!r} {was}.",
            hint="Give the new record an id of its own, or publish the first payload again.",
            resource=self.resource,
            conflicts=conflicts,
            stored=first["stored"],
            offered=first["offered"],
        )

    def _append(
        self,
        queue: dict[str, Any],
        generation: int,
        block: bytes,
        block_digest: bytes,
        count: int,
        offsets: list[int] | None,
        conflicts: list[dict[str, Any]],
    ) -> Decision:
        first = queue["next"]
        meta = encode_json({"do": "publish", "first": first, "count": count, "domain": self.domain})
        given = count if offsets is None else len(offsets)
        at = first if not offsets else offsets[0]
        limit = queue.get("retain_bytes")
        due = queue.get("retain_age_ms") is not None or (limit is not None and queue["bytes"] + len(block) > limit)
        answer = Published(at, given, _scattered(offsets or []), False, conflicts, generation, due)
        return Decision(answer, meta, block, block_digest)

    def recall(self, entry: Entry, index: int) -> Published:
        """Returns the answer of this request's entry, found by its operation key."""
        request = entry.request
        return Published(request["first"], request["count"], None, True, [], 0)


def _scattered(offsets: list[int]) -> list[int] | None:
    """Returns the offsets where they are not simply consecutive."""
    if not offsets or offsets == list(range(offsets[0], offsets[0] + len(offsets))):
        return None
    return offsets


def apply_publish(state: State, entry: Entry, index: int) -> Writes:
    """Adds the block to the queue, and its ids to the index."""
    request = entry.request
    queue = queue_row(state, "")
    first, count = request["first"], request["count"]
    assert first == queue["next"], (first, queue["next"])
    queue["next"] += count
    queue["bytes"] += len(entry.block)
    ref = {"index": index, "count": count, "bytes": len(entry.block), "ms": entry.stamped_ms}
    writes: Writes = [json_write(keys.queue(), queue), json_write(keys.block(first), ref)]
    if entry.block and entry.block[1] & blocks.IDS:
        for offset, record in enumerate(blocks.unpack(entry.block, f"entry {index}"), start=first):
            if record.id is not None:
                row = _ID_ROW.pack(offset, fingerprint(record.id, record.payload))
                writes.append((keys.id_(id_digest(record.id)), row))
    return writes


# --- retention


class Trim(NamedTuple):
    """The request to let go of blocks that retention no longer asks for and every lineage has finalised."""

    resource: str

    def decide(self, state: State, context: Context) -> Decision:
        queue = queue_row(state, self.resource)
        floors = [row["floor"] for row in _json_rows(state, keys.lineages())]
        stop, size = queue["first"], queue["bytes"]
        if not floors:  # nobody has finished anything
            return Decision(stop)
        for row, body in state.scan(keys.blocks(queue["first"])):
            ref = _loads(body)
            last = keys.parse_block(row) + ref["count"]
            if last > min(floors) or not _let_go(queue, ref, size, context.now_ms):
                break
            stop, size = last, size - ref["bytes"]
        if stop == queue["first"]:
            return Decision(stop)
        return Decision(stop, encode_json({"do": "trim", "first": stop}))


def _let_go(queue: dict[str, Any], ref: dict[str, Any], size: int, now_ms: int) -> bool:
    age, limit = queue.get("retain_age_ms"), queue.get("retain_bytes")
    too_old = age is not None and ref["ms"] + age <= now_ms
    too_much = limit is not None and size > limit
    return too_old or too_much


def apply_trim(state: State, entry: Entry, index: int) -> Writes:
    """Forgets the blocks before the new floor; ids stay, so that a late duplicate is still known."""
    queue = queue_row(state, "")
    writes: Writes = []
    for row, body in state.scan(keys.blocks(queue["first"], entry.request["first"])):
        writes.append((row, None))
        queue["bytes"] -= _loads(body)["bytes"]
    queue["first"] = entry.request["first"]
    return [*writes, json_write(keys.queue(), queue)]


def first_kept_index(state: State) -> int | None:
    """Returns the index of the first entry whose block is still retained, or None where none is."""
    found = next(iter(state.scan(keys.blocks(0))), None)
    return None if found is None else int(_loads(found[1])["index"])


def _json_rows(state: State, span: tuple[bytes, bytes]) -> list[dict[str, Any]]:
    return [_loads(body) for _, body in state.scan(span)]


def _loads(body: bytes) -> dict[str, Any]:

    value: dict[str, Any] = json.loads(body)
    return value
