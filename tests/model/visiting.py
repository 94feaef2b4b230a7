"""Visits every state that can be reached from a first one, once; what is broken comes with its shortest trace.

When it fails: a state is a value, so a result comes again from the same setting.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

S = TypeVar("S")  # a state
L = TypeVar("L")  # the label of a step


class Result(NamedTuple):
    """What an exploration found."""

    name: str
    states: int
    edges: int
    seconds: float
    kinds: frozenset[str]  # of the steps that were taken
    violation: str | None = None
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.name}: {self.states} states, {self.edges} edges, {self.seconds:.1f} s: {self.violation or 'ok'}"
        return "\n    ".join([text, *self.trace])


class Search(NamedTuple, Generic[S, L]):
    """What is to be visited."""

    name: str
    first: S
    successors: Callable[[S], Iterable[tuple[L, S]]]
    broken: Callable[[S], str | None]  # what a state breaks; nothing is looked at after one that does
    kind: Callable[[L], str]  # of a step, counted
    shown: Callable[[L], str] = str  # a step in a trace
    unfinished: Callable[[S], str | None] | None = None  # the same as `broken`, and something worse may still be found


def visit(search: Search[S, L]) -> Result:
    """Visits the reachable states."""
    collecting = gc.isenabled()
    gc.disable()  # nothing here is garbage before the end
    try:
        return _visit(search)
    finally:
        if collecting:
            gc.enable()


def _visit(search: Search[S, L]) -> Result:
    name, first, successors, broken, kind, shown, unfinished = search
    began, edges, kinds = time.monotonic(), 0, set()
    parents: dict[S, tuple[S, L] | None] = {first: None}
    queue = deque([first])
    wrong, last = broken(first), first
    late: tuple[str, S] | None = None
    while queue and not wrong:
        state = queue.popleft()
        for label, following in successors(state):
            edges += 1
            if following in parents:
                continue
            parents[following] = (state, label)
            kinds.add(kind(label))
            wrong, last = broken(following), following
            if wrong:
                break
            if unfinished is not None and late is None and (found := unfinished(following)):
                late = found, following
            queue.append(following)
    if late and not wrong:
        wrong, last = late
    trace = tuple(map(shown, _steps(parents, last))) if wrong else ()
    return Result(name, len(parents), edges, time.monotonic() - began, frozenset(kinds), wrong, trace)


def _steps(parents: dict[S, tuple[S, L] | None], last: S) -> list[L]:
    steps: list[L] = []
    link = parents[last]
    while link is not None:
        state, label = link
        steps.append(label)
        link = parents[state]
    return steps[::-1]
