"""Queues: publishing records, and what a queue is.

Row `Q` holds the definition and the two ends (`first` retained, `next` to be given); row `B` of a first offset says
which entry holds the block; the rows `I` are the index of ids (`ids.py`).

Promises
- Offsets are consecutive from 0, and the same in every domain, because they are given by the entry's place in the log.
- An id is stored once. The same id with the same payload answers the first offset; with another payload it fails
  closed, and only hashes are shown.
"""

from __future__ import annotations

from functools import lru_cache

from grafctl.errors import IdempotencyConflict, NotFound, SchemaMismatch, Usage
from grafctl.store import blocks, keys
from grafctl.store.authority import PUBLISH, Asked, Placement, pass_epoch, pass_placement
from grafctl.store.blocks import Outgoing
from grafctl.store.records import Entry, digest, encode_json, parse_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.typed import TYPE_CHECKING, Any, NamedTuple, Sequence

if TYPE_CHECKING:
    from types import ModuleType

    from grafctl.store.resources.ids import Hash, Known

_ids: ModuleType | None = None


def _index() -> ModuleType:
    """Returns the index of ids, imported with the first id: a record without one does not wait for it."""
    global _ids
    if _ids is None:
        from grafctl.store.resources import ids

        _ids = ids
    return _ids


class Published(NamedTuple):
    """What became of the records of one request, in their order."""

    first: int
    records: int
    offsets: list[int] | None  # where they are not consecutive
    replayed: bool  # all of them were there before
    conflicts: list[dict[str, Any]]
    generation: int
    trim_due: bool = False
    added: int = 0  # how many of them are new


def queue_row(state: State, resource: str) -> dict[str, Any]:
    """Returns the queue's row; raises `NotFound` when this log holds none."""
    body = state.get(keys.queue())
    if body is None:
        raise NotFound(
            f"There is no queue {resource}.", hint="Run `grafctl queue list` to see those there are.", resource=resource
        )
    return dict(_parsed_queue(body))


def record_of(state: State, name: str) -> dict[str, Any]:
    """Returns the registration of a resource; raises `NotFound`."""
    record: dict[str, Any] | None = state.get_json(keys.resource(name))
    if record is None:
        raise NotFound(
            f"There is no resource {name}.", hint="Run `grafctl status` to see those there are.", resource=name
        )
    return record


def records_row(state: State, resource: str) -> dict[str, Any]:
    """Returns the row of what holds records; raises `Usage` for what holds keys, which is asked in another way."""
    row = queue_row(state, resource)
    if row.get("kind") in ("table", "part"):
        raise Usage(
            f"{resource} is a {row['kind']} with keys and values, and has no records to publish, poll or peek at.",
            hint="Use `grafctl table put` and `grafctl table get` with it, or name a queue.",
            resource=resource,
        )
    if row.get("kind") == "idem":
        raise Usage(
            f"{resource} is an idempotency store: it keeps keys, and no records to publish, poll or peek at.",
            hint="Use `grafctl idem reserve` and `grafctl idem complete` with it, or name a queue.",
            resource=resource,
        )
    return row


@lru_cache(maxsize=16)
def _parsed_queue(body: bytes) -> dict[str, Any]:
    """A publish reads the row twice, to decide and to apply; the values in it are never changed."""
    row: dict[str, Any] = parse_json(body)
    return row


@lru_cache(maxsize=64)
def _generation(locator: bytes) -> int:
    """The locator is asked for in every publish and hardly ever changes."""
    return int(parse_json(locator)["generation"])


def generation_of(state: State) -> int:
    """Returns the generation of the locator in force."""
    return _generation(state.get(keys.locator()) or b"{}")


