"""The bytes of a ring: what is written is read, and a byte that is another one is noticed, wherever it is."""

from __future__ import annotations

from binascii import crc32
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.edges import ring_bytes
from grafctl.edges.ring_bytes import SLOTS_AT, Front, Layout, Lost, decode_front, decode_slot, encode_front, encode_slot
from grafctl.errors import Usage

BOOT = b"12345678"
LAYOUT = Layout("memory", 4, 40, 7, BOOT)
SIZE = SLOTS_AT + 4 * 40


def read(raw: bytes, **other: Any) -> Front:
    fields: dict[str, Any] = {"size": SIZE, "token": 7, "boot": BOOT} | other
    return decode_front(raw, **fields)


@given(st.integers(0, 2**62), st.integers(0, 3))
def test_both_ends_are_read_as_they_were_written(head: int, used: int) -> None:
    front = Front(LAYOUT, head, head + used)
    assert (
        ring_bytes.decode_front_again(encode_front(front), encode_front(Front(LAYOUT, 1, 2)), Front(LAYOUT, 1, 2))
        == front
    )
    assert read(encode_front(front)) == front and (front.used, front.room) == (used, 3 - used)


@given(st.integers(0, 2**63), st.binary(max_size=24))
def test_a_record_is_read_as_it_was_written(number: int, payload: bytes) -> None:
    raw = encode_slot(LAYOUT, number, payload).ljust(40, b"\xaa")
    assert decode_slot(LAYOUT, number, raw) == payload
    with pytest.raises(Lost):
        decode_slot(LAYOUT, number + 4, raw)
    with pytest.raises(Lost):
        decode_slot(LAYOUT._replace(token=8), number, raw)


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_is_noticed_or_is_in_what_nobody_reads(bit: int) -> None:
    front = encode_front(Front(LAYOUT, 5, 7))
    for at in range(SLOTS_AT):
        wrong = bytearray(front)
        wrong[at] ^= 1 << bit
        try:
            assert read(bytes(wrong)) == Front(LAYOUT, 5, 7)
            assert ring_bytes.decode_front_again(bytes(wrong), front, Front(LAYOUT, 5, 7)) in (
                None,
                Front(LAYOUT, 5, 7),
            )
        except Lost:
            with suppress(Lost):
                assert ring_bytes.decode_front_again(bytes(wrong), front, Front(LAYOUT, 5, 7)) is None
            continue
        assert at in (*range(524, 1024), *range(1036, 1536)), f"nobody noticed byte {at}"
    slot = encode_slot(LAYOUT, 5, b"payload").ljust(40, b"\0")
    for at in range(23):
        wrong = bytearray(slot)
        wrong[at] ^= 1 << bit
        with pytest.raises(Lost):
            decode_slot(LAYOUT, 5, bytes(wrong))


@pytest.mark.parametrize(
    ("front", "other"),
    [
        (Front(LAYOUT, 5, 4), {}),
        (Front(LAYOUT, 5, 9), {}),
        (Front(LAYOUT, 5, 5), {"token": 8}),
        (Front(LAYOUT, 5, 5), {"token": 6}),
        (Front(LAYOUT, 5, 5), {"boot": b"another!"}),
        (Front(LAYOUT, 5, 5), {"size": SIZE - 1}),
        (Front(LAYOUT._replace(slots=1), 5, 5), {}),
        (Front(LAYOUT._replace(slot_bytes=16), 5, 5), {}),
    ],
)
def test_what_does_not_belong_together_is_lost(front: Front, other: dict[str, Any]) -> None:
    with pytest.raises(Lost):
        read(encode_front(front), **other)


def test_a_ring_that_is_flushed_lives_through_another_boot() -> None:
    front = Front(LAYOUT._replace(kind="block"), 5, 6)
    assert read(encode_front(front), boot=b"another!") == front


def test_one_end_is_not_taken_for_the_other_and_a_newer_version_is_not_guessed_at() -> None:
    raw = bytearray(encode_front(Front(LAYOUT, 5, 5)))
    raw[512:524] = raw[1024:1036]
    with pytest.raises(Lost, match="head"):
        read(bytes(raw))
    raw = bytearray(encode_front(Front(LAYOUT, 5, 5)))
    raw[4] = 2
    raw[32:36] = crc32(raw[:32]).to_bytes(4, "little")
    with pytest.raises(Lost, match="version 2"):
        read(bytes(raw))
    for length in range(0, SLOTS_AT, 97):
        with pytest.raises(Lost):
            read(encode_front(Front(LAYOUT, 5, 5))[:length])


@pytest.mark.parametrize("slots", [-1, 0, 1, 2**20 + 1, True, 2.0, 171])
def test_a_ring_has_slots_that_fit(slots: Any) -> None:
    with pytest.raises((Usage, ValueError)):
        ring_bytes.layout_of("memory", slots, 4096, 1, BOOT)


def test_a_ring_takes_what_there_is() -> None:
    layout = ring_bytes.layout_of("memory", 2, 4096, 1, BOOT)
    assert (layout.capacity, layout.slot_bytes, layout.payload_bytes_max, layout.stop) == (1, 1024, 1008, 4096)
    assert ring_bytes.layout_of("memory", 85, 4096, 1, BOOT).payload_bytes_max == 8
