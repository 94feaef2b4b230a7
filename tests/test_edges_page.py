"""The page about edges says what the program does: its Python runs, and its table is that of the rules."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Runner
from test_readme import blocks

from grafctl.edges import counts
from grafctl.nouns.edge_end import LOOK_S
from grafctl.render_metrics import metrics_of
from grafctl.store.edge_rules import GO, READER, RELOCATE, STEPS, STOP, WAIT, WRITER
from grafctl.store.segment_rules import STATES

PAGE = (ROOT / "docs" / "edges.md").read_text(encoding="utf-8")
WORDS = {
    (WRITER, GO): "goes on",
    (READER, GO): "goes on",
    (WRITER, RELOCATE): "relocates, and refuses (13)",
    (READER, WAIT): "refuses (13), and looks again",
    (WRITER, STOP): "refuses (14), it is over",
    (READER, STOP): "refuses (14), it is over",
}


def table(text: str) -> dict[str, tuple[str, ...]]:
    """Returns the two cells of each state in the table of steps."""
    found = {}
    for line in text.splitlines():
        first, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        for state in STATES:
            if line.startswith("|") and f"`{state}`" in first and len(cells) == 2:
                found[state] = tuple(cells)
    return found


@pytest.mark.parametrize("where", ["docs/edges.md", "grafctl/store/edge_rules.py"])
def test_the_table_of_steps_is_that_of_the_rules(where: str) -> None:
    expected = {state: tuple(WORDS[side, STEPS[side][state]] for side in (WRITER, READER)) for state in STATES}
    assert table((ROOT / where).read_text(encoding="utf-8")) == expected


def test_the_python_runs(run: Runner, tmp_path: Path) -> None:
    run("init", "store", "--domain", "aws", "--domain", "gcp")
    for block in blocks(PAGE, "python"):
        surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", block], cwd=tmp_path, env=surroundings, check=True)


def test_how_soon_is_as_it_is_said() -> None:
    assert f"within {LOOK_S:g} s" in PAGE


def test_every_count_and_metric_is_named() -> None:
    section = PAGE.split("## What is counted")[1]
    shown = counts.shown((counts.Counts(), counts.Counts()), 1, None, None)
    edge = {"edge": "e", "domain": "aws", "state": "held", "generation": 1, "capacity": 3, "used": 0, "counts": shown}
    names = {*shown, *(metric.name for metric in metrics_of([edge]))}
    assert {name for name in re.findall(r"`(\w+)`", section) if "_" in name or name in names} == names
