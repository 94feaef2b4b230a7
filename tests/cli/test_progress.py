"""Long work is told on stderr: lines into a pipe, a bar on a terminal, nothing when it is short or quiet."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest
from conftest import Runner

from grafctl import clock
from grafctl.render_progress import Progress


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic time, in the only item of a list."""
    time_s = [100.0]
    monkeypatch.setattr(clock, "monotonic_s", lambda: time_s[0])
    return time_s


def test_short_work_is_silent(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("catch-up") as progress:
        for done in range(100):
            now[0] += 0.009
            progress("copy", done, 100)
    assert capsys.readouterr() == ("", "")


def test_long_work_says_a_line_every_few_seconds(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("catch-up") as progress:
        for done in range(1, 13):
            now[0] += 1.0
            progress("copy", done * 10, 120)
    assert capsys.readouterr() == (
        "",
        "".join(f"catch-up: copy {done} of 120 (10 a second)\n" for done in (10, 60, 110)),
    )


def test_quiet_work_says_nothing_but_its_events(now: list[float], capfd: pytest.CaptureFixture[str]) -> None:
    with Progress("catch-up", quiet=True, events={"resource": "q"}) as progress:
        for phase in ("copy", "copy", "verify"):
            now[0] += 10
            progress(phase, 1, 0)
    out, err = capfd.readouterr()
    assert [json.loads(line)["phase"] for line in out.splitlines()] == ["copy", "verify"] and not err


def test_a_terminal_gets_a_bar(run: Runner) -> None:
    probe = (
        "from grafctl import clock, render_progress\n"
        "render_progress.QUIET_S = 0\n"
        "with render_progress.Progress('catch-up') as progress:\n"
        "    progress('copy', 1, 2); clock.sleep(0.2); progress('[red]verify', 2, 0)\n"
    )
    leader, follower = pty.openpty()
    environment = run.environment(env={"TERM": "xterm"})
    ended = subprocess.run([sys.executable, "-c", probe], env=environment, stdout=subprocess.PIPE, stderr=follower)
    os.close(follower)
    shown = os.read(leader, 1 << 16).decode()
    os.close(leader)
    assert ended.returncode == 0 and not ended.stdout
    assert "catch-up: copy" in shown and "catch-up: [red]verify" in shown
