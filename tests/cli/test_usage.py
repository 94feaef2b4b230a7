"""Usage errors: what is absent, empty, huge, of the wrong type, not UTF-8 or hostile ends with 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Runner
from typer.testing import CliRunner

from grafctl.cli import app
from grafctl.front import wants_json

HERE = {"GRAFCTL_STORE": "nowhere", "GRAFCTL_DOMAIN": "aws"}
ESCAPE = "\x1b[31mred\x07"


def refused(*words: str, env: dict[str, str] | None = None, code: int = 2) -> str:
    """Runs a command line that must be refused, both ways, and returns the sentence."""
    environment = {"GRAFCTL_STORE": None, "GRAFCTL_DOMAIN": None, **(HERE if env is None else env)}
    plain = CliRunner().invoke(app, list(words), env=environment)
    assert (plain.exit_code, plain.stdout) == (code, ""), plain.output
    first, *rest = plain.stderr.splitlines()
    assert first.startswith("error: ") and all(line.startswith("hint: ") for line in rest)
    assert all(letter.isprintable() or letter == "\n" for letter in plain.stderr)
    assert "Traceback" not in plain.stderr and "╭" not in plain.stderr
    coded = CliRunner().invoke(app, [*words, "--json"], env=environment)

    body = json.loads(coded.stderr)
    assert (coded.exit_code, body["v"], body["ok"], body["code"], body["exit"]) == (code, 1, False, "usage", code)
    assert coded.stderr.count("\n") == 1 and coded.stdout == ""
    return first


def test_a_missing_store_names_the_option_and_the_variable() -> None:
    result = CliRunner().invoke(app, ["status"], env={"GRAFCTL_STORE": None})
    assert result.exit_code == 2
    assert "--store" in result.stderr and "GRAFCTL_STORE" in result.stderr


def test_an_empty_variable_is_a_missing_one() -> None:
    assert "GRAFCTL_STORE" in refused("status", env={"GRAFCTL_STORE": ""})


@pytest.mark.parametrize(
    "words", [("publish", "q", "x"), ("poll", "q", "--group", "g"), ("ack", "q", "1", "-g", "g"), ("can", "poll", "q")]
)
def test_a_missing_domain_names_the_option_and_the_variable(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, list(words), env={"GRAFCTL_STORE": "x", "GRAFCTL_DOMAIN": None})
    assert result.exit_code == 2
    assert "--domain" in result.stderr and "GRAFCTL_DOMAIN" in result.stderr


def test_catch_up_wants_its_domain_typed() -> None:
    assert "--domain" in refused("catch-up", "q")


def test_init_does_not_take_its_domains_from_the_variable() -> None:
    assert "--domain" in refused("init", "store")
    assert "where the store goes" in refused("init", "-d", "aws", env={})
    assert "twice" in refused("init", "store", "-d", "aws", "-d", "aws=elsewhere")
    assert "path is empty" in refused("init", "store", "-d", "aws=")


@pytest.mark.parametrize(
    "words",
    [
        ("publish", "", "x"),
        ("publish", "q", "x", "--id", ""),
        ("publish", "q", "x", "--key", ""),
        ("publish", "q", "x", "--store", ""),
        ("publish", "q", "x", "-d", ""),
        ("publish", "q", "x", "--header", ""),
        ("publish", "q", "x", "--header", "=v"),
        ("poll", "q", "--group", ""),
        ("domain", "add", ""),
        ("queue", "create", "q", "--schema", "", "--replica", "a=aws"),
        ("consumer", "create", "q", "g", "--allow", ""),
        ("consumer", "shift", "q", "g", "--as", "n", "--proof", ""),
        ("consumer", "shift", "q", "g", "--as", "", "--proof", "p"),
        ("ack", "q", "", "-g", "g"),
    ],
)
def test_what_is_empty_is_refused(words: tuple[str, ...]) -> None:
    refused(*words)


@pytest.mark.parametrize(
    "words",
    [
        ("publish", "q"),
        ("publish",),
        ("poll", "q"),
        ("ack", "q", "-g", "g"),
        ("queue", "create", "q"),
        ("locator", "set", "q", "--generation", "2"),
        ("placement", "set", "q"),
        ("dead", "redrive", "q", "g"),
        ("dead", "redrive", "q", "g", "1", "--all"),
        ("fence", "q"),
        ("health", "observe", "aws"),
        ("apply",),
        ("explain",),
    ],
)
def test_what_is_absent_is_refused(words: tuple[str, ...]) -> None:
    refused(*words)


@pytest.mark.parametrize(
    "words",
    [
        ("poll", "q", "-g", "g", "--max", "0"),
        ("poll", "q", "-g", "g", "--max", "-1"),
        ("poll", "q", "-g", "g", "--max", "ten"),
        ("poll", "q", "-g", "g", "--max", "1e3"),
        ("poll", "q", "-g", "g", "--max", "١"),
        ("poll", "q", "-g", "g", "--max", "1_0"),
        ("poll", "q", "-g", "g", "--max", "9" * 30),
        ("poll", "q", "-g", "g", "--epoch", "-1"),
        ("poll", "q", "-g", "g", "--epoch", "1.5"),
        ("poll", "q", "-g", "g", "--wait", "5"),
        ("poll", "q", "-g", "g", "--wait", "5 parsecs"),
        ("poll", "q", "-g", "g", "--wait", "-5s"),
        ("poll", "q", "-g", "g", "--wait", "nans"),
        ("poll", "q", "-g", "g", "--wait", "infs"),
        ("poll", "q", "-g", "g", "--wait", "9" * 400 + "s"),
        ("poll", "q", "-g", "g", "--ack", "maybe"),
        ("poll", "q", "-g", "g", "-o", "yaml"),
        ("publish", "q", "-", "--input", "csv"),
        ("publish", "q", "-", "--id", "one"),
        ("publish", "q", "x", "--atomic"),
        ("publish", "q", "x", "--input", "jsonl"),
        ("publish", "q", "x", "--header", "no-value"),
        ("publish", "q", "x", "--header", "a=1", "--header", "a=2"),
        ("publish", "q", "@no-such-file"),
        ("publish", "q", "@."),
        ("publish", "q", "@"),
        ("queue", "create", "q", "--schema", "s", "--replica", "a=aws", "--retain-bytes", "10 apples"),
        ("queue", "create", "q", "--schema", "s", "--replica", "a=aws", "--retain-bytes", "10gb"),
        ("queue", "create", "q", "--schema", "s", "--replica", "a=aws", "--retain-age", "7y"),
        ("queue", "create", "q", "--schema", "s", "--replica", "a=aws", "--min-payload", "0"),
        ("queue", "create", "q", "--schema", "s", "--replica", "a=aws", "--compression", "gzip"),
        ("consumer", "create", "q", "g", "--semantics", "exactly-once"),
        ("consumer", "create", "q", "g", "--max-deliveries", "0"),
        ("health", "observe", "aws", "fine", "--authority", "a", "--key-file", "k"),
        ("health", "observe", "aws", "healthy", "--authority", "a", "--key-file", "no-such-file"),
        ("authority", "add", "a", "--public-key", "no-such-file"),
        ("apply", "no-such-file"),
        ("apply", "a" * 300),
        ("authority", "add", "a", "--public-key", "a" * 300),
        ("audit", "explain", "first"),
        ("audit", "tail", "--count", "0"),
        ("ack", "q", "-g", "g", "5-3"),
        ("ack", "q", "-g", "g", "0-999999999"),
        ("ack", "q", "-g", "g", "1-2-3"),
        ("ack", "q", "-g", "g", "x"),
        ("fence", "q", "--epoch", "-1"),
        ("explain", "99"),
        ("publish", "q", "x", "--no-such-option"),
        ("publish", "q", "x", "surplus"),
    ],
)
def test_what_is_of_the_wrong_type_is_refused(words: tuple[str, ...]) -> None:
    refused(*words)


@pytest.mark.parametrize(
    "words",
    [
        ("publish", "q" * 100_000, "x"),
        ("publish", "q", "x", "-d", "aws/" * 50_000),
        ("poll", "q", "--group", "g" * 100_000),
        ("consumer", "create", "q", "g", "--allow", "a" * 100_000),
        ("explain", "x" * 100_000),
        ("x" * 100_000,),
        ("status", "--" + "x" * 100_000),
        ("poll", "q", "-g", "g", "--ack", "x" * 100_000),
        ("poll", "q", "-g", "g", "--wait", "x" * 100_000),
    ],
)
def test_what_is_huge_is_refused_in_a_line_that_is_not(words: tuple[str, ...]) -> None:
    assert len(refused(*words)) < 300


@pytest.mark.parametrize(
    "words",
    [
        ("publish", ESCAPE, "x"),
        ("publish", "q", "x", "-d", ESCAPE),
        ("publish", "q", "x", "-o", ESCAPE),
        ("publish", "q", "x", "--header", ESCAPE),
        ("publish", "q", "x", f"--{ESCAPE}"),
        ("publish", "q", f"@{ESCAPE}"),
        ("poll", "q", "-g", "g", "--max", ESCAPE),
        ("poll", "q", "-g", "g", "--wait", ESCAPE),
        ("poll", "q", "-g", "g\nerror: all is well"),
        ("queue", "create", "q", "--schema", "s", "--replica", "a=aws", "--retain-bytes", ESCAPE),
        ("apply", ESCAPE),
        ("explain", ESCAPE),
        ("explain", "\u202edesrever"),
        (ESCAPE,),
        ("domain", ESCAPE),
    ],
)
def test_what_is_hostile_reaches_no_terminal(words: tuple[str, ...]) -> None:
    refused(*words)


@pytest.mark.parametrize(
    "words",
    [
        (b"publish", b"\xff", b"x"),
        (b"publish", b"q", b"x", b"--id", b"\xff"),
        (b"publish", b"q", b"x", b"--key", b"\xff"),
        (b"publish", b"q", b"x", b"-d", b"\xff"),
        (b"publish", b"q", b"x", b"--header", b"a=\xff"),
        (b"explain", b"\xff"),
        (b"\xff",),
        (b"publish", b"q", b"x", b"--\xff"),
    ],
)
@pytest.mark.parametrize("form", [(), (b"--json",)])
def test_what_is_not_utf8_is_refused(run: Runner, words: tuple[bytes, ...], form: tuple[bytes, ...]) -> None:
    texts = [word.decode("utf-8", "surrogateescape") for word in (*words, *form)]
    ended = subprocess.run(
        [sys.executable, "-m", "grafctl", *map(os.fsencode, texts)],
        env=run.environment("nowhere", {"GRAFCTL_DOMAIN": "aws"}),
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, b""), ended.stderr
    assert ended.stderr.decode().isprintable() or ended.stderr.decode().replace("\n", "").isprintable()


def test_what_never_ends_is_no_document() -> None:
    for form in (["--json"], ["-o", "json"]):
        result = CliRunner().invoke(app, ["poll", "q", "-g", "g", "--follow", *form], env=HERE)
        assert result.exit_code == 2 and "--follow" in json.loads(result.stderr)["message"]


def test_similar_commands_are_named() -> None:
    assert "Did you mean 'publish'?" in refused("pblish")
    assert "Did you mean 'show'" in refused("consumer", "shwo")


def test_nothing_is_made_where_no_store_is(run: Runner) -> None:
    for words in (["status"], ["publish", "q", "x", "-d", "aws"], ["poll", "q", "-g", "g", "-d", "aws"]):
        ended = run(*words, "--json", store="nowhere", check=10)
        assert ended.error["code"] == "not_found" and ended.out == ""
    assert list(Path(run.cwd).iterdir()) == []


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["status", "--json"], True),
        (["status", "-o", "json"], True),
        (["status", "-o", "jsonl"], True),
        (["status", "-ojson"], True),
        (["status", "--output=jsonl"], True),
        (["status", "-o", "table"], False),
        (["status"], False),
        (["publish", "q", "--", "--json"], False),
        (["publish", "json"], False),
    ],
)
def test_json_is_wanted_also_where_the_line_cannot_be_parsed(words: list[str], wanted: bool) -> None:
    assert wants_json(words) is wanted
