"""Stages of a chain, stepped one at a time in an order of dice, while stages die and edges lose their segments.

A stage that dies leaves everything as it is between two of its steps: nothing is given back, and the file locks of its
process are gone. `tests/test_edges_pipeline.py` kills real processes in the middle of a step.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grafctl import clock
from grafctl.edges import segment
from grafctl.errors import GrafctlError
from grafctl.pipeline.running import Run
from grafctl.pipeline.stages.behind_edges import EdgeInput
from grafctl.pipeline.stages.reading import ReadingStage
from grafctl.store.checked import checked
from grafctl.store.resources.chains import ChainRow, chained
from pipeline.links import EDGES, STAGES
from pipeline.shop import Shop

STEPS_MAX = 20_000
VISIBILITY_MS, TERM_MS = 5_000, 30_000


class Storm:
    """One chain at work, with what befalls it."""

    def __init__(self, shop: Shop, dice: random.Random) -> None:
        self.shop, self.dice = shop, dice
        self.pipeline = shop.pipeline
        self.run_ = Run(shop.world.store, self.pipeline, "aws", visibility_ms=VISIBILITY_MS)
        self.stages: dict[str, Any] = dict.fromkeys(STAGES)
        self.deeds = 0

    def step(self, name: str) -> bool:
        """Does the next step of a stage, which is started where it is not at work; returns whether it did anything."""
        declared = next(stage for stage in self.pipeline.stages if stage.name == name)
        try:
            if self.stages[name] is None:
                self.stages[name] = self.run_.make(declared)
            return bool(self.stages[name].step())
        except GrafctlError as error:
            if not error.as_json()["retryable"]:
                raise
            return False

    def kill(self, name: str) -> None:
        """Lets a stage die: its locks go, and nothing else."""
        stage, self.stages[name] = self.stages[name], None
        if stage is not None:
            held: Any = stage._input if isinstance(stage, ReadingStage) else stage
            (held.work if isinstance(held, EdgeInput) else held._work).close()

    def lose(self, edge: str) -> None:
        """Takes the file of an edge's segment away."""
        place = self.shop.world.store.session.cluster.place("aws").where
        for found in Path(segment.path_of(place, "")).glob(f"{edge}.*"):
            found.unlink()

    def tear(self, edge: str) -> None:
        """Spoils a byte of a slot, which is found out when it is read."""
        place = self.shop.world.store.session.cluster.place("aws").where
        for found in Path(segment.path_of(place, "")).glob(f"{edge}.*"):
            with found.open("r+b") as handle:
                at = self.dice.randrange(2048, os.fstat(handle.fileno()).st_size)
                handle.seek(at)
                byte = handle.read(1)
                handle.seek(at)
                handle.write(bytes([byte[0] ^ 0xFF]))

    def release(self, edge: str) -> None:
        """Ends a lease as an operator may."""
        found = {row["lease"]: row for row in self.shop.world.store.leases.list().items}
        if edge in found and found[edge]["state"] == "held":
            self.shop.world.store.leases.release(edge, token=found[edge]["token"], domain="aws")

    def expire(self) -> None:
        """Lets the time go on by more than the term of an edge, so that each has lost its lease."""
        self.pass_time(TERM_MS + 1000)

    def pass_time(self, by_ms: int) -> None:
        now = int(os.environ.get(clock.OFFSET_VARIABLE, "0"))
        os.environ[clock.OFFSET_VARIABLE] = str(now + by_ms)

    def befall(self) -> None:
        """Lets one thing happen, or two at once."""
        for _ in range(self.dice.choice((1, 1, 1, 2))):
            deed: Callable[[], None] = self.dice.choice(
                [
                    lambda: self.kill(self.dice.choice(STAGES)),
                    lambda: self.kill(self.dice.choice(STAGES)),
                    lambda: self.lose(self.dice.choice(EDGES)),
                    lambda: self.tear(self.dice.choice(EDGES)),
                    lambda: self.release(self.dice.choice(EDGES)),
                    self.expire,
                ]
            )
            deed()
            self.deeds += 1

    def row(self) -> ChainRow | None:
        control = self.shop.world.store.session.control
        return checked(control, lambda state: chained(state, "shop/take", EDGES)).row

    def until(self, is_done: Callable[[], bool], *, deeds: int, check: Callable[[], None] = lambda: None) -> None:
        """Steps until it is done, with so many deeds on the way; `check` looks at what has to hold all the time."""
        quiet = 0
        for _ in range(STEPS_MAX):
            quiet = 0 if self.step(self.dice.choice(STAGES)) else quiet + 1
            if deeds and self.dice.random() < 0.06:
                self.befall()
                deeds -= 1
                check()
            if quiet > 40:
                self.pass_time(VISIBILITY_MS)  # what a stage that died has leased comes again, and no edge is lost
                quiet = 0
            if not deeds and is_done():
                return
        raise AssertionError(f"it does not come to an end: {self.row()}, {len(self.shop.rows())} rows")

    def close(self) -> None:
        for name in STAGES:
            self.kill(name)
