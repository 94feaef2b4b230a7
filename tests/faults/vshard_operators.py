"""What the operators of a vshard storm do: move a vshard back and forth, and take over from one who died.

An operator opens the store once, says what each call came to, and knows two refusals that are no bug: a pause that did
not fit its budget, and a lock that was not to be had in time. Both keep the copy, and are answered by `resume`.
With `weather` it also knows those of domains that are away and of another operator who was quicker.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grafctl.client as client
from faults.deeds import Say
from faults.table_client import TABLE, WEATHER
from grafctl.errors import Busy, GenerationConflict, GrafctlError, PauseBudgetExceeded, ProofRequired

BUDGET_US = 500_000  # ten times what people take, for machines that do ten other things
REFUSALS = (PauseBudgetExceeded, Busy)
RIVALS = (GenerationConflict, ProofRequired)
LIMITS: dict[str, Any] = {"budget_us": BUDGET_US, "lock_wait_us": BUDGET_US}


class Operator:
    """Moves one vshard, and says what came of it."""

    def __init__(self, opened: client.Store, say: Say, vshard: int, sets: Sequence[Sequence[str]], domain: str) -> None:
        self.vshards, self.say, self.vshard, self.sets, self.domain = opened.vshards, say, vshard, sets, domain

    def shown(self) -> dict[str, Any]:
        return self.vshards.show(TABLE, self.vshard).body

    def migrate(self) -> None:
        """Moves the vshard to the set of domains in which it is not."""
        owner = set(self.shown()["owner"])
        target = next(domains for domains in self.sets if set(domains) != owner)
        self._said("migrated", self.vshards.migrate(TABLE, [self.vshard], to=target, domain=self.domain, **LIMITS))

    def reverse(self) -> None:
        self._said("reversed", self.vshards.reverse(TABLE, [self.vshard], domain=self.domain, **LIMITS))

    def resume(self, **limits: Any) -> None:
        self._said("resumed", self.vshards.resume(TABLE, [self.vshard], domain=self.domain, **limits))

    def cancel(self) -> None:
        self._said("cancelled", self.vshards.cancel(TABLE, [self.vshard], domain=self.domain))

    def retire(self) -> None:
        self._said("retired", self.vshards.retire(TABLE, [self.vshard], domain=self.domain))

    def _said(self, word: str, results: Any) -> None:
        (result,) = results
        self.say(**{word: [result.state, result.changed, result.pause_us, result.lag_at_cutover]})

    def finishing(self, step: Callable[[], None]) -> None:
        """Takes a step, and resumes it until it is done."""
        while True:
            try:
                step()
                return
            except REFUSALS as error:
                self.say(refused=error.code, why=error.message)
                step = self.resume

    def next_step(self, chance: random.Random) -> None:
        """Takes a step that the vshard's state allows; what an operator began who was killed is found there."""
        state = self.shown()["state"]
        if state == "idle":
            self.migrate()
        elif state == "completed":
            (self.reverse if chance.random() < 0.7 else self.retire)()
        elif state == "reversed":
            self.retire()
        elif state == "cancelled" or (state != "cutover" and chance.random() < 0.35):
            self.cancel()
        else:
            self.resume()


def there_and_back(
    store: Path, say: Say, vshard: int, sets: list[list[str]], domain: str, rounds: int
) -> None:  # fmt: skip
    """Migrates, brings back, and removes what is left of it there."""
    with client.open(store) as opened:
        operator = Operator(opened, say, vshard, sets, domain)
        for _ in range(rounds):
            operator.finishing(operator.migrate)
            operator.finishing(operator.reverse)
            operator.retire()


def wandering(
    store: Path, say: Say, vshard: int, sets: list[list[str]], domain: str, seed: int, calm: str,
) -> None:  # fmt: skip
    """Takes one step after the other until it is told to stop, whatever others do."""
    chance, until = random.Random(seed), Path(calm)
    with client.open(store) as opened:
        operator = Operator(opened, say, vshard, sets, domain)
        while not until.exists():
            try:
                operator.next_step(chance)
            except (*REFUSALS, *WEATHER, *RIVALS) as error:
                say(refused=error.code, why=error.message)
                time.sleep(0.01)


def one_step(store: Path, say: Say, step: str, vshard: int, sets: list[list[str]], domain: str, **limits: Any) -> None:
    """Takes one step, and says how it ended."""
    with client.open(store) as opened:
        operator = Operator(opened, say, vshard, sets, domain)
        try:
            getattr(operator, step)(**limits)
        except GrafctlError as error:
            say(ended=error.exit_code, why=error.message)
        else:
            say(ended=0)


def to_the_end(store: Path, say: Say, vshard: int, sets: list[list[str]], domain: str) -> None:
    """Resumes until there is nothing to resume."""
    with client.open(store) as opened:
        operator = Operator(opened, say, vshard, sets, domain)
        operator.finishing(operator.resume)
