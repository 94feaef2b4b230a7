"""Receiving a vshard in another log of its table: what the target of a migration decides (`moving.py` is the source).

Promises
- What was copied, and how far the copy is, are in one entry; an entry goes on exactly where the last one ended, so two
  operators cannot interleave.
- Versions decide between a row that was copied and an entry that is replayed over it, so rows may be copied while they
  are being written (a fuzzy copy).
- A copy is opened only under the token for which it was made ready, and ready it stays until it has more writes, or is
  dropped by who has read at the source that its migration is over.
- Dropping a copy takes no row of a vshard that is in use.
"""

from __future__ import annotations

from grafctl.store import vshard_keys
from grafctl.store.keys import U64
from grafctl.store.records import Entry, digest, encode_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.store.resources.moving import Place, busy, change, conflict, moving_of, row_of
from grafctl.store.resources.queue import queue_row
from grafctl.store.resources.table import (
    KIND,
    MOVED,
    READY,
    RECEIVING,
    RETIRED,
    VshardRow,
    open_here,
    vshard_row,
    written,
)
from grafctl.store.table_block import Write, pack, unpack
from grafctl.typed import Any, Mapping, NamedTuple, Sequence

_MANY = 32


class Receive(NamedTuple):
    """The request to make room for a vshard that is to come, or to take up an old copy where it was given away."""

    place: Place
    source: str
    source_record: Mapping[str, Any]  # row `M` of the source

    def decide(self, state: State, context: Context) -> Decision:
        place, record = self.place, self.source_record
        row = vshard_row(state, queue_row(state, place.table), place.vshard)
        there = state.get_json(vshard_keys.migration(place.vshard))
        if there is not None:
            if there["id"] == place.migration:
                return Decision((False, there))
            raise busy(place, "still holds what is left of another migration")
        is_old = record["reverse"] and row is not None and row["state"] == MOVED and row["token"] == record["token"]
        if not is_old and (record["reverse"] or (row is not None and row["state"] != RETIRED)):
            raise conflict(place, "is not as the migration left it in the log that it is to go to")
        sizes = {name: row[name] for name in ("seq", "records", "bytes")} if is_old and row else {}
        fresh = {"seq": 0, "records": 0, "bytes": 0} | sizes
        fresh |= {"state": RECEIVING, "from": self.source, "generation": record["generation"]}
        moving: dict[str, Any] = {"id": place.migration, "from": self.source, "applied": record["since"]}
        moving |= {"seq": record["seq"]}
        moving |= {"cursor": "", "copied": is_old, "bytes": 0, "records": 0, "old": row if is_old else None}
        return change("receive", place, (True, moving), fresh, moving)


class Copy(NamedTuple):
    """The request to take rows of the source; they come by key, `cursor` is that of the last copy, and `done` says that
    there are no more."""

    place: Place
    cursor: str
    following: str
    done: bool
    block: bytes
    block_digest: bytes

    @staticmethod
    def of(place: Place, cursor: str, writes: Sequence[Write], following: str, done: bool) -> Copy:
        block = pack(writes, versions=True)
        return Copy(place, cursor, following, done, block, digest(block))

    def decide(self, state: State, context: Context) -> Decision:
        row, moving = row_of(state, self.place), moving_of(state, self.place)
        if row["state"] != RECEIVING or moving["cursor"] != self.cursor or moving["copied"]:
            raise busy(self.place, "is being copied by somebody else")
        meta = {"do": "copy", "vs": self.place.vshard, "cursor": self.following, "done": self.done}
        return Decision(True, encode_json(meta), self.block, self.block_digest)


def apply_copy(state: State, entry: Entry, index: int) -> Writes:
    request = entry.request
    number = request["vs"]
    moving = state.get_json(vshard_keys.migration(number))
    taken = unpack(entry.block, f"entry {index}")
    moving |= {"cursor": request["cursor"], "copied": request["done"], "records": moving["records"] + len(taken)}
    moving["bytes"] += sum(len(write.key) + len(write.value or b"") for write in taken)
    return [
        *_taken(state, number, taken, state.get_json(vshard_keys.vshard(number))),
        json_write(vshard_keys.migration(number), moving),
    ]


def _taken(state: State, number: int, writes: Sequence[Write], row: VshardRow) -> Writes:
    """Returns the rows of writes that are newer than what is there, and the vshard's row."""
    found: dict[bytes, Write] = {}
    for write in writes:
        found[write.key] = write  # the last one of a key is its newest
    rows: Writes = []
    if _is_new_range(state, number, found):
        rows = _all_new(number, found, row)
        found.clear()
    for write in found.values():
        old = state.get(vshard_keys.table_row(number, write.key))
        if old is None or U64.unpack_from(old)[0] < write.version:
            rows.append(written(state, row, write))
    row["seq"] = max(row["seq"], max((write.version for write in writes), default=0))
    return [*rows, json_write(vshard_keys.vshard(number), row)]


def _is_new_range(state: State, number: int, found: Mapping[bytes, Write]) -> bool:
    """Returns whether there is no row from the first key to the last, as in a base copy: then none need be looked up.

    It is one look, so for a few keys it is not worth it.
    """
    if len(found) < _MANY:
        return False
    span = vshard_keys.table_row(number, min(found)), vshard_keys.table_row(number, max(found)) + b"\0"
    return next(iter(state.scan(span)), None) is None


def _all_new(number: int, found: Mapping[bytes, Write], row: VshardRow) -> Writes:
    """Returns the rows of writes to keys that are not there, and counts them."""
    prefix, pack_version = vshard_keys.table_row(number, b""), U64.pack
    rows: Writes = []
    size = 0
    for _, key, value, version in found.values():
        if value is not None:
            rows.append((prefix + key, pack_version(version) + value))
            size += len(key) + len(value)
    row["records"] += len(rows)
    row["bytes"] += size
    return rows


