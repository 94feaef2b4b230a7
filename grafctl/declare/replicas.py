"""Reads what `locator set --from FILE` names: a TOML file with `[[replica]]` tables of id, domain and role."""

from __future__ import annotations

from pathlib import Path

from grafctl.declare.document import Lines, load, read_text
from grafctl.errors import InvalidConfig
from grafctl.names import shown

FIELDS = {"id", "domain", "role"}


def read_replicas(file: Path) -> list[str]:
    """Returns `ID=DOMAIN[:role]` of each table; raises `InvalidConfig` with every problem."""
    body, document = load(read_text(file), str(file))
    lines, rows = Lines(document), body.get("replica")
    problems = [(lines.of((key,)), f"There is no {shown(key)}, only [[replica]].") for key in body.keys() - {"replica"}]
    if not isinstance(rows, list) or not rows:
        problems.append((lines.of(("replica",)), "The file holds no [[replica]] tables."))
        raise InvalidConfig(str(file), sorted(problems))
    for at, row in enumerate(rows):
        if why := _problem(row):
            problems.append((lines.of(("replica", at)), f"Replica {at + 1}: {why}."))
    if problems:
        raise InvalidConfig(str(file), sorted(problems))
    return [f"{row['id']}={row['domain']}" + (f":{row['role']}" if "role" in row else "") for row in rows]


def _problem(row: object) -> str | None:
    if not isinstance(row, dict):
        return "it is not a table"
    if set(row) - FIELDS:
        return f"unknown keys {', '.join(map(shown, sorted(set(row) - FIELDS)))}"
    if any(not isinstance(row.get(name), str) for name in ("id", "domain")):
        return "id and domain are needed, as text"
    return None if isinstance(row.get("role", ""), str) else "its role is not text"
