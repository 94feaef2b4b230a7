"""Values: what was encoded comes back, and every changed byte of it is noticed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.errors import Corrupt
from grafctl.store import records
from grafctl.store.records import HeadRow
from grafctl.store.rules import EMPTY_HEAD, Config, Head, Seen, Voter

U64 = st.integers(0, (1 << 64) - 1)
TERMS = st.tuples(U64, U64)
CHAINS = st.binary(min_size=32, max_size=32)
HEADS = st.builds(Head, TERMS, TERMS, U64, U64, U64, st.integers(-1, (1 << 63) - 1), st.booleans())
VOTERS = st.builds(Voter, st.sampled_from(["aws/a", "gcp/b", "azure/c"]), st.just("inc_1"), st.booleans())
CONFIGS = st.builds(
    Config, U64, TERMS, st.just("aws/a"), st.lists(VOTERS, max_size=4).map(tuple), st.integers(1, 9), st.integers(1, 9)
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=12,
)

HEAD = HeadRow(Head((3, 7), (2, 9), 1, 12, 11, 5, False), 1_700_000_000_000, b"c" * 32, b"f" * 32)
CONFIG = Config(5, (2, 9), "aws/a", (Voter("aws/a", "inc_1"), Voter("gcp/b", "inc_2", True)), 2, 1)
SEEN = Seen("inc_1", (3, 7), (2, 9), 12, 11)
UNDO = [(b"row", b"old"), (b"other", None), (b"empty", b"")]


def an_entry(block: bytes = b"a block of bytes") -> bytes:
    block_digest = records.digest(block) if block else records.NO_DIGEST
    meta = records.encode_json({"do": "publish", "first": 3, "count": 1})
    return records.make_entry(b"p" * 32, records.DATA, (2, 9), 1_700_000, b"o" * 16, meta, block, block_digest)[0]


ENTRY, BARE = an_entry(), an_entry(b"")
ENCODED: dict[str, tuple[bytes, Callable[[bytes, str], Any]]] = {
    "row": (records.encode_row(b"some body"), records.decode_row),
    "empty row": (records.encode_row(b""), records.decode_row),
    "head": (records.encode_head(HEAD), records.decode_head),
    "seen": (records.encode_seen(SEEN), records.decode_seen),
    "config": (records.encode_config(CONFIG), records.decode_config_row),
    "undo": (records.encode_undo(UNDO), records.decode_undo),
    "entry": (ENTRY, records.decode_entry),
    "entry without a block": (BARE, records.decode_entry),
    "stripped entry": (records.strip_block(ENTRY), records.decode_entry),
}


def flips(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields (place, bytes) for every single bit flip, and for every byte inverted."""
    for at in range(len(raw)):
        for mask in (*(1 << bit for bit in range(8)), 0xFF):
            yield at, raw[:at] + bytes([raw[at] ^ mask]) + raw[at + 1 :]


# --- round trips


@given(st.binary())
def test_rows_come_back(body: bytes) -> None:
    assert records.decode_row(records.encode_row(body), "row") == body


@given(VALUES)
def test_json_comes_back_and_is_canonical(value: Any) -> None:
    encoded = records.encode_json(value)
    assert records.parse_json(encoded) == value == json.loads(encoded)
    assert records.encode_json(json.loads(encoded)) == encoded


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers()))
def test_the_order_of_names_does_not_matter(value: dict[str, int]) -> None:
    assert records.encode_json(dict(reversed(value.items()))) == records.encode_json(value)


def test_json_has_no_white_space_no_escapes_and_no_nan() -> None:
    assert records.encode_json({"b": [1, 2.5], "a": "größe"}) == '{"a":"größe","b":[1,2.5]}'.encode()
    with pytest.raises(ValueError, match="JSON compliant"):
        records.encode_json(float("nan"))


@given(HEADS, U64, CHAINS, CHAINS)
def test_heads_come_back(head: Head, stamped_ms: int, chain: bytes, floor_chain: bytes) -> None:
    row = HeadRow(head, stamped_ms, chain, floor_chain)
    assert records.decode_head(records.encode_head(row), "head") == row


def test_the_empty_head_comes_back() -> None:
    row = HeadRow(EMPTY_HEAD, 0, records.NO_CHAIN, records.NO_CHAIN)
    assert records.decode_head(records.encode_head(row), "head") == row


@given(st.builds(Seen, st.from_regex(r"\Ainc_[0-9a-f]{0,20}\Z"), TERMS, TERMS, U64, U64))
def test_memories_of_peers_come_back(seen: Seen) -> None:
    assert records.decode_seen(records.encode_seen(seen), "seen") == seen


