"""A declared pipeline as values: what `[pipeline]`, `[[source]]`, `[[stage]]`, `[[edge]]`, `[[sink]]`, `[[test]]` say.

Promises
- Everything here is frozen and does nothing; `declaring.py` makes it of a TOML file and has checked it by then: every
  name that refers to something is declared, every expression compiles, every key of a step is one that it takes.
- Paths are as they are opened: a relative one was relative to the file. `Path("-")` is standard input.
- `line` is where the table stands in the file, counted from 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grafctl.declare.store import Declaration
from grafctl.store.authority import Placement

JSONL, CSV, EXEC = "jsonl", "csv", "exec"
STANDARD_INPUT = Path("-")

SQLITE, DUCKDB, POSTGRES, RESOURCE = "sqlite", "duckdb", "postgres", "resource"
COLUMN_TYPES = ("text", "integer", "real", "boolean", "json", "timestamp")  # the first is the default

INGEST, TRANSFORM, SINK = "ingest", "transform", "sink"

DEAD_LETTER, STOP = "dead-letter", "stop"
ON_ERROR = (DEAD_LETTER, STOP)

BATCH, BATCH_MAX = 500, 10_000  # records that one step of a stage takes


@dataclass(frozen=True, slots=True)
class DeclaredSource:
    """Where records come from that no resource holds yet."""

    name: str
    kind: str  # jsonl | csv | exec
    paths: tuple[Path, ...]  # empty for exec
    command: tuple[str, ...]  # of exec: the program and its arguments, which no shell reads
    id: str | None  # an expression over the decoded record, as is `key` and each value of `headers`
    key: str | None
    headers: Mapping[str, str]
    line: int


@dataclass(frozen=True, slots=True)
class DeclaredSink:
    """Where rows are committed, each under its effect key."""

    name: str
    kind: str  # sqlite | duckdb | postgres | jsonl | resource
    path: Path | None
    table: str | None
    key: str  # the effect key, an expression
    columns: Mapping[str, str]  # column -> expression
    types: Mapping[str, str]  # column -> one of COLUMN_TYPES; those that are not here are text
    variable: str | None  # of postgres: the environment variable that holds the connection string
    resource: str | None
    line: int


@dataclass(frozen=True, slots=True)
class DeclaredEdge:
    """A local queue from one stage to another, where a queue or a topic could be; nothing of it leaves its domain."""

    name: str
    kind: str  # memory | block
    slots: int
    bytes: int  # of its segment
    term_ms: int  # of its lease
    placement: Placement  # where it may be
    log: str | None  # that a topic in its place would be in; it means nothing to an edge
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class DeclaredStage:
    """One step of the way; several processes in several domains may run it at once."""

    name: str
    kind: str  # ingest | transform | sink
    source: str | None  # of ingest
    input: str | None  # of the others: a queue, a topic or an edge
    group: str  # who reads the input; the stage's name where none is declared
    filter: str
    outputs: tuple[str, ...]  # the first is where a record goes that no step routes
    effects: str | None  # an idempotency store
    sink: str | None
    placement: Placement  # its own, or that of the declared group with which it reads
    on_error: str  # dead-letter | stop
    dead_letter: str | None  # a queue or a topic, of those that read with no group, which would keep dead letters
    batch: int
    steps: tuple[Mapping[str, Any], ...]  # each with its `op`, as the file has it
    call: str | None  # module:function
    exec: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True)
class DeclaredTest:
    """Records that go into a stage's transform, and what has to come out of it."""

    name: str
    stage: str
    input: tuple[Mapping[str, Any], ...]  # {value, id?, key?, headers?}
    expect: tuple[Mapping[str, Any], ...]  # {value, to?, key?, id?}
    refuse: str | None  # a part of the reason for which the transform has to refuse the input
    line: int


@dataclass(frozen=True, slots=True)
class Chain:
    """Stages that edges link: the first reads what is durable, the last writes what is durable."""

    name: str  # PIPELINE/STAGE of the first
    stages: tuple[str, ...]
    edges: tuple[str, ...]  # one less


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A file that holds in itself: the store that it needs, and what runs on it."""

    name: str
    declaration: Declaration
    sources: tuple[DeclaredSource, ...]
    sinks: tuple[DeclaredSink, ...]
    stages: tuple[DeclaredStage, ...]
    tests: tuple[DeclaredTest, ...]
    file: Path
    edges: tuple[DeclaredEdge, ...] = ()

    def edge(self, name: str | None) -> DeclaredEdge | None:
        """Returns the edge of a name, or None for what is none, such as a topic."""
        return next((edge for edge in self.edges if edge.name == name), None)

    def chains(self) -> list[Chain]:
        """Returns the chains, in the order of their first stages."""
        readers = {stage.input: stage for stage in self.stages if self.edge(stage.input)}
        found = []
        for first in self.stages:
            if self.edge(first.input) is None and self._way_on(first) is not None:
                stages, edges = [first], list[str]()
                while (way := self._way_on(stages[-1])) is not None:
                    edges.append(way)
                    stages.append(readers[way])
                names = tuple(stage.name for stage in stages)
                found.append(Chain(f"{self.name}/{first.name}", names, tuple(edges)))
        return found

    def chain_of(self, stage: str) -> Chain | None:
        """Returns the chain that a stage is in, or None."""
        return next((chain for chain in self.chains() if stage in chain.stages), None)

    def _way_on(self, stage: DeclaredStage) -> str | None:
        return next((name for name in stage.outputs if self.edge(name)), None)


def owner_of(pipeline: Pipeline, stage: DeclaredStage) -> str:
    """Returns who holds the lease of the edge that a stage writes to."""
    return f"{pipeline.name}/{stage.name}"
