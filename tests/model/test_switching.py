"""The switchover of a consumer, explored: every order of what consumers, engines, retention, the clock and operators
do, any of whom may stop anywhere; and all known errors.

What runs here takes about ten seconds on one core. GENERATIONS=1 lets every setting flip once more; the slow ones take
minutes (`make model`).
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from model.switching import Setting, State, first_state, wanted
from model.switching_explorer import explore
from model.switching_guards import CLOSED, LOCKED, OPEN, TARGET
from model.switching_mutants import ANYTHING, BACK, KEPT, LIVES, LONG, MUTANTS, SOUND, TRIED, UNROUTED, Mutant
from model.switching_steps import ack, carried_out, poll, write

# How many states there are: with fewer the check has become weaker. docs/protocol.md has their sum.
STATES = (31_438, 58_268, 28_856, 26_118, 5_539, 27_268, 25_465, 1_069, 24_531, 32_216)
ROOT = Path(__file__).resolve().parents[2]
MORE = int(os.environ.get("GENERATIONS", "0"))

explored = cache(explore)


def _name(value: object) -> str:
    return str(getattr(value, "name", value))


@pytest.mark.parametrize(("setting", "states"), list(zip(SOUND, STATES, strict=True)), ids=_name)
def test_no_reachable_state_breaks_a_promise(setting: Setting, states: int) -> None:
    result = explored(setting._replace(generations=setting.generations + MORE))
    assert result.violation is None, str(result)
    assert result.states == states or (MORE and result.states > states)


def test_the_design_says_how_much_is_explored() -> None:
    assert len(SOUND) == 10
    said = f"Ten settings have {sum(STATES):,} states, and each of {len(MUTANTS)} errors is caught by what it breaks"
    assert said in (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("setting", [*LONG, TRIED], ids=_name)
def test_no_reachable_state_of_more_at_once_breaks_a_promise(setting: Setting) -> None:
    result = explore(setting)
    assert result.violation is None, str(result)


@pytest.mark.parametrize("mutant", MUTANTS, ids=_name)
def test_every_error_is_caught(mutant: Mutant) -> None:
    result = explore(mutant.wrong_setting)
    assert result.violation is not None, str(result)
    assert result.violation.startswith(mutant.breaks), str(result)


def test_every_kind_of_step_is_taken() -> None:
    """An operator opens as a consumer's claim does, which is tried first."""
    kinds = {kind for setting in (BACK, ANYTHING, KEPT, UNROUTED, LIVES) for kind in explored(setting).kinds}
    operators = {"begin", "drain", "close", "carry", "flip", "soak", "lock", "retry", "keep", "give up"}
    lives = {"create", "attach", "end attach", "detach", "free", "drop"}
    assert kinds == operators | lives | {"look", "clock", "claim", "poll", "ack", "write", "let go"}


def test_an_exploration_is_the_same_every_time() -> None:
    first, again = explore(UNROUTED), explore(UNROUTED)
    assert (first.states, first.edges) == (again.states, again.edges)


# --- one way through, written out: what the explorer walks is what the design says


def _go(setting: Setting, state: State, wish: str, kinds: str) -> State:
    for kind in kinds.split(", "):
        request = next(request for request in wanted(setting, state, wish) if request[0] == kind)
        after = carried_out(setting, state, request)
        assert after is not None, request
        state = after
    return state


def _eat(setting: Setting, state: State, at: int, key: int) -> State:
    after = poll(setting, state, at, state.control.generation, key)
    assert after is not None
    return ack(setting, after, at, key) or after


def test_a_consumer_is_switched_while_the_new_engine_is_late() -> None:
    setting = Setting("by hand", late=(0, 2))
    state = _eat(setting, _eat(setting, first_state(setting), 0, 1), 0, 2)
    state = _go(setting, state, "switch", "begin, drain, close, carry, flip, open")
    source, target = state.groups
    assert (source.state, target.state) == (CLOSED, OPEN)
    assert (target.final, target.owed) == (1, 2), "what has no counterpart yet is owed"
    state = _eat(setting, write(state, TARGET, 2), TARGET, 2)
    assert state.by == (3, 0), "it was not delivered a second time"
    assert (state.groups[TARGET].final, state.groups[TARGET].owed) == (3, 0)
    state = _go(setting, state, "lock", "soak, lock")
    assert state.control.state == LOCKED and not wanted(setting, state, "roll back")


def test_what_the_target_has_finished_comes_back_with_the_consumer() -> None:
    setting = Setting("by hand")
    state = _go(setting, first_state(setting), "switch", "begin, close, carry, flip, open")
    state = _go(setting, _eat(setting, state, TARGET, 1), "roll back", "begin, close, carry, flip, open")
    assert [group.final for group in state.groups] == [1, 1]
    assert poll(setting, state, 0, state.control.generation, 1) is None
    assert poll(setting, state, TARGET, state.control.generation, 2) is None
    assert not state.wrong
