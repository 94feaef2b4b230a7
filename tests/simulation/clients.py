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

from histories.recorder import Operation, Recorder

from grafctl import client, clock
from grafctl.errors import GrafctlError
from simulation.scheduler import Process, Task

if TYPE_CHECKING:
    from simulation.history import History

LATER = frozenset({12, 21, 22, 23, 24})  # exit codes after which the same command may be typed again
TRIES_MAX = 8  # once nothing goes wrong any more
DAMAGED = 25
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


class Try:
    """One of several tries of the same thing, as it is recorded for the models."""

    def __init__(self, client: Client, operation: str | None) -> None:
        self.operation = operation  # the key of an earlier one whose outcome is unknown
        self.refusals: dict[int, str] = {}  # what a refusal says to the model, by exit code; others say nothing
        self.on_nothing: Callable[[], None] | None = None  # to be called where nothing was written
        self.is_done_before_the_answer = False
        self._client = client
        self._begun: list[Operation] = []
        self._start = client.recorder.now()

    def begins(self, model: str, key: str, name: str, **args: Any) -> None:
        """Notes what is about to be asked; without `ends` it stays pending where the outcome is unknown."""
        self._begun.append(self._client.recorder.begin(self._client.name, model, key, name, **args))

    def ends(self, result: Any) -> None:
        """Notes the answer to all of it."""
        for operation in self._begun:
            self._client.recorder.end(operation, result)

    def learns(self, model: str, key: str, name: str, result: Any, **args: Any) -> None:
        """Notes something of which only the answer told what it was about."""
        self._client.recorder.add(self._client.name, model, key, name, self._start, result, **args)

    def failed(self, error: GrafctlError, *, is_unknown: bool) -> None:
        if is_unknown or (self.is_done_before_the_answer and error.exit_code in (12, DAMAGED)):
            return
        for operation in self._begun:
            if error.exit_code in self.refusals:
                self._client.recorder.end(operation, self.refusals[error.exit_code])
            else:
                self._client.recorder.drop(operation)
        if self.operation is None and self.on_nothing is not None:
            self.on_nothing()


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

    def start(self, run: Callable[[], object]) -> Task:
        """Runs something in another thread of the same process."""
        return self.history.scheduler.spawn(self.process, f"{self.process.name}'", run)

    # --- asking

    def ask(self, allowed: frozenset[int], do: Callable[[Try], Any], *, may_give_up: bool = False) -> Any:
        """Returns what `do` answers, called again for as long as that may help; raises `Refused` for what holds.

        Where a domain is damaged for good, a step that needs that very domain may be given up.
        """
        operation: str | None = None
        tries = 0
        while True:
            one = Try(self, operation)
            try:
                return do(one)
            except GrafctlError as error:
                self._check(error, allowed)
                is_unknown = error.fields.get("outcome") == UNKNOWN
                one.failed(error, is_unknown=is_unknown)
                if is_unknown:
                    operation = error.fields.get("operation", operation)
                if error.exit_code not in LATER and error.exit_code != DAMAGED:
                    raise Refused(error) from error
                if self.history.accidents.is_over:
                    tries += 1
                    if tries > TRIES_MAX and may_give_up and self.history.accidents.damaged:
                        raise Refused(error) from error
                    if tries > TRIES_MAX:
                        raise Wrong(f"{self.name} cannot finish {self.doing}: {_told(error)}") from error
                self.history.scheduler.note(
                    "again", error.exit_code, error.fields.get("outcome"), error.fields.get("operation")
                )
            clock.sleep(5 * self.random.random() ** 2)

    def _check(self, error: GrafctlError, allowed: frozenset[int]) -> None:
        if error.exit_code in LATER or error.exit_code in allowed:
            return
        if error.exit_code == DAMAGED and self.history.accidents.damaged:
            return
        raise Wrong(f"{self.name} was told at {self.doing}: {_told(error)}") from error


def _told(error: GrafctlError) -> str:
    return f"exit {error.exit_code} {error.fields}: {error.message}"
