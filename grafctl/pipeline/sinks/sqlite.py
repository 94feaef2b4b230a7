"""SQLite as a warehouse, the one that needs nothing else: a table, and beside it the table of effects.

Promises
- Rows and effect keys are in one transaction of the file. A crash leaves both or neither, so whoever gives the same
  rows again writes each of them once.
- The table is created where there is none; one that is there is written to as it is, or refused. Nothing is deleted or
  altered.
- A row that the table's own constraints refuse is told like a conflict, and the others are written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from grafctl.pipeline.model import DeclaredSink
from grafctl.pipeline.sinks.row import LOCK_WAIT_S, Row, Written, divide
from grafctl.pipeline.sinks.rows import RowMaker, types_of
from grafctl.pipeline.sinks.sqlite_file import SqliteFile
from grafctl.pipeline.sinks.tables import check_columns, check_folder, check_names, quoted, quoted_table

# Types whose affinity changes nothing that is stored; what SQLite would make of TIMESTAMP and JSON is a number.
_TYPES = {
    "integer": "INTEGER", "boolean": "BOOLEAN", "real": "REAL", "text": "TEXT", "json": "TEXT", "timestamp": "TEXT",
}  # fmt: skip
_TEXTS, _NUMBERS = ("TEXT", "BLOB"), ("INTEGER", "NUMERIC", "BLOB")
_FITS = {
    "integer": _NUMBERS, "boolean": _NUMBERS, "real": ("REAL", "BLOB"), "text": _TEXTS, "json": _TEXTS,
    "timestamp": _TEXTS,
}  # fmt: skip


class SqliteSink:
    """A table of one SQLite file."""

    def __init__(self, sink: DeclaredSink, file: Path, wait_s: float = LOCK_WAIT_S) -> None:
        check_names(sink, file)
        assert sink.path is not None and sink.table is not None
        check_folder(sink.path, sink, file)
        self.make_row = RowMaker(sink)
        table, columns = quoted_table(sink.table), [*map(quoted, sink.columns)]
        self._insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        self._file = SqliteFile(sink.path, f"Sink {sink.name}", wait_s)
        try:
            with self._file.transaction() as connection:
                there = _columns_of(connection, sink.table)
                if there:
                    check_columns(sink, file, there, _FITS)
                else:
                    declared = [f"{quoted(column)} {_TYPES[type_name]}" for column, type_name in types_of(sink)]
                    connection.execute(f"CREATE TABLE {table} ({', '.join(declared)})")
        except BaseException:
            self._file.close()
            raise

    def commit(self, rows: Sequence[Row]) -> Written:
        """Writes rows and their effect keys; raises what `Sink.commit` raises."""
        if rows and not self._are_all_new(rows):
            return self._commit_divided(rows)
        return Written(len(rows), 0, [])

    def _are_all_new(self, rows: Sequence[Row]) -> bool:
        """Writes rows where each of them is new and fits, and returns whether that was so; else nothing is written."""
        try:
            with self._file.transaction() as connection:
                if not self._file.add_effects(rows):
                    raise _NotOnlyNew
                try:
                    connection.executemany(self._insert, [row.values for row in rows])
                except sqlite3.IntegrityError:
                    raise _NotOnlyNew from None
        except _NotOnlyNew:
            return False
        return True

    def _commit_divided(self, rows: Sequence[Row]) -> Written:
        with self._file.transaction() as connection:
            new, replayed, conflicts = divide(rows, self._file.fingerprints(rows))
            written = 0
            for at, row in new:
                connection.execute("SAVEPOINT one")
                try:
                    self._file.add_effects([row])
                    connection.execute(self._insert, row.values)
                    written += 1
                except sqlite3.IntegrityError as error:
                    connection.execute("ROLLBACK TO one")
                    conflicts.append((at, f"The table refuses the row: {error}."))
                connection.execute("RELEASE one")
        return Written(written, replayed, sorted(conflicts))

    def close(self) -> None:
        """Gives the file back."""
        self._file.close()


class _NotOnlyNew(Exception):
    """An effect of the batch is there, or the table refuses a row; it never leaves this file."""


def _columns_of(connection: sqlite3.Connection, table: str) -> dict[str, str]:
    """Returns the columns of a table with what each makes of values; none where there is no such table."""
    schema, _, name = table.rpartition(".")
    found = connection.execute("SELECT name, type FROM pragma_table_info(?, ?)", (name, schema or "main"))
    return {column: _affinity(type_name.upper()) for column, type_name in found}


def _affinity(type_name: str) -> str:
    """Returns the affinity of a declared type, by the rules in SQLite's "Datatypes"."""
    if "INT" in type_name:
        return "INTEGER"
    if any(part in type_name for part in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if not type_name or "BLOB" in type_name or type_name == "ANY":
        return "BLOB"
    return "REAL" if any(part in type_name for part in ("REAL", "FLOA", "DOUB")) else "NUMERIC"
