"""SIGKILL at every named point of every command, in real processes; then the same command again, and the verdict.

The default run takes every third kill of each command in its home shape (of some, a smaller share), with each seed
another third, and every k-th of the other cases: other shapes, a domain away before or after (one for each command and
shape), a kill inside the recovery of a kill. `pytest -m slow tests/faults` takes all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import pytest

from faults.forks import points
from faults.sweeping import COMMANDS, PAIRS, Case, Sweep

# The default run takes every so many of a command's cases, beginning at another one in each shape.
HOME_STEP = 3  # single kills in the home shape, beginning where the seed says
PLAIN_STEP = 12  # single kills in a shape that is not the home of the command
COMPOUND_STEP = 600
SHOWN = 5


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    sweep = Sweep(tmp_path_factory.mktemp("sweep"))
    yield sweep
    sweep.close()


def run_all(sweep: Sweep, cases: Iterable[Case]) -> None:
    """Runs cases to the last; raises with the first few that failed."""
    failed, count = [], 0
    for case in cases:
        count += 1
        try:
            sweep.run(case)
        except AssertionError as error:
            failed.append(f"{case}: {error}")
    assert not failed, "\n".join(["", f"{len(failed)} of {count} cases:", *failed[:SHOWN]])
    assert count


def home(command: str) -> str:
    """Returns the shape in which every single kill is taken: three voters, where that can be."""
    shapes = COMMANDS[command].shapes
    return "three" if "three" in shapes else shapes[0]


def some(cases: list[Case], step: int, pair: tuple[str, str]) -> list[Case]:
    return cases[PAIRS.index(pair) % min(step, len(cases)) :: step]


@pytest.mark.parametrize(("command", "shape"), PAIRS)
def test_killed_at_every_point_the_same_command_finishes(sweep: Sweep, command: str, shape: str, seed: int) -> None:
    cases = sweep.plain(command, shape)
    if shape == home(command):
        run_all(sweep, cases[seed % HOME_STEP :: HOME_STEP * COMMANDS[command].share])
    else:
        run_all(sweep, some(cases, PLAIN_STEP, (command, shape)))


@pytest.mark.parametrize(("command", "shape"), PAIRS)
def test_with_a_domain_away_or_a_second_kill(sweep: Sweep, command: str, shape: str) -> None:
    pair = (command, shape)
    turn = PAIRS.index(pair) // 4  # because of four cases one has the domain away before and one after
    run_all(sweep, some(list(sweep.compound(command, shape, turn)), COMPOUND_STEP, pair))


@pytest.mark.slow
@pytest.mark.parametrize(("command", "shape"), PAIRS)
def test_the_whole_product(sweep: Sweep, command: str, shape: str) -> None:
    run_all(sweep, chain(sweep.plain(command, shape), sweep.compound(command, shape)))


FOUND = [  # killed twice before the first entry came, a copy kept entries of the log that it was to forget
    Case("domain repair --accept-loss", "witness1", (("learn.before", 2), ("repair.learnt", 1)), None)
]


@pytest.mark.parametrize("case", FOUND, ids=str)
def test_what_was_found_stays_mended(sweep: Sweep, case: Case) -> None:
    sweep.run(case)


# Swept in `test_edge_kills.py`, `test_switching_kills.py` and `test_wave_kills.py`.
ELSEWHERE = ("edge.", "segment.", "switching.", "comparing.", "wave.")


def test_no_point_of_the_source_is_left_out(sweep: Sweep) -> None:
    """A point that nothing reaches, or a command that reaches none, would be a sweep that proves nothing."""
    killed = {name: {case.kills[0][0] for case in sweep.plain(name, home(name))} for name in COMMANDS}
    here = {point for point in points() if not point.startswith(ELSEWHERE)}
    assert here == set().union(*killed.values())
    writes = {"driver.commit.before", "driver.commit.after"}
    assert {name for name, reached in killed.items() if not writes <= reached} == {"backup"}  # which only reads
