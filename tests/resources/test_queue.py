"""Queues: publishing with and without ids, and what retention lets go of."""

from __future__ import annotations

from typing import Any

import pytest

from grafctl.errors import DomainUnavailable, Fenced, IdempotencyConflict, NotFound, SchemaMismatch
from grafctl.store.blocks import Outgoing
from grafctl.store.resources.retention import Trim, first_kept_index
from resources.rows import GCP, Q, Rows, a_queue


def out(payload: bytes, record_id: str | None = None, line: int = 0) -> Outgoing:
    return Outgoing(payload, record_id, line=line)


# --- offsets


def test_offsets_are_consecutive_from_zero() -> None:
    rows = a_queue()
    assert rows.publish(b"a")[:4] == (0, 1, None, False)
    assert rows.publish(b"b", b"c")[:4] == (1, 2, None, False)
    assert rows.publish(out(b"d", "id"), out(b"e"))[:4] == (3, 2, None, False)
    assert rows.records() == [(0, b"a", None), (1, b"b", None), (2, b"c", None), (3, b"d", "id"), (4, b"e", None)]
    assert rows.queue["next"] == 5 and rows.queue["bytes"] == sum(len(entry.block) for entry in rows.entries)


def test_a_record_of_nothing_is_a_record() -> None:
    rows = a_queue()
    rows.publish(b"", b"")
    assert rows.records() == [(0, b"", None), (1, b"", None)]


# --- ids: what was published before, what is published now -> offset, records, offsets, replayed, next after

A, B, AX = out(b"a", "A"), out(b"b", "B"), out(b"x", "A")
IDS: list[tuple[str, list[Outgoing], list[Outgoing], tuple[Any, ...], int]] = [
    ("new", [], [A], (0, 1, None, False), 1),
    ("replayed", [A], [A], (0, 1, None, True), 1),
    ("replayed from the middle", [B, A], [A], (1, 1, None, True), 2),
    ("some new", [A], [A, B], (0, 2, None, False), 2),
    ("some new, scattered", [A, out(b"-")], [A, B], (0, 2, [0, 2], False), 3),
    ("new before replayed", [A], [B, A], (1, 2, [1, 0], False), 2),
    ("all replayed, in another order", [A, B], [B, A], (1, 2, [1, 0], True), 2),
    ("twice in one batch", [], [A, A], (0, 2, [0, 0], False), 1),
    ("twice in one batch, and before", [A], [A, A], (0, 2, [0, 0], True), 1),
    ("among records without ids", [A], [out(b"-"), A, out(b"-")], (1, 3, [1, 0, 2], False), 3),
]


@pytest.mark.parametrize(("before", "now", "answer", "after"), [pytest.param(*row[1:], id=row[0]) for row in IDS])
def test_ids(before: list[Outgoing], now: list[Outgoing], answer: tuple[Any, ...], after: int) -> None:
    rows = a_queue()
    if before:
        rows.publish(*before)
    published = rows.publish(*now)
    assert published[:4] == answer and published.conflicts == []
    assert rows.queue["next"] == after
    assert len({record_id for _, _, record_id in rows.records() if record_id}) == len(
        [record_id for _, _, record_id in rows.records() if record_id]
    ), "an id was stored twice"


def test_a_replay_writes_nothing() -> None:
    rows = a_queue()
    rows.publish(A)
    before = dict(rows.rows), len(rows.entries)
    assert rows.publish(A).replayed and rows.publish(A, A).replayed
    assert (rows.rows, len(rows.entries)) == before


def test_the_key_and_headers_are_not_part_of_the_fingerprint() -> None:
    rows = a_queue()
    rows.publish(Outgoing(b"a", "A", "key", {"h": "1"}))
    assert rows.publish(Outgoing(b"a", "A", "other", None)).replayed


CONFLICTS: list[tuple[str, list[Outgoing], list[Outgoing], list[int], int]] = [
    # name, before, now, lines in conflict, records stored in the end
    ("with an older one", [A], [out(b"-", None, 1), out(b"x", "A", 2), out(b"-", None, 3)], [2], 3),
    ("inside one batch", [], [out(b"a", "A", 1), out(b"x", "A", 2)], [2], 1),
    ("nothing else in the batch", [A], [out(b"x", "A", 1), out(b"y", "A", 2)], [1, 2], 1),
]


