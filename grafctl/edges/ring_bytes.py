"""The bytes of a ring in a segment: what is where, and how a wrong byte is noticed. Pure.

| at   | what                                                                                     |
|------|------------------------------------------------------------------------------------------|
| 0    | header: magic, version, kind, slots, bytes of a slot, token of the lease, boot, crc32    |
| 512  | head: the number of the next record to be taken, crc32                                   |
| 1024 | tail: the number that the next record gets, crc32                                        |
| 1536 | mark: zeros, or the segment is lost                                                      |
| 1792 | notice: how many began to end the lease, how many were done with that, crc32             |
| 2048 | slots: crc32, length, number, payload                                                    |

Numbers begin at 0 and are never used again; record n is in slot n modulo the number of slots, and one slot stays free.
Integers are little-endian. Every crc32 begins with that of the header, so nothing of another ring counts here.

Promises
- What is read is what was written, or `Lost` says what is wrong; there is no repair, because nothing in a segment is
  the only copy of anything that must last.

When it fails: `Lost`; nothing here can do anything else.
"""

from __future__ import annotations

import struct
from binascii import crc32
from functools import lru_cache

from grafctl.errors import Usage
from grafctl.typed import NamedTuple

MAGIC, VERSION = b"GRFR", 1
KINDS = ("memory", "block")
_HEADER = struct.Struct("<4sBBHIIQ8sI")
_CELL = struct.Struct("<QI")
_NOTICE = struct.Struct("<QQI")
_SLOT = struct.Struct("<IIQ")
HEAD_AT, TAIL_AT, MARK_AT, NOTICE_AT, SLOTS_AT = 512, 1024, 1536, 1792, 2048
MARK = b"lost" * 4
SLOT_HEAD_BYTES = _SLOT.size
SLOTS_MIN, SLOTS_MAX = 2, 1 << 20
U64_MAX = (1 << 64) - 1


class Lost(Exception):
    """The ring in a segment cannot be trusted; the text says what is wrong."""


class Layout(NamedTuple):
    """What a header says."""

    kind: str
    slots: int
    slot_bytes: int
    token: int
    boot: bytes  # of a ring that is not flushed: another boot has lost what was not on disk

    @property
    def capacity(self) -> int:
        return self.slots - 1

    @property
    def payload_bytes_max(self) -> int:
        return self.slot_bytes - SLOT_HEAD_BYTES

    @property
    def stop(self) -> int:
        """Returns where the last slot ends."""
        return SLOTS_AT + self.slots * self.slot_bytes

    @property
    def seed(self) -> int:
        """Returns what every crc32 of this ring begins with: that of its header.

        NB the crc32 of the header with its own crc32 behind it would be the same for every header.
        """
        return _seed(self)

    def encode(self) -> bytes:
        body = _HEADER.pack(
            MAGIC, VERSION, KINDS.index(self.kind), 0, self.slots, self.slot_bytes, self.token, self.boot, 0
        )[:-4]
        return body + crc32(body).to_bytes(4, "little")

    def slot_at(self, number: int) -> int:
        return SLOTS_AT + number % self.slots * self.slot_bytes


@lru_cache(maxsize=64)
def _seed(layout: Layout) -> int:
    return int.from_bytes(layout.encode()[-4:], "little")


class Notice(NamedTuple):
    """How many came to end the lease of a segment before its term is over, and how many of them are done."""

    begun: int
    done: int

    @property
    def is_pending(self) -> bool:
        """Returns whether somebody is at it, or died in the middle: the lease may end at any moment."""
        return self.begun != self.done


class Front(NamedTuple):
    """The two ends of a ring, and the notice in it."""

    layout: Layout
    head: int
    tail: int
    notice: Notice = Notice(0, 0)

    @property
    def used(self) -> int:
        return self.tail - self.head

    @property
    def room(self) -> int:
        return self.layout.capacity - self.used


def layout_of(kind: str, slots: int, size: int, token: int, boot: bytes) -> Layout:
    """Returns how a ring of so many slots lies in a segment of this size; raises `Usage`."""
    if type(slots) is not int or not SLOTS_MIN <= slots <= SLOTS_MAX:
        raise Usage(f"A ring has {SLOTS_MIN} to {SLOTS_MAX:,} slots, not {slots:,}.")
    slot_bytes = (size - SLOTS_AT) // slots // 8 * 8
    if slot_bytes <= SLOT_HEAD_BYTES:
        raise Usage(
            f"{slots:,} slots do not fit into a segment of {size:,} bytes.",
            hint=f"Take fewer slots, or a segment of {SLOTS_AT + slots * 1024:,} bytes for records of 1 kB.",
        )
    return Layout(kind, slots, slot_bytes, token, boot)