class Publish:
    """The request to add records; those with an id that is stored already are answered, not added."""

    __slots__ = (
        "atomic", "compression", "domain", "epoch", "hashes", "known", "packed", "records", "resource", "schema",
        "skips",
    )  # fmt: skip

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
        self.compression = blocks.NONE  # as the queue's row says, where the process has read it
        self.packed: tuple[bytes, bytes] | None = None  # block and digest, made before the lock is taken
        self.hashes: Sequence[Hash | None] | None = None  # of records with ids, made there too
        self.skips = False  # what conflicts is told, and no refusal, also where it comes alone

    def of(self, records: Sequence[Outgoing] | Sequence[bytes]) -> Publish:
        """Returns the same request for one batch of many, in which the rest goes on where a record conflicts."""
        part = Publish(self.resource, records, self.domain, self.epoch, self.schema, self.atomic, self.known)
        part.skips = True
        return part

    def prepare(self) -> None:
        """Packs and hashes the records, so that no lock is held meanwhile; where all ids are new, this is the block."""
        if self.has_ids:
            self.hashes = _index().hash_records(self.records)
        block = blocks.pack(self.records, self.compression)
        self.packed = (block, digest(block))

    @property
    def kin(self) -> tuple[object, ...]:
        """Publishes of equal kin pass the same gate and may share an entry."""
        return self.resource, self.domain, self.epoch, self.schema, self.known, self.compression

    @property
    def size(self) -> int:
        """How many bytes the payloads have."""
        return sum(len(record.payload if isinstance(record, Outgoing) else record) for record in self.records)

    @property
    def has_ids(self) -> bool:
        return any(isinstance(record, Outgoing) and record.id is not None for record in self.records)

    def pass_gate(self, state: State) -> dict[str, Any]:
        """Returns the queue's row where the caller may publish to it now; raises the refusal."""
        queue = records_row(state, self.resource)
        asked = Asked(PUBLISH, self.resource, self.domain, None, self.epoch, self.known)
        pass_placement(asked, Placement.of(queue))
        pass_epoch(asked, queue["epoch"])
        return queue

    def admitted(self, state: State) -> tuple[dict[str, Any], int]:
        """Returns the queue's row and the generation of its locator; raises the refusal of this request."""
        queue = self.pass_gate(state)
        if self.schema is not None and self.schema != queue["schema"]:
            raise SchemaMismatch(
                f"{self.resource} takes records of {queue['schema'] or 'no schema'}, not of {self.schema}.",
                hint=f"Run `grafctl queue show {self.resource}` to see its schema.",
                resource=self.resource,
            )
        return queue, generation_of(state)

    def decide(self, state: State, context: Context) -> Decision:
        queue, generation = self.admitted(state)
        hashes = _index().hash_records(self.records) if self.packed is None else self.hashes
        if hashes is None and self.packed is not None:
            return self._append(queue, generation, *self.packed, len(self.records), None, [])
        return self._with_known_ids(state, queue, generation, hashes or [])

    def _with_known_ids(
        self, state: State, queue: dict[str, Any], generation: int, hashes: Sequence[Hash | None]
    ) -> Decision:
        known = _index().find(state, hashes)
        fresh, offsets, conflicts = self.sort_out(hashes, known, queue["next"])
        if conflicts and (self.atomic or (len(self.records) == 1 and not self.skips)):
            raise self.refuse(conflicts, queue["next"])
        if not fresh:
            first = offsets[0] if offsets else queue["next"]
            answer = Published(first, len(offsets or ()), scattered(offsets or []), True, conflicts, generation)
            return Decision(answer)
        if len(fresh) == len(self.records) and self.packed is not None:
            block, block_digest = self.packed
        else:
            records = [self.records[place] for place in fresh]
            block = blocks.pack(records, queue.get("compression", blocks.NONE))  # type: ignore[arg-type]
            block_digest = digest(block)
        _index().remember_hashes(block_digest, hashes if offsets is None else [hashes[place] for place in fresh])
        return self._append(queue, generation, block, block_digest, len(fresh), offsets, conflicts)

    def sort_out(
        self,
        hashes: Sequence[Hash | None],
        known: dict[int, Known],
        following: int,
        mine: dict[bytes, Known] | None = None,
    ) -> tuple[Sequence[int], list[int] | None, list[dict[str, Any]]]:
        """Returns the places of new records, the offset of each record that is no conflict, and the conflicts.

        No offsets means that all are new. `mine` is what the same entry stores already, by digest; new ids are added.
        """
        index = _index()
        size = index.ID_DIGEST_BYTES
        digests = [None if item is None else item[:size] for item in hashes]
        if not known and mine is None and all(hashes) and len(set(digests)) == len(digests):
            return range(len(hashes)), None, []
        mine = {} if mine is None else mine
        fresh: list[int] = []
        offsets: list[int] = []
        conflicts: list[dict[str, Any]] = []
        for place, (item, own) in enumerate(zip(hashes, digests, strict=True)):
            if item is None or own is None:
                held = None
            else:
                held = known.get(place) or mine.get(own)
                if held is None:
                    mine[own] = index.Known(following + len(fresh), item[size:])
            if held is None:
                offsets.append(following + len(fresh))
                fresh.append(place)
            elif item is not None and held.fingerprint == item[size:]:
                offsets.append(held.offset)
            elif item is not None:
                conflicts.append(conflict_of(self.records[place], held, item))
        return fresh, offsets, conflicts

    def refuse(self, conflicts: list[dict[str, Any]], following: int) -> IdempotencyConflict:
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
        due = is_trim_due(queue, len(block), count)
        answer = Published(at, given, scattered(offsets or []), False, conflicts, generation, due, count)
        return Decision(answer, meta, block, block_digest)

    def recall(self, entry: Entry, place: int, state: State) -> Published | None:
        """Returns the answer of an earlier try of this request; see `recalling.py`."""
        from grafctl.store.resources.recalling import recall

        return recall(self, entry, place, state)


def conflict_of(record: Outgoing | bytes, known: Known, offered: bytes) -> dict[str, Any]:
    assert isinstance(record, Outgoing)
    prints = {"stored": known.fingerprint.hex(), "offered": offered[len(offered) // 2 :].hex()}
    return {"line": record.line, "id": record.id, "offset": known.offset, **prints}


def scattered(offsets: list[int]) -> list[int] | None:
    """Returns the offsets where they are not simply consecutive."""
    if not offsets or offsets == list(range(offsets[0], offsets[0] + len(offsets))):
        return None
    return offsets


def is_trim_due(queue: dict[str, Any], added: int, records: int) -> bool:
    """Returns whether retention may let go of something when so many bytes and records are added."""
    size, count = queue.get("retain_bytes"), queue.get("retain_count")
    return (
        queue.get("retain_age_ms") is not None
        or (size is not None and queue["bytes"] + added > size)
        or (count is not None and queue["next"] - queue["first"] + records > count)
    )


def apply_publish(state: State, entry: Entry, index: int) -> Writes:
    """Adds the block to the queue, and its ids to the index."""
    request = entry.request
    queue = queue_row(state, "")
    first, count = request["first"], request["count"]
    assert first == queue["next"], (first, queue["next"])
    queue["next"] += count
    queue["bytes"] += len(entry.block)
    ref = {"index": index, "count": count, "bytes": len(entry.block), "ms": entry.stamped_ms}
    ref |= {"at": request["at"]} if "at" in request else {}  # where its block begins in the data of several
    writes: Writes = [json_write(keys.queue(), queue), json_write(keys.block(first), ref)]
    if entry.block and entry.block[1] & blocks.IDS:
        writes += _index().add(state, first, _index().hashes_of(entry.block, entry.block_digest, f"entry {index}"))
    return writes
