"""The comparison of two outputs, against one that keeps everything: in any turn, cut anywhere, in little memory."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from grafctl.store import switch_compare
from grafctl.store.switch_compare import KINDS, OPEN_MAX, SAMPLES_MAX, SIDES, Comparison, mismatches

STARTS = {"source": 3, "target": 0}
WINDOW = 4
NOW, GRACE = 1_000, 100
Record = tuple[str | None, str, bool]  # match key, content, whether it is old

records = st.lists(st.tuples(st.sampled_from([None, *"abcdef"]), st.sampled_from("xy"), st.booleans()), max_size=14)


def payload_of(record: Record) -> bytes:
    return json.dumps({"k": record[0], "v": record[1]}).encode()


def by_brute_force(outputs: dict[str, list[Record]], window: int) -> dict[str, int]:
    """Counts with all records at hand."""
    counts = Counter(dict.fromkeys(KINDS, 0))
    firsts: dict[str, dict[str, list[Record]]] = {side: defaultdict(list) for side in SIDES}
    for side, output in outputs.items():
        for place, record in enumerate(output):
            if record[0] is None:
                counts["unmatched"] += 1
            elif record[0] in {near[0] for near in output[max(0, place - window) : place]}:
                counts["repeated"] += 1
            else:
                firsts[side][record[0]].append(record)
    for key in {*firsts["source"], *firsts["target"]}:
        pair = [firsts[side][key] for side in SIDES]
        for source, target in zip(*pair, strict=False):
            counts["matched" if source[1] == target[1] else "different"] += 1
        for side, kind in zip(SIDES, ("missing", "extra"), strict=True):
            for record in firsts[side][key][min(map(len, pair)) :]:
                counts[kind if record[2] else "waiting"] += 1
    return dict(counts)


def fed(outputs: dict[str, list[Record]], turns: list[bool], cuts: set[int], window: int = WINDOW) -> Comparison:
    """Feeds both sides in these turns; at a cut what is kept is written, read and read again."""
    made = Comparison("json:k", [], STARTS, window=window)
    left = {side: list(enumerate(outputs[side], STARTS[side])) for side in SIDES}
    for step, turn in enumerate([*turns, *[True] * 14, *[False] * 14]):
        side = SIDES[turn]
        if left[side]:
            feed(made, side, *left[side].pop(0))
        if step in cuts:
            made = resumed(made, outputs, window)
    return made


def feed(made: Comparison, side: str, offset: int, record: Record) -> None:
    made.feed(side, offset, payload_of(record), None, None, NOW - GRACE if record[2] else NOW - GRACE + 1)


def resumed(made: Comparison, outputs: dict[str, list[Record]], window: int) -> Comparison:
    again = Comparison.of("json:k", [], json.loads(json.dumps(made.as_row())), window=window)
    for side in SIDES:
        for start, stop in again.again(side):
            for offset in range(max(start, STARTS[side]), stop):
                record = outputs[side][offset - STARTS[side]]
                ms = NOW - GRACE if record[2] else NOW - GRACE + 1
                again.recall(side, offset, payload_of(record), None, None, ms)
    return again


@settings(max_examples=300)
@given(records, records, st.lists(st.booleans(), max_size=28), st.sets(st.integers(0, 40), max_size=6))
def test_it_counts_what_brute_force_counts_in_any_turn_and_cut_anywhere(
    source: list[Record], target: list[Record], turns: list[bool], cuts: set[int]
) -> None:
    outputs = {"source": source, "target": target}
    made = fed(outputs, turns, cuts)
    counts = made.judge(NOW, GRACE)
    assert counts == by_brute_force(outputs, WINDOW)
    assert sum(counts.values()) + counts["matched"] + counts["different"] == len(source) + len(target)
    for sample in made.named(NOW, GRACE):
        assert sample["kind"] in KINDS
        for side in SIDES:
            offset = sample[side]
            assert offset is None or (outputs[side][offset - STARTS[side]][0] or "") == sample["match_key"]
    assert made.samples == made.as_row()["samples"]


def test_a_late_counterpart_takes_back_what_was_missing_and_extra() -> None:
    made = Comparison("id", [], {"source": 0, "target": 0})
    made.feed("source", 0, b"x", "a", None, 0)
    made.feed("target", 0, b"y", "b", None, 0)
    assert made.judge(50, 100) == dict.fromkeys(KINDS, 0) | {"waiting": 2}
    assert made.judge(100, 100) == dict.fromkeys(KINDS, 0) | {"missing": 1, "extra": 1}
    assert [(sample["kind"], sample["match_key"]) for sample in made.named(100, 100)] == [
        ("missing", "a"),
        ("extra", "b"),
    ]
    made.feed("target", 1, b"x", "a", None, 200)
    made.feed("source", 1, b"y", "b", None, 200)
    assert made.judge(1000, 100) == dict.fromkeys(KINDS, 0) | {"matched": 2}
    assert made.named(1000, 100) == [] and made.sides["source"].floor == 2


def test_a_difference_is_named_with_both_offsets_and_values() -> None:
    made = Comparison("json:n", ["total~0.01"], {"source": 5, "target": 7})
    made.feed("target", 7, b'{"n":1,"total":10.02}', None, None, 0)
    made.feed("source", 5, b'{"n":1,"total":10}', None, None, 0)
    assert made.named(0, 0) == [
        {
            "kind": "different",
            "match_key": "1",
            "source": 5,
            "target": 7,
            "field": "total",
            "source_value": "10",
            "target_value": "10.02",
        }
    ]


def test_samples_are_few_and_of_every_kind() -> None:
    made = Comparison("key", [], {"source": 0, "target": 0})
    for offset in range(100):
        made.feed("source", offset, b"x", None, str(offset), 0)
        made.feed("target", offset, b"y", None, str(offset), 0)
    for offset in range(100, 103):
        made.feed("target", offset, b"y", None, None, 0)
        made.feed("source", offset, b"y", None, f"lost {offset}", 0)
    samples = made.named(1, 0)
    kinds = Counter(sample["kind"] for sample in samples)
    assert len(samples) == SAMPLES_MAX and kinds["unmatched"] == 3 and kinds["missing"] == 3
    assert len(made.as_row()["samples"]) <= SAMPLES_MAX


def test_outputs_that_drift_apart_fill_one_side_and_what_is_kept_stays_small() -> None:
    made = Comparison("id", [], {"source": 0, "target": 0})
    for offset in range(0, 2 * OPEN_MAX, 2):  # every second one has its counterpart
        assert not made.is_full("source")
        made.feed("source", offset, b"x", str(offset), None, 0)
        made.feed("source", offset + 1, b"x", str(offset + 1), None, 0)
        made.feed("target", offset // 2, b"x", str(offset), None, 0)
    assert made.is_full("source") and not made.is_full("target")
    row = made.as_row()
    assert len(json.dumps(row)) < 100_000
    kept = Comparison.of("id", [], row).sides
    assert len(kept["source"].open) == OPEN_MAX and not kept["target"].open
    made.feed("target", OPEN_MAX, b"x", "1", None, 0)
    assert not made.is_full("source")


def test_what_retention_took_is_said_and_never_forgiven() -> None:
    made = Comparison("id", [], {"source": 0, "target": 0})
    made.gone("source", 10)
    made.feed("source", 10, b"x", "a", None, 0)
    again = Comparison.of("id", [], made.as_row())
    again.gone("source", 11)
    assert again.again("source") == [] and again.sides["source"].floor == 11
    assert again.judge(0, 100)["missing"] == 1 and again.as_row()["not_compared"] == 10
    assert mismatches(Comparison.of("id", [], again.as_row()).judge(0, 100)) == 1


def test_what_the_other_side_lost_before_the_beginning_is_excused_and_its_differences_are_not() -> None:
    made = Comparison("id", [], {"source": 0, "target": 0})
    made.gone("target", 2)
    made.excuse("source", 3)
    for offset in range(4):
        made.feed("source", offset, b"x", str(offset), None, 0)
    made = Comparison.of("id", [], made.as_row())
    for offset in range(4):
        made.recall("source", offset, b"x", str(offset), None, 0)
    assert made.judge(0, 0) == dict.fromkeys(KINDS, 0) | {"missing": 1} and made.not_compared() == 5
    made.feed("target", 2, b"y", "2", None, 0)
    assert made.judge(0, 0) == dict.fromkeys(KINDS, 0) | {"missing": 1, "different": 1} and made.not_compared() == 4
    made = Comparison.of("id", [], made.as_row())
    made.gone("source", 4)
    assert made.judge(0, 0)["missing"] == 1 and made.not_compared() == 4


def test_what_a_group_does_not_want_is_left_out() -> None:
    made = Comparison("id", [], {"source": 0, "target": 0})
    made.leave_out("source", 5)
    made.feed("source", 5, b"x", "a", None, 0)
    made.feed("target", 0, b"x", "a", None, 0)
    assert made.as_row()["left_out"] == 5 and made.judge(0, 0)["matched"] == 1


def test_what_was_forgiven_counts_no_more_and_is_still_a_counterpart() -> None:
    made = Comparison("key", [], {"source": 0, "target": 0})
    for offset, key in enumerate(["lost", "late", "other"]):
        made.feed("source", offset, b"x", None, key, 0)
    made.feed("target", 0, b"y", None, "other", 0)
    assert mismatches(made.judge(1, 0)) == 3
    made.forgive({"source": 4, "target": 1})
    assert made.judge(1, 0) == dict.fromkeys(KINDS, 0) and made.named(1, 0) == []
    made.feed("source", 3, b"x", None, None, 0)  # published before, read after
    made = Comparison.of("key", [], made.as_row())
    for offset, key in enumerate(["lost", "late"]):
        made.recall("source", offset, b"x", None, key, 0)
    made.feed("target", 1, b"x", None, "late", 0)
    assert made.judge(1, 0) == dict.fromkeys(KINDS, 0) | {"matched": 1}
    made.feed("source", 4, b"x", None, "new", 0)
    assert made.judge(1, 0) == dict.fromkeys(KINDS, 0) | {"matched": 1, "missing": 1}


def test_what_was_forgiven_leaves_room_for_what_comes() -> None:
    made = Comparison("id", [], {"source": 0, "target": 0})
    for offset in range(OPEN_MAX):
        made.feed("source", offset, b"x", str(offset), None, 0)
    assert made.is_full("source")
    made.forgive({"source": OPEN_MAX, "target": 0})
    made.feed("source", OPEN_MAX, b"x", "new", None, 0)
    assert not made.is_full("source") and len(made.sides["source"].open) == OPEN_MAX
    made.feed("target", 0, b"x", "0", None, 0)  # the one that had to go
    made.feed("target", 1, b"x", "1", None, 0)
    assert made.judge(0, 0) == dict.fromkeys(KINDS, 0) | {"matched": 1, "missing": 1, "extra": 1}


def test_a_repeat_is_found_within_the_window_however_the_sides_take_turns() -> None:
    assert switch_compare.WINDOW >= 10_000
    for gap, repeated in ((WINDOW, 1), (WINDOW + 1, 0)):
        made = Comparison("key", [], {"source": 0, "target": 0}, window=WINDOW)
        made.feed("source", 0, b"x", None, "a", 0)
        made.feed("target", 0, b"x", None, "a", 0)
        for offset in range(1, gap):
            made.feed("source", offset, b"x", None, str(offset), 0)
        made.feed("source", gap, b"x", None, "a", 0)
        counts: dict[str, Any] = made.judge(0, 0)
        assert (counts["repeated"], counts["missing"]) == (repeated, gap - repeated)
