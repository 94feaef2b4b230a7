"""Reads what `locator set --from FILE` names: a TOML file with `[[replica]]` tables of id, domain and role."""

from __future__ import annotations

import tomllib
from pathlib import Path

from grafctl.errors import InvalidConfig, Usage

FIELDS = {"id", "domain", "role"}


def read_replicas(file: Path) -> list[str]:
    """Returns `ID=DOMAIN[:role]` of each table; raises `InvalidConfig` with every problem."""
    try:
        body = tomllib.loads(file.read_bytes().decode())
    except OSError as error:
        raise Usage(f"{file} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidConfig(str(file), [(1, f"this is not TOML: {error}")]) from None
    rows = body.get("replica")
    if not isinstance(rows, list) or not rows or set(body) - {"replica"}:
        raise InvalidConfig(str(file), [(1, "the file holds [[replica]] tables and nothing else")])
    problems = [(1, f"replica {number}: {why}") for number, row in enumerate(rows, 1) if (why := _problem(row))]
    if problems:
        raise InvalidConfig(str(file), problems)
    return [f"{row['id']}={row['domain']}" + (f":{row['role']}" if "role" in row else "") for row in rows]


def _problem(row: object) -> str | None:
    if not isinstance(row, dict):
        return "it is not a table"
    if set(row) - FIELDS:
        return f"unknown keys {', '.join(sorted(set(row) - FIELDS))}"
    if any(not isinstance(row.get(name), str) for name in ("id", "domain")):
        return "id and domain are needed, as text"
    return None