def encode_front(front: Front) -> bytes:
    """Returns everything before the slots."""
    made = bytearray(SLOTS_AT)
    header = front.layout.encode()
    made[: len(header)] = header
    for at, number in ((HEAD_AT, front.head), (TAIL_AT, front.tail)):
        made[at : at + _CELL.size] = encode_cell(front.layout, at, number)
    made[NOTICE_AT : NOTICE_AT + _NOTICE.size] = encode_notice(front.layout, front.notice)
    return bytes(made)


def encode_notice(layout: Layout, notice: Notice) -> bytes:
    """Returns the notice of a ring."""
    return _NOTICE.pack(*notice, crc32(_NOTICE.pack(*notice, 0), layout.seed))


def _decode_notice(raw: bytes, layout: Layout) -> Notice:
    begun, done, crc = _NOTICE.unpack_from(raw, NOTICE_AT)
    if crc != crc32(_NOTICE.pack(begun, done, 0), layout.seed) or raw[NOTICE_AT + _NOTICE.size : SLOTS_AT].strip(b"\0"):
        raise Lost("the checksum of its notice is wrong")
    return Notice(begun, done)


def encode_cell(layout: Layout, at: int, number: int) -> bytes:
    """Returns one end of a ring; where it stands is part of its checksum."""
    return _CELL.pack(number, _cell_crc(layout.seed, at, number))


def _cell_crc(seed: int, at: int, number: int) -> int:
    return crc32(at.to_bytes(4, "little") + number.to_bytes(8, "little"), seed)


def decode_front(raw: bytes, size: int, token: int, boot: bytes) -> Front:
    """Returns the ends of the ring of this token; raises `Lost`."""
    layout = _decode_header(raw, size, token, boot)
    if raw[MARK_AT:NOTICE_AT].strip(b"\0"):
        raise Lost("it was found to be torn before")
    return _decode_ends(raw, layout, _decode_notice(raw, layout))


def decode_front_again(raw: bytes, before: bytes, front: Front) -> Front | None:
    """Returns the same as `decode_front` where only the ends moved since `before`, which said `front`; else None."""
    if len(raw) != SLOTS_AT or raw[:HEAD_AT] != before[:HEAD_AT] or raw[MARK_AT:] != before[MARK_AT:]:
        return None
    return _decode_ends(raw, front.layout, front.notice)


def _decode_ends(raw: bytes, layout: Layout, notice: Notice) -> Front:
    seed = layout.seed
    head, tail = _decode_cell(raw, seed, HEAD_AT, "head"), _decode_cell(raw, seed, TAIL_AT, "tail")
    if not head <= tail <= head + layout.capacity:
        raise Lost(f"its head {head} and its tail {tail} do not belong together")
    return Front(layout, head, tail, notice)


def _decode_header(raw: bytes, size: int, token: int, boot: bytes) -> Layout:
    if len(raw) != SLOTS_AT:
        raise Lost("it is cut short")
    magic, version, kind, zero, slots, slot_bytes, of_token, of_boot, crc = _HEADER.unpack_from(raw)
    if crc != crc32(raw[: _HEADER.size - 4]) or magic != MAGIC or zero or raw[_HEADER.size : HEAD_AT].strip(b"\0"):
        raise Lost("it has no header of a ring")
    if version != VERSION or kind >= len(KINDS):
        raise Lost(f"it is of version {version}, which this grafctl does not know")
    layout = Layout(KINDS[kind], slots, slot_bytes, of_token, of_boot)
    if of_token != token:
        raise Lost(f"it is of the lease with token {of_token}")
    if slots < SLOTS_MIN or slot_bytes <= SLOT_HEAD_BYTES or layout.stop > size:
        raise Lost("its slots are not in it")
    if layout.kind == "memory" and of_boot != boot:
        raise Lost("this machine was started again, and it was not flushed")
    return layout


def _decode_cell(raw: bytes, seed: int, at: int, what: str) -> int:
    number, crc = _CELL.unpack_from(raw, at)
    if crc != _cell_crc(seed, at, number):
        raise Lost(f"the checksum of its {what} is wrong")
    return int(number)


def encode_slot(layout: Layout, number: int, payload: bytes) -> bytes:
    """Returns a record as it lies in its slot."""
    body = _SLOT.pack(0, len(payload), number)[4:] + payload
    return crc32(body, layout.seed).to_bytes(4, "little") + body


def decode_slot(layout: Layout, number: int, raw: bytes) -> bytes:
    """Returns the payload of a record from its slot; raises `Lost`."""
    where = f"slot {number % layout.slots}"
    if len(raw) != layout.slot_bytes:
        raise Lost(f"{where} is cut short")
    crc, length, of_number = _SLOT.unpack_from(raw)
    if length > layout.payload_bytes_max or crc != crc32(raw[4 : SLOT_HEAD_BYTES + length], layout.seed):
        raise Lost(f"the checksum of {where} is wrong")
    if of_number != number:
        raise Lost(f"{where} holds record {of_number} and not {number}")
    return raw[SLOT_HEAD_BYTES : SLOT_HEAD_BYTES + length]
