"""A Python function as a source: it returns an iterable of JSON values, each of which is a record.

Promises
- The function is called once a run, in the thread of the stage, and asked for a value only when the ones before it are
  on their way. What is no JSON is an item with a problem, as a bad line of a file is.
- Told to stop, it ends at the next value; a function that waits is waited for.

When it fails: an exception ends the source, and the stage (26), after the records before it. The next run begins with
the first value again, and the ids find what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from grafctl.errors import ExternalFailed, GrafctlError
from grafctl.expression import values
from grafctl.pipeline.model import DeclaredSource
from grafctl.pipeline.sources.item import Item, bad
from grafctl.pipeline.sources.naming import NO_NAMES, Naming
from grafctl.pipeline.transforms.calling import not_json

TOGETHER = 100


class Called:
    """The values that a function gives, as items."""

    def __init__(self, name: str, function: Callable[[], Iterable[Any]], source: DeclaredSource) -> None:
        self._name, self._function, self._naming = name, function, Naming(source)
        self._is_stopped = False

    def batches(self) -> Iterator[list[Item]]:
        """Yields items as they come together."""
        waiting: list[Item] = []
        try:
            for item in self._items():
                waiting.append(item)
                if len(waiting) == TOGETHER:
                    yield waiting
                    waiting = []
        except GrafctlError:
            if waiting:
                yield waiting
            raise
        if waiting:
            yield waiting

    def _items(self) -> Iterator[Item]:
        number = 0
        try:
            for number, value in enumerate(self._function(), 1):
                if self._is_stopped:
                    return
                yield self._item(value, f"{self._name}:{number}")
        except GeneratorExit:
            raise
        except (Exception, SystemExit) as error:
            raise ExternalFailed(
                f"The source {self._name} failed after {number:,} records: {type(error).__name__}.",
                hint="Mend it and run the same again; what was published stays.",
            ) from error

    def _item(self, value: Any, place: str) -> Item:
        if why := not_json(value):
            return bad(b"", place, f"It is {why}.")
        try:
            payload = values.encode(value)
            names = self._naming.of(value) if self._naming.is_needed else NO_NAMES
        except ValueError as error:
            return bad(b"", place, str(error))
        return Item(payload, *names, place, None)

    def stop(self) -> None:
        """Ends the items soon."""
        self._is_stopped = True

    def close(self) -> None:
        """Ends the items."""
        self._is_stopped = True
