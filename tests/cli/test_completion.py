"""Completion: what a shell is given for commands, options and names; never an error, never a word on stderr."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from conftest import Runner


def complete(run: Runner, *words: str, store: str | None = None) -> list[str]:
    """Returns what bash would offer for the last of the words."""
    line = ("grafctl", *words)
    env = {"_GRAFCTL_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(line), "COMP_CWORD": str(len(line) - 1)}
    ended = run(env=env, store=store)
    assert ended.err == ""
    return ended.out.split()


def test_commands_and_options_are_completed(run: Runner) -> None:
    assert complete(run, "pu") == ["publish"]
    assert complete(run, "consumer", "se") == ["seek"]
    assert complete(run, "publish", "q", "x", "--at") == ["--atomic"]
    assert complete(run, "nothing", "like", "this") == []


def test_choices_are_completed(run: Runner) -> None:
    assert complete(run, "status", "-o", "json") == ["json", "jsonl"]


@pytest.mark.parametrize("store", [None, "nowhere"])
def test_without_a_store_no_name_is_completed_and_nothing_is_said(run: Runner, store: str | None) -> None:
    assert complete(run, "publish", "", store=store) == []
    assert complete(run, "poll", "q", "--group", "", store=store) == []
    assert complete(run, "publish", "q", "x", "-d", "", store=store) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_the_shell_reads(run: Runner, shell: str) -> None:
    script = run("completion", "show", shell).out
    assert "_GRAFCTL_COMPLETE=complete_" + shell in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script.encode(), check=True)


def test_installing_writes_below_home_only(run: Runner) -> None:
    said = run("completion", "install", "bash").out
    assert str(run.cwd) in said
    assert (run.cwd / ".bashrc").exists()


def test_a_shell_that_is_not_known_is_refused(run: Runner) -> None:
    assert "tcsh" in run("completion", "show", "tcsh", check=2).err
