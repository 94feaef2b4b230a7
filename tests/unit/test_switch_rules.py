"""The rules of switches, against tables that are written out, and what an operator may ask for."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from grafctl.errors import Busy, GenerationConflict, Usage
from grafctl.store import switch_rules as rules

MOVES = {
    ("source", "shadow"),
    ("source", "rolled_back"),
    ("shadow", "switched"),
    ("shadow", "rolled_back"),
    ("switched", "soaking"),
    ("switched", "rolled_back"),
    ("soaking", "locked"),
    ("soaking", "rolled_back"),
    ("rolled_back", "shadow"),
}


def a_row(state: str = "source", **fields: Any) -> dict[str, Any]:
    row = {"state": state, "phase": None, "wave": None, "soak_since_ms": None, "window_ms": 500, "generation": 3}
    return row | fields


def closing(to: str = "target", until_ms: int = 1_000) -> dict[str, Any]:
    return {"what": "closing", "to": to, "since_ms": 0, "until_ms": until_ms}


def test_a_state_follows_another_only_as_the_table_says() -> None:
    for before, after in product(rules.STATES, repeat=2):
        if (before, after) in MOVES:
            rules.check_move("x", before, after)
            continue
        with pytest.raises(GenerationConflict) as refused:
            rules.check_move("x", before, after)
        assert refused.value.fields["state"] == before and "consumer" in (refused.value.hint or "")
    with pytest.raises(GenerationConflict):
        rules.check_move("x", "shadow", "elsewhere")


@pytest.mark.parametrize("state", rules.STATES)
def test_in_flight_is_what_is_closing_switched_or_soaking(state: str) -> None:
    assert rules.in_flight(a_row(state)) == (state in ("switched", "soaking"))
    assert rules.in_flight(a_row(state, phase=closing()))
    assert not rules.in_flight(a_row("source", phase={"what": "attaching"}))


def test_one_is_in_flight_at_a_time_unless_a_wave_has_room() -> None:
    wave = {"name": "w", "at_once": 2}
    rules.pass_flight("a", {"a": a_row("soaking"), "b": a_row("locked"), "c": a_row("shadow")}, None)
    for found, mine in (
        ({"b": a_row("soaking")}, None),
        ({"b": a_row("shadow", phase=closing())}, None),
        ({"b": a_row("soaking")}, wave),
        ({"b": a_row("soaking", wave={"name": "v", "at_once": 9})}, wave),
        ({"b": a_row("soaking", wave=wave), "c": a_row("switched", wave=wave)}, wave),
        ({"b": a_row("soaking", wave=wave)}, None),
    ):
        with pytest.raises(Busy) as refused:
            rules.pass_flight("a", found, mine)
        assert refused.value.fields["in_flight"] == sorted(found)
    rules.pass_flight("a", {"b": a_row("soaking", wave=wave), "a": a_row("shadow")}, wave)


def test_a_closing_is_over_after_its_deadline_and_a_window_when_it_was_long_enough() -> None:
    row = a_row("shadow", phase=closing(until_ms=1_000))
    assert not rules.is_over(row, 1_000) and rules.is_over(row, 1_001)
    assert not rules.is_over(a_row("shadow"), 1_001)
    assert rules.is_closing(row, "target") and not rules.is_closing(row, "source")
    assert rules.left_ms(a_row(), 0) is None
    assert rules.left_ms(a_row("soaking", soak_since_ms=100), 599) == 1
    assert rules.left_ms(a_row("soaking", soak_since_ms=100), 9_000) == 0


@pytest.mark.parametrize(
    "given",
    [
        {"max_lag": -1},
        {"max_lag": True},
        {"max_lag": "1"},
        {"max_error_rate": 1.01},
        {"max_error_rate": -0.1},
        {"max_error_rate": float("nan")},
        {"max_error_rate": "0.5"},
        {"health_command": ""},
        {"health_command": "x" * 1025},
        {"health_command": "a\nb"},
        {"health_command": "  "},
        {"health_command": 'check "billing'},
        {"max_everything": 1},
    ],
)
def test_a_rule_that_is_none(given: dict[str, Any]) -> None:
    with pytest.raises(Usage):
        rules.check_rules(given)


def test_rules_that_were_named_are_kept_and_the_others_left_out() -> None:
    named = {"max_lag": 0, "max_error_rate": 0.01, "max_idle_ms": 5, "health_command": "true"}
    assert rules.check_rules(named | {"max_mismatches": None}) == named


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (rules.check_side, "target", "left"),
        (rules.check_window, 0, -1),
        (rules.check_window, 366 * 86_400_000, 366 * 86_400_000 + 1),
        (rules.check_window, 1, True),
        (rules.check_drain, 3_600_000, 3_600_001),
        (rules.check_risk, "high", "huge"),
    ],
)
def test_the_edges_of_what_is_asked_for(check: Any, good: Any, bad: Any) -> None:
    assert check(good) == good
    with pytest.raises(Usage):
        check(bad)
