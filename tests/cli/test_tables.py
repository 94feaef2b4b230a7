"""`table` as people type it: keys and values of every kind, what is refused, and a reader that goes away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Runner
from typer.testing import CliRunner

from cli.test_usage import ESCAPE, refused
from grafctl import client
from grafctl.cli import app
from grafctl.store.operations.tables import Item

AWS, GCP, AZURE = "aws/us-east-1", "gcp/us-central1", "azure/eastus"
HALF = "\ud83d"


class Table:
    """A store with a table `t` of 8 vshards in two domains, and a way to run `table` on it inside this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.env = {"GRAFCTL_STORE": str(path), "GRAFCTL_DOMAIN": GCP, "TERM": "dumb"}

    def __call__(self, *words: str, code: int = 0, input: bytes | None = None) -> str:
        result = CliRunner().invoke(app, ["table", *words], env=self.env, input=input)
        assert result.exit_code == code, result.output
        self.err = result.stderr
        self.bytes = result.stdout_bytes
        return result.stdout

    def json(self, *words: str, code: int = 0, input: bytes | None = None) -> Any:
        out = self(*words, "--json", code=code, input=input)
        return json.loads(out if code == 0 else self.err.splitlines()[-1])

    def jsonl(self, *words: str) -> list[Any]:
        return [json.loads(line) for line in self(*words, "-o", "jsonl").splitlines()]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    client.create(tmp_path / "store", domains={AWS: None, GCP: None})
    with client.open(tmp_path / "store") as store:
        store.tables.create("t", replicas=[f"a={AWS}", f"g={GCP}"], allow=["gcp"], vshards=8)
    return Table(tmp_path / "store")


def test_a_value_is_put_read_and_deleted(table: Table) -> None:
    assert table("put", "t", "alice", "1").startswith("version 1 in vshard 7 of t (durable in aws/us-east-1, gcp/")
    assert table("put", "t", "alice", "1") == "version 1 is there already in vshard 7 of t\n"
    assert table("put", "t", "alice", "2", "--dry-run") == "would be version 2 in vshard 7 of t\n"
    assert table("get", "t", "alice") == "alice\t1\t1\n"
    assert table("get", "t", "alice", "--raw") == "1"
    assert table.json("get", "t", "alice") == {
        **{"v": 1, "ok": True, "key": "alice", "value": "1", "version": 1, "vshard": 7}
    }
    assert table("delete", "t", "alice", "--dry-run") == "would be deleted from vshard 7 of t\n"
    assert table("delete", "t", "alice").startswith("deleted from vshard 7 of t (durable in")
    assert table("delete", "t", "alice") == "no such key in vshard 7 of t\n"
    assert table("get", "t", "alice", code=10) == ""
    assert table.err.startswith("error: t has no key 'alice'.\nhint: Run `grafctl table scan t`")


def test_a_write_can_expect_a_version(table: Table) -> None:
    assert table.json("put", "t", "k", "1", "--if-absent")["version"] == 1
    lost = table.json("put", "t", "k", "2", "--if-absent", code=13)
    assert (lost["version"], lost["expected"]) == (1, 0)
    assert table.json("put", "t", "k", "2", "--expect", "1")["version"] == 2
    assert table.json("put", "t", "k", "3", "--expect", "1", code=13)["version"] == 2
    assert table.json("delete", "t", "k", "--expect", "1", code=13)["version"] == 2
    assert table.json("delete", "t", "k", "--expect", "2")["version"] == 0
    assert table.json("put", "t", "k", "1", "--expect", "0")["version"] == 4  # a version never comes again
    assert table("get", "t", "k", "--raw") == "1"


