"""A stream of batches with several on their way: order, acknowledgements, errors in the middle, and lost primaries."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import NoQuorum, Usage
from grafctl.results import Ack
from grafctl.store.operations.streaming import Abandoned, Turn, pipelined
from grafctl.store.rules import Term
from store.world import world

T1: Term = (1, 1)
T2: Term = (2, 2)
DOMAINS = ("a", "b", "c")


def ack(batch: list[int]) -> Ack:
    return Ack("q", batch[0], len(batch), 1, ["a", "b"], False)


def enters(turn: Turn, term: Term) -> threading.Event:
    """Returns an event that is set once `turn` may be tried in this term."""
    entered = threading.Event()

    def run() -> None:
        turn.enter(term)
        entered.set()

    threading.Thread(target=run, daemon=True).start()
    return entered


def test_a_batch_goes_after_the_one_before_in_the_same_term() -> None:
    one = Turn(None)
    entered = enters(Turn(one), T1)
    assert not entered.wait(0.02)
    one.appended(T1)
    assert entered.wait(10)


def test_in_another_term_a_batch_waits_until_the_one_before_is_there_too() -> None:
    one = Turn(None)
    one.appended(T1)
    entered = enters(Turn(one), T2)
    assert not entered.wait(0.02), "it would stand before a batch that has to be appended again"
    one.appended(T2)
    assert entered.wait(10)


def test_in_another_term_a_batch_may_go_when_the_one_before_is_committed() -> None:
    one = Turn(None)
    one.appended(T1)
    entered = enters(Turn(one), T2)
    assert not entered.wait(0.02)
    one.end(is_failed=False)
    assert entered.wait(10)


def test_after_a_batch_that_failed_none_is_tried() -> None:
    one = Turn(None)
    one.end(is_failed=True)
    with pytest.raises(Abandoned):
        Turn(one).enter(T1)


@pytest.mark.parametrize("in_flight", [2, 3, 8])
def test_acknowledgements_come_in_order_whichever_ends_first(in_flight: int) -> None:
    landed = [threading.Event() for _ in range(9)]

    def publish(batch: list[int], turn: Turn) -> Ack:
        at = batch[0]
        if at % 2 == 0 and at + 1 < len(landed):
            landed[at + 1].wait(10)  # the one after it ends first
        landed[at].set()
        return ack(batch)

    found = list(pipelined(publish, ([at] for at in range(9)), in_flight))
    assert [item.offset for item in found] == list(range(9))


def test_an_empty_batch_asks_for_what_is_due() -> None:
    asked: list[int] = []

    def batches() -> Iterator[list[int]]:
        yield [0]
        yield [1]
        yield []
        asked.extend(seen)

    seen = []
    for item in pipelined(lambda batch, turn: ack(batch), batches(), 5):
        seen.append(item.offset)
    assert asked == [0, 1]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SystemExit(143), Usage("Line 3 is no record.")])
def test_what_is_on_its_way_when_the_source_ends_badly_is_acknowledged_first(interruption: BaseException) -> None:
    def batches() -> Iterator[list[int]]:
        yield [0]
        yield [1]
        raise interruption

    seen = []
    with pytest.raises(type(interruption)):
        for item in pipelined(lambda batch, turn: ack(batch), batches(), 5):
            seen.append(item.offset)
    assert seen == [0, 1]


def test_interrupted_between_two_acknowledgements_it_gives_the_others_and_raises() -> None:
    stream = pipelined(lambda batch, turn: ack(batch), ([at] for at in range(9)), 4)
    assert isinstance(stream, Generator)
    assert next(stream).offset == 0
    seen = [stream.throw(KeyboardInterrupt()).offset]
    with pytest.raises(KeyboardInterrupt):
        seen.extend(item.offset for item in stream)
    assert seen == [1, 2, 3], "each batch that was on its way once, and none after them"


def test_the_error_of_the_first_batch_that_failed_says_what_came_after_it() -> None:
    later = threading.Event()

    def publish(batch: list[int], turn: Turn) -> Ack:
        if batch == [1]:
            turn.appended(T1)
            later.wait(10)
            raise NoQuorum("Only 1 of 2 voters answers.", outcome="unknown")
        turn.enter(T1)
        if batch == [2]:
            later.set()
        return ack(batch)

    seen = []
    with pytest.raises(NoQuorum) as caught:
        for item in pipelined(publish, ([at] for at in range(3)), 3):
            seen.append(item.offset)
    assert seen == [0]
    assert caught.value.fields["later"] == [[2, 1]]


def _published(store: Any) -> list[bytes]:
    return [record.payload for record in store.peek("q", domain="c", max=10_000).body["records"]]


@pytest.mark.parametrize("driver", ["memory", "lmdb"])
def test_domains_that_come_and_go_change_neither_the_order_nor_what_is_there(tmp_path: Path, driver: str) -> None:
    with world(tmp_path, DOMAINS, driver) as place:
        place.store.queues.create("q", replicas=[f"{name}={name}" for name in DOMAINS], allow=list(DOMAINS))
        cluster = place.store.session.cluster
        drills = {10: ("fail", "a"), 20: ("restore", "a"), 25: ("fail", "b"), 40: ("restore", "b"), 50: ("fail", "a")}

        def batches() -> Iterator[list[bytes]]:
            for at in range(70):
                if at in drills:
                    what, domain = drills[at]
                    getattr(place.driver, what)(cluster.place(domain).path)
                yield [f"{at}-{number}".encode() for number in range(3)]

        acks = list(place.store.publish_stream("q", batches(), domain="a", in_flight=3))
        wanted = [f"{at}-{number}".encode() for at in range(70) for number in range(3)]
        assert _published(place.store) == wanted
        assert [item.offset for item in acks] == list(range(0, 210, 3))
