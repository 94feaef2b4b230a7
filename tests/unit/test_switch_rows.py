"""The comparison of two tables as a value: what differs, for how long, and what is kept of it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping

import pytest

from grafctl.store import switch_rows
from grafctl.store.switch_compare import SIDES
from grafctl.store.switch_rows import RESTARTS_MAX, RowComparison, Version, beside
from grafctl.store.vshards import vshard_of

GRACE_MS = 1000
Rows = Mapping[bytes, Version]


def fed(made: RowComparison, source: Rows, target: Rows, now_ms: int = 0, writes: int = 1) -> RowComparison:
    """Compares two tables whole."""
    keys = sorted({*source, *target}, key=lambda key: (made.piece_of(key), key))
    for piece in range(made.pieces):
        made.begin(piece)
        for key in keys:
            if made.piece_of(key) == piece:
                made.pair(piece, key, source.get(key), target.get(key), now_ms)
        made.end(piece, dict.fromkeys(SIDES, writes))
    return made


def counts(made: RowComparison, now_ms: int) -> dict[str, int]:
    return {kind: count for kind, count in made.judge(now_ms, GRACE_MS).items() if count}


def rows(*numbers: int, value: bytes = b"x", version: int = 1) -> dict[bytes, Version]:
    return {b"k%d" % number: (value, version) for number in numbers}


def test_what_differs_waits_for_the_grace_and_is_then_named() -> None:
    made = fed(RowComparison([], 8), {**rows(1, 2, 3), **rows(4, value=b"a")}, {**rows(1, 2, 5), **rows(4, value=b"b")})
    assert counts(made, GRACE_MS - 1) == {"matched": 2, "waiting": 3} and not made.named(GRACE_MS - 1, GRACE_MS)
    assert counts(made, GRACE_MS) == {"matched": 2, "missing": 1, "extra": 1, "different": 1}
    found = {sample["match_key"]: sample for sample in made.named(GRACE_MS, GRACE_MS)}
    assert found["k3"] == {"kind": "missing", "match_key": "k3", "source": 1, "target": None}
    assert found["k5"] == {"kind": "extra", "match_key": "k5", "source": None, "target": 1}
    assert found["k4"] == {
        **{"kind": "different", "match_key": "k4", "source": 1, "target": 1},
        **{"field": "payload", "source_value": "a", "target_value": "b"},
    }


def test_the_counts_are_of_what_there_is_now() -> None:
    made = fed(RowComparison([], 8), rows(1, 2, 3), rows(1))
    assert counts(made, GRACE_MS) == {"matched": 1, "missing": 2}
    fed(made, rows(1, 2), rows(1, 2), GRACE_MS)  # one was put right, the other is gone on both sides
    assert counts(made, GRACE_MS) == {"matched": 2} and made.named(GRACE_MS, GRACE_MS) == [] and not made.details


def test_the_grace_begins_anew_when_both_sides_wrote_and_not_for_ever() -> None:
    made = RowComparison([], 1)
    for turn in range(RESTARTS_MAX + 1):
        ours = {"source": rows(1, value=b"new", version=turn + 1), "target": rows(1, version=turn + 1)}
        fed(made, ours["source"], ours["target"], now_ms=turn * 900)
        assert counts(made, turn * 900 + 999) == {"waiting": 1}
    fed(made, rows(1, value=b"new", version=9), rows(1, version=9), now_ms=4 * 900)  # no more restarts
    assert counts(made, 3 * 900 + GRACE_MS) == {"different": 1}


def test_what_differs_in_the_first_comparison_is_undated_until_it_was_equal_or_both_sides_wrote() -> None:
    made = fed(RowComparison([], 8), rows(1, 2, 3, 4), rows(1))
    assert made.undated(GRACE_MS - 1, GRACE_MS) == 3 and made.undated(GRACE_MS, GRACE_MS) == 0
    fed(made, {**rows(1, 2, 5), **rows(3, version=2)}, rows(1, 2), now_ms=500)
    assert made.undated(GRACE_MS - 1, GRACE_MS) == 1, "3 was written by one side alone; 4 is gone, 5 came"
    fed(made, {**rows(1), **rows(3, value=b"a", version=3)}, {**rows(1), **rows(3, version=3)}, now_ms=600)
    assert made.undated(GRACE_MS - 1, GRACE_MS) == 0 and counts(made, GRACE_MS) == {"matched": 1, "waiting": 1}


def test_one_side_alone_does_not_begin_the_grace_anew() -> None:
    made = fed(RowComparison([], 1), rows(1, value=b"a"), rows(1, value=b"b"))
    fed(made, rows(1, value=b"c", version=2), rows(1, value=b"b"), now_ms=500)
    assert counts(made, GRACE_MS) == {"different": 1}


def test_what_was_forgiven_counts_again_when_a_side_writes_it() -> None:
    made = fed(RowComparison([], 1), rows(1, 2), rows(1))
    made.forgive()
    assert counts(made, GRACE_MS) == {"matched": 1} and made.not_compared() == 1
    fed(made, rows(1, 2), rows(1), GRACE_MS)
    assert counts(made, GRACE_MS) == {"matched": 1}
    fed(made, rows(1, 2, version=2), rows(1), GRACE_MS)
    assert counts(made, 2 * GRACE_MS) == {"matched": 1, "missing": 1}


def test_fields_with_tolerances_are_what_counts() -> None:
    source = {b"a": (b'{"total":1.00,"at":1}', 1), b"b": (b'{"total":2}', 1), b"c": (b"no json", 1)}
    target = {b"a": (b'{"total":1.004,"at":2}', 1), b"b": (b'{"total":2.1}', 1), b"c": (b"no json", 1)}
    made = fed(RowComparison(["total~0.01"], 4), source, target)
    assert counts(made, GRACE_MS) == {"matched": 1, "different": 2}
    (wrong,) = (sample for sample in made.named(GRACE_MS, GRACE_MS) if sample["match_key"] == "b")
    assert (wrong["field"], wrong["source_value"], wrong["target_value"]) == ("total", "2", "2.1")


@pytest.mark.parametrize("vshards", [1, 7, 1024, 3000, 65_536])
def test_pieces_are_all_vshards_once(vshards: int) -> None:
    made = RowComparison([], vshards)
    spans = [made.vshards_of(piece) for piece in range(made.pieces)]
    assert [first for first, _ in spans[1:]] == [stop for _, stop in spans[:-1]]
    assert (spans[0][0], spans[-1][1]) == (0, vshards)
    for piece, (first, stop) in enumerate(spans):
        assert first < stop and {made.piece_with(first), made.piece_with(stop - 1)} == {piece}


def test_only_what_was_written_since_is_to_be_compared() -> None:
    made = fed(RowComparison([], 3000), {}, {}, writes=0)
    writes = {"source": made.sums({}), "target": made.sums({2999: 1, 0: 2})}
    assert made.to_do(writes) == [0, made.piece_with(2999)]
    made.end(0, {"source": 0, "target": 2})
    assert made.to_do(writes) == [made.piece_with(2999)]
    made.begin(5)
    assert 5 in made.to_do(writes), "what was begun and not ended was not compared"


def changed(chance: random.Random) -> dict[bytes, Version]:
    """Returns a table of which most rows are there, and some are alike."""
    numbers = [number for number in range(40) if chance.random() < 0.8]
    return {b"\xff%d" % number: (b'{"n":%d}' % chance.randrange(2), chance.randrange(1, 3)) for number in numbers}


def test_what_is_kept_comes_to_the_same_as_what_never_stopped(seed: int) -> None:
    chance = random.Random(seed)
    made = kept = RowComparison(["n"], 8)
    for turn in range(8):
        tables = [changed(chance) for _ in SIDES]
        fed(made, tables[0], tables[1], now_ms=turn * 400)
        kept = fed(
            RowComparison.of(["n"], json.loads(json.dumps(kept.as_row()))), tables[0], tables[1], now_ms=turn * 400
        )
        if turn == 4:
            made.forgive()
            kept.forgive()
        assert kept.as_row() == made.as_row()
        assert kept.named(turn * 400, GRACE_MS) == made.named(turn * 400, GRACE_MS)


def test_a_comparison_is_full_where_too_much_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch_rows, "OPEN_MAX", 5)
    made = fed(RowComparison([], 8), rows(*range(5)), {})
    assert made.is_full and made.ahead == "source"
    assert fed(RowComparison([], 8), {}, rows(*range(5))).ahead == "target"
    assert not fed(made, rows(*range(5)), rows(*range(5))).is_full


def test_what_differs_is_looked_up_once_however_many_pieces_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    made = fed(RowComparison([], 1024), rows(*range(300)), {})
    looked = list[bytes]()

    def counted(key: bytes, vshards: int) -> int:
        looked.append(key)
        return vshard_of(key, vshards)

    monkeypatch.setattr(switch_rows, "vshard_of", counted)
    for piece in range(made.pieces):
        made.begin(piece)
        made.end(piece, dict.fromkeys(SIDES, 2))
    assert not made.open and not looked


def test_samples_are_of_every_kind() -> None:
    many = rows(*range(100, 400))
    made = fed(RowComparison([], 8), {**many, **rows(1), **rows(2, value=b"y")}, {**rows(2), **rows(3)})
    named = made.named(GRACE_MS, GRACE_MS)
    assert len(named) == 20 and {sample["kind"] for sample in named} == {"missing", "extra", "different"}


def test_two_tables_lie_beside_each_other(seed: int) -> None:
    chance = random.Random(seed)
    tables = [{b"%d" % chance.randrange(60): (b"x", 1) for _ in range(30)} for _ in SIDES]

    def ordered(table: Rows) -> Iterable[tuple[int, bytes, Version]]:
        return sorted((vshard_of(key, 4), key, row) for key, row in table.items())

    found = list(beside(*(iter(ordered(table)) for table in tables)))
    assert [row[:2] for row in found] == sorted((vshard_of(key, 4), key) for key in {*tables[0], *tables[1]})
    assert all((ours, theirs) == (tables[0].get(key), tables[1].get(key)) for _, key, ours, theirs in found)
