"""Whether a stage may go on at the other output, where a switch brings the consumer whose group it reads with.

A step of a stage that shares one log with what it reads is there wholly or not at all, at either side. Every other step
can be cut in two by a flip: what came of a record is there, and the record is not finished and comes again from the
other output. Then it has no second effect only where the counterpart makes the same under the same id or effect key.

Promises
- A stage of which that cannot be said is refused the other output: nothing of that is worked on, and the stage goes on
  with its own when the consumer is brought back.
- Nothing is changed here. What a function or a program makes cannot be looked into, and is taken to follow from the
  payload, the id and the key.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from grafctl.errors import Busy, GenerationConflict
from grafctl.expression.language import compile_expression
from grafctl.pipeline.model import RESOURCE, DeclaredSink, DeclaredStage, Pipeline
from grafctl.pipeline.stages.work import Place
from grafctl.store.operations.switching.routed import Reads, reads
from grafctl.store.session import Session
from grafctl.store.switch_match import ID, KEY
from grafctl.store.switch_rules import LOCKED, SIDES

UNCOMPARED = ("_offset", "_headers")  # of which a comparison says nothing


def reading(session: Session, pipeline: Pipeline, stage: DeclaredStage) -> Reads | None:
    """Returns what a stage reads through a switch, or None where it reads an edge, a source, or a group without one."""
    if stage.input is None or pipeline.edge(stage.input) is not None:
        return None
    return reads(session, stage.input, stage.group)


def told(session: Session, pipeline: Pipeline, stage: DeclaredStage) -> dict[str, Any]:
    """Returns for people and scripts what a stage reads through a switch; nothing where there is none."""
    found = reading(session, pipeline, stage)
    if found is None:
        return {}
    body: dict[str, Any] = {"switch": found.switch, "side": found.side, "reads": found.resource}
    body |= {"reads_group": found.group} if found.group != stage.group else {}
    why = why_not(session, pipeline, stage, found.row)
    return body | ({} if why is None else {"stays": f"{why[0].upper()}{why[1:]}."})


def pass_follow(place: Place, stage: DeclaredStage, at: tuple[str, str] | None = None) -> Reads | None:
    """Returns what a stage reads through a switch; raises where its consumer is at the other output and the stage may
    not read that: `Busy` (22) while there is a way back, and else `GenerationConflict` (13). Whoever has records at
    hand says of which group: the consumer may be elsewhere by now."""
    found = reading(place.session, place.pipeline, stage)
    if found is None and at is not None:
        raise Busy(f"Stage {stage.name} gives back records of {at[0]}: the switch was detached.", stage=stage.name)
    if found is None:
        return None
    resource, group = at or (found.resource, found.group)
    why = why_not(place.session, place.pipeline, stage, found.row)
    if why is None or (resource, group) == (stage.input, stage.group):
        return found
    is_locked = found.row["state"] == LOCKED
    way = "Change the stage" if is_locked else f"Run `grafctl consumer rollback {found.switch}`, or change the stage"
    kind = GenerationConflict if is_locked else Busy
    raise kind(
        f"Stage {stage.name} does not go on at {resource}, to which the switch {found.switch} has brought its "
        f"consumer: {why}.",
        hint=f"{way}; `grafctl pipeline validate {place.pipeline.file} --live` says whether it may go on then.",
        stage=stage.name,
        switch=found.switch,
        resource=resource,
    )


def why_not(session: Session, pipeline: Pipeline, stage: DeclaredStage, row: Mapping[str, Any]) -> str | None:
    """Returns why a stage cannot go on at the other side of a switch, or None where it can."""
    if pipeline.chain_of(stage.name) is not None:
        return "it is the first of a chain, whose checkpoint counts the records of one output"
    sink = next((sink for sink in pipeline.sinks if sink.name == stage.sink), None)
    written = [name for name in (*stage.outputs, sink.resource if sink else None) if name is not None]
    sides = [row[side]["resource"] for side in SIDES]
    for name in sides:
        if name in written:
            return f"it writes to {name}, which it would read"
    if sink is None or sink.kind == RESOURCE:
        touched = [*sides, *written, *([] if stage.effects is None else [stage.effects])]
        if len({session.resource(name).id for name in touched}) == 1:
            return None
    return _of_steps(stage, row) if sink is None else _of_sink(sink, row)


def _of_steps(stage: DeclaredStage, row: Mapping[str, Any]) -> str | None:
    """Returns why the outputs of two counterparts may be different, or have different ids."""
    apart = "and what it reads and writes is not all in one log"
    if row["match"] != ID:
        return f"its outputs are named after the ids of records, {apart}, and the switch matches by {row['match']}"
    if row["compare"]["fields"]:
        return f"the switch compares fields, {apart}, so what is made of the other fields may differ"
    for name in UNCOMPARED:
        if _is_named(name, stage.steps):
            return f"its steps read {name}, in which the two outputs may differ, {apart}"
    return None


def _of_sink(sink: DeclaredSink, row: Mapping[str, Any]) -> str | None:
    """Returns why the rows of two counterparts may have different effect keys, or be different under the same."""
    match, has_fields = row["match"], bool(row["compare"]["fields"])
    names = compile_expression(sink.key).names
    columns = set[str]().union(*(compile_expression(text).names for text in sink.columns.values()))
    if has_fields:
        own = {ID: "_id", KEY: "_key"}.get(match)
        if own is None or names != {own}:
            what = f"it reads {_list(names)}, not {own} alone" if own else f"the switch matches by {match}"
            return f"the switch compares fields, so other bytes may make another effect key: {what}"
        return _apart(columns.intersection(UNCOMPARED))
    strange = {*UNCOMPARED} if match == ID else {*UNCOMPARED, "_id"}
    return _apart((names | columns) & strange)


def _apart(names: Collection[str]) -> str | None:
    return f"its rows are made of {_list(names)}, in which the two outputs may differ" if names else None


def _list(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "nothing of the record"


def _is_named(name: str, value: Any) -> bool:
    """Returns whether a name stands anywhere in the text of some steps."""
    if isinstance(value, str):
        return name in value
    if isinstance(value, Mapping):
        return any(_is_named(name, item) for pair in value.items() for item in pair)
    return isinstance(value, (list, tuple)) and any(_is_named(name, item) for item in value)
