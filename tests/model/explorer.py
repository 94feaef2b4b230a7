"""The breadth-first explorer: visits every reachable state once; a broken invariant comes with its shortest trace.

Promises
- Deterministic: the same setting gives the same states, in the same order, and the same trace.
- Complete: a verdict without violation and without `limited` means that every reachable state was checked.

When it fails: `Result.violation` has the sentence of the invariant and `Result.trace` the steps that lead there.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from model.actions import successors
from model.invariants import Invariants, has_old_copy
from model.process import Label
from model.setting import Setting, initial_state
from model.state import State

Visit = Callable[[State], "str | None"]


class Result(NamedTuple):
    """What an exploration found."""

    name: str
    states: int
    edges: int
    seconds: float
    violation: str | None = None
    trace: tuple[str, ...] = ()
    limited: bool = False

    def __str__(self) -> str:
        verdict = self.violation or ("limit reached" if self.limited else "ok")
        rate = self.states / self.seconds if self.seconds else 0
        text = f"{self.name}: {self.states} states, {self.edges} edges, {self.seconds:.1f} s, {rate:.0f}/s: {verdict}"
        return "\n    ".join([text, *self.trace])


def explore(setting: Setting, limit: int = 100_000_000, visit: Visit | None = None) -> Result:
    """Visits the reachable states; `visit`, where given, is one more check of each."""
    collecting = gc.isenabled()
    gc.disable()  # nothing here is garbage before the end, and looking for it takes half the time
    try:
        return _explore(setting, limit, visit)
    finally:
        if collecting:
            gc.enable()


def _explore(setting: Setting, limit: int, visit: Visit | None) -> Result:
    began, invariants, edges = time.monotonic(), Invariants(setting), 0
    first = initial_state(setting)
    parents: dict[State, tuple[State, Label] | None] = {first: None}
    queue = deque([first])

    def result(violation: str | None = None, last: State | None = None, limited: bool = False) -> Result:
        trace = _trace(parents, last) if last is not None else ()
        return Result(setting.name, len(parents), edges, time.monotonic() - began, violation, trace, limited)

    wrong = invariants.broken(first)
    if wrong:
        return result(wrong, first)
    while queue:
        state = queue.popleft()
        quiet = not has_old_copy(state)
        for label, following in successors(setting, state):
            edges += 1
            if following in parents:
                continue
            parents[following] = (state, label)
            wrong = invariants.broken(following) or (visit(following) if visit else None)
            if wrong is None and quiet and not has_old_copy(following):
                wrong = invariants.step_looks_like_an_old_copy(state, following)
            if wrong:
                return result(wrong, following)
            queue.append(following)
        if len(parents) > limit:
            return result(limited=True)
    return result()


def _trace(parents: dict[State, tuple[State, Label] | None], last: State) -> tuple[str, ...]:
    steps: list[str] = []
    link = parents[last]
    while link is not None:
        state, label = link
        steps.append(" ".join(str(part) for part in label))
        link = parents[state]
    return tuple(reversed(steps))