def test_of_several_keys_those_that_are_there_are_printed(table: Table) -> None:
    table("put", "t", "a", "1")
    table("put", "t", "b", "x\ty\x1b[2J")
    assert table("get", "t", "b", "a") == "b\t2\tx\\ty\\x1b[2J\na\t1\t1\n"
    assert [row["key"] for row in table.jsonl("get", "t", "b", "a", "b")] == ["b", "a", "b"]
    body = json.loads(table("get", "t", "a", "c", "b", "d", "--json", code=10))
    assert ([row["key"] for row in body["rows"]], body["count"]) == (["a", "b"], 2)
    assert json.loads(table.err)["missing"] == [{"key": "c"}, {"key": "d"}]


def test_keys_and_values_are_bytes(table: Table, run: Runner) -> None:
    key, value = b"\xff\x01", bytes(range(256))
    file = run.cwd / "value"
    file.write_bytes(value)
    words = ["table", "put", "t", os.fsdecode(key), f"@{file}", "--json"]
    said = subprocess.run(
        [sys.executable, "-m", "grafctl", *map(os.fsencode, words)],
        env=run.environment(env=table.env),
        capture_output=True,
        check=True,
    )
    assert json.loads(said.stdout)["key_base64"] == "/wE="
    table("get", "t", "/wE=", "--key-base64", "--raw")
    assert table.bytes == value
    (row,) = table.jsonl("scan", "t")
    assert (row.keys(), row["key_base64"]) == ({"key_base64", "value_base64", "version", "vshard"}, "/wE=")
    assert table("scan", "t").startswith("\\xff\\x01\t1\t")
    table("put", "t", "from stdin", "-", input=b"\x00\n")
    assert table.json("get", "t", "from stdin")["value"] == "\x00\n"
    table("put", "t", "empty", "")
    table("get", "t", "empty", "--raw")
    assert table.bytes == b""
    assert table.json("delete", "t", "/wE=", "--key-base64", "--expect", "1")["changed"]


def test_a_scan_is_by_vshard_and_key(table: Table) -> None:
    names = [f"key-{number:03}" for number in range(400)]
    with client.open(table.path) as store:
        store.tables.put_many("t", [Item(name.encode(), b"v") for name in names], domain=GCP)
    rows = table.jsonl("scan", "t")
    assert sorted(row["key"] for row in rows) == names
    assert [(row["vshard"], row["key"]) for row in rows] == sorted((row["vshard"], row["key"]) for row in rows)
    assert table.jsonl("scan", "t", "--max", "300") == rows[:300]
    assert table.json("scan", "t", "--prefix", "key-01", "--vshard", "2")["rows"] == [
        row for row in rows if row["vshard"] == 2 and row["key"].startswith("key-01")
    ]
    assert table("scan", "t", "--prefix", "other") == ""
    assert table.json("count", "t") == {"v": 1, "ok": True, "table": "t", "count": 400, "bytes": 400 * 8}
    assert table.json("count", "t", "--vshard", "2")["count"] == sum(row["vshard"] == 2 for row in rows)


def test_plain_lines_of_json_are_those_of_any_other(table: Table) -> None:
    from grafctl import render, render_rows
    from grafctl.table_results import Row

    for key in (b"plain", b'quo"ted\\', "é".encode(), b"\xff", b"\x1b"):
        rows = [Row(key, value, 1, 2) for value in (b"plain", b'"\\', b"", "é\u202e".encode(), b"\x80")]
        for row in rows:
            assert render_rows.json_lines([row]) == render.document(row.fields())


