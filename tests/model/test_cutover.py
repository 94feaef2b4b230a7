"""The cut-over of a vshard, explored: every order of what writers, readers, the clock and operators do, any of whom may
stop anywhere; and all known errors.

What runs here takes about ten seconds on one core; the slow one goes on for as long again.
"""

from __future__ import annotations

from functools import cache

import pytest

from model.cutover import Behaviour, Setting, State, first_state, wanted
from model.cutover_entries import carried_out, put
from model.cutover_explorer import explore
from model.cutover_guards import OPEN, Claim, Place
from model.cutover_mutants import AGAIN, EVERYTHING, MUTANTS, NO_B, ROUTED, SOUND, A, Mutant

# How many states there are at least: fewer, and the check has become weaker.
LEAST = (4_900, 24_000, 22_000, 8_000, 80_000, 23_000, 74_000, 22_000, 8_300, 4_000)
LONG = Setting("everything, two operators", EVERYTHING, (A, NO_B), 2, 2, is_moved=True)


explored = cache(explore)


def _name(value: object) -> str:
    return str(getattr(value, "name", value))


@pytest.mark.parametrize(("setting", "least"), list(zip(SOUND, LEAST, strict=True)), ids=_name)
def test_no_reachable_state_breaks_a_promise(setting: Setting, least: int) -> None:
    result = explored(setting)
    assert result.violation is None, str(result)
    assert result.states >= least


@pytest.mark.slow
def test_no_reachable_state_of_everything_at_once_breaks_a_promise() -> None:
    result = explore(LONG)
    assert result.violation is None, str(result)
    assert result.states >= 400_000


@pytest.mark.parametrize("mutant", MUTANTS, ids=_name)
def test_every_error_is_caught(mutant: Mutant) -> None:
    result = explore(mutant.wrong_setting)
    assert result.violation is not None, str(result)
    assert result.violation.startswith(mutant.breaks), str(result)


def test_every_kind_of_step_is_taken() -> None:
    """Who dies is as if it had never looked, so no state is first found through a death."""
    kinds = {kind for setting in (AGAIN, ROUTED) for kind in explored(setting).kinds}
    assert kinds == {
        *("look", "clock", "put", "unseal", "migrate", "receive", "copy", "apply", "seal", "flip", "open"),
        *("point", "cancel", "drop", "reverse", "receive back", "give up way back", "retire"),
    }


def test_an_exploration_is_the_same_every_time() -> None:
    first, again = explore(SOUND[0]), explore(SOUND[0])
    assert (first.states, first.edges) == (again.states, again.edges)


# --- one way through, written out: what the explorer walks is what the design says


def _go(setting: Setting, state: State, wish: str, steps: list[str]) -> State:
    for kind in steps:
        request = next(request for request in wanted(setting, state, wish) if request[0] == kind)
        done = carried_out(setting, state, request)
        assert done is not None, request
        state = done[0]
    return state


def test_a_vshard_is_moved_while_it_is_written() -> None:
    setting = Setting("by hand", migrations=2)
    state = _go(setting, first_state(setting), "migrate", ["migrate"])
    state = _go(setting, state, "finish", ["receive", "copy"])
    state = put(setting, state, 0, None, 0, False) or state  # over the row that was copied
    state = put(setting, state, 0, None, 1, True) or state  # the row that was not
    state = _go(setting, state, "finish", ["copy", "apply", "seal"])
    assert put(setting, state, 0, None, 0, False) is None, "the source is sealed"
    assert put(setting, state, 1, Claim(3, 2), 0, False) is None, "the target is not ready"
    state = _go(setting, state, "finish", ["apply", "flip"])
    token = state.sides[1].place.token
    assert token is not None and put(setting, state, 1, None, 0, False) is None, "nobody said that it is the owner"
    state = put(setting, state, 1, Claim(token, 2), 1, False) or state
    home, part = state.sides
    assert home.rows == ((3, 1), None), "the old copy is as it was at the flip"
    assert part.place == Place(OPEN, 2, keeps=0) and part.rows == ((3, 1), (5, 3)) == state.truth
    state = _go(setting, state, "reverse", ["reverse"])
    state = _go(setting, state, "finish", ["receive back", "apply", "seal", "apply", "flip", "open"])
    assert state.sides[0].rows == state.truth and state.sides[0].place.generation == 3
    assert not state.wrong


def test_a_write_that_is_tried_again_is_answered_by_the_log_that_took_it() -> None:
    setting = Setting("by hand", has_retries=True)
    state = put(setting, first_state(setting), 0, None, 0, False) or first_state(setting)
    assert put(setting, state, 0, None, 0, False, again=1) is None
    assert state.done == (frozenset({1}), frozenset())
    forgetful = setting._replace(behaviour=Behaviour(asks_nobody=True))
    assert put(forgetful, state, 0, None, 0, False, again=1) is None, "the same log knows it anyway"
