"""What an LMDB domain looks like on disk, and everything that can be known of it without the LMDB engine.

    path/env/data.mdb   LMDB's pages
    path/env/lock.mdb   LMDB's readers; never opened by us while LMDB has it open
    path/env/journal    small commits that are not in data.mdb yet (`journal.py`)
    path                the turnstile in front of the outer lock
    path/writer.lock    the outer lock, the mark in its first 20 bytes, and the stamp of data.mdb (`lmdb_stamp.py`)
    path/FAILED         there while the domain is failed
    path/env/DAMAGED    there since damage was found in the domain (`lmdb_damage.py`)

Promises
- `read_meta` refuses a file that the engine would take for an empty environment, or on which it would die of SIGBUS.
- The mark is the number of the last commit that was finished since this host was started. It is written after the
  commit and without a flush, so it is never ahead of the files unless an older copy was put back. A torn or absent mark
  means nothing.

When it fails
    A process that dies between a commit and its mark leaves the mark one commit behind, which the next writer mends.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib

from grafctl import clock
from grafctl.errors import Damaged, DriverError, Full, Unreachable
from grafctl.json_text import decode
from grafctl.store.driver.contract import Identity
from grafctl.store.driver.private import open_file

DRIVER_NAME = "lmdb"
IDENTITY_KEY = b"\x01identity"
MAX_READERS = 1024
LOCK_FILE_BYTES = 72 << 10  # what LMDB needs for 1024 readers, rounded up to pages

_IDENTITY_VERSION = 1
EIO = errno.EIO
DISK_FULL_CODES = frozenset({errno.ENOSPC, errno.EDQUOT})
_JOURNAL_BYTES_MAX = 64 << 20
_DISK_FULL_BYTES = 1 << 20  # a write that was cut short has taken nearly all of what there was

_TICK_NS = 50_000_000  # more than the coarsest clock of a local file system on Linux

_READER = struct.Struct("=QI")  # the transaction of its snapshot, all ones for none, and the process
_READERS_AT, _READER_BYTES = 128, 64
_META = struct.Struct("=16x II 8x Q I 92x QQ")  # page header, magic, version, map size, page size, last page, txn id
_MAGIC, _DATA_VERSION = 0xBEEFC0DE, 1


class Files:
    """The names of one domain's files, as bytes, because they are looked at in every transaction."""

    __slots__ = ("damaged", "data", "directory", "env", "failed", "journal", "lock", "writer")

    def __init__(self, path: str) -> None:
        self.directory = os.fsencode(path)
        self.env = self.directory + b"/env"
        self.data = self.env + b"/data.mdb"
        self.lock = self.env + b"/lock.mdb"
        self.journal = self.env + b"/journal"
        self.writer = self.directory + b"/writer.lock"
        self.failed = self.directory + b"/FAILED"
        self.damaged = self.env + b"/DAMAGED"


class Meta:
    """The newer of the two meta pages: the size of its map, and how long the file should be and is not."""

    __slots__ = ("bytes_missing", "bytes_needed", "map_size", "transaction")

    def __init__(self, map_size: int, bytes_needed: int, file_size: int, transaction: int) -> None:
        self.map_size, self.transaction = map_size, transaction
        self.bytes_needed = bytes_needed
        self.bytes_missing = max(0, bytes_needed - file_size)


def driver_error(domain: str, error: OSError) -> DriverError:
    """Returns what an error of the operating system before a commit means: `Full`, or else `Unreachable`."""
    why = f"{error.strerror or error}"
    return Full(domain, why) if error.errno in DISK_FULL_CODES else Unreachable(domain, why)


def missing(domain: str, files: Files) -> Unreachable:
    """Returns what to say where there is no environment."""
    return Unreachable(domain, f"missing: {os.fsdecode(files.data)} is not there")


def data_key(domain: str, files: Files) -> tuple[int, int]:
    """Returns (device, inode) of data.mdb, by which LMDB and we tell files apart."""
    try:
        state = os.stat(files.data)
    except FileNotFoundError:
        raise missing(domain, files) from None
    except OSError as error:
        raise driver_error(domain, error) from error
    return state.st_dev, state.st_ino


def _inode_of(path: bytes) -> int:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0


