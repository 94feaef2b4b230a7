"""What `examples/mirrored-etl.toml` does to an order, written by hand in plain Python: the same fields, the same rows.

`load` is the whole way without anything durable between file and warehouse: read a line, decode it, make the row, and
commit so many rows at once to SQLite, which flushes as the sink's does. A repeated order meets its key and is left out.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

PRIORITIES = {"1-URGENT": 1, "2-HIGH": 2, "3-MEDIUM": 3, "4-NOT SPECIFIED": 4, "5-LOW": 5}
TABLE = """CREATE TABLE IF NOT EXISTS orders (effect TEXT PRIMARY KEY, event_id TEXT, tenant TEXT, order_key INTEGER,
customer_key INTEGER, segment TEXT, status TEXT, total_cents INTEGER, date TEXT, priority INTEGER, items INTEGER)"""
INSERT = "INSERT OR IGNORE INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
COLUMNS = (
    *("event_id", "tenant", "order_key", "customer_key", "segment"),
    *("status", "total_cents", "date", "priority", "items"),
)


def normalised(order: dict[str, Any]) -> dict[str, Any]:
    """Returns a normalised order; raises for an amount that is no decimal with two places."""
    whole, dot, cents = order["total_price"].partition(".")
    if dot != "." or len(cents) != 2:
        raise ValueError("this is no amount")
    return {
        "event_id": order["event"],
        "tenant": order["tenant"],
        "order_key": order["order_key"],
        "customer_key": order["customer"]["key"],
        "segment": order["customer"]["segment"],
        "status": order["status"],
        "total_cents": int(whole + cents),
        "date": order["date"],
        "priority": PRIORITIES[order["priority"]],
        "items": len(order["lines"]),
    }


def row(order: dict[str, Any]) -> tuple[Any, ...]:
    """Returns the row of a normalised order, its key first."""
    effect = f"warehouse://orders/{order['tenant']}/{order['event_id']}"
    return (effect, *(order[name] for name in COLUMNS))


def warehouse(file: Path) -> sqlite3.Connection:
    """Opens a database as a careful program does: the log beside it, flushed with each commit."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(TABLE)
    return connection


def commit(connection: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> None:
    """Commits rows together."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(INSERT, rows)
    connection.execute("COMMIT")


def load(files: Sequence[Path], database: Path, batch: int) -> None:
    """Does all of it, so many rows in a transaction."""
    connection = warehouse(database)
    for lines in batches(files, batch):
        commit(connection, [row(normalised(json.loads(line))) for line in lines])
    connection.close()


def batches(files: Sequence[Path], size: int) -> Iterator[list[bytes]]:
    """Yields the lines of the files, so many at once."""
    held: list[bytes] = []
    for file in files:
        with file.open("rb") as lines:
            for line in lines:
                held.append(line.rstrip(b"\n"))
                if len(held) == size:
                    yield held
                    held = []
    if held:
        yield held


def sums(database: Path) -> tuple[int, int]:
    """Returns how many rows there are and the sum of their amounts."""
    connection = sqlite3.connect(database)
    ((count, total),) = connection.execute("SELECT count(*), sum(total_cents) FROM orders")
    connection.close()
    return count, total


if __name__ == "__main__":
    target, size, *sources = sys.argv[1:]
    load([Path(source) for source in sources], Path(target), int(size))
