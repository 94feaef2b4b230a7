"""The page about switchover says what the program does: its commands print what stands below them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, Runner
from test_readme import blocks, script

from grafctl.declare import switchover
from grafctl.errors import InvalidConfig
from grafctl.store.operations.switching.turning import CARRY_MS
from grafctl.store.switch_rules import OWED_MAX, STATES
from grafctl.store.wave_rules import STANDINGS

PAGE = (ROOT / "docs" / "switchover.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`\[+\w+\]+`|both) \| (.*?) \|", PAGE, re.MULTILINE)


def test_the_plan_of_the_example_is_as_it_is_shown(run: Runner) -> None:
    shown = re.search(r"^\$ grafctl (consumer plan .*?)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert shown is not None
    words = shown[1].replace("examples/", f"{ROOT}/examples/").split()
    assert run(*words).out == shown[2]


@pytest.mark.parametrize("header", ["wave", "consumer"])
def test_the_keys_are_those_that_the_reader_takes(header: str) -> None:
    titles = {"`[wave]`" if header == "wave" else "`[[consumer]]`", "both"}
    keys = {key for title, names in ROWS if title in titles for key in re.findall(r"`(\w+)`", names)}
    text = f"[wave]\n{'qqqqqqqqqq = 1' if header == 'wave' else ''}\n[[consumer]]\n{'qqqqqqqqqq = 1'}\n"
    assert taken(text, "[wave]" if header == "wave" else "[[consumer]]") == keys


def test_the_rules_are_those_that_the_reader_takes() -> None:
    named = re.search(r"The rules are (.*?)\.\n", PAGE, re.DOTALL)
    assert named is not None
    assert taken("[wave.rules]\nqqqqqqqqqq = 1\n", "rules of [wave]") == set(re.findall(r"`(\w+)`", named[1]))


def test_the_standings_are_all_there_are() -> None:
    table = PAGE.split("| standing | means |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(STANDINGS)


def taken(text: str, title: str) -> set[str]:
    """Returns the keys that a table takes, as its reader says them of one that it does not know."""
    with pytest.raises(InvalidConfig) as caught:
        switchover.parse(text.encode(), "wave.toml", ROOT)
    (told,) = [told for _, told in caught.value.problems if told.startswith(f"{title} has no key 'qqq")]
    return set(told.partition("it takes ")[2].rstrip(".").split(", "))


def test_the_states_are_all_there_are() -> None:
    section = PAGE.split("## What a switch is\n")[1].split("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == STATES
    assert f"At most {OWED_MAX:,} records may be owed" in PAGE and f"{CARRY_MS // 1000} s after the drain" in PAGE


def typed_in(folder: Path, place: int) -> str:
    """Runs one of the page's runbooks, and returns what it printed."""
    ended = subprocess.run(
        ["bash", "-c", script([blocks(PAGE, "sh")[place]])],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def test_the_runbook_runs_as_it_stands(tmp_path: Path) -> None:
    out = typed_in(tmp_path, 0)
    given = [line for line in out.splitlines() if "order-" in line and "payload" in line]
    assert [re.findall(r'"resource":"([\w-]+)"', line) for line in given] == [["new-orders"]]
    assert out.count("\torder-1\t") == 1 and "No problems found." in out


def test_the_runbook_of_tables_runs_as_it_stands(tmp_path: Path) -> None:
    out = typed_in(tmp_path, 1)
    assert re.findall(r'"resource":"([\w-]+)"', "".join(line for line in out.splitlines() if '"value"' in line)) == [
        *("old-balances", "new-balances"),
    ]
    assert "No problems found." in out and "missing" in out and "bob" in out
