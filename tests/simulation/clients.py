"""Simulated clients: each is a process at a time, works through a program, and is told only what a real one is told.

Promises
- A client that died goes on in a new process, from what it was doing, and remembers nothing that it had not finished.
- Whatever may pass is tried again: with the operation key where the outcome is unknown, anew where nothing was written.
- What it is told goes to the ledger for the verdict and to the recorder for the models. An answer that the table of
  exit codes does not allow there, and any exception that is no `GrafctlError`, is an error of the history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from histories.recorder import Recorder

from grafctl import client, clock
from grafctl.errors import GrafctlError
from simulation.scheduler import Process

if TYPE_CHECKING:
    from simulation.history import History

LATER = frozenset({12, 21, 22, 23, 24})  # exit codes after which the same command may be typed again
TRIES_MAX = 8  # once nothing goes wrong any more
UNKNOWN = "unknown"


class Wrong(AssertionError):
    """An answer that nobody may get."""


class Refused(Exception):
    """A refusal that holds; the error is the cause."""

    def __init__(self, error: GrafctlError) -> None:
        super().__init__(f"{error.exit_code}: {error.message}")
        self.error = error


class Step(Protocol):
    """One thing that a client does, again after a crash."""

    def run(self, client: Client) -> None: ...


class Client:
    """One after the other of its processes does its program."""

    def __init__(self, history: History, name: str, program: Sequence[Step], *, is_short_lived: bool) -> None:
        self.history = history
        self.name = name
        self.lives = 0
        self.process = Process(name)
        self._program = list(program)
        self._is_short_lived = is_short_lived  # opens the store for each step, as a command does
        self._place = 0
        self._store: client.Store | None = None

    @property
    def random(self) -> Random:
        return self.history.scheduler.random

    @property
    def recorder(self) -> Recorder:
        return self.history.recorder

    @property
    def is_done(self) -> bool:
        return self._place == len(self._program)

    @property
    def doing(self) -> str:
        return "nothing" if self.is_done else str(self._program[self._place])

    def begin(self) -> None:
        """Starts the next of its processes."""
        self.lives += 1
        self.process = Process(f"{self.name}.{self.lives}")
        self._store = None
        self.history.scheduler.spawn(self.process, self.process.name, self._live)

    def _live(self) -> None:
        while not self.is_done:
            step = self._program[self._place]
            self.history.scheduler.note("begins", str(step))
            try:
                step.run(self)
            except Refused as refused:
                self.history.scheduler.note("refused", str(refused))
            self._place += 1
            if self._is_short_lived:
                self._close()
        self._close()

    @property
    def store(self) -> client.Store:
        if self._store is None:
            self._store = self.history.open(self.process)
        return self._store

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    # --- asking

    def ask(
        self, allowed: frozenset[int], do: Callable[[str | None], Any], *, missed: Callable[[], None] | None = None
    ) -> Any:
        """Returns what `do` answers, called again with the operation key (or None) for as long as it may pass.

        `missed` is told of each try of which nothing was written. Raises `Refused` for what holds.
        """
        operation: str | None = None
        tries = 0
        while True:
            try:
                return do(operation)
            except GrafctlError as error:
                self._check(error, allowed)
                if error.fields.get("outcome") == UNKNOWN:
                    operation = error.fields.get("operation", operation)
                elif operation is None and missed is not None:
                    missed()
                if error.exit_code not in LATER and not (error.exit_code == 25 and tries < TRIES_MAX):
                    raise Refused(error) from error
                if self.history.accidents.is_over:
                    tries += 1
                    if tries > TRIES_MAX:
                        raise Wrong(f"{self.name} cannot finish {self.doing}: {_told(error)}") from error
                self.history.scheduler.note(
                    "again", error.exit_code, error.fields.get("outcome"), error.fields.get("operation")
                )
            clock.sleep(5 * self.random.random() ** 2)

    def _check(self, error: GrafctlError, allowed: frozenset[int]) -> None:
        if error.exit_code in LATER or error.exit_code in allowed:
            return
        if error.exit_code == 25 and self.history.accidents.damaged:
            return
        raise Wrong(f"{self.name} was told at {self.doing}: {_told(error)}") from error


def _told(error: GrafctlError) -> str:
    return f"exit {error.exit_code} {error.fields}: {error.message}"
