"""The state of one resource among several of a log: whoever reads or writes it sees its rows as if it were alone.

A log carries resources with the numbers 1, 2 and so on. Code that knows one resource speaks of rows under
`keys.PAYLOAD`; a scope puts the resource's own number there. Rows of the log itself (locator, proofs) are the same for
all of them, and the first resource's are as they are spoken of, so a log of one resource pays nothing.

Promises
- No row of another resource can be named through a scope.
"""

from __future__ import annotations

from grafctl.store import keys
from grafctl.store.records import encode_json, parse_json
from grafctl.store.replica.state import State, Writes
from grafctl.typed import Any, Iterator

FIRST = 1
_SPOKEN = keys.PAYLOAD
_CUT = len(_SPOKEN)


class Scoped:
    """The rows of one resource that is not the first of its log."""

    __slots__ = ("_own", "number", "whole")

    def __init__(self, whole: State, number: int) -> None:
        self.whole, self.number = whole, number
        self._own = keys.carried_prefix(number)

    def get(self, row: bytes) -> bytes | None:
        return self.whole.get(self._there(row))

    def get_json(self, row: bytes) -> Any:
        return self.whole.get_json(self._there(row))

    def scan(self, span: tuple[bytes, bytes], *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        there = self._there(span[0]), self._there(span[1])
        is_moved = there[0] != span[0]
        for row, body in self.whole.scan(there, reverse=reverse):
            yield (_SPOKEN + row[_CUT:] if is_moved else row), body

    def _there(self, row: bytes) -> bytes:
        return self._own + row[_CUT:] if row.startswith(_SPOKEN) else row


def scoped(state: State, number: int) -> State:
    """Returns the state as the resource of this number sees it."""
    return state if number == FIRST else Scoped(state, number)


def whole(state: State) -> State:
    """Returns the state of the log, as its first resource sees it."""
    return state.whole if isinstance(state, Scoped) else state


def number_of(state: State) -> int:
    """Returns the number of the resource that sees the log's state so."""
    return state.number if isinstance(state, Scoped) else FIRST


def placed(writes: Writes, number: int) -> Writes:
    """Returns the writes of a resource as they are in the log's own rows."""
    own = keys.carried_prefix(number)
    return [(own + row[_CUT:] if row.startswith(_SPOKEN) else row, body) for row, body in writes]


def numbered(meta: bytes, number: int) -> bytes:
    """Returns the meta of an entry that says which resource of the log it is of; the first one's needs no saying."""
    return meta if number == FIRST else encode_json({**parse_json(meta), "of": number})