@pytest.mark.parametrize(("before", "now", "lines", "stored"), [pytest.param(*row[1:], id=row[0]) for row in CONFLICTS])
def test_conflicts_are_left_out_and_reported(
    before: list[Outgoing], now: list[Outgoing], lines: list[int], stored: int
) -> None:
    rows = a_queue()
    if before:
        rows.publish(*before)
    published = rows.publish(*now)
    assert [conflict["line"] for conflict in published.conflicts] == lines
    assert rows.queue["next"] == stored
    assert published.records == len(now) - len(lines)
    for conflict in published.conflicts:
        assert conflict["stored"] != conflict["offered"] and "payload" not in conflict


@pytest.mark.parametrize(("before", "now", "lines", "stored"), [pytest.param(*row[1:], id=row[0]) for row in CONFLICTS])
def test_an_atomic_batch_is_refused_whole(
    before: list[Outgoing], now: list[Outgoing], lines: list[int], stored: int
) -> None:
    rows = a_queue()
    if before:
        rows.publish(*before)
    held = dict(rows.rows)
    with pytest.raises(IdempotencyConflict) as refused:
        rows.publish(*now, atomic=True)
    assert [conflict["line"] for conflict in refused.value.fields["conflicts"]] == lines
    assert rows.rows == held


def test_an_atomic_batch_without_a_conflict_is_one_entry() -> None:
    rows = a_queue()
    rows.publish(A)
    entries = len(rows.entries)
    assert rows.publish(A, B, out(b"-"), atomic=True)[:4] == (0, 3, None, False)
    assert len(rows.entries) == entries + 1 and rows.queue["next"] == 3


def test_one_record_in_conflict_is_refused() -> None:
    rows = a_queue()
    rows.publish(A)
    with pytest.raises(IdempotencyConflict) as refused:
        rows.publish(AX)
    assert refused.value.exit_code == 16 and rows.queue["next"] == 1
    assert b"x" not in str(refused.value.fields).encode() or "payload" not in refused.value.fields


def test_ids_that_are_not_the_same_text_are_not_the_same_id() -> None:
    rows = a_queue()
    names = ["a", "A", "a ", "ä", "a\0", "\0a", "aa"]
    rows.publish(*(out(b"same", name) for name in names))
    assert rows.queue["next"] == len(names)
    assert rows.publish(*(out(b"same", name) for name in names)).replayed


# --- refusals


REFUSED: list[tuple[str, dict[str, Any], type[Exception]]] = [
    ("denied domain", {"domain": "azure/x"}, DomainUnavailable),
    ("a domain whose name begins alike", {"domain": "aws2/a"}, DomainUnavailable),
    ("a domain the store does not know", {"known": False}, DomainUnavailable),
    ("old epoch", {"epoch": 0}, Fenced),
    ("another schema", {"schema": "orders.v1"}, SchemaMismatch),
]


@pytest.mark.parametrize(("fields", "error"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED])
@pytest.mark.parametrize("records", [(b"a",), (A,)], ids=["plain", "with id"])
def test_a_refused_publish_changes_nothing(fields: dict[str, Any], error: type[Exception], records: tuple[Any]) -> None:
    rows = a_queue()
    before = dict(rows.rows)
    with pytest.raises(error):
        rows.publish(*records, **fields)
    assert rows.rows == before


def test_the_epoch_in_force_or_a_later_one_is_taken() -> None:
    rows = a_queue(epoch=3)
    for epoch in (3, 4, None):
        rows.publish(b"a", epoch=epoch)
    assert rows.queue["next"] == 3


def test_the_schema_must_be_the_one_of_the_queue() -> None:
    rows = a_queue(schema="orders.v1")
    rows.publish(b"a", schema="orders.v1")
    rows.publish(b"a")
    with pytest.raises(SchemaMismatch):
        rows.publish(b"a", schema="orders.v2")


def test_a_log_without_a_queue_says_so() -> None:
    with pytest.raises(NotFound):
        Rows().publish(b"a")


# --- retention


def filled(blocks: int = 5, **retention: Any) -> Rows:
    """Returns a queue of blocks of two records of 100 bytes, one a second, with one group."""
    rows = a_queue(**retention)
    rows.group("g")
    for _ in range(blocks):
        rows.now_ms += 1_000
        rows.publish(b"x" * 100, b"y" * 100)
    return rows


def finish(rows: Rows, upto: int, group: str = "g") -> None:
    rows.poll(group, 100)
    rows.ack(group, (0, upto))


