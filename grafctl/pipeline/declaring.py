"""A declared pipeline: TOML text to a `Pipeline`, with every problem of the file at once, each with its line.

The file is that of a declared store (`grafctl/declare/store.py`) with `[pipeline]` (name), `[[source]]`, `[[stage]]`
and below it `[[stage.step]]`, `[[edge]]`, `[[sink]]` and `[[test]]`; docs/pipelines.md shows the keys of each.

Promises
- `parse` returns a pipeline that holds in itself, or raises `InvalidConfig` with all problems, sorted by line, and
  nothing else, whatever the text is. It opens no file; `read` does, and looks at the public keys and tables too.
- A stage that may run where it could not work is a problem, with the domain and the line of the policy that refuses.
- No problem shows a secret of the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from grafctl.declare.document import read_text
from grafctl.declare.resources import OF_RECORDS, DeclaredGroup, DeclaredResource
from grafctl.declare.store import WAVE_KEYS, Declaration, parse_tables
from grafctl.declare.table import Check, Note, Table
from grafctl.errors import InvalidConfig
from grafctl.names import check_name
from grafctl.pipeline.declaring_edges import check_domains, check_edges, read_edge
from grafctl.pipeline.declaring_notes import notes_of
from grafctl.pipeline.declaring_references import (
    Declared,
    Staged,
    check_cycles,
    check_groups,
    find,
    policy_of,
    resolve,
)
from grafctl.pipeline.declaring_secrets import note_secrets
from grafctl.pipeline.declaring_tables import read_sink, read_source, read_stage
from grafctl.pipeline.declaring_tests import read_test
from grafctl.pipeline.model import RESOURCE, Pipeline
from grafctl.pipeline.where import Gate, Spot, spots_of
from grafctl.store.authority import Placement

# How many tables of each kind a file may hold.
TABLES_MAX = {"source": 200, "sink": 200, "stage": 200, "edge": 200, "test": 1000}
DOMAINS_MAX = 100
FIELDS_MAX = 5000  # that all steps of a file name
SEMANTICS = "effectively-once"  # of the group of a stage: only who holds the lease of a record can finish it


class Examined(NamedTuple):
    """A pipeline, and what was found out on the way."""

    pipeline: Pipeline
    spots: tuple[Spot, ...]  # each stage in each domain
    notes: tuple[Note, ...]  # what is no problem and still worth knowing


class Looks(NamedTuple):
    """How far the files that a text names are looked at; a check raises a `GrafctlError` for one that does not do."""

    check_key: Check = bool
    check_schema: Check = bool
    into_steps: bool = False


NOWHERE = Looks()


def read(file: Path) -> Pipeline:
    """Returns the pipeline of a file; raises `InvalidConfig`, or `NotFound` where it cannot be read."""
    return examine_file(file).pipeline


def examine_file(file: Path) -> Examined:
    """Returns the pipeline of a file and what is to be known of it; raises as `read` does."""
    return examine_text(read_text(file), file, file.absolute().parent)


def examine_text(text: bytes, file: Path, folder: Path) -> Examined:
    """Returns what a text that was read from a file declares, and looks at the files that it names."""
    from grafctl.declare.schema_file import load_schema
    from grafctl.store.signing import load_public

    return examine(text, file, folder, Looks(load_public, load_schema, True))


def parse(text: bytes, file: Path, folder: Path) -> Pipeline:
    """Returns the pipeline that a text declares; `folder` is what its paths are relative to."""
    return examine(text, file, folder).pipeline


def examine(text: bytes, file: Path, folder: Path, looks: Looks = NOWHERE) -> Examined:
    """Returns what a text declares."""
    root = Table.of_file(text, str(file))
    declaration = parse_tables(root, folder, looks.check_key, looks.check_schema)
    if len(declaration.domains) > DOMAINS_MAX:
        root.note(f"The file declares {len(declaration.domains)} domains; at most {DOMAINS_MAX} are allowed.", "domain")
        declaration = replace(declaration, domains=dict(islice(declaration.domains.items(), DOMAINS_MAX)))
    resources = {item.name: item for item in declaration.resources}
    name = _name(root)
    sources = {item.name: item for item in (read_source(table, folder) for table in _tables(root, "source"))}
    sinks = {item.name: item for item in (_sink(table, folder, resources) for table in _tables(root, "sink"))}
    edges = [
        read_edge(table, declaration.logs, list(declaration.domains), resources) for table in _tables(root, "edge")
    ]
    by_edge = {item.edge.name: item.edge for item in edges if item.edge.name not in resources}
    declared = Declared(sources, sinks, resources, by_edge)
    stages = _stages(root, declared, folder if looks.into_steps else None)
    policies = [policy_of(staged) for staged in stages]
    gate = Gate()
    spots = [
        tuple(spots_of(staged.stage.name, policy, staged.input, staged.uses(), declaration, gate))
        for staged, policy in zip(stages, policies, strict=True)
    ]
    for staged, found in zip(stages, spots, strict=True):
        _note_spots(staged, found)
    check_edges(name, edges, stages, declared)
    check_domains(stages, policies, spots, edges, list(declaration.domains))
    by_name = {staged.stage.name: staged.stage for staged in reversed(stages)}
    tests = tuple(read_test(table, by_name) for table in _tables(root, "test"))
    root.pass_over(*WAVE_KEYS)
    root.close()
    note_secrets(root)
    if root.notes:
        raise InvalidConfig(str(file), sorted(set(root.notes)))
    placed = [(staged, policy.placement) for staged, policy in zip(stages, policies, strict=True)]
    store = _with_groups(declaration, placed)
    own = tuple(replace(staged.stage, placement=placement) for staged, placement in placed)
    linked = tuple(by_edge.values())
    pipeline = Pipeline(name, store, tuple(sources.values()), tuple(sinks.values()), own, tests, file, linked)
    return Examined(pipeline, sum(spots, ()), tuple(notes_of(pipeline, stages, spots)))


def _name(root: Table) -> str:
    if "pipeline" not in root.body:
        root.note('The file has no [pipeline]; write [pipeline] and under it name = "NAME".')
    body = root.take("pipeline", "written as [pipeline]", dict, {}, dict)
    table = Table("[pipeline]", ("pipeline",), body, root.lines, root.notes)
    is_there = isinstance(root.body.get("pipeline"), dict)
    name: str = table.require("name", partial(check_name, "pipeline")) if is_there else ""
    table.close()
    return name


def _tables(root: Table, kind: str) -> list[Table]:
    tables, most = root.tables(kind, kind), TABLES_MAX[kind]
    if len(tables) > most:
        root.note(f"The file holds {len(tables)} [[{kind}]] tables; at most {most} are allowed.", kind, most)
    return tables[:most]


def _sink(table: Table, folder: Path, resources: dict[str, DeclaredResource]) -> Any:
    sink = read_sink(table, folder)
    if sink.kind == RESOURCE:
        find(table, ("resource",), "queue or topic", sink.resource, _of_records(resources))
    return sink


def _of_records(resources: dict[str, DeclaredResource]) -> dict[str, DeclaredResource]:
    return {name: item for name, item in resources.items() if item.kind in OF_RECORDS}


def _stages(root: Table, declared: Declared, folder: Path | None) -> list[Staged]:
    tables = _tables(root, "stage")
    if not root.body.get("stage", []):
        root.note("The file declares no [[stage]].", "stage")
    fields = sum(map(_fields_of, tables))
    if fields > FIELDS_MAX:
        root.note(f"The steps of the file name {fields} fields; at most {FIELDS_MAX} are allowed.", "stage")
        tables = []
    stages = [resolve(read_stage(table, folder, declared.edges), table, declared) for table in tables]
    check_groups(stages)
    check_cycles(stages)
    return stages


def _fields_of(stage: Table) -> int:
    """Returns how many fields the steps of a stage name, each of which may be an expression to be compiled."""
    steps = stage.body.get("step")
    found = [step.get("fields") for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    return sum(len(fields) for fields in found if isinstance(fields, (list, dict)))


def _note_spots(staged: Staged, spots: Iterable[Spot]) -> None:
    """Notes the domains in which a stage may run and could not work, and a stage that may run in none."""
    spots = list(spots)
    domains: dict[tuple[str, int, str], list[str]] = {}
    for spot in spots:
        for refusal in spot.refusals:
            domains.setdefault((spot.rule, spot.line, refusal), []).append(spot.domain)
    for (rule, line, refusal), names in domains.items():
        sentence = f"{staged.table.title} may run in {', '.join(names)} ({rule}), but {refusal}."
        staged.table.notes.append((line, sentence))
    if staged.stage.placement.allow and spots and not any(spot.allowed for spot in spots):
        staged.table.note(f"{staged.table.title} may run in none of the declared domains.", "allow")


def _with_groups(declaration: Declaration, stages: Iterable[tuple[Staged, Placement]]) -> Declaration:
    """Returns a declaration to which the group of each stage belongs as if it were declared below its input."""
    more: dict[str, list[DeclaredGroup]] = {}
    for staged, placement in stages:
        stage, origin = staged.stage, staged.input
        if origin is not None and origin.group(stage.group) is None:
            lines = staged.table.key_lines()
            group = DeclaredGroup(stage.group, placement, SEMANTICS, "earliest", None, stage.filter, lines)
            more.setdefault(origin.name, []).append(group)
    resources = (replace(item, groups=(*item.groups, *more.get(item.name, ()))) for item in declaration.resources)
    return replace(declaration, resources=tuple(resources))
