"""Subscriptions: filters that leave records out, retention by policy, and starts by time, over rows in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.errors import GenerationConflict, Usage
from grafctl.store.blocks import Outgoing
from grafctl.store.resources.consumers import Redrive, Seek
from grafctl.store.resources.delivery import Judged
from grafctl.store.resources.leases import leases_of
from grafctl.store.resources.retention import Trim, Trimmed
from grafctl.store.rules import Config
from resources.rows import CONFIG, Q, Rows, a_queue

EVEN = "key:even"


def a_topic(records: int = 10, **fields: Any) -> Rows:
    """Returns a topic whose records bear `even` or `odd` as their key, one in a block."""
    rows = a_queue(kind="topic", **fields)
    publish(rows, records)
    return rows


def publish(rows: Rows, records: int) -> None:
    for _ in range(records):
        rows.publish(Outgoing(b"x", None, "odd" if rows.queue["next"] % 2 else "even"))


def even(start: int, stop: int, **fields: Any) -> Judged:
    """Returns what somebody who looked at [start, stop) knows: the even ones are wanted."""
    matched = [[offset, offset + 1] for offset in range(start + start % 2, stop, 2)]
    return Judged(EVEN, CONFIG.term, start, stop, matched)._replace(**fields)


def offsets(grants: Sequence[Sequence[int]]) -> list[int]:
    return [offset for start, stop, *_ in grants for offset in range(start, stop)]


def a_subscription(records: int = 10, **fields: Any) -> Rows:
    rows = a_topic(records)
    rows.group("s", filter=EVEN, **fields)
    return rows


# --- what a filter leaves out


def test_only_what_is_wanted_is_given_and_the_rest_is_finished_without_a_delivery() -> None:
    rows = a_subscription()
    leased = rows.poll("s", judged=even(0, 10))
    assert offsets(leased.grants) == [0, 2, 4, 6, 8] and leased.cursor == 10
    lineage = rows.lineage("s")
    assert (lineage.done, lineage.skipped, lineage.floor) == ([[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]], 5, 0)
    assert rows.ack("s", (0, 10), token=None).ack_floor == 10
    assert rows.lineage("s").done == []


def test_the_entry_names_what_was_left_out_up_to_the_cursor_only() -> None:
    rows = a_subscription()
    rows.poll("s", 2, judged=even(0, 10))
    assert rows.entries[-1].request["skipped"] == [[1, 2]] and rows.row("s")["cursor"] == 3
    rows.poll("s", 1, judged=even(0, 10))
    assert rows.entries[-1].request["skipped"] == [[3, 4]] and rows.row("s")["cursor"] == 5


def test_a_subscription_that_wants_nothing_does_not_hold_retention() -> None:
    rows = a_topic(retain_count=0)
    rows.group("s", filter="key:none")
    leased = rows.poll("s", judged=Judged("key:none", CONFIG.term, 0, 10, []))
    assert (leased.grants, leased.cursor, leased.ack_floor, leased.is_behind) == ([], 10, 10, False)
    assert rows.run(Trim(Q)).first == 10


def test_what_nobody_has_judged_is_neither_given_nor_left_out() -> None:
    rows = a_subscription()
    for judged in (None, even(4, 10), even(0, 0)):
        leased = rows.poll("s", judged=judged)
        assert (leased.grants, leased.cursor, leased.is_behind) == ([], 0, True)
    assert rows.poll("s", judged=even(0, 3)).cursor == 3
    publish(rows, 2)
    leased = rows.poll("s", judged=even(0, 10))
    assert offsets(leased.grants) == [4, 6, 8] and leased.cursor == 10
    assert rows.lineage("s").unfinished([[10, 12]]) == [[10, 12]]


@pytest.mark.parametrize("strange", [{"filter": "key:odd"}, {"term": (1, 2)}])
def test_a_judgement_counts_for_its_filter_and_in_its_term(strange: dict[str, Any]) -> None:
    rows = a_subscription()
    before = dict(rows.rows)
    leased = rows.poll("s", judged=even(0, 10, **strange))
    assert (leased.grants, leased.is_behind, rows.rows) == ([], True, before)


def test_a_filter_of_all_needs_no_judgement() -> None:
    rows = a_topic()
    for name, fields in (("a", {}), ("b", {"filter": "all"})):
        rows.group(name, **fields)
        assert rows.row(name)["filter"] == "all"
        assert offsets(rows.poll(name).grants) == list(range(10))


# --- beside everything else that a group does


def test_what_was_given_once_comes_again_without_a_judgement() -> None:
    rows = a_subscription()
    rows.poll("s", 2, judged=even(0, 10))
    rows.now_ms += 100
    assert rows.poll("s").grants == [[0, 1, 2], [2, 3, 2]]


def test_a_seek_backwards_gives_what_is_wanted_again_and_nothing_else() -> None:
    rows = a_subscription()
    rows.poll("s", judged=even(0, 10))
    rows.ack("s", (0, 10))
    rows.run(Seek(Q, "s", "4"))
    assert rows.poll("s", judged=even(10, 10)).is_behind
    leased = rows.poll("s", judged=even(4, 10))
    assert offsets(leased.grants) == [4, 6, 8] and rows.lineage("s").skipped == 5
    assert rows.lineage("s").floor == 10


@pytest.mark.parametrize("semantics", ["at-most-once", "effectively-once"])
def test_the_other_semantics_pass_over_what_is_left_out(semantics: str) -> None:
    rows = a_subscription(semantics=semantics)
    leased = rows.poll("s", judged=even(0, 10))
    assert offsets(leased.grants) == [0, 2, 4, 6, 8]
    if semantics == "at-most-once":
        assert (leased.token, leased.ack_floor) == (None, 10)
    else:
        assert rows.ack("s", (0, 9), token=leased.token).ack_floor == 10


def test_dead_letters_and_their_return() -> None:
    rows = a_subscription(max_deliveries=1)
    rows.poll("s", judged=even(0, 10))
    rows.nack("s", (4, 5))
    rows.ack("s", (0, 4), (5, 10))
    assert rows.lineage("s").floor == 4 and list(rows.dead("s")) == [4]
    assert rows.run(Redrive(Q, "s", None)) == 1
    assert rows.poll("s").grants == [[4, 5, 1]]


@given(st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14), st.integers(1, 5), st.booleans()), max_size=12))
def test_whoever_knows_how_much_nothing_wanted_is_lost_and_nothing_given_twice(steps: list[Any]) -> None:
    rows = a_subscription(12)
    given: list[int] = []
    for start, stop, count, expires in steps:
        leased = rows.poll("s", count, judged=even(start, min(stop, 12)))
        given += offsets([grant for grant in leased.grants if grant[2] == 1])
        assert all(offset % 2 == 0 for offset in offsets(leased.grants))
        rows.now_ms += 200 if expires else 0
    given += offsets([grant for grant in rows.poll("s", 100, judged=even(0, 12)).grants if grant[2] == 1])
    assert sorted(given) == [0, 2, 4, 6, 8, 10]
    rows.ack("s", (0, 12))
    lineage = rows.lineage("s")
    assert (lineage.floor, lineage.finalised, lineage.skipped) == (12, 12, 6)


# --- the definition


def test_a_filter_is_part_of_what_defines_a_group() -> None:
    rows = a_subscription()
    assert rows.group("s", filter=EVEN) is False
    with pytest.raises(GenerationConflict, match="another filter"):
        rows.group("s", filter="key:odd")
    with pytest.raises(GenerationConflict, match="another filter"):
        rows.group("s")


def test_a_group_of_a_queue_has_no_filter() -> None:
    rows = a_queue()
    with pytest.raises(Usage, match="a queue has no filters"):
        rows.group("g", filter="all")
    rows.group("g")
    assert "filter" not in rows.row("g")


# --- starts


TIMES = [("earliest", 0), ("latest", 10), ("3", 3), ("99", 99), ("4s", 6), ("4500ms", 6), ("1h", 0), ("0ms", 10)]


@pytest.mark.parametrize(("start", "expected"), TIMES)
def test_where_a_group_begins(start: str, expected: int) -> None:
    """Each record is a second older than the next; the newest is a second old."""
    rows = a_queue()
    rows.now_ms = 1_700_000_000_000
    for _ in range(10):
        rows.publish(b"x")
        rows.now_ms += 1_000
    rows.group("g", asked_start=start)
    assert rows.row("g")["cursor"] == expected
    rows.group("other", asked_start="latest")
    if expected <= 10:
        assert rows.run(Seek(Q, "other", start)) == (10, expected, False)


def test_a_moment_is_that_of_the_entries() -> None:
    rows = a_topic(0)
    rows.now_ms = 1_769_860_800_000  # 2026-01-31T12:00:00Z
    for count in (3, 1, 4):
        rows.publish(*[b"x"] * count)
        rows.now_ms += 60_000
    for moment, expected in (
        ("11:59:00Z", 0),
        ("12:00:00Z", 0),
        ("13:00:30+01:00", 3),
        ("12:02:00Z", 4),
        ("12:02:01Z", 8),
    ):
        rows.group(moment[:8].replace(":", "-"), asked_start=f"2026-01-31T{moment}")
        assert rows.row(moment[:8].replace(":", "-"))["cursor"] == expected, moment
    with pytest.raises(Usage, match="lies ahead"):
        rows.group("late", asked_start="2026-01-31T12:03:01Z")


# --- retention


@pytest.mark.parametrize(("count", "first"), [(0, 10), (3, 7), (10, 0), (11, 0)])
def test_of_a_limit_by_number_so_many_stay(count: int, first: int) -> None:
    rows = a_topic(retain_count=count)
    assert rows.run(Trim(Q)).first == first, "nobody has subscribed"
    blocks = a_queue(kind="topic", retain_count=count)
    blocks.publish(*[b"x"] * 6)
    blocks.publish(*[b"x"] * 4)
    assert blocks.run(Trim(Q)).first == (10 if count == 0 else 6 if count <= 4 else 0)


def test_publishing_says_that_there_are_too_many() -> None:
    rows = a_queue(retain_count=2)
    assert [rows.publish(b"x").trim_due for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("retention", [{"retain_count": 2}, {"retain_bytes": 1}, {"retain_age_ms": 1}])
def test_what_a_subscription_has_not_finished_stays(retention: dict[str, int]) -> None:
    rows = a_topic(**retention, discard="finished")
    rows.group("slow")
    rows.group("quick")
    rows.poll("quick")
    rows.ack("quick", (0, 10))
    rows.now_ms += 1_000
    assert rows.run(Trim(Q)) == Trimmed(0, {})
    rows.poll("slow", 4)
    rows.ack("slow", (0, 4))
    assert rows.run(Trim(Q)) == Trimmed(4, {})
    assert rows.lineage("slow").loss() is None


def test_the_oldest_go_by_policy_and_every_loss_is_counted() -> None:
    rows = a_topic(retain_count=2, discard="oldest")
    rows.group("slow", max_deliveries=1)
    rows.group("quick")
    rows.poll("quick")
    rows.ack("quick", (0, 10))
    rows.poll("slow", 6)
    rows.ack("slow", (0, 2))
    rows.nack("slow", (2, 3))
    loss = {"records": 6, "first": 2, "last": 7}
    assert rows.run(Trim(Q)) == Trimmed(8, {"slow": (0, loss)})
    assert rows.entries[-1].request["lost"] == ["slow"]
    lineage = rows.lineage("slow")
    assert (lineage.floor, lineage.leased, lineage.retry, lineage.dead, lineage.loss()) == (8, [], [], [], loss)
    assert leases_of(rows, "slow") == [] and rows.dead("slow") == {}
    assert rows.lineage("quick").loss() is None
    leased = rows.poll("slow")
    assert offsets(leased.grants) == [8, 9] and leased.lost == loss
    assert rows.ack("slow", (3, 6)).already == 3, "whoever holds what is gone may finish late"
    publish(rows, 3)
    assert rows.run(Trim(Q)).lost["slow"] == (6, {"records": 9, "first": 2, "last": 10})


def test_a_lease_that_is_lost_in_part_goes_on() -> None:
    rows = a_topic(retain_count=5, discard="oldest")
    rows.group("s")
    leased = rows.poll("s")
    rows.run(Trim(Q))
    assert rows.lineage("s").leased == [[5, 10]]
    assert rows.ack("s", (0, 10), token=leased.token).ack_floor == 10


def test_another_term_is_another_config() -> None:
    assert Config(0, (1, 2), *CONFIG[2:]).term != CONFIG.term, "what the test of terms above stands on"


def test_whoever_seeks_has_seen_the_loss() -> None:
    rows = a_topic(retain_count=2, discard="oldest")
    rows.group("s")
    rows.run(Trim(Q))
    assert rows.poll("s", 1).lost == {"records": 8, "first": 0, "last": 7}
    assert rows.run(Seek(Q, "s", "9")) == (9, 9, True)
    assert rows.lineage("s").loss() is None
    assert rows.run(Seek(Q, "s", "9")) == (9, 9, False)
