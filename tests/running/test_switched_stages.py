"""Stages that run as real processes while their consumers are switched to the new engine's output and back.

Orders come on all the while, now at the one output first and now at the other. Each flip meets a SIGKILL of the stage
at some moment around it. In the end each order has one output and one row. `GRAFCTL_STAGE_ROUNDS` says how many times
both are switched and brought back.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from conftest import Runner
from faults.switched_stages import Seen
from pipeline.switched import APART, FILE, NEW, OLD, TEXTS, once, rows, tie, write

import grafctl
from grafctl.client import Store
from grafctl.errors import Busy
from running.plant import Plant, Role, running, wait_until

ROUNDS = int(os.environ.get("GRAFCTL_STAGE_ROUNDS", "1"))
ORDERS = 12  # that come with each flip
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


@pytest.mark.parametrize("logs", ["one log", "several logs"])
def test_killed_around_each_flip_every_order_has_its_effect_once(tmp_path: Path, seed: int, logs: str) -> None:
    dice = random.Random(f"{seed} {logs}")
    tmp_path.joinpath("shop.toml").write_text(FILE.format(**TEXTS | (APART if logs == "several logs" else {})))
    plant = Plant(Runner(tmp_path), "shop.toml")
    grafctl.apply(plant.store, tmp_path / "shop.toml")
    with grafctl.open(plant.store) as store:
        seen = Seen(tmp_path, store)
        for stage in ("tidy", "load"):
            tie(store, stage)
        roles = [Role(plant, stage, ("aws", "gcp")) for stage in ("tidy", "load")]
        count = 0

        def is_past(least: int) -> bool:
            return min(progress()) >= least

        def progress() -> tuple[int, int]:
            return len(seen.outputs()), len(seen.rows())

        with running(roles):
            for _ in range(ROUNDS):
                for role in roles:
                    for side in ("target", "source"):
                        for output in dice.sample((OLD, NEW), 2):
                            write(store, range(count, count + ORDERS), output)
                            time.sleep(dice.random() * 0.1)
                        count += ORDERS
                        wait_until(roles, partial(is_past, count - ORDERS), progress)
                        with beside(store, role.stage, side):
                            time.sleep(dice.random() * 0.2)
                            role.move()
            wait_until(roles, partial(is_past, count), progress)
            for role in roles:
                role.stop()
        assert all(role.kills == 2 * ROUNDS for role in roles)
        assert seen.outputs() == once(range(count)) and seen.rows() == rows(range(count))
        for stage in ("tidy", "load"):
            row = store.switches.status(stage).fields()
            dead = [letter for output in (OLD, NEW) for letter in store.dead.list(output, stage).items]
            assert row["side"] == "source" and not dead
            assert store.consumers.show(OLD, stage).body["ack_floor"] == count
        assert not list(store.verify())
