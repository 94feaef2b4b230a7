"""The page for the bad day does what it says: its commands are typed in order, with the exit codes that it names."""

from __future__ import annotations

import subprocess
from pathlib import Path

from conftest import ROOT
from test_readme import blocks, script

PAGE = (ROOT / "docs" / "bad-day.md").read_text()


def test_the_commands_of_the_page_end_as_it_says(tmp_path: Path) -> None:
    typed = blocks(PAGE, "sh")
    assert len(typed) == 3
    ended = subprocess.run(
        ["bash", "-c", script(typed)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 0, ended.stderr
    assert "! gcp" in ended.stdout and ended.stdout.count("No problems found.") == 2
    assert not [path for path in (tmp_path / "store" / "domains").iterdir() if "gcp.fenced" in path.name]
