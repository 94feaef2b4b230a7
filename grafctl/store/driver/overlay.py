"""What a journal adds to one LMDB snapshot, with every version of every row, so that a view stays what it was.

Promises
- Adding a commit that is there already changes nothing.
- A range is seen as one commit left it, while other threads add later ones.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort

from grafctl.store.driver.journal_bytes import Changes, record_checksum
from grafctl.typed import TYPE_CHECKING, Iterable, Iterator, Mapping, NoReturn

if TYPE_CHECKING:
    Version = tuple[int, bytes | None, "Version | None"]  # number, value, the version before it


class Beneath:
    """Says of a row that it is as LMDB has it."""


BENEATH = Beneath()


class Overlay:
    """What the journal of one generation adds to one LMDB snapshot, with every version of every row."""

    __slots__ = ("_lock", "_names", "base", "checksum", "generation", "number", "position", "rows")

    def __init__(self, base: int, generation: int, number: int) -> None:
        self.base = base  # LMDB's transaction beneath
        self.generation = generation
        self.number = number  # of the last commit in it
        self.checksum = 0  # of its record
        self.position = 0  # where the next record goes
        self.rows: dict[bytes, Version] = {}
        self._names: list[bytes] = []  # the keys of `rows`, sorted
        self._lock = threading.Lock()

    def add(self, number: int, changes: Changes, raw: bytes) -> None:
        """Lays the commit of a record over the rest; what is there already stays."""
        with self._lock:
            if number <= self.number:
                return
            rows = self.rows
            for key, value in changes.items():
                older = rows.get(key)
                if older is None:
                    insort(self._names, key)
                rows[key] = (number, value, older)
            self.position += len(raw)
            self.checksum = record_checksum(raw)
            self.number = number

    def get(self, key: bytes, number: int) -> bytes | Beneath | None:
        """Returns a row as commit `number` left it, None where it was deleted, `BENEATH` where LMDB has it."""
        version = self.rows.get(key)
        while version is not None and version[0] > number:
            version = version[2]
        return BENEATH if version is None else version[1]

    def span(self, start: bytes, stop: bytes, number: int) -> dict[bytes, bytes | None]:
        """Returns what commits up to `number` left of a range, in order; None is a row that was deleted."""
        with self._lock:
            names = self._names[bisect_left(self._names, start) : bisect_left(self._names, stop)]
            if number >= self.number:
                rows = self.rows
                return {key: rows[key][1] for key in names}
        found = {key: self.get(key, number) for key in names}
        return {key: value for key, value in found.items() if not isinstance(value, Beneath)}

    def newest(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Yields every row as the last commit left it, in order of their keys."""
        for key in self._names:
            yield key, self.rows[key][1]


class _Ended(dict[bytes, "Version"]):
    """Stands for the rows of a block that is over."""

    def get(self, *_: object) -> NoReturn:
        raise AssertionError("this block is over")


def ended() -> Overlay:
    """Returns an overlay that nothing can be read from."""
    overlay = Overlay(0, 0, 0)
    overlay.rows = _Ended()
    return overlay


def overlaid(
    rows: Iterable[tuple[bytes, bytes]], over: Mapping[bytes, bytes | None], *, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    """Yields the rows beneath and those of `over` instead of them, in order; `over` has its keys in ascending order."""
    live = [(key, value) for key, value in over.items() if value is not None]
    if reverse:
        live.reverse()
    waiting = iter(live)
    first = next(waiting, None)
    for row in rows:
        below = row[0]
        while first is not None and (first[0] > below if reverse else first[0] < below):
            yield first
            first = next(waiting, None)
        if below not in over:
            yield row
    if first is not None:
        yield first
        yield from waiting
