"""The rows of a table as JSON Lines or CSV, which `table load` reads again, on standard output or in a file.

Promises
- A file is whole and durable before it has its name, and takes the place of an older one at once; an export that fails
  or is interrupted leaves the older one, and no other file.
- What CSV cannot hold, which is anything but UTF-8, is refused with the key, and never written otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from grafctl import clock
from grafctl.errors import Usage
from grafctl.json_text import encoder
from grafctl.names import shown
from grafctl.results import text_fields
from grafctl.store.driver.private import sync_path
from grafctl.store.files import unwritable
from grafctl.table_results import Row

ROWS_AT_ONCE = 1_000
Write = Callable[[bytes], object]

_encode = encoder(sort_keys=False, allow_nan=False)


def export(rows: Iterable[Row], form: str, write: Write) -> int:
    """Writes rows in pieces of many lines, and returns how many there were."""
    lines_of = _csv_lines if form == "csv" else _json_lines
    if form == "csv":
        write(b"key,value\n")
    source, count = iter(rows), 0
    while piece := list(islice(source, ROWS_AT_ONCE)):
        write(lines_of(piece))
        count += len(piece)
    return count


def _json_lines(rows: list[Row]) -> bytes:
    return "".join(
        [f"{_encode({**text_fields('key', row.key), **text_fields('value', row.value)})}\n" for row in rows]
    ).encode()


def _csv_lines(rows: list[Row]) -> bytes:
    try:
        return "".join([f"{_cell(row.key)},{_cell(row.value)}\n" for row in rows]).encode()
    except UnicodeDecodeError:
        raise Usage(
            f"Key {next(_key for row in rows for _key in _not_text(row))} or its value is not UTF-8, and CSV is text.",
            hint="Export as JSON Lines, which has such bytes as base64: -o jsonl",
        ) from None


def _cell(value: bytes) -> str:
    text = value.decode()
    if '"' in text or "," in text or "\n" in text or "\r" in text:
        doubled = text.replace('"', '""')
        return f'"{doubled}"'
    return text


def _not_text(row: Row) -> Iterator[str]:
    try:
        row.key.decode(), row.value.decode()
    except UnicodeDecodeError:
        yield shown(row.key.decode(errors="backslashreplace"))


@contextmanager
def new_file(name: str) -> Iterator[Write]:
    """Yields what writes to a file that has its name when the block ends well."""
    path = Path(name)
    beside = path.with_name(f".{path.name}.{clock.random_token('new')}")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with open(handle, "wb", buffering=1 << 20) as opened:
                yield opened.write
                opened.flush()
                os.fsync(handle)
            os.rename(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        sync_path(path.absolute().parent)
    except OSError as error:
        raise unwritable(path, error) from None
