"""What every test may ask for: the real command as a process, a seed, and the stores that failed tests leave behind.

pytest --seed 7            the seed of every test that takes one; a failure prints the seed it had
pytest --dump DIR          keeps what a failed test left in its tmp_path
pytest --hypothesis-profile ci | dev | long
"""

from __future__ import annotations

import gc
import json
import os
import random
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent

# No deadline anywhere: a commit to a slow disk is not a bug. In CI the examples are the same in every run, so a red run
# is about the change; new examples are the work of the other profiles.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
hypothesis.settings.register_profile("dev", deadline=None, print_blob=True)
hypothesis.settings.register_profile("long", parent=hypothesis.settings.get_profile("dev"), max_examples=2000)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="the seed of every test that takes one")
    parser.addoption("--dump", type=Path, metavar="DIR", help="keep there what failed tests left in their tmp_path")


def pytest_collection_finish() -> None:
    """What was imported and collected lives to the end, so the garbage collector need not look through it each time."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # else extension modules tell on their way out that this was left behind


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        given = getattr(item, "funcargs", {})
        if "seed" in given:
            report.sections.append(("seed", f"again with: pytest '{item.nodeid}' --seed {given['seed']}"))
        target = item.config.getoption("--dump")
        if target is not None and "tmp_path" in given:
            report.sections.append(("dump", dump(given["tmp_path"], target, item.nodeid)))
    return report


def dump(source: Path, target: Path, test: str) -> str:
    """Copies a directory to `target` under the name of its test, in place of an older copy; returns what to tell."""
    kept = target.absolute() / re.sub(r"[^\w.-]+", "_", test)
    shutil.rmtree(kept, ignore_errors=True)
    try:
        shutil.copytree(source, kept, symlinks=True)
    except (OSError, shutil.Error) as error:  # a pipe or a socket among the files; the rest was copied
        return f"kept in {kept}, but not all of it: {error}"
    return f"kept in {kept}"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A number for `random.Random`: that of `--seed`, else a new one (in CI, one made of the test's name)."""
    given: int | None = request.config.getoption("--seed")
    if given is not None:
        return given
    if os.environ.get("CI"):
        return zlib.crc32(request.node.nodeid.encode())
    return random.SystemRandom().getrandbits(32)


@dataclass(frozen=True)
class Ended:
    """A process that has ended; `out` and `err` are text, and `code` is negative where a signal ended it."""

    args: tuple[str, ...]
    code: int
    out: str
    err: str

    @cached_property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)

    @cached_property
    def jsonl(self) -> list[Any]:
        """The documents on stdout, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @cached_property
    def error(self) -> Any:
        """The error object, which is the last line of stderr."""
        return json.loads(self.err.splitlines()[-1])

    def __str__(self) -> str:
        said = "".join(
            f"\n--- {name}\n{text.rstrip()}" for name, text in (("out", self.out), ("err", self.err)) if text
        )
        return f"`grafctl {' '.join(self.args)}` ended with {self.code}{said}"


@dataclass(frozen=True)
class Runner:
    """Runs the real command in `cwd`; nothing of the caller's grafctl or terminal settings reaches it."""

    cwd: Path

    def environment(self, store: Path | str | None = None, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Returns the environment of the process: the caller's without what would change the output, then `env`."""
        dropped = ("GRAFCTL_", "CLICOLOR", "_TYPER_", "TYPER_", "RICH_")
        exact = {"NO_COLOR", "FORCE_COLOR", "PY_COLORS", "COLUMNS", "LINES", "TERM", "GITHUB_ACTIONS", "PYTHONPATH"}
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(dropped) and name not in exact
        }
        clean |= {"HOME": str(self.cwd), "TERM": "dumb", "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)}
        if store is not None:
            clean["GRAFCTL_STORE"] = str(store)
        return clean | dict(env or {})

    def start(
        self, *args: object, store: Path | str | None = None, env: Mapping[str, str] | None = None, **popen: Any
    ) -> subprocess.Popen[bytes]:
        """Starts the command and returns the process, with pipes on all three streams; the caller ends it."""
        command = [sys.executable, "-m", "grafctl", *map(str, args)]
        streams: dict[str, Any] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        } | popen
        return subprocess.Popen(command, cwd=self.cwd, env=self.environment(store, env), **streams)

    def __call__(
        self,
        *args: object,
        store: Path | str | None = None,
        check: int | None = 0,
        input: str | bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Ended:
        """Runs the command to its end and asserts its exit code, unless `check` is None."""
        process = self.start(*args, store=store, env=env)
        try:
            out, err = process.communicate(input.encode() if isinstance(input, str) else input, timeout=timeout)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        words = tuple(map(str, args))
        ended = Ended(
            words, process.returncode, out.decode(errors="backslashreplace"), err.decode(errors="backslashreplace")
        )
        assert check is None or ended.code == check, f"expected exit {check}, but {ended}"
        return ended


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    """The `grafctl` command as a process in `tmp_path`: `run("publish", "q", "x", store=…, check=0, input=…).json`."""
    return Runner(tmp_path)
