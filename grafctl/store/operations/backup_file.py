"""A backup as it rests: one tar file that `tar -t` can list, whose every byte is checked before one of it is believed.

    grafctl-backup         JSON: format, store, when it was taken, by which version
    LOG/begin              JSON: from which entry on the log is kept, and the chain before that
    LOG/entries-N          entries: bytes of each (4), then it as it rests in a domain
    LOG/state-N            rows: bytes of key (2), of value (4), the key, the value in its envelope
    manifest.json          what of each log is saved: index, chain, counts, digests; the domains
    sha256                 of every byte before this member

Promises
- The bytes of a backup follow from its content: a header, a name or a padding that the writer would not have written is
  `Corrupt`, and so is a byte more or less. No name in it is ever used as a path, no length is believed before it is
  compared with a limit, and nothing is decompressed.
- What is read went through the checks that LEARN makes: each entry's header, chain and digest, each row's checksum.

When it fails: `Usage` where the file is no backup at all, `Corrupt` where it is one that was changed.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from grafctl.errors import Corrupt, Usage
from grafctl.names import check_domain, shown
from grafctl.store import keys
from grafctl.store.operations.backup_check import PAIR, LogCheck, Piece, Row, Saved, check_located
from grafctl.store.records import (
    encode_json,
    parse_json,
)

FORMAT = 1
FIRST, MANIFEST, LAST = "grafctl-backup", "manifest.json", "sha256"
MEMBER_BYTES_MAX = 128 << 20  # a chunk of LEARN, and the largest value behind it
BLOCK = 512
END = bytes(2 * BLOCK)

_HEADER = struct.Struct("=100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")  # of POSIX.1-1988 "ustar"
_LENGTH = struct.Struct(">I")


def header(name: str, size: int) -> bytes:
    """Returns the one header that a member of this name and size may have."""
    zero = b"%07o\0" % 0
    fields = [name.encode(), b"%07o\0" % 0o600, zero, zero, b"%011o\0" % size, b"%011o\0" % 0, b" " * 8, b"0", b""]
    fields += [b"ustar\x0000", b"", b"", zero, zero, b""]
    fields[6] = b"%06o\0 " % sum(_HEADER.pack(*fields))
    return _HEADER.pack(*fields)


def padding(size: int) -> bytes:
    return bytes(-size % BLOCK)


# --- writing


class Mark(NamedTuple):
    """A place in a file that is being written, to come back to."""

    at: int
    hash: Any


class BackupWriter:
    """Writes the members of a backup to a file; what it writes is checked as it will be when it is read."""

    def __init__(self, file: BinaryIO, about: dict[str, Any]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._at = self._chunk = 0
        self._add(FIRST, encode_json({"format": FORMAT, **about}))

    def _add(self, name: str, *parts: bytes) -> None:
        size = sum(map(len, parts))
        assert size <= MEMBER_BYTES_MAX, f"{name} would have {size} bytes"
        for part in (header(name, size), *parts, padding(size)):
            self._file.write(part)
            self._hash.update(part)
            self._at += len(part)

    def mark(self) -> Mark:
        return Mark(self._at, self._hash.copy())

    def rewind(self, mark: Mark) -> None:
        """Takes back what was written since the mark."""
        self._file.seek(mark.at)
        self._file.truncate()
        self._at, self._hash = mark.at, mark.hash

    def begin(self, log: bytes, floor: int, chain: bytes) -> LogCheck:
        self._add(f"{log.hex()}/begin", encode_json({"floor": floor, "chain": chain.hex()}))
        self._chunk = 0
        return LogCheck(log, floor, chain)

    def entries(self, check: LogCheck, raws: Sequence[bytes]) -> None:
        check.entries(raws)
        self._chunk += 1
        parts = (part for raw in raws for part in (_LENGTH.pack(len(raw)), raw))
        self._add(f"{check.log.hex()}/entries-{self._chunk}", *parts)

    def rows(self, check: LogCheck, rows: Sequence[Row]) -> None:
        check.rows(rows)
        self._chunk += 1
        parts = (part for row, raw in rows for part in (PAIR.pack(len(row), len(raw)), row, raw))
        self._add(f"{check.log.hex()}/state-{self._chunk}", *parts)

    def finish(self, manifest: dict[str, Any]) -> str:
        """Ends the file and returns the digest over all that stands before its last member."""
        self._add(MANIFEST, encode_json(manifest))
        whole = self._hash.hexdigest()
        self._add(LAST, whole.encode())
        self._file.write(END)
        return whole


# --- reading


class Manifest(NamedTuple):
    """What a backup says of itself, once all of it was read and found right."""

    about: dict[str, Any]  # format, store, taken_ms, grafctl
    body: dict[str, Any]
    sha256: str
    bytes: int
    logs: dict[str, LogCheck]  # by 16 hexadecimal digits, in their order

    @property
    def domains(self) -> list[str]:
        return list(self.body["domains"])


class BackupFile:
    """A backup that is read from its beginning to its end, as often as one likes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: Manifest | None = None

    def check(self) -> Manifest:
        """Reads all of it; raises `Usage` or `Corrupt`."""
        for _ in self.pieces():
            pass
        assert self.manifest is not None
        return self.manifest

    def pieces(self) -> Iterator[Piece]:
        """Yields what was saved, each piece checked; at the end `manifest` is there. Raises `Usage` or `Corrupt`."""
        try:
            with self.path.open("rb") as file:
                yield from _Reading(self, file).pieces()
        except OSError as error:
            raise Usage(f"{self.path} cannot be read: {error.strerror}.") from None

    def wrong(self, why: str) -> Corrupt:
        return Corrupt(
            f"{self.path} cannot be trusted: {why.rstrip('.')}.",
            hint="Take another backup; `grafctl restore FILE --dry-run` checks one.",
            file=str(self.path),
        )


