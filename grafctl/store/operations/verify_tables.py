"""Verify, for the logs of each table beside each other: every vshard has one owner, and all have one placement.

Promises
- A finding is one that two looks in a row had, of rows that did not change between them: a vshard that is being moved
  meanwhile is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from grafctl.errors import DriverError, GrafctlError
from grafctl.results import Finding
from grafctl.store.authority import Placement
from grafctl.store.operations.table_rows import rows_of_parts
from grafctl.store.resources.queue import queue_row
from grafctl.store.resources.table import KIND, PART
from grafctl.store.resources.table_check import table_problems
from grafctl.store.session import Session


def table_findings(session: Session) -> Iterator[Finding]:
    """Yields what is wrong between the logs of the store's tables; what cannot be read is told elsewhere."""
    try:
        records = session.resources()
        parts: dict[str, list[str]] = {name: [name] for name, record in records.items() if record["kind"] == KIND}
        for name, record in records.items():
            if record["kind"] == PART:
                parts.setdefault(record["start"]["queue"]["part_of"], []).append(name)
        for table, logs in sorted(parts.items()):
            if len(logs) > 1 and table in records:
                yield from _findings(session, table, vshards_of(records[table]), logs)
                yield from _unlike_findings(session, table, logs)
    except (GrafctlError, DriverError):
        return


def vshards_of(record: dict[str, Any]) -> int:
    """Returns how many vshards a registered table has."""
    row = record["start"]["queue"] if "start" in record else record["row"]
    return int(row["vshards"])


def _findings(session: Session, table: str, vshards: int, logs: list[str]) -> Iterator[Finding]:
    first = rows_of_parts(session, logs)
    found = set(table_problems(table, vshards, first))
    if not found:
        return
    again = rows_of_parts(session, logs)
    for problem in table_problems(table, vshards, again):
        number = int(problem.split()[1])
        is_at_rest = all(first[part].get(number) == again[part].get(number) for part in logs)
        if problem in found and is_at_rest:
            remedy = f"Run `grafctl vshard status {table} {number}`; a backup has it as it was."
            yield Finding(table, problem, remedy, None, table)


def _unlike_findings(session: Session, table: str, logs: list[str]) -> Iterator[Finding]:
    found = {}
    for part in logs:
        with session.state(part) as state:
            row = queue_row(state, part)
            found[part] = (row["epoch"], Placement.of(row))
    for part, (epoch, placement) in found.items():
        if placement != found[table][1]:
            patterns = " ".join(
                [*(f"--allow {item}" for item in placement.allow), *(f"--deny {item}" for item in placement.deny)]
            )
            problem = f"its placement ({patterns}) is not that of {table}: a `placement set` was cut short"
            yield Finding(part, problem, f"Run `grafctl placement set {table}` again as it was meant.", None, table)
        if epoch != found[table][0]:
            problem = f"its epoch is {epoch}, and that of {table} is {found[table][0]}: a `fence` was cut short"
            yield Finding(part, problem, f"Run `grafctl fence {table} --epoch {epoch}` again.", None, table)
