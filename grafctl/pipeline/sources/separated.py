"""CSV: the first row of a file names the fields, and each row after it becomes a JSON object of texts.

Quoting is that of RFC 4180: a quoted field may hold commas, line ends and doubled quotes; a quote inside a field that
does not begin with one is a character like any other. White space is part of a field. A blank line is passed over.

Promises
- A row that has another number of fields than the header, is not UTF-8, breaks the quoting or is too long is an item
  with a problem, and the rows after it are read as if it were not there.
- A row that is too long ends where its quotes end, not at the next line: what is inside a text is never taken for
  rows. Of such a row no more than the limit was in memory. A quote that is never closed reaches to the end of the file.
- A file whose header cannot be used is refused (`Usage`): no row of it could be named.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator

from grafctl.errors import Usage
from grafctl.json_text import encoder
from grafctl.names import shown
from grafctl.pipeline.sources.item import TOO_LONG, Item, bad
from grafctl.pipeline.sources.naming import NO_NAMES, Naming
from grafctl.pipeline.sources.reading import LINE_BYTES_MAX, Dropped, Line, Torn
from grafctl.store.blocks import PAYLOAD_BYTES_MAX

FIELDS_MAX = 10_000

_write = encoder(sort_keys=False, allow_nan=False)


class _TooLong(Exception):
    """A row that passed the limit; it is raised through the reader of `csv`."""


class Rows:
    """The lines of one file as `csv` asks for them; keeps those of the row that it is at."""

    def __init__(self, batches: Iterator[list[Line]], bytes_max: int = LINE_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._batches = batches
        self._ready: deque[bytes | Dropped] = deque()
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self.line = 0  # the number of the last line that was given away
        self.first = 0  # of the first line of this row
        self._reader = csv.reader(self, strict=True)
        csv.field_size_limit(max(csv.field_size_limit(), bytes_max))  # of the whole process; ours is below

    def fill(self) -> bool | None:
        """Waits for lines; returns True when there are some, None where it would wait, False at the end."""
        if not self._ready:
            for batch in self._batches:
                self._ready.extend(line for line in batch if not isinstance(line, Torn))  # which no file has
                return True if batch else None
            return False
        return True

    def next_row(self) -> tuple[list[str], str | None]:
        """Returns the next row and what is wrong with it; raises StopIteration at the end."""
        self._kept, self._kept_bytes = [], 0
        self.first = self.line + 1
        try:
            return next(self._reader), None
        except csv.Error as error:
            return [], _why(str(error))
        except _TooLong:
            self._kept = []
            return [], TOO_LONG

    @property
    def raw(self) -> bytes:
        """The bytes of this row without the end of its last line."""
        return b"\n".join(self._kept)

    def __iter__(self) -> Rows:
        return self

    def __next__(self) -> str:
        while not self._ready:
            if self.fill() is False:
                raise StopIteration
        line = self._ready.popleft()
        self.line += 1
        if not isinstance(line, bytes) or self._kept_bytes + len(line) > self._bytes_max:
            self._pass_over(line, is_inside=bool(self._kept))
            raise _TooLong
        self._kept.append(line)
        self._kept_bytes += len(line) + 1
        # What is no UTF-8 becomes half characters, which are found when the row is written as JSON.
        return str(line, "utf-8", "surrogateescape") + "\n"

    def _pass_over(self, line: bytes | Dropped, *, is_inside: bool) -> None:
        """Takes lines until the quotes of this row end."""
        while True:
            quotes = line.count(b'"') if isinstance(line, bytes) else line.quotes
            is_inside ^= quotes % 2 == 1
            if not is_inside or (not self._ready and not self._wait()):
                return
            line = self._ready.popleft()
            self.line += 1

    def _wait(self) -> bool:
        while (state := self.fill()) is None:
            pass
        return state


def _why(error: str) -> str:
    """Returns what is wrong with a row in our words; those of `csv` speak of its options."""
    if "end of data" in error:
        return "It has a quote that is not closed."
    if "expected after" in error:
        return "Something stands behind a closing quote that is neither a comma nor the end of the line."
    return "A carriage return stands in a field without quotes."


class Separated:
    """Reads CSV with the names that one source declares."""

    def __init__(self, naming: Naming, start: int) -> None:
        self._naming = naming
        self._skip = start  # items that are still to be passed over

    def items(self, batches: Iterator[list[Line]], name: str) -> Iterator[list[Item]]:
        """Yields the items of a file as they come, and an empty list before it waits."""
        rows = Rows(batches)
        header: list[str] | None = None
        found: list[Item] = []
        while (state := rows.fill()) is not False:
            if state is None or len(found) >= 1000:
                yield found
                found = []
                continue
            try:
                fields, problem = rows.next_row()
            except StopIteration:
                break
            if not fields and problem is None:
                continue  # a blank line
            if header is None:
                header = named(fields, problem, f"{name}:{rows.first}")
            elif self._skip:
                self._skip -= 1
            else:
                found.append(self._item(header, fields, problem, rows, f"{name}:{rows.first}"))
        yield found

    def _item(self, header: list[str], fields: list[str], problem: str | None, rows: Rows, place: str) -> Item:
        if problem is None and len(fields) != len(header):
            problem = f"It has {len(fields)} fields, and the header has {len(header)}."
        if problem is not None:
            return bad(rows.raw, place, problem)
        record = dict(zip(header, fields, strict=True))
        try:
            payload = _write(record).encode()
        except UnicodeEncodeError:
            return bad(rows.raw, place, "It is not UTF-8.")
        if len(payload) > PAYLOAD_BYTES_MAX:
            return bad(b"", place, TOO_LONG)
        try:
            names = self._naming.of(record) if self._naming.is_needed else NO_NAMES
        except ValueError as error:
            return bad(payload, place, str(error))
        return Item(payload, *names, place, None)


def named(fields: list[str], problem: str | None, place: str) -> list[str]:
    """Returns the names of the fields; raises `Usage` where they cannot name anything."""
    try:
        "".join(fields).encode()
    except UnicodeEncodeError:
        problem = "It is not UTF-8."
    if problem is not None:
        raise Usage(f"{place}: the header cannot be read. {problem}", hint="Name the fields in the first row.")
    if len(fields) > FIELDS_MAX:
        raise Usage(f"{place}: the header has {len(fields)} fields; at most {FIELDS_MAX} are allowed.")
    if "" in fields:
        raise Usage(f"{place}: field {fields.index('') + 1} of the header has no name.", hint="Name every field.")
    seen = set[str]()
    for field in fields:
        if field in seen:
            raise Usage(f"{place}: the header has {shown(field)} twice.", hint="Give each field its own name.")
        seen.add(field)
    return fields
