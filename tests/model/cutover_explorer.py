"""Visits every state that a cut-over can reach, once; what is broken comes with its shortest trace.

Promises, of each state
- OWNERS: at most one log accepts a write, whatever claim the writer brings.
- OLD: what a reader is told, at whichever log, is what the writers were told last: nothing acknowledged is lost, and no
  read goes back in time.
- NOBODY: some log can be read, and writers alone reach a log that accepts writes, without any operator.
- STUCK: a new operator who resumes ends with one owner and nothing under way, and so does one who cancels.
- TOKEN, FLIP, BUDGET, VERSION, BACK, HINT, OTHER, TWICE are found in the step that breaks them.

When it fails: `Result.violation` is a sentence that begins with one of these words; `Result.trace` leads there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from model.cutover import Request, Setting, Side, State, first_state, wanted
from model.cutover_entries import carried_out, put, unseal
from model.cutover_guards import OPEN, SEALED
from model.visiting import Result, Search, visit

STEPS_MAX = 60  # of a new operator: more than the longest way through a migration of two rows
Sides = tuple[Side, Side]


def explore(setting: Setting) -> Result:
    """Visits the reachable states."""
    checks = Checks(setting)
    steps = partial(successors, setting)
    return visit(Search(setting.name, first_state(setting), steps, checks.broken, lambda label: label.split(":")[0]))


def successors(setting: Setting, state: State) -> Iterator[tuple[str, State]]:
    """Yields every step that anybody can make: the clock, writers, and each operator."""
    if any(side.place.state == SEALED for side in state.sides) and not state.is_over:
        yield "clock: the budget is over", state._replace(is_over=True)
    for at in (0, 1):
        lifted = unseal(setting, state, at)
        if lifted:
            yield f"unseal: {at}", lifted
    yield from _writes(setting, state)
    for place, request in enumerate(state.pending):
        if request is None:
            if place == 0 or state.pending[0] is not None:  # all operators are alike
                for wish in setting.wishes:
                    for chosen in wanted(setting, state, wish):
                        yield f"look: {wish}, and ask for {chosen}", _with_pending(state, place, chosen)
            continue
        yield f"die: before {request}", _with_pending(state, place, None)
        done = carried_out(setting, state, request)
        if done:
            yield f"{request[0]}: {request[1:]}", _with_pending(done[0], place, done[1])


def _writes(setting: Setting, state: State) -> Iterator[tuple[str, State]]:
    """Yields the next write at either log, with every claim there ever was, and each write before it once more."""
    for number in range(
        1 if setting.has_retries else state.written + 1, min(state.written + 1, len(setting.writes)) + 1
    ):
        key, is_delete = setting.writes[number - 1]
        again = number if number <= state.written else 0
        for at in (0, 1):
            for claim in (None, *(claim for to, claim in state.claims if to == at)):
                after = put(setting, state, at, claim, key, is_delete, again)
                if after:
                    what = f"key {key}{' gone' if is_delete else ''}{' again' if again else ''}"
                    yield f"put: at {at}, {what}, with {claim}", after


def _with_pending(state: State, place: int, request: Request | None) -> State:
    pending = [*state.pending[:place], request, *state.pending[place + 1 :]]
    if len(pending) > 1:
        pending.sort(key=lambda one: (one is None, str(one)))
    return state._replace(pending=tuple(pending))


class Checks:
    """The checks of one setting, with what they have already found to hold."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._sound: set[object] = set()
        self._ends: dict[str, set[tuple[Sides, bool]]] = {"finish": set(), "cancel": set()}

    def broken(self, state: State) -> str | None:
        """Returns what this state breaks, or None."""
        if state.wrong:
            return state.wrong
        key = (state.sides, state.truth, state.claims, state.is_over, state.hint)
        if key in self._sound:
            return None
        wrong = self._owners(state) or self._nobody(state) or self._stuck(state, "finish")
        wrong = wrong or self._stuck(state, "cancel")
        if wrong is None:
            self._sound.add(key)
        return wrong

    def _owners(self, state: State) -> str | None:
        guards, trusts = self.setting.guards, self.setting.behaviour.trusts_hint
        writers, readers = 0, 0
        for at, side in enumerate(state.sides):
            claims = (None, *(claim for to, claim in state.claims if to == at))
            pointed = trusts and state.hint[0] == at
            writers += pointed or any(guards.may_put(side.place, claim) for claim in claims)
            if pointed or any(guards.may_read(side.place, claim) for claim in claims):
                readers += 1
                if side.rows != state.truth:
                    return f"OLD log {at} ({side.place.state}) answers {side.rows} where {state.truth} was acknowledged"
        if writers > 1:
            return "OWNERS both logs accept writes"
        if state.hint[1] > max(side.place.generation for side in state.sides):
            return "HINT the route knows of a generation that no log has"
        return None if readers else "NOBODY no log answers a reader"

    def _nobody(self, state: State) -> str | None:
        """Writers alone: they wait until the budget is over, lift the seal, or claim what the flip gave away."""
        guards = self.setting.guards
        for at, side in enumerate(state.sides):
            claims = (None, *(claim for to, claim in state.claims if to == at))
            if any(guards.may_put(side.place, claim) for claim in claims):
                return None
            lifted = unseal(self.setting, state._replace(is_over=True), at)
            if lifted and guards.may_put(lifted.sides[at].place, None):
                return None
        return "NOBODY writers alone find no log that accepts a write"

    def _stuck(self, state: State, wish: str) -> str | None:
        """A new operator, alone: what it asks for first each time leads to an end, from which nothing is left over."""
        ends, passed = self._ends[wish], []
        free = self.setting._replace(migrations=-1, seals=-1)  # no count is ever equal to it
        for _ in range(STEPS_MAX):
            key = (state.sides, state.is_over)
            if key in ends:
                break
            passed.append(key)
            lifted = unseal(free, state, 0) or unseal(free, state, 1)
            if lifted:
                state = lifted
                continue
            requests = wanted(free, state, wish)
            if not requests or requests[0][0] == "point":
                if self._is_at_rest(state):
                    break
                return f"STUCK who wants to {wish} has nothing to do, and it is not at its end: {_shown(state)}"
            done = carried_out(free, state, requests[0])
            if not done:
                return f"STUCK who wants to {wish} is refused {requests[0]}: {_shown(state)}"
            state = done[0]
            if done[1]:
                state = (carried_out(free, state, done[1]) or done)[0]
        else:
            return f"STUCK who wants to {wish} never comes to an end: {_shown(state)}"
        ends.update(passed)
        return None

    @staticmethod
    def _is_at_rest(state: State) -> bool:
        places = [side.place for side in state.sides]
        copies = [place for place in places if place.incoming is not None or place.outgoing is not None]
        return not copies and sum(place.state == OPEN for place in places) == 1


def _shown(state: State) -> str:
    return " | ".join(f"{side.place.state} {side.rows}" for side in state.sides)
