"""Which vshard a key belongs to is fixed for ever, and so is how vshards are written."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.errors import Corrupt, Usage
from grafctl.store.table_block import Write, pack, unpack
from grafctl.store.vshards import check_vshards, parse_vshards, ranges_text, vshard_of


@pytest.mark.parametrize(("key", "vshards", "vshard"), [(b"order-1", 1024, 396), (b"", 1024, 20), (b"k", 8, 6)])
def test_keys_are_where_they_were_in_every_version(key: bytes, vshards: int, vshard: int) -> None:
    assert vshard_of(key, vshards) == vshard


@given(st.binary(max_size=500), st.integers(1, 65_536))
def test_a_vshard_follows_from_the_hash_alone(key: bytes, vshards: int) -> None:
    assert vshard_of(key, vshards) == int(hashlib.sha256(key).hexdigest()[:16], 16) % vshards


def test_keys_are_spread_evenly() -> None:
    counts = [0] * 64
    for number in range(64_000):
        counts[vshard_of(b"customer-%d" % number, 64)] += 1
    assert min(counts) > 850 and max(counts) < 1150


@given(st.sets(st.integers(0, 65_535), min_size=1, max_size=40))
def test_ranges_are_read_as_they_are_written(numbers: set[int]) -> None:
    assert parse_vshards(ranges_text(numbers)) == sorted(numbers)


@pytest.mark.parametrize("text", ["", ",", "a", "-1", "3-", "5-3", "65536", "1,,2", "١", "1" * 5_000, "0x1"])
def test_what_names_no_vshards_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        parse_vshards(text)


@pytest.mark.parametrize("vshards", [0, -1, 65_537])
def test_a_table_has_a_bounded_number_of_vshards(vshards: int) -> None:
    with pytest.raises(Usage, match="has 1 to 65,536"):
        check_vshards(vshards)


_writes = st.lists(
    st.builds(
        Write,
        st.integers(0, 65_535),
        st.binary(min_size=1, max_size=30),
        st.none() | st.binary(max_size=50),
        st.integers(0, 2**64 - 1),
    )
)


@given(_writes, st.booleans())
def test_a_block_is_read_as_it_was_packed(writes: list[Write], versions: bool) -> None:
    expected = writes if versions else [write._replace(version=0) for write in writes]
    assert unpack(pack(writes, versions=versions), "a block") == expected


@given(_writes, st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_a_torn_or_a_longer_block_is_corrupt(writes: list[Write], cut: int, more: bytes) -> None:
    block = pack(writes, versions=True)
    for wrong in (block[: min(cut, len(block) - 1)], block + more, b"\x09" + block[1:]):
        with pytest.raises(Corrupt):
            unpack(wrong, "a block")
