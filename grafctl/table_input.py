"""Files of keys and values for `table load`: JSON Lines and CSV as batches of rows, and what no row is made of.

Of JSON a text is stored as its own UTF-8, and any other value as its JSON without white space, numbers in the digits
that they have. Where a field is named for the key and none for the value, the value is the whole row: the line as it
stands, or a JSON object of the texts of a CSV row.

Promises
- A line that is no row is told with its number and left out; the others come in their order.
- A batch has at most 10,000 rows and not much more than 4 MiB, and comes before the reader waits for more; memory does
  not grow with the file.
- What cannot be read at all, and CSV whose header does not name the columns, raises `Usage`.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO

from grafctl.errors import Usage
from grafctl.json_text import encoder
from grafctl.names import shown
from grafctl.pipeline.sources.item import TOO_LONG
from grafctl.pipeline.sources.reading import Line, lines
from grafctl.pipeline.sources.separated import Rows, named
from grafctl.store.operations.tables import ENTRY_WRITES, Item, check_item
from grafctl.streams import is_ready, read_some
from grafctl.typed import Any

LINE_BYTES_MAX = 64 << 20  # a value of 8 MiB has up to 48 in JSON
BATCH_BYTES = 4 << 20
ENDINGS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}

Tell = Callable[[int, str], None]


class Source:
    """The rows of one file; `form` is jsonl, csv, or auto for what the file's name says."""

    def __init__(self, name: str, form: str = "auto", *, key: str | None = None, value: str | None = None) -> None:
        self.name = "stdin" if name == "-" else name
        self.form = form_of(name) if form == "auto" else form
        if self.form == "csv" and key is None:
            raise Usage(
                "CSV has its keys in a column that must be named.",
                hint="Name it with --key COLUMN; --value names another.",
            )
        self._key, self._value = key, value
        self._stream = _opened(name)

    def batches(self, tell: Tell) -> Iterator[list[Item]]:
        """Yields the rows, and tells `tell` of every line that is none."""
        batches = lines(_chunks(self._stream), bytes_max=LINE_BYTES_MAX)
        rows = self._rows_of_csv(batches, tell) if self.form == "csv" else self._rows_of_json(batches, tell)
        found: list[Item] = []
        size = 0
        for row in rows:
            if row is not None:
                found.append(row)
                size += len(row.key) + len(row.value or b"")
            if found and (row is None or size >= BATCH_BYTES or len(found) == ENTRY_WRITES):
                yield found
                found, size = [], 0
        if found:
            yield found

    def close(self) -> None:
        if self.name != "stdin":
            self._stream.close()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- rows, and None before the reader waits

    def _rows_of_json(self, batches: Iterator[list[Line]], tell: Tell) -> Iterator[Item | None]:
        at = 0
        for batch in batches:
            if not batch:
                yield None
            for line in batch:
                at += 1
                try:
                    if not isinstance(line, bytes):
                        raise ValueError(TOO_LONG)
                    text = line.strip()
                    if text:
                        yield check_item(self._row_of_json(text))
                except (ValueError, RecursionError, Usage) as error:
                    tell(at, _why(error))

    def _row_of_json(self, line: bytes) -> Item:
        body = _decode(line.decode())
        if not isinstance(body, dict):
            raise ValueError("It is no JSON object.")
        key = _field(body, self._key or "key")
        if type(key) is int:
            key = b"%d" % key
        elif not isinstance(key, bytes):
            raise ValueError(f"{self._key or 'key'} is neither a text nor a whole number.")
        if self._key is not None and self._value is None:
            return Item(key, line)
        value = _field(body, self._value or "value")
        return Item(key, value if isinstance(value, bytes) else compact(value).encode())

    def _rows_of_csv(self, batches: Iterator[list[Line]], tell: Tell) -> Iterator[Item | None]:
        rows = Rows(batches, LINE_BYTES_MAX)
        header: list[str] | None = None
        while (state := rows.fill()) is not False:
            if state is None:
                yield None
                continue
            try:
                fields, problem = rows.next_row()
            except StopIteration:
                break
            if not fields and problem is None:
                continue  # a blank line
            if header is None:
                header = named(fields, problem, f"{self.name}:{rows.first}")
                key, value = self._columns(header)
                continue
            if problem is None and len(fields) != len(header):
                problem = f"It has {len(fields)} fields, and the header has {len(header)}."
            if problem is not None:
                tell(rows.first, problem)
                continue
            text = _compact(dict(zip(header, fields, strict=True))) if value is None else fields[value]
            try:
                yield check_item(Item(fields[key].encode(), text.encode()))
            except (ValueError, Usage) as error:
                tell(rows.first, _why(error))

    def _columns(self, header: list[str]) -> tuple[int, int | None]:
        """Returns where key and value stand; raises `Usage` where the header does not name them."""
        for column in filter(None, (self._key, self._value)):
            if column not in header:
                raise Usage(
                    f"{self.name} has no column {shown(column)}.",
                    hint=f"Its header names {', '.join(map(shown, header[:10]))}.",
                )
        return header.index(self._key or ""), None if self._value is None else header.index(self._value)


