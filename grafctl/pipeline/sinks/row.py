"""What a sink is given and what it says: rows under their effect keys, and what became of them.

Promises
- A row and its effect key are committed together or not at all. An effect key that is there is never written again:
  with the same fingerprint that is a replay, with another one a conflict, which is told and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from grafctl.pipeline.message import Message

LOCK_WAIT_S = 5.0  # for another writer of the same warehouse


class Row(NamedTuple):
    """One row of a warehouse."""

    effect: str
    fingerprint: bytes
    values: tuple[Any, ...]


class Written(NamedTuple):
    """What a commit did."""

    written: int
    replayed: int
    conflicts: list[tuple[int, str]]  # place in the batch and why this row is not written; no reason holds a value


class Sink(Protocol):
    """A warehouse that is open for writing."""

    def make_row(self, message: Message) -> Row:
        """Returns the row of a record; raises `Refused`."""
        ...

    def commit(self, rows: Sequence[Row]) -> Written:
        """Writes rows and their effect keys in one transaction, and returns when that is durable.

        Raises `Busy`, `StoreFull`, `Corrupt` and `ExternalFailed`; after each of them the same rows may be given again.
        """
        ...

    def close(self) -> None:
        """Gives the warehouse back; what was committed stays."""
        ...


class Divided(NamedTuple):
    """A batch, parted by what is there already."""

    new: list[tuple[int, Row]]  # with the place in the batch
    replayed: int
    conflicts: list[tuple[int, str]]


def divide(rows: Sequence[Row], there: Mapping[str, bytes]) -> Divided:
    """Returns which rows are new; `there` has the fingerprints of those effects that are known, or some of them."""
    seen, new, replayed, conflicts = dict(there), list[tuple[int, Row]](), 0, list[tuple[int, str]]()
    for at, row in enumerate(rows):
        known = seen.get(row.effect)
        if known is None:
            seen[row.effect] = row.fingerprint
            new.append((at, row))
        elif known == row.fingerprint:
            replayed += 1
        else:
            conflicts.append((at, conflict(known, row)))
    return Divided(new, replayed, conflicts)


def conflict(known: bytes, row: Row) -> str:
    """Returns why a row is not written whose effect key is there."""
    return (
        f"Its effect key was committed before with another row: fingerprint {known.hex()[:16]} there, "
        f"{row.fingerprint.hex()[:16]} here."
    )
