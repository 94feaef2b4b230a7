"""A stage at work on a log that its resources share: histories from seeds, and errors planted in the product that they
find.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from grafctl.store.operations import stepping
from grafctl.store.operations.stepping import Change
from simulation.accidents import RATES
from simulation.flow import begin_flow, play_flow
from simulation.history import SHAPES
from simulation.stores import prepare

CHUNKS, SEEDS_EACH = 4, 80
SEEDS = 400
Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_histories(chunk: int) -> None:
    counts = Counter[str]()
    for seed in range(chunk * SEEDS_EACH, (chunk + 1) * SEEDS_EACH):
        report = play_flow(seed)
        counts += report.counts
        assert report.failure is None, f"make simulate FLOW=1 SEED={seed}\n{report.failure}"
    missing = [kind for kind in RATES if not counts[kind]]
    assert not missing, f"nothing of this ever happened: {missing}"


def test_one_seed_is_one_history_step_for_step() -> None:
    assert [play_flow(seed).digest for seed in range(6)] == [play_flow(seed).digest for seed in range(6)]


# --- planted


def in_entries_of_their_own(patch: Patch) -> None:
    def step(session: Any, changes: Sequence[Change]) -> list[Any]:
        return [answer for change in changes for answer in stepping.Step(session, [change]).run()]

    patch.setattr("grafctl.pipeline.stages.transforming.step", step)


def finished_first(patch: Patch) -> None:
    def step(session: Any, changes: Sequence[Change]) -> list[Any]:
        others, last = stepping.Step(session, changes[:-1]), stepping.Step(session, changes[-1:])
        answers = last.run()
        return [*(others.run() if changes[:-1] else []), *answers]

    patch.setattr("grafctl.pipeline.stages.transforming.step", step)


def another_resource_is_written(patch: Patch) -> None:
    patch.setattr("grafctl.store.resources.several.placed", lambda writes, number: writes)


def another_resource_is_read(patch: Patch) -> None:
    patch.setattr("grafctl.store.resources.several.scoped", lambda state, number: state)


def a_block_is_all_of_its_entry(patch: Patch) -> None:
    patch.setattr("grafctl.store.reading.BlockRef.span", property(lambda self: slice(None)))


def a_block_begins_with_its_entry(patch: Patch) -> None:
    patch.setattr("grafctl.store.reading.BlockRef.span", property(lambda self: slice(0, self.bytes)))


MUTANTS: list[Callable[[Patch], None]] = [
    in_entries_of_their_own,
    finished_first,
    another_resource_is_written,
    another_resource_is_read,
    a_block_is_all_of_its_entry,
    a_block_begins_with_its_entry,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_planted_error_is_found(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    for shape in SHAPES:
        prepare(shape, begin_flow)  # the stores that histories begin with are made by the right code
    mutant(monkeypatch)
    for seed in range(SEEDS):
        if play_flow(seed).failure is not None:
            return
    pytest.fail(f"{mutant.__name__} survives {SEEDS} histories")
