"""`pipeline validate --live`: what a pipeline will not find in the store as its file declares it.

Promises
- Nothing is written, not even an audit record; a store in trouble is looked at as far as it can be reached.
- What the gate of the store says decides: a placement, a locator or a group that was changed since `apply` is found by
  asking whether each stage may still do in each of its domains what it does there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from grafctl.client import Store
from grafctl.errors import GrafctlError, NotFound
from grafctl.names import shown
from grafctl.nouns.declared import drift
from grafctl.pipeline.declaring import Examined
from grafctl.pipeline.model import DeclaredStage, Pipeline, owner_of
from grafctl.pipeline.stages.following import reading, told
from grafctl.results import Finding, Verdict
from grafctl.store.authority import POLL, PUBLISH, RESERVE
from grafctl.store.segment_rules import REVOKED, REVOKING, USABLE
from grafctl.store.switch_rules import SIDES


class Deed(NamedTuple):
    """What a stage does with a resource."""

    op: str
    resource: str
    group: str | None = None


def differences(store: Store, examined: Examined) -> Iterator[Finding]:
    """Yields what is missing or different, domains in trouble, and what a stage may not do where it is to run."""
    pipeline = examined.pipeline
    for item in drift(store, pipeline.file).findings:
        if item["finding"] != "undeclared":
            remedy = item.get("command") or f"grafctl apply {pipeline.file}"
            problem = str(item["message"]).partition("; run ")[0]
            yield Finding(f"{pipeline.file}:{item.get('line', 1)}", f"{problem}.", remedy)
    yield from _in_trouble(store, pipeline)
    yield from _leased_otherwise(store, pipeline)
    yield from _not_following(store, pipeline)
    stages = {stage.name: stage for stage in pipeline.stages}
    for spot in examined.spots:
        if spot.runs:
            yield from _refused(store, pipeline, stages[spot.stage], spot.domain)


def _in_trouble(store: Store, pipeline: Pipeline) -> Iterator[Finding]:
    for item in store.status().body["domains"]:
        domain = str(item["domain"])
        if domain in pipeline.declaration.domains and item.get("trouble"):
            yield Finding(domain, f"The domain is {item['trouble']}: {item['why']}.", item["remedy"], domain)
    for item in store.health.list().items:
        domain = str(item["domain"])
        if domain in pipeline.declaration.domains and item["status"] == "unhealthy":
            yield Finding(domain, "The domain was observed as unhealthy.", "grafctl health list", domain)


def _leased_otherwise(store: Store, pipeline: Pipeline) -> Iterator[Finding]:
    """Yields the edges that the stages which write to them cannot have now."""
    leases = {str(row["lease"]): row for row in store.leases.list().items} if pipeline.edges else {}
    for stage in pipeline.stages:
        for name in stage.outputs:
            edge, row = pipeline.edge(name), leases.get(name)
            if edge is None or row is None:
                continue
            where = f"{pipeline.file}:{edge.lines['']}"
            if row["state"] in (REVOKING, REVOKED):
                problem = f"The lease of edge {shown(name)} is {row['state']}, and its name is not leased again."
                yield Finding(where, problem, "grafctl lease list", str(row["domain"]), name)
            elif row["state"] in USABLE and row["owner"] != owner_of(pipeline, stage):
                problem = f"Edge {shown(name)} is held by {row['owner']}, and not by stage {shown(stage.name)}."
                yield Finding(where, problem, "grafctl lease list", str(row["domain"]), name)


def _not_following(store: Store, pipeline: Pipeline) -> Iterator[Finding]:
    """Yields the stages that may not read the other output of the switch that their group is attached to."""
    for stage in pipeline.stages:
        try:
            routed = told(store.session, pipeline, stage)
        except GrafctlError:
            continue  # what is missing or away has been told
        if "stays" in routed:
            problem = f"Stage {shown(stage.name)} may not follow the switch {routed['switch']}: {routed['stays']}"
            where, remedy = f"{pipeline.file}:{stage.line}", f"grafctl consumer status {routed['switch']}"
            yield Finding(where, problem, remedy, resource=routed["reads"])


def _refused(store: Store, pipeline: Pipeline, stage: DeclaredStage, domain: str) -> Iterator[Finding]:
    """Yields what the gate refuses a stage in one domain, but for what is the matter with the domain itself."""
    for deed in _deeds(pipeline, stage, _others(store, pipeline, stage)):
        try:
            verdict = store.can(deed.op, deed.resource, domain=domain, group=deed.group)
        except NotFound:
            continue  # it is missing, and has been told
        if not verdict.allowed and verdict.reason not in ("unreachable", "unhealthy"):
            problem = (
                f"Stage {shown(stage.name)} may not {deed.op} {deed.resource} in {domain}: {verdict.reason}, "
                f"by {verdict.by}."
            )
            yield Finding(f"{pipeline.file}:{stage.line}", problem, _remedy(verdict), domain, deed.resource)


def _others(store: Store, pipeline: Pipeline, stage: DeclaredStage) -> list[tuple[str, str]]:
    """Returns the groups that a stage reads besides its own, where a switch brings it."""
    try:
        found = reading(store.session, pipeline, stage)
    except GrafctlError:
        return []
    places = [] if found is None else [(found.row[side]["resource"], found.row[side]["group"]) for side in SIDES]
    return [place for place in places if place != (stage.input, stage.group)]


def _deeds(pipeline: Pipeline, stage: DeclaredStage, others: Iterable[tuple[str, str]] = ()) -> Iterator[Deed]:
    if stage.input is not None and pipeline.edge(stage.input) is None:
        yield Deed(POLL, stage.input, stage.group)
        yield from (Deed(POLL, *place) for place in others)
    sinks = (sink.resource for sink in pipeline.sinks if sink.name == stage.sink)
    for name in dict.fromkeys((*stage.outputs, stage.dead_letter, *sinks)):
        if name is not None and pipeline.edge(name) is None:
            yield Deed(PUBLISH, name)
    if stage.effects is not None:
        yield Deed(RESERVE, stage.effects)


def _remedy(verdict: Verdict) -> str:
    if verdict.reason == "not_caught_up":
        return f"grafctl catch-up {verdict.resource} -d {verdict.domain}"
    if verdict.reason == "not_in_locator":
        return f"grafctl locator show {verdict.resource}"
    return f"grafctl placement show {verdict.resource}" + (f" --group {verdict.group}" if verdict.group else "")
