"""A program whose standard output is JSON Lines.

Promises
- Its lines are items as those of a file are. Where it ends with anything but 0, or is killed, that is an error after
  its last line (`ExternalFailed`), and a last line without an end is a problem then: nobody knows what was missing.
- It gets nothing on standard input. It is told to end when the source is told to stop, and killed where it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePath

from grafctl.errors import ExternalFailed
from grafctl.pipeline import children
from grafctl.pipeline.model import DeclaredSource
from grafctl.pipeline.sources.item import Item
from grafctl.pipeline.sources.reading import Reader, chunks, lines
from grafctl.pipeline.sources.stopping import Stop

_PAUSE_S = 0.02  # between two looks at whether a child that closed its output has ended


class Child:
    """The program of one source, while it runs."""

    def __init__(self, source: DeclaredSource, stop: Stop, folder: Path | None) -> None:
        self._who = f"Source {source.name}"
        self._name = PurePath(source.command[0]).name
        self._stop = stop
        self._process = children.start(source.command, self._who, folder=folder)

    def items(self, reader: Reader) -> Iterator[list[Item]]:
        """Yields the items of its lines; raises `ExternalFailed` after the last where it failed."""
        assert self._process.stdout is not None
        data = chunks(self._process.stdout.fileno(), self._name, self._stop)
        yield from reader.items(lines(data, self._ends_well), self._name)
        if not self._ends_well():
            raise ExternalFailed(
                f"{self._who}: the program {self._name} {children.how_ended(self._process.returncode)}.",
                hint="What it printed before was taken; what it says is on standard error.",
            )

    def _ends_well(self) -> bool:
        """Waits for the end of a program that has closed its output; raises `Stopped`."""
        while (code := self._process.poll()) is None:
            self._stop.pause(_PAUSE_S)
        return code == 0

    def terminate(self) -> None:
        """Tells the program to end; may be called in a signal handler."""
        children.terminate(self._process)

    def close(self) -> None:
        """Ends the program where it still runs."""
        children.end(self._process)
