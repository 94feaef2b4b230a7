"""The bytes of a journal: its records, the row that LMDB keeps of it, and the mark beside it.

Promises
- `decode_record` gives the changes of a whole record and None for a torn one; `record_size` knows one by generation,
  number and the checksum of the one before, before its bytes are looked at.
- The formats are those of `docs/format.md`.
"""

from __future__ import annotations

import os
import struct
from functools import lru_cache
from zlib import crc32

from grafctl import clock
from grafctl.errors import Damaged
from grafctl.typed import Iterator, Mapping

SECTOR = 512  # records share none, so that a torn write harms no older record

# magic, bytes, crc of all but these three, changes, generation, number, one that was durable, crc of the record before
_RECORD = struct.Struct("<IIIIQQQI4x")
RECORD_HEADER_BYTES = _RECORD.size
CHANGE_BYTES = 6
_CHANGE = struct.Struct("<HI")  # bytes of the key, bytes of the value
_ROW = struct.Struct("<QQI")  # generation, number of the last commit that LMDB holds, crc of both
_MARK = struct.Struct("<Q8sI")  # number, boot, crc of both
_MAGIC = 0x4A47524C
_BEGINNING = struct.pack("<I", _MAGIC)  # of a record
_DELETED = 0xFFFFFFFF

Changes = Mapping[bytes, bytes | None]  # a key without a value is deleted


def padded(size: int) -> int:
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
    size = padded(_RECORD.size + len(body))
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


def record_checksum(raw: bytes) -> int:
    """Returns the checksum of a record."""
    return int(_RECORD.unpack_from(raw)[2])


def record_points(head: bytes) -> tuple[int, int, int, int] | None:
    """Returns (bytes, generation, number, what was durable) of what begins like a record, or None."""
    if len(head) < _RECORD.size:
        return None
    magic, size, _, _, generation, number, durable, _ = _RECORD.unpack_from(head)
    return (size, generation, number, durable) if magic == _MAGIC else None


def beginnings(raw: bytes) -> Iterator[int]:
    """Yields where in some sectors records begin, or what looks like some."""
    at = raw.find(_BEGINNING)
    while at >= 0:
        if at % SECTOR == 0:
            yield at
        at = raw.find(_BEGINNING, at + 1)


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
def boot_id() -> bytes:
    """Returns eight bytes that differ from boot to boot; zeros where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return bytes.fromhex(file.read(36).decode().replace("-", ""))[:8]
    except (OSError, ValueError):
        return bytes(8)


def read_mark(fd: int) -> tuple[int, bool] | None:
    """Returns the number in the mark and whether this boot wrote it; None where it is torn or absent."""
    raw = os.pread(fd, _MARK.size, 0)
    if len(raw) < _MARK.size:
        return None
    number, boot, checksum = _MARK.unpack(raw)
    return (int(number), boot == boot_id() != bytes(8)) if crc32(raw[:16]) == checksum else None


def write_mark(fd: int, number: int) -> None:
    """Writes the mark without a flush: it is for the processes of this boot."""
    body = struct.pack("<Q8s", number, boot_id())
    os.pwrite(fd, body + struct.pack("<I", crc32(body)), 0)
