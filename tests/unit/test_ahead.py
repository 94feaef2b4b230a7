"""What is made ahead comes in order, ends with its block, and never gets further ahead than it may."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from grafctl.store.ahead import Ahead


def numbers(made: list[int], stop: int = 1 << 30) -> Generator[int, None, None]:
    try:
        for number in range(stop):
            made.append(number)
            yield number
    finally:
        made.append(-1)


def test_items_come_in_order_and_end() -> None:
    made: list[int] = []
    with Ahead(numbers(made, 100), 3) as ahead:
        assert list(ahead) == list(range(100))
    assert made == [*range(100), -1]


def test_an_error_of_the_maker_comes_where_the_next_item_would() -> None:
    def broken() -> Generator[int, None, None]:
        yield 1
        yield 2
        raise KeyError("three")

    seen = []
    with pytest.raises(KeyError, match="three"), Ahead(broken(), 5) as ahead:
        for item in ahead:
            seen.append(item)
    assert seen == [1, 2]


class Death(BaseException):
    """Not an `Exception`, as what ends a process is not."""


def test_what_is_no_exception_comes_too() -> None:
    def dying() -> Generator[int, None, None]:
        yield 0
        raise Death

    with pytest.raises(Death), Ahead(dying()) as ahead:
        list(ahead)


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_the_maker_has_ended_when_the_block_has(taken: int) -> None:
    made: list[int] = []
    with pytest.raises(Death), Ahead(numbers(made), 2) as ahead:
        items = iter(ahead)
        for number in range(taken):
            assert next(items) == number
        raise Death
    if made:  # where it had begun, it was closed
        assert made[-1] == -1
    size = len(made)
    assert size <= taken + 3 + 1, "it went further ahead than it may"
    assert ahead._is_down.is_set(), "it goes on after the block"


def test_it_gets_no_further_ahead_than_it_may() -> None:
    made: list[int] = []
    is_made = threading.Semaphore(0)

    def told() -> Generator[int, None, None]:
        for number in range(50):
            made.append(number)
            is_made.release()
            yield number

    with Ahead(told(), 4) as ahead:
        for seen in ahead:
            is_made.acquire()
            assert len(made) <= seen + 1 + 4


def test_an_interruption_at_the_end_waits_for_the_maker(monkeypatch: pytest.MonkeyPatch) -> None:
    may_end, has_ended = threading.Event(), threading.Event()

    def slow() -> Generator[int, None, None]:
        yield 1
        may_end.wait(60)
        has_ended.set()
        yield 2

    ahead = Ahead(slow(), 5)
    wait, pressed = ahead._is_down.wait, [0]

    def interrupted(timeout: float | None = None) -> bool:
        pressed[0] += 1
        if pressed[0] < 3:
            raise KeyboardInterrupt
        may_end.set()
        return wait(timeout)

    monkeypatch.setattr(ahead._is_down, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt), ahead:
        next(iter(ahead))
    assert has_ended.is_set() and pressed[0] == 3
