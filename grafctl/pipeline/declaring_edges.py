"""`[[edge]]`: the table itself, and what the stages at its two ends have to be.

An edge stands where a queue or a topic between two stages could stand, and takes the keys that those have in common
(`log`, `allow`, `deny`), so that one word makes the one of the other.

Promises
- An edge that passes here has one stage that writes to it and one that reads it, both in one and the same domain, and
  what was in it can be made again: the first stage of its chain reads what can be read again.
- What is wrong is a note with its line, whatever the table holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from grafctl.declare.resources import DeclaredLog, DeclaredResource
from grafctl.declare.table import Table
from grafctl.edges.ring_bytes import layout_of
from grafctl.errors import Usage
from grafctl.names import check_name, shown
from grafctl.pipeline.declaring_references import Declared, Staged
from grafctl.pipeline.model import EXEC, INGEST, STANDARD_INPUT, DeclaredEdge
from grafctl.pipeline.where import Policy, Spot
from grafctl.store.authority import Placement
from grafctl.store.segment_rules import MEMORY, check_bytes, check_kind, check_term
from grafctl.units import duration_ms, size_bytes

SLOTS, BYTES, TERM_MS = 1024, 4 << 20, 30_000  # 1,023 records of up to 4 kB
NAMES_MAX = 200  # characters of pipeline and stage together: a file is called after both


class Tabled(NamedTuple):
    """An edge with its table."""

    edge: DeclaredEdge
    table: Table


def read_edge(
    table: Table, logs: Mapping[str, DeclaredLog], domains: Sequence[str], resources: Mapping[str, DeclaredResource]
) -> Tabled:
    """Returns what an `[[edge]]` says."""
    name = table.require("name", partial(check_name, "edge"))
    if name in resources:
        table.note(f"There is a {resources[name].kind} of this name, and a stage could mean either.", "name")
    kind = table.take("kind", "text", check_kind, MEMORY)
    slots = table.take("slots", "a whole number", _slots, SLOTS, int)
    size = table.take("bytes", "a size, such as 4MiB", _bytes, BYTES, str, int)
    term_ms = table.take("term", "text, such as 30s", lambda text: check_term(duration_ms(text)), TERM_MS)
    try:
        layout_of(kind, slots, size, 1, bytes(8))
    except Usage as error:
        table.note(f"{error.message} {error.hint or ''}".rstrip(), "slots" if "slots" in table.body else "bytes")
    log = table.take("log", "text, the name of a [[log]]", partial(check_name, "log"))
    if log is not None and log not in logs:
        table.note(f"{table.title} names the log {shown(log)}, which no [[log]] declares.", "log")
    placement = table.placement()
    if "allow" not in table.body:
        placement = Placement(("**",), placement.deny)
    if domains and not any(placement.decide(domain)[0] for domain in domains):
        table.note(f"{table.title} may be in no declared domain: allow covers none, or deny covers all.", "allow")
    table.close()
    return Tabled(DeclaredEdge(name, kind, slots, size, term_ms, placement, log, table.key_lines()), table)


def _slots(number: int) -> int:
    layout_of(MEMORY, number, 1 << 36, 1, bytes(8))
    return number


def _bytes(size: str | int) -> int:
    return check_bytes(size_bytes(str(size)))


def check_edges(pipeline: str, edges: Sequence[Tabled], stages: Sequence[Staged], declared: Declared) -> None:
    """Notes edges that have not one stage at each end, and stages that cannot stand at an end."""
    for edge, table in edges:
        writers = [staged for staged in stages if edge.name and edge.name in staged.stage.outputs]
        readers = [staged for staged in stages if edge.name and edge.name == staged.stage.input]
        for found, does, key in ((writers, "writes to", "output"), (readers, "reads", "input")):
            if not found:
                table.note(f"No stage {does} {table.title}, and an edge goes from one stage to one other.")
            for staged in found[1:]:
                first = found[0].stage
                staged.table.note(
                    f"{staged.table.title} and stage {shown(first.name)} (line {first.line}): one stage {does} "
                    f"{table.title}, and not two; take a queue or a topic.",
                    key if key in staged.table.body else f"{key}s",
                )
    for staged in stages:
        _check_stage(staged, declared)
        length = len(pipeline) + len(staged.stage.name)
        if (staged.taken or staged.given) and length > NAMES_MAX:
            staged.table.note(
                f"The names of the pipeline and of {staged.table.title} have {length} characters together; beside an "
                f"edge at most {NAMES_MAX} are allowed.",
                "name",
            )


def _check_stage(staged: Staged, declared: Declared) -> None:
    """Notes what a stage at the end of an edge cannot have."""
    stage, table = staged.stage, staged.table
    one = staged.taken or staged.given
    if one is None:
        return
    if staged.given and len(stage.outputs) > 1:
        table.note(f"{table.title} writes to edge {shown(staged.given.name)}, and so to nothing else.", "outputs")
    if stage.effects is not None:
        hint = "what it does is no one commit with what it reads; the effect key of the sink is what removes doubles"
        table.note(f"{table.title} has effects beside edge {shown(one.name)}; {hint}.", "effects")
    if staged.taken:
        for key in ("group", "filter"):
            if key in table.body:
                table.note(f"{table.title} has {key}, which means nothing to a stage that reads an edge.", key)
    source = declared.sources.get(stage.source or "")
    if stage.kind == INGEST and source is not None and (source.kind == EXEC or STANDARD_INPUT in source.paths):
        what = "a program" if source.kind == EXEC else "standard input"
        table.note(
            f"{table.title} reads {what} and writes to edge {shown(one.name)}: what is lost there is read again, and "
            "that cannot be; take files, or a queue or a topic behind it.",
            "source",
        )


def check_domains(
    stages: Sequence[Staged],
    policies: Sequence[Policy],
    spots: Sequence[Sequence[Spot]],
    edges: Sequence[Tabled],
    domains: Sequence[str],
) -> None:
    """Notes stages of one edge that may run in several domains, or in different ones, or where it may not be."""
    lines = [policy.lines.get("allow", policy.lines[""]) for policy in policies]
    homes = [[spot.domain for spot in found if spot.allowed] for found in spots]
    for edge, table in edges:
        ends = [at for at, staged in enumerate(stages) if edge in (staged.given, staged.taken)]
        for at in ends:
            if len(homes[at]) > 1:
                stages[at].table.notes.append(
                    (
                        lines[at],
                        f"{stages[at].table.title} may run in {', '.join(homes[at])}, and edge {shown(edge.name)} "
                        "is in one domain; leave one in allow, or take a queue or a topic.",
                    )
                )
        named = [at for at in ends if len(homes[at]) == 1]
        if len(named) == 2 and homes[named[0]] != homes[named[1]]:
            one, other = named
            stages[other].table.notes.append(
                (
                    lines[other],
                    f"{stages[other].table.title} runs in {homes[other][0]} and stage "
                    f"{shown(stages[one].stage.name)} (line {lines[one]}) in {homes[one][0]}, and edge "
                    f"{shown(edge.name)} between them is in one domain; take a queue or a topic.",
                )
            )
        elif named and any(edge.placement.decide(domain)[0] for domain in domains):
            allowed, rule = edge.placement.decide(homes[named[0]][0])
            if not allowed:
                key = "deny" if rule.startswith("deny") else "allow"
                table.note(f"{table.title} may not be in {homes[named[0]][0]}, where its stages run ({rule}).", key)
