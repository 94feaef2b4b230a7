"""A pipeline from outside: how far each stage is, and what goes through it. Nothing is leased or changed.

Promises
- What cannot be read of one stage is said in its row, and the other rows are shown.
"""

from __future__ import annotations

from typing import Any

from grafctl.client import Store
from grafctl.errors import GrafctlError, NotFound, Usage
from grafctl.pipeline.model import SINK, Chain, DeclaredEdge, DeclaredStage, Pipeline
from grafctl.pipeline.stages.following import told
from grafctl.results import Shown
from grafctl.store import keys
from grafctl.store.authority import Placement
from grafctl.store.checked import checked
from grafctl.store.intervals import size
from grafctl.store.replica.state import State
from grafctl.store.resources.chains import chained
from grafctl.store.resources.delivery import Lineage
from grafctl.store.resources.group import group_row
from grafctl.store.resources.queue import queue_row


def status(store: Store, pipeline: Pipeline) -> Shown:
    """Returns what each stage has left to do, and where it may run."""
    rows = [_row(store, pipeline, stage) for stage in pipeline.stages]
    chains = [_chain(store, chain) for chain in pipeline.chains()]
    shown: dict[str, Any] = {"pipeline": pipeline.name, "stages": rows}
    if chains:
        known = {item["edge"]: item for item in store.edges.status().items}
        shown |= {"chains": chains, "edges": [known.get(edge.name, _absent(edge)) for edge in pipeline.edges]}
    return Shown(shown)


def _absent(edge: DeclaredEdge) -> dict[str, Any]:
    return {"edge": edge.name, "kind": edge.kind, "state": "absent"}


def _chain(store: Store, chain: Chain) -> dict[str, Any]:
    """Returns how much of a chain's input is committed at its end, and how its edges are."""
    body: dict[str, Any] = {"chain": chain.name, "stages": list(chain.stages)}
    try:
        row = checked(store.session.control, lambda state: chained(state, chain.name, chain.edges)).row
        if row is not None:
            body |= {"run": row.run, "committed": row.next}
            body |= {} if row.end is None else {"records": row.end, "done": row.is_done}
        return body
    except GrafctlError as error:
        return body | {"trouble": error.message}


def _row(store: Store, pipeline: Pipeline, stage: DeclaredStage) -> dict[str, Any]:
    allowed = [domain for domain in pipeline.declaration.domains if stage.placement.decide(domain)[0]]
    row: dict[str, Any] = {"stage": stage.name, "kind": stage.kind, "domains": allowed}
    row |= {"group": stage.group} if stage.group != stage.name else {}
    try:
        if pipeline.edge(stage.input) or (stage.input is None and pipeline.edge(stage.outputs[0])):
            return row | _beside_edges(store, pipeline, stage)
        if stage.input is None:
            published = checked(store.session.resource(stage.outputs[0]), lambda state: _ends(state, stage.outputs[0]))
            return row | {"output": stage.outputs[0], **published}
        routed = told(store.session, pipeline, stage)
        resource, group = routed.get("reads", stage.input), routed.get("reads_group", stage.group)
        found, placement = checked(store.session.resource(resource), lambda state: _progress(state, resource, group))
        row["domains"] = [domain for domain in allowed if placement.decide(domain)[0]]
        return row | {"input": stage.input, **routed, **found}
    except GrafctlError as error:
        return row | {"trouble": error.message}


def _beside_edges(store: Store, pipeline: Pipeline, stage: DeclaredStage) -> dict[str, Any]:
    """Returns how far a stage is that no group tells of: what is on the edge before it, or what of its source is
    committed."""
    if stage.input is None:
        chain = pipeline.chain_of(stage.name)
        assert chain is not None, "it writes to an edge"
        found = checked(store.session.control, lambda state: chained(state, chain.name, chain.edges)).row
        return {"output": stage.outputs[0], "committed": found.next if found else 0}
    edge = next((item for item in store.edges.status().items if item["edge"] == stage.input), {"state": "absent"})
    return {"input": stage.input, "lag": edge.get("used"), "edge": edge["state"]}


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
        return _no_edge(pipeline, stage.input)
    if stage.kind == SINK:
        sink = next(sink for sink in pipeline.sinks if sink.name == stage.sink)
        if sink.resource is None:
            raise Usage(f"The stage {name} writes to a {sink.kind}.", hint="Look there, or at its input with --input.")
        return sink.resource
    if output is not None and output not in stage.outputs:
        raise NotFound(f"The stage {name} has no output {output[:100]}.", hint=f"It has {', '.join(stage.outputs)}.")
    return _no_edge(pipeline, output or stage.outputs[0])


def _no_edge(pipeline: Pipeline, name: str) -> str:
    if pipeline.edge(name) is None:
        return name
    raise Usage(
        f"{name} is an edge, and keeps nothing that could be looked at.",
        hint=f"Run `grafctl edge status {name}`, or make it a topic for the time.",
    )


def read_now(store: Store, pipeline: Pipeline, name: str, resource: str) -> str:
    """Returns the resource that a stage reads now: its input, or the output to which a switch brings it."""
    return str(told(store.session, pipeline, stage_of(pipeline, name)).get("reads", resource))


def tap(store: Store, resource: str, *, domain: str, offset: int | None, count: int) -> Shown:
    """Returns the last records of a resource, or those from an offset on, as `domain` holds them."""
    if offset is None:
        ends = checked(store.session.resource(resource), lambda state: queue_row(state, resource))
        offset = max(ends["first"], ends["next"] - count)
    return store.peek(resource, domain=domain, offset=offset, max=count)
