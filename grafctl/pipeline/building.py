"""A pipeline built in Python: `grafctl.Pipeline(…).from_source(…).map(f).filter(g).sink(…).run()`.

    with grafctl.open("store") as store:
        orders = grafctl.Pipeline("orders", store=store, domain="aws")
        orders.from_source("orders.jsonl", id="id").map(clean).filter(is_paid).sink(
            "orders.db", table="orders", key="text(id)", columns={"id": "id", "total": "total"}
        ).run()

It becomes the text of a declared pipeline, which is checked and applied as a file would be, and run by the same stages:
one that ingests, one that calls the functions in their order, and one that commits to the sink. What lies between them
are queues of one log, in the domains of the store.

Promises
- A step never changes the pipeline that it is added to: it returns another one.
- What cannot be is refused with one sentence, and before anything is made: by the step that was given it, or by `run`.
- It means what a declared pipeline means: dead letters, effect keys, placement, stopping and going on.

When it fails: the same `run` again goes on where it was; what was committed has no second effect.
"""

from __future__ import annotations

import copy
import inspect
import json
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

from grafctl import client
from grafctl.client import Store
from grafctl.errors import InvalidConfig, Usage
from grafctl.names import check_domain, check_name, shown
from grafctl.nouns.declared import apply_declaration
from grafctl.pipeline import model
from grafctl.pipeline.declaring import examine_text
from grafctl.pipeline.model import (
    CSV,
    DUCKDB,
    EXEC,
    INGEST,
    JSONL,
    POSTGRES,
    RESOURCE,
    SQLITE,
    TRANSFORM,
    DeclaredStage,
)
from grafctl.pipeline.running import Ran, Run, Until
from grafctl.pipeline.sources.calling import Called
from grafctl.pipeline.stages.ingesting import IngestStage
from grafctl.pipeline.stages.transforming import TransformStage
from grafctl.pipeline.stages.work import VISIBILITY_MS, Stage
from grafctl.pipeline.stopping import stopping
from grafctl.pipeline.transforms.chaining import FILTER, MAP, Chain, Named, named

SOURCES = {".jsonl": JSONL, ".ndjson": JSONL, ".csv": CSV}
SINKS = {".db": SQLITE, ".sqlite": SQLITE, ".duckdb": DUCKDB, ".jsonl": JSONL}
REPLICAS = 3  # of the log in between, where nobody says which
Path_ = str | Path


