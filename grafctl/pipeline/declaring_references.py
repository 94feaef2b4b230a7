"""What the tables of a pipeline say of each other: names that have to be declared, groups, cycles, who feeds whom.

Promises
- Each function notes what is wrong and changes nothing; one that needs a name that is not declared leaves it to the
  note that says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from grafctl.declare.resources import ALL, IDEM, OF_RECORDS, TOPIC, DeclaredResource
from grafctl.declare.table import GUESSES_MAX, Table
from grafctl.names import shown
from grafctl.pipeline.model import INGEST, RESOURCE, DeclaredEdge, DeclaredSink, DeclaredSource, DeclaredStage
from grafctl.pipeline.where import Policy, Use
from grafctl.store.resources.group import AT_MOST_ONCE


class Declared(NamedTuple):
    """Everything by name that a stage may refer to."""

    sources: Mapping[str, DeclaredSource]
    sinks: Mapping[str, DeclaredSink]
    resources: Mapping[str, DeclaredResource]
    edges: Mapping[str, DeclaredEdge]


class Staged(NamedTuple):
    """A stage with its table, and the resources that it touches as far as they are declared."""

    stage: DeclaredStage
    table: Table
    input: DeclaredResource | None
    outputs: tuple[DeclaredResource, ...]
    effects: DeclaredResource | None
    dead_letter: DeclaredResource | None
    taken: DeclaredEdge | None = None  # the edge that it reads
    given: DeclaredEdge | None = None  # the edge that it writes to

    def uses(self) -> Iterator[Use]:
        """Yields what it does besides reading its input."""
        yield from (Use("publish to", output) for output in self.outputs)
        if self.dead_letter:
            yield Use("put dead letters into", self.dead_letter)
        if self.effects:
            yield Use("reserve in", self.effects)


def find(table: Table, place: tuple[str | int, ...], what: str, name: str | None, known: Mapping[str, Any]) -> Any:
    """Returns what is declared under a name, or None with a note that guesses what was meant."""
    if name is None or name in known:
        return known.get(name) if name is not None else None
    from difflib import get_close_matches

    close = get_close_matches(name, known, 1) if len(table.notes) < GUESSES_MAX else []
    guess = f"; did you mean {close[0]}?" if close else ", which this file does not declare."
    table.note(f"{table.title} names the {what} {shown(name)}{guess}", *place)
    return None


def resolve(stage: DeclaredStage, table: Table, declared: Declared) -> Staged:
    """Returns a stage with what it refers to, and notes what is not declared or is of the wrong kind."""
    find(table, ("source",), "source", stage.source, declared.sources)
    sink: DeclaredSink | None = find(table, ("sink",), "sink", stage.sink, declared.sinks)
    records = {name: item for name, item in declared.resources.items() if item.kind in OF_RECORDS}
    stores = {name: item for name, item in declared.resources.items() if item.kind == IDEM}
    key = "output" if "output" in table.body else "outputs"
    linking = {**records, **declared.edges}
    what = "queue, topic or edge" if declared.edges else "queue or topic"
    written = [
        find(table, (key,) if key == "output" else (key, at), what, name, linking)
        for at, name in enumerate(stage.outputs)
    ]
    outputs = [item for item in written if isinstance(item, DeclaredResource)]
    if sink is not None and sink.kind == RESOURCE and sink.resource in records:
        outputs.append(records[sink.resource])
    read = find(table, ("input",), what, stage.input, linking)
    origin = read if isinstance(read, DeclaredResource) else None
    if origin is not None and origin.kind != TOPIC and stage.filter != ALL:
        hint = 'a step {op = "filter", when = "…"} picks records of a queue'
        table.note(f"{table.title} has a filter, which only the subscription of a topic has; {hint}.", "filter")
    return Staged(
        stage,
        table,
        origin,
        tuple(outputs),
        find(table, ("effects",), "idempotency store", stage.effects, stores),
        find(table, ("dead_letter",), "queue or topic", stage.dead_letter, records),
        read if isinstance(read, DeclaredEdge) else None,
        next((item for item in written if isinstance(item, DeclaredEdge)), None),
    )


def check_groups(stages: Iterable[Staged]) -> None:
    """Notes a stage that reads its input with the group of another one, or with one that loses what fails."""
    seen: dict[tuple[str, str], DeclaredStage] = {}
    for staged in stages:
        stage = staged.stage
        if stage.kind == INGEST or stage.input is None or staged.taken is not None:
            continue
        group = staged.input.group(stage.group) if staged.input else None
        if group is not None and group.semantics == AT_MOST_ONCE:
            staged.table.note(
                f"{staged.table.title} reads with an {AT_MOST_ONCE} group, {shown(stage.group)} (line "
                f"{group.lines['']}): a record whose work fails would be lost; take another semantics.",
                *(["group"] if "group" in staged.table.body else ["input"]),
            )
        other = seen.setdefault((stage.input, stage.group), stage)
        if other is not stage:
            staged.table.note(
                f"{staged.table.title} and stage {shown(other.name)} (line {other.line}) read {shown(stage.input)} "
                f"with one group, {shown(stage.group)}, and would take records from each other.",
                *(["group"] if "group" in staged.table.body else ["input"]),
            )


def policy_of(staged: Staged) -> Policy:
    """Returns the placement of a stage: its own, or that of the declared group with which it reads."""
    stage, table = staged.stage, staged.table
    own = Policy(stage.placement, table.key_lines())
    group = staged.input.group(stage.group) if staged.input else None
    declared = Policy(group.placement, group.lines) if group else None
    if declared is None and not table.body.get("allow"):
        table.note(f'{table.title} may run nowhere; write allow = ["DOMAIN"], for example.', "allow")
    if not {"allow", "deny"} & table.body.keys():
        return declared or own
    if declared is not None and declared.placement != stage.placement:
        where = f"group {shown(stage.group)} in line {declared.lines['']}"
        table.note(
            f"{table.title} reads with {where}, which is placed otherwise; leave allow and deny to one.", "allow"
        )
    return own


def check_cycles(stages: list[Staged]) -> None:
    """Notes each circle of stages that feed each other, once, at the first of them in the file."""
    readers: dict[str, list[int]] = {}
    for at, staged in enumerate(stages):
        if read := staged.input or staged.taken:
            readers.setdefault(read.name, []).append(at)
    feeds = [sorted({to for name in _written(staged) for to in readers.get(name, ())}) for staged in stages]
    done: set[int] = set()
    for start in range(len(stages)):
        if start in done:
            continue
        path = _path_back(start, feeds)
        if path:
            done |= set(path)
            names = " -> ".join(stages[at].stage.name for at in [*path, start])
            stages[start].table.note(f"Stages feed each other in a circle: {names}.", _key_of_outputs(stages[start]))


def _written(staged: Staged) -> set[str]:
    return {item.name for item in staged.outputs} | ({staged.given.name} if staged.given else set())


def _path_back(start: int, feeds: list[list[int]]) -> list[int]:
    """Returns the shortest way from a stage back to itself, or nothing where there is none."""
    before: dict[int, int] = {}
    queue = [start]
    for at in queue:
        for to in feeds[at]:
            if to == start:
                path = [at]
                while path[-1] != start:
                    path.append(before[path[-1]])
                return path[::-1]
            if to not in before:
                before[to] = at
                queue.append(to)
    return []


def _key_of_outputs(staged: Staged) -> str:
    return next((key for key in ("output", "outputs", "sink") if key in staged.table.body), "name")
