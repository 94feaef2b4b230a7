"""What feeds what in a declared pipeline, as text, Mermaid or DOT.

Promises
- Pure. Nodes come in the order source, stage, resource, edge, sink, each kind as the file has it; arrows as records go.
- No name, path or command of a file ends a quotation or begins an entity or an escape of the form: ids are numbers
  of ours, and labels are escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from grafctl.declare.resources import ALL, DeclaredResource
from grafctl.errors import Usage
from grafctl.names import shown
from grafctl.pipeline.declaring import Examined
from grafctl.pipeline.model import DeclaredSink, DeclaredSource, DeclaredStage
from grafctl.pipeline.planning import home_of
from grafctl.results import Drawing
from grafctl.store.resources.membership import VOTER

TEXT, MERMAID, DOT = "text", "mermaid", "dot"
LABEL_MAX = 80  # characters of a path or a command that a node shows

SHAPES = {  # of Mermaid and of DOT
    "source": (("([", "])"), "oval"),
    "stage": (("[", "]"), "box"),
    "resource": (("[/", "/]"), "cds"),
    "edge": (("{{", "}}"), "hexagon"),
    "sink": (("[(", ")]"), "cylinder"),
}


class Node(NamedTuple):
    """One thing of the file."""

    shape: str
    kind: str  # as the file has it: source, stage, queue, topic, idem, edge, sink
    name: str
    detail: str
    domains: tuple[str, ...]  # where a stage may run, where replicas of a resource are
    log: str | None = None  # which resources share

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(filter(None, (f"{self.kind} {self.name}", self.detail, ", ".join(self.domains))))


class Edge(NamedTuple):
    """Records, or what is said about them, go from one node to another, both named by number."""

    start: int
    end: int
    label: str


def draw(examined: Examined, form: str = TEXT) -> Drawing:
    """Returns the picture of a pipeline; raises `Usage` for a form that there is not."""
    if form not in FORMS:
        raise Usage(f"{shown(form)} is no form of a graph.", hint=f"Take {', '.join(FORMS)}.")
    nodes = list(_nodes(examined))
    edges = list(_edges(examined, {(node.shape, node.name): at for at, node in enumerate(nodes)}))
    name = examined.pipeline.name
    text = "\n".join(FORMS[form](name, nodes, edges))
    return Drawing(name, form, list(map(_node_json, nodes)), [_edge_json(nodes, edge) for edge in edges], text)


def _nodes(examined: Examined) -> Iterator[Node]:
    pipeline = examined.pipeline
    for source in pipeline.sources:
        yield Node("source", "source", source.name, f"{source.kind} {_short(_of_source(source))}", ())
    for stage in pipeline.stages:
        runs = tuple(spot.domain for spot in examined.spots if spot.stage == stage.name and spot.runs)
        yield Node("stage", "stage", stage.name, ", ".join(filter(None, (stage.kind, _of_stage(stage)))), runs)
    for resource in pipeline.declaration.resources:
        yield Node("resource", resource.kind, resource.name, "", tuple(_replicas(resource)), resource.log)
    for edge in pipeline.edges:
        yield Node(
            "edge", "edge", edge.name, f"{edge.kind}, {edge.slots - 1:,} records", (home_of(examined, edge.name),)
        )
    for sink in pipeline.sinks:
        yield Node("sink", "sink", sink.name, f"{sink.kind} {_short(_of_sink(sink))}", ())


def _of_source(source: DeclaredSource) -> str:
    return " ".join(source.command) if source.command else ", ".join(path.name or str(path) for path in source.paths)


def _of_sink(sink: DeclaredSink) -> str:
    where = sink.path.name if sink.path else sink.resource or f"${sink.variable}"
    return f"{where} {sink.table}" if sink.table else where


def _of_stage(stage: DeclaredStage) -> str:
    if stage.exec:
        return f"exec {_short(' '.join(stage.exec))}"
    if stage.call:
        return f"calls {_short(stage.call)}"
    return f"{len(stage.steps)} step{'s' if len(stage.steps) != 1 else ''}" if stage.steps else ""


def _replicas(resource: DeclaredResource) -> Iterator[str]:
    for item in resource.replicas:
        yield item["domain"] if item["role"] == VOTER else f"{item['domain']} ({item['role']})"


def _short(text: str) -> str:
    return text if len(text) <= LABEL_MAX else text[:LABEL_MAX] + "…"


def _edges(examined: Examined, at: dict[tuple[str, str], int]) -> Iterator[Edge]:
    """Yields the edges; every name is declared, or the file would not have passed."""
    for stage in examined.pipeline.stages:
        own = at["stage", stage.name]
        if stage.source:
            yield Edge(at["source", stage.source], own, "")
        if stage.input:
            label = "" if stage.filter == ALL else _short(stage.filter)
            yield Edge(_link(at, stage.input), own, label)
        yield from (Edge(own, _link(at, name), "") for name in stage.outputs)
        if stage.sink:
            yield Edge(own, at["sink", stage.sink], "")
        if stage.effects:
            yield Edge(own, at["resource", stage.effects], "effects")
        if stage.dead_letter:
            yield Edge(own, at["resource", stage.dead_letter], "dead letters")
    for sink in examined.pipeline.sinks:
        if sink.resource:
            yield Edge(at["sink", sink.name], at["resource", sink.resource], "")


def _link(at: dict[tuple[str, str], int], name: str) -> int:
    return at["resource", name] if ("resource", name) in at else at["edge", name]


def _text(name: str, nodes: list[Node], edges: list[Edge]) -> Iterator[str]:
    yield f"pipeline {name}"
    for at, node in enumerate(nodes):
        head, *rest = node.lines
        rest += [f"log {node.log}"] if node.log else []
        yield f"{head} ({'; '.join(rest)})" if rest else head
        for edge in edges:
            if edge.start == at:
                end = nodes[edge.end]
                label = f" ({edge.label})" if edge.label else ""
                yield f"  -> {end.kind} {end.name}{label}"


def _mermaid(name: str, nodes: list[Node], edges: list[Edge]) -> Iterator[str]:
    yield "flowchart LR"
    yield f"  %% pipeline {name}"
    for log, inside in _by_log(nodes):
        indent = "  "
        if log is not None:
            yield f'  subgraph {_id_of_log(inside)}["{_in_mermaid(f"log {log}")}"]'
            indent = "    "
        for at in inside:
            (begin, end), _ = SHAPES[nodes[at].shape]
            yield f'{indent}n{at}{begin}"{"<br/>".join(map(_in_mermaid, nodes[at].lines))}"{end}'
        if log is not None:
            yield "  end"
    for edge in edges:
        label = f'|"{_in_mermaid(edge.label)}"|' if edge.label else ""
        yield f"  n{edge.start} -->{label} n{edge.end}"


def _dot(name: str, nodes: list[Node], edges: list[Edge]) -> Iterator[str]:
    yield f'digraph "{_in_dot(name)}" {{'
    yield "  rankdir=LR;"
    for log, inside in _by_log(nodes):
        indent = "  "
        if log is not None:
            yield f'  subgraph "cluster_{_id_of_log(inside)}" {{'
            yield f'    label="{_in_dot(f"log {log}")}";'
            indent = "    "
        for at in inside:
            label = "\\n".join(map(_in_dot, nodes[at].lines))
            yield f'{indent}n{at} [shape={SHAPES[nodes[at].shape][1]}, label="{label}"];'
        if log is not None:
            yield "  }"
    for edge in edges:
        label = f' [label="{_in_dot(edge.label)}"]' if edge.label else ""
        yield f"  n{edge.start} -> n{edge.end}{label};"
    yield "}"


FORMS = {TEXT: _text, MERMAID: _mermaid, DOT: _dot}


def _by_log(nodes: list[Node]) -> Iterable[tuple[str | None, list[int]]]:
    """Returns the numbers of the nodes, those of one log together."""
    found: dict[str | None, list[int]] = {None: []}
    for at, node in enumerate(nodes):
        found.setdefault(node.log, []).append(at)
    return found.items()


def _id_of_log(inside: list[int]) -> str:
    return f"log{inside[0]}"


def _in_mermaid(text: str) -> str:
    """Returns a text inside quotes of Mermaid, where `#` begins an entity and markup is drawn."""
    return "".join(letter if letter.isalnum() or letter in " ._-/:,;()$…" else f"#{ord(letter)};" for letter in text)


def _in_dot(text: str) -> str:
    """Returns a text inside quotes of DOT, where a backslash begins an escape."""
    plain = (letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
    return "".join(plain).replace("\\", "\\\\").replace('"', '\\"')


def _node_json(node: Node) -> dict[str, Any]:
    body: dict[str, Any] = {"kind": node.kind, "name": node.name, "detail": node.detail or None}
    body |= {"domains": list(node.domains) or None, "log": node.log}
    return {key: value for key, value in body.items() if value is not None}


def _edge_json(nodes: list[Node], edge: Edge) -> dict[str, Any]:
    ends = {key: f"{nodes[at].kind} {nodes[at].name}" for key, at in (("from", edge.start), ("to", edge.end))}
    return ends | ({"label": edge.label} if edge.label else {})
