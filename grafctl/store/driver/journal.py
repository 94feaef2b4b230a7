"""The journal in front of a domain's LMDB file: small commits, each durable with one flush instead of two.

    0       record 1 | padding to 512
    512     record 2 | …
            up to the length of the file, which is written once, when the domain is made

A commit that fits is written here, into blocks that are on the disk already, and made durable by one `fdatasync`. The
write happens under the domain's outer lock and the flush after it: while one process waits for the disk the next
decides and writes, and one flush covers what several have written (group commit). What the journal holds lies over the
LMDB snapshot like a glass pane (`Overlay`). A commit that is large, or finds no room, goes to LMDB itself, in one
transaction with all that the journal holds; the row `JOURNAL_KEY`, changed in that same transaction, begins the next
generation, and with it every record of the last one means nothing any more. This is a redo log (compare ARIES, 1992).

Promises
- A record counts when its checksum holds, its generation is that of the LMDB snapshot beneath, and it follows the one
  before it by number and by checksum. So a torn record, or one of an earlier generation, is none, and so is everything
  that was written after it: also what a power loss kept of several records that nobody had flushed yet.
- Nothing is believed before it is durable: whoever sees a record that is not known to be on the disk, reader or writer,
  flushes the journal before the end of its block or the beginning of its view.
- Commits are numbered, over all generations. The mark carries the number of a late one that is durable, which saves
  that flush. A journal that lacks what the mark or a later record calls durable was damaged or is an older copy.
- What a dead writer left complete counts. A process that finds it when it opens the journal writes it again, because a
  flush that failed before may have been reported to the dead writer only.
- The generation is random, so that no payload can be made that passes for a record.

When it fails
    Killed before the write is complete: the record is torn, and the next writer overwrites it. Killed after it: it is
    there, once somebody has flushed it. After a power loss the mark is of an earlier boot, and every complete record
    counts: each was either acknowledged, or nobody knows its outcome.
"""

from __future__ import annotations

import os
import struct
import threading
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NoReturn
from zlib import crc32

from grafctl import clock
from grafctl.errors import Damaged, OutcomeUnknown

JOURNAL_KEY = b"\x01journal"
JOURNAL_BYTES = 512 << 10
DIRECT_BYTES = 64 << 10  # a larger commit goes to LMDB at once: its bytes cost more than the flush that is saved
SECTOR = 512  # records share none, so that a torn write harms no older record

# magic, bytes, crc of all but these three, changes, generation, number, one that was durable, crc of the record before
_RECORD = struct.Struct("<IIIIQQQI4x")
_CHANGE = struct.Struct("<HI")  # bytes of the key, bytes of the value
_ROW = struct.Struct("<QQI")  # generation, number of the last commit that LMDB holds, crc of both
_MARK = struct.Struct("<Q8sI")  # number, boot, crc of both
_MAGIC = 0x4A47524C
_DELETED = 0xFFFFFFFF
_READ_BYTES = 256 << 10

