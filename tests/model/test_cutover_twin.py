"""The product decides as the model does: in every state of small settings, every step of anybody is taken in both."""

from __future__ import annotations

from typing import Any

import pytest

from grafctl.store.requests import Context, Decision
from grafctl.store.resources import receiving
from model.cutover import Setting
from model.cutover_mutants import BACK, NO_B, THERE, UNDONE, A
from model.cutover_twin import difference

FORTH = Setting("two operators", THERE, (A,), 2)
SETTINGS = (
    (FORTH, 2_500),
    (Setting("cancelled and done again", UNDONE, (A, NO_B), 1, 2), 4_000),
    (Setting("back or retired", BACK, (A, NO_B), 1, 1, is_moved=True), 1_600),
)
LONG = (
    (Setting("two operators, cancelled and done again", UNDONE, (A,), 2, 2, 1), 8_000),
    (Setting("two operators, back or retired", BACK, (A,), 2, 1, is_moved=True), 6_000),
)


def _name(value: object) -> str:
    return str(getattr(value, "name", value))


@pytest.mark.parametrize(
    ("setting", "least"), [*SETTINGS, *(pytest.param(*case, marks=pytest.mark.slow) for case in LONG)], ids=_name
)
def test_the_product_does_in_every_state_what_the_model_does(setting: Setting, least: int) -> None:
    states, wrong = difference(setting)
    assert wrong is None, wrong
    assert states >= least


def test_a_difference_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = receiving.Open.decide

    def opens_never(request: receiving.Open, state: Any, context: Context) -> Decision:
        return right(request, state, context)._replace(meta=None)

    monkeypatch.setattr(receiving.Open, "decide", opens_never)
    _, wrong = difference(FORTH)
    assert wrong is not None and wrong.splitlines()[-1].strip().startswith("('open', 1")
