"""The match keys of records as a carry needs them: of many at once, as the bytes by which they are compared.

Promises
- They are those by which the outputs are compared (`switch_match.py`); a record without one is None.
"""

from __future__ import annotations

from grafctl.store.blocks import Columns
from grafctl.store.switch_match import match_key


def matches_of(match: str, columns: Columns) -> list[bytes | None]:
    """Returns the match key of each of some records."""
    parts = zip(columns.payloads, columns.ids, columns.keys, strict=True)
    return [match_key(match, *part).hash or None for part in parts]