class Watch:
    """Tells whether a file still has the inode it had, without looking at the file while nothing changed beside it.

    A `stat` of data.mdb makes Linux (from 6.13 on) note the time of the next change to it exactly, which costs that
    commit 60 us more on ext4. So we look at its directory, which changes when the file is renamed or replaced.
    """

    __slots__ = ("_files", "_inodes", "_seen", "heeds_damage")

    def __init__(self, files: Files, inode: int) -> None:
        self._files = files
        self.heeds_damage = True
        self._inodes = (inode, _inode_of(files.journal))
        self._seen: tuple[int, int] | None = None

    def is_same(self) -> bool:
        """Returns whether data.mdb and the journal are there and are the files they were, and nobody found damage."""
        try:
            state = os.stat(self._files.env)
            if self._seen == (state.st_ino, state.st_mtime_ns):
                return True
            is_same = self._inodes == (os.stat(self._files.data).st_ino, _inode_of(self._files.journal))
            is_same = is_same and not (self.heeds_damage and os.access(self._files.damaged, os.F_OK))
        except OSError:
            return False
        if is_same and clock.now_ms() * 1_000_000 - state.st_mtime_ns > _TICK_NS:
            self._seen = (state.st_ino, state.st_mtime_ns)  # not sooner: a second change might bear the same time
        return is_same


def open_writer_lock(files: Files) -> int:
    """Returns a descriptor of writer.lock, made where it is absent."""
    return open_file(files.writer, os.O_RDWR)


def open_turnstile(files: Files) -> int:
    """Returns a descriptor of the domain's directory, where those who wait for the outer lock queue."""
    return os.open(files.directory, os.O_RDONLY | os.O_CLOEXEC)


def read_meta(domain: str, files: Files) -> Meta:
    """Returns the newer meta page; raises `Damaged` where either is not one, `Unreachable` where there is no file."""
    try:
        with open(files.data, "rb", buffering=0) as file:
            pages = _meta_pages(domain, file.fileno())
            file_size = os.fstat(file.fileno()).st_size  # after the pages, since a writer may be making it longer
    except FileNotFoundError:
        raise missing(domain, files) from None
    except OSError as error:
        raise driver_error(domain, error) from error
    _, _, map_size, page_size, last_page, transaction = max(pages, key=lambda page: page[5])
    return Meta(map_size, (last_page + 1) * page_size, file_size, transaction)


def _meta_pages(domain: str, fd: int) -> list[tuple[int, ...]]:
    first = _meta_page(domain, fd, 0)
    page_size = first[3]
    if page_size < 256 or page_size > 0x8000 or page_size & (page_size - 1):
        raise Damaged(domain, f"the first meta page of data.mdb names an impossible page size ({page_size})")
    return [first, _meta_page(domain, fd, page_size)]


def _meta_page(domain: str, fd: int, offset: int) -> tuple[int, ...]:
    raw = os.pread(fd, _META.size, offset)
    if len(raw) < _META.size:
        raise Damaged(domain, f"data.mdb ends within its meta pages (at {offset + len(raw)} bytes)")
    page = _META.unpack(raw)
    if page[0] != _MAGIC:
        raise Damaged(domain, f"the meta page at {offset} of data.mdb is not one of LMDB's")
    if page[1] != _DATA_VERSION:
        raise Damaged(domain, f"data.mdb has LMDB data version {page[1]}, not {_DATA_VERSION}")
    return page


def encode_identity(identity: Identity) -> bytes:
    """Returns the identity row: a version byte, the crc32 of the rest, JSON."""
    import json

    body = {
        "driver": DRIVER_NAME,
        "store": identity.store,
        "domain": identity.domain,
        "incarnation": identity.incarnation,
        "format": identity.format,
    }
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    return bytes([_IDENTITY_VERSION]) + zlib.crc32(text).to_bytes(4, "big") + text


