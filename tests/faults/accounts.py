"""What a scenario knows from outside of a keyed table: what was tried under each key, and what was acknowledged with
which version. `wrong` says what a table that holds these rows has lost, kept, or made up.

Versions order the writes of a key. One that was not acknowledged may be there or not; if it is, it is newer than what
was acknowledged before it was tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

Value = str | None  # None: deleted


@dataclass
class Accounts:
    """The writes of each key: acknowledged ones by version, and those of which nobody knows."""

    written: dict[str, dict[int, Value]] = field(default_factory=dict)
    unknown: dict[str, list[Value]] = field(default_factory=dict)

    def tries(self, key: str, value: Value) -> None:
        self.written.setdefault(key, {})
        self.unknown.setdefault(key, []).append(value)

    def put(self, key: str, value: Value, version: int) -> None:
        """Notes that a write was acknowledged; raises where its version was given to another. 0: nothing was there."""
        if value in self.unknown.get(key, []):
            self.unknown[key].remove(value)
        known = self.written.setdefault(key, {})
        if version:
            assert known.setdefault(version, value) == value, f"version {version} of {key} was given twice"

    def wrong(self, rows: Mapping[str, tuple[str, int]]) -> Iterator[str]:
        """Yields what does not hold of rows {key: (value, version)}."""
        yield from (f"key {key} is there, and nobody wrote it" for key in rows.keys() - self.written.keys())
        for key, known in self.written.items():
            newest = max(known, default=0)
            last, perhaps = known.get(newest), self.unknown.get(key, [])
            value, version = rows.get(key, (None, 0))
            is_last = value == last and (value is None or version == newest)
            if not is_last and not (value in perhaps and (value is None or version > newest)):
                there = f"key {key} holds {value!r} of version {version}"
                yield f"{there}; last was {last!r} of version {newest}, perhaps one of {perhaps}"
