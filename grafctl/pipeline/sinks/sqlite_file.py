"""SQLite files of sinks: opened for durable commits, and their errors in our words.

Promises
- A commit has reached the disk when it returns (`synchronous=FULL`), and is whole or not there after any crash.
- A new file is in WAL mode, so that others read while a sink writes; one that is there keeps its mode.
- A transaction holds the writer's lock from its beginning, waits for it no longer than it was told, and is rolled back
  whatever ends it but its own end.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from grafctl.errors import Busy, Corrupt, ExternalFailed, GrafctlError, StoreFull
from grafctl.names import shown
from grafctl.pipeline.declaring_names import EFFECTS_TABLE
from grafctl.pipeline.sinks.row import Row

# Pages that keys in random order come back to: 32 MiB of them in memory, and as much in the log before it is taken in.
_SETTINGS = ("cache_size=-32768", "wal_autocheckpoint=8000")
_ASKED = 500  # keys in one statement; SQLite once took 999
_EFFECTS = (
    f"CREATE TABLE IF NOT EXISTS {EFFECTS_TABLE} (effect TEXT PRIMARY KEY, fingerprint BLOB NOT NULL) WITHOUT ROWID"
)
_ADD = f"INSERT INTO {EFFECTS_TABLE} (effect, fingerprint) VALUES (?, ?) ON CONFLICT DO NOTHING"


class SqliteFile:
    """One open database with its table of effects."""

    def __init__(self, path: Path, who: str, wait_s: float) -> None:
        self._who, self._path = who, path
        is_new = not path.exists()
        with self._telling():
            # One thread uses it at a time, but not always the one that opened it.
            self.connection = sqlite3.connect(path, timeout=wait_s, isolation_level=None, check_same_thread=False)
        try:
            with self._telling():
                self.connection.execute("PRAGMA synchronous=FULL")
                for setting in _SETTINGS:
                    self.connection.execute(f"PRAGMA {setting}")
                if is_new or not path.stat().st_size:
                    self.connection.execute("PRAGMA journal_mode=WAL")
                with self.transaction():
                    self.connection.execute(_EFFECTS)
            if is_new:
                sync_folder(path.parent)
        except BaseException:
            self.connection.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Holds a transaction around a block; raises what `Sink.commit` raises."""
        with self._telling():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def fingerprints(self, rows: Sequence[Row]) -> dict[str, bytes]:
        """Returns the fingerprints of those effects of these rows that are there."""
        found: dict[str, bytes] = {}
        for at in range(0, len(rows), _ASKED):
            effects = [row.effect for row in rows[at : at + _ASKED]]
            marks = ",".join("?" * len(effects))
            found.update(
                self.connection.execute(
                    f"SELECT effect, fingerprint FROM {EFFECTS_TABLE} WHERE effect IN ({marks})", effects
                )
            )
        return found

    def add_effects(self, rows: Sequence[Row]) -> bool:
        """Adds the effects of rows; returns whether none was there and none came twice."""
        return self.connection.executemany(_ADD, [row[:2] for row in rows]).rowcount == len(rows)

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _told(error, self._who, self._path) from None
        except OSError as error:
            raise told_of_file(error, self._who, self._path) from None


def _told(error: sqlite3.Error, who: str, path: Path) -> GrafctlError:
    """Returns what to tell of an error of SQLite."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    where = shown(str(path))
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Busy(f"{who}: another program is writing to {where}.", hint="Run the same command again.")
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"{who}: there is no room for {where}.", hint="Make room on its disk.")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Corrupt(
            f"{who}: {where} is no sound SQLite database: {error}.", hint="Restore it, or name another file."
        )
    return ExternalFailed(f"{who}: SQLite cannot write to {where}: {error}.")


def told_of_file(error: OSError, who: str, path: Path) -> GrafctlError:
    """Returns what to tell of an error of the system at a file."""
    import errno

    where, why = shown(str(path)), error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFull(f"{who}: there is no room for {where}: {why}.", hint="Make room on its disk.")
    return ExternalFailed(f"{who}: {where} cannot be written: {why}.")


def sync_folder(folder: Path) -> None:
    """Makes the name of a new file as durable as the file."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
