"""On a real terminal: what is in a store or was typed is shown, and moves no cursor, colours nothing, ends no line."""

from __future__ import annotations

import json
import os
import pty
from pathlib import Path

import pytest
from conftest import Runner

HOSTILE = "\x1b]0;title\x07\x1b[2J\x1b[31mred\u202edesrever\u2066\nerror: all is well\r\x9b5A\x00%s{0}$(id)"
FORBIDDEN = ("\x1b]", "\x1b[2J", "\x1b[31m", "\x07", "\u202e", "\u2066", "\x9b", "\x00", "\nerror: all is well")


def on_terminal(run: Runner, *words: str) -> str:
    """Returns what a command shows where both of its streams are a terminal."""
    ours, theirs = pty.openpty()
    started = run.start(*words, store="store", env={"TERM": "xterm", "COLUMNS": "200"}, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # a terminal whose last writer has gone
        pass
    os.close(ours)
    started.communicate(timeout=60)
    return shown.decode(errors="surrogateescape").replace("\r\n", "\n")


@pytest.fixture
def store(run: Runner) -> Path:
    run("init", "store", "-d", "aws")
    run("queue", "create", "q", "--schema", "s", "--replica", "r=aws", "--allow", "aws", store="store")
    run("consumer", "create", "q", "g", "--allow", "aws", store="store")
    for name in (HOSTILE.replace("\x00", ""), "plain"):
        run("publish", "q", "-", "--id", name, "-d", "aws", store="store", input="x", check=None)
    body = {"payload": HOSTILE, "id": "hostile\x1b[2J\u202e", "key": HOSTILE, "headers": {HOSTILE: HOSTILE}}
    run("publish", "q", "-", "--input", "jsonl", "-d", "aws", store="store", input=json.dumps(body) + "\n")
    return run.cwd / "store"


@pytest.mark.parametrize(
    "words",
    [
        ("peek", "q", "-d", "aws"),
        ("poll", "q", "-g", "g", "-d", "aws"),
        ("peek", "q", "-d", "aws", "-o", "json"),
        ("peek", "q", "-d", "aws", "-o", "jsonl"),
        ("publish", "q", "other", "--id", "hostile\x1b[2J\u202e", "-d", "aws"),
        ("publish", "q", f"@{HOSTILE[:-14]}", "-d", "aws"),
        ("queue", "show", HOSTILE[:-14]),
        ("apply", HOSTILE[:-14]),
        ("audit", "tail"),
        ("status",),
    ],
    ids=lambda words: " ".join(word if word.isprintable() else "HOSTILE" for word in words),
)
def test_nothing_acts_on_the_terminal(run: Runner, store: Path, words: tuple[str, ...]) -> None:
    shown = on_terminal(run, *words)
    assert shown
    assert not [piece for piece in FORBIDDEN if piece in shown], repr(shown)


def test_machines_get_every_byte(run: Runner, store: Path) -> None:
    found = run("peek", "q", "-d", "aws", "-o", "jsonl", store="store").jsonl[-1]
    assert (found["payload"], found["key"], found["headers"]) == (HOSTILE, HOSTILE, {HOSTILE: HOSTILE})
