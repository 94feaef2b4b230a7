"""`[[source]]`, `[[sink]]`, `[[stage]]` and `[[test]]`: each table for itself, without what it refers to.

Promises
- Each reader returns a value whatever the table holds; what is wrong with it is noted, and then nobody uses the value.
- Expressions are compiled here, so one that does not compile is told with the line in which it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from grafctl.declare.resources import ALL
from grafctl.declare.table import FILE_NAME, Check, Table, kind_of, like
from grafctl.errors import Usage
from grafctl.names import check_name, shown
from grafctl.pipeline import model
from grafctl.pipeline.declaring_names import names_problem
from grafctl.pipeline.declaring_steps import expression, naming, read_steps
from grafctl.pipeline.model import DeclaredSink, DeclaredSource, DeclaredStage
from grafctl.store.filters import check_filter

OUTPUTS_MAX = 100  # of one stage
LIST_MAX = 1000  # items of one list or table that a pipeline's table holds

# kind -> keys that it needs, and keys that mean nothing to it
Fit = Mapping[str, tuple[str, str]]
SOURCE_FIT: Fit = {
    model.JSONL: ("", "command"),
    model.CSV: ("", "command"),
    model.EXEC: ("command", "path paths"),
}
SINK_FIT: Fit = {
    model.SQLITE: ("path table key columns", "variable resource"),
    model.DUCKDB: ("path table key columns", "variable resource"),
    model.POSTGRES: ("variable table key columns", "path resource"),
    model.JSONL: ("path key columns", "table variable resource types"),
    model.RESOURCE: ("resource key", "path table variable columns types"),
}
STAGE_FIT: Fit = {
    model.INGEST: ("source output", "input group filter outputs effects sink step call exec"),
    model.TRANSFORM: ("input", "source sink dead_letter"),
    model.SINK: ("input sink", "source output outputs effects dead_letter step call exec"),
}
# A stage that reads an edge has no group, which would keep its dead letters.
EDGE_STAGE_FIT: Fit = {
    kind: (needs, " ".join(key for key in refuses.split() if key != "dead_letter"))
    for kind, (needs, refuses) in STAGE_FIT.items()
    if kind != model.INGEST
}


def read_source(table: Table, folder: Path) -> DeclaredSource:
    """Returns what a `[[source]]` says."""
    name, kind = _name(table, "source"), _kind(table, SOURCE_FIT)
    paths = list(texts(table, "paths", FILE_NAME))
    one = table.take("path", "text", FILE_NAME)
    if one is not None and paths:
        table.note(f"{table.title} has path and paths; keep one of them.", "paths")
    if kind in (model.JSONL, model.CSV) and not {"path", "paths"} & table.body.keys():
        table.note(f'{table.title} has no path; "-" is standard input.')
    if [*paths, one].count("-") > 1:
        table.note(f"{table.title} reads standard input twice.", "paths")
    command = tuple(texts(table, "command", _argument))
    key, headers = table.take("key", "an expression", naming), pairs(table, "headers", naming)
    record_id = table.take("id", "an expression", naming)
    table.close()
    found = tuple(_path(folder, text) for text in ([one] if one else paths))
    return DeclaredSource(name, kind, found, command, record_id, key, headers, table.line())


def read_sink(table: Table, folder: Path) -> DeclaredSink:
    """Returns what a `[[sink]]` says."""
    name, kind = _name(table, "sink"), _kind(table, SINK_FIT)
    path = table.take("path", "text", lambda text: _path(folder, FILE_NAME(text)))
    if path == Path("-"):
        table.note(f"The path of {table.title} is a file, not standard output.", "path")
    at = table.take("table", "text", _TABLE_NAME)
    variable = table.take("variable", "the name of an environment variable", _variable)
    resource = table.take("resource", "text", partial(check_name, "resource"))
    key, columns = table.take("key", "an expression", naming, ""), pairs(table, "columns", expression)
    are_names = [table.attempt(_COLUMN_NAME, column, None, "columns", column) is not None for column in columns]
    types = pairs(table, "types", one_of(model.COLUMN_TYPES, "type of a column"))
    for column in types.keys() - columns.keys():
        table.note(f"types of {table.title} names {shown(column)}, which is none of its columns.", "types", column)
    if table.body.get("columns") == {}:
        table.note(f"{table.title} has no columns.", "columns")
    table.close()
    sink = DeclaredSink(name, kind, path, at, key, columns, types, variable, resource, table.line())
    if columns and all(are_names) and (problem := names_problem(sink)):
        table.note(f"{table.title}: {problem}", "columns" if "column" in problem else "table")
    return sink


def read_stage(table: Table, folder: Path | None, edges: Collection[str] = ()) -> DeclaredStage:
    """Returns what a `[[stage]]` says; the files of its steps are looked into where there is a folder."""
    reads_edge = table.body.get("kind") != model.INGEST and _is_one_of(table.body.get("input"), edges)
    name, kind = _name(table, "stage"), _kind(table, {**STAGE_FIT, **EDGE_STAGE_FIT} if reads_edge else STAGE_FIT)
    reference = partial(table.take, what="text", check=str)
    source, origin, sink = reference("source"), reference("input"), reference("sink")
    origin = None if kind == model.INGEST else origin  # which has been noted, and would look like a circle
    group = table.take("group", "text", partial(check_name, "group"), name)
    wanted = table.take("filter", "text", check_filter, ALL)
    outputs = _outputs(table, kind)
    effects, dead_letter = reference("effects"), reference("dead_letter")
    placement = table.placement()
    on_error = _on_error(table, reads_edge or kind == model.INGEST, dead_letter)
    batch = table.take("batch", "a whole number", _batch, model.BATCH, int)
    steps = read_steps(table, outputs, folder)
    call = table.take("call", "module:function", _CALL)
    run = tuple(texts(table, "exec", _argument))
    ways = [key for key in ("step", "call", "exec") if key in table.body]
    if len(ways) > 1 and kind == model.TRANSFORM:
        table.note(f"{table.title} has {' and '.join(ways)}; its transform is one of them.", ways[1])
    table.close()
    return DeclaredStage(
        name, kind, source, origin, group, wanted, outputs, effects, sink, placement, on_error, dead_letter, batch,
        steps, call, run, table.line(),
    )  # fmt: skip


def _outputs(table: Table, kind: str) -> tuple[str, ...]:
    one, several = table.take("output", "text", str), tuple(texts(table, "outputs", str))
    if len(several) > OUTPUTS_MAX:
        table.note(f"{table.title} has {len(several)} outputs; at most {OUTPUTS_MAX} are allowed.", "outputs")
        several = several[:OUTPUTS_MAX]
    if one is not None and several and kind == model.TRANSFORM:
        table.note(f"{table.title} has output and outputs; keep one of them.", "outputs")
    if kind == model.TRANSFORM and not {"output", "outputs"} & table.body.keys():
        table.note(f"{table.title} has no output.")
    for at, name in enumerate(several):
        if name in several[:at]:
            table.note(f"outputs of {table.title} names {shown(name)} twice.", "outputs", at)
    return several if one is None else (one,)


def _on_error(table: Table, has_no_group: bool, dead_letter: str | None) -> str:
    """Returns what becomes of a refused record; where the file does not say, it is kept if there is a place for it."""
    default = model.STOP if has_no_group and dead_letter is None else model.DEAD_LETTER
    found: str = table.take("on_error", "text", one_of(model.ON_ERROR, "rule for errors"), default)
    if has_no_group and found == model.DEAD_LETTER and "dead_letter" not in table.body:
        hint = f'name a queue or topic as dead_letter, or take on_error = "{model.STOP}"'
        table.note(f"{table.title} has no dead_letter to put refused records in; {hint}.", "on_error")
    if has_no_group and found == model.STOP and "dead_letter" in table.body:
        table.note(f"{table.title} stops at an error, so nothing ever goes to its dead_letter.", "dead_letter")
    return found


def _is_one_of(value: object, names: Collection[str]) -> bool:
    return isinstance(value, str) and value in names


def _name(table: Table, noun: str) -> str:
    return str(table.require("name", partial(check_name, noun)))


def _kind(table: Table, fit: Fit) -> str:
    """Returns the kind of a table, and notes the keys that this kind needs and those that it does not know."""
    noun = str(table.place[0])
    kind = str(table.require("kind", one_of(tuple(fit), f"kind of a {noun}")))
    needs, refuses = fit.get(kind, ("", ""))
    for key in needs.split():
        if key not in table.body:
            table.note(f"{table.title} has no {key}, which a {noun} of the kind {kind} needs.")
    for key in refuses.split():
        table.pass_over(key)
        if key in table.body:
            table.note(f"{table.title} has {key}, which means nothing to a {noun} of the kind {kind}.", key)
    return kind


def texts(table: Table, key: str, check: Check) -> Iterator[str]:
    """Yields the checked items of a list of texts that, where it is there, holds something."""
    items = table.take(key, "a list of texts", list, (), list)
    if key in table.body and not items and isinstance(table.body[key], list):
        table.note(f"{key} of {table.title} is empty.", key)
    if len(items) > LIST_MAX:
        table.note(f"{key} of {table.title} holds {len(items)} items; at most {LIST_MAX} are allowed.", key)
    for at, item in enumerate(items[:LIST_MAX]):
        if not isinstance(item, str):
            table.note(f"{key} of {table.title} is a list of texts, and holds {kind_of(item)}.", key, at)
        elif (found := table.attempt(check, item, None, key, at)) is not None:
            yield found


def pairs(table: Table, key: str, check: Check) -> dict[str, str]:
    """Returns the checked values of a table of texts."""
    items, found = table.take(key, "a table of texts", dict, {}, dict), dict[str, str]()
    if len(items) > LIST_MAX:
        table.note(f"{key} of {table.title} holds {len(items)} items; at most {LIST_MAX} are allowed.", key)
        return found
    for name, value in items.items():
        if not isinstance(value, str):
            table.note(f"{shown(name)} in {key} of {table.title} is text, not {kind_of(value)}.", key, name)
        elif (good := table.attempt(check, value, None, key, name)) is not None:
            found[name] = good
    return found


def one_of(words: tuple[str, ...], what: str) -> Check:
    """Returns the check of a text that is one of a few words."""

    def check(text: str) -> str:
        if text not in words:
            raise Usage(f"{shown(text)} is no {what}; take {', '.join(words[:-1])} or {words[-1]}.")
        return text

    return check


def _batch(number: int) -> int:
    if not 1 <= number <= model.BATCH_MAX:
        raise Usage(f"{shown(str(number))} is no size of a batch; take 1 to {model.BATCH_MAX}.")
    return number


def _argument(text: str) -> str:
    if "\0" in text:
        raise Usage("An argument of a program cannot hold a NUL.")
    return text


def _variable(text: str) -> str:
    # NB the text is not shown: who misreads this key writes a connection string here.
    if not _VARIABLE(text):
        raise Usage("variable is the name of an environment variable, such as WAREHOUSE_DSN, which holds the rest.")
    return text


def _path(folder: Path, text: str) -> Path:
    return Path(text) if text == "-" else folder / text


_VARIABLE: Callable[[str], Any] = re.compile("[A-Za-z_][A-Za-z0-9_]{0,127}").fullmatch
_CALL = like(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*", "module:function")
_TABLE_NAME = like(r"[A-Za-z_][A-Za-z0-9_]{0,62}(?:\.[A-Za-z_][A-Za-z0-9_]{0,62})?", "the name of a table")
_COLUMN_NAME = like(r"[A-Za-z_][A-Za-z0-9_]{0,62}", "the name of a column")
