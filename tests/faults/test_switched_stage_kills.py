"""A stage is killed at each point of its step, and its consumer is brought to the other output, or back from there.

What it had begun has its effect once: it is finished, or it comes again from the other output and is found there.
SWITCH_KILLS=N takes N kills of each form at moments drawn from all points that a stage passes, those of commits too.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import grafctl.client as client
from faults.forks import Forks
from faults.switched_stages import FORMS, make, run, turn, wrong

KILLS = int(os.environ.get("SWITCH_KILLS", "0"))
OWN = ("stage.", "step.", "sink.")
SIDES = ("source", "target")
DEED = "faults.switched_stages:run_stage"


class Sweep:
    """Runs cases; knows which points each form passes, because it has counted them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.forks = folder, Forks()
        self._hits: dict[tuple[str, str], dict[str, int]] = {}
        self._count = 0

    def begin(self, form: str, side: str) -> Path:
        made = self.folder / f"{form} {side}"
        if not made.exists():
            make(made, form, side)
        self._count += 1
        return Path(shutil.copytree(made, self.folder / f"copy{self._count}"))

    def points(self, form: str, side: str) -> list[tuple[str, int]]:
        """Returns every point that a stage passes, with the number of the hit."""
        if (form, side) not in self._hits:
            ran = self.forks.run(DEED, self.begin(form, side) / "store", count=True, stage=FORMS[form][0])
            assert ran.exit == 0, f"{form}: {ran}"
            self._hits[form, side] = ran.hits
        return [(point, n) for point, hits in sorted(self._hits[form, side].items()) for n in range(1, hits + 1)]

    def kill(self, form: str, side: str, kill: tuple[str, int]) -> list[str]:
        """Kills a stage, turns its consumer to the other side, and lets another process do the rest."""
        folder, stage = self.begin(form, side), FORMS[form][0]
        ran = self.forks.run(DEED, folder / "store", kill=dict([kill]), stage=stage)
        assert ran.killed or (KILLS and ran.exit == 0), f"was not killed: {ran}"  # a late commit may not come twice
        with client.open(folder / "store") as opened:
            return self.end(opened, folder, form, side)

    def end(self, opened: client.Store, folder: Path, form: str, side: str) -> list[str]:
        stage = FORMS[form][0]
        for to in dict.fromkeys((SIDES[side == "source"], "source")):
            turn(opened, stage, to)
            run(opened, folder, stage)
        found = wrong(folder, form, opened)
        shutil.rmtree(folder)
        return found


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    sweep = Sweep(tmp_path_factory.mktemp("stages"))
    yield sweep
    sweep.forks.close()


@pytest.mark.parametrize("form", FORMS)
def test_a_stage_that_dies_around_a_flip_loses_nothing_and_does_nothing_twice(
    sweep: Sweep, seed: int, form: str
) -> None:
    chance = random.Random(f"{seed} {form}")
    side = chance.choice(SIDES)
    every = sweep.points(form, side)
    own = [kill for kill in every if kill[0].startswith(OWN) and kill[1] == 1]
    assert {"stage.leased", "sink.committed" if form == "rows" else "stage.committed"} <= dict(own).keys()
    kills = chance.choices(every, k=KILLS) if KILLS else own
    failed = [f"from the {side}, {kill}: {found}" for kill in kills if (found := sweep.kill(form, side, kill))]
    assert not failed, "\n".join(["", *failed[:5]])