@given(CONFIGS)
def test_configurations_come_back(config: Config) -> None:
    assert records.decode_config_row(records.encode_config(config), "config") == config
    assert (
        records.decode_config(json.loads(json.dumps(records.config_fields(config))), config.at, config.term) == config
    )


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.none() | st.binary())))
def test_pre_images_come_back(pairs: list[tuple[bytes, bytes | None]]) -> None:
    assert records.decode_undo(records.encode_undo(pairs), "undo") == pairs


@given(CHAINS, st.sampled_from([1, 2, 3]), TERMS, U64, st.binary(min_size=16, max_size=16), VALUES, st.binary())
def test_entries_come_back_and_follow_one_chain_only(
    previous: bytes, kind: int, term: tuple[int, int], ms: int, operation: bytes, value: Any, block: bytes
) -> None:
    meta = records.encode_json({"do": value})
    block_digest = records.digest(block)
    raw, chain = records.make_entry(previous, kind, term, ms, operation, meta, block, block_digest)
    entry = records.decode_entry(raw, "entry")
    assert entry == (kind, term, ms, operation, meta, block, block_digest, chain, False)
    assert entry.request == {"do": value}
    header = raw[: records.ENTRY_HEADER_BYTES]
    assert (records.entry_chain(header), records.entry_operation(header)) == (chain, operation)
    assert records.follows(previous, raw)
    assert not records.follows(records.digest(previous), raw)


@given(st.binary(min_size=1))
def test_a_witness_keeps_everything_but_the_block(block: bytes) -> None:
    raw = an_entry(block)
    stripped = records.strip_block(raw)
    assert len(stripped) == len(raw) - len(block)
    kept, whole = records.decode_entry(stripped, "entry"), records.decode_entry(raw, "entry")
    assert kept == whole._replace(block=b"", stripped=True)
    assert records.follows(b"p" * 32, stripped)
    assert records.strip_block(BARE) == BARE


# --- what is changed is noticed


@pytest.mark.parametrize("name", ENCODED)
def test_every_flipped_bit_is_noticed(name: str) -> None:
    raw, decode = ENCODED[name]
    decode(raw, name)
    for at, changed in flips(raw):
        with pytest.raises(Corrupt):
            decode(changed, name)
            pytest.fail(f"a change of byte {at} of {len(raw)} was not noticed")


@pytest.mark.parametrize("name", ENCODED)
def test_every_cut_and_every_byte_more_is_noticed(name: str) -> None:
    raw, decode = ENCODED[name]
    for changed in [raw[:size] for size in range(len(raw))] + [raw + b"\0", raw + raw, b"\0" + raw]:
        with pytest.raises(Corrupt, match=name):
            decode(changed, name)


@pytest.mark.parametrize("name", ["head", "seen", "config", "undo"])
@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b"\xff" * 20, b"x" * 47, b'{"at":1,"term":[1]}'])
def test_a_row_of_another_kind_is_refused(name: str, body: bytes) -> None:
    """With a good checksum: only a bug or another format puts it there, and it is `Corrupt` all the same."""
    if name == "undo" and not body:
        return
    with pytest.raises(Corrupt):
        ENCODED[name][1](records.encode_row(body), name)


@given(st.binary(max_size=400))
def test_foreign_bytes_are_refused(raw: bytes) -> None:
    for name, (_, decode) in ENCODED.items():
        with pytest.raises(Corrupt):
            decode(raw, name)


def test_a_block_is_not_looked_at_when_told_so() -> None:
    changed = ENTRY[:-1] + bytes([ENTRY[-1] ^ 1])
    assert records.decode_entry(changed, "entry", verify_block=False).block_digest == records.digest(
        b"a block of bytes"
    )
    with pytest.raises(Corrupt):
        records.decode_entry(ENTRY[:-1], "entry", verify_block=False)


def test_what_was_read_is_named() -> None:
    with pytest.raises(Corrupt, match="aws/a: entry 7 fails its checksum") as refused:
        records.decode_entry(b"\0" * 200, "aws/a: entry 7")
    assert refused.value.exit_code == 25


def test_a_digest_is_sha_256_before_and_after_openssl_is_loaded() -> None:
    """A process of its own, because the tests have loaded OpenSSL and the switch happens once."""
    program = """
import sys
from grafctl.store.records import digest
little = [digest(bytes([number]) * number) for number in range(200)]
before = "_hashlib" in sys.modules
large = digest(bytes(1 << 16))
after = "_hashlib" in sys.modules
import hashlib
assert little == [hashlib.sha256(bytes([number]) * number).digest() for number in range(200)]
assert large == hashlib.sha256(bytes(1 << 16)).digest()
assert digest(b"x") == hashlib.sha256(b"x").digest()
print(before, after)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "False True\n"
