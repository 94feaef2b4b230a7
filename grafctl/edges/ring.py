"""A ring in a segment as one process has it open: push at one end, take and finish at the other.

Promises
- Who pushes or takes has the ring for itself meanwhile (`flock`), so no half of a write is ever looked at, and what
  has died has given the ring back.
- A record counts from the moment its number is below the tail, which is written after it; of a `block` segment both
  are flushed, in this order, before the push returns. A `memory` segment is written and never flushed.
- A record that was taken and not finished is there again.
- What is torn is marked, so that the other side meets the loss as well.
- Who ends a lease before its time says so in its ring before that and after it (`begin_notice`, `end_notice`); a
  handle that `watch`es then raises `Noticed`, and its file removed is `Lost`, instead of using what is over.

The file is read and written, not mapped: one that is cut short under a map kills the process that touches it.

When it fails: `Lost`, or `Busy` where somebody has had the ring for too long. A process that dies leaves the record
whole or unpushed, and finished or there.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager, suppress

from grafctl import clock
from grafctl.edges.ring_bytes import (
    HEAD_AT,
    MARK,
    MARK_AT,
    NOTICE_AT,
    SLOTS_AT,
    TAIL_AT,
    Front,
    Layout,
    Lost,
    Notice,
    decode_front,
    decode_front_again,
    decode_slot,
    encode_cell,
    encode_front,
    encode_notice,
    encode_slot,
)
from grafctl.errors import Busy
from grafctl.store.driver.journal_bytes import boot_id
from grafctl.store.driver.kill import point
from grafctl.typed import TYPE_CHECKING, Iterator, Sequence

if TYPE_CHECKING:
    from types import TracebackType

LOCK_WAIT_S = 5.0
REMOVED = "its file was removed"


class Noticed(Exception):
    """Somebody ended the lease of this ring, or is about to, since its holder looked last."""


class Ring:
    """The segment of a lease, open for pushing and taking; use it as a context manager."""

    def __init__(self, path: str, size: int, token: int) -> None:
        self._size, self._token = size, token
        self._watched: Notice | None = None
        self._last: tuple[bytes, Front] | None = None  # what was read of the front, and what that says
        self._handle = -1
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            found = os.fstat(self._handle)
        except OSError as error:
            self.close()
            raise Lost(f"its file cannot be opened: {error.strerror}") from None
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            self.close()
            raise Lost("its file is not the one that was made")

    def __enter__(self) -> Ring:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    # --- what is done with a ring

    def format(self, layout: Layout) -> None:
        """Makes an empty ring, which nobody may know of yet; one that is there stays, because another made it."""
        with self._turn():
            raw = os.pread(self._handle, SLOTS_AT, 0)
            with suppress(Lost):
                if decode_front(raw, self._size, self._token, boot_id()).layout == layout:
                    return
            self._write(0, encode_front(Front(layout, 0, 0)))
            os.fdatasync(self._handle)

    def front(self) -> Front:
        """Returns both ends as they are now."""
        with self._turn():
            return self._front()

    def push(self, payloads: Sequence[bytes]) -> tuple[int, Front]:
        """Appends as many of these as there is room for; returns how many, and the ends after that."""
        with self._turn():
            front = self._front()
            count = min(len(payloads), front.room)
            if not count:
                return 0, front
            for number, payload in enumerate(payloads[:count], front.tail):
                self._write(front.layout.slot_at(number), encode_slot(front.layout, number, payload))
            self._flush(front)
            point("edge.slot")
            front = self._advance(front._replace(tail=front.tail + count), TAIL_AT)
            point("edge.tail")
            return count, front

    def take(self, most: int) -> tuple[list[bytes], Front]:
        """Returns the payloads of up to `most` records from the head on, and both ends; the records stay."""
        with self._turn():
            return self._take(most)

    def pop(self, most: int) -> tuple[list[bytes], Front]:
        """Does the same and takes them out; the ends are those of before."""
        with self._turn():
            payloads, front = self._take(most)
            if payloads:
                self._advance(front._replace(head=front.head + len(payloads)), HEAD_AT)
                point("edge.head")
            return payloads, front

    def _take(self, most: int) -> tuple[list[bytes], Front]:
        front = self._front()
        numbers = range(front.head, front.head + min(most, front.used))
        payloads = [self._record(front.layout, number) for number in numbers]
        point("edge.taken")
        return payloads, front

    def finish(self, start: int, stop: int) -> Front | None:
        """Takes the records from `start` to before `stop` out; returns None where the head is elsewhere by now."""
        with self._turn():
            front = self._front()
            if front.head != start or not start <= stop <= front.tail:
                return None
            front = self._advance(front._replace(head=stop), HEAD_AT)
            point("edge.head")
            return front

    def finished(self) -> tuple[bytes, Front] | None:
        """Returns the payload of the record that was taken out last, and both ends; None where none was.

        It is there yet, in the slot that stays free.
        """
        with self._turn():
            front = self._front()
            return (self._record(front.layout, front.head - 1), front) if front.head else None

    # --- the end of a lease before its time

    def look(self) -> Front:
        """Returns both ends and the notice, whether that is another one or not; a removed file is `Lost`."""
        with self._turn():
            return self._looked()

    def watch(self, notice: Notice) -> None:
        """Lets every later operation raise `Noticed` where there is another notice than this one."""
        self._watched = notice

    def begin_notice(self) -> None:
        """Says that somebody is about to end the lease."""
        self._count_notice(1, 0)

    def end_notice(self) -> None:
        """Says that this is done."""
        self._count_notice(0, 1)

    def _count_notice(self, begun: int, done: int) -> None:
        with self._turn():
            front = self._front()
            notice = Notice(front.notice.begun + begun, front.notice.done + done)
            self._write(NOTICE_AT, encode_notice(front.layout, notice))

    # --- the file

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self._lock()
        try:
            yield
        except OSError as error:
            raise Lost(f"its file cannot be used: {error.strerror}") from None
        finally:
            fcntl.flock(self._handle, fcntl.LOCK_UN)

    def _lock(self) -> None:
        until_s = clock.monotonic_s() + LOCK_WAIT_S
        pause_s = 0.0005
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if clock.monotonic_s() > until_s:
                    raise Busy("Somebody has had this edge for too long.", hint="Try again.") from None
                clock.sleep(pause_s)
                pause_s = min(pause_s * 2, 0.02)

    def _front(self) -> Front:
        if self._watched is None:
            return self._read_front()
        front = self._looked()
        if front.notice != self._watched:
            raise Noticed
        return front

    def _looked(self) -> Front:
        if not os.fstat(self._handle).st_nlink:
            raise Lost(REMOVED)
        return self._read_front()

    def _read_front(self) -> Front:
        raw = os.pread(self._handle, SLOTS_AT, 0)
        try:
            front = decode_front_again(raw, *self._last) if self._last is not None else None
            if front is None:
                front = decode_front(raw, self._size, self._token, boot_id())
        except Lost:
            self._mark()
            raise
        self._last = (raw, front)
        return front

    def _record(self, layout: Layout, number: int) -> bytes:
        try:
            return decode_slot(layout, number, os.pread(self._handle, layout.slot_bytes, layout.slot_at(number)))
        except Lost:
            self._mark()
            raise

    def _advance(self, front: Front, at: int) -> Front:
        self._write(at, encode_cell(front.layout, at, front.head if at == HEAD_AT else front.tail))
        self._flush(front)
        return front

    def _flush(self, front: Front) -> None:
        if front.layout.kind == "block":
            os.fdatasync(self._handle)

    def _mark(self) -> None:
        """Lets everybody see that the segment is lost; a ring that is none yet is left for its maker."""
        if os.pread(self._handle, 4, 0).strip(b"\0"):
            os.pwrite(self._handle, MARK, MARK_AT)

    def _write(self, at: int, data: bytes) -> None:
        while data:
            written = os.pwrite(self._handle, data, at)
            at, data = at + written, data[written:]
