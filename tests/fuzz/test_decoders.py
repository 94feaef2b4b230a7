"""The decoders of everything that rests on disk, fuzzed: any bytes are the value, or `Corrupt` or `Damaged`.

Two kinds of bytes: valid encodings that were changed, cut or joined, and bodies of any content in an envelope whose
checksum is right, as somebody makes them who writes a store by hand. No other exception, and no memory for a length
that only claims to be there.
"""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.effort import examples
from grafctl.errors import Corrupt, Damaged, GrafctlError, Unreachable, Usage
from grafctl.store import blocks, keys, records, signing
from grafctl.store.blocks import Outgoing
from grafctl.store.driver import journal_bytes, lmdb_files
from grafctl.store.driver.contract import Identity
from grafctl.store.driver.lmdb_files import Files
from grafctl.store.operations.publishing import parse_operation
from grafctl.store.records import HeadRow
from grafctl.store.replica.state import StateView, state_at
from grafctl.store.requests import new_operation, operation_name
from grafctl.store.resources import id_filters, id_runs, ids, leases
from grafctl.store.resources.id_runs import Directory, Merge, Run
from grafctl.store.rules import Config, Head, Seen, Voter

CLAIMED_MAX = 32 << 20  # memory that the reading of a few hundred bytes may take
LOG = keys.U64.pack(7)

HEAD = records.encode_head(HeadRow(Head((3, 7), (2, 9), 1, 12, 11, 5, False), 17, b"c" * 32, b"f" * 32))
SEEN = records.encode_seen(Seen("inc_1", (3, 7), (2, 9), 12, 11))
CONFIG = records.encode_config(Config(5, (2, 9), "aws", (Voter("aws", "i"), Voter("gcp", "j", True)), 2, 1))
UNDO_KEY, ROW_KEY = keys.undo(LOG, 3), keys.state(LOG, b"row")
UNDONE = records.encode_undo([(b"row", records.encode_row(b"old", ROW_KEY)), (b"other", None)], UNDO_KEY)
UNDO = records.encode_undo([(b"row", b"old"), (b"other", None), (b"", b"")])
ENTRY = records.make_entry(
    b"p" * 32, 2, (2, 9), 17, b"o" * 16, b'{"do":"publish"}', b"block", records.digest(b"block")
)[0]
BLOCK = blocks.pack([Outgoing(b"a", "id-1", "key", {"h": "v"}), Outgoing(b"bb"), Outgoing(b"", None, "", None)])
SQUEEZED = blocks.pack([Outgoing(b"created" * 9, f"order-{number}", "key", {"h": "v"}) for number in range(9)], "zstd")
RUNS = tuple(Run(number, 64, bytes(16)) for number in range(3))
DIRECTORY = Directory(64 * 3 + 100, 5, RUNS, (Merge(Run(4, 100, b"t" * 16), 3, (Run(3, 100, b"s" * 16),)),)).encode()
LEASE = records.encode_json({"group": "g", "grants": [[0, 3, 1]], "until": 17})
RECORD = journal_bytes.encode_record(5, 7, {b"key": b"value", b"gone": None, b"": b""}, 6, 99)
ROW = journal_bytes.encode_row(5, 7)
IDENTITY = lmdb_files.encode_identity(Identity("st_1", "aws", "inc_1"))


class Rows:
    """An environment of a few rows, as a view shows it."""

    def __init__(self, rows: Mapping[bytes, bytes]) -> None:
        self.rows = dict(rows)

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def get_many(self, wanted: list[bytes]) -> list[bytes | None]:
        return [self.rows.get(key) for key in wanted]

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        yield from ((key, self.rows[key]) for key in sorted(self.rows, reverse=reverse) if start <= key < stop)


def state_of(row: bytes, body: bytes) -> StateView:
    key = keys.state(LOG, row)
    return StateView(Rows({key: records.encode_row(body, key)}), LOG, "aws")  # type: ignore[arg-type]


def in_row(body: bytes) -> bytes:
    return records.encode_row(body)


def in_undo(body: bytes) -> bytes:
    return records.encode_row(body, UNDO_KEY)


