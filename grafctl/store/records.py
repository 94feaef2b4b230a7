"""Every value of an environment: the envelope of rows, the log's entries, its heads, and blocks of records.

Promises
- A row is `version, crc32, body`; the crc32 of a state row and of pre-images is over their key too. An entry carries a
  crc of its header and meta, a SHA-256 of its block, and a chain that binds it to everything before it. `decode_*`
  raises `Corrupt` for anything else, and names what it was reading.
- `encode_json` is the one canonical JSON of the store (sorted names, no white space, UTF-8, no NaN), so equal values
  are equal bytes in every domain.
- A block is self-contained: its bytes are the same in every domain, and a digest over blocks is a digest over records.

Formats are written out in `docs/format.md` and held by golden bytes in the tests.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from zlib import crc32

from grafctl.errors import Corrupt
from grafctl.json_text import decode, encoder
from grafctl.store.rules import Config, Head, Seen, Term, Voter
from grafctl.typed import TYPE_CHECKING, Any, Callable, NamedTuple, Sequence

if TYPE_CHECKING:
    from hashlib import _Hash

ROW_VERSION = 1
ENTRY_VERSION = 1
BLOCK_VERSION = 1
DIGEST_BYTES = 32
NO_CHAIN = bytes(DIGEST_BYTES)
NO_DIGEST = bytes(DIGEST_BYTES)
NO_OPERATION = bytes(16)

START, DATA, CTRL = 1, 2, 3

_ROW = struct.Struct(">BI")
_UNDO = struct.Struct(">HBI")  # bytes of the key, whether the row was there, and how many bytes it had
_HEAD = struct.Struct(">QQQQQQQqBQ32s32sQQ")
_SEEN = struct.Struct(">QQQQQQ")
# version, kind, flags, meta bytes, block bytes, stamped ms, term counter, term uid, operation, block digest | chain,
# crc
_BOUND = struct.Struct(">BBHIIQQQ16s32s")
_ENTRY = struct.Struct(">BBHIIQQQ16s32s32sI")
ENTRY_HEADER_BYTES = _ENTRY.size
BEGINNING_BYTES = 1024  # of an entry: more than header and meta of most take
_STRIPPED = 1

_encode = encoder(sort_keys=True, allow_nan=False)


def encode_json(value: Any) -> bytes:
    """Returns the canonical JSON of a value."""
    return _encode(value).encode()


class NotJson(Corrupt, ValueError):
    """Returned when bytes that passed their checksum are no JSON; a `ValueError` for whoever can do without them."""


def parse_json(body: bytes) -> Any:
    """Returns the value of canonical JSON; raises `NotJson`."""
    try:
        return decode(str(body, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise NotJson("What should be JSON is none.") from error


def digest(data: bytes | memoryview) -> bytes:
    """Returns the SHA-256 of the bytes."""
    return hasher(len(data))(data).digest()


def hasher(size: int) -> Callable[[bytes | memoryview], _Hash]:
    """Returns what makes a SHA-256 of about so many bytes.

    That is OpenSSL's where there is much to do. Loading it takes longer than a publish, so the first few KiB of a
    process go without.
    """
    global _sha256, _little_left
    if _little_left >= 0:
        _little_left -= size
        if _little_left < 0:
            from hashlib import sha256

            _sha256 = sha256
    return _sha256


try:
    from _sha2 import sha256 as _little  # type: ignore[import-not-found]
except ImportError:
    try:
        from _sha256 import sha256 as _little  # type: ignore[import-not-found]  # its name before Python 3.12
    except ImportError:
        from hashlib import sha256 as _little
_sha256: Callable[[bytes | memoryview], _Hash] = _little
_little_left = 32 << 10


# --- rows


def encode_row(body: bytes, key: bytes = b"") -> bytes:
    """Returns a row; with a key, one that counts under that key only."""
    return _ROW.pack(ROW_VERSION, crc32(body, crc32(key))) + body


def decode_row(raw: bytes, what: str, key: bytes = b"") -> bytes:
    """Returns the body of a row; raises `Corrupt` when the version or the checksum is wrong."""
    body = row_body(raw, key)
    if body is None:
        why = "fails its checksum" if len(raw) >= _ROW.size else "is too short to be a row"
        raise Corrupt(f"{what} {why}.", what=what)
    return body


def row_checksum(raw: bytes) -> int:
    """Returns the checksum that a row bears."""
    return int.from_bytes(raw[1:5], "big")


def row_body(raw: bytes, key: bytes = b"") -> bytes | None:
    """Returns the body of a row, or None where the version or the checksum is wrong."""
    body = raw[_ROW.size :]
    return body if raw[: _ROW.size] == _ROW.pack(ROW_VERSION, crc32(body, crc32(key))) else None


# --- heads


class HeadRow(NamedTuple):
    """A head, and what the next entry needs to know of the last."""

    head: Head
    stamped_ms: int  # of the last entry: stamps never go back
    chain: bytes  # after the last entry
    floor_chain: bytes  # before the first entry that is kept
    state_sum: int = 0  # of the checksums of all state rows, modulo 2**64: a row that is not there is missed
    state_rows: int = 0


def encode_head(row: HeadRow) -> bytes:
    head = row.head
    points = (*head.promised, *head.acc, head.floor, head.tail, head.commit, head.start, head.learning)
    return encode_row(_HEAD.pack(*points, row.stamped_ms, row.chain, row.floor_chain, *row[4:]))


def decode_head(raw: bytes, what: str) -> HeadRow:
    body = decode_row(raw, what)
    if len(body) != _HEAD.size:
        raise Corrupt(f"{what} is not a head.", what=what)
    p0, p1, a0, a1, floor, tail, commit, start, learning, stamped, *rest = _HEAD.unpack(body)
    head = Head((p0, p1), (a0, a1), floor, tail, commit, start, bool(learning))
    return HeadRow(head, stamped, *rest)


def encode_seen(seen: Seen) -> bytes:
    return encode_row(_SEEN.pack(*seen.promised, *seen.acc, seen.tail, seen.commit) + seen.incarnation.encode())


def decode_seen(raw: bytes, what: str) -> Seen:
    body = decode_row(raw, what)
    if len(body) < _SEEN.size or not body[_SEEN.size :].isascii():
        raise Corrupt(f"{what} is no memory of a peer.", what=what)
    p0, p1, a0, a1, tail, commit = _SEEN.unpack_from(body)
    return Seen(body[_SEEN.size :].decode(), (p0, p1), (a0, a1), tail, commit)


def config_fields(config: Config) -> dict[str, Any]:
    """Returns the part of a START's meta that says who leads and who votes."""
    fields = {
        "primary": config.primary,
        "voters": [[voter.domain, voter.incarnation, voter.witness] for voter in config.voters],
        "write": config.write_size,
        "payload": config.payload_size,
    }
    return fields | {"fenced": [list(member) for member in config.fenced]} if config.fenced else fields


