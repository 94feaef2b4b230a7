"""Whether lines are JSON, without making values of them.

SQLite's parser says so four times as quickly as Python makes dicts that nobody wants.

Promises
- `are_json` is True only where each text is one JSON value of RFC 8259, as far as SQLite knows; False means no more
  than that somebody has to look. `tests/unit/test_source_validity.py` compares it with the decoder, form by form.
- What SQLite reads otherwise, `is_doubtful` finds: NUL, where it stops, and half a surrogate pair.
- What is JSON and yet refused by the decoder is not found: a key that comes twice, a number that is too large, too many
  levels. Whoever decodes the record refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_TOGETHER = 100  # texts in one statement: asking costs as much as looking at a short line


class Validity:
    """One private SQLite that holds nothing."""

    def __init__(self) -> None:
        import sqlite3

        self._ask = sqlite3.connect(":memory:", check_same_thread=False).execute
        self._error = sqlite3.Error

    def are_json(self, texts: Sequence[str]) -> bool:
        """Returns whether all texts are JSON; also False where SQLite was built without knowing."""
        try:
            return all(
                self._is_true(len(some), some)
                for some in (texts[at : at + _TOGETHER] for at in range(0, len(texts), _TOGETHER))
            )
        except (self._error, UnicodeEncodeError):
            return False

    def _is_true(self, number: int, texts: Sequence[str]) -> bool:
        statement = "SELECT " + "+".join(["json_valid(?)"] * number)
        (found,) = self._ask(statement, texts).fetchone()
        return bool(found == number)


def may_be_doubtful(lines: bytes) -> bool:
    """Returns whether `is_doubtful` may be true of any of these lines; much quicker than asking for each."""
    return b"\\" in lines or b"\0" in lines


is_doubtful = re.compile(rb"\\u[dD][89a-fA-F]|\0").search
