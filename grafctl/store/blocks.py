"""Blocks: many published records packed into the bytes that travel and rest as one.

Layout (all integers little-endian): version, flags (1 ids, 2 keys, 4 headers, 8 compressed), two zero bytes, count;
the lengths of all payloads; then for each of the first three flags its lengths and its bytes; then all payloads, one
after another. A length of 0xFFFFFFFF in a flagged part means that this record has none. In a compressed block the size
of what follows the count, and then that as one zstd frame.

Promises
- `pack` and `unpack` are inverse; the same records give the same bytes everywhere, before they are compressed.
- `unpack` raises `Corrupt` when lengths and bytes do not add up; it never reads past the end, and never takes more
  memory for a compressed block than the largest block needs.
- A block says itself whether it is compressed, so compressed and plain ones may stand in one log.
"""

from __future__ import annotations

import struct
import sys
from itertools import accumulate, pairwise

from grafctl import json_text
from grafctl.errors import Corrupt, Usage
from grafctl.store.records import BLOCK_VERSION, encode_json
from grafctl.typed import TYPE_CHECKING, Any, Iterator, NamedTuple, Sequence

if TYPE_CHECKING:
    from types import ModuleType

_HEAD = struct.Struct("<BBHI")
_SIZE = struct.Struct("<I")
_NONE = 0xFFFFFFFF
IDS, KEYS, HEADERS, COMPRESSED = 1, 2, 4, 8

NONE = "none"
# Measured on JSON orders in blocks of 1 MiB: higher levels take up to three times as long and save nothing.
_LEVEL = 1
_RECORDS_MAX = 1 << 20  # of a compressed block: records of nothing take no bytes in a frame, but they do in memory
_WINDOW_LOG_MAX = 23  # 8 MiB, the most that RFC 8878 asks of a reader; level 1 stays far below it

PAYLOAD_BYTES_MAX = 8 << 20
ID_BYTES_MAX = 1024
KEY_BYTES_MAX = 32 << 10
HEADERS_BYTES_MAX = 64 << 10
BLOCK_BYTES_AIM = 1 << 20
BLOCK_BYTES_MAX = 64 << 20  # as large as a value may be; also what a compressed block may come to


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


class Columns(NamedTuple):
    """The records of a block, part by part: a poll makes thousands of them at once."""

    payloads: list[bytes]
    ids: list[str | None]
    keys: list[str | None]
    headers: list[dict[str, str] | None]

    def cut(self, start: int, stop: int) -> Columns:
        """Returns some of the records."""
        part = slice(start, stop)
        return Columns(self.payloads[part], self.ids[part], self.keys[part], self.headers[part])


Records = Sequence[Outgoing] | Sequence[bytes]


def check_records(records: Records) -> None:
    """Raises `Usage` when a part of any record passes its limit."""
    if not isinstance(records[0], Outgoing):
        plain: Sequence[bytes] = records  # type: ignore[assignment]
        if max(map(len, plain)) <= PAYLOAD_BYTES_MAX:  # the usual case: thousands of short lines
            return
    elif _are_plainly_fine(records):  # type: ignore[arg-type]
        return
    for record in records:
        check_record(record if isinstance(record, Outgoing) else Outgoing(record))


def _are_plainly_fine(records: Sequence[Outgoing]) -> bool:
    """Returns whether all have a short ASCII id, a key like it or none, and no headers; thousands are one look."""
    if set(map(type, records)) != {Outgoing}:
        return False
    payloads, ids, keys, headers, _ = zip(*records, strict=True)
    number = len(records)
    if None in ids or keys.count(None) not in (0, number) or headers.count(None) != number:
        return False
    sizes = list(map(len, ids))
    fits = min(sizes) > 0 and max(sizes) <= ID_BYTES_MAX and max(map(len, payloads)) <= PAYLOAD_BYTES_MAX
    if keys[0] is not None:
        fits = fits and max(map(len, keys)) <= KEY_BYTES_MAX and "".join(keys).isascii()
    return fits and "".join(ids).isascii()


def is_plainly_fine(record: Outgoing) -> bool:
    """Returns whether a record has a short ASCII id, a key like it or none, and no headers: a quick look."""
    name, key = record.id, record.key
    if not name or not name.isascii() or len(name) > ID_BYTES_MAX or record.headers:
        return False
    return len(record.payload) <= PAYLOAD_BYTES_MAX and (key is None or (key.isascii() and len(key) <= KEY_BYTES_MAX))


def check_record(record: Outgoing) -> None:
    """Raises `Usage` when a part of the record passes its limit."""
    if not is_plainly_fine(record):
        check_part_by_part(record)


def check_part_by_part(record: Outgoing) -> None:
    """Raises what `check_record` raises: the long way, which knows what is wrong."""
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


def pack(records: Records, compression: str = NONE) -> bytes:
    """Returns the block of these records; plain bytes are payloads without id, key or headers."""
    block = _pack(records)
    return block if compression == NONE else compress(block)


def _pack(records: Records) -> bytes:
    if records and not isinstance(records[0], Outgoing):
        return pack_payloads(records)  # type: ignore[arg-type]
    full: Sequence[Outgoing] = records  # type: ignore[assignment]
    payloads, ids, keys, headers, _ = zip(*full, strict=True) if full else ((),) * 5
    flags, parts = 0, []
    for flag, texts in (
        (IDS, ids),
        (KEYS, keys),
        (HEADERS, [encode_json(pairs).decode() if pairs else None for pairs in headers]),
    ):
        if texts.count(None) != len(full):
            flags |= flag
            parts.append(_pack_texts(texts))
    return b"".join((_HEAD.pack(BLOCK_VERSION, flags, 0, len(full)), _lengths(payloads), *parts, *payloads))