def test_a_reader_that_goes_away_is_no_error(table: Table, run: Runner) -> None:
    items = [Item(b"%06d" % number, b"x" * 100) for number in range(30_000)]
    with client.open(table.path) as store:
        store.tables.put_many("t", items, domain=GCP)
    for form in ([], ["-o", "jsonl"], ["--json"]):
        command = run.start("table", "scan", "t", *form, env=table.env)
        assert command.stdout is not None and command.stderr is not None
        assert len(command.stdout.read(10)) == 10
        command.stdout.close()
        assert command.stderr.read() == b""
        assert command.wait(60) == 141


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("table", "put", "t"), "KEY"),
        (("table", "put", "t", "k"), "VALUE"),
        (("table", "put", "t", "", "v"), "the key is empty"),
        (("table", "put", "t", HALF, "v"), "half a character"),
        (("table", "put", "t", "k", HALF), "alf a character"),
        (("table", "put", "t", "k", "v", "--expect", "x"), "no whole number"),
        (("table", "put", "t", "k", "v", "--expect", "-1"), ""),
        (("table", "put", "t", "k", "v", "--expect", "9" * 20), "no whole number"),
        (("table", "put", "t", "k", "v", "--if-absent", "--expect", "3"), "--if-absent"),
        (("table", "put", "t", "?", "v", "--key-base64"), "not base64"),
        (("table", "put", "t", "k", "@absent"), "cannot be read"),
        (("table", "put", "t t", "k", "v"), "no name for a table"),
        (("table", "put", "t", "k", "v", "--timeout", "soon"), "soon"),
        (("table", "get", "t"), "KEY"),
        (("table", "get", "t", "a", ""), "the key is empty"),
        (("table", "get", "t", "a", "b", "--raw"), "--raw"),
        (("table", "scan", "t", "--prefix", ""), "the prefix is empty"),
        (("table", "scan", "t", "--vshard", "x"), "no whole number"),
        (("table", "scan", "t", "--max", "0"), "no whole number"),
        (("table", "count", "t", "--vshard", "-1"), ""),
        (("table", "create", "t", "--vshards", "0"), "no whole number"),
        (("table", "create", ESCAPE), "no name for a table"),
        (("table", "delete", "t"), "KEY"),
        (("table", ESCAPE), ""),
    ],
)
def test_what_no_table_takes_is_a_usage_error(words: tuple[str, ...], said: str) -> None:
    assert said in refused(*words)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("put", "t", "k" * 481, "v"), 2, "1 to 480 bytes"),
        (("get", "t", "é" * 241), 2, "1 to 480 bytes"),
        (("delete", "t", "k" * 10_000), 2, "1 to 480 bytes"),
        (("scan", "t", "--prefix", "p" * 481), 2, "480"),
        (("scan", "t", "--vshard", "8"), 2, "0 to 7"),
        (("count", "t", "--vshard", "8"), 2, "0 to 7"),
        (("put", "absent", "k", "v"), 10, "no resource absent"),
        (("scan", "absent"), 10, "no resource absent"),
        (("count", "absent"), 10, "no resource absent"),
        (("show", "absent"), 10, "absent"),
        (("put", "t", "k", "v", "-d", AWS), 11, "may not put t"),
        (("get", "t", "k", "-d", AZURE), 11, "does not know this domain"),
        (("scan", "t", "-d", AWS), 11, "may not scan t"),
        (("delete", "t", "k", "-d", AWS), 11, "may not delete t"),
        (("delete", "t", "k", "--epoch", "0"), 14, "Epoch 0"),
        (("create", "t", "--replica", f"a={AWS}"), 13, "t"),
        (("create", "u"), 2, "--replica"),
        (("create", "u", "--replica", "a=nowhere"), 10, "nowhere"),
        (("create", "u", "--replica", f"a={AWS}", "--vshards", "65537"), 2, "65,536"),
    ],
)
def test_refusals_write_nothing(table: Table, words: tuple[str, ...], code: int, said: str) -> None:
    assert table(*words, code=code) == ""
    assert said in table.err.splitlines()[0]
    assert table.json("count", "t")["count"] == 0
    assert [item["resource"] for item in table.json("list")["tables"]] == ["t"]


def test_a_value_may_have_8_mib_and_no_byte_more(table: Table) -> None:
    whole = b"x" * (8 << 20)
    assert table.json("put", "t", "k", "-", input=whole)["version"] == 1
    table("get", "t", "k", "--raw")
    assert table.bytes == whole
    assert "more than 8,388,608 bytes" in table.json("put", "t", "k", "-", input=whole + b"x", code=2)["message"]
