"""Stages that run as real processes while their consumers are switched to the new engine's output and back.

While each flip goes on, orders come, now at the one output first and now at the other, and the stage is killed at some
moment. In the end each order has one output and one row. `GRAFCTL_STAGE_ROUNDS` says how many times.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from conftest import Runner
from faults.switched_stages import Seen
from pipeline.switched import APART, FILE, NEW, OLD, STAGES, TEXTS, once, rows, tie, write

import grafctl
from grafctl.client import Store
from grafctl.errors import Busy
from running.plant import Plant, Role, running, wait_until

ROUNDS = int(os.environ.get("GRAFCTL_STAGE_ROUNDS", "1"))
ORDERS = 40  # that come with each flip
POINTS = ("stage.leased", "step.appended", "stage.committed", "sink.committed", "copy.after", "append.after")
NOW: dict[str, Any] = {"domain": "aws", "drain_ms": 200}


@contextmanager
def beside(store: Store, stage: str, side: str) -> Iterator[None]:
    """Switches a consumer beside the block; raises what the operator met."""
    met: list[BaseException] = []

    def turn() -> None:
        until_s = time.monotonic() + 60
        while True:
            try:
                if side == "target":
                    store.switches.switch(stage, "target", **NOW, compare_from="now")
                else:
                    store.switches.rollback(stage, **NOW)
                return
            except Busy as error:  # somebody who was killed holds a lock for a moment
                if time.monotonic() > until_s:
                    met.append(error)
                    return
            except BaseException as error:
                met.append(error)
                return

    thread = Thread(target=turn)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert not met, met


@dataclass
class Doomed(Role):
    """A stage of which every other process dies at a point of its step, and is started again in the other domain."""

    dice: random.Random = field(default_factory=random.Random)

    def start(self) -> None:
        kill = f"{self.dice.choice(POINTS)}:{self.dice.randrange(1, 5)}" if self.dice.random() < 0.5 else None
        self.process = self.plant.start(self.stage, self.domain, kill=kill)
        self.starts += 1

    def look(self) -> None:
        if self.process is not None and self.process.poll() == -signal.SIGKILL:
            self.kills += 1
            self.go_on()
        super().look()


@pytest.mark.parametrize("number", range(ROUNDS))
def test_killed_around_each_flip_every_order_has_its_effect_once(tmp_path: Path, seed: int, number: int) -> None:
    dice = random.Random(f"{seed} {number}")
    texts = TEXTS | (APART if dice.random() < 0.7 else {})
    tmp_path.joinpath("shop.toml").write_text(FILE.format(**texts))
    plant = Plant(Runner(tmp_path), "shop.toml")
    grafctl.apply(plant.store, tmp_path / "shop.toml")
    with grafctl.open(plant.store) as store:
        seen = Seen(tmp_path, store)
        for stage in STAGES:
            tie(store, stage)
        roles = [Doomed(plant, stage, ("aws", "gcp"), dice=dice) for stage in STAGES]
        count = 0

        def is_past(least: int) -> bool:
            return min(progress()) >= least

        def progress() -> tuple[int, int]:
            return len(seen.outputs()), len(seen.rows())

        def finished() -> list[int]:
            return [store.consumers.show(OLD, stage).body["ack_floor"] for stage in STAGES]

        with running(roles):
            for role, side in [(role, side) for role in roles for side in ("target", "source")]:
                with beside(store, role.stage, side):
                    for output in dice.sample((OLD, NEW), 2):
                        write(store, range(count, count + ORDERS), output)
                    time.sleep(dice.random() * 0.1)
                    role.move()
                count += ORDERS
                wait_until(roles, partial(is_past, count - ORDERS), progress)
            wait_until(roles, lambda: finished() == [count, count], lambda: (*finished(), *progress()))
            for role in roles:
                role.stop()
        assert all(role.kills >= 2 for role in roles)
        assert seen.outputs() == once(range(count)) and seen.rows() == rows(range(count))
        for stage in STAGES:
            row = store.switches.status(stage).fields()
            dead = [letter for output in (OLD, NEW) for letter in store.dead.list(output, stage).items]
            assert row["side"] == "source" and not dead
        assert not list(store.verify())