def pack_payloads(payloads: Sequence[bytes]) -> bytes:
    """Returns the block of records that have a payload only."""
    return b"".join((_HEAD.pack(BLOCK_VERSION, 0, 0, len(payloads)), _lengths(payloads), *payloads))


def compress(block: bytes) -> bytes:
    """Returns a plain block compressed, or as it is where that saves less than a twentieth."""
    version, flags, zeros, number = _HEAD.unpack_from(block)
    if len(block) > BLOCK_BYTES_MAX or number > _RECORDS_MAX:
        return block  # because a reader does not unfold so much
    frame: bytes = _zstd().compress(memoryview(block)[_HEAD.size :], _LEVEL)
    if (_HEAD.size + _SIZE.size + len(frame)) * 20 > len(block) * 19:
        return block
    head = _HEAD.pack(version, flags | COMPRESSED, zeros, number)
    return b"".join((head, _SIZE.pack(len(block) - _HEAD.size), frame))


def _zstd() -> ModuleType:
    """Returns the codec, imported only where a compressed block is made or read."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _lengths(items: Sequence[bytes]) -> bytes:
    return struct.pack(f"<{len(items)}I", *map(len, items))


def _pack_texts(texts: Sequence[str | None]) -> bytes:
    if None not in texts:
        every = list(map(str.encode, texts))  # type: ignore[arg-type]
        return _lengths(every) + b"".join(every)
    encoded = [None if text is None else text.encode() for text in texts]
    lengths = struct.pack(f"<{len(encoded)}I", *(_NONE if item is None else len(item) for item in encoded))
    return lengths + b"".join(item for item in encoded if item is not None)


def count(block: bytes | memoryview, what: str) -> int:
    """Returns how many records the block holds."""
    return _head(block, what)[1]


def ids(block: bytes, what: str) -> list[str | None]:
    """Returns the id of each record, without touching keys, headers or payloads."""
    flags, number = _head(block, what)
    if not flags & IDS:
        return [None] * number
    body, at = _body(block, flags, what)
    return _texts(body, at + 4 * number, number, what)[0]


def unpack(block: bytes, what: str) -> Iterator[Packed]:
    """Yields the records of a block in order."""
    return map(Packed, *columns(block, what))


def columns(block: bytes, what: str) -> Columns:
    """Returns the records of a block, part by part."""
    flags, number = _head(block, what)
    body, at = _body(block, flags, what)
    lengths = _ints(body, at, number, what)
    at += 4 * number
    none: list[Any] = [None] * number
    texts = {IDS: none, KEYS: none, HEADERS: none}
    for flag in texts:
        if flags & flag:
            texts[flag], at = _texts(body, at, number, what)
    if at + sum(lengths) != len(body):
        raise Corrupt(f"{what}: the lengths of its records do not add up.", what=what)
    payloads = [body[start:stop] for start, stop in pairwise(accumulate(lengths, initial=at))]
    headers = [_headers(text, what) for text in texts[HEADERS]] if flags & HEADERS else none
    return Columns(payloads, texts[IDS], texts[KEYS], headers)


def _headers(text: str | None, what: str) -> dict[str, str] | None:
    if text is None:
        return None
    try:
        value = json_text.decode(text)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{what}: its headers are not JSON.", what=what) from error
    if not isinstance(value, dict) or set(map(type, value.values())) - {str}:
        raise Corrupt(f"{what}: its headers are no object of texts.", what=what)
    return value


def _head(block: bytes | memoryview, what: str) -> tuple[int, int]:
    """Returns the flags and how many records there are, which the table of their lengths has room for."""
    if len(block) < _HEAD.size:
        raise Corrupt(f"{what} is too short to be a block.", what=what)
    version, flags, _, number = _HEAD.unpack_from(block)
    if version != BLOCK_VERSION or flags > IDS | KEYS | HEADERS | COMPRESSED:
        raise Corrupt(f"{what} is a block of an unknown format.", what=what)
    size = _size(block, number, what) if flags & COMPRESSED else len(block) - _HEAD.size
    if 4 * number > size:
        raise Corrupt(f"{what} is shorter than the table of its {number} lengths.", what=what)
    return flags, number


def _size(block: bytes | memoryview, number: int, what: str) -> int:
    """Returns what the body of a compressed block comes to, when a reader may unfold it."""
    if len(block) < _HEAD.size + _SIZE.size:
        raise Corrupt(f"{what} is too short to be a compressed block.", what=what)
    size: int = _SIZE.unpack_from(block, _HEAD.size)[0]
    if size > BLOCK_BYTES_MAX - _HEAD.size or number > _RECORDS_MAX:
        raise Corrupt(f"{what} says that it holds {number:,} records in {size:,} bytes: too many.", what=what)
    return size


def _body(block: bytes, flags: int, what: str) -> tuple[bytes, int]:
    """Returns the bytes that hold the parts of a block, and where in them the first one begins."""
    if not flags & COMPRESSED:
        return block, _HEAD.size
    zstd, size = _zstd(), _SIZE.unpack_from(block, _HEAD.size)[0]
    reader = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX})
    try:
        # A byte more than there should be, so that a frame that holds more is noticed and never unfolded.
        body: bytes = reader.decompress(memoryview(block)[_HEAD.size + _SIZE.size :], max_length=size + 1)
    except zstd.ZstdError as error:
        raise Corrupt(f"{what} cannot be decompressed.", what=what) from error
    if len(body) != size or not reader.eof or reader.unused_data:
        raise Corrupt(f"{what}: its compressed part is not the {size:,} bytes that it should be.", what=what)
    return body, 0


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
