"""The checker finds each anomaly that is planted, and lets through what can be explained."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from histories.checker import TooLong, check
from histories.models import MODELS
from histories.recorder import NEVER, Operation, Recorder, load, recording


def call(model: str, name: str, start: float, end: float, result: Any, process: str = "p", **args: Any) -> Operation:
    return Operation(process, model, "one", name, args, start, end, result)


def lost(model: str, name: str, start: float, **args: Any) -> Operation:
    """A call without an answer."""
    return call(model, name, start, NEVER, None, **args)


def ack(start: float, end: float, result: str, token: int | None = 7) -> Operation:
    return call("delivery", "ack", start, end, result, token=token)


def lease(start: float, end: float, token: int) -> Operation:
    return call("delivery", "lease", start, end, "ok", token=token)


def fence(start: float, end: float, epoch: int, before: int | str) -> Operation:
    return call("epoch", "fence", start, end, before, epoch=epoch)


def use(start: float, end: float, epoch: int, result: str) -> Operation:
    return call("epoch", "pass", start, end, result, epoch=epoch)


def locate(start: float, end: float, to: int, result: str, add: str = "rd=d") -> Operation:
    return call("generation", "set", start, end, result, to=to, add=[add], remove=[])


def place(start: float, end: float, expect: str, new: str, result: str) -> Operation:
    return call("placement", "set", start, end, result, expect=expect, new=new)


LOST_ACK = lost("delivery", "ack", 2, token=7)
LOST_FENCE = lost("epoch", "fence", 0, epoch=5)

GOOD = {
    "finalised once, seen after": [lease(0, 1, 7), ack(2, 3, "first"), ack(4, 5, "done")],
    "two at once, one wins": [lease(0, 1, 7), ack(2, 9, "done"), ack(3, 8, "first")],
    "a lost ack took effect": [lease(0, 1, 7), LOST_ACK, ack(10, 11, "done")],
    "a lost ack did not": [lease(0, 1, 7), LOST_ACK, ack(10, 11, "first")],
    "a lost ack took effect late": [lease(0, 1, 7), LOST_ACK, lease(5, 6, 9), ack(10, 11, "first", 9)],
    "given to another after it ended": [lease(0, 1, 7), lease(5, 6, 9), ack(7, 8, "first", 9)],
    "given back, given again": [
        lease(0, 1, 7),
        call("delivery", "nack", 2, 3, "ok", token=7),
        lease(4, 5, 9),
        ack(6, 7, "first", 9),
    ],
    "epochs go up": [fence(0, 1, 2, 1), use(2, 3, 2, "ok"), use(4, 5, 1, "fenced"), fence(6, 7, 4, 2)],
    "fenced by a lost fence": [LOST_FENCE, use(4, 5, 3, "fenced"), fence(6, 7, 9, 5)],
    "a lost fence that did nothing": [LOST_FENCE, use(4, 5, 3, "ok"), fence(6, 7, 4, 1)],
    "generations by one": [locate(0, 1, 2, "changed"), locate(2, 3, 2, "same"), locate(4, 5, 3, "changed", "re=e")],
    "placements compared": [place(0, 1, "x", "y", "changed"), place(2, 3, "x", "z", "conflict")],
}
WRONG = {
    "double finalise": [lease(0, 1, 7), ack(2, 3, "first"), ack(4, 5, "first")],
    "both win": [lease(0, 1, 7), ack(2, 9, "first"), ack(3, 8, "first")],
    "final and not yet": [lease(0, 1, 7), ack(2, 3, "done"), ack(4, 5, "first")],
    "nobody finalised it": [lease(0, 1, 7), ack(2, 3, "done")],
    "a lost update": [lease(0, 1, 7), ack(2, 3, "first"), lease(4, 5, 9)],
    "an old lease honoured": [lease(0, 1, 7), lease(2, 3, 9), ack(4, 5, "first", 7)],
    "a lease number goes back": [lease(0, 1, 9), lease(2, 3, 7)],
    "a lost ack took effect before it began": [lease(0, 1, 7), ack(2, 3, "done"), lost("delivery", "ack", 4, token=7)],
    "an epoch goes back": [fence(0, 1, 5, 1), use(2, 3, 3, "ok")],
    "a stale read of an epoch": [fence(0, 1, 5, 1), fence(2, 3, 6, 1)],
    "refused by an epoch that nobody set": [use(0, 1, 3, "fenced"), fence(2, 3, 5, 1)],
    "real-time order": [use(0, 1, 3, "fenced"), fence(2, 3, 5, 1), use(4, 5, 5, "ok")],
    "two generations at once": [locate(0, 9, 2, "changed"), locate(1, 8, 2, "changed", "re=e")],
    "a generation is left out": [locate(0, 1, 3, "changed")],
    "both placements win": [place(0, 1, "x", "y", "changed"), place(2, 3, "x", "z", "changed")],
    "a conflict with what was expected": [place(0, 1, "x", "y", "changed"), place(2, 3, "y", "z", "conflict")],
}


@pytest.mark.parametrize("name", GOOD)
def test_what_an_order_explains_is_good(name: str) -> None:
    assert check(GOOD[name], MODELS) is None


@pytest.mark.parametrize("name", WRONG)
def test_an_anomaly_is_found_and_shown(name: str) -> None:
    found = check(WRONG[name], MODELS)
    assert found is not None and found.key == "one"
    assert all(item.name in str(found) for item in found.operations)


def test_one_bad_object_among_many_is_named_with_no_more_than_is_needed() -> None:
    good = [Operation("p", "epoch", f"k{n}", "fence", {"epoch": 2}, n, n + 1, 1) for n in range(50)]
    after = [ack(20 + n, 21 + n, "done") for n in range(5)]
    found = check([*good, *WRONG["double finalise"], *after], MODELS)
    assert found is not None and [item.result for item in found.operations] == ["ok", "first", "first"]


@pytest.mark.parametrize("seed", range(200))
def test_a_history_made_from_an_order_is_good_and_one_changed_answer_is_not(seed: int) -> None:
    """Calls take effect one after the other; each begins before and ends after its moment, at random."""
    chance = random.Random(seed)
    epoch, calls = 1, []
    for moment in range(1, 25):
        asked = chance.randint(1, 6)
        start, end = moment - chance.random() * 4, moment + chance.random() * 4
        if chance.random() < 0.5:
            calls.append(use(start, end, asked, "ok" if asked >= epoch else "fenced"))
        elif asked >= epoch:
            calls.append(fence(start, end, asked, epoch))
            epoch = asked
    assert check(calls, MODELS) is None
    last = use(40, 41, epoch, "fenced")
    assert check([*calls, last], MODELS) is not None


def test_too_many_orders_are_not_called_good() -> None:
    calls = [place(0, 9, "x", "y", "changed")]
    calls += [lost("placement", "set", 0, expect=f"{n % 9}", new=f"{n * 7 % 9}") for n in range(22)]
    calls += [lost("placement", "set", 0, expect="y", new="0"), place(52, 53, "a", "b", "same")]
    with pytest.raises(TooLong):
        check(calls, MODELS)


def test_what_processes_wrote_is_read_back_as_one_history(tmp_path: Path) -> None:
    clock = iter(range(100))

    def now() -> float:
        return float(next(clock))

    with recording(tmp_path / "one", now) as one, recording(tmp_path / "two", now) as two:
        first = one.begin("one", "epoch", "queue", "fence", epoch=3)
        second = two.begin("two", "epoch", "queue", "pass", epoch=2)
        one.end(first, 1)
        two.end(second, "fenced")
        two.drop(two.begin("two", "epoch", "queue", "fence", epoch=9))
        one.begin("one", "epoch", "queue", "fence", epoch=4)
    with (tmp_path / "two").open("a") as file:
        file.write('{"process": "two", "mo')  # it was killed here
    read = load([tmp_path / "one", tmp_path / "two"])
    assert [(item.process, item.name, item.result, item.is_pending) for item in read] == [
        ("one", "fence", 1, False),
        ("two", "pass", "fenced", False),
        ("one", "fence", None, True),
    ]
    assert check(read, MODELS) is None


def test_a_recorder_keeps_what_has_no_answer_and_leaves_out_what_was_not_written() -> None:
    recorder = Recorder(lambda: 1.0)
    kept = recorder.begin("p", "epoch", "queue", "fence", epoch=2)
    recorder.drop(recorder.begin("p", "epoch", "queue", "fence", epoch=3))
    assert recorder.operations == [kept] and kept.is_pending
