"""The ids of a queue: for each of them the offset of its record and a fingerprint of it, for ever.

A record of the index is the id's digest, the offset and the fingerprint, 40 bytes; records are numbered and kept in the
order in which they came. What finds them is a set of sorted runs (`id_runs`); the last few records, which are in no run
yet, are in the one row that is looked at first.

Promises
- Look-ups are exact: whatever filters and runs say, an answer is a record whose whole digest is that of the id.
- Adding ids is a function of the state and the ids, and its work does not grow with how many there are.
"""

from __future__ import annotations

import struct
from collections import OrderedDict

from grafctl.errors import Corrupt
from grafctl.store import blocks, keys
from grafctl.store.blocks import Outgoing, Packed
from grafctl.store.records import hasher
from grafctl.store.replica.state import State, Writes
from grafctl.store.resources import id_filters
from grafctl.store.resources.id_runs import (
    PREFIX_BYTES,
    ROW_BYTES,
    SMALLEST,
    Directory,
    add_run,
    cell_of,
    directory_of,
    find_items,
    mask_of,
)
from grafctl.typed import TYPE_CHECKING, Iterable, NamedTuple, Sequence

if TYPE_CHECKING:
    from types import ModuleType

ID_DIGEST_BYTES = 16
RECORD_BYTES = 40
OPEN_MAX = SMALLEST  # records in the row of those that are in no run yet
BULK_MIN = 256  # ids in one batch from which on numpy is worth its import
BULK_LOADED_MIN = 32  # and where it is imported already

_LENGTH = struct.Struct(">I")
_RECORD = struct.Struct(">16sQ16s")
_OFFSET = struct.Struct(">Q")


class Known(NamedTuple):
    """What the index holds of an id."""

    offset: int
    fingerprint: bytes


Hash = (
    bytes  # what is looked for and stored: the digest of an id, 16 bytes, then the fingerprint of its record, 16 bytes
)


def hash_record(record_id: str, payload: bytes) -> Hash:
    """Returns the hash of the id, and that of the canonical encoding of (id, payload), which begins with the id."""
    name = record_id.encode()
    sha = hasher(len(name) + len(payload))(_LENGTH.pack(len(name)) + name)
    digest = sha.digest()[:ID_DIGEST_BYTES]
    sha.update(payload)
    return digest + sha.digest()[:ID_DIGEST_BYTES]


def hash_records(records: Iterable[Packed] | Sequence[Outgoing] | Sequence[bytes]) -> list[Hash | None]:
    """Returns the hash of each record, None for one without an id."""
    several = len(records) if isinstance(records, (list, tuple)) else 32
    sha256, length, size = hasher(1024 * several), _LENGTH.pack, ID_DIGEST_BYTES
    hashes: list[Hash | None] = []
    for record in records:  # `hash_record` written out, because this is where a publish with ids spends its time
        if isinstance(record, bytes) or record.id is None:
            hashes.append(None)
            continue
        name = record.id.encode()
        sha = sha256(length(len(name)) + name)
        digest = sha.digest()[:size]
        sha.update(record.payload)
        hashes.append(digest + sha.digest()[:size])
    return hashes


def id_digest(record_id: str) -> bytes:
    return hash_record(record_id, b"")[:ID_DIGEST_BYTES]


def fingerprint(record_id: str, payload: bytes) -> bytes:
    return hash_record(record_id, payload)[ID_DIGEST_BYTES:]


# By digest of the block, of which it is a function; in an idempotency store it is also one of the stage, which follows.
_recent: OrderedDict[bytes, Sequence[Hash | None]] = OrderedDict()
_RECENT_MAX = 16


def remember_hashes(block_digest: bytes, hashes: Sequence[Hash | None]) -> None:
    """Keeps the hashes of a block's records until its entry is applied."""
    _recent[block_digest] = hashes
    while len(_recent) > _RECENT_MAX:
        try:
            _recent.popitem(last=False)
        except KeyError:  # another thread was quicker
            break


def remembered(block_digest: bytes) -> Sequence[Hash | None] | None:
    """Returns what `remember_hashes` kept, where it still does."""
    return _recent.get(block_digest)


def hashes_of(block: bytes, block_digest: bytes, what: str) -> Sequence[Hash | None]:
    """Returns the hash of each record of a block with ids, None for one without."""
    known = _recent.get(block_digest)
    return hash_records(blocks.unpack(block, what)) if known is None else known


# --- looking up


def find(state: State, hashes: Sequence[Hash | None], floor: int = 0) -> dict[int, Known]:
    """Returns what is known of these ids, by their place in the sequence; those that are new are not in it.

    What is known at an offset below `floor` is over: it counts as new, and may be in the index more than once.
    """
    found: dict[int, Known] = {}
    directory = directory_of(state)
    last = state.get(keys.id_records(directory.ids))
    if last is not None:
        _check_records(last, directory.ids)
        found = _find_in_row(last, hashes, floor)
    wanted: Sequence[int] = range(len(hashes))
    if found or not all(hashes):
        wanted = [place for place, item in enumerate(hashes) if item is not None and place not in found]
    if wanted and directory.ids:
        searched = list(filter(None, map(hashes.__getitem__, wanted)))
        found |= _find_in_runs(state, directory, searched, wanted, floor)
    return found


def _find_in_row(last: bytes, hashes: Sequence[Hash | None], floor: int) -> dict[int, Known]:
    if len(hashes) > 8 or floor:  # from so many on a table of the row pays; of equal digests it holds the newest
        table = {last[at : at + ID_DIGEST_BYTES]: at for at in range(0, len(last), RECORD_BYTES)}
        places = [None if item is None else table.get(item[:ID_DIGEST_BYTES]) for item in hashes]
    else:
        places = [None if item is None else _place_of(item[:ID_DIGEST_BYTES], last) for item in hashes]
    found = {place: _known(last, at) for place, at in enumerate(places) if at is not None}
    return {place: known for place, known in found.items() if known.offset >= floor} if floor else found


