"""Whose environment it is, read from data.mdb without the engine: also where the rest of it is damaged or half filled.

Promises
- Only the meta pages and the pages on the way to the first row are looked at, nothing is written, and no byte in them,
  however wrong, ends the process or makes it wait.
- An identity that is returned stood in an identity row whose checksum is right.

When it fails: None, which says that it cannot be told.
"""

from __future__ import annotations

import os
import stat
import struct

from grafctl.errors import DriverError
from grafctl.store.driver.contract import Identity
from grafctl.store.driver.lmdb_files import DRIVER_NAME, IDENTITY_KEY, Files, decode_identity

_PAGE_SIZE = struct.Struct("=40x I")
_TREE = struct.Struct("=128x QQQ")  # of a meta page: root, last page, transaction
_PAGE = struct.Struct("=10x H 4x H")  # flags, place of the first node
_NODE = struct.Struct("=HHHH")  # low and high part of a number, flags or a third part, bytes of the key
_BRANCH, _LEAF, _LARGE = 1, 2, 1
_PAGE_BYTES_MAX, _DEPTH_MAX = 0x8000, 32


def identity_of(files: Files) -> Identity | None:
    """Returns the identity that an environment bears, or None where that cannot be told."""
    try:
        fd = os.open(files.data, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _found(fd) if stat.S_ISREG(os.fstat(fd).st_mode) else None
    except (OSError, struct.error, DriverError):
        return None
    finally:
        os.close(fd)


def _found(fd: int) -> Identity | None:
    (page_size,) = _PAGE_SIZE.unpack(os.pread(fd, _PAGE_SIZE.size, 0))
    if page_size > _PAGE_BYTES_MAX:
        return None
    metas = [_TREE.unpack(os.pread(fd, _TREE.size, at)) for at in (0, page_size)]
    root = max(metas, key=lambda meta: meta[2])[0]
    row = _first_row(fd, page_size, root)
    if row is None:
        return None
    driver, identity = decode_identity("", row)
    return identity if driver == DRIVER_NAME else None


def _first_row(fd: int, page_size: int, root: int) -> bytes | None:
    """Returns the value of the first row where that is the identity row, which sorts before all others."""
    number = root
    for _ in range(_DEPTH_MAX):
        page = os.pread(fd, page_size, number * page_size) if number < 1 << 40 else b""
        flags, at = _PAGE.unpack_from(page)
        low, high, third, key_bytes = _NODE.unpack_from(page, at)
        if flags & _BRANCH:
            number = low | high << 16 | third << 32
            continue
        start = at + _NODE.size + key_bytes
        is_identity = flags & _LEAF and not third & _LARGE and page[at + _NODE.size : start] == IDENTITY_KEY
        return page[start : start + (low | high << 16)] if is_identity else None
    return None
