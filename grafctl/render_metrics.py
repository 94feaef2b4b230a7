"""The state of edges as a Prometheus text file, which the textfile collector of a node exporter reads.

Promises
- The text is in the Prometheus text exposition format: HELP and TYPE before the samples of a metric, labels escaped.
- A file is whole before it has its name, and takes the place of the one before at once; nobody reads half of it.
- Only a regular file is ever replaced.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from grafctl.errors import Usage
from grafctl.names import shown
from grafctl.results import Listed
from grafctl.store.segment_rules import STATES
from grafctl.table_output import new_file


class Metric(NamedTuple):
    """A metric and its samples: the labels beside a value."""

    name: str
    kind: str  # counter or gauge
    help: str
    samples: list[tuple[Mapping[str, str], float]]


# Field of `counts` -> name, help and labels of its metric.
COUNTERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "pushed": ("grafctl_edge_records_pushed_total", "Records pushed to the edge.", {}),
    "popped": ("grafctl_edge_records_popped_total", "Records taken out of the edge.", {}),
    "writer_restarts": ("grafctl_edge_restarts_total", "How often an end was opened again.", {"end": "writer"}),
    "reader_restarts": ("grafctl_edge_restarts_total", "How often an end was opened again.", {"end": "reader"}),
    "relocations": ("grafctl_edge_relocations_total", "New segments that the writer gave the edge after a loss.", {}),
    "rebinds": ("grafctl_edge_rebinds_total", "How often the reader followed the edge to a newer generation.", {}),
    "generation_changes": ("grafctl_edge_generation_changes_total", "How often an end found a newer generation.", {}),
}


def metrics_of(edges: Iterable[Mapping[str, Any]]) -> list[Metric]:
    """Returns the metrics of what `edge status` shows."""
    found: dict[str, Metric] = {}

    def add(name: str, kind: str, help: str, labels: Mapping[str, str], value: float) -> None:
        found.setdefault(name, Metric(name, kind, help, [])).samples.append((labels, value))

    for edge in edges:
        own = {"edge": str(edge["edge"]), "domain": str(edge["domain"])}
        for field, (name, help, labels) in COUNTERS.items():
            add(name, "counter", help, own | labels, edge["counts"][field])
        dip_s = edge["counts"]["longest_dip_ms"] / 1000
        add("grafctl_edge_longest_dip_seconds", "gauge", "Longest time without a record over a failover.", own, dip_s)
        add("grafctl_edge_generation", "gauge", "Generation of the segment.", own, edge["generation"])
        add("grafctl_edge_capacity_records", "gauge", "Records that fit on the edge.", own, edge["capacity"])
        if "used" in edge:
            add("grafctl_edge_used_records", "gauge", "Records on the edge.", own, edge["used"])
        for state in STATES:
            name, help = "grafctl_edge_state", "1 for the state of the edge's lease, 0 for the others."
            add(name, "gauge", help, own | {"state": state}, int(edge["state"] == state))
    return list(found.values())


def exposition(metrics: Iterable[Metric]) -> str:
    """Returns metrics as text."""
    return "".join(f"{line}\n" for metric in metrics for line in _lines(metric))


def _lines(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.name} {_escaped(metric.help)}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for labels, value in metric.samples:
        inside = ",".join(f'{name}="{_escaped(text, quote=True)}"' for name, text in labels.items())
        yield f"{metric.name}{{{inside}}} {value}"


def _escaped(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text


def check_file(name: str) -> str:
    """Returns the name of a file that may be replaced; raises `Usage`."""
    if name == "-":
        raise Usage(
            "--prometheus takes a file.", hint="A collector reads files, such as edges.prom; -o jsonl is for stdout."
        )
    try:
        mode = os.lstat(name).st_mode
    except ValueError:
        raise Usage(f"{shown(name)} is not a path.") from None
    except OSError:
        mode = stat.S_IFREG  # absent, or whoever writes it finds out
    if not name or name.endswith("/") or Path(name).name in ("", "..") or not stat.S_ISREG(mode):
        raise Usage(f"{shown(name)} is no regular file.", hint="Name a file that may be replaced, such as edges.prom.")
    return name


def writing(name: str | None, look: Callable[[], Listed]) -> Callable[[], Listed]:
    """Returns what looks, and writes what it found to a file where one is named; that is checked before."""
    if name is None:
        return look
    check_file(name)

    def looked() -> Listed:
        listed = look()
        write(name, listed.items)
        return listed

    return looked


def write(name: str, edges: Iterable[Mapping[str, Any]]) -> None:
    """Writes the metrics of edges to a file, in the place of what was there."""
    with new_file(check_file(name)) as to:
        to(exposition(metrics_of(edges)).encode())