def decode_config(meta: dict[str, Any], index: int, term: Term) -> Config:
    """Returns the configuration that a START's meta carries; raises `Corrupt` for any other meta."""
    try:
        voters = tuple(Voter(domain, incarnation, witness) for domain, incarnation, witness in meta["voters"])
        fenced = tuple((domain, incarnation) for domain, incarnation in meta.get("fenced", ()))
        config = Config(index, term, meta["primary"], voters, meta["write"], meta["payload"], fenced)
    except (ValueError, LookupError, TypeError, AttributeError):
        config = None
    if config is None or not _is_sound(config):
        raise Corrupt("A START carries no configuration.")
    return config


def _is_sound(config: Config) -> bool:
    numbers = (config.at, *config.term, config.write_size, config.payload_size)
    voters = all([*map(type, voter)] == [str, str, bool] for voter in config.voters)
    fenced = all([*map(type, member)] == [str, str] for member in config.fenced)
    return voters and fenced and type(config.primary) is str and all(type(number) is int for number in numbers)


def encode_config(config: Config) -> bytes:
    return encode_row(encode_json(config_fields(config) | {"at": config.at, "term": list(config.term)}))


def decode_config_row(raw: bytes, what: str) -> Config:
    body = decode_row(raw, what)
    try:
        return _config_of(body)
    except (Corrupt, ValueError, LookupError, TypeError) as error:
        raise Corrupt(f"{what} is no configuration.", what=what) from error


