"""Visits every state that a switchover can reach, once; what is broken comes with its shortest trace.

Promises, of each state
- ONE: at most one group hands out records, whatever generation the caller brings.
- NOBODY: what is finished anywhere was finished by a consumer first.
- STUCK: consumers alone, without any operator, come to a group that is open, and finish there every record that both
  outputs have, and those that come late.
- UNFINISHED: a new operator, alone, brings the consumer to the side where it is wanted.
- TIED: no group is tied to a switch that is not there.
- TWICE, FROZEN, DRAIN, UNDONE, EARLY, LOCKED, STATE, OTHER, FREED, MEDDLED are found in the step that breaks them.

When it fails: `Result.violation` is a sentence that begins with one of these words; `Result.trace` leads there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from model.switching import Claim, Request, Setting, State, first_state, wanted
from model.switching_guards import DETACHING, TARGET
from model.switching_steps import ack, carried_out, give_up, let_go, open_group, poll, write
from model.visiting import Result, Search, visit

STEPS_MAX = 30  # of a new operator: more than the longest way through a switch
FOR_EVER = 1 << 30
Label = tuple[Any, ...]  # the kind of a step, and what it is about


def explore(setting: Setting) -> Result:
    """Visits the reachable states."""
    checks = Checks(setting)
    steps = partial(successors, setting)
    return visit(
        Search(
            setting.name,
            first_state(setting),
            steps,
            checks.broken,
            lambda label: str(label[0]),
            lambda label: f"{label[0]}: {label[1:]}",
            checks.unfinished,
        )
    )


def successors(setting: Setting, state: State) -> Iterator[tuple[Label, State]]:
    """Yields every step that anybody can make: the clock, consumers, engines, retention, and each operator.

    Who dies with a request in hand is as if it had never looked, so that is no step of its own.
    """
    if state.control.is_closing and not state.is_over:
        yield ("clock", "the time of the closing is over"), state._replace(is_over=True)
    for claim in state.claims:
        after = open_group(setting, state, claim)
        if after:
            yield ("claim", claim), after
        after = give_up(setting, state, claim)
        if after:
            yield ("give up", claim), after
    yield from _records(setting, state)
    for place, request in enumerate(state.pending):
        if request is not None:
            after = carried_out(setting, state, request)
            if after:
                yield request, _with_pending(after, place, None)
        elif place == 0 or state.pending[place - 1] is not None:  # all operators are alike
            for wish in setting.wishes:
                for chosen in wanted(setting, state, wish):
                    yield ("look", wish, chosen), _with_pending(state, place, chosen)


def _records(setting: Setting, state: State) -> Iterator[tuple[Label, State]]:
    """Yields what is done with each record at each side."""
    for at, here in enumerate(state.groups):
        generation = here.generation if here.is_attached else None
        for key in (1 << bit for bit in range(setting.keys)):
            if not here.there & key:
                yield ("write", at, key), write(state, at, key)
                continue
            steps = [("poll", poll(setting, state, at, generation, key)), ("ack", ack(setting, state, at, key))]
            if setting.has_unrouted and here.is_attached:
                steps.append(("unrouted", poll(setting, state, at, None, key)))
            if setting.has_retention:
                steps.append(("let go", let_go(setting, state, at, key)))
            for kind, after in steps:
                if after and after != state:
                    yield (kind, at, key), after


def _with_pending(state: State, place: int, request: Request | None) -> State:
    pending = [*state.pending[:place], request, *state.pending[place + 1 :]]
    if len(pending) > 1:
        pending.sort(key=lambda one: (one is None, str(one)))
    return state._replace(pending=tuple(pending))


class Checks:
    """The checks of one setting, with what they have already found to hold."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._free = setting._replace(generations=FOR_EVER)
        self._sound: set[object] = set()
        self._ends: dict[str, set[object]] = {"switch": set(), "roll back": set()}

    def broken(self, state: State) -> str | None:
        """Returns what this state breaks, or None."""
        if state.wrong:
            return state.wrong
        key = (state.control, state.groups, state.by)
        if key in self._sound:
            return None
        wrong = self._one(state) or self._nobody(state) or self._tied(state) or self._stuck(state)
        if wrong is None:
            self._sound.add(key)
        return wrong

    def _one(self, state: State) -> str | None:
        """Before the target's group is attached, nobody has said that its consumers are to wait."""
        guards = self.setting.guards
        known = (None, *(claim.generation for claim in state.claims))
        hands = [any(guards.may_poll(group, generation) for generation in known) for group in state.groups]
        return "ONE both groups hand out records" if all(hands) and state.groups[TARGET].is_attached else None

    @staticmethod
    def _nobody(state: State) -> str | None:
        by = state.by[0] | state.by[1]
        for at, group in enumerate(state.groups):
            if (group.final | group.owed) & ~by:
                return f"NOBODY finished {group.final & ~by} of side {at}"
        return None

    @staticmethod
    def _tied(state: State) -> str | None:
        is_tied = not state.control.is_there and any(group.is_attached for group in state.groups)
        return "TIED a group is tied to a switch that is not there" if is_tied else None

    def _stuck(self, state: State) -> str | None:
        """Consumers alone, who wait until a closing is over, open what the control row names, and finish everything."""
        state = self._alone(state)
        at = state.control.side
        both = state.groups[0].there & state.groups[1].there
        if both & ~state.groups[at].final:
            return f"STUCK consumers alone leave {both & ~state.groups[at].final} unfinished: {_shown(state)}"
        for side in (0, 1):
            state = write(state, side, self.setting.all)
        state = self._alone(state)
        if state.groups[at].final != self.setting.all:
            return f"STUCK consumers alone leave what came late unfinished: {_shown(state)}"
        return state.wrong or None

    def _alone(self, state: State) -> State:
        setting, row = self.setting, state.control
        claim = Claim(row.side, row.generation)
        if row.is_closing:
            state = give_up(setting, state._replace(is_over=True), claim) or state
            claim = Claim(claim.side, state.control.generation)
        state = open_group(setting, state, claim) or state
        generation = claim.generation if state.groups[claim.side].is_attached else None
        for key in (1 << bit for bit in range(setting.keys)):
            state = poll(setting, state, claim.side, generation, key) or state
            state = ack(setting, state, claim.side, key) or state
        return state

    def unfinished(self, state: State) -> str | None:
        """Returns what an operator cannot bring to an end from here, or None."""
        return self._unfinished(state, "switch") or self._unfinished(state, "roll back")

    def _unfinished(self, state: State, wish: str) -> str | None:
        """A new operator, alone: what it asks for first each time brings the consumer to where it is wanted."""
        ends, passed = self._ends[wish], []
        for _ in range(STEPS_MAX):
            key = (state.control, state.groups)
            if key in ends:
                break
            passed.append(key)
            requests = wanted(self._free, state, "attach") or wanted(self._free, state, wish)
            if state.control.phase == DETACHING:
                requests = wanted(self._free, state, "detach")
            if not requests:
                break
            after = carried_out(self._free, state, requests[0])
            if after is None or after == state:
                return f"UNFINISHED who wants to {wish} is refused {requests[0]}: {_shown(state)}"
            state = after
        else:
            return f"UNFINISHED who wants to {wish} never comes to an end: {_shown(state)}"
        ends.update(passed)
        return None


def _shown(state: State) -> str:
    row = state.control
    groups = (f"{group.state} at {group.generation}, final {group.final}" for group in state.groups)
    return f"{row.state} at {row.generation} | {' | '.join(groups)}"
