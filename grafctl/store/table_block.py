"""The writes of one entry of a table, packed: what a put brings, and what a base copy brings.

    version 1, flags 1 (1: versions), count 4 | count x (vshard 2, deleted 1, key bytes 2, value bytes 4)
    | count x version 8, with flag 1 | keys | values

Numbers are big-endian. Of a put the versions follow from its entry; rows that are copied bring theirs.

Promises
- `unpack` reads what `pack` made, and raises `Corrupt` for anything else.
"""

from __future__ import annotations

import struct

from grafctl.errors import Corrupt
from grafctl.typed import NamedTuple, Sequence

VERSION = 1
VERSIONS = 1
_HEAD = struct.Struct(">BBI")
_WRITE = struct.Struct(">HBHI")
WRITE_BYTES = _WRITE.size + 8  # what a write takes beside its key and value


class Write(NamedTuple):
    """One write of a vshard; a value of None deletes the key."""

    vshard: int
    key: bytes
    value: bytes | None
    version: int = 0


def pack(writes: Sequence[Write], *, versions: bool = False) -> bytes:
    """Returns the bytes of these writes, in their order."""
    parts = [_HEAD.pack(VERSION, VERSIONS if versions else 0, len(writes))]
    parts += [_WRITE.pack(vshard, value is None, len(key), len(value or b"")) for vshard, key, value, _ in writes]
    if versions:
        parts.append(struct.pack(f">{len(writes)}Q", *(write.version for write in writes)))
    parts += [write.key for write in writes]
    parts += [write.value for write in writes if write.value is not None]
    return b"".join(parts)


def unpack(block: bytes, what: str) -> list[Write]:
    """Returns the writes of a block; raises `Corrupt`."""
    try:
        version, flags, count = _HEAD.unpack_from(block)
        if version != VERSION or flags & ~VERSIONS:
            raise ValueError
        at = _HEAD.size
        sizes = list(_WRITE.iter_unpack(block[at : at + count * _WRITE.size]))
        at += count * _WRITE.size
        versions: Sequence[int] = (0,) * count
        if flags & VERSIONS:
            versions = struct.unpack_from(f">{count}Q", block, at)
            at += 8 * count
        if len(sizes) != count:
            raise ValueError
        value_at = at + sum(key_bytes for _, _, key_bytes, _ in sizes)
        writes = []
        for (vshard, deleted, key_bytes, value_bytes), number in zip(sizes, versions, strict=True):
            key, value = block[at : at + key_bytes], block[value_at : value_at + value_bytes]
            writes.append(Write(vshard, key, None if deleted else value, number))
            at, value_at = at + key_bytes, value_at + value_bytes
        if value_at != len(block):
            raise ValueError
    except (struct.error, ValueError):
        raise Corrupt(f"{what} holds no writes of a table.", what=what) from None
    return writes