def decode_identity(domain: str, row: bytes | None) -> tuple[str, Identity]:
    """Returns the driver's name and the identity; raises `Damaged` where the row is absent or its crc is wrong."""
    if row is None:
        raise Damaged(domain, "data.mdb has no identity row: it is empty or not one of grafctl's")
    if row[:1] != bytes([_IDENTITY_VERSION]):
        raise Unreachable(domain, "foreign: its identity row was written by another version of grafctl")
    if zlib.crc32(row[5:]).to_bytes(4, "big") != row[1:5]:
        raise Damaged(domain, "the checksum of the identity row is wrong")
    try:
        body = decode(str(row[5:], "utf-8"))
        found = Identity(body["store"], body["domain"], body["incarnation"], body["format"])
        driver = body["driver"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise Damaged(domain, "the identity row is not one of grafctl's") from None
    if [*map(type, (driver, found.store, found.domain, found.incarnation, found.format))] != [*[str] * 4, int]:
        raise Damaged(domain, "the identity row is not one of grafctl's")
    return driver, found


def check_identity(expected: Identity, driver: str, found: Identity) -> None:
    """Raises `Unreachable` where it is someone else's, `Damaged` where it is another life of the same domain."""
    domain = expected.domain
    if driver != DRIVER_NAME:
        raise Unreachable(domain, f"foreign: it was written by the driver {driver}, not {DRIVER_NAME}")
    if found.store != expected.store:
        raise Unreachable(domain, f"foreign: it belongs to store {found.store}, not {expected.store}")
    if found.domain != domain:
        raise Unreachable(domain, f"foreign: it belongs to domain {found.domain} of the same store")
    if found.format != expected.format:
        raise Unreachable(domain, f"foreign: it has format {found.format}, and this grafctl reads {expected.format}")
    if expected.incarnation and found.incarnation != expected.incarnation:
        raise Damaged(domain, f"it is incarnation {found.incarnation}, and {expected.incarnation} is registered")


def prepare_lock_file(files: Files) -> None:
    """Gives lock.mdb its blocks, because LMDB maps it and dies of SIGBUS where a full disk has none for it.

    Must not be called while this process has the environment open: closing the file would give up LMDB's own locks.
    """
    fd = open_file(files.lock, os.O_RDWR)
    try:
        size = os.fstat(fd).st_size
        if size < LOCK_FILE_BYTES:
            os.posix_fallocate(fd, size, LOCK_FILE_BYTES - size)
    finally:
        os.close(fd)


def has_died_reading(files: Files, transaction: int) -> bool:
    """Returns whether a process died with a snapshot open: perhaps of a damaged page that it looked at.

    LMDB forgets that when it opens the file, so this looks first, and like `prepare_lock_file` before this process has
    it open. Where the table of readers begins depends on the machine; what only looks like a reader costs a check.
    """
    with open(files.lock, "rb") as file:
        raw = file.read(LOCK_FILE_BYTES)
    for at in range(_READERS_AT, len(raw) - _READER_BYTES, _READER_BYTES):
        snapshot, process = _READER.unpack_from(raw, at)
        if process and 0 < snapshot <= transaction and not _is_alive(process):
            return True
    return False


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def open_journal(domain: str, files: Files) -> int:
    """Returns a descriptor of the journal; raises `Damaged` where there is none."""
    try:
        fd = os.open(files.journal, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise Damaged(domain, f"its journal is missing: {os.fsdecode(files.journal)}") from None
    if os.fstat(fd).st_size > _JOURNAL_BYTES_MAX:  # nobody makes one so large, and what is not used is looked through
        os.close(fd)
        raise Damaged(domain, f"its journal is longer than {_JOURNAL_BYTES_MAX >> 20} MiB")
    return fd


def open_data(files: Files) -> int:
    """Returns a descriptor of data.mdb, for looking at its length."""
    return os.open(files.data, os.O_RDONLY | os.O_CLOEXEC)


def is_disk_full(files: Files) -> bool:
    """Returns whether the file system has no room to speak of."""
    try:
        state = os.statvfs(files.env)
    except OSError:
        return False
    return state.f_bavail * state.f_frsize < _DISK_FULL_BYTES


def extend(files: Files, needed: int) -> None:
    """Makes data.mdb at least `needed` bytes long; the caller holds the outer lock.

    It may fail on a full disk: an opening walks a short file before it calls it torn, so only time depends on this.
    """
    try:
        fd = os.open(files.data, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size < needed:
                os.ftruncate(fd, needed)
        finally:
            os.close(fd)
    except OSError:
        pass
