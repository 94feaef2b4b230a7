"""Applies one mutant to a copy of the tree and runs tests there until one fails.

Promises
- The tree itself is never touched; what a run changes is in a temporary directory of its own.
- A test that does not end is stopped, and counts as one that failed: an error may well make a process wait.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mutants.mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 300.0
NOTHING_RAN = (4, 5)  # what pytest says of a selection that is not there


class Caught(NamedTuple):
    """What came of one mutant; `by` is None where no test failed."""

    mutant: Mutant
    by: str | None
    seconds: float


class Copy:
    """A copy of the tree, in which one mutant after another is tried."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for part in ("grafctl", "tests", "examples", "bench", "docs"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, place / part, symlinks=True, ignore=ignored)
        for file in (*ROOT.glob("*.toml"), *ROOT.glob("*.md"), ROOT / "Makefile"):
            shutil.copy(file, place / file.name)

    def environment(self) -> Mapping[str, str]:
        # Without compiled files: one of the text before may be as long and as old as that of the text now.
        wanted = {"CI": "true", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(self.place)}
        return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | wanted

    def hunt(self, mutant: Mutant) -> Caught:
        """Runs the tests of a mutant until one fails; asserts that they are there."""
        file = self.place / mutant.file
        text = file.read_text(encoding="utf-8")
        assert text.count(mutant.old) == 1, (
            f"{mutant.name}: {mutant.file} holds the old text {text.count(mutant.old)} times"
        )
        file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        began = time.monotonic()
        by = None
        try:
            for selection in mutant.tests:
                by = by or self._run(selection)
        finally:
            file.write_text(text, encoding="utf-8")
        seconds = time.monotonic() - began
        if by is not None and "::" in by and self._run(by) is not None:
            raise RuntimeError(f"{by} fails without a mutant too, so it catches nothing")
        return Caught(mutant, by, seconds)

    def _run(self, selection: str) -> str | None:
        """Returns the test that failed, or None; raises where none could be run."""
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no"]
        command += ["-rfE", selection]
        process = subprocess.Popen(
            command, cwd=self.place, env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, text=True, errors="replace", preexec_fn=_hear_signals,
        )  # fmt: skip
        try:
            out, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # ours: it began a session of its own
            process.communicate()
            return f"{selection} (did not end)"
        if process.returncode == 0:
            return None
        found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", out, re.MULTILINE)
        if process.returncode in NOTHING_RAN or found is None:
            raise RuntimeError(f"{selection} could not be run:\n{out[-2000:]}")
        return found[1]


def _hear_signals() -> None:
    """Lets Ctrl-C through to tests that send it to themselves, also where this run was started in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
