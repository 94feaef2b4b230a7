"""What `validate` tells of a file that has no problem: where it stops while one domain is away, what nobody uses.

Promises
- A note is no problem: it changes no exit code, and `apply` and `run` do not look at it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from grafctl.declare.store import Declaration
from grafctl.declare.table import Note
from grafctl.names import shown
from grafctl.pipeline.declaring_references import Staged
from grafctl.pipeline.model import Pipeline
from grafctl.pipeline.where import Spot, log_of, replicas_line, title_of
from grafctl.store.resources.membership import VOTER
from grafctl.store.rules import ack_sizes


def notes_of(pipeline: Pipeline, stages: Sequence[Staged], spots: Sequence[Iterable[Spot]]) -> list[Note]:
    """Returns the notes on a pipeline, by line."""
    return sorted({*_that_stop(pipeline.declaration), *_of_stages(stages, spots), *_unused(pipeline, stages)})


def _that_stop(store: Declaration) -> Iterator[Note]:
    """Yields the logs to which nothing can be written while one of their domains is away."""
    seen: set[str] = set()
    for resource in store.resources:
        voters = [item["role"] for item in resource.replicas]
        keeping = voters.count(VOTER)
        needed, copies = ack_sizes(resource.ack, keeping, len(voters) - keeping, resource.min_payload)
        # While a domain that keeps payloads is away, one vote and one copy less are left.
        stops = needed > len(voters) - 1 or copies > keeping - 1
        if len(voters) > 1 and stops and log_of(resource) not in seen:
            seen.add(log_of(resource))
            what = f"log {shown(resource.log)}" if resource.log else title_of(resource)
            yield (
                replicas_line(store, resource),
                f"Nothing can be written to {what} while one of the {keeping} domains that keep its payloads is away; "
                "a further one lets it go on, or a witness together with min_payload = 1.",
            )


def _of_stages(stages: Sequence[Staged], spots: Sequence[Iterable[Spot]]) -> Iterator[Note]:
    for staged, found in zip(stages, spots, strict=True):
        stage, runs = staged.stage, [spot.domain for spot in found if spot.runs]
        if len(runs) == 1:
            yield stage.line, f"Stage {shown(stage.name)} may run in {runs[0]} alone, and waits while that is away."
        logs = {log_of(item) for item in (staged.input, *(use.resource for use in staged.uses())) if item is not None}
        if len(logs) > 1:
            yield (
                stage.line,
                f"Stage {shown(stage.name)} works in the logs {', '.join(sorted(logs))}: what it does is one commit in "
                "each of them, where resources of one log would change together.",
            )


def _unused(pipeline: Pipeline, stages: Sequence[Staged]) -> Iterator[Note]:
    used = {use.resource.name for staged in stages for use in staged.uses()}
    used |= {staged.input.name for staged in stages if staged.input}
    for resource in pipeline.declaration.resources:
        if resource.name not in used:
            yield resource.lines[""], f"No stage uses {title_of(resource)}."
    for edge in pipeline.edges:
        if edge.log is not None:
            yield edge.lines["log"], f"Edge {shown(edge.name)} is in no log; log counts where it is a topic or a queue."
    sources, sinks = ({stage.source for stage in pipeline.stages}, {stage.sink for stage in pipeline.stages})
    for source in pipeline.sources:
        if source.name not in sources:
            yield source.line, f"No stage reads source {shown(source.name)}."
        elif source.id is None:
            yield source.line, f"Source {shown(source.name)} has no id, so a record that comes twice is kept twice."
    for sink in pipeline.sinks:
        if sink.name not in sinks:
            yield sink.line, f"No stage writes sink {shown(sink.name)}."
