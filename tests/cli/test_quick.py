"""A command line that is read without the framework means the same with it; one that is doubtful is left to it."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.tree import leaves
from grafctl import quick
from grafctl.cli import app
from grafctl.commands import tree

EXAMPLES = [line for leaf in leaves() for line in leaf.examples.replace("\\\n", " ").splitlines()]
PLAIN = [
    "publish q x -d aws -s st",
    "publish q x --domain=aws --store=st --id=1",
    "publish q -d aws -s st -",
    "publish q - -d aws -s st --input jsonl --atomic --quiet",
    "publish q x -d aws -s st --header a=1 --header b=2 --timeout 5s --epoch 0",
    "poll q -g g -d aws -s st -n 5 --follow -o jsonl --visibility 1h",
    "poll --group g --json -d aws -s st --wait 500ms q",
    "ack q 1 2-9 11 -g g -d aws -s st --lease 4",
    "queue create q --schema s --replica a=aws --replica g=gcp:witness --allow aws --deny gcp -s st",
    "consumer shift q g --as h --allow gcp --proof p -s st",
    "dead redrive q g --all --yes -s st",
    "status -s st",
    "domain list -s st",
]
DOUBTFUL = [
    "",
    "publish",
    "publish --help",
    "--version",
    "nonsense q x",
    "queue",
    "queue nonsense",
    "publish q -d aws -s st",
    "publish q x y -d aws -s st",
    "publish q x -d aws -s st --bogus",
    "publish q x -daws -s st",
    "publish q x -d aws -s st --epoch -1",
    "publish q x -d aws -s st --epoch one",
    "publish q x -d aws -s st --epoch 1 --epoch 2",
    "publish q x -d aws -s st --input xml",
    "publish q x -d aws -s st --atomic=yes",
    "publish q x -d aws -s st --id ''",
    "publish q x -d aws -s",
    "publish q x -d '' -s st",
    "publish 'a b' x -d aws -s st",
    "publish q -- -x -d aws -s st",
    "publish q x -d aws -s st --time 5s",
    "ack q -g g -d aws -s st",
    "poll q -g g -d aws -s st --max 0",
]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFCTL_STORE", "from-the-environment")
    monkeypatch.setenv("GRAFCTL_DOMAIN", "gcp/us-central1")


def meant_by_the_framework(line: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any] | None:
    """Returns what the framework gives to the command's function, or None where it does not call it."""
    called: list[dict[str, Any]] = []
    original = tree.function_of

    def recorded(module: str, name: str) -> Any:
        function = original(module, name)

        def record(**given: Any) -> None:
            called.append(given)

        record.__wrapped__ = function  # type: ignore[attr-defined]
        record.__annotations__, record.__doc__ = function.__annotations__, function.__doc__
        return record

    monkeypatch.setattr("grafctl.cli.function_of", recorded)
    CliRunner().invoke(app, shlex.split(line))
    return called[0] if called else None


def meant(line: str) -> dict[str, Any] | None:
    """Returns what is read here, with the defaults of the function."""
    call = quick.parse(shlex.split(line))
    if call is None:
        return None
    function, given = call.func, call.keywords  # type: ignore[attr-defined]
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = dict(zip(reversed(names), reversed(function.__defaults__ or ()), strict=False))
    return defaults | given


@pytest.mark.parametrize("line", PLAIN)
def test_a_plain_line_means_the_same_with_and_without_the_framework(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = meant(line)
    assert found is not None, "it is read by the framework, which takes longer"
    assert found == meant_by_the_framework(line, monkeypatch)


@pytest.mark.parametrize("line", EXAMPLES)
def test_each_example_means_the_same_with_and_without_the_framework(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = line.partition(" | ")[2] or line
    text = words.partition(" > ")[0].removeprefix("grafctl ")
    found = meant(text)
    assert found is None or found == meant_by_the_framework(text, monkeypatch)


@pytest.mark.parametrize("line", DOUBTFUL)
def test_a_doubtful_line_is_left_to_the_framework(line: str) -> None:
    assert quick.parse(shlex.split(line)) is None


def test_an_empty_variable_is_left_to_the_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFCTL_STORE", "")
    assert quick.parse(["status"]) is None
    monkeypatch.delenv("GRAFCTL_STORE")
    assert quick.parse(["status"]) is None
