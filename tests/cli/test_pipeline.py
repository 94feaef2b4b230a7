"""`pipeline …` as a process: problems one a line, answers as documents, and nothing changed by looking."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT, Runner
from pipeline.declared import GOOD, marked, spoilt

EXAMPLE = ROOT / "examples" / "pipeline.toml"
LOOKING = ("validate", "test", "plan", "graph")


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
@pytest.mark.parametrize(
    "name", ["", "absent.toml", ".", "a\nb", "x" * 5000], ids=["empty", "absent", "folder", "lines", "huge"]
)
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


def test_a_plan_against_a_store_says_what_apply_would_make(run: Runner) -> None:
    actions = run("pipeline", "plan", EXAMPLE, "-s", "store", "--json").json["to_apply"]
    assert "create the environment of aws/us-east-1" in actions and "create the group clean of raw-orders" in actions
    assert not (run.cwd / "store").exists()


def test_a_live_check_finds_what_the_store_lacks(run: Runner) -> None:
    run("pipeline", "validate", EXAMPLE, "--live", check=2)
    run("pipeline", "validate", EXAMPLE, "--live", store="store", check=10)
    run("init", "store", "--domain", "aws/us-east-1", "--domain", "gcp/us-central1")
    found = run("pipeline", "validate", EXAMPLE, "--live", "--json", store="store").json["findings"]
    assert {"domain azure/eastus is missing.", "topic clean-orders is missing."} <= {item["problem"] for item in found}
    assert {item["remedy"] for item in found} == {f"grafctl apply {EXAMPLE}"}
    ended = run("pipeline", "validate", EXAMPLE, "--live", "--exit-code", store="store", check=3)
    assert "queue raw-orders is missing." in ended.out


def test_a_graph_is_printed_as_it_is(run: Runner) -> None:
    assert run("pipeline", "graph", EXAMPLE, "--format", "dot").out.startswith('digraph "orders" {\n  rankdir=LR;\n')
    assert run("pipeline", "graph", EXAMPLE).out.startswith("pipeline orders\nsource shop")
    run("pipeline", "graph", EXAMPLE, "--format", "svg", check=2)


def test_cases_that_pass_and_one_that_fails(run: Runner) -> None:
    said = run("pipeline", "test", EXAMPLE, "--json").json
    assert (said["passed"], said["failed"]) == (3, 0) and all(case["passed"] for case in said["cases"])
    assert [case["test"] for case in run("pipeline", "test", EXAMPLE, "--test", "cents", "--json").json["cases"]] == [
        "cents"
    ]
    file = written(run, EXAMPLE.read_text().replace("total = 1230", "total = 1231"))
    ended = run("pipeline", "test", file, check=3)
    line = file.read_text().split("[[test]]")[0].count("\n") + 1
    assert f"FAILED  cents (clean), {file}:{line}\n" in ended.out and "passed  half-a-cent" in ended.out
    assert '-     "total": 1231' in ended.out and '+     "total": 1230' in ended.out
    assert ended.err.startswith("error: 1 of 3 test cases failed.")
    error = run("pipeline", "test", file, "--json", check=3).error
    assert (error["code"], error["count"]) == ("mismatch", 1)


def test_a_case_that_there_is_not(run: Runner) -> None:
    assert "Did you mean cents?" in run("pipeline", "test", EXAMPLE, "--test", "cent", check=10).err
    run("pipeline", "test", EXAMPLE, "--test", "", check=2)


def test_a_file_without_cases(run: Runner) -> None:
    assert run("pipeline", "test", written(run, GOOD[: GOOD.index("[[test]]")])).out == "There are no test cases.\n"