def _place_of(digest: bytes, records: bytes) -> int | None:
    """Returns where the record of this id begins; the bytes of a digest may also stand across two records."""
    at = records.find(digest)
    while at >= 0 and at % RECORD_BYTES:
        at = records.find(digest, at + 1)
    return None if at < 0 else at


def _find_in_runs(
    state: State, directory: Directory, searched: Sequence[Hash], places: Sequence[int], floor: int
) -> dict[int, Known]:
    found: dict[int, Known] = {}
    probe = (_bulk(len(searched)) or _Plain).Probe(searched)
    records = _Records(state)
    for span in id_filters.spans(directory):
        held = id_filters.FILTERS.find(state, span, len(searched))
        passed: Iterable[int] = range(len(searched)) if held is None else probe.pass_filter(held, span.run.cells)
        for at in passed:
            if places[at] in found:
                continue
            for number in find_items(state, span.run.number, searched[at][:PREFIX_BYTES]):
                known = records.get(number, searched[at][:ID_DIGEST_BYTES])
                if known is not None and known.offset >= floor:
                    found[places[at]] = known
    return found


class _Probe:
    """What `id_bulk.Probe` is for many ids, for few."""

    def __init__(self, hashes: Sequence[Hash]) -> None:
        prefixes = [int.from_bytes(item[:PREFIX_BYTES], "big") for item in hashes]
        self._parts = [(at, prefix, mask_of(prefix)) for at, prefix in enumerate(prefixes)]

    def pass_filter(self, held: id_filters.Filter, cells: int) -> list[int]:
        """Returns the places of those that may be in the run."""
        return [at for at, prefix, mask in self._parts if held.passes(cell_of(prefix, cells), mask)]


class _Records:
    """Reads records by number; neighbours share a row."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._first, self._body = 0, b""

    def get(self, number: int, digest: bytes) -> Known | None:
        """Returns the record of this number where it is that of the digest; raises `Corrupt` where there is none."""
        at = (number - self._first) * RECORD_BYTES
        if not 0 <= at < len(self._body):
            before = next(iter(self._state.scan(keys.id_records_from(0, number + 1), reverse=True)), None)
            if before is None:
                raise _no_record(number)
            self._first, self._body = keys.last_u64(before[0]), before[1]
            _check_records(self._body, self._first)
            at = (number - self._first) * RECORD_BYTES
        held = self._body[at : at + ID_DIGEST_BYTES]
        if held[:PREFIX_BYTES] != digest[:PREFIX_BYTES]:  # or past the end of the row
            raise _no_record(number)
        return _known(self._body, at) if held == digest else None


def _check_records(body: bytes, first: int) -> None:
    if not body or len(body) % RECORD_BYTES:
        raise _no_record(first)


def _no_record(number: int) -> Corrupt:
    key = keys.id_records(number).hex()
    return Corrupt(f"The index of ids does not hold what it says of id {number}.", key=key)


def _known(body: bytes, at: int) -> Known:
    _, offset, mark = _RECORD.unpack_from(body, at)
    return Known(offset, mark)


_loaded: ModuleType | None = None


def _bulk(count: int) -> ModuleType | None:
    """Returns the functions for so many ids at once, or None where the plain ones are as quick."""
    global _loaded
    if _loaded is None and count >= BULK_MIN:
        from grafctl.store.resources import id_bulk

        _loaded = id_bulk
    return _loaded if count >= BULK_LOADED_MIN else None


# --- adding


def make_records(hashes: Sequence[Hash], offsets: Sequence[int]) -> bytes:
    """Returns the records of new ids."""
    size, pack = ID_DIGEST_BYTES, _OFFSET.pack
    return b"".join(item[:size] + pack(offset) + item[size:] for item, offset in zip(hashes, offsets, strict=True))


def make_items(records: bytes, first: int) -> bytes:
    """Returns the items of records that are numbered from `first`."""
    starts = range(0, len(records), RECORD_BYTES)
    return b"".join(
        records[at : at + PREFIX_BYTES] + _OFFSET.pack(number) for number, at in enumerate(starts, start=first)
    )


class _Plain:
    """The functions of `id_bulk` for few ids."""

    Probe = _Probe
    make_records = staticmethod(make_records)
    make_items = staticmethod(make_items)


def add(state: State, first: int, hashes: Sequence[Hash | None]) -> Writes:
    """Returns the writes that add the ids of new records, which have consecutive offsets; None is one without an id.

    None of the ids may be there yet.
    """
    offsets: Sequence[int] = range(first, first + len(hashes))
    if not all(hashes):
        offsets = [offset for offset, item in zip(offsets, hashes, strict=True) if item is not None]
    new = list(filter(None, hashes))
    if not new:
        return []
    directory = directory_of(state)
    bulk = _bulk(len(new))
    every = (state.get(keys.id_records(directory.ids)) or b"") + (bulk or _Plain).make_records(new, offsets)
    if len(every) <= OPEN_MAX * RECORD_BYTES:
        return [(keys.id_records(directory.ids), every)]
    writes: Writes = []
    step = ROW_BYTES // RECORD_BYTES
    for at in range(0, len(every) // RECORD_BYTES, step):
        body = every[at * RECORD_BYTES : (at + step) * RECORD_BYTES]
        writes.append((keys.id_records(directory.ids + at), body))
    items = (bulk or _Plain).make_items(every, directory.ids)
    return [*writes, *add_run(state, directory, items, bulk)[1]]
