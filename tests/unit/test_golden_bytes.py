"""Golden bytes: every key and value shape as it rests on disk, so that no format changes by accident.

`tests/golden/bytes.txt` holds `name = hex`, one a line. A change here is a change of format: stores that exist must
still be read, or the format number must go up. Only then is the file changed, by hand, with what a failure prints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from resources.rows import Rows, a_queue

from grafctl.edges.counts import Counts
from grafctl.edges.ring_bytes import TAIL_AT, Layout, Notice, encode_cell, encode_notice, encode_slot
from grafctl.store import blocks, keys, records, segment_keys, switch_keys, vshard_keys
from grafctl.store.authority import Placement
from grafctl.store.blocks import Outgoing
from grafctl.store.fingerprints import fingerprint_of, key_digest
from grafctl.store.records import HeadRow
from grafctl.store.resources.consumers import new_group
from grafctl.store.resources.delivery import Lineage
from grafctl.store.resources.edges import PublishEdge
from grafctl.store.resources.effects import Effect, RecordEffects
from grafctl.store.resources.id_runs import FAN_IN, Directory, Merge, Run, filter_of
from grafctl.store.resources.idem import apply_reserve
from grafctl.store.resources.ids import ID_DIGEST_BYTES, fingerprint, hash_record, id_digest, make_items, make_records
from grafctl.store.resources.segments import AcquireSegment, RevokeSegment
from grafctl.store.resources.table import Ask, Caller, Put
from grafctl.store.rules import EMPTY_HEAD, Config, Head, Seen, Voter
from grafctl.store.table_block import Write, pack, unpack
from grafctl.store.vshards import vshard_of

FILE = Path(__file__).parent.parent / "golden" / "bytes.txt"
LOG = bytes.fromhex("8877665544332211")
DIGEST = bytes(range(16))

KEYS = {
    "control log": keys.CONTROL_LOG,
    "audit log": keys.AUDIT_LOG,
    "head": keys.head(LOG),
    "config": keys.config(LOG, 0x0102),
    "seen": keys.seen(LOG, "aws/us-east-1"),
    "entry": keys.entry(LOG, 0x0102),
    "undo": keys.undo(LOG, 0x0102),
    "quarantine": keys.quarantine(LOG, 0x0102, (3, 0x0405)),
    "state": keys.state(LOG, keys.queue()),
    "row locator": keys.locator(),
    "row locator generation": keys.locator_generation(2),
    "row proof": keys.proof("prf_0011"),
    "row carried": keys.carried(2),
    "row carried prefix": keys.carried_prefix(2),
    "row queue": keys.queue(),
    "row block": keys.block(0x0102),
    "row id directory": keys.id_directory(),
    "row id records": keys.id_records(0x0102),
    "row id items": keys.id_items(0x0102, DIGEST),
    "row id filter": keys.id_filter(0x0102, 0x0304),
    "row group": keys.group("workers"),
    "row lineage": keys.lineage("workers"),
    "row lease": keys.lease("workers", 0x0102),
    "row dead": keys.dead("workers", 0x0102),
    "row reservation": keys.reservation("charge", DIGEST),
    "row stage": keys.stage("charge"),
    "row vshard": vshard_keys.vshard(0x0102),
    "row of a key": vshard_keys.table_row(0x0102, b"alice"),
    "row migration": vshard_keys.migration(0x0102),
    "row way back": vshard_keys.way_back(0x0102),
    "row switch": switch_keys.switch("billing"),
    "row of what was carried": switch_keys.carried("workers"),
    "row of what is owed": switch_keys.owed("workers", DIGEST),
    "row route": vshard_keys.route("accounts", 0x0102),
    "row resource": keys.resource("orders"),
    "row authority": keys.authority("scheduler-a"),
    "row observation": keys.observation("aws/us-east-1"),
    "row plan": keys.plan("pl_01"),
    "row schema": keys.schema("order.v1"),
    "row segment lease": segment_keys.segment_lease("parsed"),
    "row edge": segment_keys.edge("parsed"),
    "row chain": segment_keys.chain("orders/ingest"),
    "row audit counters": keys.audit_counters(),
    "row refusal": keys.refusal(DIGEST),
}

VOTERS = (Voter("aws/us-east-1", "inc_a"), Voter("gcp/eu", "inc_g"), Voter("azure/x", "inc_z", True))
META = records.encode_json({"do": "publish", "first": 3, "count": 2, "domain": "gcp/eu"})
PLAIN = blocks.pack([b"created", b"", b"paid"])
FULL = blocks.pack([Outgoing(b"created", "order-1", "k", {"b": "2", "a": "ä"}), Outgoing(b"paid", line=9)])
# Written out, because another version of the codec may find other bytes for the same records; they must be read.
SQUEEZED = bytes.fromhex("01080000020000003802000028b52ffd603801b500007818010000180100006372656174656401002654953a")
ENTRY, CHAIN = records.make_entry(
    b"p" * 32, records.DATA, (3, 5), 1_700_000_000_000, DIGEST, META, PLAIN, records.digest(PLAIN)
)
CONTROL, _ = records.make_entry(CHAIN, records.CTRL, (3, 5), 1_700_000_000_001, DIGEST, META, b"", records.NO_DIGEST)
START, _ = records.make_entry(
    records.NO_CHAIN, records.START, (1, 5), 7, records.NO_OPERATION, b'{"do":"start"}', b"", records.NO_DIGEST
)
GROUP = new_group("workers", Placement(("aws", "gcp"), ("gcp/eu",)), "at-least-once", 5)
LINEAGE = Lineage(2, [[4, 5]], [[2, 3]], [[5, 7, 1, 99]], [[3, 4]], 1_700, 3)

ID_RECORDS = make_records([hash_record("order-1", b"created"), hash_record("order-2", b"paid")], [3, 0x0405])
ID_RUNS = [Run(number, 100 + number, bytes([number]) * 16) for number in range(FAN_IN + 2)]
ID_DIRECTORY = Directory(760, 9, tuple(ID_RUNS[:1]), (Merge(ID_RUNS[-1], 7, tuple(ID_RUNS[1:-1])),))


def json_row(value: Any) -> bytes:
    return records.encode_row(records.encode_json(value))


NO_ROWS = Rows()
RESERVE = records.encode_json(
    {"do": "reserve", "stage": "charge", "key": "order-1", "print": "ab" * 32, "until": 1_730, "domain": "gcp/eu"}
)
RESERVING = records.Entry(records.DATA, (3, 5), 1_700, DIGEST, RESERVE, b"", records.NO_DIGEST, b"")
RESERVED = (
    dict(apply_reserve(NO_ROWS, RESERVING, 0x0102)).get(keys.reservation("charge", key_digest("charge", "order-1")))
    or b""
)
EFFECTING = RecordEffects(
    "effects", "charge", [Effect("order-1", bytes(range(32)), b"paid"), Effect("order-2", b"\1" * 32)], "gcp/eu"
)
EFFECTING.prepare()
EFFECTS = EFFECTING.packed[0] if EFFECTING.packed else b""

A_TABLE = a_queue(name="accounts", kind="table", vshards=1024)
PUTTING = [Ask(vshard_of(b"alice", 1024), b"alice", b"100"), Ask(vshard_of(b"bob", 1024), b"bob", b"")]
A_TABLE.run(Put(Caller("accounts", "aws/a"), PUTTING))
WRITES = [Write(0x0102, b"alice", b"100", 7), Write(0x0102, b"bob", None, 8), Write(3, b"c", b"", 9)]

LEASED = Rows()
LEASED.start()
LEASED.run(AcquireSegment("parsed", "aws/us-east-1", "memory", 65_536, "parser@host-1", 30_000, "parsed.0102030405"))
LEASED.run(RevokeSegment("parsed", 10_000))
WIRED = Rows()
WIRED.start()
WIRED.run(AcquireSegment("parsed", "gcp/eu", "block", 4_096, "parser@host-1", 30_000, "parsed.0102030405"))
WIRED.run(PublishEdge("parsed", WIRED.get_json(segment_keys.segment_lease("parsed"))["token"], 4, 512))
RING = Layout("memory", 4, 512, 7, b"\1\2\3\4\5\6\7\x08")

VALUES = {
    "row": records.encode_row(b"a body"),
    "row empty": records.encode_row(b""),
    "row under a key": records.encode_row(b"a body", keys.state(LOG, keys.queue())),
    "row json": json_row({"b": [1, True, None], "a": "größe"}),
    "row of a group": json_row(GROUP),
    "row of a lineage": json_row(LINEAGE.as_row()),
    "head": records.encode_head(HeadRow(Head((3, 7), (2, 9), 1, 12, 11, 5, False), 1_700, b"c" * 32, b"f" * 32, 77, 5)),
    "head learning": records.encode_head(HeadRow(EMPTY_HEAD._replace(learning=True), 0, b"c" * 32, b"f" * 32)),
    "head empty": records.encode_head(HeadRow(EMPTY_HEAD, 0, records.NO_CHAIN, records.NO_CHAIN)),
    "seen": records.encode_seen(Seen("inc_a", (3, 7), (2, 9), 12, 11)),
    "config": records.encode_config(Config(5, (2, 9), "aws/us-east-1", VOTERS, 2, 1)),
    "entry start": START,
    "entry data": ENTRY,
    "entry control": CONTROL,
    "entry stripped": records.strip_block(ENTRY),
    "undo": records.encode_undo([(keys.queue(), b"old"), (keys.group("g"), None), (keys.block(1), b"")]),
    "undo empty": records.encode_undo([]),
    "undo under a key": records.encode_undo([(keys.queue(), b"old")], keys.undo(LOG, 5)),
    "block plain": PLAIN,
    "block empty": blocks.pack([]),
    "block of one empty": blocks.pack([b""]),
    "block ids": blocks.pack([Outgoing(b"a", "id-1"), Outgoing(b"b")]),
    "block keys": blocks.pack([Outgoing(b"a", None, "key"), Outgoing(b"b", None, "")]),
    "block headers": blocks.pack([Outgoing(b"a", None, None, {"h": "v"}), Outgoing(b"b")]),
    "block full": FULL,
    "block compressed": SQUEEZED,
    "id digest": id_digest("order-1"),
    "fingerprint": fingerprint("order-1", b"created"),
    "id records": ID_RECORDS,
    "id items": make_items(ID_RECORDS, 0x0102),
    "id filter": filter_of(make_items(ID_RECORDS, 0x0102), 3, 0, 3),
    "id directory": ID_DIRECTORY.encode(),
    "key digest": key_digest("charge", "order-1"),
    "key fingerprint": fingerprint_of("charge", "order-1", b"created"),
    "row of a reservation": RESERVED,
    "block of effects": EFFECTS,
    "block of writes": pack(WRITES),
    "block of writes with versions": pack(WRITES, versions=True),
    "meta of a put": A_TABLE.entries[-1].meta,
    "row of a vshard": A_TABLE.rows[vshard_keys.vshard(PUTTING[0].vshard)],
    "row of a table": A_TABLE.rows[vshard_keys.table_row(PUTTING[0].vshard, b"alice")],
    "row of a segment lease": LEASED.rows[segment_keys.segment_lease("parsed")],
    "row of an edge": WIRED.rows[segment_keys.edge("parsed")],
    "header of a ring": RING.encode(),
    "end of a ring": encode_cell(RING, TAIL_AT, 9),
    "notice of a ring": encode_notice(RING, Notice(2, 1)),
    "slot of a ring": encode_slot(RING, 8, b"a record"),
    "counts of an end": Counts(2, 1, 1, 30, 2, 5, 1_700, 2, 250).encode().rstrip(b"\0"),
    "row of a chain": records.encode_json(
        {"digest": "0102030405060708", "edges": {"parsed": 3, "raw": 1}, "end": 9, "next": 5, "run": 7}
    ),
}
SHAPES = {f"key {name}": value for name, value in KEYS.items()} | {f"value {name}": v for name, v in VALUES.items()}


def golden() -> dict[str, bytes]:
    lines = [line for line in FILE.read_text().splitlines() if line and not line.startswith("#")]
    pairs = [line.split(" = ", 1) for line in lines]
    assert len({name for name, _ in pairs}) == len(pairs), "a name stands there twice"
    return {name: bytes.fromhex(text) for name, text in pairs}


@pytest.mark.parametrize("name", SHAPES)
def test_the_bytes_are_those_of_this_format(name: str) -> None:
    assert SHAPES[name].hex() == golden().get(name, b"").hex(), f"\n{name} = {SHAPES[name].hex()}"


def test_the_file_holds_nothing_else() -> None:
    assert golden().keys() == SHAPES.keys()


def test_every_key_shape_has_golden_bytes() -> None:
    """A function of `keys.py` that joins a key, and is not a range or a parser, is in the table."""
    ranges = {"heads", "configs", "entries", "undos", "quarantines", "states", "blocks", "locator_history", "proofs"}
    ranges |= {"ids", "groups", "lineages", "leases", "all_leases", "dead_letters", "all_dead_letters", "resources"}
    ranges |= {"all_carried", "authorities", "observations", "id_records_from", "id_items_of", "id_filters_of"}
    ranges |= {"reservations", "stages", "idem_keys", "schemas"}
    parsers = {"parse_head", "parse_index", "parse_block", "parse_carried", "parse_reservation", "parse_stage"}
    parsers |= {"last_u64", "last_number", "name_of", "range_of"}
    made = {
        name
        for name, value in vars(keys).items()
        if callable(value) and getattr(value, "__module__", "") == keys.__name__
    }
    shapes = {name for name in made - ranges - parsers if not name.startswith("_")}
    named = {name.removeprefix("row ").replace(" ", "_") for name in KEYS}
    assert shapes <= named, f"no golden bytes for {', '.join(sorted(shapes - named))}"


# What old stores hold must be read: decoded from the file, not from what this version encodes.


def test_golden_values_are_read() -> None:
    held = golden()
    assert records.decode_row(held["value row"], "row") == b"a body"
    assert records.parse_json(records.decode_row(held["value row json"], "row")) == {"a": "größe", "b": [1, True, None]}
    assert Lineage.of(records.parse_json(records.decode_row(held["value row of a lineage"], "row"))) == LINEAGE
    assert records.decode_head(held["value head"], "head").head == Head((3, 7), (2, 9), 1, 12, 11, 5, False)
    assert records.decode_head(held["value head learning"], "head").head.learning
    assert records.decode_seen(held["value seen"], "seen") == Seen("inc_a", (3, 7), (2, 9), 12, 11)
    assert records.decode_config_row(held["value config"], "config").voters == VOTERS
    assert records.decode_undo(held["value undo"], "undo")[1] == (keys.group("g"), None)
    entry = records.decode_entry(held["value entry data"], "entry")
    assert (entry.term, entry.operation, entry.block, entry.stripped) == ((3, 5), DIGEST, PLAIN, False)
    assert records.follows(entry.chain, held["value entry control"])
    stripped = records.decode_entry(held["value entry stripped"], "entry")
    assert (stripped.stripped, stripped.block, stripped.chain) == (True, b"", entry.chain)
    first, second = blocks.unpack(held["value block full"], "block")
    assert first == (b"created", "order-1", "k", {"a": "ä", "b": "2"}) and second == (b"paid", None, None, None)
    assert [record.payload for record in blocks.unpack(held["value block compressed"], "block")] == [
        b"created" * 40
    ] * 2
    assert unpack(held["value block of writes with versions"], "block") == WRITES
    assert unpack(held["value block of writes"], "block") == [write._replace(version=0) for write in WRITES]
    assert len(held["value id digest"]) == len(held["value fingerprint"]) == ID_DIGEST_BYTES
