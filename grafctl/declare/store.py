"""A declared store: TOML text to frozen dataclasses, with every problem of the file at once, each with its line.

The file holds, and the name of a table stands before what it takes:

- `[[domain]]` name, path; `[[authority]]` name, public_key; `[[schema]]` id, file
- `[[log]]` name, replicas, ack, min_payload
- `[[queue]]` and `[[topic]]` name, log or else replicas, ack and min_payload; schema, allow, deny, retain_age,
  retain_bytes, compression; a topic also retain_count and discard
- `[[queue.group]]` and `[[topic.group]]` name, allow, deny, semantics, start, max_deliveries; a topic's also filter
- `[[idem]]` name, log or else replicas, ack and min_payload; allow, deny, retain_age

`replicas` is a table, `id = "domain[:role]"`. Paths are relative to the file. `[store]` may stand there, empty: where
the store is, the caller says. What a pipeline or a wave of consumers is made of stands in the same file and has a
reader of its own; here it is let pass. Shown in `examples/provider-migration.toml`.

Promises
- `parse` returns a declaration that holds in itself, or raises `InvalidConfig` with all problems, sorted by line, and
  nothing else, whatever the text is. It opens no file; `read` does, and looks at the public keys and schemas too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from grafctl.declare.document import read_text
from grafctl.declare.resources import DeclaredLog, DeclaredResource, read_logs, read_resources
from grafctl.declare.table import FILE_NAME, Check, Table
from grafctl.names import check_domain, check_name

PIPELINE_KEYS = ("pipeline", "source", "stage", "edge", "sink", "test")
WAVE_KEYS = ("wave", "consumer")


@dataclass(frozen=True, slots=True)
class Declaration:
    """Everything that a store is declared to have."""

    domains: Mapping[str, Path | None]  # name -> where, None where the store decides
    authorities: Mapping[str, Path]  # name -> file of the public key
    resources: tuple[DeclaredResource, ...]  # queues, then topics, then idempotency stores
    logs: Mapping[str, DeclaredLog] = field(default_factory=dict)
    schemas: Mapping[str, Path] = field(default_factory=dict)  # id -> file of the JSON Schema
    lines: Mapping[tuple[str, str], int] = field(default_factory=dict, compare=False)  # ("domain", name) and so on

    def resource(self, name: str) -> DeclaredResource | None:
        return next((resource for resource in self.resources if resource.name == name), None)


def read(file: Path) -> Declaration:
    """Returns what a file declares; raises `InvalidConfig`, or `NotFound` where it cannot be read."""
    from grafctl.declare.schema_file import load_schema
    from grafctl.store.signing import load_public

    return parse(read_text(file), str(file), file.absolute().parent, load_public, load_schema)


def parse(text: bytes, file: str, folder: Path, check_key: Check = bool, check_schema: Check = bool) -> Declaration:
    """Returns what a text declares; a check raises a `GrafctlError` for a file that holds no public key, no schema."""
    root = Table.of_file(text, file)
    declaration = parse_tables(root, folder, check_key, check_schema)
    root.pass_over(*PIPELINE_KEYS, *WAVE_KEYS)
    root.finish(file)
    return declaration


def parse_tables(root: Table, folder: Path, check_key: Check = bool, check_schema: Check = bool) -> Declaration:
    """Returns what the store's tables of a file declare, and notes what is wrong with them.

    The other keys of the file are left to the caller, who closes the table.
    """
    store = root.take("store", "a table", dict, {}, dict)
    Table("[store]", ("store",), store, root.lines, root.notes).close()
    if not root.body.get("domain", []):
        root.note("The file declares no [[domain]], and a store needs at least one.", "domain")
    lines: dict[tuple[str, str], int] = {}
    domains = dict(_domain(table, folder, lines) for table in root.tables("domain", "domain"))
    read_authority = partial(_file, "authority", "name", "public_key", folder, check_key, lines)
    authorities = dict(map(read_authority, root.tables("authority", "authority")))
    read_schema = partial(_file, "schema", "id", "file", folder, check_schema, lines)
    schemas = dict(map(read_schema, root.tables("schema", "schema", "id")))
    logs = read_logs(root, domains)
    resources = read_resources(root, domains, logs)
    places = [path for path in domains.values() if path is not None]
    if len(set(places)) < len(places):
        root.note("Two domains have one path.", "domain")
    return Declaration(domains, authorities, resources, logs, schemas, lines)


def _domain(table: Table, folder: Path, lines: dict[tuple[str, str], int]) -> tuple[str, Path | None]:
    name, path = table.require("name", check_domain), table.take("path", "text", lambda text: folder / FILE_NAME(text))
    lines["domain", name] = table.line()
    table.close()
    return name, path


def _file(
    noun: str, naming: str, holding: str, folder: Path, check: Check, lines: dict[tuple[str, str], int], table: Table
) -> tuple[str, Path]:
    """Returns the name of an authority or a schema, and the file that holds it."""
    name = table.require(naming, partial(check_name, noun))
    path = table.require(holding, lambda text: folder / FILE_NAME(text))
    if path:
        table.attempt(check, path, None, holding)
    lines[noun, name] = table.line()
    table.close()
    return name, path
