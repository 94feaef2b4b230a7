"""Blocks: what was packed comes back, equal records are equal bytes, broken bytes are `Corrupt` and nothing else."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.errors import Corrupt, Usage
from grafctl.store import blocks
from grafctl.store.blocks import Outgoing, Packed

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
HEADERS = st.dictionaries(TEXTS, TEXTS, max_size=3)
RECORDS = st.builds(
    Outgoing,
    st.binary(max_size=40),
    st.none() | TEXTS.filter(bool),
    st.none() | TEXTS,
    st.none() | HEADERS,
    st.integers(0, 9),
)
SAMPLES = [
    blocks.pack([b"first", b"", b"third"]),
    blocks.pack([Outgoing(b"a", "id-1", "key", {"h": "v"}), Outgoing(b"bb"), Outgoing(b"", None, "", None)]),
    blocks.pack([Outgoing(b"x", "ä"), Outgoing(b"y", "ö")]),
]
ORDERS = [
    Outgoing(json.dumps({"order": number, "status": "created", "lines": [number % 7]}).encode(), f"order-{number}")
    for number in range(200)
]
SQUEEZED = blocks.pack([Outgoing(b"created" * 9, f"order-{number}", "key", {"h": "v"}) for number in range(9)], "zstd")


@given(st.lists(RECORDS))
def test_records_come_back(records: list[Outgoing]) -> None:
    block = blocks.pack(records)
    assert list(blocks.unpack(block, "block")) == [
        Packed(record.payload, record.id, record.key, record.headers or None) for record in records
    ]
    assert blocks.count(block, "block") == len(records)
    assert blocks.ids(block, "block") == [record.id for record in records]


@given(st.lists(st.binary(max_size=40)))
def test_plain_payloads_are_records_without_anything_else(payloads: list[bytes]) -> None:
    block = blocks.pack(payloads)
    assert block == blocks.pack([Outgoing(payload) for payload in payloads]) == blocks.pack_payloads(payloads)
    assert [record.payload for record in blocks.unpack(block, "block")] == payloads


@given(st.lists(RECORDS, min_size=1))
def test_the_line_of_the_input_is_not_in_the_block(records: list[Outgoing]) -> None:
    assert blocks.pack(records) == blocks.pack([record._replace(line=77) for record in records])


def test_the_order_of_headers_does_not_matter() -> None:
    one, other = {"a": "1", "b": "2"}, {"b": "2", "a": "1"}
    assert blocks.pack([Outgoing(b"", headers=one)]) == blocks.pack([Outgoing(b"", headers=other)])


def read(block: bytes) -> None:
    """Reads everything of a block; raises only `Corrupt`."""
    for reader in (blocks.count, blocks.ids, lambda block, what: list(blocks.unpack(block, what))):
        try:
            reader(block, "block")
        except Corrupt:
            pass


@given(st.binary(max_size=100))
def test_foreign_bytes_are_corrupt_and_nothing_else(raw: bytes) -> None:
    read(raw)
    read(b"\1" + raw)


@given(st.integers(0, 15), st.integers(0, 6), st.binary(max_size=100))
def test_a_good_head_before_foreign_bytes_is_corrupt_and_nothing_else(flags: int, count: int, raw: bytes) -> None:
    read(bytes([1, flags, 0, 0]) + count.to_bytes(4, "little") + raw)


@given(st.sampled_from([*SAMPLES, SQUEEZED]), st.data())
def test_changed_bytes_are_corrupt_and_nothing_else(block: bytes, data: st.DataObject) -> None:
    changed = bytearray(block)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    read(bytes(changed))


@pytest.mark.parametrize("block", [*SAMPLES, SQUEEZED])
def test_a_cut_or_longer_block_is_corrupt(block: bytes) -> None:
    for changed in [block[:size] for size in range(len(block))] + [block + b"\0"]:
        with pytest.raises(Corrupt, match="block"):
            list(blocks.unpack(changed, "block"))


@pytest.mark.parametrize("count", [1 << 20, (1 << 32) - 1])
def test_a_count_that_cannot_be_is_corrupt_and_takes_no_memory(count: int) -> None:
    block = b"\1\0\0\0" + count.to_bytes(4, "little") + bytes(20)
    for reader in (blocks.count, blocks.ids, lambda block, what: list(blocks.unpack(block, what))):
        with pytest.raises(Corrupt):
            reader(block, "block")


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_corrupt(version: int) -> None:
    with pytest.raises(Corrupt, match="unknown format"):
        blocks.count(bytes([version]) + SAMPLES[0][1:], "block")


def test_an_unknown_flag_is_corrupt() -> None:
    with pytest.raises(Corrupt, match="unknown format"):
        blocks.count(SAMPLES[0][:1] + b"\x10" + SAMPLES[0][2:], "block")


def with_headers(text: bytes) -> bytes:
    head = b"\1\4\0\0\1\0\0\0"
    return head + bytes(4) + len(text).to_bytes(4, "little") + text


@pytest.mark.parametrize("text", [b"{", b"[]", b"7", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"NaN1"])
def test_headers_that_are_no_object_are_corrupt(text: bytes) -> None:
    with pytest.raises(Corrupt):
        list(blocks.unpack(with_headers(text), "block"))
    assert [record.headers for record in blocks.unpack(with_headers(b'{"a":"b"}'), "block")] == [{"a": "b"}]


# --- compressed


def compressed(body: bytes, count: int, *, size: int | None = None, flags: int = 8) -> bytes:
    """Returns a block as somebody may write it who means harm: its frame is good, its head says what it likes."""
    frame: bytes = blocks._zstd().compress(body)
    head = bytes([1, flags, 0, 0]) + count.to_bytes(4, "little")
    return head + (len(body) if size is None else size).to_bytes(4, "little") + frame


def wide(body: bytes) -> bytes:
    """Returns a good frame whose reader must keep 128 MiB at hand."""
    zstd = blocks._zstd()
    writer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    return bytes(writer.compress(body) + writer.flush())


def summed(body: bytes) -> bytes:
    """Returns a good frame that ends with a checksum."""
    zstd = blocks._zstd()
    return bytes(zstd.compress(body, options={zstd.CompressionParameter.checksum_flag: 1}))


def everything(block: bytes) -> list[Any]:
    return [blocks.count(block, "block"), blocks.ids(block, "block"), list(blocks.unpack(block, "block"))]


def test_compressed_records_come_back_from_fewer_bytes() -> None:
    plain, small = blocks.pack(ORDERS), blocks.pack(ORDERS, "zstd")
    assert len(small) < len(plain) / 5
    assert everything(small) == everything(plain)
    assert small[1] == plain[1] | blocks.COMPRESSED and small[1] & blocks.IDS
    assert blocks.pack(ORDERS, "none") == plain


@given(st.lists(RECORDS), st.integers(0, 300))
def test_compressed_or_not_the_same_records_come_back(records: list[Outgoing], alike: int) -> None:
    records = [*records, *(Outgoing(b"alike") for _ in range(alike))]
    assert everything(blocks.pack(records, "zstd")) == everything(blocks.pack(records))


def test_what_does_not_shrink_rests_as_it_is() -> None:
    noise = [random.Random(number).randbytes(1024) for number in range(8)]
    assert blocks.pack(noise, "zstd") == blocks.pack(noise)
    assert blocks.pack([], "zstd") == blocks.pack([])
    barely = [*noise, b"a" * 300]  # 300 of 8,500 bytes are less than a twentieth
    assert blocks.pack(barely, "zstd") == blocks.pack(barely)


def test_a_block_that_no_reader_would_unfold_is_not_compressed() -> None:
    large = blocks.pack([bytes(blocks.BLOCK_BYTES_MAX - 11)])
    assert len(large) == blocks.BLOCK_BYTES_MAX + 1 and blocks.compress(large) == large
    largest = blocks.compress(large[:-1])
    assert len(largest) < 10_000 and blocks.count(largest, "block") == 1
    many = blocks.pack([b""] * (blocks._RECORDS_MAX + 1))
    assert blocks.compress(many) == many


BODY = blocks.pack_payloads([b"first", b"second"])[8:]
HOSTILE = {
    "holds more than it says": compressed(BODY + b"x", 2, size=len(BODY)),
    "holds less than it says": compressed(BODY, 2, size=len(BODY) + 1),
    "ends before its frame does": compressed(BODY, 2)[:12] + summed(BODY)[:-4],
    "says nothing": compressed(BODY, 2, size=0),
    "says more than a block may be": compressed(BODY, 2, size=blocks.BLOCK_BYTES_MAX - 7),
    "says 4 GiB": compressed(BODY, 2, size=(1 << 32) - 1),
    "has bytes behind it": compressed(BODY, 2) + b"x",
    "has a second frame": compressed(BODY, 2) + compressed(b"more", 0)[12:],
    "is no frame": compressed(BODY, 2)[:12] + b"no frame",
    "is no frame at all": compressed(BODY, 2)[:12],
    "is cut in its size": compressed(BODY, 2)[:10],
    "is a frame to be skipped": compressed(BODY, 2)[:12] + bytes.fromhex("502a4d1804000000") + b"skip",
    "is compressed twice": compressed(compressed(BODY, 2), 2),
    "counts too many": compressed(BODY, 1000),
    "counts too few": compressed(BODY, 1),
    "has an id too few": compressed(BODY, 2, flags=9),
    "is 128 MiB of nothing": compressed(bytes(1 << 27), 1, size=100),
    "is more than a block may be": compressed(bytes(blocks.BLOCK_BYTES_MAX), 1),
    "is millions of nothings": compressed(bytes(4 * 2_000_000), 2_000_000),
    "wants a window of 128 MiB": compressed(BODY, 2)[:12] + wide(BODY),
}


@pytest.mark.parametrize("block", [pytest.param(block, id=name) for name, block in HOSTILE.items()])
def test_a_hostile_compressed_block_is_corrupt_and_takes_no_memory(block: bytes) -> None:
    assert everything(compressed(BODY, 2))[0] == 2, "the good one is good"
    tracemalloc.start()
    try:
        with pytest.raises(Corrupt, match="block"):
            list(blocks.unpack(block, "block"))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_codec_is_imported_only_for_compressed_blocks() -> None:
    code = (
        "import sys\nfrom grafctl.store import blocks\n"
        "assert list(blocks.unpack(blocks.pack([b'x' * 1000]), 'block'))\n"
        "known = lambda: {'backports.zstd', 'compression.zstd'} & set(sys.modules)\n"
        "assert not known()\nassert list(blocks.unpack(blocks.pack([b'x' * 1000], 'zstd'), 'block'))\nassert known()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- limits on the way in


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (Outgoing(b"x" * (blocks.PAYLOAD_BYTES_MAX + 1)), "payload has 8,388,609 bytes"),
        (Outgoing(b"x", "i" * (blocks.ID_BYTES_MAX + 1)), "id has 1,025 bytes"),
        (Outgoing(b"x", "ä" * (blocks.ID_BYTES_MAX // 2 + 1)), "id has 1,026 bytes"),
        (Outgoing(b"x", None, "k" * (blocks.KEY_BYTES_MAX + 1)), "key has 32,769 bytes"),
        (Outgoing(b"x", None, None, {"h": "v" * blocks.HEADERS_BYTES_MAX}), "headers has 65,544 bytes"),
        (Outgoing(b"x", ""), "id is empty"),
        (Outgoing(b"x", "\ud800"), "id is not valid UTF-8"),
        (Outgoing(b"x", None, "\ud800"), "key is not valid UTF-8"),
        (Outgoing(b"x", "", line=7), "Line 7: the id is empty"),
    ],
)
def test_what_is_too_long_or_no_text_is_refused(record: Outgoing, words: str) -> None:
    with pytest.raises(Usage, match=words):
        blocks.check_record(record)


@pytest.mark.parametrize(
    "record",
    [
        Outgoing(b""),
        Outgoing(b"\xff\0"),
        Outgoing(b"x", "i" * blocks.ID_BYTES_MAX, "k" * 10_000, {"h": "v"}),
        Outgoing(b"x" * blocks.PAYLOAD_BYTES_MAX),
        Outgoing(b"x", "i", ""),
    ],
)
def test_what_is_just_within_the_limits_is_taken(record: Outgoing) -> None:
    blocks.check_record(record)


@pytest.mark.parametrize("headers", [{"a": "\ud800"}, {"\ud800": "a"}])
def test_headers_that_are_no_text_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Usage):
        blocks.check_record(Outgoing(b"x", headers=headers))


LIMITS = st.sampled_from([0, 1, blocks.ID_BYTES_MAX - 1, blocks.ID_BYTES_MAX, blocks.ID_BYTES_MAX + 1])
NEAR = st.builds(lambda size, last: "i" * size + last, LIMITS, st.sampled_from(["", "ä", "\ud800", "\0"]))
KEYS = st.builds(lambda size, last: "k" * (blocks.KEY_BYTES_MAX - 1 + size) + last, st.integers(0, 2), TEXTS)


@given(
    st.builds(
        Outgoing, st.just(b"x"), st.none() | NEAR, st.none() | TEXTS | KEYS | st.just("\ud800"), st.none() | HEADERS
    )
)
def test_what_is_plainly_fine_is_fine_part_by_part(record: Outgoing) -> None:
    if blocks.is_plainly_fine(record):
        blocks.check_part_by_part(record)
