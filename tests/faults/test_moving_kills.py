"""SIGKILL at every named point of a migration, its way back, and what ends it, in real processes that are written to.

The default run takes every point of `moving.…` of the verbs that begin something, and of the others, and of the points
that each commit passes, some that the seed chooses.
`pytest -m slow tests/faults` takes every single kill with every ending.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import pytest

from faults.moving_sweep import AGAIN, PAIRS, VERBS, MovingSweep
from faults.sweeping import Case

WHOLE = ("migrate", "reverse", "cancel", "retire")
OWN, OTHERS = 3, 2  # kills of the other verbs, and at points that every commit passes, with each ending
SHAPE = "three"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MovingSweep]:
    sweep = MovingSweep(tmp_path_factory.mktemp("moving"))
    yield sweep
    sweep.close()


def run_all(sweep: MovingSweep, cases: Iterable[Case], ending: str) -> None:
    failed, count = [], 0
    for case in cases:
        count += 1
        try:
            sweep.run_to(case, ending)
        except AssertionError as error:
            failed.append(f"{case}, then {ending}: {error}")
    assert not failed, "\n".join(["", f"{len(failed)} of {count} cases:", *failed[:5]])
    assert count


@pytest.mark.parametrize(("verb", "ending"), PAIRS)
def test_killed_anywhere_a_migration_goes_on_or_is_undone(
    sweep: MovingSweep, seed: int, verb: str, ending: str
) -> None:
    own = [case for case in sweep.plain(verb, SHAPE) if case.kills[0][0].startswith("moving.")]
    others = [case for case in sweep.plain(verb, SHAPE) if case not in own]
    chance = random.Random(f"{seed} {verb} {ending}")
    chosen = own if verb in WHOLE else chance.sample(own, min(OWN, len(own)))
    run_all(sweep, chosen + chance.sample(others, OTHERS), ending)


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "ending"), PAIRS)
def test_every_kill(sweep: MovingSweep, verb: str, ending: str) -> None:
    run_all(sweep, sweep.plain(verb, SHAPE), ending)


def test_every_point_of_a_migration_is_killed_at(sweep: MovingSweep) -> None:
    from faults.forks import points

    own = {point for point in points() if point.startswith("moving.")}
    killed = {case.kills[0][0] for verb in VERBS for case in sweep.plain(verb, SHAPE)}
    assert own and own <= killed, f"no verb passes {own - killed}"
    assert {ending for _, ending in PAIRS} > {AGAIN}
