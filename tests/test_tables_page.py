"""The page about tables says what the program does: its vectors, states and limits, and its runbook word for word."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, Runner
from test_readme import blocks, script

from grafctl.commands.tree import GROUPS
from grafctl.errors import ERRORS
from grafctl.nouns.vshards import PATIENCE_MS
from grafctl.store.moving_rules import STATES, THROTTLES_MAX, Limits
from grafctl.store.vshards import VSHARDS, vshard_of

PAGE = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")


def rows_of(title: str) -> list[list[str]]:
    """Returns the cells of the table below a title."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_vectors_are_those_of_the_hash() -> None:
    vectors = rows_of("What a vshard is")
    assert len(vectors) == 5
    for name, found, *places in vectors:
        key = bytes.fromhex(found.strip("`"))
        assert name == "not text" or name == f"`{key.decode()}`"
        assert [int(place) for place in places] == [vshard_of(key, count) for count in (8, 1024, 65_536)]


def test_the_states_and_verbs_are_all_there_are() -> None:
    states = rows_of("The states")
    assert [row[0].strip("`") for row in states] == list(STATES)
    verbs = set(GROUPS["vshard"][1].split())
    assert {verb for row in states for verb in re.findall(r"`(\w+)`", row[2])} - {"idle"} <= verbs


def test_the_limits_are_the_usual_ones() -> None:
    limits, page = Limits(), " ".join(PAGE.split())
    assert f"`--write-pause-budget` ({limits.budget_us // 1000} ms)" in page
    assert f"`--lock-wait` ({limits.lock_wait_us // 1000} ms)" in page
    assert f"`--max-lag` records ({limits.max_lag})" in page
    assert f"`--patience` ({PATIENCE_MS // 1000} s)" in page and f"{VSHARDS:,} unless" in page
    assert THROTTLES_MAX == 3 and "three times at most" in page


def test_the_exit_codes_are_real_ones() -> None:
    codes = [code for row in rows_of("What each exit code asks for") for code in re.findall(r"\d+", row[0])]
    assert codes == sorted(codes, key=int)
    assert {int(code) for code in codes} <= {error.exit_code for error in ERRORS} | {12, 130, 143}


@pytest.mark.parametrize("times", [2])
def test_the_runbook_runs_and_runs_again(tmp_path: Path, times: int) -> None:
    (typed,) = blocks(PAGE, "sh")
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    for _ in range(times):
        ended = subprocess.run(
            ["bash", "-c", script([typed])], cwd=tmp_path, capture_output=True, text=True, env=environment
        )
        assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
        assert "vshard 7 of accounts is in aws, gcp now" in ended.stdout and "No problems found." in ended.stdout
        assert re.search(r"^count: +3$", ended.stdout, re.MULTILINE)
    rows = Runner(tmp_path)("table", "scan", "accounts", "-d", "aws", "-o", "jsonl", store="store").jsonl
    assert {row["key"]: row["value"] for row in rows} == {"alice": "90", "bob": "20", "carol": "0"}