def in_entry(raw: bytes) -> bytes:
    """Returns bytes as an entry whose checksum is right, where they are long enough for one."""
    size = records.ENTRY_HEADER_BYTES
    if len(raw) < size:
        return raw
    meta_bytes = int.from_bytes(raw[4:8], "big")
    head = raw[:2] + b"\0\0" + raw[4 : size - 4]
    return raw[: size - 4] + crc32(raw[size : size + meta_bytes], crc32(head)).to_bytes(4, "big") + raw[size:]


def in_identity(body: bytes) -> bytes:
    return b"\x01" + crc32(body).to_bytes(4, "big") + body


def in_journal_row(raw: bytes) -> bytes:
    return raw + crc32(raw[:16]).to_bytes(4, "little")


def in_record(raw: bytes) -> bytes:
    """Returns bytes as a journal's record whose checksum is right for all of them."""
    raw = raw.ljust(journal_bytes.padded(max(len(raw), 1)), b"\0")
    return raw[:8] + crc32(raw[12:]).to_bytes(4, "little") + raw[12:]


def _entry(raw: bytes) -> Any:
    entry = records.decode_entry(raw, "x")
    records.check_entry(raw, "x"), records.follows(b"p" * 32, raw), records.strip_block(raw), records.entry_bytes(raw)
    records.decode_entry(records.strip_block(raw), "x")
    return entry.request


def _block(raw: bytes) -> Any:
    found = list(blocks.unpack(raw, "x"))
    assert blocks.count(raw, "x") == len(found) and blocks.ids(raw, "x") == [record.id for record in found]
    return found


def _journal(raw: bytes) -> Any:
    head = raw[: journal_bytes.RECORD_HEADER_BYTES]
    points = journal_bytes.record_points(head)
    if points is None:
        return None
    size = journal_bytes.record_size(head, points[1], points[2], int.from_bytes(head[40:44], "little"))
    return journal_bytes.decode_record(raw[:size]) if size else None


def _find_ids(body: bytes) -> Any:
    """Looks ids up in an index whose directory says anything at all."""
    state = state_of(keys.id_directory(), body)
    directory = id_runs.directory_of(state)
    for span in id_filters.spans(directory):
        assert id_filters.Filters().find(state, span, 1) is None or span.run.cells < 10**6
    return ids.find(state, [ids.hash_record("a", b"")])


def _leases(body: bytes) -> Any:
    return leases.leases_of(state_of(keys.lease("g", 3), body), "g")


def _undone(raw: bytes) -> Any:
    view = Rows({UNDO_KEY: raw})
    return state_at(view, LOG, "aws", 5, 2).get(b"row")  # type: ignore[arg-type]


def _operation(raw: bytes) -> Any:
    return parse_operation(raw.decode("utf-8", "surrogateescape"))


def _signature(raw: bytes) -> Any:
    text = raw.decode("utf-8", "surrogateescape")
    assert not signing.verify(text, text, raw)
    return signing.fingerprint(text) if text.isalnum() else None