@lru_cache(maxsize=256)
def _config_of(body: bytes) -> Config:
    """Configurations are read in every transaction and hardly ever change."""
    meta = parse_json(body)
    return decode_config(meta, meta["at"], (meta["term"][0], meta["term"][1]))


# --- entries


class Entry(NamedTuple):
    """One atomic change of a log. `meta` is canonical JSON whose `do` names it; `block` is bulk data or empty."""

    kind: int
    term: Term
    stamped_ms: int
    operation: bytes
    meta: bytes
    block: bytes
    block_digest: bytes
    chain: bytes
    stripped: bool = False  # a witness keeps the digest of the block, not the block

    @property
    def request(self) -> dict[str, Any]:
        """Returns the decoded meta; each reader of one entry gets the same object, which nobody changes."""
        return _request_of(self.meta)


@lru_cache(maxsize=16)
def _request_of(meta: bytes) -> dict[str, Any]:
    value: dict[str, Any] = parse_json(meta)
    return value


def make_entry(
    previous: bytes,
    kind: int,
    term: Term,
    stamped_ms: int,
    operation: bytes,
    meta: bytes,
    block: bytes,
    block_digest: bytes,
) -> tuple[bytes, bytes]:
    """Returns (value, chain) of a new entry; `previous` is the chain of the entry before it."""
    sizes = (len(meta), len(block))
    bound = _BOUND.pack(ENTRY_VERSION, kind, 0, *sizes, stamped_ms, *term, operation, block_digest)
    chain = digest(previous + bound + meta)
    head = bound + chain
    return b"".join((head, struct.pack(">I", crc32(meta, crc32(head))), meta, block)), chain


def decode_entry(raw: bytes, what: str, *, verify_block: bool = True) -> Entry:
    """Returns an entry; raises `Corrupt` when its header, meta or (unless told not to look) block were changed."""
    entry, at = _decode_whole(raw, what)
    block = raw[at:]
    if verify_block and block and digest(block) != entry.block_digest:
        raise Corrupt(f"{what}: the data fails its digest.", what=what)
    return entry._replace(block=block) if block else entry


def check_entry(raw: bytes, what: str) -> tuple[Entry, memoryview]:
    """Returns an entry without its block, and the block, copying neither; raises `Corrupt` as `decode_entry` does."""
    entry, at = _decode_whole(raw, what)
    block = memoryview(raw)[at:]
    if block and digest(block) != entry.block_digest:
        raise Corrupt(f"{what}: the data fails its digest.", what=what)
    return entry, block


def _decode_whole(raw: bytes, what: str) -> tuple[Entry, int]:
    """Returns what `_decode_head` does; raises `Corrupt` also where the block has another length than is said there."""
    entry, at = _decode_head(raw, what)
    block_bytes = 0 if entry.stripped else _ENTRY.unpack_from(raw)[4]
    if len(raw) - at != block_bytes:
        raise Corrupt(f"{what} has {len(raw) - at} bytes of data where {block_bytes} belong.", what=what)
    return entry, at


def decode_beginning(raw: bytes, what: str) -> Entry:
    """Returns an entry without its block from its first bytes; raises `Corrupt` where they do not hold all its meta."""
    return _decode_head(raw, what)[0]


