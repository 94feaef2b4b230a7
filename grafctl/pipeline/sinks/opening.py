"""`open_sink`: a declared sink as something to commit rows to."""

from __future__ import annotations

from pathlib import Path

from grafctl.errors import Internal
from grafctl.pipeline.model import DUCKDB, JSONL, POSTGRES, SQLITE, DeclaredSink
from grafctl.pipeline.sinks.row import LOCK_WAIT_S, Sink


def open_sink(sink: DeclaredSink, file: Path, *, wait_s: float = LOCK_WAIT_S) -> Sink:
    """Returns a warehouse that is ready for rows; `file` declares it, and `wait_s` is for another writer.

    Raises `InvalidConfig` for one that cannot be as declared, and what `Sink.commit` raises. A sink that is a resource
    is no warehouse: rows for it come from `RowMaker` alone.
    """
    if sink.kind == SQLITE:
        from grafctl.pipeline.sinks.sqlite import SqliteSink

        return SqliteSink(sink, file, wait_s)
    if sink.kind == DUCKDB:
        from grafctl.pipeline.sinks.duckdb import DuckdbSink

        return DuckdbSink(sink, file, wait_s)
    if sink.kind == POSTGRES:
        from grafctl.pipeline.sinks.postgres import PostgresSink

        return PostgresSink(sink, file, wait_s)
    if sink.kind == JSONL:
        from grafctl.pipeline.sinks.json_lines import JsonLinesSink

        return JsonLinesSink(sink, file, wait_s)
    raise Internal(f"A sink of the kind {sink.kind} is not opened.")
