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

The end of the journal is a reserve. Others fold when they come to it; where LMDB has no room for that, a commit that
frees or protects something (an ack, a fence) goes there. Its blocks are on the disk, so a full disk takes them too.

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
    there, once somebody has flushed it. After a power loss the mark is of an earlier boot and may be behind: every
    complete record counts, since each was either acknowledged, or nobody knows its outcome, and who opens the journal
    looks behind what seems to be its end.
"""

from __future__ import annotations

import os
import threading

from grafctl.errors import Damaged, OutcomeUnknown
from grafctl.store.driver.journal_bytes import (
    CHANGE_BYTES,
    RECORD_HEADER_BYTES,
    SECTOR,
    Changes,
    beginnings,
    decode_record,
    decode_row,
    encode_record,
    padded,
    read_mark,
    record_checksum,
    record_points,
    record_size,
    write_mark,
)
from grafctl.store.driver.overlay import Overlay
from grafctl.typed import Callable, Iterator

JOURNAL_KEY = b"\x01journal"
ORDINARY_BYTES = 512 << 10
RESERVE_BYTES = 1 << 20
JOURNAL_BYTES = ORDINARY_BYTES + RESERVE_BYTES
DIRECT_BYTES = 64 << 10  # a larger commit goes to LMDB at once: its bytes cost more than the flush that is saved
_READ_BYTES = 256 << 10


class Journal:
    """One process's hold on a domain's journal and its mark."""

    __slots__ = (
        "_domain",
        "_doubtful",
        "_fd",
        "_is_end_known",
        "_is_settled",
        "_lock",
        "_mark_fd",
        "durable",
        "ordinary",
        "overlay",
        "size",
    )

    def __init__(self, domain: str, fd: int, mark_fd: int) -> None:
        self._domain, self._fd, self._mark_fd = domain, fd, mark_fd
        self._lock = threading.Lock()
        self._is_settled = False
        # Whether a mark of this boot was seen, or what looks like the end was looked behind, as after a power loss.
        self._is_end_known = False
        # Records that were there when this process opened the journal, and may have failed to be flushed before.
        self._doubtful: list[tuple[int, int, bytes]] = []
        self.size = os.fstat(fd).st_size
        self.ordinary = self.size - RESERVE_BYTES if self.size > RESERVE_BYTES else self.size
        self.overlay: Overlay | None = None
        self.durable = -1  # the number of a commit that this process knows to be on the disk

    def marked(self) -> int | None:
        """Returns the number of a late commit that is durable, or None where no mark says one."""
        found = read_mark(self._mark_fd)
        if found is None:
            return None
        number, is_of_this_boot = found
        self._is_end_known |= is_of_this_boot
        if number > self.durable:
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
        head = os.pread(self._fd, RECORD_HEADER_BYTES, overlay.position)
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
        if not self._is_end_known:
            self._check_end(overlay)
            self._is_end_known = True

    def _check_end(self, overlay: Overlay) -> None:
        """Raises `Damaged` where a later record says that one was durable which is not there."""
        for position, (size, generation, number, durable) in self._beginnings(overlay.position + SECTOR):
            if generation != overlay.generation or durable <= overlay.number or position + size > self.size:
                continue
            if decode_record(os.pread(self._fd, size, position)) is not None:
                why = f"the journal is broken at {overlay.position}: commit {number} came after {durable}"
                raise Damaged(self._domain, why)

    def _beginnings(self, start: int) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
        """Yields where from a sector on records begin, with their points."""
        for begin in range(start, self.size, _READ_BYTES):
            raw = os.pread(self._fd, min(_READ_BYTES, self.size - begin), begin)
            for at in beginnings(raw):
                points = record_points(raw[at : at + RECORD_HEADER_BYTES])
                if points is not None:
                    yield begin + at, points

    def lacks(self, number: int, found: int) -> Damaged:
        """Returns what to say of files that end before a commit that was finished."""
        why = f"its last commit is {found} and {number} was seen here: an older copy was put back, or the journal broke"
        return Damaged(self._domain, why)

    def has_room(self, overlay: Overlay, changes: Changes, *, reserved: bool = False) -> bool:
        """Returns whether a commit is small and fits, or fits at all where it may use the reserve."""
        size = RECORD_HEADER_BYTES
        for key, value in changes.items():
            size += len(key) + len(value or b"") + CHANGE_BYTES
            if size > self.size:
                return False
        if reserved:
            return overlay.position + padded(size) <= self.size
        return size <= DIRECT_BYTES and overlay.position + padded(size) <= self.ordinary

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

    def flush(self, overlay: Overlay) -> int:
        """Makes durable what the overlay holds now, and returns the number of its last commit; raises `OutcomeUnknown`.

        Whoever wrote a later record wrote it after ours, so a flush of theirs covers ours.
        """
        number = overlay.number  # once: another thread may add one meanwhile that is not flushed
        if self.durable >= number:
            return number
        marked = self.marked()
        if marked is not None and marked >= number:
            return number
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise OutcomeUnknown(self._domain, f"the journal: {error.strerror}") from error
        self.durable = max(self.durable, number)
        return number

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
            head = (
                window[at : at + RECORD_HEADER_BYTES] if window else os.pread(self._fd, RECORD_HEADER_BYTES, position)
            )
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
            checksum = record_checksum(raw)
            yield raw, number, changes
            if len(window) - (position - begin) < RECORD_HEADER_BYTES:
                window, begin = b"", position
