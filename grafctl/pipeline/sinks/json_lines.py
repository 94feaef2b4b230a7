"""JSON Lines as a warehouse: a file that is only appended to, each line with its effect key.

Beside the file, in `FILE.effects`, a SQLite database holds the effect keys and how many bytes of the file are
committed.

Promises
- A line is in the file once and whole, or not at all, for every effect key that is committed. A commit first makes its
  lines durable in the file, and then commits their effect keys and the new length in one transaction.
- A crash before that transaction leaves lines, or a part of one, behind the committed length. They are cut off before
  anything else is written, under the lock of the database, so no other writer's lines are; their rows come again. A
  crash after it leaves everything.
- A file whose database is gone is read once from its beginning: whole lines that this sink wrote are recognised by
  their effect keys, a torn last one is cut off, and a file of anybody else's lines is refused and not touched.
- A file that is shorter than what was committed is `Corrupt`, and not written to.

Whoever reads the file while it grows sees lines that are not committed yet; `SELECT bytes FROM grafctl_file` in the
database says how far it is.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from grafctl.errors import Corrupt
from grafctl.expression import values
from grafctl.json_text import encoder
from grafctl.names import shown
from grafctl.pipeline.declaring_names import EFFECT_FIELD
from grafctl.pipeline.message import Refused
from grafctl.pipeline.model import DeclaredSink
from grafctl.pipeline.sinks.row import LOCK_WAIT_S, Row, Written, divide
from grafctl.pipeline.sinks.rows import RowMaker
from grafctl.pipeline.sinks.sqlite_file import SqliteFile, sync_folder, told_of_file
from grafctl.pipeline.sinks.tables import check_folder, check_names, refusal

LINE_BYTES_MAX = 64 << 20  # of a line of ours; a longer one is somebody else's
_LENGTH = "CREATE TABLE IF NOT EXISTS grafctl_file (id INTEGER PRIMARY KEY CHECK (id = 1), bytes INTEGER NOT NULL)"
_ROWS_AT_ONCE = 1000
_write = encoder(sort_keys=False, allow_nan=False)


class JsonLinesSink:
    """One file of lines."""

    def __init__(self, sink: DeclaredSink, file: Path, wait_s: float = LOCK_WAIT_S) -> None:
        assert sink.path is not None
        self._sink, self._declared_in = sink, file
        self._path, self._who = sink.path, f"Sink {sink.name}"
        check_folder(self._path, sink, file)
        check_names(sink, file)
        self.make_row = RowMaker(sink)
        self._names = (EFFECT_FIELD, *sink.columns)
        self._effects = SqliteFile(self._path.with_name(f"{self._path.name}.effects"), self._who, wait_s)
        try:
            with self._effects.transaction() as connection, self._opened() as handle:
                connection.execute(_LENGTH)
                if self._committed(connection) is None:
                    length = self._recognised(handle)
                    connection.execute("INSERT INTO grafctl_file (id, bytes) VALUES (1, ?)", (length,))
        except BaseException:
            self._effects.close()
            raise

    def commit(self, rows: Sequence[Row]) -> Written:
        """Writes rows and their effect keys; raises what `Sink.commit` raises."""
        with self._effects.transaction() as connection, self._opened() as handle:
            length = self._committed(connection)
            size = os.fstat(handle.fileno()).st_size
            if length is None or size < length:
                raise Corrupt(
                    f"{self._who}: {shown(str(self._path))} has {size:,} bytes, and {length or 0:,} were committed.",
                    hint="Put the file back, or move its .effects away too.",
                )
            new, replayed, conflicts = divide(rows, self._effects.fingerprints(rows))
            if size > length:
                handle.truncate(length)
            if new:
                added = [row for _, row in new]
                handle.seek(length)
                lines = b"".join(map(self._line, added))
                handle.write(lines)
                handle.flush()
                os.fsync(handle.fileno())  # before the transaction that says they are there
                self._effects.add_effects(added)
                connection.execute("UPDATE grafctl_file SET bytes = ?", (length + len(lines),))
        return Written(len(new), replayed, conflicts)

    def close(self) -> None:
        """Gives the database back; the file is open in a commit only."""
        self._effects.close()

    def _line(self, row: Row) -> bytes:
        return _write(dict(zip(self._names, (row.effect, *row.values), strict=True))).encode() + b"\n"

    def _committed(self, connection: sqlite3.Connection) -> int | None:
        found = connection.execute("SELECT bytes FROM grafctl_file").fetchone()
        return found and int(found[0])

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        """Opens the file for a commit, so that one that was moved is not written to any more."""
        try:
            is_new = not self._path.exists()
            with open(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b") as handle:
                if is_new:
                    sync_folder(self._path.absolute().parent)
                yield handle
        except OSError as error:
            raise told_of_file(error, self._who, self._path) from None

    def _recognised(self, handle: BinaryIO) -> int:
        """Adds the effects of the lines that are there; returns how long the file is without a torn last line."""
        length, number, held = 0, 0, list[Row]()
        while (line := handle.readline(LINE_BYTES_MAX)).endswith(b"\n"):
            number += 1
            held.append(self._row_of(line, number))
            length += len(line)
            if len(held) >= _ROWS_AT_ONCE:
                self._effects.add_effects(held)
                held = []
        if len(line) == LINE_BYTES_MAX or (line and not self._is_ours(line)):
            raise self._foreign(number + 1)
        self._effects.add_effects(held)
        os.fsync(handle.fileno())  # because they count as committed from now on
        return length

    def _row_of(self, line: bytes, number: int) -> Row:
        """Returns the row that a line of ours holds; raises `InvalidConfig` for a line of somebody else's."""
        try:
            found = values.decode(line)
        except ValueError:
            raise self._foreign(number) from None
        if type(found) is not dict or tuple(found) != self._names or type(found[EFFECT_FIELD]) is not str:
            raise self._foreign(number)
        effect, *held = found.values()
        try:
            return Row(effect, self.make_row.fingerprint(held), tuple(held))
        except Refused:
            raise self._foreign(number) from None

    def _is_ours(self, torn: bytes) -> bool:
        """Returns whether the beginning of a line may be one of ours."""
        ours = f'{{"{EFFECT_FIELD}":'.encode()
        return torn.startswith(ours) or ours.startswith(torn)

    def _foreign(self, number: int) -> Exception:
        return refusal(
            self._sink,
            self._declared_in,
            f"line {number} of {shown(str(self._path))} was not written by it: it needs the fields "
            f"{', '.join(self._names)} in this order. Name another file.",
        )
