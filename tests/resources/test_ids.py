"""The index of ids, against a dict: exact in every form it can take, and the same bytes whoever computes them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from grafctl.store import keys
from grafctl.store.blocks import Outgoing
from grafctl.store.resources import id_filters, id_runs, ids
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


def test_a_sound_index_has_no_problem(index: tuple[Rows, list[Hash]]) -> None:
    assert list(problems(index[0])) == []


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
