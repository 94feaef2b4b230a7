"""Two things measured in turn, so that a machine that is busy for a while slows down both.

A ratio is the median of the ratios of the rounds. One round before them fills the caches and is not counted; every
other round goes backwards, so that none of them always comes first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

Action = Callable[[], object]


def in_turn(rounds: int, *actions: Action) -> list[list[float]]:
    """Returns the seconds of each action in each round."""
    times: list[list[float]] = [[] for _ in actions]
    for number in range(rounds + 1):
        order = list(zip(actions, times, strict=True))
        for action, found in order if number % 2 else reversed(order):
            began_s = time.perf_counter()
            action()
            if number:
                found.append(time.perf_counter() - began_s)
    return times


def ratio(numerators: list[float], denominators: list[float]) -> float:
    """Returns the median of the rounds' ratios."""
    return median(top / bottom for top, bottom in zip(numerators, denominators, strict=True))