class _Reading:
    """One way through a backup."""

    def __init__(self, backup: BackupFile, file: BinaryIO) -> None:
        self._backup, self._file = backup, file
        self._left = self._size = os.fstat(file.fileno()).st_size
        self._hash = hashlib.sha256()
        self._logs: dict[str, LogCheck] = {}

    def _take(self, size: int) -> bytes:
        data = self._file.read(size) if size <= self._left else b""
        if len(data) != size:
            raise self._backup.wrong("it ends too soon")
        self._left -= size
        return data

    def _member(self) -> tuple[str, bytes]:
        raw = self._take(BLOCK)
        name, size = raw[:100].rstrip(b"\0"), raw[124:135]
        if not name.isascii() or raw != self._expected(name, size):
            raise self._backup.wrong(f"there is a wrong header {self._size - self._left - BLOCK} bytes from its start")
        body = self._take(int(size, 8))
        pad = self._take(-len(body) % BLOCK)
        if pad.strip(b"\0"):
            raise self._backup.wrong(f"there are bytes behind {shown(name.decode())}")
        if name != LAST.encode():
            for part in (raw, body, pad):
                self._hash.update(part)
        return name.decode(), body

    def _expected(self, name: bytes, size: bytes) -> bytes | None:
        if not size.isdigit() or b"8" in size or b"9" in size:
            return None
        count = int(size, 8)
        return header(name.decode(), count) if count <= MEMBER_BYTES_MAX else None

    def pieces(self) -> Iterator[Piece]:
        about = self._about()
        check: LogCheck | None = None
        chunk = 0
        while True:
            name, body = self._member()
            if name == MANIFEST:
                break
            try:
                if name == f"{name[:16]}/begin" and name[:16] not in self._logs:
                    check, chunk = self._begin(name[:16], body), 0
                    continue
                chunk += 1
                if check is None or name not in (f"{check.log.hex()}/{kind}-{chunk}" for kind in ("entries", "state")):
                    raise self._backup.wrong(f"{shown(name)} does not belong where it is")
                piece = self._piece(check, "entries" in name, body)
            except (Corrupt, ValueError, LookupError, TypeError, struct.error, RecursionError) as error:
                raise error if "cannot be trusted" in str(error) else self._backup.wrong(str(error)) from error
            yield piece
        self._end(about, body)

    def _about(self) -> dict[str, Any]:
        if not self._is_ours():
            raise Usage(
                f"{self._backup.path} is no backup of grafctl.", hint="Name a file that `grafctl backup` has written."
            )
        name, body = self._member()
        try:
            about = parse_json(body)
            version = about["format"]
            if name != FIRST or not all(isinstance(about[word], str) for word in ("store", "grafctl")):
                raise ValueError
        except (ValueError, LookupError, TypeError, RecursionError):
            raise self._backup.wrong("its beginning is not readable") from None
        if version != FORMAT:
            raise Usage(f"{self._backup.path} has format {version}; this grafctl reads {FORMAT}.", hint="Upgrade it.")
        return dict(about)

    def _is_ours(self) -> bool:
        start = self._file.read(100)
        self._file.seek(0)
        return start.rstrip(b"\0") == FIRST.encode()

    def _begin(self, log: str, body: bytes) -> LogCheck:
        fields = parse_json(body)
        floor, chain = fields["floor"], bytes.fromhex(fields["chain"])
        if not isinstance(floor, int) or not 0 <= floor < keys.U64_MAX >> 1 or len(chain) != 32:
            raise ValueError(f"log {log} begins nowhere")
        check = self._logs[log] = LogCheck(bytes.fromhex(log), floor, chain)
        return check

    def _piece(self, check: LogCheck, has_entries: bool, body: bytes) -> Piece:
        at = check.at
        if has_entries:
            entries = list(_entries_of(body))
            check.entries(entries)
            return Piece(check, at, entries=entries)
        rows = list(_rows_of(body))
        check.rows(rows)
        return Piece(check, at, rows=rows)

    def _end(self, about: dict[str, Any], body: bytes) -> None:
        whole = self._hash.hexdigest()
        name, told = self._member()
        if name != LAST or told != whole.encode():
            raise self._backup.wrong("its bytes are not those that were written")
        if self._take(self._left) != END:
            raise self._backup.wrong("it does not end where it should")
        try:
            manifest = parse_json(body)
            found = {log: check.saved()._asdict() for log, check in self._logs.items()}
            if {item["log"]: {field: item[field] for field in Saved._fields} for item in manifest["logs"]} != found:
                raise ValueError("its manifest is of other logs")
            control = self._logs[keys.CONTROL_LOG.hex()]
            expected = {keys.CONTROL_LOG.hex(), keys.AUDIT_LOG.hex(), *control.resources.values()}
            if found.keys() != expected or any(check.config is None for check in self._logs.values()):
                raise ValueError("its logs are not those that its control log names")
            for domain in (*manifest["domains"], *manifest["away"], *(item["domain"] for item in manifest["logs"])):
                check_domain(domain)
            if type(manifest["one_moment"]) is not bool or any(
                type(item["name"]) is not str for item in manifest["logs"]
            ):
                raise ValueError("its manifest is not readable")
            check_located(self._logs.values())
        except (Usage, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise self._backup.wrong(str(error)) from error
        self._backup.manifest = Manifest(about, manifest, whole, self._size, self._logs)


def _entries_of(body: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        (size,) = _LENGTH.unpack_from(body, at)
        at += _LENGTH.size
        if at + size > len(body):
            raise ValueError("an entry is longer than what holds it")
        yield body[at : at + size]
        at += size


def _rows_of(body: bytes) -> Iterator[Row]:
    at = 0
    while at < len(body):
        key_bytes, value_bytes = PAIR.unpack_from(body, at)
        at += PAIR.size
        if at + key_bytes + value_bytes > len(body):
            raise ValueError("a row is longer than what holds it")
        yield body[at : at + key_bytes], body[at + key_bytes : at + key_bytes + value_bytes]
        at += key_bytes + value_bytes
