"""DuckDB as a warehouse (the extra `duckdb`): as SQLite, with one writing process at a time.

Promises
- Rows and effect keys are in one transaction, and durable when it returns; a crash leaves both or neither.
- DuckDB lets one process have a file open for writing, so a sink has it for as long as it is open; another process
  waits for it no longer than it was told, and is `Busy` then.
- The table is created where there is none; one that is there is written to as it is, or refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grafctl import clock
from grafctl.errors import Busy, Corrupt, ExternalFailed, GrafctlError, StoreFull
from grafctl.names import shown
from grafctl.pipeline.declaring_names import EFFECTS_TABLE
from grafctl.pipeline.model import DeclaredSink
from grafctl.pipeline.sinks.row import LOCK_WAIT_S, Row, Written, divide
from grafctl.pipeline.sinks.rows import RowMaker, types_of
from grafctl.pipeline.sinks.tables import check_columns, check_folder, check_names, missing_extra, quoted, quoted_table

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Without this it fetches from the network what it needs to read a file of another kind.
_SETTINGS: dict[str, Any] = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
_PAUSE_S = 0.05  # between two attempts to open a file that another process has
# What the column is, what a list of values for it is handed over as, and which types of a table that is there will do.
_TYPES = {
    "integer": ("BIGINT", "BIGINT", ("BIGINT", "HUGEINT")),
    "boolean": ("BOOLEAN", "BOOLEAN", ("BOOLEAN",)),
    "real": ("DOUBLE", "DOUBLE", ("DOUBLE",)),
    "text": ("VARCHAR", "VARCHAR", ("VARCHAR",)),
    "json": ("JSON", "VARCHAR", ("JSON", "VARCHAR")),
    "timestamp": ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP WITH TIME ZONE", ("TIMESTAMP WITH TIME ZONE",)),
}
_FITS = {name: types[2] for name, types in _TYPES.items()}
_EFFECTS = f"CREATE TABLE IF NOT EXISTS {EFFECTS_TABLE} (effect VARCHAR PRIMARY KEY, fingerprint BLOB NOT NULL)"
_THERE = f"SELECT effect, fingerprint FROM {EFFECTS_TABLE} WHERE effect IN (SELECT unnest($1::VARCHAR[]))"
_ADD = f"INSERT INTO {EFFECTS_TABLE} SELECT unnest($1::VARCHAR[]), unnest($2::BLOB[])"
_COLUMNS = """
SELECT column_name, data_type FROM information_schema.columns
WHERE table_name = $1 AND table_schema = $2 AND table_catalog = current_database() ORDER BY ordinal_position
"""


class DuckdbSink:
    """A table of one DuckDB file."""

    def __init__(self, sink: DeclaredSink, file: Path, wait_s: float = LOCK_WAIT_S) -> None:
        try:
            import duckdb
        except ImportError:
            raise missing_extra(sink, file, "duckdb") from None
        self._duckdb = duckdb
        check_names(sink, file)
        assert sink.path is not None and sink.table is not None
        check_folder(sink.path, sink, file)
        self.make_row = RowMaker(sink)
        self._who, self._path = f"Sink {sink.name}", sink.path
        table, columns = quoted_table(sink.table), types_of(sink)
        lists = (f"unnest(${at}::{_TYPES[type_name][1]}[])" for at, (_, type_name) in enumerate(columns, 1))
        names = ", ".join(quoted(column) for column, _ in columns)
        self._insert = f"INSERT INTO {table} ({names}) SELECT {', '.join(lists)}"
        self._connection = self._connect(wait_s)
        try:
            with self._transaction() as connection:
                connection.execute(_EFFECTS)
                schema, _, name = sink.table.rpartition(".")
                there = dict(connection.execute(_COLUMNS, [name, schema or "main"]).fetchall())
                if there:
                    check_columns(sink, file, there, _FITS)
                else:
                    declared = (f"{quoted(column)} {_TYPES[type_name][0]}" for column, type_name in columns)
                    connection.execute(f"CREATE TABLE {table} ({', '.join(declared)})")
        except BaseException:
            self._connection.close()
            raise

    def commit(self, rows: Sequence[Row]) -> Written:
        """Writes rows and their effect keys; raises what `Sink.commit` raises."""
        if not rows:
            return Written(0, 0, [])
        try:
            with self._transaction():
                new, replayed, conflicts = self._divide(rows)
                self._write([row for _, row in new])
            return Written(len(new), replayed, conflicts)
        except _Refused:
            return self._commit_one_by_one(rows)

    def _commit_one_by_one(self, rows: Sequence[Row]) -> Written:
        """Writes rows of which the table refuses some, each in a transaction, for DuckDB has no savepoints."""
        done = Written(0, 0, [])
        for at, row in enumerate(rows):
            try:
                with self._transaction():
                    new, replayed, conflicts = self._divide([row])
                    self._write([row for _, row in new])
            except _Refused:
                new, replayed, conflicts = [], 0, [(0, "The table refuses the row by one of its constraints.")]
            done.conflicts.extend((at, why) for _, why in conflicts)
            done = Written(done.written + len(new), done.replayed + replayed, done.conflicts)
        return done

    def _divide(self, rows: Sequence[Row]) -> Any:
        return divide(rows, dict(self._connection.execute(_THERE, [[row.effect for row in rows]]).fetchall()))

    def _write(self, rows: Sequence[Row]) -> None:
        if rows:
            self._connection.execute(_ADD, [[row.effect for row in rows], [row.fingerprint for row in rows]])
            self._connection.execute(self._insert, [*map(list, zip(*(row.values for row in rows), strict=True))])

    def close(self) -> None:
        """Gives the file back."""
        self._connection.close()

    def _connect(self, wait_s: float) -> DuckDBPyConnection:
        until_s = clock.monotonic_s() + wait_s
        while True:
            try:
                return self._duckdb.connect(str(self._path.absolute()), config=_SETTINGS)
            except self._duckdb.Error as error:
                told = self._told(error)
                if not isinstance(told, Busy) or clock.monotonic_s() > until_s:
                    raise told from None
            clock.sleep(_PAUSE_S)

    @contextmanager
    def _transaction(self) -> Iterator[DuckDBPyConnection]:
        """Holds a transaction around a block; raises what `Sink.commit` raises, or `_Refused`."""
        try:
            self._connection.execute("BEGIN TRANSACTION")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                try:
                    self._connection.execute("ROLLBACK")
                except self._duckdb.Error:  # it has ended by the error
                    pass
                raise
        except self._duckdb.IntegrityError:
            raise _Refused from None
        except self._duckdb.Error as error:
            raise self._told(error) from None

    def _told(self, error: Exception) -> GrafctlError:
        """Returns what to tell of an error of DuckDB, whose classes say less than its words."""
        words, where = str(error).strip().partition("\n")[0], shown(str(self._path))
        if "Could not set lock" in words or "Conflicting lock" in words:
            return Busy(f"{self._who}: another process has {where} open.", hint="Run the same command again.")
        if "No space left" in words or "disk quota" in words.lower():
            return StoreFull(f"{self._who}: there is no room for {where}.", hint="Make room on its disk.")
        if "not a valid DuckDB database" in words or "extension" in words or "Corrupt" in words or "checksum" in words:
            return Corrupt(
                f"{self._who}: {where} is no sound DuckDB database.", hint="Restore it, or name another file."
            )
        return ExternalFailed(f"{self._who}: DuckDB cannot write to {where}: {words}")


class _Refused(Exception):
    """A constraint does not hold; it never leaves this file."""
