"""The file of a journal as the tests find it, and as a power loss or a bad disk leaves it."""

from __future__ import annotations

import struct
from pathlib import Path
from zlib import crc32

from drivers.contract import IDENTITY
from grafctl.store.driver.journal_bytes import (
    read_mark,
)
from grafctl.store.driver.lmdb import LmdbDriver, LmdbEnvironment

EVERYTHING = (b"", b"\xff" * 8)


def file(path: Path) -> Path:
    return path / "env" / "journal"


def forget_boot(path: Path) -> None:
    """Leaves the mark as another boot left it, and some commits behind, which is what a power loss may do."""
    with (path / "writer.lock").open("r+b") as mark:
        found = read_mark(mark.fileno())
        body = struct.pack("<Q8s", max(0, found[0] - 10) if found else 0, b"\xee" * 8)
        mark.seek(0)
        mark.write(body + struct.pack("<I", crc32(body)))


def anew(path: Path) -> LmdbEnvironment:
    return LmdbDriver().open(path, IDENTITY)


def flip(path: Path, at: int) -> None:
    with file(path).open("r+b") as raw:
        raw.seek(at)
        byte = raw.read(1)[0]
        raw.seek(at)
        raw.write(bytes([byte ^ 1]))
