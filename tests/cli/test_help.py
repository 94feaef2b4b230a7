"""Help: every command has a line, a paragraph and an example, and the same flags mean the same everywhere."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.reference import PAGE, reference
from cli.tree import Leaf, groups, leaves
from grafctl.cli import app
from grafctl.commands.tree import COMMANDS, GROUPS

LEAVES = list(leaves())
WITHOUT_STORE = {
    *("authority keygen", "explain", "completion show", "completion install"),
    *("pipeline test", "pipeline graph"),
}
LOOKING = {
    *("domain list", "domain show", "authority list", "health list", "queue list", "queue show", "topic list"),
    *("topic show", "consumer list", "consumer show", "dead list", "placement show", "policy show", "locator show"),
    *("locator history", "can", "peek"),
    *("idem list", "idem show", "pipeline status", "pipeline tap"),
    *("pipeline validate", "pipeline plan"),
    *("schema list", "schema show"),
    *("lease list", "edge status", "consumer status", "consumer report", "consumer plan"),
    *("table list", "table show", "table get", "table scan", "table count", "table export"),
    *("vshard list", "vshard show", "vshard status", "vshard plan"),
    *("audit tail", "audit verify", "audit explain", "status", "verify", "doctor", "plan", "drift"),
}
# A poll leases, and a lease that nobody finishes gives its records back: there is nothing to try out.
WITHOUT_DRY_RUN = LOOKING | WITHOUT_STORE | {"poll"}
BY_DOMAIN = {"publish", "poll", "peek", "ack", "nack", "catch-up", "can"}
BY_DOMAIN |= {"pipeline run", "pipeline tap", "idem reserve", "idem complete", "idem release", "idem expire"}
BY_DOMAIN |= {"lease acquire", "lease renew", "lease release", "edge create", "edge push", "edge pop"}
BY_DOMAIN |= {
    "edge relocate",
    "consumer compare",
    "consumer soak",
    "consumer switch",
    "consumer rollback",
    "consumer lock",
    "consumer wave",
}
BY_DOMAIN |= {"table put", "table get", "table delete", "table scan", "table load", "table export"}
BY_DOMAIN |= {"vshard plan", "vshard migrate", "vshard resume", "vshard cutover", "vshard throttle"}
BY_DOMAIN |= {"vshard reverse", "vshard cancel", "vshard retire"}
DESTRUCTIVE = {"vshard retire", "lease revoke", "lease forget", "edge remove", "consumer detach", "consumer lock"}
DESTRUCTIVE |= {"domain remove", "domain repair", "authority revoke", "consumer seek", "dead redrive", "locator set"}
DESTRUCTIVE |= {"consumer wave"}
LATER = {
    "rehearse",
}

every = pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.path)


def named(leaf: Leaf) -> str:
    return " ".join(leaf.words)


@every
def test_the_first_line_is_an_imperative_that_fits(leaf: Leaf) -> None:
    first, blank, rest = leaf.command.help.partition("\n\n")
    assert len(first) <= 60 and "\n" not in first and not first.endswith(".")
    assert first[0].isupper() and not first.split()[0].endswith("s")
    assert blank and rest.strip().endswith(".")


@every
def test_the_example_is_the_command_itself(leaf: Leaf) -> None:
    words = shlex.split(leaf.examples.replace("\\\n", " ").replace("$(mktemp -d)", "x"), comments=True)
    words = [word for word in words if not word.startswith("HOME=")]
    assert words[: len(leaf.words) + 1] == ["grafctl", *leaf.words]


@every
def test_the_example_parses(leaf: Leaf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("examples").mkdir()
    for file in (
        "scheduler-a.pub",
        "scheduler-a.key",
        "proof.json",
        "orders.grafctl-backup",
        "examples/provider-migration.toml",
        "examples/pipeline.toml",
        "examples/switchover.toml",
        "examples/accounts.csv",
    ):
        Path(file).touch()
    monkeypatch.setenv("GRAFCTL_STORE", "store")
    words = shlex.split(leaf.examples.replace("\\\n", " ").replace("HOME=$(mktemp -d) ", ""))
    leaf.command.make_context(leaf.path, words[len(leaf.words) + 1 :])


@every
def test_help_fits_a_terminal_and_ends_with_the_example(leaf: Leaf) -> None:
    result = CliRunner().invoke(app, [*leaf.words, "--help"])
    assert result.exit_code == 0 and not result.stderr
    before, _, after = result.stdout.partition("\nExample:\n")
    assert max(map(len, before.splitlines())) <= 80
    assert [line.strip() for line in after.strip().splitlines()] == leaf.examples.splitlines()


@every
def test_common_flags_are_everywhere(leaf: Leaf) -> None:
    options = leaf.options()
    if leaf.words[0] != "completion":
        assert {"--json", "--output", "-o"} <= options
    assert ({"--store", "-s"} <= options) == (named(leaf) not in WITHOUT_STORE)
    assert ("--dry-run" in options) == (named(leaf) not in WITHOUT_DRY_RUN)
    assert ("--yes" in options) == (named(leaf) in DESTRUCTIVE)
    assert ("-d" in options) == (named(leaf) in BY_DOMAIN | {"init", "restore", "pipeline plan"})


def test_a_flag_has_one_meaning() -> None:
    meanings: dict[str, set[str]] = {}
    for leaf in LEAVES:
        for parameter in leaf.command.params:
            for flag in parameter.opts:
                if len(flag) == 2 and flag.startswith("-"):
                    meanings.setdefault(flag, set()).add(parameter.opts[-1] if len(parameter.opts) > 1 else flag)
                    meanings[flag].add(max(parameter.opts, key=len))
    longs = {flag: {name for name in names if name.startswith("--")} for flag, names in meanings.items()}
    assert longs.pop("-n") == {"--max", "--count"}
    assert {flag: names for flag, names in longs.items() if len(names) != 1} == {}


def test_groups_have_a_line_each() -> None:
    for group in groups():
        text = group.command.help
        assert text and not text.endswith(".") and "\n" not in text
        if group.words:
            assert len(text) <= 60


def test_what_is_not_built_is_not_shown() -> None:
    assert not LATER & (COMMANDS.keys() | GROUPS.keys())


def test_no_command_is_a_usage_error_that_shows_the_help() -> None:
    for words in ([], ["domain"]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2 and not result.stdout
        assert "Commands:" in result.stderr


def test_the_version_is_printed() -> None:
    from grafctl import __version__

    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"grafctl {__version__}\n")


def test_the_reference_is_what_the_program_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: cd tests && python -m cli.reference"


def test_typer_is_one_that_carries_its_own_click() -> None:
    assert tuple(map(int, typer.__version__.split(".")[:2])) in {(0, 26), (0, 27), (0, 28)}