TRIMS: list[tuple[str, dict[str, Any], int, int, int]] = [
    # name, retention, finished up to, milliseconds later -> first offset that is kept
    ("no limit", {}, 10, 1 << 40, 0),
    ("too old and finished", {"retain_age_ms": 1_000}, 10, 1 << 40, 10),
    ("too old and nothing finished", {"retain_age_ms": 1_000}, 0, 1 << 40, 0),
    ("never past what is unfinished", {"retain_age_ms": 1_000}, 5, 1 << 40, 4),
    ("never half a block", {"retain_age_ms": 1_000}, 3, 1 << 40, 2),
    ("only what is old enough", {"retain_age_ms": 2_500}, 10, 0, 4),
    ("exactly old enough", {"retain_age_ms": 2_000}, 10, 0, 6),
    ("too many bytes", {"retain_bytes": 500}, 10, 0, 6),
    ("too many bytes and half finished", {"retain_bytes": 500}, 4, 0, 4),
    ("bytes are within the limit", {"retain_bytes": 5_000}, 10, 0, 0),
    ("no bytes at all", {"retain_bytes": 0}, 10, 0, 10),
    ("one limit is enough", {"retain_bytes": 5_000, "retain_age_ms": 1_000}, 10, 1 << 40, 10),
]


@pytest.mark.parametrize(("retention", "upto", "later", "first"), [pytest.param(*row[1:], id=row[0]) for row in TRIMS])
def test_retention(retention: dict[str, Any], upto: int, later: int, first: int) -> None:
    rows = filled(**retention)
    if upto:
        finish(rows, upto)
    rows.now_ms += later
    assert rows.run(Trim(Q)).first == first
    assert rows.queue["first"] == first and rows.queue["next"] == 10
    assert [offset for offset, *_ in rows.records()] == list(range(first, 10))
    assert rows.queue["bytes"] == sum(len(e.block) for e in rows.entries if e.block and e.request["first"] >= first)
    before = dict(rows.rows)
    assert rows.run(Trim(Q)).first == first and rows.rows == before


def test_without_a_group_nothing_is_let_go() -> None:
    rows = a_queue(retain_bytes=0)
    rows.publish(b"a")
    rows.now_ms += 1 << 40
    assert rows.run(Trim(Q)).first == 0


def test_the_slowest_lineage_holds_everybody() -> None:
    rows = filled(retain_bytes=0)
    rows.group("slow")
    finish(rows, 10)
    assert rows.run(Trim(Q)).first == 0
    finish(rows, 5, "slow")
    assert rows.run(Trim(Q)).first == 4


@pytest.mark.parametrize("state", ["leased", "given back", "dead"])
def test_an_unfinished_record_in_the_way_is_never_let_go(state: str) -> None:
    rows = a_queue(retain_bytes=0)
    rows.group("g", max_deliveries=1 if state == "dead" else None)
    for _ in range(4):
        rows.publish(b"x")
    rows.poll("g")
    rows.ack("g", (0, 1), (2, 4))
    if state != "leased":
        rows.nack("g", (1, 2))
    rows.now_ms += 1 << 40
    assert rows.run(Trim(Q)).first == 1
    assert [offset for offset, *_ in rows.records()] == [1, 2, 3]


def test_an_id_outlives_its_record() -> None:
    rows = a_queue(retain_bytes=0)
    rows.group("g")
    rows.publish(A)
    finish(rows, 1)
    assert rows.run(Trim(Q)).first == 1 and rows.records() == []
    assert rows.publish(A)[:4] == (0, 1, None, True)
    with pytest.raises(IdempotencyConflict):
        rows.publish(AX)


def test_a_poll_begins_at_the_first_offset_that_is_kept() -> None:
    rows = filled(retain_bytes=500)
    finish(rows, 10)
    rows.run(Trim(Q))
    rows.group("late")
    assert rows.row("late")["cursor"] == 6
    assert rows.poll("late", 3).grants == [[6, 9, 1]]


def test_publishing_says_when_a_trim_is_due() -> None:
    rows = a_queue(retain_bytes=150)
    assert not rows.publish(b"x" * 100).trim_due
    assert rows.publish(b"x" * 100).trim_due
    assert a_queue(retain_age_ms=5).publish(b"x").trim_due
    assert not a_queue().publish(b"x").trim_due


def test_the_first_entry_that_must_be_kept() -> None:
    rows = a_queue(retain_bytes=0)
    assert first_kept_index(rows) is None
    rows.group("g")
    rows.publish(b"a")
    rows.publish(b"b", domain=GCP)
    assert first_kept_index(rows) == 2
    finish(rows, 1)
    rows.run(Trim(Q))
    assert first_kept_index(rows) == 3
