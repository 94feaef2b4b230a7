"""An external command that says whether a consumer is well: its exit code, its last line, and an end in any case."""

from __future__ import annotations

import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from grafctl.errors import Usage
from grafctl.store.operations.switching.health_command import LINE_CHARACTERS_MAX, ask


def is_alive(pid: str) -> bool:
    """Returns whether a process is there that is not dead and only waits to be buried by whoever inherits it."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def program(text: str) -> str:
    return shlex.join([sys.executable, "-c", text])


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("", (0, "")),
        ("print('a'); print('all is well'); print()", (0, "all is well")),
        ("import sys; sys.exit('the queue is long')", (1, "the queue is long")),
        ("import sys; print('p99: 4 s', flush=True); sys.exit(7)", (7, "p99: 4 s")),
        ("import os; print(os.environ['GRAFCTL_SWITCH'], os.read(0, 9))", (0, "billing b''")),
        ("print('x' * 100_000)", (0, "x" * (LINE_CHARACTERS_MAX - 1) + "…")),
        ("import os; os.write(1, b'\\xff\\x1b[31mred')", (0, "\N{REPLACEMENT CHARACTER} [31mred")),
        ("import os; os.kill(os.getpid(), 9)", (-9, "")),
    ],
)
def test_it_says_what_it_says(text: str, verdict: tuple[int, str]) -> None:
    assert ask(program(text), "billing") == verdict


def test_one_that_does_not_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    child = (
        f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); print('begun', flush=True); time.sleep(60)"
    )
    text = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert ask(program(text), "billing", timeout_s=3.0) == (None, "begun")
    while is_alive(pid.read_text()):  # it was killed, and may take a moment to die; one that was not sleeps for long
        time.sleep(0.01)


def test_one_that_prints_for_ever_takes_no_more_memory_and_ends() -> None:
    assert ask("yes well", "billing", timeout_s=0.3) == (None, "well")


@pytest.mark.parametrize("command", ["no-such-program-here --now", "'", "", " ", "/", "./no/such"])
def test_one_that_cannot_be_started_says_nothing_about_the_consumer(command: str) -> None:
    with pytest.raises(Usage, match="health command"):
        ask(command, "billing")
