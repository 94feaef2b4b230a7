"""The product decides as the model of a switchover does: in every state of small settings, every step of anybody is
taken in both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from grafctl.store.requests import Context, Decision
from grafctl.store.resources import switched
from model.switching import Setting
from model.switching_mutants import BOTH
from model.switching_twin import difference

THERE = Setting("a late record", BOTH, 1, (0, 1), generations=3)
SETTINGS = (  # each with its number of states; docs/protocol.md has their sum
    (THERE, 2_158),
    (Setting("a late record, two operators", ("switch", "give up"), 1, (0, 1), 2, 2), 2_166),
    (Setting("two operators, and no record", (*BOTH, "lock"), 0, (0, 0), 2, 3), 3_856),
)
LONG = (  # these have so many at least
    (Setting("two operators, locked or taken back", (*BOTH, "lock", "give up"), 0, (0, 0), 2, 4), 26_000),
    (Setting("a late record, there and back", BOTH, 1, (1, 1), 1, 5), 20_000),
)


def _name(value: object) -> str:
    return str(getattr(value, "name", value))


@pytest.mark.parametrize(
    ("setting", "least"),
    [*SETTINGS, *(pytest.param(*case, marks=pytest.mark.slow) for case in LONG)],
    ids=_name,
)
def test_the_product_does_in_every_state_what_the_model_does(setting: Setting, least: int) -> None:
    states, wrong = difference(setting)
    assert wrong is None, wrong
    assert states == least or ((setting, least) in LONG and states > least)


def test_the_design_says_how_far_the_product_goes_along() -> None:
    said = f"taken through {sum(states for _, states in SETTINGS):,} of these states"
    assert said in (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")


def test_a_difference_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = switched.OpenGroup.decide

    def opens_never(request: switched.OpenGroup, state: Any, context: Context) -> Decision:
        return right(request, state, context)._replace(meta=None)

    monkeypatch.setattr(switched.OpenGroup, "decide", opens_never)
    _, wrong = difference(THERE)
    assert wrong is not None and wrong.splitlines()[-1].strip().startswith("open by")