Changes = Mapping[bytes, bytes | None]  # a key without a value is deleted
Version = tuple[int, bytes | None, "Version | None"]  # number, value, the version before it


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
            self.checksum = _RECORD.unpack_from(raw)[2]
            self.number = number

    def span(self, start: bytes, stop: bytes, number: int) -> dict[bytes, bytes | None]:
        """Returns the rows of a range as commit `number` left them, in order of their keys."""
        with self._lock:
            names = self._names[bisect_left(self._names, start) : bisect_left(self._names, stop)]
        found: dict[bytes, bytes | None] = {}
        for key in names:
            version: Version | None = self.rows[key]
            while version is not None and version[0] > number:
                version = version[2]
            if version is not None:
                found[key] = version[1]
        return found

    def newest(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Yields every row as the last commit left it, in order of their keys."""
        for key in self._names:
            yield key, self.rows[key][1]


class _Ended(dict[bytes, Version]):
    """Stands for the rows of a block that is over."""

    def get(self, *_: object) -> NoReturn:
        raise AssertionError("this block is over")


def ended() -> Overlay:
    """Returns an overlay that nothing can be read from."""
    overlay = Overlay(0, 0, 0)
    overlay.rows = _Ended()
    return overlay


class Journal:
    """One process's hold on a domain's journal and its mark."""

    __slots__ = ("_domain", "_doubtful", "_fd", "_is_settled", "_lock", "_mark_fd", "durable", "overlay", "size")

    def __init__(self, domain: str, fd: int, mark_fd: int) -> None:
        self._domain, self._fd, self._mark_fd = domain, fd, mark_fd
        self._lock = threading.Lock()
        self._is_settled = False
        # Records that were there when this process opened the journal, and may have failed to be flushed before.
        self._doubtful: list[tuple[int, int, bytes]] = []
        self.size = os.fstat(fd).st_size
        self.overlay: Overlay | None = None
        self.durable = -1  # the number of a commit that this process knows to be on the disk

    def marked(self) -> int | None:
        """Returns the number of a late commit that is durable, or None where this boot knows of none."""
        number = read_mark(self._mark_fd)
        if number is not None and number > self.durable:
            self.durable = number
        return number

    def snapshot(self, base: int, row: Callable[[], bytes], marked: int | None) -> Overlay | None:
        """Returns what lies over the LMDB snapshot `base`, at least as new as `marked`; None where another is needed.

        `row` reads JOURNAL_KEY from that snapshot.
        """
        overlay = self.overlay
        if overlay is None or overlay.base != base or self._follows(overlay):
            with self._lock:
                overlay = self._over(base, row)
                if overlay is None:
                    return None
                self._take_in(overlay, marked)
                self.overlay = overlay
        return overlay if marked is None or overlay.number >= marked else None

    def _over(self, base: int, row: Callable[[], bytes]) -> Overlay | None:
        overlay = self.overlay
        if overlay is None or overlay.base < base:
            return Overlay(base, *decode_row(self._domain, row()))
        return overlay if overlay.base == base else None

    def _follows(self, overlay: Overlay) -> int:
        """Returns the size of the record after what the overlay holds, 0 where there is none."""
        head = os.pread(self._fd, _RECORD.size, overlay.position)
        return record_size(head, overlay.generation, overlay.number + 1, overlay.checksum)

    def settle(self, overlay: Overlay, marked: int | None) -> None:
        """Takes in what others wrote; the caller holds the outer lock. Raises `Damaged` or `OutcomeUnknown`."""
        if self._is_settled and not self._follows(overlay) and marked is not None and overlay.number >= marked:
            return
        with self._lock:
            self._take_in(overlay, marked)
        if marked is not None and overlay.number < marked:
            raise self.lacks(marked, overlay.number)
        for generation, position, raw in self._doubtful:
            if generation == overlay.generation:
                self._write(raw, position)
                self.durable = -1 if marked is None else marked
        self._doubtful.clear()
        self._is_settled = True

    def _take_in(self, overlay: Overlay, marked: int | None) -> None:
        for raw, number, changes in self._records(overlay):
            if not self._is_settled and (marked is None or number > marked):
                self._doubtful.append((overlay.generation, overlay.position, raw))
            overlay.add(number, changes, raw)
        if marked is None:
            self._check_end(overlay)

    def _check_end(self, overlay: Overlay) -> None:
        """Raises `Damaged` where a later record says that one was durable which is not there."""
        for position in range(overlay.position + SECTOR, self.size, SECTOR):
            head = os.pread(self._fd, _RECORD.size, position)
            if len(head) < _RECORD.size:
                return
            magic, size, _, _, generation, number, durable, _ = _RECORD.unpack(head)
            if (
                magic != _MAGIC
                or generation != overlay.generation
                or durable <= overlay.number
                or position + size > self.size
            ):
                continue
            if decode_record(os.pread(self._fd, size, position)) is not None:
                why = f"the journal is broken at {overlay.position}: commit {number} came after {durable}"
                raise Damaged(self._domain, why)

    def lacks(self, number: int, found: int) -> Damaged:
        """Returns what to say of files that end before a commit that was finished."""
        why = f"an older copy was put back: its last commit is {found}, and {number} was seen on this host"
        return Damaged(self._domain, why)

    def has_room(self, overlay: Overlay, changes: Changes) -> bool:
        """Returns whether a commit is small, and fits."""
        size = sum(len(key) + len(value or b"") + _CHANGE.size for key, value in changes.items()) + _RECORD.size
        return size <= DIRECT_BYTES and overlay.position + _padded(size) <= self.size

    def append(self, overlay: Overlay, changes: Changes) -> None:
        """Writes a commit, which is durable after `finish`; raises `OutcomeUnknown`."""
        number = overlay.number + 1
        raw = encode_record(overlay.generation, number, changes, max(0, self.durable), overlay.checksum)
        self._write(raw, overlay.position)
        overlay.add(number, changes, raw)

    def _write(self, raw: bytes, position: int) -> None:
        try:
            written = os.pwrite(self._fd, raw, position)
        except OSError as error:
            raise OutcomeUnknown(self._domain, f"the journal: {error.strerror}") from error
        if written != len(raw):
            raise OutcomeUnknown(self._domain, f"the journal took {written} of {len(raw)} bytes")

    def flush(self, overlay: Overlay) -> None:
        """Makes durable what the overlay holds; raises `OutcomeUnknown`.

        Whoever wrote a later record wrote it after ours, so a flush of theirs covers ours.
        """
        number = overlay.number
        if self.durable >= number:
            return
        marked = self.marked()
        if marked is not None and marked >= number:
            return
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise OutcomeUnknown(self._domain, f"the journal: {error.strerror}") from error
        self.durable = max(self.durable, number)

    def mark(self) -> None:
        """Tells every process what is durable, as far as this one knows.

        Of two processes the later may write the lower number. That costs a reader a flush, and nothing else.
        """
        try:
            write_mark(self._mark_fd, self.durable)
        except OSError:
            pass  # on a full disk, say: the record is durable, so this must not become its outcome

    def renew(self, base: int, generation: int, number: int) -> None:
        """Begins a generation that lies over the LMDB commit `base`."""
        self.overlay = Overlay(base, generation, number)
        self.durable = max(self.durable, number)

    def _records(self, overlay: Overlay) -> Iterator[tuple[bytes, int, Changes]]:
        """Yields (bytes, number, changes) of each complete record after what the overlay holds."""
        position, number, checksum = overlay.position, overlay.number, overlay.checksum
        window, begin = b"", position
        while True:
            at = position - begin
            head = window[at : at + _RECORD.size] if window else os.pread(self._fd, _RECORD.size, position)
            size = record_size(head, overlay.generation, number + 1, checksum)
            if not size or position + size > self.size:
                return
            if position + size > begin + len(window):
                window, begin = os.pread(self._fd, max(size, _READ_BYTES), position), position
            raw = window[position - begin : position - begin + size]
            changes = decode_record(raw)
            if changes is None:
                return
            number += 1
            position += size
            checksum = _RECORD.unpack_from(raw)[2]
            yield raw, number, changes
            if len(window) - (position - begin) < _RECORD.size:
                window, begin = b"", position


def _padded(size: int) -> int:
    return (size + SECTOR - 1) // SECTOR * SECTOR


def new_generation() -> int:
    """Returns a random generation."""
    return int.from_bytes(clock.random_bytes(8), "little")


def encode_record(generation: int, number: int, changes: Changes, durable: int = 0, previous: int = 0) -> bytes:
    """Returns a record, padded to whole sectors."""
    parts: list[bytes] = []
    for key, value in changes.items():
        parts += (_CHANGE.pack(len(key), _DELETED if value is None else len(value)), key, value or b"")
    body = b"".join(parts)
    size = _padded(_RECORD.size + len(body))
    fields = (len(changes), generation, number, durable, previous)
    checksum = crc32(body, crc32(_RECORD.pack(0, 0, 0, *fields)[12:]))
    return (_RECORD.pack(_MAGIC, size, checksum, *fields) + body).ljust(size, b"\0")


def record_size(head: bytes, generation: int, number: int, previous: int = 0) -> int:
    """Returns the bytes of a record that begins like this, or 0 where it is not this one."""
    if len(head) < _RECORD.size:
        return 0
    magic, size, _, _, *found, _, its_previous = _RECORD.unpack_from(head)
    is_ours = magic == _MAGIC and found == [generation, number] and its_previous == previous
    return int(size) if is_ours and size >= _RECORD.size and size % SECTOR == 0 else 0


def decode_record(raw: bytes) -> Changes | None:
    """Returns the changes of a record, or None where it is torn."""
    _, size, checksum, count = _RECORD.unpack_from(raw)[:4]
    if len(raw) < size:
        return None
    changes: dict[bytes, bytes | None] = {}
    at = _RECORD.size
    try:
        for _ in range(count):
            key_bytes, value_bytes = _CHANGE.unpack_from(raw, at)
            at += _CHANGE.size + key_bytes
            key, value = raw[at - key_bytes : at], None
            if value_bytes != _DELETED:
                value = raw[at : at + value_bytes]
                at += value_bytes
            changes[key] = value
    except struct.error:
        return None
    return changes if at <= size and crc32(raw[12:at]) == checksum else None


def encode_row(generation: int, number: int) -> bytes:
    """Returns the value of JOURNAL_KEY."""
    body = struct.pack("<QQ", generation, number)
    return body + struct.pack("<I", crc32(body))


def decode_row(domain: str, row: bytes) -> tuple[int, int]:
    """Returns (generation, number) of the value of JOURNAL_KEY; raises `Damaged`."""
    if len(row) != _ROW.size:
        raise Damaged(domain, "data.mdb does not say which journal belongs to it")
    generation, number, checksum = _ROW.unpack(row)
    if crc32(row[:16]) != checksum:
        raise Damaged(domain, "the checksum of the journal's row is wrong")
    return generation, number


@lru_cache(maxsize=1)
def _boot() -> bytes:
    """Returns eight bytes that differ from boot to boot; zeros where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return bytes.fromhex(file.read(36).decode().replace("-", ""))[:8]
    except (OSError, ValueError):
        return bytes(8)


def read_mark(fd: int) -> int | None:
    """Returns the number in the mark; None where it is torn, absent or of another boot."""
    raw = os.pread(fd, _MARK.size, 0)
    if len(raw) < _MARK.size:
        return None
    number, boot, checksum = _MARK.unpack(raw)
    is_ours = boot == _boot() != bytes(8) and crc32(raw[:16]) == checksum
    return int(number) if is_ours else None


def write_mark(fd: int, number: int) -> None:
    """Writes the mark without a flush: it is for the processes of this boot."""
    body = struct.pack("<Q8s", number, _boot())
    os.pwrite(fd, body + struct.pack("<I", crc32(body)), 0)


def overlaid(
    rows: Iterable[tuple[bytes, bytes]], over: Mapping[bytes, bytes | None], *, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    """Yields the rows beneath and those that lie over them, in order; both are in that order already."""
    waiting = iter(over.items())
    key, value = next(waiting, (None, None))
    for below, old in rows:
        while key is not None and (key > below if reverse else key < below):
            if value is not None:
                yield key, value
            key, value = next(waiting, (None, None))
        if below not in over:
            yield below, old
    while key is not None:
        if value is not None:
            yield key, value
        key, value = next(waiting, (None, None))
