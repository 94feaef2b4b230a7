"""What a command imports: only its own module, and neither rich nor cryptography where nothing is drawn or signed."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import Runner

from cli.tree import leaves
from grafctl.commands.tree import COMMANDS

PROBE = """
import sys
from grafctl import front
sys.argv = ["grafctl", *sys.argv[1:]]
code = front.run(sys.argv[1:])
sys.stdout.flush()
sys.stderr.write("\\n" + " ".join(sys.modules))
"""
# What a command that writes one record must not wait for; each takes a millisecond or more to import.
SLOW = {
    *("typing", "re", "enum", "signal", "json", "hashlib", "_hashlib", "tomllib", "datetime", "urllib", "importlib"),
    *("dataclasses", "inspect", "typer", "string", "random", "tempfile", "shutil", "textwrap", "logging"),
}
HEAVY = ("rich", "cryptography", "click", "pydantic", "msgspec", "asyncio", "http", "email", "xml", "logging")


OF_A_STORE = ("grafctl.store", "grafctl.client", "grafctl.nouns")


def modules_of(run: Runner, *words: str, store: str = "nowhere") -> set[str]:
    """Returns every module that a process has loaded when the command has ended."""
    command = [sys.executable, "-c", PROBE, *words]
    environment = run.environment(store, {"GRAFCTL_DOMAIN": "aws"})
    ended = subprocess.run(command, env=environment, cwd=run.cwd, capture_output=True, check=True)
    return set(ended.stderr.decode().splitlines()[-1].split())


def preloaded() -> set[str]:
    """Returns what the interpreter loads by itself."""
    command = [sys.executable, "-c", "import sys; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, check=True).stdout.decode().split())


def top_level(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize(
    "words",
    [
        ("--version",),
        ("--help",),
        ("publish", "q", "x"),
        ("poll", "q", "--group", "g"),
        ("ack", "q", "1", "--group", "g"),
        ("status",),
        ("status", "--json"),
        ("queue", "list"),
        ("explain", "11"),
        ("publish", "--no-such-option"),
    ],
)
def test_no_command_loads_what_it_does_not_use(run: Runner, words: tuple[str, ...]) -> None:
    assert not top_level(modules_of(run, *words)) & set(HEAVY)


def test_a_command_loads_only_its_own_module(run: Runner) -> None:
    nouns = set(COMMANDS.values()) | {leaf.words[0] for leaf in leaves() if len(leaf.words) > 1}
    for words, own in ((("publish", "q", "x"), "publish"), (("consumer", "show", "q", "g"), "consumer")):
        loaded = {name.removeprefix("grafctl.commands.") for name in modules_of(run, *words) if ".commands." in name}
        assert loaded & nouns == {own}


def test_a_publish_loads_neither_what_draws_or_signs_nor_what_applies_other_entries(run: Runner) -> None:
    run("init", "store", "--domain", "aws", "--domain", "gcp")
    replicas = ("--replica", "a=aws", "--replica", "g=gcp")
    run("queue", "create", "q", "--schema", "s", *replicas, "--allow", "aws", store="store")
    loaded = modules_of(run, "publish", "q", "x", store="store")
    assert not top_level(loaded - preloaded()) & {*HEAVY, *SLOW}
    parts = {name.rpartition(".")[2] for name in loaded if name.startswith("grafctl.store.resources.")}
    assert parts == {"applying", "queue"}
    assert run("publish", "q", "y", "-d", "aws", "--json", store="store").json["offset"] == 1


def test_the_version_needs_no_store(run: Runner) -> None:
    loaded = modules_of(run, "--version")
    assert not {name for name in loaded if name.startswith(OF_A_STORE)}
    assert not top_level(loaded - preloaded()) & {"lmdb", *SLOW}


def test_help_needs_neither_a_store_nor_the_framework(run: Runner) -> None:
    for words in (("--help",), ("publish", "--help"), ("queue", "--help")):
        loaded = modules_of(run, *words)
        assert not {name for name in loaded if name.startswith(OF_A_STORE)}
        assert not top_level(loaded - preloaded()) & {"lmdb", "typer", "inspect", "dataclasses", "typing"}
