"""`pipeline …` as a process: problems one a line, answers as documents, and nothing changed by looking."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT, Runner
from pipeline.declared import GOOD, marked, spoilt

EXAMPLE = ROOT / "examples" / "pipeline.toml"
LOOKING = ("validate", "plan", "graph")


def written(run: Runner, text: str) -> Path:
    file = run.cwd / "flow.toml"
    file.write_text(text)
    return file


def test_a_good_file_is_summed_up(run: Runner) -> None:
    found = run("pipeline", "validate", EXAMPLE, "--json").json
    assert (found["pipeline"], found["stages"], found["tests"]) == ("orders", ["take", "clean", "load"], 3)
    assert found["notes"] == []
    said = run("pipeline", "validate", written(run, GOOD))
    assert "aws/a alone" in said.out and not said.err


@pytest.mark.parametrize("command", LOOKING)
def test_problems_are_told_one_a_line_and_as_a_list(run: Runner, command: str) -> None:
    text = spoilt('kind = "jsonl"', 'kind = "json" #!').replace('op = "filter"', 'op = "fitler" #!')
    file = written(run, text)
    ended = run("pipeline", command, file, check=78)
    lines = [line for line in ended.err.splitlines() if line.startswith(f"{file}:")]
    assert [int(line.split(":")[1]) for line in lines] == marked(text) and not ended.out
    assert lines[1].endswith("'fitler' is no operation; did you mean filter?")
    problems = run("pipeline", command, file, "--json", check=78).error["problems"]
    assert [problem["line"] for problem in problems] == marked(text)


@pytest.mark.parametrize("command", LOOKING)
@pytest.mark.parametrize("name", ["", "absent.toml", ".", "a\nb", "x" * 5000])
def test_a_file_that_is_none(run: Runner, command: str, name: str) -> None:
    assert not run("pipeline", command, name, check=2).out


def test_a_plan_names_the_lines_that_decide(run: Runner) -> None:
    rows = run("pipeline", "plan", written(run, GOOD), "--json").json["plan"]
    assert len(rows) == 9 and all(row["line"] for row in rows)
    assert {(row["stage"], row["domain"]) for row in rows if row["runs"]} == {
        *(("take", "aws/a"), ("take", "gcp"), ("tidy", "aws/a"), ("tidy", "gcp"), ("keep", "aws/a")),
    }
    assert {row["by"] for row in rows if not row["runs"]} == {"no allow line covers it"}
    text = GOOD.replace('sink = "rows"\nallow = ["aws"]', 'sink = "rows"\nallow = ["**"]\ndeny = ["gcp", "azure"]')
    (row,) = (
        row
        for row in run("pipeline", "plan", written(run, text), "-d", "gcp", "--json").json["plan"]
        if row["stage"] == "keep"
    )
    assert (row["runs"], row["by"]) == (False, "deny gcp")
    assert text.split("\n")[row["line"] - 1].startswith("deny")


def test_a_plan_of_a_domain_that_the_file_does_not_declare(run: Runner) -> None:
    assert "aws/a, gcp, azure" in run("pipeline", "plan", written(run, GOOD), "-d", "oci", check=10).err
    run("pipeline", "plan", EXAMPLE, "-d", "A W S", check=2)


def test_a_graph_is_printed_as_it_is(run: Runner) -> None:
    assert run("pipeline", "graph", EXAMPLE, "--format", "dot").out.startswith('digraph "orders" {\n  rankdir=LR;\n')
    assert run("pipeline", "graph", EXAMPLE).out.startswith("pipeline orders\nsource shop")
    run("pipeline", "graph", EXAMPLE, "--format", "svg", check=2)
