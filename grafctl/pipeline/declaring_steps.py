"""`[[stage.step]]`: the operations of a declared transform, each with the keys that it takes and no other.

Promises
- A step that passed holds what its operation needs, in the form that it needs; expressions in it compile, the literal
  names to which it routes are outputs of its stage, and the transform can be made of it. What only the transform itself
  finds is told with the line of the step.
- The step is kept as the file has it: what it means, and its fingerprint, is the transform's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from grafctl.declare.table import FILE_NAME, Check, Table, kind_of, like
from grafctl.errors import Usage
from grafctl.expression.language import compile_expression
from grafctl.expression.paths import parse_path
from grafctl.names import shown
from grafctl.pipeline.transforms.options import FIELDS_MAX
from grafctl.pipeline.transforms.steps import STEPS_MAX, compile_step

Step = Mapping[str, Any]
Reader = Callable[[Table, tuple[str, ...]], None]
FILES = ("file", "salt_file")


def read_steps(stage: Table, outputs: tuple[str, ...], folder: Path | None) -> tuple[Step, ...]:
    """Returns the steps of a stage, and notes what is wrong with each; with a folder, their files are read too."""
    tables = stage.tables("step", "stage.step")
    if len(tables) > STEPS_MAX:
        stage.note(f"{stage.title} has {len(tables)} steps; at most {STEPS_MAX} are allowed.", "step", STEPS_MAX)
        return ()
    for number, table in enumerate(tables, 1):
        table.title = f"step {number} of {stage.title}"
        before = len(table.notes)
        _read_step(table, outputs)
        if len(table.notes) == before and (folder or table.body.keys().isdisjoint(FILES)):
            _make(table, outputs, folder or Path())
    return tuple(table.body for table in tables)


def _make(table: Table, outputs: tuple[str, ...], folder: Path) -> None:
    """Notes why no transform can be made of a step that looks right."""
    try:
        compile_step(table.body, outputs, folder)
    except Usage as error:
        why = error.message.removeprefix(f"{table.body['op']}: ")
        place = [key for key in FILES if key in table.body and "file" in why.lower()]
        table.note(f"{table.title}: {why} {error.hint or ''}".rstrip(), *place)


def _read_step(table: Table, outputs: tuple[str, ...]) -> None:
    op = table.require("op", _known)
    if op not in READERS:
        return  # because nobody knows then which keys it takes
    table.title += f" ({op})"
    READERS[op](table, outputs)
    table.close()


def _known(text: str) -> str:
    if text not in READERS:
        from difflib import get_close_matches

        close = get_close_matches(text, READERS, 1)
        more = f"did you mean {close[0]}?" if close else f"take {', '.join(READERS)}."
        raise Usage(f"{shown(text)} is no operation; {more}")
    return text


# --- what each operation takes


def _fields_of(table: Table, *_: object) -> None:
    _fields(table, "fields")


def _rename(table: Table, *_: object) -> None:
    _named(table, "fields", "a new name", _field)


def _set(table: Table, *_: object) -> None:
    _named(table, "fields", "an expression", expression)


def _cast(table: Table, *_: object) -> None:
    _named(table, "fields", "a type", TYPE)


def _lookup(table: Table, *_: object) -> None:
    table.require("field", _field)
    table.require("into", _field)
    _one_of(table, "table", "file")
    rows = table.take("table", "a table", dict, {}, dict)
    if "table" in table.body and not rows and isinstance(table.body["table"], dict):
        table.note(f"table of {table.title} is empty.", "table")
    for key, value in rows.items():
        _json(table, value, "table", key)
    table.take("file", "text", FILE_NAME)
    if "default" in table.body:
        table.pass_over("default")
        _json(table, table.body["default"], "default")


def _explode(table: Table, *_: object) -> None:
    table.require("field", _field)
    table.take("index", "text", _field)


def _hash(table: Table, *_: object) -> None:
    _fields(table, "fields")
    table.take("salt_file", "text", FILE_NAME)


def _route(table: Table, outputs: tuple[str, ...]) -> None:
    def output(text: str) -> str:
        return _output(text, outputs)

    _one_of(table, "to", "cases")
    table.take("to", "an expression", naming)
    table.take("default", "text", output)
    cases = table.tables("cases", "stage.step.cases")
    if "cases" in table.body and not cases:
        table.note(f"cases of {table.title} is empty.", "cases")
    for number, case in enumerate(cases, 1):
        case.title = f"case {number} of {table.title}"
        case.require("when", condition)
        case.require("to", output)
        case.close()


def _filter(table: Table, *_: object) -> None:
    table.require("when", condition)


READERS: dict[str, Reader] = {
    "keep": _fields_of,
    "drop": _fields_of,
    "rename": _rename,
    "set": _set,
    "cast": _cast,
    "lookup": _lookup,
    "explode": _explode,
    "hash": _hash,
    "route": _route,
    "filter": _filter,
}


# --- what a value may be


def _field(text: str) -> str:
    parse_path(text)
    return text


def expression(text: str) -> str:
    """Returns an expression as it was written; raises `Usage` where it does not compile."""
    compile_expression(text)
    return text


def condition(text: str) -> str:
    """Returns an expression that may give true or false; raises `Usage` where it never does."""
    return _of_kind(text, "true or false", "bool")


def naming(text: str) -> str:
    """Returns an expression that may give a name: a text, or an integer; raises `Usage` where it never does."""
    return _of_kind(text, "text", "text", "int")


def _of_kind(text: str, what: str, *kinds: str) -> str:
    kind = compile_expression(text).kind
    if kind and kind not in kinds:
        raise Usage(f"The expression gives {_KINDS.get(kind, kind)}, and this has to be {what}.")
    return text


_KINDS = {"bool": "true or false", "text": "text", "int": "an integer"}


def _output(text: str, outputs: tuple[str, ...]) -> str:
    if text not in outputs:
        among = f"has only {', '.join(map(shown, outputs))}" if outputs else "has none"
        raise Usage(f"{shown(text)} is no output of this stage, which {among}.")
    return text


def _one_of(table: Table, one: str, other: str) -> None:
    if (one in table.body) == (other in table.body):
        table.note(f"{table.title} takes {one} or {other}, one of them.", *([one] if one in table.body else []))


def _fields(table: Table, key: str) -> None:
    """Notes what is wrong with a list of fields."""
    items = _some(table, key, "a list of fields", list)
    for at, item in enumerate(items):
        if not isinstance(item, str):
            table.note(f"{key} of {table.title} is a list of fields, and holds {kind_of(item)}.", key, at)
        else:
            table.attempt(_field, item, None, key, at)


def _named(table: Table, key: str, what: str, check: Check) -> None:
    """Notes what is wrong with a table from fields to something."""
    items = _some(table, key, f"a table of field = {what}", dict)
    for name in items:
        value = items[name]
        table.attempt(_field, name, None, key, name)
        if not isinstance(value, str):
            table.note(f"{shown(name)} in {key} of {table.title} is text, not {kind_of(value)}.", key, name)
        else:
            table.attempt(check, value, None, key, name)


def _some(table: Table, key: str, what: str, kind: type) -> Any:
    """Returns a list or a table that must be there and hold something, but not too much."""
    items = table.take(key, what, kind, kind(), kind)
    if key not in table.body:
        table.note(f"{table.title} has no {key}, {what}.")
    elif not items and isinstance(table.body[key], kind):
        table.note(f"{key} of {table.title} is empty.", key)
    if len(items) > FIELDS_MAX:
        table.note(f"{key} of {table.title} holds {len(items)} items; at most {FIELDS_MAX} are allowed.", key)
        return kind()
    return items


def _json(table: Table, value: Any, *place: str | int) -> None:
    """Notes a value, or a part of one, that JSON does not have."""
    for why in json_problems(value):
        table.note(f"{why}", *place)


def json_problems(value: Any) -> Iterator[str]:
    """Yields why a TOML value is none of JSON."""
    if isinstance(value, list):
        for item in value:
            yield from json_problems(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from json_problems(item)
    elif isinstance(value, float) and (value != value or abs(value) == float("inf")):
        yield "JSON has no nan and no inf; write what the record holds instead."
    elif not isinstance(value, (str, int, float, bool)):
        yield "JSON has no dates and times; write this as text."


TYPE = like(
    "int|float|text|bool|decimal:(?:[0-9]|1[0-8])", "a type; take int, float, text, bool or decimal:0 to decimal:18"
)