def form_of(name: str) -> str:
    """Returns the form that the ending of a file's name says; without one that is known, JSON Lines."""
    return next((form for ending, form in ENDINGS.items() if name.lower().endswith(ending)), "jsonl")


def _opened(name: str) -> BinaryIO:
    if name == "-":
        if sys.stdin is None:
            raise Usage("Standard input is closed.", hint="Give it a file or a pipe.")
        return sys.stdin.buffer
    try:
        file = open(name, "rb")  # noqa: SIM115  (the source closes it)
        if stat.S_ISCHR(os.fstat(file.fileno()).st_mode) and not file.isatty() and name != os.devnull:
            file.close()
            raise Usage(f"The file {name!r} is a device, which may never end.", hint="Name a file, or give '-'.")
        return file
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise Usage(f"The file {shown(name)} cannot be read: {why}.", hint="Name a file that is there.") from None


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Yields what comes until the end, and nothing (`b""`) before it waits."""
    while True:
        if not is_ready(stream):
            yield b""
        data = read_some(stream)
        if not data:
            return
        yield data


# --- JSON


class Digits(str):
    """A number as it is written, because 1.10 is not 1.1 to everybody and 1e400 no fraction at all."""

    __slots__ = ()


def _constant(text: str) -> Any:
    raise ValueError("It holds NaN or Infinity, which are no JSON.")


_decode = json.JSONDecoder(parse_float=Digits, parse_constant=_constant).decode
_compact = encoder(sort_keys=False, allow_nan=False)


def compact(value: Any) -> str:
    """Returns a decoded value as JSON without white space, its numbers in their own digits."""
    if isinstance(value, Digits):
        return str.__str__(value)
    if isinstance(value, dict):
        return f"{{{','.join([f'{_compact(name)}:{compact(item)}' for name, item in value.items()])}}}"
    if isinstance(value, list):
        return f"[{','.join(map(compact, value))}]"
    return _compact(value)


def _field(body: dict[str, Any], name: str) -> Any:
    """Returns a field as bytes where it is a text, or came as base64; raises ValueError where it is not there."""
    coded = f"{name}_base64"
    if (name in body) == (coded in body):
        raise ValueError(f"It needs exactly one of {shown(name)} and {shown(coded)}.")
    if name in body:
        value = body[name]
        return value.encode() if type(value) is str else value
    import base64

    try:
        return base64.b64decode(body[coded], validate=True)
    except (TypeError, ValueError):
        raise ValueError(f"{shown(coded)} is not base64.") from None


def _why(error: Exception) -> str:
    """Returns what is wrong with a line as a sentence."""
    if isinstance(error, Usage):
        return error.message
    if isinstance(error, UnicodeDecodeError):
        return "It is not UTF-8."
    if isinstance(error, UnicodeEncodeError):
        # Bytes that are no UTF-8 came through `csv` as the second halves of characters.
        return "It is not UTF-8, or holds half a character (a lone surrogate)."
    if isinstance(error, RecursionError):
        return "It is nested too deep."
    return "It is no JSON object." if isinstance(error, json.JSONDecodeError) else str(error)
