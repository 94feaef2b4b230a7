"""Blocks: many published records packed into the bytes that travel and rest as one.

Layout (all integers little-endian): version, flags (1 ids, 2 keys, 4 headers), two zero bytes, count; the lengths of
all payloads; then for each flag its lengths and its bytes; then all payloads, one after another. A length of
0xFFFFFFFF in a flagged part means that this record has none.

Promises
- `pack` and `unpack` are inverse; the same records give the same bytes everywhere.
- `unpack` raises `Corrupt` when lengths and bytes do not add up; it never reads past the end.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from grafctl.errors import Corrupt, Usage
from grafctl.store.records import BLOCK_VERSION, encode_json

_HEAD = struct.Struct("<BBHI")
_NONE = 0xFFFFFFFF
IDS, KEYS, HEADERS = 1, 2, 4

PAYLOAD_BYTES_MAX = 8 << 20
ID_BYTES_MAX = 1024
KEY_BYTES_MAX = 32 << 10
HEADERS_BYTES_MAX = 64 << 10
BLOCK_RECORDS_MAX = 10_000
BLOCK_BYTES_AIM = 1 << 20


class Outgoing(NamedTuple):
    """A record on its way in; `line` is where it stood in the input, 0 where there is none."""

    payload: bytes
    id: str | None = None
    key: str | None = None
    headers: dict[str, str] | None = None
    line: int = 0


class Packed(NamedTuple):
    """One record of a block, before it has an offset."""

    payload: bytes
    id: str | None
    key: str | None
    headers: dict[str, str] | None


Records = Sequence[Outgoing] | Sequence[bytes]


def check_records(records: Records) -> None:
    """Raises `Usage` when a part of any record passes its limit."""
    if not isinstance(records[0], Outgoing):
        plain: Sequence[bytes] = records  # type: ignore[assignment]
        if max(map(len, plain)) <= PAYLOAD_BYTES_MAX:  # the usual case: thousands of short lines
            return
    for record in records:
        check_record(record if isinstance(record, Outgoing) else Outgoing(record))


def check_record(record: Outgoing) -> None:
    """Raises `Usage` when a part of the record passes its limit."""
    where = f"Line {record.line}: the" if record.line else "The"
    headers = [("headers", text) for pair in record.headers.items() for text in pair] if record.headers else []
    for what, text in (("id", record.id), ("key", record.key), *headers):
        if text is not None and not _is_text(text):
            raise Usage(f"{where} {what} is not valid UTF-8.")
    for what, size, most in (
        ("payload", len(record.payload), PAYLOAD_BYTES_MAX),
        ("id", len(record.id.encode()) if record.id else 0, ID_BYTES_MAX),
        ("key", len(record.key.encode()) if record.key else 0, KEY_BYTES_MAX),
        ("headers", len(encode_json(record.headers)) if record.headers else 0, HEADERS_BYTES_MAX),
    ):
        if size > most:
            raise Usage(f"{where} {what} has {size:,} bytes; at most {most:,} are allowed.", hint="Split the record.")
    if record.id == "":
        raise Usage(f"{where} id is empty.", hint="Leave --id out, or give the record an id.")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def pack(records: Records) -> bytes:
    """Returns the block of these records; plain bytes are payloads without id, key or headers."""
    if records and not isinstance(records[0], Outgoing):
        return pack_payloads(records)  # type: ignore[arg-type]
    full: Sequence[Outgoing] = records  # type: ignore[assignment]
    flags, parts = 0, []
    for flag, texts in (
        (IDS, [record.id for record in full]),
        (KEYS, [record.key for record in full]),
        (HEADERS, [encode_json(record.headers).decode() if record.headers else None for record in full]),
    ):
        if any(text is not None for text in texts):
            flags |= flag
            parts.append(_pack_texts(texts))
    payloads = [record.payload for record in full]
    return b"".join((_HEAD.pack(BLOCK_VERSION, flags, 0, len(full)), _lengths(payloads), *parts, *payloads))


def pack_payloads(payloads: Sequence[bytes]) -> bytes:
    """Returns the block of records that have a payload only."""
    return b"".join((_HEAD.pack(BLOCK_VERSION, 0, 0, len(payloads)), _lengths(payloads), *payloads))


def _lengths(items: Sequence[bytes]) -> bytes:
    return struct.pack(f"<{len(items)}I", *map(len, items))


def _pack_texts(texts: Sequence[str | None]) -> bytes:
    encoded = [None if text is None else text.encode() for text in texts]
    lengths = struct.pack(f"<{len(encoded)}I", *(_NONE if item is None else len(item) for item in encoded))
    return lengths + b"".join(item for item in encoded if item is not None)


def count(block: bytes, what: str) -> int:
    """Returns how many records the block holds."""
    return _head(block, what)[1]


def ids(block: bytes, what: str) -> list[str | None]:
    """Returns the id of each record, without touching keys, headers or payloads."""
    flags, number = _head(block, what)
    if not flags & IDS:
        return [None] * number
    return _texts(block, _HEAD.size + 4 * number, number, what)[0]


def unpack(block: bytes, what: str) -> Iterator[Packed]:
    """Yields the records of a block in order."""
    flags, number = _head(block, what)
    at = _HEAD.size
    lengths = _ints(block, at, number, what)
    at += 4 * number
    columns: dict[int, list[str | None]] = {}
    for flag in (IDS, KEYS, HEADERS):
        if flags & flag:
            columns[flag], at = _texts(block, at, number, what)
    if at + sum(lengths) != len(block):
        raise Corrupt(f"{what}: the lengths of its records do not add up.", what=what)
    none: list[str | None] = [None] * number
    rows = zip(lengths, *(columns.get(flag, none) for flag in (IDS, KEYS, HEADERS)), strict=True)
    for size, record_id, key, headers in rows:
        yield Packed(block[at : at + size], record_id, key, _headers(headers, what))
        at += size


def _headers(text: str | None, what: str) -> dict[str, str] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{what}: its headers are not JSON.", what=what) from error
    if not isinstance(value, dict):
        raise Corrupt(f"{what}: its headers are no object.", what=what)
    return value


def _head(block: bytes, what: str) -> tuple[int, int]:
    if len(block) < _HEAD.size:
        raise Corrupt(f"{what} is too short to be a block.", what=what)
    version, flags, _, number = _HEAD.unpack_from(block)
    if version != BLOCK_VERSION or flags > IDS | KEYS | HEADERS:
        raise Corrupt(f"{what} is a block of an unknown format.", what=what)
    if _HEAD.size + 4 * number > len(block):
        raise Corrupt(f"{what} is shorter than the table of its {number} lengths.", what=what)
    return flags, number


def _ints(block: bytes, at: int, number: int, what: str) -> tuple[int, ...]:
    if at + 4 * number > len(block):
        raise Corrupt(f"{what} ends inside its table of lengths.", what=what)
    return struct.unpack_from(f"<{number}I", block, at)


def _texts(block: bytes, at: int, number: int, what: str) -> tuple[list[str | None], int]:
    lengths = _ints(block, at, number, what)
    at += 4 * number
    if at + sum(length for length in lengths if length != _NONE) > len(block):
        raise Corrupt(f"{what} ends inside a column.", what=what)
    out: list[str | None] = []
    for length in lengths:
        if length == _NONE:
            out.append(None)
            continue
        try:
            out.append(block[at : at + length].decode())
        except UnicodeDecodeError as error:
            raise Corrupt(f"{what}: a text of it is not UTF-8.", what=what) from error
        at += length
    return out, at
