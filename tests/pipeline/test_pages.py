"""What `docs/pipelines.md` says of files is so: the keys of each table, the bounds, the commands."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from conftest import ROOT
from typer.testing import CliRunner

from grafctl.cli import app
from grafctl.declare.table import Table
from grafctl.pipeline import declaring, declaring_tests
from grafctl.pipeline.transforms.steps import STEPS_MAX
from pipeline.declared import GOOD, parse
from pipeline.linked import EDGES

PAGE = (ROOT / "docs" / "pipelines.md").read_text()
FILES = PAGE.partition("## Files\n")[2].partition("\n## ")[0]
ROWS = dict(re.findall(r"^\| `\[+(\w+)\]+` \| (.*) \|$", FILES, re.MULTILINE))
BELOW = {"step"}  # a table of its own


def test_the_keys_of_each_table_are_those_that_its_reader_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[str, set[str]] = {}
    close = Table.close

    def closing(table: Table) -> None:
        if len(table.place) == (1 if table.place[:1] == ("pipeline",) else 2):
            taken.setdefault(str(table.place[0]), set()).update(table.known)
        close(table)

    monkeypatch.setattr(Table, "close", closing)
    parse(GOOD)
    parse(EDGES)
    assert set(ROWS) == {"pipeline", "source", "stage", "edge", "sink", "test"}
    for name, row in ROWS.items():
        assert set(re.findall(r"`(\w+)`", row)) == taken[name] - BELOW, name


def test_the_commands_do_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    lines = re.findall(r"^grafctl .*$", FILES.partition("```sh\n")[2].partition("```")[0], re.MULTILINE)
    assert len(lines) == 4
    for line in lines:
        ended: Any = CliRunner().invoke(app, shlex.split(line, comments=True)[1:])
        assert ended.exit_code == 0, ended.output


def test_the_bounds_are_those_of_the_code() -> None:
    most = declaring.TABLES_MAX
    assert most == {"source": 200, "sink": 200, "stage": 200, "edge": 200, "test": 1000}
    assert (STEPS_MAX, declaring_tests.RECORDS_MAX) == (200, 1000)
    assert (declaring.DOMAINS_MAX, declaring.FIELDS_MAX) == (100, 5000)
    said = " ".join(FILES.partition("**Bounds.**")[2].split())
    assert said == (
        "A file has at most 1 MiB, 100 domains, 200 sources, sinks, stages and edges each, 200 steps in a stage, 5,000 "
        "fields named in all steps, 1,000 tests, and 1,000 records in one."
    )
