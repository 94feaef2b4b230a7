"""`pipeline plan` and `pipeline validate`: what a file holds, where each stage runs and why not elsewhere.

Promises
- Nothing is changed. A plan says what the policies of the file come to, and with a store also what `apply` would make
  there; what a live check found is handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from grafctl.errors import GrafctlError, NotFound
from grafctl.nouns.declared import apply_file
from grafctl.nouns.opening import default_driver, session_if_begun
from grafctl.pipeline.declaring import Examined
from grafctl.pipeline.model import Pipeline
from grafctl.pipeline.stages import following
from grafctl.pipeline.where import Spot
from grafctl.results import Finding, Shown


def told(examined: Examined, findings: Iterable[Finding] | None = None) -> Shown:
    """Returns what a file without problems holds, what is worth knowing of it, and what a live check found."""
    pipeline, store = examined.pipeline, examined.pipeline.declaration
    found = None if findings is None else [finding.fields() for finding in findings]
    return Shown(
        {
            "file": str(pipeline.file),
            "pipeline": pipeline.name,
            "declared_domains": list(store.domains),
            "declared_resources": [resource.name for resource in store.resources],
            "sources": [source.name for source in pipeline.sources],
            "stages": [stage.name for stage in pipeline.stages],
            "edges": [edge.name for edge in pipeline.edges] or None,
            "sinks": [sink.name for sink in pipeline.sinks],
            "tests": len(pipeline.tests),
            "notes": [{"file": str(pipeline.file), "line": line, "note": text} for line, text in examined.notes],
            "findings": found,
        }
    )


def plan(examined: Examined, domain: str | None = None, store: Path | None = None) -> Shown:
    """Returns where each stage runs, and by which line; of one domain alone where one is named."""
    pipeline = examined.pipeline
    if domain is not None and domain not in pipeline.declaration.domains:
        raise NotFound(
            f"{pipeline.file} declares no domain {domain}.",
            hint=f"It declares {', '.join(pipeline.declaration.domains)}.",
            domain=domain,
        )
    kinds = {stage.name: stage.kind for stage in pipeline.stages}
    spots = [_row(spot, kinds[spot.stage]) for spot in examined.spots if domain in (None, spot.domain)]
    body: dict[str, Any] = {"file": str(pipeline.file), "pipeline": pipeline.name, "plan": spots}
    if pipeline.edges:
        body["edges"] = [row for row in _edges(examined) if domain in (None, row["domain"])]
    if store is not None:
        body |= {"store": str(store), "to_apply": apply_file(store, pipeline.file, dry_run=True).actions or []}
        routed = _routed(pipeline, store)
        for row in spots:
            row |= routed.get(row["stage"], {})
    return Shown(body)


def _routed(pipeline: Pipeline, store: Path) -> dict[str, dict[str, Any]]:
    """Returns what stages read through a switch, by their names."""
    found: dict[str, dict[str, Any]] = {}
    with session_if_begun(store.absolute(), default_driver()) as session:
        if session is None:
            return {}
        for stage in pipeline.stages:
            try:
                found[stage.name] = following.told(session, pipeline, stage)
            except NotFound:
                continue  # it is to be applied
            except GrafctlError as error:
                found[stage.name] = {"trouble": error.message}
    return found


def home_of(examined: Examined, edge: str) -> str:
    """Returns the one domain in which an edge is: that of its stages."""
    writer = next(stage.name for stage in examined.pipeline.stages if edge in stage.outputs)
    return next(spot.domain for spot in examined.spots if spot.stage == writer and spot.allowed)


def _edges(examined: Examined) -> Iterator[dict[str, Any]]:
    pipeline = examined.pipeline
    for chain in pipeline.chains():
        for at, name in enumerate(chain.edges):
            edge = pipeline.edge(name)
            assert edge is not None
            yield {
                "edge": name,
                "chain": chain.name,
                "from": chain.stages[at],
                "to": chain.stages[at + 1],
                "domain": home_of(examined, name),
                "kind": edge.kind,
                "capacity": edge.slots - 1,
                "bytes": edge.bytes,
                "term_ms": edge.term_ms,
                "line": edge.lines[""],
            }


def _row(spot: Spot, kind: str) -> dict[str, Any]:
    return {
        "stage": spot.stage,
        "kind": kind,
        "domain": spot.domain,
        "runs": spot.runs,
        "by": spot.rule,
        "line": spot.line,
    }
