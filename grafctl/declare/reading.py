"""A declared file as it was read: where, what it said, and what that declares.

Promises
- What is compared, planned and applied is what was read once: a file that is edited meanwhile changes nothing.
- `contents` names by their digests the other files that count: public keys and schemas.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from grafctl.declare.document import read_text
from grafctl.declare.store import Declaration


class DeclaredFile(NamedTuple):
    """One file, read once."""

    file: Path
    text: bytes
    declaration: Declaration

    @property
    def digest(self) -> str:
        return digest_of(self.text)


def digest_of(text: bytes) -> str:
    """Returns the digest of what a file holds."""
    return "sha256:" + hashlib.sha256(text).hexdigest()


def contents(declaration: Declaration) -> dict[str, str]:
    """Returns the digest of each file that a declaration names; raises `NotFound` where one is gone."""
    paths = sorted({*declaration.authorities.values(), *declaration.schemas.values()})
    return {str(path): digest_of(read_text(path)) for path in paths}
