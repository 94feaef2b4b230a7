"""Is there an order of these calls, one at a time, that explains every answer and keeps to the order in real time?

The search is that of Wing and Gong, with Lowe's memory of what was tried: a set of calls that have taken effect, with
the state they led to, is looked at once. A history is split by object first, since an order for each object is an order
for all (Herlihy and Wing).

Promises
- A call without an answer may take effect at any time since it began, or never; its effect is that of any answer it
  could have had.
- What is returned is None, or the calls of one object that no order explains: no fewer calls at its beginning would do.
- `STATES_MAX` bounds the search; a history for which that is too little raises `TooLong` and is not said to be good.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from histories.recorder import Operation

STATES_MAX = 200_000

State = Hashable
# From a state and a call to the states it may lead to: none where the answer is not possible there. For a pending call
# (`operation.is_pending`) all that any answer may lead to.
Apply = Callable[[State, Operation], Iterable[State]]


class Model(NamedTuple):
    """What an object does, one call at a time."""

    initial: Callable[[str], State]  # by key
    apply: Apply


class TooLong(Exception):
    """The history has too many possible orders."""


class Unexplained(NamedTuple):
    """An object whose calls no order explains."""

    model: str
    key: str
    operations: list[Operation]

    def __str__(self) -> str:
        lines = [f"no order explains these calls of {self.model} {self.key}:"]
        for item in self.operations:
            end = "      …" if item.is_pending else f"{item.end:>7g}"
            answer = "no answer" if item.is_pending else repr(item.result)
            lines.append(f"  {item.start:>7g} to {end}  {item.process:<10} {item.name} {item.args} -> {answer}")
        return "\n".join(lines)


def check(history: Iterable[Operation], models: Mapping[str, Model]) -> Unexplained | None:
    """Returns an object whose calls cannot be put in order, or None."""
    named = sorted(history, key=lambda item: (item.model, item.key))
    for (name, key), group in groupby(named, key=lambda item: (item.model, item.key)):
        operations = sorted(group, key=lambda item: item.start)
        model = models[name]
        if not is_linearizable(operations, model.initial(key), model.apply):
            return Unexplained(name, key, _shortest(operations, model, key))
    return None


def _shortest(operations: Sequence[Operation], model: Model, key: str) -> list[Operation]:
    """Returns the calls up to the first answer that cannot be explained, those still running then as pending."""
    for end in sorted(item.end for item in operations if not item.is_pending):
        known = [item for item in operations if item.start <= end]
        cut = [item if item.end <= end else _unanswered(item) for item in known]
        if not is_linearizable(cut, model.initial(key), model.apply):
            return cut
    return list(operations)


def _unanswered(item: Operation) -> Operation:
    return Operation(item.process, item.model, item.key, item.name, item.args, item.start)


def is_linearizable(operations: Sequence[Operation], initial: State, apply: Apply) -> bool:
    """Returns whether an order exists; `operations` are of one object, sorted by start."""
    everything = (1 << len(operations)) - 1
    pending = sum(1 << place for place, item in enumerate(operations) if item.is_pending)
    todo: list[tuple[int, State]] = [(0, initial)]  # calls that have taken effect, and the state after them
    seen = set(todo)
    while todo:
        done, state = todo.pop()
        if done | pending == everything:
            return True
        for place in _next(operations, done):
            for following in apply(state, operations[place]):
                step = (done | 1 << place, following)
                if step not in seen:
                    if len(seen) >= STATES_MAX:
                        raise TooLong(f"{len(operations)} calls of {operations[0].model} {operations[0].key}")
                    seen.add(step)
                    todo.append(step)
    return False


def _next(operations: Sequence[Operation], done: int) -> Iterator[int]:
    """Yields the calls that may come next: none that has not come may have ended before they began."""
    first_end = min(item.end for place, item in enumerate(operations) if not done >> place & 1)
    for place, item in enumerate(operations):
        if not done >> place & 1 and item.start <= first_end:
            yield place
