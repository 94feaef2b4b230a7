"""The one mapping of errors to exit codes, and what a process says when it is ended from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from conftest import Runner
from typer.testing import CliRunner

from grafctl import cli, front, render_output
from grafctl.errors import ERRORS, DomainUnavailable, Fenced, GrafctlError, InvalidConfig


def one_of(error: type[GrafctlError], reason: str = "not_in_placement") -> GrafctlError:
    if issubclass(error, DomainUnavailable):
        return error("No.", reason=reason, hint="Try: grafctl status", resource="q")
    if issubclass(error, InvalidConfig):
        return error("store.toml", [(3, "The domain is named twice."), (4, "The name is\x1b[31m red.")])
    return error("No.", hint="Try: grafctl status", resource="q")


def report(error: BaseException, capsys: pytest.CaptureFixture[str], *, as_json: bool) -> tuple[int, str]:
    code = front.report(error, as_json=as_json)
    said = capsys.readouterr()
    assert said.out == ""
    return code, said.err


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_each_class_ends_with_its_code_and_says_so(
    error: type[GrafctlError], capsys: pytest.CaptureFixture[str]
) -> None:
    problem = one_of(error)
    code, text = report(problem, capsys, as_json=True)
    assert code == problem.exit_code == json.loads(text)["exit"]
    assert json.loads(text) == problem.as_json() and text.count("\n") == 1
    code, text = report(problem, capsys, as_json=False)
    assert code == problem.exit_code
    if not isinstance(problem, InvalidConfig):
        assert text == "error: No.\nhint: Try: grafctl status\n"


def test_12_is_a_domain_that_may_come_back(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = report(one_of(DomainUnavailable, "unhealthy"), capsys, as_json=True)
    assert (code, json.loads(text)["exit"], json.loads(text)["retryable"]) == (12, 12, True)


def test_problems_of_a_file_are_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    _, text = report(one_of(InvalidConfig), capsys, as_json=False)
    assert text.splitlines()[:2] == [
        "store.toml:3: The domain is named twice.",
        "store.toml:4: The name is\\x1b[31m red.",
    ]


def test_a_bug_is_a_sentence_and_a_traceback_only_when_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, text = report(ZeroDivisionError("division\x1b by zero"), capsys, as_json=False)
    assert code == 1 and "bug in grafctl" in text and "Traceback" not in text and "\x1b" not in text
    code, text = report(ZeroDivisionError(), capsys, as_json=True)
    assert (code, json.loads(text)["code"]) == (1, "internal")
    monkeypatch.setenv("GRAFCTL_DEBUG", "1")
    try:
        raise one_of(Fenced)
    except Fenced as error:
        assert "Traceback" in report(error, capsys, as_json=False)[1]


@pytest.mark.parametrize(("error", "expected"), [(KeyboardInterrupt(), 130), (front.Terminated(), 143)])
def test_a_signal_keeps_its_code_and_tells_the_outcome(
    error: BaseException, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    error.add_note("Offset 7 is durable.")
    error.outcome = "written"  # type: ignore[attr-defined]
    code, text = report(error, capsys, as_json=False)
    assert code == expected and "Offset 7 is durable." in text
    code, text = report(error, capsys, as_json=True)
    body = json.loads(text)
    assert (code, body["exit"], body["outcome"]) == (expected, expected, "written")


def test_a_reader_that_went_away_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(render_output.OutputLost(BrokenPipeError()), capsys, as_json=True) == (141, "")
    code, text = report(render_output.OutputLost(OSError(28, "No space left on device")), capsys, as_json=False)
    assert code == 23 and "No space left on device" in text and "bug" not in text


# --- real processes


def process(run: Runner, *words: str, **popen: Any) -> subprocess.Popen[bytes]:
    return run.start(*words, store="store", env={"GRAFCTL_DOMAIN": "aws"}, **popen)


def test_a_closed_pipe_ends_help_and_output_without_a_word(run: Runner) -> None:
    for words in (["--help"], ["publish", "--help"], ["explain", "11"], ["--version"], ["completion", "show", "zsh"]):
        reading, writing = os.pipe()
        os.close(reading)
        ended = process(run, *words, stdout=writing)
        os.close(writing)
        _, said = ended.communicate(timeout=30)
        assert (ended.returncode, said) == (141, b""), words


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_disk_is_told(run: Runner) -> None:
    with open("/dev/full", "wb") as full:
        ended = process(run, "explain", "11", stdout=full)
        _, said = ended.communicate(timeout=30)
    assert ended.returncode == 23
    assert b"Standard output cannot be written" in said and b"Traceback" not in said


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_reason_to_crash(run: Runner, closing: str) -> None:
    command = f"exec {sys.executable} -m grafctl explain 11 {closing}"
    ended = subprocess.run(["sh", "-c", command], env=run.environment(), cwd=run.cwd, capture_output=True, check=False)
    assert ended.returncode == (2 if ">&- " in f"{closing} ".replace("2>&-", "") else 0)
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_process_that_waits(run: Runner, number: signal.Signals, code: int) -> None:
    os.mkfifo(run.cwd / "payload")
    started = process(run, "publish", "q", "@payload")
    with open(run.cwd / "payload", "wb"):  # returns when the command has opened it too
        started.send_signal(number)
        out, said = started.communicate(timeout=30)
    assert (started.returncode, out) == (code, b"")
    assert said in (b"error: Interrupted.\n", b"error: Stopped by SIGTERM.\n")


def test_ctrl_c_during_the_imports_leaves_no_traceback(run: Runner) -> None:
    script = "import signal, sys\nsys.modules['typer'] = None\nimport grafctl.__main__ as door\n"
    probe = script + (
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'grafctl.front': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "door.main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", probe], env=run.environment(), capture_output=True, check=False)
    assert ended.returncode == -signal.SIGINT and b"Traceback" not in ended.stderr


def test_the_process_and_the_module_are_the_same_door(run: Runner) -> None:
    ended = run("explain", "11", "--json")
    inside = CliRunner().invoke(cli.app, ["explain", "11", "--json"])
    assert ended.json == json.loads(inside.stdout)


def test_text_that_the_terminal_has_no_letters_for_is_escaped(run: Runner) -> None:
    for words in (["--help"], ["can", "--help"], ["explain", "é"], ["explain", "11", "--json"]):
        ended = run(*words, env={"PYTHONIOENCODING": "ascii"}, check=None)
        assert ended.code in (0, 2) and "bug" not in ended.err


def test_colours_and_boxes_stay_out_of_pipes(run: Runner) -> None:
    for env in ({"FORCE_COLOR": "1"}, {"TERM": "xterm-256color"}, {"NO_COLOR": "1"}, {"TERM": ""}, {"COLUMNS": "20"}):
        for words in (["explain", "11"], ["publish"], ["publish", "--help"]):
            ended = run(*words, env=env, check=None)
            assert "\x1b" not in ended.out + ended.err and "╭" not in ended.out + ended.err
