"""A publish whose outcome was unknown, tried again by its operation key: the answer is the one that was lost."""

from __future__ import annotations

from typing import Any

import pytest

from grafctl.errors import IdempotencyConflict
from grafctl.store.blocks import Outgoing
from grafctl.store.resources.queue import Publish, Published
from grafctl.store.resources.together import Together
from resources.rows import AWS, Q, Rows, a_queue

OLD, NEW = Outgoing(b"old", "old"), Outgoing(b"new", "new", "key", {"a": "b"})
OTHER = Outgoing(b"not what old was", "old")

PLAIN = Outgoing(b"plain")

BATCHES: list[list[Any]] = [
    [b"b", b"c"],
    [NEW],
    [NEW, OLD],
    [OLD, NEW, PLAIN],
    [PLAIN, OLD, PLAIN],
    [NEW, NEW, OLD, PLAIN, NEW],
    [OTHER, NEW],
    [PLAIN, OTHER, OLD, NEW, Outgoing(b"not what new is", "new")],
]


def a_filled_queue() -> Rows:
    rows = a_queue()
    rows.publish(b"before")
    rows.publish(OLD)
    return rows


@pytest.mark.parametrize("batch", BATCHES, ids=range(len(BATCHES)))
def test_the_answer_is_the_one_of_the_first_try(batch: list[Any]) -> None:
    rows = a_filled_queue()
    first = rows.run(Publish(Q, batch, AWS))
    entry = rows.entries[-1]
    rows.publish(PLAIN, Outgoing(b"later", "later"))
    again = Publish(Q, batch, AWS).recall(entry, 0, rows)
    assert again == first._replace(replayed=True)


def test_each_of_an_entry_that_several_share_gets_its_own() -> None:
    rows = a_filled_queue()
    batches: list[list[Any]] = [[PLAIN, OLD], [OLD], [NEW, OLD, PLAIN], [NEW, PLAIN]]
    requests = [Publish(Q, batch, AWS) for batch in batches]
    together = Together(requests)
    together.prepare()
    firsts = rows.run(together)
    entry = rows.entries[-1]
    again = [Publish(Q, batch, AWS).recall(entry, place, rows) for place, batch in enumerate(batches)]
    assert again[1] is None  # nothing of it is in the entry
    for first, answer in zip(firsts, again, strict=True):
        assert isinstance(first, Published)
        assert answer is None or answer == first._replace(replayed=True)


@pytest.mark.parametrize(
    "batch",
    [
        [b"b"],
        [b"b", b"c", b"d"],
        [b"b", b"d"],
        [b"c", b"b"],
        [Outgoing(b"b", "b"), Outgoing(b"c")],
        [Outgoing(b"b", None, "key"), Outgoing(b"c")],
        [OLD, Outgoing(b"c")],
    ],
    ids=range(7),
)
def test_a_key_that_belongs_to_other_records_is_refused(batch: list[Any]) -> None:
    """To say that they are stored would lose them."""
    rows = a_filled_queue()
    rows.run(Publish(Q, [b"b", b"c"], AWS))
    with pytest.raises(IdempotencyConflict):
        Publish(Q, batch, AWS).recall(rows.entries[-1], 0, rows)


def test_the_key_of_another_operation_than_a_publish_is_refused() -> None:
    rows = a_filled_queue()
    rows.group("g")
    with pytest.raises(IdempotencyConflict):
        Publish(Q, [b"b"], AWS).recall(rows.entries[-1], 0, rows)
