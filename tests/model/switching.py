"""The switchover of one consumer between two outputs: values, and what an operator asks for next. What each entry does
is in `switching_steps.py`.

Each log is an atomic value here, because the log itself is explored elsewhere. An operator looks, makes one request
from what it saw, and may die or sleep before the request is carried out; so every request may be old. Consumers and
engines remember nothing: in each state any of them may turn up, with any generation that ever was committed.

Promises
- The guards are those of `switching_guards.py`, in the words of the product.
- A record is a bit: the same bit at both sides is a record and its counterpart.

When it fails: a fault of the model raises; what the design must never do is found by `switching_explorer.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from model.switching_guards import (
    ATTACHING,
    CLOSED,
    DETACHING,
    GUARDS,
    OPEN,
    ROLLED_BACK,
    SHADOW,
    SOAKING,
    SOURCE,
    SWITCHED,
    TARGET,
    Control,
    Group,
    Guards,
)

Request = tuple[Any, ...]  # kind, and what it counts on


class Behaviour(NamedTuple):
    """What operators, consumers and entries do wrong; nothing, as it is."""

    flips_unclosed: bool = False  # takes a group that was never opened for one that is closed
    flips_uncarried: bool = False
    carries_early: bool = False  # what was finished before the closing
    carries_at_opening: bool = False  # by the operator, after the flip
    forgets_owed: bool = False
    replaces_owed: bool = False
    keeps_nothing_owed: bool = False  # lets retention have what the other side has neither finished nor written down
    lets_go_first: bool = False  # of what is carried next
    delivers_owed: bool = False
    closes_first: bool = False  # the group, and then the control row says that it is closing
    gives_up_silently: bool = False  # at the same generation
    attaches_closed_at_nothing: bool = False  # the target's group, so that older claims are newer than its row
    starts_again: bool = False  # a new switch has the generations of an old one
    forgets_generation: bool = False  # where a group is detached
    fences_nothing: bool = False  # frees what is attached, and leaves alone what will be by one who is late
    frees_both: bool = False  # the side that is not open may be polled too
    drops_first: bool = False  # the control row, and then the groups are freed
    detaches_owing: bool = False  # polls of a group without a switch do not look at what is owed


class Setting(NamedTuple):
    """What is explored."""

    name: str
    wishes: tuple[str, ...] = ("switch",)
    keys: int = 2
    late: tuple[int, int] = (0, 0)  # masks of what is written after the beginning
    operators: int = 1
    generations: int = 4  # nothing begins any more at this one
    is_attached: bool = True  # at the beginning
    has_retention: bool = False
    has_unrouted: bool = False  # somebody polls without the routing
    guards: Guards = GUARDS
    behaviour: Behaviour = Behaviour()

    @property
    def all(self) -> int:
        return (1 << self.keys) - 1


class Claim(NamedTuple):
    """What a committed control row said: this generation names this side."""

    side: int
    generation: int


class State(NamedTuple):
    """Everything; `by` is which records consumers have finished at each side."""

    control: Control
    groups: tuple[Group, Group]
    claims: tuple[Claim, ...] = (Claim(SOURCE, 1),)  # every one there ever was
    is_over: bool = False  # the time of the closing
    by: tuple[int, int] = (0, 0)
    pending: tuple[Request | None, ...] = ()  # one for each operator
    wrong: str = ""


def first_state(setting: Setting) -> State:
    """Returns where it begins: attached, and compared."""
    there = [setting.all & ~late for late in setting.late]
    groups = (Group(there=there[SOURCE]), Group(state=CLOSED, there=there[TARGET]))
    pending = (None,) * setting.operators
    if setting.is_attached:
        return State(Control(), groups, pending=pending)
    free = [group._replace(is_attached=False, generation=0) for group in groups]
    return State(Control(generation=0, is_there=False), (free[SOURCE], free[TARGET]), (), pending=pending)


# --- what an operator asks for next


def wanted(setting: Setting, state: State, wish: str) -> list[Request]:
    """Returns the requests that an operator with this wish may make from what it sees; the first is the way on."""
    row = state.control
    at = row.generation
    if wish == "carry":
        return _ahead(setting, state)
    if wish == "attach":
        return _attach(setting, state) if not row.is_there or row.phase == ATTACHING else []
    if wish == "detach":
        return _detach(setting, state) if row.is_there else []
    if wish == "anything" and row.is_there and row.phase != DETACHING:  # of one who does not look at the state
        return [(kind, at) for kind in ("begin", "give up", "soak", "lock", "retry", "detach", "drop", "end attach")]
    if not row.is_there or row.phase in (ATTACHING, DETACHING):
        return []
    if wish == "give up":
        return [("give up", at)] if row.is_closing else []
    if wish == "lock" and not row.is_closing and row.state in (SWITCHED, SOAKING):
        return [("soak" if row.state == SWITCHED else "lock", at)]
    to = {"switch": TARGET, "roll back": SOURCE}.get(wish)
    return [] if to is None else _turn(setting, state, to)


def _turn(setting: Setting, state: State, to: int) -> list[Request]:
    """Returns the steps of one who wants the consumer at this side."""
    row, behaviour = state.control, setting.behaviour
    at, left = row.generation, state.groups[1 - to]
    if row.side == to:
        if behaviour.carries_at_opening and state.groups[to].ready != at and state.groups[to].state == CLOSED:
            return [("carry", to, left.final & ~left.gone, state.groups[to].there, at)]
        return [("open", to, at)] if state.groups[to].generation < at else []
    if row.state == ROLLED_BACK:
        return [("retry", at)]
    if row.is_closing:
        return _closing(setting, state)
    if row.state not in (SHADOW, SWITCHED, SOAKING):
        return []
    return [("close", 1 - to, at)] if behaviour.closes_first and left.state != CLOSED else [("begin", at)]


def _closing(setting: Setting, state: State) -> list[Request]:
    """Returns the next steps of a closing."""
    row, behaviour = state.control, setting.behaviour
    at, active, other = row.generation, state.groups[row.side], state.groups[1 - row.side]
    carry = ("carry", 1 - row.side, active.final & ~active.gone, other.there, at + 1)
    is_ready = other.ready == at + 1 or behaviour.flips_uncarried or behaviour.carries_at_opening
    if active.state == CLOSED and (active.generation == at or behaviour.flips_unclosed):
        return [("flip", at)] if is_ready else [carry]
    if behaviour.carries_early and not is_ready:
        return [carry]
    steps: list[Request] = [("close", row.side, at)]
    if active.state == OPEN and active.generation == at:
        steps.append(("drain", row.side, at))
    return steps


def _ahead(setting: Setting, state: State) -> list[Request]:
    """Returns what is done between closings: something is carried, and what was carried need not be kept."""
    steps: list[Request] = []
    for side in (SOURCE, TARGET):
        here, other = state.groups[side], state.groups[1 - side]
        final = here.final & ~here.gone
        known = other.final | other.owed
        if setting.behaviour.keeps_nothing_owed:
            known |= ~other.there
        if setting.behaviour.lets_go_first:
            known |= other.there
        if final & other.there & ~other.final:
            steps.append(("carry", 1 - side, final & other.there, other.there, 0))
        if setting.has_retention and final & known & ~here.carried:
            steps.append(("keep", side, final & known))
    return steps


def _attach(setting: Setting, state: State) -> list[Request]:
    """Returns the steps of one who ties the two groups together: the target's is closed before the source's is tied."""
    row = state.control
    if not row.is_there:
        return [("create",)] if row.side == SOURCE and row.generation < setting.generations else []
    for side in (TARGET, SOURCE):
        if not state.groups[side].is_attached or state.groups[side].generation < row.generation:
            return [("attach", side, row.generation)]
    return [("end attach", row.generation)]


def _detach(setting: Setting, state: State) -> list[Request]:
    """Returns the steps of one who takes a switch away."""
    row, behaviour = state.control, setting.behaviour
    if row.phase != DETACHING:
        is_owing = state.groups[row.side].owed and not behaviour.detaches_owing
        return [] if is_owing or row.is_closing or row.state in (SWITCHED, SOAKING) else [("detach", row.generation)]
    for side in (1 - row.side, row.side):
        group = state.groups[side]
        is_fenced = group.generation >= row.generation or behaviour.fences_nothing or behaviour.forgets_generation
        if (group.is_attached or not is_fenced) and not behaviour.drops_first:
            return [("free", side, row.generation, side == row.side or behaviour.frees_both)]
    return [("drop", row.generation)]
