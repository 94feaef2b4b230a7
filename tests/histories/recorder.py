"""What clients asked and were told, and when: the raw material of the linearizability checker.

Promises
- An operation that was begun and not ended is kept as pending: it may have taken effect at any time since, or never.
- One of which it is known that nothing was written is left out.
- A history can be written as JSON lines by several processes, each to a file of its own, and read back together
  (`load`), provided that their times are of one clock, as `time.monotonic` is on one machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

NEVER = float("inf")


@dataclass
class Operation:
    """One call: who asked what of which object, and the answer; `end` is infinite where there was none."""

    process: str
    model: str  # which model of the object judges it
    key: str  # which object
    name: str
    args: dict[str, Any] = field(default_factory=dict)
    start: float = 0.0
    end: float = NEVER
    result: Any = None

    @property
    def is_pending(self) -> bool:
        return self.end == NEVER


class Recorder:
    """Collects operations in the order in which they begin."""

    def __init__(self, now: Callable[[], float], sink: Callable[[Operation], None] | None = None) -> None:
        self.operations: list[Operation] = []
        self._now = now
        self._sink = sink

    def begin(self, process: str, model: str, key: str, name: str, **args: Any) -> Operation:
        """Notes that an operation begins; it is pending until `end` or `drop`."""
        operation = Operation(process, model, key, name, args, self._now())
        self.operations.append(operation)
        if self._sink is not None:
            self._sink(operation)
        return operation

    def now(self) -> float:
        return self._now()

    def add(self, process: str, model: str, key: str, name: str, start: float, result: Any, **args: Any) -> None:
        """Notes an operation that began at `start` and ends now, of which only the answer told what it was about."""
        operation = Operation(process, model, key, name, args, start)
        self.operations.append(operation)
        self.end(operation, result)

    def end(self, operation: Operation, result: Any) -> None:
        """Notes the answer."""
        operation.end, operation.result = self._now(), result
        if self._sink is not None:
            self._sink(operation)

    def drop(self, operation: Operation) -> None:
        """Notes that nothing was written."""
        operation.end, operation.result = self._now(), DROPPED
        self.operations.remove(operation)
        if self._sink is not None:
            self._sink(operation)


DROPPED = {"dropped": True}


@contextmanager
def recording(path: Path, now: Callable[[], float]) -> Iterator[Recorder]:
    """Yields a recorder that writes each beginning and each end as a line before the caller goes on.

    A process that is killed leaves its last operation pending, as it was.
    """
    with path.open("a", encoding="utf-8", buffering=1) as file:

        def write(operation: Operation) -> None:
            body = asdict(operation) | {"id": id(operation)}
            if operation.is_pending:
                del body["end"]
            file.write(json.dumps(body) + "\n")

        yield Recorder(now, write)


def load(paths: Iterable[Path]) -> list[Operation]:
    """Reads what several processes wrote; a last line that was cut by a kill is left out."""
    found: dict[tuple[str, int, float], Operation] = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n"):
                continue
            body = json.loads(line)
            key = (str(path), body.pop("id"), body["start"])
            found[key] = Operation(**body)
    return sorted(
        (operation for operation in found.values() if operation.result != DROPPED), key=lambda item: item.start
    )
