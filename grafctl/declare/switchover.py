"""A declared wave: which consumers are switched from one output to another, and what each of them has to pass.

The file holds `[wave]` and `[[consumer]]`, and may hold the store too (`declare/store.py`); then every output and group
that a consumer names must be declared there.

- `[wave]` name, at_once, high_value, drain; stop_after_rollbacks, stop_after_blocked, stop_same_shape
- `[[consumer]]` name, source, target, group, target_group, risk, value, shape
- in both, where `[wave]` says what holds for each consumer that does not say otherwise: match, fields, window, grace,
  and `rules`: max_lag, max_redeliveries, max_dead_letters, max_error_rate, max_idle, max_mismatches, health_command

Shown in `examples/switchover.toml`.

Promises
- `parse` returns a wave that holds in itself, or raises `InvalidConfig` with all problems, sorted by line, and nothing
  else, whatever the text is. It opens no file; `read` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as own_field
from functools import partial
from pathlib import Path
from typing import Any

from grafctl.declare.document import read_text
from grafctl.declare.resources import OF_RECORDS, TABLE, Lines
from grafctl.declare.store import PIPELINE_KEYS, WAVE_KEYS, Declaration, parse_tables
from grafctl.declare.table import NUMBER, Check, Table, kind_of, like
from grafctl.errors import Usage
from grafctl.names import check_name, shown
from grafctl.store.switch_fields import check_fields, field
from grafctl.store.switch_match import ID, check_match
from grafctl.store.switch_rules import check_command
from grafctl.store.wave_rules import HIGH, LOW, RISKS, Member, Stops
from grafctl.units import duration_ms

STORE_KEYS = ("store", "domain", "authority", "schema", "log", "queue", "topic", "idem", "table")
CONSUMERS_MAX = 1000
VALUE_MAX = 10**15  # so that all digits of a whole number count
AT_ONCE_MAX = 100
WINDOW_MS, GRACE_MS, DRAIN_MS = 600_000, 60_000, 30_000


@dataclass(frozen=True, slots=True)
class DeclaredConsumer:
    """A consumer, with what it has to pass; what `[wave]` says of each stands here too."""

    name: str
    source: str
    target: str
    group: str
    target_group: str
    member: Member
    match: str
    fields: tuple[str, ...]
    window_ms: int
    grace_ms: int
    rules: Mapping[str, Any]  # by the names of the options of `consumer attach`
    lines: Lines = own_field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class DeclaredWave:
    """A wave, with its consumers as the file has them."""

    name: str
    at_once: int
    high_value: float | None
    drain_ms: int
    stops: Stops
    consumers: tuple[DeclaredConsumer, ...]
    declaration: Declaration | None = None  # of the store, where the file holds it too
    lines: Lines = own_field(default_factory=dict, compare=False)

    def consumer(self, name: str) -> DeclaredConsumer:
        return next(consumer for consumer in self.consumers if consumer.name == name)


def read(file: Path) -> DeclaredWave:
    """Returns what a file declares; raises `InvalidConfig`, or `NotFound` where it cannot be read."""
    from grafctl.declare.schema_file import load_schema
    from grafctl.store.signing import load_public

    return parse(read_text(file), str(file), file.absolute().parent, load_public, load_schema)


def parse(text: bytes, file: str, folder: Path, check_key: Check = bool, check_schema: Check = bool) -> DeclaredWave:
    """Returns what a text declares; the checks are of the files that the declaration of a store names."""
    root = Table.of_file(text, file)
    root.pass_over(*WAVE_KEYS)
    declaration = None
    if not root.body.keys().isdisjoint(STORE_KEYS):
        declaration = parse_tables(root, folder, check_key, check_schema)
        root.pass_over(*PIPELINE_KEYS)
    wave = _wave(root, declaration)
    root.finish(file)
    return wave


def _wave(root: Table, declaration: Declaration | None) -> DeclaredWave:
    if "wave" not in root.body:
        root.note("The file declares no [wave].")
    body = root.take("wave", "written as [wave]", dict, {}, dict)
    table = Table("[wave]", ("wave",), body, root.lines, root.notes)
    name = table.require("name", partial(check_name, "wave")) if "wave" in root.body else ""
    at_once = table.take("at_once", "a whole number", _AT_ONCE, 1, int)
    high_value = table.take("high_value", "a number", _number, None, int, float)
    drain_ms = table.take("drain", "text, such as 30s", duration_ms, DRAIN_MS)
    stops = Stops(
        table.take("stop_after_rollbacks", "a whole number", NUMBER, None, int),
        table.take("stop_after_blocked", "a whole number", NUMBER, None, int),
        table.take("stop_same_shape", "true or false", bool, True, bool),
    )
    common = _common(table, {})
    table.close()
    tables = root.tables("consumer", "consumer")
    if not root.body.get("consumer", []):
        root.note("The file declares no [[consumer]], and a wave needs at least one.", "consumer")
    if len(tables) > CONSUMERS_MAX:
        root.note(f"The file declares {len(tables)} consumers; a wave has at most {CONSUMERS_MAX}.", "consumer")
    consumers = [_consumer(item, common) for item in tables[:CONSUMERS_MAX]]
    _note_twins(tables, consumers)
    if declaration is not None:
        for item, consumer in zip(tables, consumers, strict=False):
            _note_undeclared(item, consumer, declaration)
    return DeclaredWave(name, at_once, high_value, drain_ms, stops, tuple(consumers), declaration, table.key_lines())


# --- one consumer


def _consumer(table: Table, common: Mapping[str, Any]) -> DeclaredConsumer:
    name = table.require("name", partial(check_name, "switch"))
    source = table.require("source", partial(check_name, "resource"))
    target = table.require("target", partial(check_name, "resource"))
    if source and source == target:
        table.note(f"{table.title} has one output, {source}, as its source and its target.", "target")
    group = table.take("group", "text", partial(check_name, "group"), name)
    target_group = table.take("target_group", "text", partial(check_name, "group"), group)
    shape = table.require("shape", partial(check_name, "shape"))
    risk = table.require("risk", _RISK)
    value = table.take("value", "low, high or a number", _value, 0.0, str, int, float)
    own = _common(table, common)
    table.close()
    member = Member(name, shape, risk or LOW, value)
    return DeclaredConsumer(name, source, target, group, target_group, member, **own, lines=table.key_lines())


def _common(table: Table, above: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `[wave]` and a consumer can both say; what is not said is as above it."""
    rules = dict(above.get("rules", {}))
    body = table.take("rules", "a table", dict, {}, dict)
    below = Table(f"rules of {table.title}", (*table.place, "rules"), body, table.lines, table.notes)
    for key, (name, what, check, *kinds) in _RULES.items():
        value = below.take(key, what, check, None, *kinds)
        rules |= {} if value is None else {name: value}
    below.close()
    fields = _fields(table)
    return {
        "match": table.take("match", "text", check_match, above.get("match", ID)),
        "fields": above.get("fields", ()) if fields is None else fields,
        "window_ms": table.take("window", "text, such as 10m", _window, above.get("window_ms", WINDOW_MS)),
        "grace_ms": table.take("grace", "text, such as 1m", duration_ms, above.get("grace_ms", GRACE_MS)),
        "rules": rules,
    }


