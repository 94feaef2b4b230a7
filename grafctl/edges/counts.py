"""What the two ends of an edge have counted: a small file in the domain of the edge, which outlives its segments.

Each end has a cell of its own in it, and writes no other. Records are not counted one by one: the ends of the ring
count them, and a cell keeps what earlier segments had, so a record costs nothing here but every `FLUSH_MS` a write.

Promises
- Nothing here is a reason for a record to fail: a file that cannot be made or written is counted in memory only.
- A cell that is torn, or is not there, counts from 0 again, as a counter may that is watched.

When it fails: an end that was killed has lost what it counted since the last write, `FLUSH_MS` at most.
"""

from __future__ import annotations

import os
import struct
from binascii import crc32
from contextlib import suppress
from pathlib import Path

from grafctl.store.driver.private import open_file
from grafctl.store.files import make_folders
from grafctl.typed import Any, NamedTuple

FOLDER = "counts"
FLUSH_MS = 100
CELL_BYTES = 512
_CELL = struct.Struct("<4sB3xQQQQQQQQQ")
_MAGIC, _VERSION = b"GRFC", 1
WRITER_AT, READER_AT = 0, CELL_BYTES


class Counts(NamedTuple):
    """What one end has counted."""

    opened: int = 0  # how often it was opened
    moved: int = 0  # how often it found the edge in another segment
    relocated: int = 0  # how often it gave the edge that segment itself
    before: int = 0  # records of earlier generations
    generation: int = 0
    passed: int = 0  # records of this one, as far as it was told
    last_ms: int = 0  # when the last record passed
    last_generation: int = 0  # and of which generation that was
    dip_ms: int = 0  # the longest time between two records of different generations

    @property
    def restarts(self) -> int:
        return max(self.opened - 1, 0)

    def total(self, generation: int, end: int | None) -> int:
        """Returns how many records passed, where the ring of this generation says `end`."""
        if generation == self.generation:
            return self.before + max(self.passed, end or 0)
        return self.before + self.passed + (end or 0)

    def bound(self, generation: int) -> Counts:
        """Returns what is counted after the edge was found at a generation."""
        if generation == self.generation:
            return self
        moved = self.moved + (self.generation != 0)
        return self._replace(moved=moved, before=self.before + self.passed, generation=generation, passed=0)

    def counted(self, end: int, now_ms: int) -> Counts:
        """Returns what is counted after records passed, up to the number `end` of this generation."""
        dip_ms = self.dip_ms
        if self.last_generation not in (0, self.generation):
            dip_ms = max(dip_ms, now_ms - self.last_ms)
        return self._replace(passed=end, last_ms=now_ms, last_generation=self.generation, dip_ms=dip_ms)

    def encode(self) -> bytes:
        body = _CELL.pack(_MAGIC, _VERSION, *self)
        return (body + crc32(body).to_bytes(4, "little")).ljust(CELL_BYTES, b"\0")

    @staticmethod
    def decode(raw: bytes) -> Counts:
        """Returns what a cell says; nothing counted where it says nothing."""
        body, crc = raw[: _CELL.size], raw[_CELL.size : _CELL.size + 4]
        if len(raw) != CELL_BYTES or crc32(body).to_bytes(4, "little") != crc:
            return Counts()
        magic, version, *fields = _CELL.unpack(body)
        return Counts(*fields) if (magic, version) == (_MAGIC, _VERSION) else Counts()


class Counter:
    """The cell of one end that is open."""

    def __init__(self, place: str, edge: str, at: int) -> None:
        self._at, self._handle, self._flushed_ms = at, -1, 0
        self._waiting: tuple[int, int] | None = None  # how far it is and since when, not in `counts` yet
        self.counts = Counts()
        with suppress(OSError):
            make_folders(Path(place, FOLDER))
            self._handle = open_file(os.path.join(place, FOLDER, edge), os.O_RDWR | os.O_NONBLOCK)
            self.counts = Counts.decode(os.pread(self._handle, CELL_BYTES, at))
        self.counts = self.counts._replace(opened=self.counts.opened + 1)

    def bind(self, generation: int, *, relocated: bool = False) -> None:
        """Counts that the edge is at this generation."""
        self._settle()
        counts = self.counts.bound(generation)
        self.counts = counts._replace(relocated=counts.relocated + relocated)
        self.flush()

    def find(self, end: int) -> None:
        """Takes over what the ring says, where that is more: somebody died before it was counted."""
        self._settle()
        if end > self.counts.passed:
            self.counts = self.counts._replace(passed=end)

    def count(self, end: int, now_ms: int) -> None:
        """Counts that records up to the number `end` have passed."""
        self._waiting = (end, now_ms)
        if self.counts.last_generation != self.counts.generation or not 0 <= now_ms - self._flushed_ms < FLUSH_MS:
            self._flushed_ms = now_ms
            self.flush()

    def flush(self) -> None:
        """Writes the cell."""
        self._settle()
        if self._handle >= 0:
            with suppress(OSError):
                os.pwrite(self._handle, self.counts.encode(), self._at)

    def close(self) -> None:
        """Writes the cell for the last time."""
        self.flush()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _settle(self) -> None:
        if self._waiting is not None:
            self.counts, self._waiting = self.counts.counted(*self._waiting), None


def read(place: str, edge: str) -> tuple[Counts, Counts]:
    """Returns what the writer and the reader have counted."""
    raw = b""
    with suppress(OSError):
        handle = os.open(os.path.join(place, FOLDER, edge), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            raw = os.pread(handle, 2 * CELL_BYTES, 0)
        finally:
            os.close(handle)
    return Counts.decode(raw[:CELL_BYTES]), Counts.decode(raw[CELL_BYTES:])


def remove(place: str, edge: str) -> None:
    """Removes what was counted; what cannot be removed now counts on."""
    with suppress(OSError):
        os.unlink(os.path.join(place, FOLDER, edge))


def shown(ends: tuple[Counts, Counts], generation: int, head: int | None, tail: int | None) -> dict[str, Any]:
    """Returns what is shown of both."""
    writer, reader = ends
    return {
        "pushed": writer.total(generation, tail),
        "popped": reader.total(generation, head),
        "writer_restarts": writer.restarts,
        "reader_restarts": reader.restarts,
        "relocations": writer.relocated,
        "rebinds": reader.moved,
        "generation_changes": max(writer.moved, reader.moved),
        "longest_dip_ms": max(writer.dip_ms, reader.dip_ms),
    }
