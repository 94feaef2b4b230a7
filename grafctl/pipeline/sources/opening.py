"""`open_source`: a declared source as items, one after another.

Promises
- A source that cannot begin (a file that is not there, a program that there is none of) is refused before anything is
  read. What becomes of it later comes after the items before it.
- Items come in the order of the files and of their lines. The first `start` of them are passed over, so that a reader
  who knows how many it has finished goes on where it was, as long as the files only grow.
- Told to stop, it ends at the next item, also where it waits for input, and leaves no program behind.
- Memory does not grow with the input.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Self

from grafctl.errors import Usage
from grafctl.pipeline.model import CSV, EXEC, DeclaredSource
from grafctl.pipeline.sources.child import Child
from grafctl.pipeline.sources.item import Item
from grafctl.pipeline.sources.jsonl import JsonLines
from grafctl.pipeline.sources.naming import Naming
from grafctl.pipeline.sources.reading import STANDARD_INPUT, check_file, chunks, lines, open_file
from grafctl.pipeline.sources.separated import Separated
from grafctl.pipeline.sources.stopping import Stop, Stopped


class Source:
    """An iterator of items; use it in a `with`, or close it."""

    def __init__(self, source: DeclaredSource, start: int, folder: Path | None) -> None:
        self._declared = source
        self._naming = Naming(source)
        for path in source.paths:
            check_file(path, source.name)
        self._stop = Stop()
        self._child: Child | None = None
        try:
            if source.kind == EXEC:
                self._child = Child(source, self._stop, folder)
        except BaseException:
            self._stop.close()
            raise
        self._batches = self._read(start)

    def batches(self) -> Iterator[list[Item]]:
        """Yields items as they come together, and an empty list before it waits for more."""
        try:
            for batch in self._batches:
                if self._stop.is_set:
                    return
                yield batch
        except Stopped:
            return

    def __iter__(self) -> Iterator[Item]:
        for batch in self.batches():
            for item in batch:
                if self._stop.is_set:
                    return
                yield item

    def stop(self) -> None:
        """Ends the items soon; may be called in a signal handler and in another thread."""
        self._stop.set()
        if self._child is not None:
            self._child.terminate()

    def close(self) -> None:
        """Ends the items and gives back what the source holds."""
        self._stop.set()
        if self._child is not None:
            self._child.close()
        self._batches.close()
        self._stop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, start: int) -> Generator[list[Item], None, None]:
        reader = (Separated if self._declared.kind == CSV else JsonLines)(self._naming, start)
        if self._child is not None:
            yield from self._child.items(reader)
            return
        short = Counter(path.name for path in self._declared.paths)
        for path in self._declared.paths:
            descriptor = open_file(path, self._declared.name)
            try:
                name = "stdin" if path == STANDARD_INPUT else path.name if short[path.name] == 1 else str(path)
                yield from reader.items(lines(chunks(descriptor, name, self._stop)), name)
            finally:
                os.close(descriptor)


def open_source(source: DeclaredSource, *, start: int = 0, folder: Path | None = None) -> Source:
    """Returns the items of a source from the one with this number on; raises `NotFound` and `Usage`.

    A program runs in `folder`, or where the caller is.
    """
    if start < 0:
        raise Usage(f"A source starts at item 0 or later, not at {start}.")
    return Source(source, start, folder)
