"""JSON Lines: a line is a record, and its payload is the line's own bytes.

Promises
- A line of JSON is a record; any other is an item with a problem; a line of white space is passed over.
- A line is decoded only where an expression or a doubt needs it; whether it is JSON is known all the same (`validity`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from grafctl.expression import values
from grafctl.pipeline.sources.item import TOO_LONG, Item, bad
from grafctl.pipeline.sources.naming import NO_NAMES, Naming
from grafctl.pipeline.sources.reading import Dropped, Line, Torn
from grafctl.pipeline.sources.validity import Validity, is_doubtful, may_be_doubtful

_new = tuple.__new__  # of a tuple whose fields are all there: half the time of its class


class JsonLines:
    """Reads lines with the names that one source declares."""

    def __init__(self, naming: Naming, start: int) -> None:
        self._naming = naming
        self._skip = start  # items that are still to be passed over
        self._validity = Validity()

    def items(self, batches: Iterator[list[Line]], name: str) -> Iterator[list[Item]]:
        """Yields the items of each batch of lines of a file, and an empty list before it waits."""
        at = 1
        for batch in batches:
            numbered = [(place, line) for place, line in enumerate(batch, at) if not _is_blank(line)]
            at += len(batch)
            if self._skip:
                numbered, self._skip = numbered[self._skip :], max(0, self._skip - len(numbered))
            yield self._items(numbered, name)

    def _items(self, numbered: Sequence[tuple[int, Line]], name: str) -> list[Item]:
        if not self._are_sound([line for _, line in numbered]):
            return [self._item(line, f"{name}:{at}") for at, line in numbered]
        if not self._naming.is_needed:
            return [_new(Item, (line, None, None, None, f"{name}:{at}", None)) for at, line in numbered]
        found, find = [], self._naming.find
        for at, line in numbered:
            names = find(line)  # type: ignore[arg-type]  # a sound one is kept
            place = f"{name}:{at}"
            found.append(self._item(line, place) if names is None else _new(Item, (line, *names, place, None)))
        return found

    def _are_sound(self, lines: Sequence[Line]) -> bool:
        """Returns whether all lines are sure to be JSON, where that is of any use."""
        if self._naming.is_needed and not self._naming.can_find:
            return False  # each is decoded anyway
        try:
            kept: list[bytes] = lines  # type: ignore[assignment]  # which this finds out
            if may_be_doubtful(b"".join(kept)) and any(map(is_doubtful, kept)):
                return False
            return self._validity.are_json([str(line, "utf-8") for line in kept])
        except (TypeError, UnicodeDecodeError):
            return False

    def _item(self, line: Line, place: str) -> Item:
        """Returns the item of a line that takes a decoder."""
        if isinstance(line, Dropped):
            return bad(b"", place, TOO_LONG)
        if isinstance(line, Torn):
            return bad(line.data, place, "The program ended in the middle of this line.")
        try:
            record = values.decode(line)
            names = self._naming.of(record) if self._naming.is_needed else NO_NAMES
        except ValueError as error:
            return bad(line, place, str(error))
        return Item(line, *names, place, None)


def _is_blank(line: Line) -> bool:
    return isinstance(line, bytes) and (not line or line.isspace())
