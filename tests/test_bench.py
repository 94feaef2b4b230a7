"""The measurements, at tiny sizes: each measures what it says; what they find depends on the machine."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import ROOT

from bench import peers, plot, postgres
from bench.__main__ import KNOWN, main
from bench.report import BEGIN, DOCS, END, put_in_docs
from bench.rows import Row, Target, markdown, table, unmeasured
from bench.svg import Axis

# Measurement -> how little of it is enough here, and how many of its rows have a target.
TINY: dict[str, tuple[dict[str, Any], int]] = {
    "single": ({"ROUNDS": 2, "PUBLISHES": 2}, 1),
    "publishers": ({"ROUNDS": 1, "SECONDS": 0.05, "THREADS": 4, "PROCESSES": 2}, 2),
    "batched": ({"ROUNDS": 1, "BATCHES": 3, "RECORDS": 20}, 1),
    "ids": ({"MANY": 3000, "ROUNDS": 1, "BATCHES": 2, "RECORDS": 20}, 3),
    "peers": ({"IDS": 100, "ROUNDS": 1, "SINGLES": 2, "BATCHES": 2, "RECORDS": 20}, 6),
    "polling": ({"ROUNDS": 1, "BATCHES": 2, "RECORDS": 20}, 1),
    "pipes": ({"LINES": 2000, "ROUNDS": 1}, 2),
    "catching_up": ({"BYTES": 2 << 20, "ROUNDS": 2}, 1),
    "startup": ({"ROUNDS": 1, "RESOURCES": 3}, 3),
    "flatness": ({"MANY": 3000, "ROUNDS": 1}, 6),
    "disk": ({"RECORDS": 5000, "SINGLES": 20, "SCALE": "0.001"}, 2),
    "flushes": ({"FEW": 2, "MANY": 6}, 0),
    "where": ({"PUBLISHES": 3, "POLLS": 2, "RECORDS": 20, "THREADS": 3, "EACH": 2}, 0),
    "preallocation": ({"COMMITS": 3}, 0),
    "tables": ({"ROWS": 500, "BATCH": 50, "ROUNDS": 1, "PUTS": 2, "GETS": 5}, 3),
    "edges": ({"ROUNDS": 1, "RECORDS": 20, "BATCH": 10}, 2),
    "switching": ({"ROUNDS": 1, "RECORDS": 200, "GETS": 3, "BATCH": 100}, 0),
    "transforms": ({"ROUNDS": 1, "FILTERS": 10, "RECORDS": 10, "ASKED": 5}, 0),
    "pipeline": ({"SCALE": 0.001, "ROUNDS": 1}, 2),
    "pipeline_memory": ({"FEW": 0.001, "MANY": 0.002, "TIMES": 2}, 4),
    "chains": ({"SCALE": 0.001, "ROUNDS": 1}, 0),
    "migration": ({"MIB": 1024, "TIMES": (1, 1, 1, 1), "COPIES": 1, "ALONE": 3, "QUIET_S": 0.2}, 13),
}


def test_every_measurement_is_tried_here() -> None:
    assert set(TINY) == set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_it_measures_what_it_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module(f"bench.{name}")
    sizes, with_target = TINY[name]
    for constant, value in sizes.items():
        monkeypatch.setattr(module, constant, value)
    rows = module.run()
    assert module.NAME.startswith(f"{name}: ")
    assert len([row for row in rows if row.target]) == with_target
    for row in rows:
        # A difference of a few milliseconds may be less than nothing, and few records may need no more of the disk.
        assert row.value is None or row.value > 0 or row.unit == "ms" or not row.target, row
        assert row.against or not row.target or row.unit == "MB", f"{row.what} does not say what it is compared with"
        assert row.note or row.value is not None, f"{row.what} does not say why it was not measured"

        if row.target:
            assert any(
                line.startswith(f"| {row.what} | {row.against} |")
                and f"| {row.target} {row.unit} |" in line
                and line.endswith(f"| `python -m bench {name}` |")
                for line in DOCS.read_text().splitlines()
            ), f"{DOCS.name} has no such row: {row}; `python -m bench --docs` makes them"


def test_a_peer_that_is_not_installed_leaves_its_rows_unmeasured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for constant, value in TINY["peers"][0].items():
        monkeypatch.setattr(peers, constant, value)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgres, "DEBIAN", tmp_path)
    rows = peers.run()
    aimed = [row for row in rows if row.target]
    assert [row.verdict() for row in aimed] == ["unmeasured"] * 6
    assert {row.note for row in aimed} == {"initdb is not installed", "redis-server is not installed"}
    assert all(row.value for row in rows if not row.target), "ours are measured all the same"


def test_the_page_has_no_row_that_nothing_prints() -> None:
    lines = [line for line in DOCS.read_text().splitlines() if "`python -m bench " in line and line.startswith("|")]
    assert len(lines) == sum(with_target for _, with_target in TINY.values())


def test_the_rows_go_between_the_marks_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    row = Row("fast", 0.75, "x", Target(">=", 0.7), "the disk")
    order = ("single", "disk")
    put_in_docs([("disk", row)], order, page)
    put_in_docs([("single", row._replace(what="slow"))], order, page)  # leaves the other one
    put_in_docs([("disk", row._replace(value=0.8))], order, page)  # and takes its own place
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n") and text.endswith(f"{END}\nafter\n")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert [line.split(" | ")[:3] for line in rows] == [
        ["| slow", "the disk", "0.750 x"],
        ["| fast", "the disk", "0.800 x"],
    ]
    assert "Machine: " in text and "old" not in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="marks"):
        put_in_docs([], order, page)


def test_the_pictures_show_every_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for constant, value in {"STORED": (10, 2000), "BATCHES": 1, "RECORDS": 5, "SIZES": (1, 20), "ROUNDS": 1}.items():
        monkeypatch.setattr(plot, constant, value)
    monkeypatch.setattr(plot, "AT_ONCE", 20)
    plot.run(tmp_path)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["publish-by-batch.svg", "publish-by-stored.svg"]
    page = DOCS.read_text()
    for name in names:
        picture = ElementTree.parse(tmp_path / name).getroot()
        texts = [item.text for item in picture.iter("{http://www.w3.org/2000/svg}text")]
        assert {"with ids", "without ids", plot.COST} <= set(texts)
        circles = list(picture.iter("{http://www.w3.org/2000/svg}circle"))
        assert len(circles) == 2 + 1, "two points and the one of the legend"
        assert f"]({name})" in page and (DOCS.parent / name).is_file()


def test_an_axis_is_logarithmic_and_has_ticks_at_both_ends() -> None:
    axis = Axis(1, 10_000, 0.0, 100.0)
    assert [axis.place(value) for value in (1, 100, 10_000)] == [0.0, 50.0, 100.0]
    assert axis.ticks() == [1, 10, 100, 1000, 10_000]
    assert Axis(20, 500, 0.0, 1.0).ticks() == [20, 50, 100, 200, 500]


def test_a_row_says_whether_its_target_is_met() -> None:
    fast = Row("fast", 0.75, "x", Target(">=", 0.7), "the disk", "9 rounds")
    slow = Row("slow", 61.0, "ms", Target("<=", 60.0))
    lines = list(table([fast, slow, unmeasured(slow, "no disk")]))
    assert lines[0].split()[-3:] == [">=", "0.7", "met"]
    assert lines[1].strip() == "against the disk; 9 rounds"
    assert lines[2].split()[-3:] == ["<=", "60", "missed"]
    assert (lines[3].split()[-1], lines[4].strip()) == ("unmeasured", "no disk")


def test_the_table_for_the_page_names_the_command_of_each_row() -> None:
    row = Row("fast", 0.75, "x", Target(">=", 0.7), "the disk", "9 rounds")
    lines = list(markdown([("disk", row), ("disk", Row("raw", 1.0, "us"))]))
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2:] == ["| fast | the disk | 0.750 x | >= 0.7 x | met | 9 rounds | `python -m bench disk` |"]


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_the_module_runs_as_a_program() -> None:
    ended = subprocess.run([sys.executable, "-m", "bench", "nonsense"], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2 and "nonsense" in ended.stderr
