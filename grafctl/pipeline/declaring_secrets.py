"""Secrets have no place in a declared file: finds them, and keeps them out of what is said about the file.

Promises
- A text with a password in it, as in `postgresql://user:PASSWORD@host/db` or `password=PASSWORD`, is a problem with the
  hint to name a variable, and no sentence about the file holds it.
- Records of tests are no settings: they may look as they like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from grafctl.declare.document import Place
from grafctl.declare.table import Table

SHORTEST = 8  # characters of a secret that is looked for in every sentence
TABLE_KEY = 3  # parts of the place of a key in a [[table]]
_TABLES = ("source", "sink", "stage")
_KEY = re.compile(r"(?i)(?:.*_)?(?:password|passwd|pwd|secret|token|dsn|api_?key|credentials)")
_IN_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/@:]*:([^\s/@]+)@")
_NAMED = re.compile(r"(?i)\b(?:password|passwd|pwd|secret|token|api_?key)\s*=\s*(?![\s=$])('[^']*'|[^\s;&'\"]+)")


def note_secrets(root: Table) -> None:
    """Notes every secret of a file, and takes what would show it out of the notes that are there."""
    found = {root.lines.of(place): secret for place, secret in _secrets(root.body, ())}
    hidden = [secret for secret in found.values() if len(secret) >= SHORTEST]
    # NB all notes of such a line go: a sentence shows a text cut or escaped, and a piece of a secret is too much.
    kept = [note for note in root.notes if note[0] not in found and not any(secret in note[1] for secret in hidden)]
    root.notes[:] = kept + [(line, _SENTENCE) for line in found]


def _secrets(value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    if place[:1] == ("test",) and len(place) > TABLE_KEY:
        return  # a record
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _secrets(item, (*place, key))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from _secrets(item, (*place, at))
    elif isinstance(value, str):
        found = _IN_URL.search(value) or _NAMED.search(value)
        if found:
            yield place, found[1].strip("'")
        elif len(place) == TABLE_KEY and place[0] in _TABLES and _KEY.fullmatch(str(place[-1])):
            yield place, value


_SENTENCE = (
    "This holds a secret, which a declared file must not; put it into an environment variable and name that, "
    'such as variable = "WAREHOUSE_DSN".'
)
