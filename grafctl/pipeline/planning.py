"""`pipeline plan` and `pipeline validate`: what a file holds, where each stage runs and why not elsewhere.

Promises
- Pure: a plan says what the policies of the file come to.
"""

from __future__ import annotations

from typing import Any

from grafctl.errors import NotFound
from grafctl.pipeline.declaring import Examined
from grafctl.pipeline.where import Spot
from grafctl.results import Shown


def told(examined: Examined) -> Shown:
    """Returns what a file without problems holds, and what is worth knowing of it."""
    pipeline, store = examined.pipeline, examined.pipeline.declaration
    return Shown(
        {
            "file": str(pipeline.file),
            "pipeline": pipeline.name,
            "declared_domains": list(store.domains),
            "declared_resources": [resource.name for resource in store.resources],
            "sources": [source.name for source in pipeline.sources],
            "stages": [stage.name for stage in pipeline.stages],
            "sinks": [sink.name for sink in pipeline.sinks],
            "tests": len(pipeline.tests),
            "notes": [{"file": str(pipeline.file), "line": line, "note": text} for line, text in examined.notes],
        }
    )


def plan(examined: Examined, domain: str | None = None) -> Shown:
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
    return Shown(body)


def _row(spot: Spot, kind: str) -> dict[str, Any]:
    return {
        "stage": spot.stage,
        "kind": kind,
        "domain": spot.domain,
        "runs": spot.runs,
        "by": spot.rule,
        "line": spot.line,
    }
