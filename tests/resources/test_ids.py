"""The index of ids, against a dict: exact in every form it can take, and the same bytes whoever computes them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grafctl.errors import Corrupt
from grafctl.store import keys
from grafctl.store.blocks import Outgoing
from grafctl.store.resources import id_bulk, id_filters, id_runs, ids
from grafctl.store.resources.id_check import problems
from grafctl.store.resources.id_filters import Filters, spans
from grafctl.store.resources.id_runs import FAN_IN, MOVES, ROW_BYTES, directory_of
from grafctl.store.resources.ids import RECORD_BYTES, Hash, Known, hash_record
from resources.rows import Rows, a_queue

PLAIN, BULK = 1 << 30, 1  # from how many ids on numpy is used


@pytest.fixture(autouse=True)
def no_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begins each test as a new process would: nothing loaded."""
    monkeypatch.setattr(id_filters, "FILTERS", Filters())
    monkeypatch.setattr(ids, "_loaded", None)


def use(monkeypatch: pytest.MonkeyPatch, bulk: int) -> None:
    monkeypatch.setattr(ids, "BULK_MIN", bulk)
    monkeypatch.setattr(ids, "BULK_LOADED_MIN", bulk)


def put(rows: Rows, first: int, hashes: Sequence[Hash | None]) -> None:
    for row, body in ids.add(rows, first, hashes):
        if body is None:
            del rows.rows[row]
        else:
            rows.rows[row] = body


def some(count: int, start: int = 0) -> list[Hash]:
    return [hash_record(f"id-{number}", b"p%d" % number) for number in range(start, start + count)]


def grown(sizes: Sequence[int]) -> tuple[Rows, list[Hash]]:
    """Returns an index that took batches of these sizes."""
    rows = Rows()
    stored: list[Hash] = []
    for size in sizes:
        new = some(size, len(stored))
        put(rows, len(stored), new)
        stored += new
    return rows, stored


def all_of(rows: Rows, hashes: Sequence[Hash | None]) -> dict[int, Known]:
    return dict(sorted(ids.find(rows, hashes).items()))


def expected(stored: Sequence[Hash]) -> dict[int, Known]:
    return {place: Known(place, item[16:]) for place, item in enumerate(stored)}


SIZES: dict[str, list[int]] = {
    "one": [1],
    "one by one": [1] * 400,
    "just the open row": [64],
    "one more than the open row": [64, 1],
    "one batch": [1000],
    "batches": [300] * 14,
    "many small batches": [70] * 60,
    "one large batch after small ones": [1] * 70 + [5000] + [1] * 70,
    "all sizes": [1, 64, 65, 400, 2, 2400, 63, 7, 1000, 130] * 3,
}


@pytest.fixture(params=SIZES)
def index(request: pytest.FixtureRequest) -> tuple[Rows, list[Hash]]:
    return grown(SIZES[request.param])