# Name: a valid encoding, what reads it, and what puts any body into an envelope whose checksum is right.
DECODERS: dict[str, tuple[bytes, Callable[[bytes], Any], Callable[[bytes], bytes]]] = {
    "row": (in_row(b"body"), lambda raw: records.decode_row(raw, "x"), in_row),
    "head": (HEAD, lambda raw: records.decode_head(raw, "x"), in_row),
    "seen": (SEEN, lambda raw: records.decode_seen(raw, "x"), in_row),
    "configuration": (CONFIG, lambda raw: records.decode_config_row(raw, "x"), in_row),
    "undo": (UNDO, lambda raw: records.decode_undo(raw, "x"), in_row),
    "undone state": (UNDONE, _undone, in_undo),
    "entry": (ENTRY, _entry, in_entry),
    "beginning of an entry": (ENTRY, lambda raw: records.decode_beginning(raw, "x"), in_entry),
    "block": (BLOCK, _block, bytes),
    "compressed block": (SQUEEZED, _block, bytes),
    "lease": (LEASE, _leases, bytes),
    "state row": (LEASE, lambda raw: state_of(b"row", raw).get_json(b"row"), bytes),
    "directory of ids": (DIRECTORY, _find_ids, bytes),
    "journal record": (RECORD, _journal, in_record),
    "journal row": (ROW, lambda raw: journal_bytes.decode_row("aws", raw), in_journal_row),
    "identity": (IDENTITY, lambda raw: lmdb_files.decode_identity("aws", raw), in_identity),
    "index in a key": (keys.entry(LOG, 5), keys.parse_index, bytes),
    "head in a key": (keys.head(LOG), keys.parse_head, bytes),
    "block in a row": (keys.block(5), keys.parse_block, bytes),
    "number in a row": (keys.lease("g", 5), keys.last_u64, bytes),
    "operation": (operation_name(9, new_operation()).encode(), _operation, bytes),
    "signature": (b"AAAA", _signature, bytes),
}  # fmt: skip
ALLOWED = (Corrupt, Damaged, Unreachable, Usage)
NUMBERS = [0, 1, 2, 127, 255, 1 << 15, (1 << 16) - 1, 1 << 31, (1 << 32) - 1, 1 << 60, (1 << 63) - 1, (1 << 64) - 1]
PIECES = [
    number.to_bytes(size, order)
    for number in NUMBERS
    for size in (2, 4, 8)
    for order in ("big", "little")
    if number < 256**size
]
JSONS = [
    b"", b"null", b"3", b"[]", b"{}", b'"x"', b"[" * 5000, b"[" * 5000 + b"]" * 5000, b'{"a":' * 3000, b"NaN",
    b"1e999", b"9" * 6000,
    b'{"at":1}', b'{"at":1,"term":[]}', b'{"at":1,"term":[1,2],"voters":3}', b'"\\ud800"', b"\xff", b'{"store":1}',
    b'{"at":1,"term":[1,2],"voters":[[1,2,3]],"primary":4,"write":[],"payload":{}}',
    b'{"at":1e5,"term":[1,2],"voters":[["a","b",true]],"primary":"a","write":1,"payload":1}',
    b'{"driver":[],"store":{},"domain":1,"incarnation":null,"format":"x"}',
    b'{"ids":-1,"next":0,"runs":[],"merges":[]}',
    b'{"ids":1152921504606846976,"next":1,"runs":[[0,1152921504606846976,"' + b"00" * 16 + b'"]],"merges":[]}',
    b'{"ids":3,"next":1,"runs":[[0,3,"zz"]],"merges":[]}', b'{"ids":0,"next":1,"runs":{},"merges":[[1,2,3]]}',
    b'{"ids":1,"next":9,"runs":[],"merges":[[1,1,"' + b"00" * 16 + b'",9223372036854775807,[]]]}',
]  # fmt: skip


@st.composite
def changed(draw: Any, valid: bytes) -> bytes:
    """Returns valid bytes with some of them replaced by numbers, cut out, doubled or put in."""
    raw = valid
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4), st.sampled_from(JSONS)))
        rest = draw(st.sampled_from([0, len(piece), 1, 8, len(raw)]))
        raw = raw[:at] + piece + raw[at + rest :]
    return raw


def bytes_for(name: str) -> st.SearchStrategy[bytes]:
    valid, _, seal = DECODERS[name]
    body = valid[5:] if seal in (in_row, in_undo, in_identity) else valid[:16] if name == "journal row" else valid
    bodies = st.one_of(changed(body), st.sampled_from(JSONS), st.binary(max_size=300))
    return st.one_of(changed(valid), st.binary(max_size=300), bodies.map(seal), bodies.map(seal))


@pytest.mark.parametrize("name", DECODERS)
def test_any_bytes_are_the_value_or_corrupt(name: str) -> None:
    valid, decode, _ = DECODERS[name]
    decode(valid)  # else nothing below would be near what is valid

    @given(bytes_for(name))
    @examples(90)
    def try_one(raw: bytes) -> None:
        tracemalloc.start()
        try:
            decode(raw)
        except ALLOWED as error:
            assert str(error)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < CLAIMED_MAX, f"{peak} bytes for {len(raw)}"

    try_one()


U64 = st.integers(0, (1 << 64) - 1)
TERMS = st.tuples(U64, U64)
NAMES = st.text(st.sampled_from("abcdef/-."), min_size=1, max_size=12)