def _fields(table: Table) -> tuple[str, ...] | None:
    items = table.take("fields", "a list of texts", list, None, list)
    if items is None:
        return None
    found = list[str]()
    for at, item in enumerate(items):
        if not isinstance(item, str):
            table.note(f"fields of {table.title} is a list of texts, and holds {kind_of(item)}.", "fields", at)
        elif table.attempt(field, item, None, "fields", at) is not None:
            found.append(item)
    return tuple(table.attempt(check_fields, found, (), "fields"))


# --- what consumers say of each other, and of the store


def _note_twins(tables: Sequence[Table], consumers: Sequence[DeclaredConsumer]) -> None:
    """Notes a group that two consumers name: a group has one switch."""
    seen: dict[tuple[str, str], str] = {}
    for table, consumer in zip(tables, consumers, strict=False):
        for resource, group in {(consumer.source, consumer.group), (consumer.target, consumer.target_group)}:
            other = seen.setdefault((resource, group), consumer.name)
            if resource and group and other != consumer.name:
                table.note(f"{table.title} is of group {group} of {resource}, as is consumer {shown(other)}.")


def _note_undeclared(table: Table, consumer: DeclaredConsumer, declaration: Declaration) -> None:
    """Notes outputs and groups that the store of the same file does not have; who reads a table has no group there."""
    kinds = [found.kind for name in (consumer.source, consumer.target) if (found := declaration.resource(name))]
    if kinds.count(TABLE) == 1 and len(kinds) == 2:
        table.note(f"{table.title} has one table; its outputs are of one kind.", "target")
    for key, name, group_key, group in (
        ("source", consumer.source, "group", consumer.group),
        ("target", consumer.target, "target_group", consumer.target_group),
    ):
        if not name:
            continue
        resource = declaration.resource(name)
        if resource is None or resource.kind not in (*OF_RECORDS, TABLE):
            told = f"{key} of {table.title} is {shown(name)}, and no [[queue]], [[topic]] or [[table]] has that name."
            table.note(told, key)
        elif group and resource.kind != TABLE and resource.group(group) is None:
            place = group_key if group_key in table.body else key
            table.note(f"{key} of {table.title} has no group {shown(group)}; declare it in {name}.", place)


# --- values


def _number(value: float) -> float:
    if not 0 <= value <= VALUE_MAX or math.isnan(value):
        raise Usage(f"{shown(str(value))} is no number from 0 to {VALUE_MAX}.")
    return float(value)


def _value(value: str | float) -> float | None:
    if isinstance(value, str):
        if value not in (LOW, HIGH):
            raise Usage(f"{shown(value)} is not low, high or a number.")
        return None if value == HIGH else 0.0
    return _number(value)


def _window(text: str) -> int:
    found = duration_ms(text)
    if not found:
        raise Usage("A window is longer than nothing.", hint="Write how long a consumer has to do well, such as 10m.")
    return found


def _rate(value: float) -> float:
    if not 0 <= value <= 1:
        raise Usage(f"{shown(str(value))} is no share from 0 to 1.")
    return float(value)


_COUNT = like("0|[1-9][0-9]{0,17}", "a whole number from 0 on", lambda found: int(found[0]))
_RISK = like("|".join(RISKS), "low, medium or high")
_AT_ONCE = like("[1-9][0-9]?|100", f"a whole number from 1 to {AT_ONCE_MAX}", lambda found: int(found[0]))

# key of the file -> its name in the library, what it is, its check, and how TOML has it
_RULES: Mapping[str, tuple[str, str, Callable[[Any], Any], *tuple[type, ...]]] = {
    "max_lag": ("max_lag", "a whole number", _COUNT, int),
    "max_redeliveries": ("max_redeliveries", "a whole number", _COUNT, int),
    "max_dead_letters": ("max_dead_letters", "a whole number", _COUNT, int),
    "max_error_rate": ("max_error_rate", "a share, such as 0.01", _rate, int, float),
    "max_idle": ("max_idle_ms", "text, such as 5m", duration_ms, str),
    "max_mismatches": ("max_mismatches", "a whole number", _COUNT, int),
    "health_command": ("health_command", "text", check_command, str),
}