def test_every_id_is_found_and_no_other(index: tuple[Rows, list[Hash]]) -> None:
    rows, stored = index
    for _ in range(2):  # without filters first, then with those that the first time loaded
        assert all_of(rows, stored) == expected(stored)
        assert all_of(rows, some(500, len(stored))) == {}
    for item in stored[:: len(stored) // 20 + 1]:
        assert ids.find(rows, [item]) == {0: Known(stored.index(item), item[16:])}


def test_each_id_is_in_one_place(index: tuple[Rows, list[Hash]]) -> None:
    """What the runs hold, without what a merge has moved already, and the open row: all numbers, each once."""
    rows, stored = index
    directory = directory_of(rows)
    bounds = {run.number: merge.bound for merge in directory.merges for run in merge.sources}
    numbers: list[int] = []
    for span in spans(directory):
        held = b"".join(body for _, body in rows.scan(keys.id_items_of(span.run.number)))
        items = [held[at : at + 16] for at in range(0, len(held), 16)]
        assert items == sorted(items)
        mine = [item for item in items if item >= bounds.get(span.run.number, b"")]
        assert span.low or span.high < span.run.cells or len(mine) == span.run.size
        numbers += [int.from_bytes(item[8:], "big") for item in mine]
    assert sorted(numbers) == list(range(directory.ids))
    assert len(rows.rows.get(keys.id_records(directory.ids), b"")) == (len(stored) - directory.ids) * RECORD_BYTES


def test_rows_are_small_and_what_is_merged_is_gone(index: tuple[Rows, list[Hash]]) -> None:
    rows, _ = index
    directory = directory_of(rows)
    numbers = {span.run.number for span in spans(directory)}
    for row, body in rows.scan(keys.ids()):
        assert len(body) <= ROW_BYTES or row == keys.id_directory()
        if row[3:5] in (b"IR", b"IF"):
            assert int.from_bytes(row[5:13], "big") in numbers, "a run that is in no directory has rows"


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_plain_and_bulk_write_the_same_bytes(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, PLAIN)
    plain, stored = grown(sizes)
    use(monkeypatch, BULK)
    bulk, _ = grown(sizes)
    assert plain.rows == bulk.rows
    for limit in (PLAIN, BULK):
        use(monkeypatch, limit)
        monkeypatch.setattr(id_filters, "FILTERS", Filters())
        for _ in range(2):
            assert all_of(bulk, [*stored, *some(300, len(stored))]) == expected(stored)


def test_the_work_of_an_entry_does_not_grow_with_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows that 300 new ids write or delete, with 1,200 ids stored and with 60,000."""
    rows, count = Rows(), 0
    most: list[int] = []
    for number in range(200):
        before = dict(rows.rows)
        put(rows, count, some(300, count))
        count += 300
        written = sum(len(body) for row, body in rows.rows.items() if before.get(row) != body)
        deleted = sum(len(body) for row, body in before.items() if row not in rows.rows)
        most.append(written + deleted)
        assert number < 4 or len(spans(directory_of(rows))) <= 5 * FAN_IN
    own = 300 * (RECORD_BYTES + 19) + 5000  # records, items, filter, directory
    assert max(most) <= own + 300 * MOVES * 2 * (16 + 3) + FAN_IN * 2 * ROW_BYTES
    assert max(most[:100]) * 1.1 >= max(most[100:])


# --- against a dict, through publishes


class Model:
    """A queue, and what it should answer."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.known: dict[str, tuple[int, bytes]] = {}

    def publish(self, batch: Sequence[tuple[str | None, bytes]]) -> None:
        known, following = dict(self.known), self.rows.queue["next"]
        offsets, lines = [], []
        for line, (name, payload) in enumerate(batch, start=1):
            held = None if name is None else known.get(name)
            if held is None:
                offsets.append(following)
                if name is not None:
                    known[name] = (following, payload)
                following += 1
            elif held[1] == payload:
                offsets.append(held[0])
            else:
                lines.append(line)
        records = [Outgoing(payload, name, line=line) for line, (name, payload) in enumerate(batch, start=1)]
        if lines and len(batch) == 1:
            return
        answer = self.rows.publish(*records)
        got = answer.offsets or list(range(answer.first, answer.first + answer.records))
        assert [row["line"] for row in answer.conflicts] == lines
        assert got == offsets or (not offsets and answer.records == 0)
        self.known = known


def random_batch(dice: random.Random, model: Model) -> list[tuple[str | None, bytes]]:
    size = dice.choice([1, 1, 1, 5, 60, 150, 400])
    old = list(model.known)
    batch: list[tuple[str | None, bytes]] = []
    for _ in range(size):
        what = dice.random()
        if what < 0.1 and old:
            name = dice.choice(old)
            batch.append((name, model.known[name][1]))
        elif what < 0.15 and old:
            batch.append((dice.choice(old), b"another payload"))
        elif what < 0.2 and batch:
            batch.append(dice.choice(batch))
        elif what < 0.3:
            batch.append((None, b"no id"))
        else:
            name = f"{dice.getrandbits(64):x}"
            batch.append((name, name.encode()))
    return batch


@pytest.mark.parametrize("bulk", [PLAIN, 100, BULK], ids=["plain", "mixed", "bulk"])
@pytest.mark.parametrize("seed", range(3))
def test_publishes_answer_as_a_dict_does(seed: int, bulk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With batches of all sizes, repeats, conflicts, entries that are undone, and processes that begin anew."""
    use(monkeypatch, bulk)
    monkeypatch.setattr(id_runs, "ROW_BYTES", [4000, 400, 48][seed])
    dice = random.Random(seed)
    model = Model(a_queue())
    saved: list[tuple[dict[bytes, bytes], int, dict[str, tuple[int, bytes]]]] = []
    for _ in range(60):
        model.publish(random_batch(dice, model))
        saved.append((dict(model.rows.rows), len(model.rows.entries), dict(model.known)))
        if dice.random() < 0.1:
            monkeypatch.setattr(id_filters, "FILTERS", Filters())
        if dice.random() < 0.15:  # back to an earlier state, as a cut of uncommitted entries does; filters stay
            rows, entries, known = saved[max(0, len(saved) - dice.randint(2, 8))]
            model.rows.rows, model.known = dict(rows), dict(known)
            del model.rows.entries[entries:]
    assert len(model.known) > 1500 and directory_of(model.rows).runs


class NoFilters(Filters):
    """A process that never loads a filter."""

    def find(self, state: Any, span: Any, asked: int) -> None:
        return None


class AllFilters(Filters):
    """A process that loads every filter before the first look-up."""

    def find(self, state: Any, span: Any, asked: int) -> Any:
        return super().find(state, span, 1 << 30)


@pytest.mark.parametrize("kind", [NoFilters, AllFilters])
@pytest.mark.parametrize("bulk", [PLAIN, BULK], ids=["plain", "bulk"])
def test_filters_change_no_answer(kind: type[Filters], bulk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, bulk)
    monkeypatch.setattr(id_filters, "FILTERS", kind())
    rows = Rows()
    stored: list[Hash] = []
    for size in [200] * 40 + [1] * 200:
        new = some(size, len(stored))
        assert all_of(rows, new) == {}
        put(rows, len(stored), new)
        stored += new
        sample = stored[:: len(stored) // 30 + 1]
        assert [known.offset for known in all_of(rows, sample).values()] == [stored.index(item) for item in sample]
    assert all_of(rows, stored) == expected(stored)


def test_most_foreign_ids_are_held_back_by_the_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, stored = grown([300] * 20)
    monkeypatch.setattr(id_filters, "FILTERS", AllFilters())
    asked: list[int] = []
    find_items = id_runs.find_items

    def count(*parts: Any) -> list[int]:
        asked.append(1)
        return find_items(*parts)

    monkeypatch.setattr(ids, "find_items", count)
    assert all_of(rows, some(2000, len(stored))) == {}
    assert len(asked) < 2000 * len(spans(directory_of(rows))) / 100


# --- filters that are out of date


def in_a_merge() -> tuple[Rows, list[Hash]]:
    """Returns an index in the middle of a merge of several runs."""
    sizes: list[int] = [400] * FAN_IN
    rows, stored = grown(sizes)
    while not any(merge.upto for merge in directory_of(rows).merges):
        put(rows, len(stored), some(65, len(stored)))
        stored += some(65, len(stored))
    return rows, stored


@pytest.mark.parametrize("bulk", [PLAIN, BULK], ids=["plain", "bulk"])
def test_filters_of_a_later_state_do_not_hide_what_an_earlier_one_holds(
    bulk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loaded late in a merge they lack what the sources still held before, and the entries were undone since."""
    use(monkeypatch, bulk)
    monkeypatch.setattr(id_runs, "ROW_BYTES", 400)  # so that a step of a merge deletes rows of filters
    monkeypatch.setattr(id_filters, "FILTERS", AllFilters())
    rows, stored = in_a_merge()
    early, held = dict(rows.rows), list(stored)
    states: list[tuple[dict[bytes, bytes], list[Hash]]] = []
    while len(directory_of(rows).merges) and len(states) < 20:
        put(rows, len(stored), some(65, len(stored)))
        stored += some(65, len(stored))
        states.append((dict(rows.rows), list(stored)))
    assert len(states) >= 3
    order = [*reversed(states), (early, held), *states]
    for state, known in order:
        rows.rows = dict(state)
        sample = range(0, len(known), 9)
        assert all_of(rows, [known[at] for at in sample]) == {
            place: Known(at, known[at][16:]) for place, at in enumerate(sample)
        }


def test_an_entry_in_the_place_of_one_that_was_undone_has_its_own_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_filters, "FILTERS", AllFilters())
    rows, stored = grown([500])
    before = dict(rows.rows)
    put(rows, 500, some(500, 1000))
    assert len(all_of(rows, some(500, 1000))) == 500
    rows.rows = before
    put(rows, 500, some(500, 5000))
    assert len(all_of(rows, some(500, 5000))) == 500
    assert all_of(rows, some(500, 1000)) == {} and all_of(rows, stored) == expected(stored)


def test_filters_in_memory_stay_within_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    filters = Filters(bytes_max=4000)
    monkeypatch.setattr(id_filters, "FILTERS", filters)
    rows, stored = grown([300] * 30)
    for _ in range(5):
        assert all_of(rows, stored) == expected(stored)
        assert all_of(rows, some(400, len(stored))) == {}
        assert sum(held.bytes for held in filters._held.values()) <= 4000


def test_a_process_that_publishes_once_loads_no_filter() -> None:
    rows, stored = grown([3000, 3000])
    assert ids.find(rows, some(1, len(stored))) == {}
    assert all(held.filter is None for held in id_filters.FILTERS._held.values())


def test_a_missing_row_of_a_filter_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the run itself is asked."""
    monkeypatch.setattr(id_filters, "FILTERS", AllFilters())
    for which in (0, 1, -1):
        rows, stored = grown([3000])
        del rows.rows[[row for row, _ in rows.scan(keys.id_filters_of(0))][which]]
        assert all_of(rows, stored) == expected(stored)


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


def test_a_sound_index_has_no_problem(index: tuple[Rows, list[Hash]]) -> None:
    assert list(problems(index[0])) == []


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
