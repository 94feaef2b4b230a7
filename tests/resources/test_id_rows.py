"""The rows of the index of ids: made alike by both ways of making them, refused where they contradict each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grafctl.errors import Corrupt
from grafctl.store import keys
from grafctl.store.blocks import Outgoing
from grafctl.store.resources import id_bulk, id_runs, ids
from grafctl.store.resources.id_check import problems
from grafctl.store.resources.ids import RECORD_BYTES, Hash, Known, hash_record
from resources.rows import Rows, a_queue
from resources.test_ids import BULK, PLAIN, all_of, expected, grown, put, some, use

# --- digests that begin alike


def alike(count: int, prefix: bytes = b"\x77" * 8) -> list[Hash]:
    return [prefix + number.to_bytes(8, "big") + bytes([number % 251]) * 16 for number in range(count)]


@pytest.mark.parametrize("bulk", [PLAIN, BULK], ids=["plain", "bulk"])
@pytest.mark.parametrize("sizes", [[300], [70] * 5, [65, 20, 300]], ids=str)
def test_ids_whose_digests_begin_alike_are_told_apart(
    sizes: list[int], bulk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than a row holds, so that they lie in several rows of a run and in several runs."""
    use(monkeypatch, bulk)
    rows = Rows()
    stored: list[Hash] = []
    same = alike(sum(sizes))
    for size in sizes:
        put(rows, len(stored), same[len(stored) : len(stored) + size])
        stored = same[: len(stored) + size]
    put(rows, len(stored), some(200))
    stored = [*stored, *some(200)]
    for _ in range(2):
        assert all_of(rows, stored) == expected(stored)
        assert all_of(rows, [alike(sum(sizes) + 5)[-1], b"\x77" * 8 + b"\xff" * 24]) == {}


ITEM = st.tuples(st.sampled_from([0, 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1), st.integers(0, 5000))
PREFIX = st.none() | st.integers(0, 2**32 - 1).map(lambda top: top.to_bytes(4, "big") + bytes(4))


@settings(deadline=None)
@given(st.lists(ITEM, max_size=60, unique=True), PREFIX, PREFIX)
def test_items_are_sorted_and_cut_alike(pairs: list[tuple[int, int]], low: bytes | None, stop: bytes | None) -> None:
    items = b"".join(prefix.to_bytes(8, "big") + number.to_bytes(8, "big") for prefix, number in pairs)
    plain = id_runs.sort_items(items, low or b"", stop)
    assert plain == id_bulk.sort_items(items, low or b"", stop)
    inside = [pair for pair in pairs if (low or b"") <= pair[0].to_bytes(8, "big")]
    inside = [pair for pair in inside if stop is None or pair[0].to_bytes(8, "big") < stop]
    assert plain == b"".join(prefix.to_bytes(8, "big") + at.to_bytes(8, "big") for prefix, at in sorted(inside))


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=60), st.integers(1, 1 << 24))
def test_filters_are_built_alike_and_cells_keep_the_order(prefixes: list[int], cells: int) -> None:
    items = b"".join(prefix.to_bytes(8, "big") + bytes(8) for prefix in sorted(prefixes))
    places = [id_runs.cell_of(prefix, cells) for prefix in sorted(prefixes)]
    assert places == sorted(places) and all(0 <= place < cells for place in places)
    for place in places:
        first, after = id_runs.prefix_of(place, cells), id_runs.prefix_of(place + 1, cells)
        assert first is not None and id_runs.cell_of(int.from_bytes(first, "big"), cells) == place
        assert after is None or id_runs.cell_of(int.from_bytes(after, "big") - 1, cells) == place
    if places and places[-1] - places[0] < 5000:
        span = (places[0], places[-1] + 1)
        assert id_runs.filter_of(items, cells, *span) == id_bulk.filter_of(items, cells, *span)


@given(st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.integers(0, 1 << 60)), min_size=1, max_size=20))
def test_records_and_items_are_made_alike(pairs: list[tuple[bytes, int]]) -> None:
    hashes, offsets = [item for item, _ in pairs], [offset for _, offset in pairs]
    records = ids.make_records(hashes, offsets)
    assert records == id_bulk.make_records(hashes, offsets)
    assert ids.make_items(records, 7) == id_bulk.make_items(records, 7)


# --- what is kept between decide and apply


def test_hashes_of_another_block_are_never_taken() -> None:
    rows = a_queue()
    rows.publish(Outgoing(b"a", "A"))
    rows.publish(Outgoing(b"a", "B"))
    ids._recent.clear()
    rows.publish(Outgoing(b"a", "C"))
    assert [known.offset for known in all_of(rows, [hash_record(name, b"a") for name in "ABC"]).values()] == [0, 1, 2]
    assert len(ids._recent) <= ids._RECENT_MAX


