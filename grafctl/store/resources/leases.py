"""The leases of a lineage as one entry finds them and leaves them: rows `T`, and the dead letters that their end makes.

Promises
- The rows are read once and only where they matter; `writes` names each lease that is another one now, by its token.
- A lease whose last record is taken out is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from grafctl.store import keys
from grafctl.store.intervals import Intervals
from grafctl.store.records import parse_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.resources.delivery import Grants, Lineage, without


def leases_of(state: State, name: str) -> list[tuple[int, dict[str, Any]]]:
    """Returns (token, lease) of every lease of a lineage; nobody changes what a lease holds."""
    return [(keys.last_u64(row), _parsed(body)) for row, body in state.scan(keys.leases(name))]


@lru_cache(maxsize=256)
def _parsed(body: bytes) -> dict[str, Any]:
    """Each ack looks at all leases of its lineage, to decide and to apply; most are as they were."""
    lease: dict[str, Any] = parse_json(body)
    return lease


class Leases:
    """All leases of one lineage, on which an entry works."""

    __slots__ = ("_found", "_rows", "_state", "name")

    def __init__(self, state: State, name: str) -> None:
        self._state, self.name = state, name
        self._found: dict[int, dict[str, Any]] | None = None  # as they were
        self._rows: dict[int, dict[str, Any]] = {}

    @property
    def rows(self) -> dict[int, dict[str, Any]]:
        """The leases by token; to be changed by putting in others, not in place."""
        if self._found is None:
            self._found = dict(leases_of(self._state, self.name))
            self._rows = dict(self._found)
        return self._rows

    def held_by(self, group: str, token: int | None) -> Grants:
        """Returns what a group holds, or what one of its leases holds."""
        if token is not None:
            lease = self.rows.get(token)
            return lease["grants"] if lease is not None and lease["group"] == group else []
        return [grant for lease in self.rows.values() if lease["group"] == group for grant in lease["grants"]]

    def deadline_ms(self) -> int | None:
        """Returns when the first of them runs out."""
        return min((lease["until"] for lease in self.rows.values()), default=None)

    def expired(self, lineage: Lineage, now_ms: int) -> list[int]:
        """Returns the tokens of the leases that have run out."""
        if lineage.deadline_ms is None or lineage.deadline_ms > now_ms:
            return []
        return [token for token, lease in self.rows.items() if lease["until"] <= now_ms]

    def end(self, lineage: Lineage, tokens: Sequence[int], now_ms: int) -> Writes:
        """Ends leases that have run out, here and in `lineage`; returns the rows of what is dead now."""
        if not tokens:
            return []
        writes: Writes = []
        for token in tokens:
            lease = self.rows.pop(token)
            holder = self._state.get_json(keys.group(lease["group"]))
            buried = lineage.give_back(lease["grants"], 0, holder["max_deliveries"])
            writes += bury(self.name, buried, lease["group"], "lease expired", now_ms)
        lineage.deadline_ms = self.deadline_ms()
        return writes

    def take_out(self, lineage: Lineage, ranges: Intervals) -> None:
        """Takes these offsets out of every lease."""
        for token, lease in list(self.rows.items()):
            left = without(lease["grants"], ranges)
            if not left:
                del self.rows[token]
            elif left != lease["grants"]:
                self.rows[token] = lease | {"grants": left}
        lineage.deadline_ms = self.deadline_ms()

    def writes(self) -> Writes:
        """Returns the rows of the leases that are others now."""
        if self._found is None:
            return []
        writes: Writes = []
        for token, lease in self._found.items():
            row, now = keys.lease(self.name, token), self._rows.get(token)
            if now is not lease:
                writes.append((row, None) if now is None else json_write(row, now))
        return writes


def bury(name: str, buried: Grants, group: str, reason: str, now_ms: int) -> Writes:
    """Returns the rows of dead letters."""
    return [
        json_write(keys.dead(name, offset), {"group": group, "deliveries": count, "reason": reason, "ms": now_ms})
        for start, stop, count in buried
        for offset in range(start, stop)
    ]
