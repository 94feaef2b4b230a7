"""What a put does to a vshard's rows: gate, compare-and-set, repeats, limits, versions; what looking it over finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.errors import DomainUnavailable, Fenced, GenerationConflict, NotFound, Usage
from grafctl.store import vshard_keys
from grafctl.store.keys import U64
from grafctl.store.records import encode_json
from grafctl.store.resources.table import Ask, Caller, NotServed, Put, vshard_row, write_rate
from grafctl.store.resources.table_check import owners_of, problems, table_problems
from grafctl.store.vshards import vshard_of
from resources.rows import AWS, CONFIG, Rows, a_queue, find

T, VSHARDS = "accounts", 4
KEYS: dict[int, list[bytes]] = {}
for _number in range(60):
    KEYS.setdefault(vshard_of(b"key-%d" % _number, VSHARDS), []).append(b"key-%d" % _number)
A, B = KEYS[0][:2]
OTHER = KEYS[1][0]


def a_table(**fields: Any) -> Rows:
    """Returns a state that holds an empty table of 4 vshards."""
    own: dict[str, Any] = {"name": T, "kind": "table", "vshards": VSHARDS} | fields
    return a_queue(**own)


def put(rows: Rows, *items: tuple[bytes, bytes | None] | tuple[bytes, bytes | None, int | None], **caller: Any) -> Any:
    asks = [Ask(vshard_of(item[0], VSHARDS), *item) for item in items]
    return rows.run(Put(Caller(T, caller.pop("domain", AWS), **caller), asks))


def there(rows: Rows, key: bytes) -> tuple[int, bytes] | None:
    number = vshard_of(key, VSHARDS)
    return find(rows, rows.get_json(b"\0\1Q"), T, number, key, None)


def shard(rows: Rows, number: int = 0) -> dict[str, Any]:
    row = vshard_row(rows, rows.get_json(b"\0\1Q"), number)
    assert row is not None
    return row


# --- versions


def test_versions_are_counted_by_vshard_and_never_come_again() -> None:
    rows = a_table()
    assert put(rows, (A, b"1"), (B, b"1"), (OTHER, b"1")) == [(1, True), (2, True), (1, True)]
    assert put(rows, (A, None)) == [(3, True)] and there(rows, A) is None
    assert put(rows, (A, None)) == [(0, False)]
    assert put(rows, (A, b"1")) == [(4, True)]
    assert (there(rows, A), there(rows, B)) == ((4, b"1"), (2, b"1"))
    assert {name: shard(rows)[name] for name in ("seq", "records", "bytes")} == {
        **{"seq": 4, "records": 2, "bytes": len(A) + len(B) + 2}
    }


def test_what_is_there_already_is_not_written_again() -> None:
    rows = a_table()
    put(rows, (A, b"1"))
    entries = len(rows.entries)
    assert put(rows, (A, b"1")) == [(1, False)] and len(rows.entries) == entries
    assert put(rows, (A, b"1"), (B, b"2")) == [(1, False), (2, True)]
    assert put(rows, (A, b"1", 1)) == [(3, True)]  # who expects a version wants a new one
    assert put(rows, (A, b"")) == [(4, True)] and there(rows, A) == (4, b"")


@pytest.mark.parametrize(
    ("before", "item", "version"),
    [
        (None, (A, b"x", 0), 1),
        (b"1", (A, b"x", 1), 2),
        (b"1", (A, None, 1), 2),
        (None, (A, None, 0), 0),
    ],
)
def test_an_expected_version_that_is_there_is_written_over(before: bytes | None, item: Any, version: int) -> None:
    rows = a_table()
    if before is not None:
        put(rows, (A, before))
    assert put(rows, item)[0][0] == version
    assert there(rows, A) == (None if item[1] is None else (version, item[1]))


@pytest.mark.parametrize(("before", "expect", "found"), [(None, 1, 0), (b"1", 0, 1), (b"1", 2, 1), (b"1", 1 << 60, 1)])
@pytest.mark.parametrize("value", [b"x", None])
def test_a_compare_and_set_that_is_lost_writes_nothing_of_its_entry(
    before: bytes | None, expect: int, found: int, value: bytes | None
) -> None:
    rows = a_table()
    if before is not None:
        put(rows, (A, before))
    at = dict(rows.rows)
    with pytest.raises(GenerationConflict) as lost:
        put(rows, (B, b"x"), (A, value, expect))
    assert (lost.value.fields["version"], lost.value.fields["expected"]) == (found, expect)
    assert rows.rows == at


# --- who may, and when


@pytest.mark.parametrize(
    ("caller", "error"),
    [
        ({"domain": "azure/x"}, DomainUnavailable),
        ({"known": False}, DomainUnavailable),
        ({"epoch": 1}, Fenced),
        ({"domain": "azure/x", "epoch": 1}, DomainUnavailable),
    ],
)
def test_the_gate_is_passed_before_anything(caller: dict[str, Any], error: type[Exception]) -> None:
    rows = a_table(epoch=2)
    with pytest.raises(error):
        put(rows, (A, b"1", 7), **caller)
    assert put(rows, (A, b"1"), epoch=2) == [(1, True)]


def test_what_is_no_table_takes_no_keys() -> None:
    with pytest.raises(NotFound, match="no table"):
        put(Rows(), (A, b"1"))
    with pytest.raises(Usage, match="is a queue"):
        put(a_queue(), (A, b"1"))


@pytest.mark.parametrize("how", ["sealed", "moved", "retired", "receiving", "ready"])
def test_a_vshard_that_is_not_open_here_takes_nothing_and_the_others_do(how: str) -> None:
    rows = a_table()
    put(rows, (A, b"1"), (OTHER, b"1"))
    row = shard(rows) | {"state": how, "token": 9, "until": 0, "budget": 0, "to": "x", "from": "y"}
    rows.rows[vshard_keys.vshard(0)] = encode_json(row)
    before = dict(rows.rows)
    with pytest.raises(NotServed) as refused:
        put(rows, (OTHER, b"2"), (A, b"2"))
    assert refused.value.reasons[0].how == how and rows.rows == before
    assert put(rows, (OTHER, b"2")) == [(2, True)]


def test_a_part_has_the_vshards_that_it_was_given_alone() -> None:
    rows = a_table(kind="part", part_of=T)
    with pytest.raises(NotServed) as refused:
        put(rows, (A, b"1"))
    assert refused.value.reasons[0].how == "absent"


def test_a_throttled_vshard_makes_its_writers_wait_as_long_as_their_writes_take() -> None:
    rows = a_table()
    put(rows, (A, b"0"))
    rows.rows[vshard_keys.vshard(0)] = encode_json(shard(rows) | {"limit": 10})
    assert put(rows, (A, b"1"), (B, b"1")) == [(2, True), (3, True)]  # 2 of 10 a second
    with pytest.raises(NotServed) as refused:
        put(rows, (A, b"2"))
    assert (refused.value.reasons[0].how, refused.value.reasons[0].wait_ms) == ("throttled", 200)
    assert put(rows, (OTHER, b"1")) == [(1, True)]
    rows.now_ms += 200
    assert put(rows, (A, b"2")) == [(4, True)]


def test_writes_are_counted_by_the_minute() -> None:
    rows = a_table()
    rows.now_ms = 60_000 * 100
    for number in range(60):
        put(rows, (A, b"%d" % number))
    assert write_rate(shard(rows), rows.now_ms) == 1.0
    assert write_rate(shard(rows), rows.now_ms + 90_000) == 0.5
    assert write_rate(shard(rows), rows.now_ms + 180_000) == 0.0


def test_an_earlier_try_is_answered_with_what_it_wrote() -> None:
    rows = a_table()
    put(rows, (A, b"1"))
    request = Put(Caller(T, AWS), [Ask(0, A, b"1"), Ask(0, B, b"2")])
    from grafctl.store.requests import Context

    answer = request.decide(rows, Context(1, 0, CONFIG)).answer
    rows.run(request)
    assert request.recall(rows.entries[-1], 0, rows) == answer == [(1, False), (2, True)]


# --- a model


steps = st.lists(
    st.tuples(
        st.sampled_from([*KEYS[0][:3], *KEYS[1][:2]]),
        st.none() | st.binary(max_size=3),
        st.none() | st.integers(0, 6),
    ),
    max_size=30,
)


@given(steps)
def test_a_table_is_a_dict_with_versions(done: list[tuple[bytes, bytes | None, int | None]]) -> None:
    rows, model = a_table(), dict[bytes, tuple[int, bytes]]()
    seq = dict.fromkeys(range(VSHARDS), 0)
    for key, value, expect in done:
        number, old = vshard_of(key, VSHARDS), model.get(key)
        version = 0 if old is None else old[0]
        if expect is not None and expect != version:
            with pytest.raises(GenerationConflict):
                put(rows, (key, value, expect))
            continue
        same = (None if old is None else old[1]) == value and (expect is None or value is None)
        seq[number] += not same
        assert put(rows, (key, value, expect)) == [(version if same else seq[number], not same)]
        if value is None:
            model.pop(key, None)
        elif not same:
            model[key] = (seq[number], value)
        assert {key: there(rows, key) for key in model} == model
        assert list(problems(rows)) == []
    for number in range(VSHARDS):
        mine = [(key, value) for key, (_, value) in model.items() if vshard_of(key, VSHARDS) == number]
        counted = (shard(rows, number)["seq"], shard(rows, number)["records"], shard(rows, number)["bytes"])
        assert counted == (seq[number], len(mine), sum(len(key) + len(value) for key, value in mine))


# --- looking it over


def set_row(**fields: Any) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        row = json.loads(rows.rows[vshard_keys.vshard(0)]) | fields
        kept = {name: value for name, value in row.items() if value is not None}
        rows.rows[vshard_keys.vshard(0)] = encode_json(kept)

    return change


def plant(row: bytes, body: bytes | None) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        if body is None:
            del rows.rows[row]
        else:
            rows.rows[row] = body

    return change


def key_row(number: int, key: bytes) -> bytes:
    return vshard_keys.table_row(number, key)


M, Y = vshard_keys.migration(0), vshard_keys.way_back(0)
USED = {"state": "open", "generation": 1, "seq": 1, "records": 0, "bytes": 0}
GONE = {"to": "accounts.part-1", "since": 3}

DAMAGE: list[tuple[Callable[[Rows], None], str]] = [
    (plant(key_row(0, A), None), "holds 1 keys of"),
    (plant(key_row(0, KEYS[0][2]), U64.pack(2) + b"x"), "two keys of vshard 0 have version 2"),
    (plant(key_row(0, KEYS[0][2]), U64.pack(9) + b"x"), "has version 9, and 3 were given away"),
    (plant(key_row(0, KEYS[0][2]), U64.pack(0) + b"x"), "has version 0"),
    (plant(key_row(0, A), U64.pack(1) + b"longer"), "vshard 0 holds 2 keys of"),
    (plant(key_row(0, OTHER), U64.pack(1) + b"x"), "vshard 0 holds a key of vshard 1"),
    (plant(key_row(2, KEYS[2][0]), U64.pack(1) + b"x"), "has version 1, and 0 were given away"),
    (plant(key_row(9, A), U64.pack(1) + b"x"), "vshard 9 holds a key of vshard 0"),
    (plant(vshard_keys.vshard(9), b'{"state":"open"}'), "row of vshard 9, and only 4 vshards"),
    (plant(vshard_keys.vshard(0), None), "and 0 were given away"),
    (plant(vshard_keys.vshard(3), encode_json(USED | {"records": 1, "bytes": 2})), "vshard 3 holds 0"),
    (set_row(state="lost"), "in the state lost, which there is not"),
    (set_row(records=-1), "does not count"),
    (set_row(seq="3"), "does not count"),
    (set_row(generation=0), "does not count"),
    (set_row(seq=1), "has version 2, and 1 were given away"),
    (set_row(state="sealed", token=5), "sealed and does not say its until, budget"),
    (set_row(state="moved", to="x"), "moved and does not say its token"),
    (set_row(state="moved", to="x", token=5, records=1), "vshard 0 holds 2 keys"),
    (set_row(state="retired", to="x"), "vshard 0 holds 2 keys of"),
    (plant(M, encode_json(GONE | {"since": 1})), "kept from entry 2 on, and the migration of vshard 0 needs 1"),
    (plant(M, encode_json({"from": "x"})), "vshard 0 is open, and is said to be moved here"),
    (plant(vshard_keys.migration(7), encode_json(GONE)), "vshard 7"),
    (plant(Y, encode_json(GONE | {"since": 0})), "the way back of vshard 0 needs 0"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), DAMAGE, ids=[said for _, said in DAMAGE])
def test_what_does_not_fit_together_is_found(change: Callable[[Rows], None], said: str) -> None:
    rows = a_table()
    put(rows, (A, b"1"), (B, b"2"), (OTHER, b"3"))
    put(rows, (KEYS[0][2], b"x"))
    put(rows, (KEYS[0][2], None))
    set_row(seq=3)(rows)  # as if the last delete had been none
    assert list(problems(rows, 2)) == []
    change(rows)
    found = list(problems(rows, 2))
    assert any(said in problem for problem in found), found


@pytest.mark.parametrize("state", ["moved", "retired"])
def test_what_belongs_to_an_owner_is_found_where_there_is_none(state: str) -> None:
    for row in (M, Y):
        rows = a_table()
        set = {"state": state, "generation": 2, "seq": 0, "records": 0, "bytes": 0, "to": "x", "token": 1}
        rows.rows |= {vshard_keys.vshard(0): encode_json(set), row: encode_json(GONE)}
        assert len(list(problems(rows))) == 1


def test_keys_that_no_row_speaks_of_are_found_in_a_part() -> None:
    rows = a_table(kind="part", part_of=T)
    assert list(problems(rows)) == []
    rows.rows[key_row(0, A)] = U64.pack(1) + b"x"
    assert list(problems(rows)) == ["vshard 0 is not in this log, which holds 1 of its keys"]
    assert list(problems(a_queue())) == list(problems(Rows())) == []


def test_a_copy_that_is_being_dropped_may_count_more_than_it_holds() -> None:
    rows = a_table()
    put(rows, (A, b"1"), (B, b"2"))
    set_row(state="moved", to="x", token=5, generation=2)(rows)
    del rows.rows[key_row(0, A)]
    assert list(problems(rows)) == []


OPEN: dict[str, Any] = {"state": "open", "generation": 1}
GIVEN = {"state": "moved", "generation": 2, "to": "p1", "token": 5}
TAKEN = {"state": "ready", "generation": 2, "from": "t", "token": 5}


@pytest.mark.parametrize(
    ("home", "part", "owners"),
    [
        (OPEN, None, ["t"]),
        (None, None, ["t"]),
        (OPEN | {"state": "sealed"}, TAKEN, ["t"]),
        (GIVEN, TAKEN, ["p1"]),
        (GIVEN, OPEN | {"generation": 2}, ["p1"]),
        (GIVEN | {"state": "retired"}, OPEN | {"generation": 2}, ["p1"]),
        (GIVEN, TAKEN | {"token": 6}, []),
        (GIVEN, TAKEN | {"generation": 3}, []),
        (GIVEN | {"to": "p2"}, TAKEN, []),
        (GIVEN, None, []),
        (GIVEN | {"state": "retired"}, None, []),
        (OPEN, OPEN, ["t", "p1"]),
        (None, OPEN, ["t", "p1"]),
    ],
)
def test_a_vshard_has_one_owner(home: dict[str, Any] | None, part: dict[str, Any] | None, owners: list[str]) -> None:
    rows = {"t": {} if home is None else {0: home}, "p1": {} if part is None else {0: part}}
    found = list(table_problems("t", VSHARDS, rows))
    if home is None:
        rows["t"] = {0: OPEN}
    assert sorted(owners_of(rows, 0)) == sorted(owners)
    assert found == ([] if len(owners) == 1 else [f"vshard 0 is owned by {' and '.join(owners) or 'none of its logs'}"])