def _decode_head(raw: bytes, what: str) -> tuple[Entry, int]:
    """Returns an entry without its block and where that begins; raises `Corrupt` when header or meta were changed."""
    if len(raw) < ENTRY_HEADER_BYTES:
        raise Corrupt(f"{what} is too short to be an entry.", what=what)
    version, kind, flags, meta_bytes, block_bytes, stamped, t0, t1, operation, block_digest, chain, checksum = (
        _ENTRY.unpack_from(raw)
    )
    meta = raw[ENTRY_HEADER_BYTES : ENTRY_HEADER_BYTES + meta_bytes]
    stripped = flags == _STRIPPED and block_bytes > 0
    is_whole = version == ENTRY_VERSION and flags == stripped and len(meta) == meta_bytes
    if not is_whole or crc32(meta, crc32(_header(raw))) != checksum:
        raise Corrupt(f"{what} fails its checksum.", what=what)
    entry = Entry(kind, (t0, t1), stamped, operation, meta, b"", block_digest, chain, stripped)
    return entry, ENTRY_HEADER_BYTES + meta_bytes


def _header(raw: bytes) -> bytes:
    """Returns the header as it was when it was chained: without the flag that a witness sets."""
    return raw[:2] + b"\0\0" + raw[4 : ENTRY_HEADER_BYTES - 4]


def follows(previous: bytes, raw: bytes) -> bool:
    """Returns whether an entry's chain is that of an entry after `previous`."""
    meta_bytes = _ENTRY.unpack_from(raw)[3]
    bound = _header(raw)[: _BOUND.size]
    return digest(previous + bound + raw[ENTRY_HEADER_BYTES : ENTRY_HEADER_BYTES + meta_bytes]) == entry_chain(raw)


def entry_chain(raw: bytes) -> bytes:
    """Returns the chain of an entry from its first ENTRY_HEADER_BYTES."""
    return raw[_BOUND.size : _BOUND.size + DIGEST_BYTES]


def entry_bytes(raw: bytes) -> int:
    """Returns how long meta and block of an entry are, from its first ENTRY_HEADER_BYTES."""
    meta_bytes, block_bytes = _ENTRY.unpack_from(raw)[3:5]
    return int(meta_bytes + block_bytes)


def beginning_bytes(raw: bytes) -> int:
    """Returns how long header and meta of an entry are, from its first ENTRY_HEADER_BYTES."""
    return ENTRY_HEADER_BYTES + int(_ENTRY.unpack_from(raw)[3])


def entry_operation(raw: bytes) -> bytes:
    """Returns the operation key of an entry from its first ENTRY_HEADER_BYTES."""
    operation: bytes = _ENTRY.unpack_from(raw)[8]
    return operation


def strip_block(raw: bytes) -> bytes:
    """Returns the entry as a witness keeps it: digest, but no data; the chain still holds."""
    meta_bytes, block_bytes = _ENTRY.unpack_from(raw)[3:5]
    if not block_bytes:
        return raw
    return raw[:2] + struct.pack(">H", _STRIPPED) + raw[4 : ENTRY_HEADER_BYTES + meta_bytes]


# --- undo: what state rows were before an entry


def encode_undo(pairs: Sequence[tuple[bytes, bytes | None]], under: bytes = b"") -> bytes:
    parts: list[bytes] = []
    for key, old in pairs:
        if old is None:
            parts += (_UNDO.pack(len(key), 0, 0), key)
        else:
            parts += (_UNDO.pack(len(key), 1, len(old)), key, old)
    return encode_row(b"".join(parts), under)


def decode_undo(raw: bytes, what: str, under: bytes = b"") -> list[tuple[bytes, bytes | None]]:
    body = decode_row(raw, what, under)
    at, pairs = 0, []
    while at + 7 <= len(body):
        key_bytes, there, value_bytes = _UNDO.unpack_from(body, at)
        at += 7
        key = body[at : at + key_bytes]
        at += key_bytes
        pairs.append((key, body[at : at + value_bytes] if there else None))
        at += value_bytes
    if at != len(body):
        raise Corrupt(f"{what} holds no pre-images.", what=what)
    return pairs
