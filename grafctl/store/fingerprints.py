"""Fingerprints of what is done under an idempotency key: a SHA-256 of the canonical encoding of (stage, key, payload).

Promises
- The encoding is length and bytes of the stage, length and bytes of the key, then the payload as it was given, so that
  no two triples are encoded alike.
- `canonical_json` gives equal JSON values equal bytes, or refuses what different readers would read differently: a name
  that comes twice, NaN, and numbers that are no number of ours.
"""

from __future__ import annotations

import json
import struct

from grafctl.errors import Usage
from grafctl.names import shown
from grafctl.store.records import encode_json, hasher
from grafctl.typed import Any

FINGERPRINT_BYTES = 32
DIGEST_BYTES = 16
PREFIX = "sha256:"

_LENGTH = struct.Struct(">I")


def _named(stage: str, key: str) -> bytes:
    first, second = stage.encode(), key.encode()
    return b"".join((_LENGTH.pack(len(first)), first, _LENGTH.pack(len(second)), second))


def key_digest(stage: str, key: str) -> bytes:
    """Returns what a key is found by: 16 bytes of the hash of (stage, key)."""
    name = _named(stage, key)
    return hasher(len(name))(name).digest()[:DIGEST_BYTES]


def key_digests(stage: str, names: list[str]) -> list[bytes]:
    """Returns the digests of many keys of a stage."""
    begun = hasher(64 * len(names))(_named(stage, "")[: 4 + len(stage.encode())])
    pack, digests = _LENGTH.pack, []
    for name in map(str.encode, names):
        sha = begun.copy()
        sha.update(pack(len(name)) + name)
        digests.append(sha.digest()[:DIGEST_BYTES])
    return digests


def fingerprint_of(stage: str, key: str, payload: bytes) -> bytes:
    """Returns the fingerprint of a payload under a key."""
    name = _named(stage, key)
    sha = hasher(len(name) + len(payload))(name)
    sha.update(payload)
    return sha.digest()


def canonical_json(payload: bytes) -> bytes:
    """Returns the canonical bytes of a JSON text: sorted names, no white space; raises `Usage` where it is none."""
    try:
        value = json.loads(payload.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        return encode_json(value)
    except (UnicodeError, ValueError, RecursionError) as error:
        why = str(error) if type(error) is ValueError else "it cannot be read"
        raise Usage(
            f"The payload is no JSON that has one meaning: {why}.",
            hint="Leave --canonical out to take it byte by byte.",
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number in JSON")


def parse_fingerprint(text: str) -> bytes:
    """Returns the bytes of `sha256:` and 64 hexadecimal digits; raises `Usage`."""
    digits = text.removeprefix(PREFIX)
    try:
        found = bytes.fromhex(digits) if text.startswith(PREFIX) and digits.isalnum() else b""
    except ValueError:
        found = b""
    if len(found) != FINGERPRINT_BYTES:
        raise Usage(f"{shown(text)} is no fingerprint.", hint="Write sha256: and 64 hexadecimal digits.")
    return found


def fingerprint_text(fingerprint: bytes) -> str:
    """Returns a fingerprint as it is printed."""
    return PREFIX + fingerprint.hex()