def test_the_hashes_of_a_block_are_those_of_its_records() -> None:
    rows = a_queue()
    records = [Outgoing(b"a", "A"), Outgoing(b"b"), Outgoing("ü".encode(), "ü", "key", {"h": "1"})]
    rows.publish(*records)
    entry = rows.entries[-1]
    kept = ids.hashes_of(entry.block, entry.block_digest, "entry")
    ids._recent.clear()
    assert kept == ids.hashes_of(entry.block, entry.block_digest, "entry")
    assert kept == [hash_record("A", b"a"), None, hash_record("ü", "ü".encode())]


# --- rows that say something else


def change(rows: Rows, row: bytes, body: bytes | None) -> None:
    if body is None:
        del rows.rows[row]
    else:
        rows.rows[row] = body


def first_row(rows: Rows, span: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    return next(iter(rows.scan(span)))


BROKEN: dict[str, Any] = {
    "items cut short": (keys.id_items_of(0), lambda body: body[:-1]),
    "no items": (keys.id_items_of(0), lambda body: b""),
    "other items than the key says": (keys.id_items_of(0), lambda body: b"\0" * 16 + body[16:]),
    "records cut short": (keys.id_records_from(0), lambda body: body[:-1]),
    "records of other ids": (keys.id_records_from(0), lambda body: bytes(len(body))),
    "no records": (keys.id_records_from(0), lambda body: None),
    "fewer records": (keys.id_records_from(0), lambda body: body[:RECORD_BYTES]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_rows_that_contradict_each_other_are_corrupt(name: str) -> None:
    rows, stored = grown([100])
    row, body = first_row(rows, BROKEN[name][0])
    change(rows, row, BROKEN[name][1](body))
    with pytest.raises(Corrupt) as found:
        all_of(rows, stored)
    assert found.value.fields["key"]


def test_an_open_row_that_is_cut_short_is_corrupt() -> None:
    rows, stored = grown([10])
    change(rows, keys.id_records(0), rows.rows[keys.id_records(0)][:-1])
    with pytest.raises(Corrupt):
        all_of(rows, stored)


# --- what `verify` says


def test_an_empty_index_has_no_problem() -> None:
    assert list(problems(Rows())) == []


def clear_bit(body: bytes) -> bytes:
    """Returns a filter's row with one bit less."""
    at = next(at for at, value in enumerate(body) if value)
    return body[:at] + bytes([body[at] & body[at] - 1]) + body[at + 1 :]


PROBLEMS: dict[str, tuple[tuple[bytes, bytes], Callable[[bytes], bytes | None], str]] = {
    "a row of items is gone": (keys.id_items_of(0), lambda body: None, "holds 250 of 500 items"),
    "an item is gone": (keys.id_items_of(0), lambda body: body[:-16], "holds 499 of 500 items"),
    "an item is there twice": (keys.id_items_of(0), lambda body: body + body[-16:], "holds 501 of 500 items"),
    "another item": (keys.id_items_of(0), lambda body: body[:-1] + bytes([body[-1] ^ 1]), "or others than these"),
    "items in disorder": (keys.id_items_of(0), lambda body: body[:16] + body[:15:-1], "not in order"),
    "a row of records is gone": (keys.id_records_from(0), lambda body: None, "ids 0 to 100 of its index are not there"),
    "a record of another id": (keys.id_records_from(0), lambda body: bytes(40) + body[40:], "or others than these"),
    "a filter hides an item": (keys.id_filters_of(0), clear_bit, "hides"),
    "a row of a filter is gone": (keys.id_filters_of(0), lambda body: None, "has gaps"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_each_problem_of_an_index_is_found(name: str) -> None:
    rows, _ = grown([500, 1])
    span, wrong, says = PROBLEMS[name]
    row, body = first_row(rows, span)
    change(rows, row, wrong(body))
    found = list(problems(rows))
    assert found and any(says in text for text in found), found


def test_a_digest_that_stands_across_two_records_is_not_found_there() -> None:
    rows = Rows()
    first, second = alike(2, b"\x11" * 8)
    put(rows, 0x0102030405060708, [first, second])
    every = rows.rows[keys.id_records(0)]
    for at in range(1, len(every) - 16):
        if at % RECORD_BYTES:
            for times in (1, 20):
                assert all_of(rows, [every[at : at + 16] + bytes(16)] * times) == {}
    assert all_of(rows, [first, second]) == {
        0: Known(0x0102030405060708, first[16:]),
        1: Known(0x0102030405060709, second[16:]),
    }