@given(st.dictionaries(st.binary(max_size=60), st.none() | st.binary(max_size=900), max_size=6), U64, U64)
@examples(100)
def test_a_record_of_the_journal_comes_back(changes: dict[bytes, bytes | None], generation: int, number: int) -> None:
    raw = journal_bytes.encode_record(generation, number, changes, number, 5)
    assert len(raw) % journal_bytes.SECTOR == 0
    assert journal_bytes.record_size(raw, generation, number, 5) == len(raw)
    assert journal_bytes.decode_record(raw + b"the next one") == changes
    for other in ((generation + 1, number, 5), (generation, number + 1, 5), (generation, number, 6)):
        assert journal_bytes.record_size(raw, *other) == 0


@given(NAMES, NAMES, NAMES, U64)
@examples(60)
def test_an_identity_comes_back(store: str, domain: str, incarnation: str, format: int) -> None:
    identity = Identity(store, domain, incarnation, format)
    assert lmdb_files.decode_identity(domain, lmdb_files.encode_identity(identity)) == ("lmdb", identity)


@given(U64, NAMES)
@examples(60)
def test_numbers_in_keys_come_back(number: int, name: str) -> None:
    for key in (
        keys.config(LOG, number),
        keys.entry(LOG, number),
        keys.undo(LOG, number),
        keys.quarantine(LOG, number, (1, 2)),
    ):
        assert keys.parse_index(key) == number
    assert keys.parse_block(keys.block(number)) == number
    for row in (keys.lease(name, number), keys.dead(name, number), keys.id_records(number), keys.id_filter(3, number)):
        assert keys.last_u64(row) == number


@given(st.integers(0, (1 << 63) - 1), st.binary(min_size=16, max_size=16))
@examples(60)
def test_an_operation_key_comes_back(hint: int, operation: bytes) -> None:
    assert parse_operation(operation_name(hint, operation)) == (operation, hint)


def test_any_file_of_a_key_is_one_or_refused(tmp_path: Path) -> None:
    signing.generate("a", tmp_path)
    files = {name: (tmp_path / f"a.{name}").read_bytes() for name in ("key", "pub")}

    @given(st.one_of(*(changed(raw) for raw in files.values()), st.binary(max_size=200)))
    @examples(80)
    def try_one(raw: bytes) -> None:
        for name, load in (("key", signing.load_private), ("pub", signing.load_public)):
            (tmp_path / f"b.{name}").write_bytes(raw)
            (tmp_path / f"b.{name}").chmod(0o600)
            try:
                load(tmp_path / f"b.{name}")
            except GrafctlError as error:
                assert error.exit_code == 2
                assert not any(line in str(error) for line in files["key"].decode().splitlines()[1:])

    try_one()


META = lmdb_files._META


def _meta_file(map_size: int, page_size: int, last: int, txn: int, size: int) -> bytes:
    page = META.pack(0xBEEFC0DE, 1, map_size, page_size, last, txn)
    return (page.ljust(page_size if 0 < page_size < 1 << 16 else 4096, b"\0") + page).ljust(size, b"\0")[: max(size, 1)]


def test_any_data_file_has_meta_pages_or_is_damaged(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    os.mkdir(files.env)
    valid = _meta_file(1 << 20, 4096, 5, 9, 6 * 4096)
    numbers = st.sampled_from(NUMBERS)
    pages = st.sampled_from([0, 1, 255, 256, 4096, 0x8000, 0xFFFF, 1 << 31])
    made = st.builds(_meta_file, numbers, pages, numbers, numbers, st.integers(0, 9000))

    @given(st.one_of(changed(valid), st.binary(max_size=300), made))
    @examples(120)
    def try_one(raw: bytes) -> None:
        Path(os.fsdecode(files.data)).write_bytes(raw)
        try:
            meta = lmdb_files.read_meta("aws", files)
        except Damaged:
            return
        assert meta.bytes_missing >= 0 and meta.map_size >= 0

    try_one()


@given(st.binary(max_size=40))
@examples(60)
def test_any_mark_is_one_or_none(raw: bytes) -> None:
    fd = os.memfd_create("mark")
    try:
        os.write(fd, raw)
        assert journal_bytes.read_mark(fd) is None or len(raw) >= 20
        journal_bytes.write_mark(fd, 7)
        assert (journal_bytes.read_mark(fd) or (0,))[0] == 7
    finally:
        os.close(fd)
