"""SIGKILL at every point of each verb of a switch, and of a consumer that is given records by one; then the same verb
again, the way back, or nobody but the consumer. Every order is finished once, and at most one side is open.

SWITCH_KILLS=N takes N kills of each verb at moments drawn from all points that it passes, those of the commits too.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest

import grafctl.client as client
from faults.forks import Forks, Ran, points
from faults.switches import (
    HOUR_MS,
    NEW,
    OLD,
    PIECES,
    STAGES,
    VERBS,
    Orders,
    wrong_at_once,
    wrong_in_the_end,
)
from grafctl import clock
from grafctl.errors import Busy, GenerationConflict, NotFound

KILLS = int(os.environ.get("SWITCH_KILLS", "0"))
OTHERS = 3  # kills of each verb at points that every commit passes
AGAIN, BACK, NOBODY = "again", "back", "nobody"
TURNS = ("switch_target", "switch_back")
ENDINGS: dict[str, tuple[str, ...]] = {verb: (AGAIN, BACK, NOBODY) if verb in TURNS else (AGAIN,) for verb in VERBS} | {
    "switch_regress": (AGAIN, NOBODY)
}
OWN = ("switching.", "comparing.")
FEW = {"switch_compare": 2, "switch_soak": 3, "switch_regress": 3}  # kills at points that other verbs pass too
JUDGES = ("switch_compare", "switch_soak")  # what they keep is not told as a change
# A judgement that takes a consumer back says so; the next one, that it is back or on its way, which `rollback` ends.
ENDS = {"switch_regress": {19}}
LATER = {"switch_regress": {13, 19, 22}}
PAIRS = [(verb, ending) for verb, endings in ENDINGS.items() for ending in endings]


class Sweep:
    """Runs cases; knows which points each verb passes, because it has counted them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.forks = folder, Forks()
        self._stages: dict[str, Orders] = {}
        self._hits: dict[str, dict[str, int]] = {}
        self._count = 0

    def begin(self, verb: str) -> tuple[Path, Orders]:
        stage = VERBS[verb]
        os.environ[clock.OFFSET_VARIABLE] = "0"  # the case before has ended an hour later
        if stage not in self._stages:
            self._stages[stage] = STAGES[stage](self.folder / stage)
        self._count += 1
        store = self.folder / f"copy{self._count}"
        shutil.copytree(self.folder / stage, store)
        return store, deepcopy(self._stages[stage])

    def hits(self, verb: str) -> dict[str, int]:
        if verb not in self._hits:
            store, _ = self.begin(verb)
            ran = self.forks.run(verb, store, count=True, patch=PIECES)
            assert ran.exit in ENDS.get(verb, {0}), f"{verb}: {ran}"
            self._hits[verb] = ran.hits
            shutil.rmtree(store)
        return self._hits[verb]

    def kills(self, verb: str, chance: random.Random) -> list[tuple[str, int]]:
        """Returns where to kill a verb: at its own points, and some of the others."""
        hits = self.hits(verb)
        every = [(point, n) for point, count in sorted(hits.items()) for n in range(1, count + 1)]
        if KILLS:
            return chance.choices(every, k=KILLS)
        own = [kill for kill in every if kill[0].startswith(OWN)]
        others = [kill for kill in every if kill not in own]
        own = chance.sample(own, FEW.get(verb, len(own)))
        return own + chance.sample(others, min(OTHERS, len(others)))

    def another(self, verb: str, chance: random.Random) -> tuple[str, int]:
        """Returns where else to kill a verb: some points of commits it passes once more or less, as the clock goes."""
        return chance.choice([(point, n) for point, count in self.hits(verb).items() for n in range(1, count + 1)])

    def run(self, verb: str, kill: tuple[str, int], ending: str) -> bool:
        """Runs a case; returns whether the verb came to where it was to be killed."""
        store, orders = self.begin(verb)
        ran = self.forks.run(verb, store, kill={kill[0]: kill[1]}, patch=PIECES)
        if not ran.killed and not kill[0].startswith(OWN):
            assert ran.exit in ENDS.get(verb, {0}), f"it came to no kill: {ran}"
            shutil.rmtree(store)
            return False
        assert ran.killed, f"was not killed: {ran}"
        heard(orders, ran)
        os.environ[clock.OFFSET_VARIABLE] = "0"
        with client.open(store) as opened:
            wrong = list(wrong_at_once(opened))
            if orders.held is not None:
                orders.ack_held(opened)
        self.end(verb, store, ending, orders)
        os.environ[clock.OFFSET_VARIABLE] = str(HOUR_MS)
        with client.open(store) as opened:
            wrong += wrong_at_once(opened)
            finish(opened, orders)
            wrong += wrong_in_the_end(opened, orders, is_tied=verb != "switch_detach")
        assert not wrong, "\n".join(["", *wrong])
        shutil.rmtree(store)
        return True

    def end(self, verb: str, store: Path, ending: str, orders: Orders) -> None:
        if ending == AGAIN:
            ran = self.forks.run(verb, store, patch=PIECES)
            heard(orders, ran)
            gone = verb == "switch_detach" and ran.exit == NotFound.exit_code
            assert ran.exit in LATER.get(verb, {0}) or gone, f"again: {ran}"
            more = self.forks.run(verb, store, patch=PIECES)
            heard(orders, more)
            is_silent = verb in ("switch_detach", "switch_consume", "switch_regress", *JUDGES)
            expected = [[], [False]] if is_silent else [[False]]
            assert verb not in JUDGES or more.exit == 0, f"once more: {more}"
            assert more.of("changed") in expected, f"once more, and it changed something: {more}"
        elif ending == BACK:
            ran = self.forks.run("switch_back", store, patch=PIECES)
            assert ran.exit == 0, f"rolled back: {ran}"


def heard(orders: Orders, ran: Ran) -> None:
    """Takes in what a consumer said before it ended; of its last ack nobody knows where it was not answered."""
    tries, done = ran.of("begins"), ran.of("worked")
    for names in done:
        orders.done.update(names)
    for names in tries[len(done) :]:
        orders.tried.update(names)


def finish(opened: client.Store, orders: Orders) -> None:
    """Brings both outputs to their end, and the consumer to the end of them."""
    orders.write(opened, range(16), OLD)
    orders.write(opened, range(16), NEW)
    empty = 0
    while empty < 3:
        empty = 0 if orders.take(opened) else empty + 1


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, own_time: None) -> Iterator[Sweep]:
    sweep = Sweep(tmp_path_factory.mktemp("switching"))
    yield sweep
    sweep.forks.close()


@pytest.mark.parametrize(("verb", "ending"), PAIRS)
def test_killed_anywhere_every_order_is_finished_once(sweep: Sweep, seed: int, verb: str, ending: str) -> None:
    chance = random.Random(f"{seed} {verb} {ending}")
    failed, kills = [], sweep.kills(verb, chance)
    for kill in kills:
        try:
            while not sweep.run(verb, kill, ending):
                kill = sweep.another(verb, chance)
        except (AssertionError, Busy, GenerationConflict) as error:
            failed.append(f"{verb} killed at {kill}, then {ending}: {error}")
    print(f"{verb}, then {ending}: {len(kills)} kills, {len(failed)} wrong")
    assert not failed, "\n".join(["", f"{len(failed)} of {len(kills)} cases:", *failed[:5]])
    assert kills


def test_every_point_of_a_switch_is_killed_at(sweep: Sweep) -> None:
    own = {point for point in points() if point.startswith(OWN)}
    killed = {point for verb in VERBS for point in sweep.hits(verb)}
    assert own and own <= killed, f"no verb passes {own - killed}"
