"""PostgreSQL as a warehouse (the extra `postgres`): a table, and beside it the table of effects.

The connection string is in the environment variable that the sink names, and in no message.

Promises
- Rows and effect keys are in one transaction, and durable when it returns (`synchronous_commit` is never off). When a
  connection is lost in the middle of a commit, the same rows given again are written once.
- Several sinks may write to one table at a time: whoever comes second with an effect key waits for the first, and then
  sees what it has committed. Batches take their keys in one order; where they meet crosswise all the same, one of them
  is repeated.
- The table is created where there is none; one that is there is written to as it is, or refused.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grafctl.errors import Busy, ExternalFailed, GrafctlError, StoreFull
from grafctl.pipeline.declaring_names import EFFECTS_TABLE
from grafctl.pipeline.model import DeclaredSink
from grafctl.pipeline.sinks.row import LOCK_WAIT_S, Row, Written, conflict, divide
from grafctl.pipeline.sinks.rows import RowMaker, types_of
from grafctl.pipeline.sinks.tables import check_columns, check_names, missing_extra, quoted, quoted_table, refusal

if TYPE_CHECKING:
    from psycopg import Connection

CONNECT_S = 10
TRIES = 5
# What the column is, and which types of a table that is there will do, as format_type has them.
_TYPES = {
    "integer": ("bigint", ("bigint", "numeric")),
    "boolean": ("boolean", ("boolean",)),
    "real": ("double precision", ("double precision",)),
    "text": ("text", ("text", "character varying")),
    "json": ("jsonb", ("jsonb", "json")),
    "timestamp": ("timestamp with time zone", ("timestamp with time zone",)),
}
_FITS = {name: types[1] for name, types in _TYPES.items()}
_EFFECTS = f"CREATE TABLE IF NOT EXISTS {EFFECTS_TABLE} (effect text PRIMARY KEY, fingerprint bytea NOT NULL)"
_ADD = f"""
INSERT INTO {EFFECTS_TABLE} (effect, fingerprint) SELECT * FROM unnest(%s::text[], %s::bytea[])
ON CONFLICT DO NOTHING RETURNING effect
"""
_THERE = f"SELECT effect, fingerprint FROM {EFFECTS_TABLE} WHERE effect = ANY(%s::text[])"
_COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""


class Statements:
    """The statements of one sink."""

    def __init__(self, sink: DeclaredSink) -> None:
        assert sink.table is not None
        columns = types_of(sink)
        self.table = quoted_table(sink.table)
        declared = (f"{quoted(column)} {_TYPES[type_name][0]}" for column, type_name in columns)
        self.create = f"CREATE TABLE {self.table} ({', '.join(declared)})"
        names = ", ".join(quoted(column) for column, _ in columns)
        # JSON is handed over as text: a list of JSON values would be read as one of texts all the same.
        lists = ", ".join(f"%s::{'text' if name == 'json' else _TYPES[name][0]}[]" for _, name in columns)
        fields = ", ".join(f"f{at}{'::jsonb' if name == 'json' else ''}" for at, (_, name) in enumerate(columns))
        places = ", ".join(f"f{at}" for at in range(len(columns)))
        into = f"INSERT INTO {self.table} ({names})".replace("%", "%%")
        self.insert = f"{into} SELECT {fields} FROM unnest({lists}) AS rows ({places})"


class PostgresSink:
    """A table of one PostgreSQL database."""

    def __init__(self, sink: DeclaredSink, file: Path, wait_s: float = LOCK_WAIT_S) -> None:
        try:
            import psycopg
        except ImportError:
            raise missing_extra(sink, file, "postgres") from None
        self._psycopg = psycopg
        check_names(sink, file)
        self.make_row = RowMaker(sink)
        self._who, self._wait_s = f"Sink {sink.name}", wait_s
        self._statements = Statements(sink)
        self._target = self._read_target(sink, file)
        self._connection = self._connect()
        try:
            self._repeatedly(lambda: self._prepare(sink, file))
        except BaseException:
            self._connection.close()
            raise

    def commit(self, rows: Sequence[Row]) -> Written:
        """Writes rows and their effect keys; raises what `Sink.commit` raises."""
        if not rows:
            return Written(0, 0, [])
        if self._connection.closed:  # it was lost in an earlier commit
            self._connection = self._connect()
        found: Written = self._repeatedly(lambda: self._commit(rows))
        return found

    def close(self) -> None:
        """Ends the session."""
        self._connection.close()

    def _prepare(self, sink: DeclaredSink, file: Path) -> None:
        with self._connection.transaction():
            # Two sinks that begin at once would both create what is not there, and one of them fail.
            self._connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [EFFECTS_TABLE])
            self._connection.execute(_EFFECTS)
            there = dict(self._connection.execute(_COLUMNS, [self._statements.table]).fetchall())
            if there:
                check_columns(sink, file, there, _FITS, fold=str)
            else:
                self._connection.execute(self._statements.create.encode())

    def _commit(self, rows: Sequence[Row]) -> Written:
        with self._connection.transaction():
            # The order of the keys is that of every batch, so that two that share some do not wait for each other.
            new, replayed, conflicts = divide(rows, {})
            ordered = sorted(new, key=lambda one: one[1].effect)
            added = self._add([row for _, row in ordered])
            known = [row.effect for _, row in ordered if row.effect not in added]
            there = dict(self._connection.execute(_THERE, [known]).fetchall()) if known else {}
            fresh = []
            for at, row in new:
                if row.effect in added:
                    fresh.append((at, row))
                elif bytes(there[row.effect]) == row.fingerprint:
                    replayed += 1
                else:
                    conflicts.append((at, conflict(bytes(there[row.effect]), row)))
            refused = self._write(fresh)
        return Written(len(fresh) - len(refused), replayed, sorted(conflicts + refused))

    def _add(self, rows: Sequence[Row]) -> set[str]:
        """Adds the effects that are not there; returns which were not."""
        lists = [[row.effect for row in rows], [row.fingerprint for row in rows]]
        return {effect for (effect,) in self._connection.execute(_ADD, lists).fetchall()}

    def _write(self, rows: Sequence[tuple[int, Row]]) -> list[tuple[int, str]]:
        """Writes rows whose effects were added; returns those that the table refuses, whose effects are taken back."""
        if not rows:
            return []
        try:
            with self._connection.transaction():
                self._insert([row for _, row in rows])
            return []
        except self._psycopg.IntegrityError:
            pass
        refused = []
        for at, row in rows:
            try:
                with self._connection.transaction():
                    self._insert([row])
            except self._psycopg.IntegrityError as error:
                self._connection.execute(f"DELETE FROM {EFFECTS_TABLE} WHERE effect = %s", [row.effect])
                refused.append((at, f"The table refuses the row: {error.diag.message_primary}."))
        return refused

    def _insert(self, rows: Sequence[Row]) -> None:
        lists = [*map(list, zip(*(row.values for row in rows), strict=True))]
        self._connection.execute(self._statements.insert.encode(), lists)

    def _repeatedly(self, run: Any) -> Any:
        """Runs a transaction again where the server says that it may succeed then; raises what `Sink.commit` raises."""
        for tries in range(1, TRIES + 1):
            try:
                return run()
            except (self._psycopg.errors.DeadlockDetected, self._psycopg.errors.SerializationFailure) as error:
                if tries == TRIES:
                    raise self._told(error) from None
            except self._psycopg.Error as error:
                raise self._told(error) from None
        return None

    def _connect(self) -> Connection[Any]:
        try:
            connection = self._psycopg.connect(**self._target, autocommit=True)
            connection.execute(f"SET lock_timeout = {max(1, round(self._wait_s * 1000))}")
            setting = connection.execute("SHOW synchronous_commit").fetchone()
            if setting == ("off",):
                connection.execute("SET synchronous_commit = on")
            return connection
        except self._psycopg.Error as error:
            raise self._told(error) from None

    def _read_target(self, sink: DeclaredSink, file: Path) -> dict[str, Any]:
        """Returns how to connect; what the variable holds is in no message, also where it cannot be read."""
        variable = sink.variable or ""
        text = os.environ.get(variable)
        if not text:
            raise refusal(sink, file, f"the environment variable {variable} with its connection string is not set.")
        try:
            found = self._psycopg.conninfo.conninfo_to_dict(text)
        except (self._psycopg.Error, UnicodeError, ValueError):
            raise refusal(sink, file, f"the environment variable {variable} holds no connection string.") from None
        return {"connect_timeout": CONNECT_S, **found, "client_encoding": "UTF8"}

    def _told(self, error: Exception) -> GrafctlError:
        """Returns what to tell of an error of PostgreSQL."""
        errors, diag = self._psycopg.errors, getattr(error, "diag", None)
        words = (diag and diag.message_primary) or str(error).strip().partition("\n")[0]
        if isinstance(error, (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)):
            return Busy(f"{self._who}: another session holds what it has to write: {words}.", hint="Run it again.")
        if isinstance(error, errors.DiskFull):
            return StoreFull(f"{self._who}: the server has no room: {words}.", hint="Make room on its disk.")
        return ExternalFailed(f"{self._who}: PostgreSQL fails: {words}.")
