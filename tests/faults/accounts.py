"""What a scenario knows from outside of a keyed table: what it wrote under each key, in which order, and what was
acknowledged. `wrong` says what a table that holds these rows has lost, kept, or made up.

One writer at a time has a key, so its writes have an order; those that were not acknowledged may be there or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass
class Accounts:
    """The writes of each key: a value (None: deleted), and the version if it was acknowledged."""

    written: dict[str, list[tuple[str | None, int | None]]] = field(default_factory=dict)

    def tries(self, key: str, value: str | None) -> None:
        self.written.setdefault(key, []).append((value, None))

    def put(self, key: str, value: str | None, version: int) -> None:
        """Notes that a write was acknowledged: the last one that was tried, or one that nobody announced."""
        writes = self.written.setdefault(key, [])
        if writes and writes[-1] == (value, None):
            writes.pop()
        writes.append((value, version))

    def wrong(self, rows: Mapping[str, tuple[str, int]]) -> Iterator[str]:
        """Yields what does not hold of rows {key: (value, version)}."""
        yield from (f"key {key} is there, and nobody wrote it" for key in rows.keys() - self.written.keys())
        for key, writes in self.written.items():
            acked = [place for place, (_, version) in enumerate(writes) if version is not None]
            last = acked[-1] if acked else 0
            allowed = [value for value, _ in writes[last:]] + ([] if acked else [None])
            value, version = rows.get(key, (None, 0))
            if value not in allowed:
                yield f"key {key} holds {value!r}, and last were written {allowed}"
            newest = max((known for _, known in writes if known is not None), default=0)
            if value is not None and version < newest:
                yield f"key {key} has version {version}, and {newest} was acknowledged"
