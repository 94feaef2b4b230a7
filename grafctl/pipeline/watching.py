"""A pipeline from outside: how far each stage is, and what goes through it. Nothing is leased or changed.

Promises
- What cannot be read of one stage is said in its row, and the other rows are shown.
"""

from __future__ import annotations

from typing import Any

from grafctl.client import Store
from grafctl.errors import GrafctlError, NotFound, Usage
from grafctl.pipeline.model import SINK, DeclaredStage, Pipeline
from grafctl.results import Shown
from grafctl.store import keys
from grafctl.store.authority import Placement
from grafctl.store.checked import checked
from grafctl.store.intervals import size
from grafctl.store.replica.state import State
from grafctl.store.resources.delivery import Lineage
from grafctl.store.resources.group import group_row
from grafctl.store.resources.queue import queue_row


def status(store: Store, pipeline: Pipeline) -> Shown:
    """Returns what each stage has left to do, and where it may run."""
    rows = [_row(store, pipeline, stage) for stage in pipeline.stages]
    return Shown({"pipeline": pipeline.name, "stages": rows})


def _row(store: Store, pipeline: Pipeline, stage: DeclaredStage) -> dict[str, Any]:
    allowed = [domain for domain in pipeline.declaration.domains if stage.placement.decide(domain)[0]]
    row: dict[str, Any] = {"stage": stage.name, "kind": stage.kind, "domains": allowed}
    row |= {"group": stage.group} if stage.group != stage.name else {}
    try:
        if stage.input is None:
            published = checked(store.session.resource(stage.outputs[0]), lambda state: _ends(state, stage.outputs[0]))
            return row | {"output": stage.outputs[0], **published}
        resource = stage.input
        found, placement = checked(
            store.session.resource(resource), lambda state: _progress(state, resource, stage.group)
        )
        row["domains"] = [domain for domain in allowed if placement.decide(domain)[0]]
        return row | {"input": resource, **found}
    except GrafctlError as error:
        return row | {"trouble": error.message}


def _ends(state: State, resource: str) -> dict[str, Any]:
    row = queue_row(state, resource)
    return {"records": row["next"], "kept": row["next"] - row["first"]}


def _progress(state: State, resource: str, name: str) -> tuple[dict[str, Any], Placement]:
    """Returns how far a group is, and where the store allows it now, which may be less than the file does."""
    queue, group = queue_row(state, resource), group_row(state, resource, name)
    lineage = Lineage.of(state.get_json(keys.lineage(group["lineage"])))
    dead = size(lineage.dead)
    found = {
        "lag": queue["next"] - lineage.floor - size(lineage.done) - dead,
        "leased": size(lineage.leased),
        "retrying": sum(item[1] - item[0] for item in lineage.retry),
        "dead": dead,
        "ack_floor": lineage.floor,
        "paused": group["paused"],
    }
    return found, Placement.of(group)


def stage_of(pipeline: Pipeline, name: str) -> DeclaredStage:
    """Returns a stage; raises `NotFound`."""
    for stage in pipeline.stages:
        if stage.name == name:
            return stage
    names = ", ".join(stage.name for stage in pipeline.stages)
    raise NotFound(f"{pipeline.name} has no stage {name[:100]}.", hint=f"It has {names}.")


def tapped(pipeline: Pipeline, name: str, output: str | None, *, is_input: bool) -> str:
    """Returns the resource in which the records of a stage can be seen; raises `Usage` where there is none."""
    stage = stage_of(pipeline, name)
    if is_input:
        if stage.input is None:
            raise Usage(f"The stage {name} reads a source, and no resource holds what it reads.")
        return stage.input
    if stage.kind == SINK:
        sink = next(sink for sink in pipeline.sinks if sink.name == stage.sink)
        if sink.resource is None:
            raise Usage(f"The stage {name} writes to a {sink.kind}.", hint="Look there, or at its input with --input.")
        return sink.resource
    if output is not None and output not in stage.outputs:
        raise NotFound(f"The stage {name} has no output {output[:100]}.", hint=f"It has {', '.join(stage.outputs)}.")
    return output or stage.outputs[0]


def tap(store: Store, resource: str, *, domain: str, offset: int | None, count: int) -> Shown:
    """Returns the last records of a resource, or those from an offset on, as `domain` holds them."""
    if offset is None:
        ends = checked(store.session.resource(resource), lambda state: queue_row(state, resource))
        offset = max(ends["first"], ends["next"] - count)
    return store.peek(resource, domain=domain, offset=offset, max=count)
