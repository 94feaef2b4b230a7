"""What stages hand each other over an edge, byte for byte."""

from __future__ import annotations

import random

import pytest

from grafctl.pipeline.stages.parcel import (
    HEAD_BYTES,
    NO_DIGEST,
    Parcel,
    decode,
    encode,
    is_at_most,
    mark_of,
    size_of,
    without_marks,
)

FULL = Parcel(7, 3, True, b"\1" * 8, b'{"n":1}', "order-1", "acme", {"type": "ä"})
PARCELS = [
    FULL,
    Parcel(0, 0, False, NO_DIGEST, b""),
    Parcel((1 << 63) - 1, (1 << 63) - 1, True, b"\xff" * 8, b"\0" * 100, None, "k"),
    mark_of(FULL),
    Parcel(1, 2, False, NO_DIGEST, b"x", "", None, None),
]


@pytest.mark.parametrize("parcel", PARCELS)
def test_what_is_decoded_is_what_was_encoded(parcel: Parcel) -> None:
    body = encode(parcel)
    assert decode(body) == parcel and size_of(parcel) == len(body)


AWKWARD = ["", "order-1", "ä" * 9, '"' * 7, "\\\n\x00" * 5, "\U0001f600" * 6, "\ud800"]


@pytest.mark.parametrize("id", [None, *AWKWARD])
@pytest.mark.parametrize("key", [None, *AWKWARD])
@pytest.mark.parametrize("headers", [None, {"type": "ä"}])
def test_how_large_one_is_is_told_without_its_bytes(
    id: str | None, key: str | None, headers: dict[str, str] | None
) -> None:
    parcel = Parcel(7, 3, True, NO_DIGEST, b"payload", id, key, headers)
    size = len(encode(parcel))
    assert decode(encode(parcel)) == parcel
    assert [is_at_most(parcel, most) for most in (size - 1, size, size + 200)] == [False, True, True]


def test_the_bytes_are_these() -> None:
    assert encode(FULL).hex() == (
        "0105" "0000000000000007" "0000000000000003" "0101010101010101" "00000026"
        "5b226f726465722d31222c2261636d65222c7b2274797065223a22c3a4227d5d" "7b226e223a317d"
    ).replace("00000026", f"{len(encode(FULL)) - HEAD_BYTES - 7:08x}")  # fmt: skip
    assert encode(mark_of(FULL)).hex() == "01030000000000000007000000000000000301010101010101010" + "0000000"


def test_what_is_no_parcel_is_told() -> None:
    dice, body = random.Random(1), encode(FULL)
    wrong = [b"", b"\1", b"hello", body[: HEAD_BYTES - 1], b"\2" + body[1:], body[:1] + b"\x08" + body[2:]]
    wrong += [body.replace(b'["order-1"', b'[["rder-1"'), body.replace(b'{"type"', b'{"type]')]
    wrong += [body[:26] + b"\xff\xff\xff\xff" + body[30:]]
    for each in wrong:
        with pytest.raises(ValueError, match=r"it |names|Expecting|delimiter|Unterminated"):
            decode(each)
    for _ in range(2000):
        spoilt = bytearray(body)
        spoilt[dice.randrange(len(spoilt))] = dice.randrange(256)
        try:
            decode(bytes(spoilt))
        except ValueError:
            pass  # which is all that it may raise


@pytest.mark.parametrize("names", [b"[1,null,null]", b'["a",null,[]]', b'["a",null,{"b":1}]', b"{}", b"[" * 99_999])
def test_names_that_are_none(names: bytes) -> None:
    head = encode(FULL)[: HEAD_BYTES - 4]
    with pytest.raises(ValueError, match=r"names|Expecting"):
        decode(head + len(names).to_bytes(4, "big") + names)


def test_a_mark_stands_only_where_nothing_comes_behind_it() -> None:
    first, second, third = (FULL._replace(origin=at) for at in range(3))
    assert without_marks([mark_of(first), second, mark_of(third)]) == [second, mark_of(third)]
    assert without_marks([mark_of(first), mark_of(second)]) == [mark_of(second)]
    assert without_marks([]) == [] and without_marks([first]) == [first]
