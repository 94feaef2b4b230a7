"""The measurements: their table, and that each can be asked for by name; what they find depends on the machine."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from conftest import ROOT

from bench import publishing
from bench.__main__ import MEASUREMENTS, main
from bench.rows import Row, Target, table


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_each_measurement_has_a_name_and_a_run(name: str) -> None:
    module = import_module(f"bench.{name}")
    assert module.NAME and callable(module.run)


def test_a_row_says_whether_its_target_is_met() -> None:
    lines = list(table([Row("fast", 0.75, "x", Target(">=", 0.7)), Row("slow", 61.0, "ms", Target("<=", 60.0))]))
    assert lines[0].split()[-3:] == [">=", "0.7", "met"]
    assert lines[1].split()[-3:] == ["<=", "60", "missed"]


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_publishing_measures_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, few in (("SINGLE_ROUNDS", 2), ("SINGLES", 2), ("LINES", 2000), ("LINE_ROUNDS", 1)):
        monkeypatch.setattr(publishing, name, few)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    rows = {row.what: row for row in publishing.run()}
    assert all(row.value > 0 for row in rows.values())
    assert sum(row.target is not None for row in rows.values()) == 2


def test_the_module_runs_as_a_program() -> None:
    ended = subprocess.run([sys.executable, "-m", "bench", "nonsense"], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2 and "nonsense" in ended.stderr