class Pipeline:
    """A source, functions and a sink, run in one domain of a store; `allow` says in which it may be run at all."""

    def __init__(
        self,
        name: str,
        *,
        store: Store | Path_,
        domain: str,
        allow: Sequence[str] | None = None,
        replicas: Mapping[str, str] | None = None,
        on_error: str = model.DEAD_LETTER,
        batch: int = model.BATCH,
    ) -> None:
        if not isinstance(store, (Store, str, Path)):
            raise Usage(f"A pipeline runs on an open store or the path of one, not on {_a(store)}.")
        self.name, self.domain = check_name("pipeline", _text("name", name)), check_domain(_text("domain", domain))
        self._store = store
        self._allow = [self.domain] if allow is None else _texts("allow", allow)
        self._replicas = None if replicas is None else _pairs("replicas", replicas)
        if on_error not in model.ON_ERROR:
            raise Usage(f"on_error is {' or '.join(model.ON_ERROR)}, not {shown(str(on_error))}.")
        if type(batch) is not int or not 1 <= batch <= model.BATCH_MAX:
            raise Usage(f"A batch has 1 to {model.BATCH_MAX:,} records.")
        self._on_error, self._batch = on_error, batch
        self._source: dict[str, Any] | None = None
        self._called: tuple[str, Callable[[], Iterable[Any]]] | None = None
        self._steps: tuple[Named, ...] = ()
        self._sink: dict[str, Any] | None = None

    # --- what it is made of

    def from_source(
        self,
        source: Path_ | Sequence[Path_] | Callable[[], Iterable[Any]] | None = None,
        *,
        command: Sequence[str] | None = None,
        kind: str | None = None,
        id: str | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Reads files of JSON Lines or CSV, what a command writes, or the JSON values that a function returns.

        `id`, `key` and `headers` are expressions over the record; one that comes again with the same id is kept once.
        """
        if self._source is not None:
            raise Usage("A pipeline has one source.")
        if (source is None) == (command is None):
            raise Usage("from_source takes a path, several of them, a function, or command=[…].")
        made = self._another()
        body: dict[str, Any] = {
            "id": id,
            "key": key,
            "headers": None if headers is None else _pairs("headers", headers),
        }
        if command is not None:
            body |= {"kind": kind or EXEC, "command": _texts("command", command)}
        elif callable(source):
            made._called = (_source_name(source), source)
            body |= {"kind": JSONL, "paths": ["-"]}  # which nobody opens
        else:
            paths = [source] if isinstance(source, (str, Path)) else list(_sequence("from_source", source))
            if not paths or not all(isinstance(path, (str, Path)) for path in paths):
                raise Usage("from_source takes a path, several of them, a function, or command=[…].")
            body |= {"kind": kind or _kind_of(paths[0], SOURCES), "paths": [str(path) for path in paths]}
        made._source = body
        return made

    def map(self, function: Callable[..., Any]) -> Self:
        """Calls a function with each record: it returns an object, a list of them, or None for nothing."""
        return self._with_step(MAP, function)

    def filter(self, function: Callable[..., Any]) -> Self:
        """Lets those records pass for which a function returns True; it returns True or False."""
        return self._with_step(FILTER, function)

    def sink(
        self,
        path: Path_ | None = None,
        *,
        key: str,
        table: str | None = None,
        columns: Mapping[str, str] | None = None,
        types: Mapping[str, str] | None = None,
        kind: str | None = None,
        variable: str | None = None,
        queue: str | None = None,
    ) -> Self:
        """Commits each record once under its effect key: to a table, to a file of JSON Lines, or to a queue.

        `key` and the values of `columns` are expressions over the record.
        """
        if self._sink is not None:
            raise Usage("A pipeline has one sink.")
        if [path, variable, queue].count(None) != 2:
            raise Usage("sink takes a path, variable=… for PostgreSQL, or queue=…: one of them.")
        made = self._another()
        fitting = POSTGRES if variable is not None else RESOURCE if queue is not None else None
        if path is not None and not isinstance(path, (str, Path)):
            raise Usage(f"The path of a sink is text, not {_a(path)}.")
        made._sink = {
            "kind": kind or fitting or _kind_of(path or "", SINKS),
            "path": None if path is None else str(path),
            "table": table,
            "key": key,
            "columns": None if columns is None else _pairs("columns", columns),
            "types": None if types is None else _pairs("types", types),
            "variable": variable,
            "resource": queue,
        }
        return made

    def _with_step(self, kind: str, function: Callable[..., Any]) -> Self:
        step, made = named(kind, function), self._another()
        made._steps = (*self._steps, step)
        return made

    def _another(self) -> Self:
        return copy.copy(self)

    # --- running

    def run(
        self,
        *,
        until: str = Until.IDLE.value,
        timeout_s: float | None = None,
        visibility_ms: int = VISIBILITY_MS,
        say: Callable[[str], None] | None = None,
    ) -> Ran:
        """Makes what the store lacks, and works until nothing is left (`idle`, `once`) or until a signal (`stopped`).

        The first Ctrl-C or SIGTERM lets the commits under way finish, and then does what it does.
        """
        ends = {item.value: item for item in Until}
        if until not in ends:
            raise Usage(f"until is {', '.join(ends)}, not {shown(str(until))}.")
        if timeout_s is not None and (type(timeout_s) not in (int, float) or not timeout_s > 0):
            raise Usage("timeout_s is a number of seconds above 0.")
        if type(visibility_ms) is not int or visibility_ms < 1:
            raise Usage("visibility_ms is a whole number above 0.")
        with self._opened() as store:
            pipeline = self._declared(store)
            apply_declaration(store.session, pipeline.declaration, dry_run=False)
            how: Any = {"timeout_s": timeout_s, "visibility_ms": visibility_ms, "say": say}
            run = _Run(self._called, self._steps, store, pipeline, self.domain, until=ends[until], **how)
            with stopping(run.stop) as came:
                ran = run.run()
        if came.number is not None:
            signal.raise_signal(came.number)
        return ran

    @contextmanager
    def _opened(self) -> Iterator[Store]:
        if isinstance(self._store, Store):
            yield self._store
            return
        with client.open(self._store) as opened:
            yield opened

    def _declared(self, store: Store) -> model.Pipeline:
        """Returns what this is as a declared pipeline; raises `Usage` with the first problem."""
        if self._source is None or self._sink is None:
            raise Usage(f"The pipeline {self.name} has no {'source' if self._source is None else 'sink'}.")
        file = Path(f"{self.name} (built in Python)")
        try:
            return examine_text(self._text(store).encode(), file, Path.cwd()).pipeline
        except InvalidConfig as error:
            sentence = error.problems[0][1].partition(";")[0].rstrip(".")
            more = f"; {len(error.problems) - 1} more problems" if len(error.problems) > 1 else ""
            raise Usage(f"The pipeline {self.name} cannot be: {sentence}{more}.") from None
        except UnicodeEncodeError:
            raise Usage(f"The pipeline {self.name} holds a text that is no UTF-8.") from None

    def _text(self, store: Store) -> str:
        domains = list(store.session.cluster.domains)
        replicas = self._replicas or {f"r{at}": domain for at, domain in enumerate(domains[:REPLICAS], 1)}
        first, last, dead = (f"{self.name}-{part}" for part in ("in", "out", "dead"))
        last = last if self._steps else first
        allow = {"allow": self._allow}
        own: dict[str, Any] = {**allow, "on_error": self._on_error, "batch": self._batch}
        aside = {"dead_letter": dead} if self._on_error == model.DEAD_LETTER else {}
        queues = [*dict.fromkeys((first, last)), *aside.values(), *filter(None, [(self._sink or {})["resource"]])]
        tables: list[tuple[str, dict[str, Any]]] = [
            ("[pipeline]", {"name": self.name}),
            *(("[[domain]]", {"name": domain}) for domain in domains),
            ("[[log]]", {"name": self.name, "replicas": replicas}),
            *(("[[queue]]", {"name": queue, "log": self.name, **allow}) for queue in queues),
            ("[[source]]", {"name": "source", **(self._source or {})}),
            ("[[stage]]", {"name": "ingest", "kind": INGEST, "source": "source", "output": first, **own, **aside}),
        ]
        if self._steps:
            call = {"input": first, "output": last, "call": "built:functions"}
            tables.append(("[[stage]]", {"name": "functions", "kind": TRANSFORM, **call, **own}))
        tables += [
            ("[[sink]]", {"name": "sink", **(self._sink or {})}),
            ("[[stage]]", {"name": "sink", "kind": model.SINK, "input": last, "sink": "sink", **own}),
        ]
        return "\n".join(line for head, body in tables for line in (head, *_lines(body)))


class _Run(Run):
    """A run whose source and transform may be functions."""

    def __init__(
        self, called: tuple[str, Callable[[], Iterable[Any]]] | None, steps: Sequence[Named], *args: Any, **how: Any
    ) -> None:
        self._called, self._steps = called, steps
        super().__init__(*args, **how)

    def make(self, declared: DeclaredStage) -> Stage:
        if declared.kind == TRANSFORM:
            return TransformStage(self._place, declared, Chain(self._steps))
        if declared.kind == INGEST and self._called is not None:
            begin = partial(_begin, self._called)
            return IngestStage(self._place, declared, self.pipeline.sources[0], begin)
        return super().make(declared)


def _begin(called: tuple[str, Callable[[], Iterable[Any]]], source: model.DeclaredSource, *, folder: Path) -> Called:
    return Called(*called, source)


def _source_name(function: Callable[[], Iterable[Any]]) -> str:
    name = str(getattr(function, "__name__", type(function).__name__))
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise Usage(f"The function {name} is asynchronous; a source returns an iterable.")
    try:
        inspect.signature(function).bind()
    except TypeError:
        raise Usage(f"The function {name} has to take no argument, because a source is called with none.") from None
    except ValueError:  # one that is not written in Python may not say what it takes
        pass
    return name


# --- texts


def _a(value: object) -> str:
    return f"a value of the type {type(value).__name__}"


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Usage(f"The {what} of a pipeline is text, not {_a(value)}.")
    return value


def _sequence(what: str, value: Any) -> Sequence[Any]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise Usage(f"{what} takes a list of texts, not {_a(value)}.")
    return value


def _texts(what: str, value: Any) -> list[str]:
    if not all(isinstance(item, str) for item in _sequence(what, value)):
        raise Usage(f"{what} takes a list of texts.")
    return list(value)


def _pairs(what: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(item, str) for pair in value.items() for item in pair):
        raise Usage(f"{what} takes names and texts, such as {{'name': 'text'}}.")
    return dict(value)


def _kind_of(path: Path_, kinds: Mapping[str, str]) -> str:
    found = kinds.get(Path(path).suffix.lower())
    if found is None:
        raise Usage(f"{shown(str(path))} does not say of which kind it is; add kind=… or end it in {', '.join(kinds)}.")
    return found


def _lines(body: Mapping[str, Any]) -> Iterator[str]:
    """Yields a table's keys as TOML."""
    for name, value in body.items():
        if value is not None:
            yield f"{name} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(name)} = {_toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
