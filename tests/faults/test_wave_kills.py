"""SIGKILL of `consumer wave` at its own points and in the middle of each step of each consumer, while consumers poll
and engines write; then the same command again, also from another domain, and also killed.

All are locked in the end, each order is finished once by each consumer, and no more are in flight than was said.

SWITCH_KILLS=N takes N first kills at moments drawn from all points that a wave passes, those of the commits too.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import grafctl.client as client
from faults.forks import Forks, heard, points
from faults.rivals import NEW, OLD, World, every, write, wrong_now
from faults.switches import HOUR_MS, PIECES, wrong_at_once, wrong_in_the_end
from faults.waves import AT_ONCE, CONSUMERS, made
from grafctl import clock
from grafctl.store.operations.switching.work import all_rows
from grafctl.store.switch_rules import LOCKED

KILLS = int(os.environ.get("SWITCH_KILLS", "0"))
OWN_KILLS, STEPS, OTHERS = 2, 1, 1  # without it: at its own points, in the steps, and where every commit passes
RUN, CONSUME = "faults.waves:run_wave", "faults.rivals:consume"
PATCH = {**PIECES, "grafctl.nouns.wave_running.LOOK_S": 0.01}
WRITTEN, MORE = 9, 6  # orders that are there, and that come while it goes on
OWN, OF_STEPS = ("wave.",), ("switching.", "comparing.")
LOOK_S = 0.02  # between two looks at what nobody may ever see
Kill = tuple[str, int]


class Waves:
    """Runs cases; knows which points a wave passes when nothing goes wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.forks = folder, Forks()
        os.environ[clock.OFFSET_VARIABLE] = "0"
        self.first = made(folder / "first")
        self.count = 0
        world = self.begin()
        ran = self.forks.run(RUN, world.store, count=True, patch=PATCH, domain="a")
        assert ran.exit == 0, ran
        self.hits = ran.hits

    def begin(self) -> World:
        os.environ[clock.OFFSET_VARIABLE] = "0"
        self.count += 1
        store = self.folder / f"copy{self.count}"
        shutil.copytree(self.first.store, store)
        return replace(deepcopy(self.first), store=store)

    def kills(self, chance: random.Random) -> list[Kill]:
        """Returns where to kill a wave: at points of its own, within steps, and elsewhere."""
        kills = every(self.hits)
        steps = [kill for kill in kills if kill[0].startswith(OF_STEPS)]
        if KILLS:  # most points are those of commits, so half of it goes to the others
            own = [kill for kill in kills if kill[0].startswith(OWN)]
            return chance.choices(own + steps, k=KILLS // 2) + chance.choices(kills, k=KILLS - KILLS // 2)
        others = [kill for kill in kills if not kill[0].startswith((*OWN, *OF_STEPS))]
        own = [(point, chance.randint(1, n)) for point, n in sorted(self.hits.items()) if point.startswith(OWN)]
        return chance.sample(own, OWN_KILLS) + chance.sample(steps, STEPS) + chance.sample(others, OTHERS)

    def run(self, kill: Kill, chance: random.Random) -> tuple[int, list[str]]:
        """Runs a case; returns how often the wave was killed in it, and what did not hold."""
        world = self.begin()
        until, log = world.store / "until", world.store / "said"
        about: dict[str, Any] = {"groups": [*world.orders], "domain": chance.choice("ab"), "until": str(until)}
        consumer = self.forks.start(CONSUME, world.store, log, **about)
        second = chance.choice(every(self.hits)) if chance.random() < 0.5 else None
        died, wrong = 0, list[str]()
        for number, plan in enumerate((kill, second)):
            if plan is not None:
                killed, found = self.attempt(world, plan, "ab"[number], range(WRITTEN, WRITTEN + MORE))
                died, wrong = died + killed, wrong + found
        wrong += [f"was not killed at {kill}"] * (died == 0 and kill[0].startswith(OWN))
        with client.open(world.store) as opened:
            wrong += wrong_at_once(opened)
            for orders in world.orders.values():
                orders.ack_held(opened)
            write(world, opened, range(WRITTEN + MORE), OLD)
            write(world, opened, range(WRITTEN + MORE), NEW)
        wrong += self.ended(world, chance.choice("ab"))
        until.touch()
        ended = self.forks.ended(consumer, wait=True)
        wrong += [f"the consumer ended with {ended}"] * (ended != 0)
        wrong += self.heard(world, log) + self.finished(world)
        shutil.rmtree(world.store)
        return died, wrong

    def attempt(self, world: World, kill: Kill, domain: str, numbers: range) -> tuple[bool, list[str]]:
        """Runs the wave until it dies, while orders come; returns whether it did, and what did not hold meanwhile."""
        log, wrong, ended = world.store / f"wave-{domain}", list[str](), None
        pid = self.forks.start(RUN, world.store, log, kill=dict([kill]), patch=PATCH, domain=domain)
        with client.open(world.store) as opened:
            left = iter(numbers)
            while ended is None:
                wrong += wrong_now(opened, AT_ONCE)
                if (number := next(left, None)) is not None:
                    write(world, opened, range(number, number + 1), *((OLD, NEW) if number % 2 else (NEW, OLD)))
                ended = self.forks.ended(pid, wait=False)
                time.sleep(LOOK_S)
        wrong += [f"{word}" for word in heard(log) if "crash" in word or "error" in word]
        return ended == signal.SIGKILL, wrong

    def ended(self, world: World, domain: str) -> list[str]:
        """Runs the wave to its end, and once more; returns what is wrong with that."""
        wrong = []
        for changes in ([True, False], [False]):
            ran = self.forks.run(RUN, world.store, patch=PATCH, domain=domain)
            is_done = ran.exit == 0 and ran.of("standings") == [["locked"] * len(CONSUMERS)]
            if not is_done or ran.of("changed")[0] not in changes:
                wrong.append(f"again from {domain}: {ran}")
        return wrong

    def heard(self, world: World, log: Path) -> list[str]:
        """Takes in what the consumer said; returns what it should not have said."""
        words = heard(log)
        for word in words:
            if "worked" in word:
                world.orders[word["of"]].done.update(word["worked"])
        return [str(word) for word in words if "crash" in word or "error" in word]

    def finished(self, world: World) -> list[str]:
        """Brings the consumers to the end; returns what does not hold then."""
        os.environ[clock.OFFSET_VARIABLE] = str(HOUR_MS)
        with client.open(world.store) as opened:
            states = {name: row["state"] for name, row in all_rows(opened.session).items()}
            wrong = [f"{states}"] * (states != dict.fromkeys(CONSUMERS, LOCKED))
            for orders in world.orders.values():
                empty = 0
                while empty < 3:
                    empty = 0 if orders.take(opened) else empty + 1
                wrong += [f"{orders.name}: {what}" for what in wrong_in_the_end(opened, orders, is_tied=True)]
        return wrong


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory, own_time: None) -> Iterator[Waves]:
    waves = Waves(tmp_path_factory.mktemp("waves"))
    yield waves
    waves.forks.close()


def test_a_wave_killed_anywhere_is_brought_to_its_end(waves: Waves, seed: int) -> None:
    chance, wrong, died, cases = random.Random(seed), list[str](), 0, 0
    kills = waves.kills(chance)
    while kills:
        kill = kills.pop()
        more, found = waves.run(kill, chance)
        died, cases, wrong = died + more, cases + 1, wrong + [f"killed at {kill}: {what}" for what in found]
        if not more and not found:  # it passes some points once less, as consumers and the clock go
            kills.append(chance.choice(every(waves.hits)))
    print(f"consumer wave: {died} kills in {cases} cases, {len(wrong)} wrong")
    assert not wrong, "\n".join(["", f"{len(wrong)} in {cases} cases:", *wrong[:5]])
    assert died


def test_every_point_of_a_wave_is_passed_and_some_of_each_of_its_steps(waves: Waves) -> None:
    own = {point for point in points() if point.startswith(OWN)}
    assert own and own <= waves.hits.keys(), f"no wave passes {own - waves.hits.keys()}"
    steps = {"switching.attached", "comparing.kept", "switching.flipped", "switching.judged", "switching.let_go"}
    assert all(waves.hits[point] >= len(CONSUMERS) for point in steps), waves.hits
