"""Do the keys of a table behave like registers whose writes come in the order of their versions?

Each key is judged by itself (locality; Herlihy and Wing), and first by the laws of `register_laws.py`, which say in
plain words what is wrong. What the laws let through must have an order: every answered call takes effect at one moment
between its beginning and its end, writes in the order of their versions, and each answer is true at its moment. As the
versions of nearly all writes are known, there is nearly always one write that may come next, so thousands of calls of
a key are put in order in one pass; only what nobody answered makes the search branch.

A call is an `Operation` of the model "register":
    get                             -> {"value", "version"}, {"version": 0} where nothing is there
    put     value, expect or None   -> {"version"}, {"found": version} where the compare-and-set was lost
    delete  expect or None          -> {"version"} or {"version": None}, {"found": version}; {"found": 0}: nothing there
An answer may carry the `generation` under which the vshard answered. A call without an answer may have taken effect at
any time since, or never.

Promises
- No two puts of a key write the same value, else `check_registers` raises: a read must tell whose write it saw.
- Versions are not believed: a value that was seen with two versions, or a version that two writes have, is a finding.
- A history with too many orders raises `TooLong` and is not said to be good.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from histories.checker import STATES_MAX, TooLong
from histories.recorder import NEVER, Operation
from histories.register_laws import Finding, finding_of_key, finding_of_vshard, has_reason

MODEL = "register"
UNORDERED = "no order explains these calls"
SHOWN = 12
IMPOSSIBLE = -1  # a version that is never there


class State(NamedTuple):
    """What is there: version 0 for nothing, None for unknown; no write to come has a version below `floor`."""

    value: str | None
    version: int | None
    floor: int


class Call(NamedTuple):
    """One call as the search sees it: `see` leaves the state as it is; a value of None was not told."""

    kind: str  # see, put, delete
    start: float
    end: float
    value: str | None
    version: int | None
    expect: int | None


EMPTY = State(None, 0, 1)
# All known calls before the first number have taken effect, and those named beside it; the state; the unknown ones.
Step = tuple[int, frozenset[int], State, frozenset[int]]


def check_registers(history: Iterable[Operation], vshard_of: Callable[[str], int]) -> Finding | None:
    """Returns the first finding, or None where all keys have an order."""
    named = sorted((item for item in history if item.model == MODEL), key=lambda item: (vshard_of(item.key), item.key))
    for vshard, in_vshard in groupby(named, key=lambda item: vshard_of(item.key)):
        operations = list(in_vshard)
        if (found := finding_of_vshard(vshard, operations)) is not None:
            return found
        for key, of_key in groupby(operations, key=lambda item: item.key):
            calls = sorted(of_key, key=lambda item: item.start)
            if (found := finding_of_key(key, calls)) is not None:
                return found
            if not is_ordered(calls):
                return Finding(UNORDERED, key, f"an order exists without the last of {len(calls)}", _cause(calls))
    return None


def is_ordered(operations: Sequence[Operation]) -> bool:
    """Returns whether an order explains the calls of one key."""
    return _Search(*calls_of(operations)).ends()


def calls_of(operations: Iterable[Operation]) -> tuple[list[Call], list[Call]]:
    """Returns the calls that took effect, and those of which nobody knows; each by their beginning."""
    ordered = sorted(operations, key=lambda item: item.start)
    seen = {
        item.result["value"]: item.result["version"]
        for item in ordered
        if item.name == "get" and not item.is_pending and item.result["version"]
    }
    known, unknown = [], []
    for item in ordered:
        value, expect = item.args.get("value"), item.args.get("expect")
        if not item.is_pending:
            known.append(_answered(item))
        elif item.name == "put" and value in seen:
            known.append(Call("put", item.start, NEVER, value, seen[value], expect))
        elif item.name != "get":
            unknown.append(Call(item.name, item.start, NEVER, value, None, expect))
    return known, unknown


def _answered(item: Operation) -> Call:
    value, expect, result = item.args.get("value"), item.args.get("expect"), item.result
    if "found" in result:
        version = result["found"] if has_reason(item) else IMPOSSIBLE
        return Call("see", item.start, item.end, None, version, None)
    if item.name == "get":
        return Call("see", item.start, item.end, result.get("value"), result["version"], None)
    return Call(item.name, item.start, item.end, value, result["version"], expect)


def apply(state: State, call: Call) -> State | None:
    """Returns the state that a call leads to, or None where it has not this answer there."""
    if call.kind == "see":
        return _with_version(state, call.version) if call.value in (None, state.value) else None
    if call.expect is not None:
        bound = _with_version(state, call.expect)
        if bound is None:
            return None
        state = bound
    if call.kind == "delete" and state.version == 0:
        return None
    if call.version is not None and call.version < state.floor:
        return None
    floor = state.floor + 1 if call.version is None else call.version + 1
    return State(None, 0, floor) if call.kind == "delete" else State(call.value, call.version, floor)


def _with_version(state: State, version: int | None) -> State | None:
    """Returns the state where this version is there; one that was not known may turn out to be it."""
    if state.version == version:
        return state
    if state.version is not None or not version or version < state.floor - 1:
        return None
    return State(state.value, version, version + 1)


class _Search:
    """The search for an order. A call that changes nothing is taken as soon as it may be, which spoils no order."""

    def __init__(self, known: Sequence[Call], unknown: Sequence[Call]) -> None:
        self._known, self._unknown = known, unknown

    def ends(self) -> bool:
        todo: list[Step] = [(0, frozenset(), EMPTY, frozenset())]
        tried: set[Step] = set()
        while todo:
            low, later, state, used = todo.pop()
            low, later, window = self._settle(low, later, state)
            if low == len(self._known):
                return True
            step = (low, later, state, used)
            if step in tried:
                continue
            if len(tried) >= STATES_MAX:
                raise TooLong(f"{len(self._known)} calls, of which {len(self._unknown)} without an answer")
            tried.add(step)
            first_end = min(self._known[place].end for place in window)
            for number in self._unanswered(first_end, state, used):
                if (following := apply(state, self._unknown[number])) is not None:
                    todo.append((low, later, following, used | {number}))
            for place in window:
                if (following := apply(state, self._known[place])) is not None:
                    todo.append((low, later | {place}, following, used))
        return False

    def _settle(self, low: int, later: frozenset[int], state: State) -> tuple[int, frozenset[int], list[int]]:
        """Takes all that changes nothing; returns what is done then, and what may come next."""
        done = set(later)
        while True:
            while low in done:
                done.discard(low)
                low += 1
            window = list(self._window(low, done))
            settled = [place for place in window if apply(state, self._known[place]) == state]
            if not settled:
                return low, frozenset(done), window
            done.update(settled)

    def _window(self, low: int, done: set[int]) -> Iterator[int]:
        """Yields the calls that may come next: nothing that has not come ended before they began."""
        first_end = NEVER
        for place in range(low, len(self._known)):
            call = self._known[place]
            if call.start > first_end:
                return
            if place not in done:
                first_end = min(first_end, call.end)
                yield place

    def _unanswered(self, first_end: float, state: State, used: frozenset[int]) -> Iterator[int]:
        """Yields calls without an answer that may come next; of those that do the same, the first."""
        offered = set()
        for number, call in enumerate(self._unknown):
            if call.start > first_end:
                return
            same = (call.kind, call.expect)
            if number not in used and same not in offered and not (call.kind == "delete" and state.version == 0):
                offered.add(same)
                yield number


def _cause(operations: Sequence[Operation]) -> list[Operation]:
    """Returns the last calls up to the first answer that no order explains."""
    ends = sorted({item.end for item in operations if not item.is_pending})
    first = bisect_left(ends, True, key=lambda end: not is_ordered(_until(operations, end)))
    return _until(operations, ends[first])[-SHOWN:]


def _until(operations: Sequence[Operation], end: float) -> list[Operation]:
    """Returns what was known at a moment: a call that was still running has no answer."""
    return [
        item if item.end <= end else Operation(item.process, item.model, item.key, item.name, item.args, item.start)
        for item in operations
        if item.start <= end
    ]
