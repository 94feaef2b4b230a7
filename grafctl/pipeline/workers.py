"""Several processes that run one pipeline in one domain, started and ended together.

Each is a `pipeline run` of its own; they share the work by leases, as processes in other domains do. A source is read
by the first of them only.

Promises
- Told to stop, each process ends as it does by itself. The first that fails ends the others; what it said is on
  standard error.
- None outlives this process, however that ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from grafctl import clock
from grafctl.errors import ExternalFailed
from grafctl.pipeline import children

LOOK_S = 0.05
ENDED_BY_US = (0, 130, 143)


class Workers:
    """The processes of one run; `stop` may be called in a signal handler."""

    def __init__(self, commands: Sequence[Sequence[str]]) -> None:
        self._commands = commands
        self._started: list[subprocess.Popen[bytes]] = []
        self.is_stopping = False

    def stop(self) -> None:
        self.is_stopping = True
        for child in self._started:
            children.terminate(child)

    def run(self, look: Callable[[], None]) -> list[dict[str, Any]]:
        """Runs all to their end and returns what each printed; raises `ExternalFailed` where one failed by itself."""
        try:
            for number, command in enumerate(self._commands):
                argv = [sys.executable, "-m", "grafctl", *command]
                stdin = subprocess.DEVNULL if number else 0
                self._started.append(children.start(argv, f"worker {number + 1}", stdin=stdin))
            while any(child.poll() is None for child in self._started):
                look()
                if self.is_stopping:
                    self.stop()  # also those that had not been started when the signal came
                self._check()
                clock.sleep(LOOK_S)
            self._check()
            return [_answer(child) for child in self._started]
        finally:
            for child in self._started:
                children.end(child)

    def _check(self) -> None:
        for number, child in enumerate(self._started):
            code = child.poll()
            if code and not (self.is_stopping and code in ENDED_BY_US):
                raise ExternalFailed(
                    f"Worker {number + 1} {children.how_ended(code)}; the others were stopped.",
                    hint=f"What it said is above; `grafctl explain {code}` says what an exit code means.",
                    worker=number + 1,
                    status=code,
                )


def _answer(child: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert child.stdout is not None
    lines = child.stdout.read().splitlines()
    found: dict[str, Any] = json.loads(lines[-1]) if lines else {"stages": []}
    return found


def together(answers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the counts of all processes by stage, in the order of the first that had it."""
    found: dict[str, dict[str, Any]] = {}
    for answer in answers:
        for row in answer["stages"]:
            total = found.setdefault(row["stage"], dict.fromkeys(row, 0) | {"kind": row["kind"]})
            for name, value in row.items():
                total[name] = value if isinstance(value, str) else total[name] + value
    return list(found.values())
