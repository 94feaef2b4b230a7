"""Ed25519 keys of health authorities: two small text files, and signatures over canonical JSON.

Only this file imports cryptography, and only inside the functions that need it: reading a public key does not.

Promises
- `generate` never overwrites a file: where either of the two is there, neither is written. The private key is
  readable by its owner alone from its first byte on.
- A private key that others may read is refused before it signs anything. A file of the wrong kind is refused too, so
  a private key never reaches the store as if it were a public one; no message shows what a file holds.
- A signed observation names its store, so it is worth nothing in another one.

When it fails: killed between the two files, `generate` leaves NAME.pub alone, which signs nothing; it says so the
next time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from pathlib import Path

from grafctl.errors import Corrupt, GenerationConflict, GrafctlError, HealthRejected, NotFound, Usage
from grafctl.results import Shown
from grafctl.store.driver.private import sync_path
from grafctl.store.files import unwritable
from grafctl.store.records import encode_json

PRIVATE_HEADER = "grafctl private key, Ed25519, version 1"
PUBLIC_HEADER = "grafctl public key, Ed25519, version 1"
KEY_BYTES = 32
FILE_BYTES_MAX = 4096
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def observation_message(store: str, domain: str, authority: str, status: str, observed_ms: int) -> bytes:
    """Returns the bytes that an observation signs."""
    body = {"authority": authority, "domain": domain, "observed_ms": observed_ms, "status": status, "store": store}
    return encode_json(body)


def fingerprint(public_key: str) -> str:
    """Returns a short name of a public key, for people to compare."""
    try:
        digest = hashlib.sha256(base64.b64decode(public_key)).digest()
    except ValueError as error:
        raise Corrupt("The public key of an authority is not base64.") from error
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


# --- files


def generate(name: str, directory: Path) -> Shown:
    """Writes NAME.key and NAME.pub; raises `GenerationConflict` where either is there."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private_path, public_path = directory / f"{name}.key", directory / f"{name}.pub"
    for path in (private_path, public_path):
        if os.path.lexists(path):
            raise _already(path, name)
    private = Ed25519PrivateKey.generate()
    public_key = base64.b64encode(private.public_key().public_bytes_raw()).decode()
    private_key = base64.b64encode(private.private_bytes_raw()).decode()
    _write_new(public_path, PUBLIC_HEADER, public_key, 0o644, name)
    try:
        _write_new(private_path, PRIVATE_HEADER, private_key, 0o600, name)
        sync_path(directory)
    except GrafctlError:
        public_path.unlink()  # it is ours: it was made a moment ago, by this call
        raise
    return Shown(
        {
            "name": name,
            "private_key": str(private_path),
            "public_key": str(public_path),
            "fingerprint": fingerprint(public_key),
        }
    )


def _already(path: Path, name: str) -> GenerationConflict:
    return GenerationConflict(
        f"{path} is there already, and a key is never overwritten.",
        hint=f"Use it, or run `grafctl authority keygen` with another name than {name}.",
        file=str(path),
    )


def _write_new(path: Path, header: str, key: str, mode: int, name: str) -> None:
    """Makes a file that was not there, durably; removes it again where it cannot be finished."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise _already(path, name) from None
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        os.write(handle, f"{header}\n{key}\n".encode())
        os.fsync(handle)
    except OSError as error:
        path.unlink()
        raise unwritable(path, error) from None
    finally:
        os.close(handle)


def load_private(path: Path) -> bytes:
    """Returns the private key of a file that only its owner can read.

    Raises `HealthRejected` where others may read it, because then a signature no longer says who made it, and because
    that refusal is one to find in the audit log; `NotFound` without a file, and `Usage` where it holds no private key.
    """
    text, mode = _read(path)
    if mode & _OTHERS:
        raise HealthRejected(
            f"{path} can be used by others than its owner (mode {stat.S_IMODE(mode):o}).",
            hint=f"Run `chmod 600 {path}`, or make a new key if others may have read this one.",
            file=str(path),
        )
    return _decode(path, text, PRIVATE_HEADER, "private")


def load_public(path: Path) -> str:
    """Returns the public key of a file, in base64; raises `NotFound`, or `Usage` where it holds none."""
    key = _decode(path, _read(path)[0], PUBLIC_HEADER, "public")
    return base64.b64encode(key).decode()


def _read(path: Path) -> tuple[str, int]:
    """Returns the text and the mode of a regular file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not make it wait
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"There is no file {path}.", hint="Make one with `grafctl authority keygen NAME`.") from None
    except (OSError, ValueError) as error:
        raise Usage(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise Usage(f"{path} is not a file.")
        return os.read(handle, FILE_BYTES_MAX).decode("ascii", errors="replace"), mode
    finally:
        os.close(handle)


def _decode(path: Path, text: str, header: str, kind: str) -> bytes:
    lines = text.splitlines()
    try:
        key = base64.b64decode(lines[1].strip(), validate=True) if len(lines) == 2 and lines[0] == header else b""
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        other = lines[:1] in ([PRIVATE_HEADER], [PUBLIC_HEADER]) and lines[0] != header
        what = "holds the other half of a pair of keys" if other else "does not hold a key of grafctl"
        raise Usage(
            f"{path} {what}; a {kind} key is wanted.",
            hint=f"Name the file NAME.{'key' if kind == 'private' else 'pub'} that `grafctl authority keygen` wrote.",
        )
    return key


# --- signatures


def sign(private: bytes, message: bytes) -> str:
    """Returns the signature of a message, in base64."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return base64.b64encode(Ed25519PrivateKey.from_private_bytes(private).sign(message)).decode()


def verify(public_key: str, signature: str, message: bytes) -> bool:
    """Returns whether the signature is that of the message under the public key; whatever is malformed is not."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        key.verify(base64.b64decode(signature, validate=True), message)
    except (InvalidSignature, ValueError):
        return False
    return True
