"""Sinks as a file would declare them, rows for them, and the kinds that need no server."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import duckdb

from grafctl.pipeline.message import Message
from grafctl.pipeline.model import DeclaredSink
from grafctl.pipeline.sinks.opening import open_sink
from grafctl.pipeline.sinks.row import Row, Sink

FILE = Path("flow.toml")
KINDS = ("sqlite", "duckdb", "jsonl")  # those that are a file
COLUMNS = {"number": "number", "name": "name"}


def declare_sink(kind: str, path: Path | None, **other: Any) -> DeclaredSink:
    """Returns a sink of a number and a name, under a key made of the number, unless told otherwise."""
    fields: dict[str, Any] = {
        "name": "rows", "table": None if kind == "jsonl" else "orders", "key": '"orders/" + text(number)',
        "columns": COLUMNS, "types": {} if kind == "jsonl" else {"number": "integer"}, "variable": None,
        "resource": None, "line": 7,
    }  # fmt: skip
    return DeclaredSink(kind=kind, path=path, **fields | other)


def open_at(kind: str, path: Path, **other: Any) -> Sink:
    """Opens a sink that waits for nobody for long."""
    return open_sink(declare_sink(kind, path, **other), FILE, wait_s=0.2)


def row(sink: Sink, number: int, name: str | None = None) -> Row:
    return sink.make_row(Message({"number": number, "name": name or f"name {number}"}))


def held(kind: str, path: Path, columns: str = "number, name", table: str = "orders") -> list[tuple[Any, ...]]:
    """Returns the rows that are in a warehouse, read by something that is not the sink."""
    if kind == "jsonl":
        text = path.read_text()
        assert not text or text.endswith("\n")
        return [tuple(json.loads(line).values())[1:] for line in text.splitlines()]
    statement = f"SELECT {columns} FROM {table} ORDER BY 1"
    if kind == "duckdb":
        with duckdb.connect(str(path), read_only=True) as file:
            return file.execute(statement).fetchall()
    connection = sqlite3.connect(path)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()
