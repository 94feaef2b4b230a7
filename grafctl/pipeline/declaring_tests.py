"""`[[test]]`: records that go into a stage's transform, and what has to come out.

A record is `{value = …}` with `id`, `key` and `headers` where a test needs them; TOML has no null, so `json = "TEXT"`
may stand in for `value`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from grafctl.declare.table import Table
from grafctl.errors import Usage
from grafctl.expression import values
from grafctl.names import check_name, shown
from grafctl.pipeline.declaring_references import find
from grafctl.pipeline.declaring_steps import json_problems
from grafctl.pipeline.declaring_tables import pairs
from grafctl.pipeline.model import DeclaredStage, DeclaredTest

RECORDS_MAX = 1000  # that one test puts in, or expects

Record = Mapping[str, Any]


def read_test(table: Table, stages: Mapping[str, DeclaredStage]) -> DeclaredTest:
    """Returns what a `[[test]]` says."""
    name: str = table.require("name", partial(check_name, "test"))
    stage: str = table.require("stage", str)
    found: DeclaredStage | None = find(table, ("stage",), "stage", stage, stages) if stage else None
    if "input" not in table.body:
        table.note(f"{table.title} has no input, a list of records.")
    put = _records(table, "input", None, ())
    outputs = found.outputs if found else None
    expected = _records(table, "expect", "to", outputs)
    refuse = table.take("refuse", "text", _part)
    if ("expect" in table.body) == ("refuse" in table.body):
        both = ["refuse"] if "refuse" in table.body else []
        table.note(f"{table.title} takes expect (a list of records) or refuse (a part of the reason).", *both)
    table.close()
    return DeclaredTest(name, stage, put, expected, refuse, table.line())


def _records(table: Table, key: str, more: str | None, outputs: tuple[str, ...] | None) -> tuple[Record, ...]:
    tables = table.tables(key, f"test.{key}")
    if key == "input" and key in table.body and not tables:
        table.note(f"input of {table.title} is empty.", key)
    if len(tables) > RECORDS_MAX:
        table.note(f"{key} of {table.title} holds {len(tables)} records; at most {RECORDS_MAX} are allowed.", key)
        return ()
    return tuple(_record(item, f"{key} {at} of {table.title}", more, outputs) for at, item in enumerate(tables, 1))


def _record(table: Table, title: str, more: str | None, outputs: tuple[str, ...] | None) -> Record:
    table.title = title
    found = {"value": _value(table)}
    for key in ("id", "key"):
        if (text := table.take(key, "text", str)) is not None:
            found[key] = text
    if more is None:
        if "headers" in table.body:
            found["headers"] = pairs(table, "headers", str)
    elif (to := table.take(more, "text", str)) is not None:
        if outputs is not None and to not in outputs:
            table.note(f"{title} goes to {shown(to)}, which is no output of its stage.", more)
        found[more] = to
    table.close()
    return found


def _value(table: Table) -> Any:
    if ("value" in table.body) == ("json" in table.body):
        table.note(f"{table.title} takes value or json (a text with JSON in it), one of them.")
    table.pass_over("value")
    for why in json_problems(table.body.get("value", 0)):
        table.note(why, "value")
    return table.take("json", "text with JSON in it", _decoded, table.body.get("value"))


def _decoded(text: str) -> Any:
    try:
        return values.decode(text.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise Usage(f"This is no record. {error}") from None


def _part(text: str) -> str:
    if not text:
        raise Usage("refuse is a part of the reason, and is empty.")
    return text