class Replay(NamedTuple):
    """The request to take the source's writes of its entries [start, stop); with a token the vshard is ready for it."""

    place: Place
    start: int
    stop: int
    block: bytes
    block_digest: bytes
    token: int | None = None
    generation: int = 0

    @staticmethod
    def of(place: Place, span: tuple[int, int], writes: Sequence[Write], token: int | None, generation: int) -> Replay:
        block = pack(writes, versions=True)
        return Replay(place, *span, block, digest(block), token, generation)

    def decide(self, state: State, context: Context) -> Decision:
        row, moving = row_of(state, self.place), moving_of(state, self.place)
        if row["state"] not in (RECEIVING, READY) or moving["applied"] != self.start or not moving["copied"]:
            raise busy(self.place, "is being caught up by somebody else")
        meta: dict[str, Any] = {"do": "replay", "vs": self.place.vshard, "stop": self.stop}
        meta |= {} if self.token is None else {"token": self.token, "generation": self.generation}
        return Decision(True, encode_json(meta), self.block, self.block_digest)


def apply_replay(state: State, entry: Entry, index: int) -> Writes:
    request = entry.request
    number = request["vs"]
    row, moving = state.get_json(vshard_keys.vshard(number)), state.get_json(vshard_keys.migration(number))
    moving["applied"] = request["stop"]
    taken = unpack(entry.block, f"entry {index}")
    if not taken and "token" not in request:
        # A copy that is ready stays so: the source may have been sealed, and flipped, since this operator looked there.
        # Writes behind those of the seal are another thing: there are none before the seal was lifted.
        return [json_write(vshard_keys.migration(number), moving)]
    row["state"] = RECEIVING
    row.pop("token", None)
    if "token" in request:
        row |= {"state": READY, "token": request["token"], "generation": request["generation"]}
        row["seq"] = max(row["seq"], moving["seq"])  # the last writes before the copy may have been deletes
    return [
        *_taken(state, number, taken, row),
        json_write(vshard_keys.migration(number), moving),
    ]


class Open(NamedTuple):
    """The request to open a ready vshard; the caller has read at the source that it was given away under this token.

    The migration is compared as well, because the token of another one may be the same number.
    """

    place: Place
    token: int

    def decide(self, state: State, context: Context) -> Decision:
        row = row_of(state, self.place)
        if row["state"] == READY and row["token"] == self.token:
            there = state.get_json(vshard_keys.migration(self.place.vshard))
            if there is None or there["id"] != self.place.migration:
                return Decision(False)
            meta = {"do": "open", "vs": self.place.vshard}
            return Decision(True, encode_json(meta))
        return Decision(False)


def apply_open(state: State, entry: Entry, index: int) -> Writes:
    number = entry.request["vs"]
    row = state.get_json(vshard_keys.vshard(number))
    return [*open_here(row, number, index), json_write(vshard_keys.vshard(number), row)]


class Drop(NamedTuple):
    """The request to delete up to `most` rows of a copy that is not in use; the answer is whether any are left.

    The copy is that of a migration that was cancelled, or one whose vshard was given away under `token` (retire). The
    last step makes the row what it was before.
    """

    place: Place
    most: int
    token: int | None = None

    def decide(self, state: State, context: Context) -> Decision:
        definition = queue_row(state, self.place.table)
        row = vshard_row(state, definition, self.place.vshard)
        there = state.get_json(vshard_keys.migration(self.place.vshard))
        if self.token is None:
            if there is None or there["id"] != self.place.migration or row is None:
                return Decision(False)
            if row["state"] not in (RECEIVING, READY):
                raise conflict(self.place, f"is {row['state']}, and not a copy to be dropped")
            if there["old"] is not None:  # what a reverse took up is the kept copy again, with what was replayed
                now = {name: row[name] for name in ("seq", "records", "bytes")}
                return change("put back", self.place, False, there["old"] | now, None)
            last = None if definition["kind"] != KIND else {"state": RETIRED, "to": row["from"], "token": None}
            last = last and last | {"generation": row["generation"], "seq": 0, "records": 0, "bytes": 0}
        else:
            if row is None or row["state"] == RETIRED:
                return Decision(False)
            if row["state"] != MOVED or row["token"] != self.token:
                raise conflict(self.place, f"is {row['state']}, and not a copy to be retired")
            last = row | {"state": RETIRED, "records": 0, "bytes": 0}
        count = 0
        for _ in state.scan(vshard_keys.table_rows(self.place.vshard)):
            count += 1
            if count > self.most:
                break
        is_last = count <= self.most
        meta: dict[str, Any] = {"do": "drop", "vs": self.place.vshard, "count": min(count, self.most)}
        meta |= {"row": last} if is_last else {}
        return Decision(not is_last, encode_json(meta))


def apply_drop(state: State, entry: Entry, index: int) -> Writes:
    request = entry.request
    number, count = request["vs"], request["count"]
    writes: Writes = []
    size = 0
    for row, body in state.scan(vshard_keys.table_rows(number)):
        if len(writes) == count:
            break
        writes.append((row, None))
        size += len(vshard_keys.key_of(row)) + len(body) - U64.size
    if "row" in request:
        last = request["row"]
        writes.append((vshard_keys.migration(number), None))
    else:
        last = state.get_json(vshard_keys.vshard(number))
        last |= {"records": last["records"] - count, "bytes": last["bytes"] - size}
    return [
        *writes,
        (vshard_keys.vshard(number), None) if last is None else json_write(vshard_keys.vshard(number), last),
    ]
