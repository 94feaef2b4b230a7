"""One history: a store, clients, accidents, all drawn from one seed; at the end everything is healed and judged.

Promises
- The same seed gives the same history, step for step, in every process (`digest`).
- A history is good only where every client came to its end, nobody was told what he may not be told, the standard
  verdict holds, and each model agrees with what the clients were told.
"""

from __future__ import annotations

import hashlib
import traceback
from collections import Counter
from dataclasses import dataclass
from random import Random

from faults.stores import DOMAINS
from faults.verdict import judge
from histories.checker import check
from histories.models import MODELS
from histories.recorder import Recorder

from grafctl import client
from grafctl.results import Record
from grafctl.store.driver.faults import COMMIT_AFTER, FaultDriver
from simulation.accidents import SECOND_US, Accidents
from simulation.clients import Client, Step, Wrong
from simulation.programs import programs
from simulation.scheduler import Process, Scheduler, Task, simulated
from simulation.stores import Ground, ground

SHAPES = ("three", "three", "three", "two", "witness", "witness1")


@dataclass
class Report:
    """What came of one seed."""

    seed: int
    shape: str
    failure: str | None
    counts: Counter[str]
    digest: str
    trace: list[tuple[object, ...]]


class History:
    """The play of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.scheduler = Scheduler(seed)
        self.recorder = Recorder(self.now)
        self.commits = 0

    def now(self) -> float:
        return float(self.scheduler.steps)

    def play(self) -> Report:
        random = self.scheduler.random
        self.scheduler.switch = random.choice((0.05, 0.2, 0.5))
        shape = random.choice(SHAPES)
        with simulated(self.scheduler):
            self.ground = self.begin(shape)
            self.ledger = self.ground.ledger
            self.accidents = Accidents(self.scheduler, self.ground, DOMAINS, can_damage=shape == "three")
            drawn = self.draw(random, shape)
            self.clients = [
                Client(self, f"client-{number}", program, is_short_lived=random.random() < 0.4)
                for number, program in enumerate(drawn, start=1)
            ]
            failure = self._run() or self._judge()
        counts = self.accidents.counts
        counts["histories"] += 1
        counts["commits"] += self.commits
        counts["steps"] += self.scheduler.steps
        counts["calls in models"] += len(self.recorder.operations)
        return Report(self.seed, shape, failure, counts, self._digest(), self.scheduler.trace)

    def begin(self, shape: str) -> Ground:
        """Returns the store that the history begins with."""
        return ground(shape)

    def draw(self, random: Random, shape: str) -> list[list[Step]]:
        """Returns what each client is to do."""
        return programs(random, shape, may_remove=not self.accidents.can_damage)

    def judge(self, store: client.Store) -> None:
        """Raises `AssertionError` with what does not hold at the end."""
        judge(store, self.ledger, away=self.accidents.damaged)

    def _run(self) -> str | None:
        self.scheduler.on_end = self._ended
        self.scheduler.at(random_us(self.scheduler, 5, 90), self.accidents.heal)
        for one in self.clients:
            one.begin()
        self.scheduler.run()
        self.accidents.heal()
        left = [f"{one.name} never finished {one.doing}" for one in self.clients if not one.is_done]
        return self.scheduler.failure or "\n".join(left) or None

    def _ended(self, task: Task) -> None:
        """Lets a client that died go on in a new process after a while."""
        for one in self.clients:
            if one.process is task.process and task.name == task.process.name and not one.is_done:
                self.scheduler.at(self.scheduler.now_us + random_us(self.scheduler, 0.01, 5), one.begin)

    def _judge(self) -> str | None:
        wrong: list[str] = []

        def run() -> None:
            try:
                with self.open(judge_process) as store:
                    self.judge(store)
            except AssertionError:
                wrong.append(traceback.format_exc())

        judge_process = Process("judge")
        self.scheduler.on_end = None
        self.scheduler.spawn(judge_process, "judge", run)
        self.scheduler.run()
        unexplained = check(self.recorder.operations, MODELS)
        return self.scheduler.failure or "\n".join(wrong) or (str(unexplained) if unexplained else None)

    def place(self, group: str) -> str:
        """Returns a domain for a consumer, as somebody would choose it who knows which one is damaged."""
        if group.endswith("-d"):
            return "d"
        return self.scheduler.random.choice([name for name in ("a", "b") if name not in self.accidents.damaged])

    def delivered(self, record: Record) -> None:
        """Compares what a poll gave with what was acknowledged to whoever published it."""
        known = self.ledger.acked.get(record.offset)
        payload = record.payload.decode()
        if (known is not None and known != payload) or not self.ledger.tried[payload]:
            raise Wrong(f"offset {record.offset} was delivered as {payload!r} and acknowledged as {known!r}")

    def open(self, process: Process) -> client.Store:
        """Opens the store as a process does: its faults are its own, the bytes are everybody's."""
        return self.ground.open(FaultDriver(self.ground.driver, self.accidents.plan(process), schedule=self._step))

    def _step(self, domain: str, step: str) -> None:
        self.commits += step == COMMIT_AFTER
        self.scheduler.step(step, domain)

    def _digest(self) -> str:
        return hashlib.sha256(repr(self.scheduler.trace).encode()).hexdigest()


def random_us(scheduler: Scheduler, low_s: float, high_s: float) -> int:
    return round(scheduler.random.uniform(low_s, high_s) * SECOND_US)


def play(seed: int) -> Report:
    """Plays the history of a seed."""
    return History(seed).play()
