"""What the two ends of an edge answer: tuples, because there are thousands a second.

When it fails: nothing here can.
"""

from __future__ import annotations

from grafctl.results import Record
from grafctl.typed import NamedTuple


class Pushed(NamedTuple):
    """How many records an edge has taken, and the offset of the first; `full` where it had no room for them all."""

    pushed: int
    offset: int | None
    full: bool
    generation: int


class Taken(NamedTuple):
    """Records of an edge that stay there until they are finished, and the generation that they are of."""

    records: list[Record]
    generation: int
