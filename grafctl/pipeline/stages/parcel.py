"""What stages hand each other over an edge: a record with its names, and of which record of the chain's input it came.

| bytes | what                                                                                                        |
|-------|-------------------------------------------------------------------------------------------------------------|
| 1     | version                                                                                                     |
| 1     | flags: 1 it is the last that came of its origin, 2 it is a mark, 4 it has names                             |
| 8     | run of the chain                                                                                            |
| 8     | origin: the number of the record of the chain's input that it came of                                       |
| 8     | digest of the input up to and with its origin                                                               |
| 4     | bytes of the names: JSON of id, key and headers; then they; then the payload                                |

A *mark* is no record: it says that all that came of its origin has gone by, where that is nothing.

Promises
- What is decoded is what was encoded, or `ValueError` says that this is no parcel.
- Where one of a later origin has gone by, all that came of the earlier ones has gone by before it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from grafctl import json_text

VERSION = 1
LAST, MARK, NAMED = 1, 2, 4
_HEAD = struct.Struct(">BBQQ8sI")
HEAD_BYTES = _HEAD.size
DIGEST_BYTES = 8
NO_DIGEST = bytes(DIGEST_BYTES)
_FRAME_BYTES = 16  # of the names' JSON, beside the characters of an id and a key
_CHARACTER_BYTES = 6  # as which one is written at most
_write = json_text.encoder(sort_keys=False, allow_nan=False)


class Parcel(NamedTuple):
    """One record on its way, or a mark."""

    run: int
    origin: int
    is_last: bool
    digest: bytes
    payload: bytes | None  # None of a mark
    id: str | None = None
    key: str | None = None
    headers: Mapping[str, str] | None = None


def mark_of(parcel: Parcel) -> Parcel:
    """Returns the mark that stands for a parcel of which nothing comes."""
    return Parcel(parcel.run, parcel.origin, True, parcel.digest, None)


def size_of(parcel: Parcel) -> int:
    """Returns how many bytes a parcel has when it is encoded."""
    return HEAD_BYTES + len(_encoded_names(parcel)) + len(parcel.payload or b"")


def is_at_most(parcel: Parcel, most: int) -> bool:
    """Returns whether a parcel has at most so many bytes; one that is far from it is not encoded for that."""
    if not parcel.headers:
        names = len(parcel.id or "") + len(parcel.key or "")
        if HEAD_BYTES + _FRAME_BYTES + names * _CHARACTER_BYTES + len(parcel.payload or b"") <= most:
            return True
    return size_of(parcel) <= most


def _encoded_names(parcel: Parcel) -> bytes:
    if parcel.id is None and parcel.key is None and not parcel.headers:
        return b""
    headers = dict(parcel.headers) if parcel.headers else None
    return _write([parcel.id, parcel.key, headers]).encode(errors="surrogatepass")


def encode(parcel: Parcel) -> bytes:
    names = _encoded_names(parcel)
    flags = LAST * parcel.is_last | MARK * (parcel.payload is None) | NAMED * bool(names)
    head = _HEAD.pack(VERSION, flags, parcel.run, parcel.origin, parcel.digest, len(names))
    return head + names + (parcel.payload or b"")


def decode(body: bytes) -> Parcel:
    """Returns a parcel of its bytes; raises `ValueError`."""
    if len(body) < HEAD_BYTES:
        raise ValueError("it is too short")
    version, flags, run, origin, digest, size = _HEAD.unpack_from(body)
    if version != VERSION or flags > LAST | MARK | NAMED or HEAD_BYTES + size > len(body):
        raise ValueError("it does not begin as one")
    id = key = headers = None
    if flags & NAMED:
        id, key, headers = _names(body[HEAD_BYTES : HEAD_BYTES + size])
    payload = None if flags & MARK else body[HEAD_BYTES + size :]
    return Parcel(run, origin, bool(flags & LAST), digest, payload, id, key, headers)


def _names(body: bytes) -> tuple[str | None, str | None, dict[str, str] | None]:
    try:
        found = json.loads(body)
    except RecursionError:
        found = None
    if not isinstance(found, list) or len(found) != 3:
        raise ValueError("its names are none")
    id, key, headers = found
    texts = [each for each in (id, key) if each is not None]
    if isinstance(headers, dict):
        texts += [*headers, *headers.values()]
    elif headers is not None:
        texts.append(headers)
    if not all(isinstance(text, str) for text in texts) or isinstance(headers, str):
        raise ValueError("its names are none")
    return id, key, headers


def without_marks(parcels: Iterable[Parcel]) -> list[Parcel]:
    """Returns parcels of one run in their order, without the marks behind which more comes: that will say the same."""
    found: list[Parcel] = []
    for parcel in parcels:
        if found and found[-1].payload is None:
            found.pop()
        found.append(parcel)
    return found
