"""`table load` and `table export`: what a row is, what is none, and that what was exported loads to the same."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import Runner
from hypothesis import given
from hypothesis import strategies as st

from cli.test_tables import GCP, Table
from cli.test_tables import table as table
from grafctl import client, table_input, table_output
from grafctl.errors import Usage
from grafctl.store.operations.tables import Item
from grafctl.table_results import Row


class Pipe(io.BytesIO):
    """Standard input that has all there is."""

    def fileno(self) -> int:
        raise OSError


def rows_of(
    data: bytes, form: str = "jsonl", key: str | None = None, value: str | None = None
) -> tuple[list[tuple[bytes, bytes | None]], list[tuple[int, str]]]:
    """Returns the rows of a file, and the lines that were none."""
    source = table_input.Source(os.devnull, form, key=key, value=value)
    source._stream = Pipe(data)
    told: list[tuple[int, str]] = []
    with source:
        batches = list(source.batches(lambda line, message: told.append((line, message))))
    return [(item.key, item.value) for batch in batches for item in batch], told


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ('{"key":"a","value":"b"}', (b"a", b"b")),
        ('  {"value":"", "key":"é"}\r', ("é".encode(), b"")),
        ('{"key":7,"value":null}', (b"7", b"null")),
        ('{"key":"a","value":1.10}', (b"a", b"1.10")),
        ('{"key":"a","value":-1E400}', (b"a", b"-1E400")),
        ('{"key":"a","value":0.1234567890123456789012345678901}', (b"a", b"0.1234567890123456789012345678901")),
        ('{"key":"a","value":{"b" : [1, 2.50, "é\\n"], "c":{}}}', (b"a", '{"b":[1,2.50,"é\\n"],"c":{}}'.encode())),
        ('{"key_base64":"/w==","value_base64":"AAE="}', (b"\xff", b"\0\1")),
        ('{"key":"a","value":"b","version":3,"vshard":9}', (b"a", b"b")),
    ],
)  # fmt: skip
def test_a_line_of_json_is_a_row(line: str, row: tuple[bytes, bytes]) -> None:
    assert rows_of(line.encode()) == ([row], [])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"nothing", "no JSON object"),
        (b"[]", "no JSON object"),
        (b"7", "no JSON object"),
        (b'{"key":"a","value":1', "no JSON object"),
        (b'{"key":"a","value":1} {}', "no JSON object"),
        (b'{"value":1}', "exactly one of 'key' and 'key_base64'"),
        (b'{"key":"a","key_base64":"YQ==","value":1}', "exactly one of 'key'"),
        (b'{"key":"a"}', "exactly one of 'value'"),
        (b'{"key":true,"value":1}', "neither a text nor a whole number"),
        (b'{"key":1.5,"value":1}', "neither a text nor a whole number"),
        (b'{"key":null,"value":1}', "neither a text nor a whole number"),
        (b'{"key":"","value":1}', "1 to 480 bytes"),
        (b'{"key":"%b","value":1}' % (b"k" * 481), "1 to 480 bytes, not 481"),
        (b'{"key":"a","value":"%b"}' % (b"v" * ((8 << 20) + 1)), "at most 8,388,608 bytes"),
        (b'{"key":"a","value":"%b"}' % (b"v" * (64 << 20)), "8 MiB"),
        (b'{"key":"a","value":NaN}', "NaN"),
        (b'{"key":"a","value":"\\ud800"}', "surrogate"),
        (b'{"key":"a","value":["\\ud800"]}', "surrogate"),
        (b'{"key":"\\ud800","value":1}', "surrogate"),
        (b'{"key":"a","value_base64":"?"}', "not base64"),
        (b'{"key":"a","value_base64":7}', "not base64"),
        (b'{"key":"\xff","value":1}', "not UTF-8"),
        (b'{"key":"a","value":%b}' % (b"[" * 100_000), "nested too deep"),
        (b'{"key":"a","value":%b}' % (b"9" * 5000), ""),
    ],
    ids=lambda item: repr(item[:40]),
)
def test_a_line_that_is_no_row_is_named_and_the_rest_comes(line: bytes, said: str) -> None:
    rows, told = rows_of(b'{"key":"a","value":"1"}\n\n' + line + b'\n{"key":"b","value":"2"}')
    assert rows == [(b"a", b"1"), (b"b", b"2")]
    ((at, message),) = told
    assert at == 3 and said in message and len(message) < 200


def test_a_named_field_is_the_key_and_the_whole_line_the_value() -> None:
    text = b'{"id": 7, "total": 1.10}\n {"id":"x"} \n{"total":3}\n'
    rows, told = rows_of(text, key="id")
    assert rows == [(b"7", b'{"id": 7, "total": 1.10}'), (b"x", b'{"id":"x"}')]
    assert [line for line, _ in told] == [3]
    assert rows_of(text, key="id", value="total")[0] == [(b"7", b"1.10")]


def test_csv_has_its_keys_and_values_in_columns() -> None:
    text = b'\xef\xbb\xbfid,name,note\n1,Ann,"a ""b""\nc"\n\n2,Bob\n3,"C\r\nD",\n4,E\xff,\n'
    rows, told = rows_of(text, "csv", key="id", value="note")
    assert rows == [(b"1", b'a "b"\nc'), (b"3", b""), (b"4", b"")]
    assert told == [(5, "It has 2 fields, and the header has 3.")]
    rows, told = rows_of(text, "csv", key="id")
    assert [json.loads(value or b"") for _, value in rows] == [
        {"id": "1", "name": "Ann", "note": 'a "b"\nc'},
        {"id": "3", "name": "C\r\nD", "note": ""},
    ]
    assert [line for line, _ in told] == [5, 8] and "UTF-8" in told[1][1]


@pytest.mark.parametrize(
    ("data", "names", "said"),
    [
        (b"id\n1\n", {}, "--key"),
        (b"id\n1\n", {"key": "absent"}, "no column 'absent'"),
        (b"id\n1\n", {"key": "id", "value": "absent"}, "no column 'absent'"),
        (b"id,id\n1,2\n", {"key": "id"}, "twice"),
        (b'"id\n1\n', {"key": "id"}, "header cannot be read"),
        (b"\xff\n1\n", {"key": "id"}, "UTF-8"),
    ],
)
def test_csv_that_does_not_name_its_columns_is_refused(data: bytes, names: dict[str, Any], said: str) -> None:
    with pytest.raises(Usage) as refused:
        rows_of(data, "csv", **names)
    assert said in f"{refused.value.message} {refused.value.hint}"


def test_batches_are_bounded() -> None:
    source = table_input.Source(os.devnull, "jsonl")
    source._stream = Pipe(b"".join(b'{"key":"%d","value":"%b"}\n' % (at, b"x" * (at // 100)) for at in range(40_000)))
    sizes = [(len(batch), sum(len(item.value or b"") for item in batch)) for batch in source.batches(lambda *_: None)]
    assert sum(count for count, _ in sizes) == 40_000
    assert max(count for count, _ in sizes) == 10_000 and max(size for _, size in sizes) <= (4 << 20) + 400


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
keys = texts.filter(lambda text: 0 < len(text.encode()) <= 480)


@given(st.dictionaries(keys, texts, max_size=6))
def test_what_is_exported_loads_to_the_same(rows: dict[str, str]) -> None:
    found = [Row(key.encode(), value.encode(), 1, 0) for key, value in rows.items()]
    for form, names in (("csv", {"key": "key", "value": "value"}), ("jsonl", {})):
        written: list[bytes] = []
        assert table_output.export(found, form, written.append) == len(found)
        again, told = rows_of(b"".join(written), form, **names)
        assert (again, told) == ([(row.key, row.value) for row in found], [])


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=6), st.binary(max_size=6)), max_size=6))
def test_bytes_are_exported_as_base64(rows: list[tuple[bytes, bytes]]) -> None:
    written: list[bytes] = []
    table_output.export([Row(key, value, 1, 0) for key, value in rows], "jsonl", written.append)
    assert rows_of(b"".join(written)) == (rows, [])


# --- in a store


def test_a_load_writes_the_differences(table: Table, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        "".join(f'{{"key":"k{at}","value":{at}}}\n' for at in range(500)) + '{"key":"k7","value":"x"}\nbad\n'
    )
    assert table("load", "t", str(file), code=2) == "501 rows: 500 written, 0 there already, 1 lines refused\n"
    assert f"{file}:502: It is no JSON object.\n" in table.err
    assert table("load", "t", str(file), code=2) == "501 rows: 0 written, 500 there already, 1 lines refused\n"
    assert table("get", "t", "k7", "--raw") == "x"
    table("put", "t", "k8", "changed")
    table("delete", "t", "k9")
    assert table.json("load", "t", str(file), "--dry-run", code=2)["refused"] == 1
    assert json.loads(table("load", "t", str(file), "--dry-run", "--json", code=2))["written"] == 2
    assert table("get", "t", "k8", "--raw") == "changed"
    body = json.loads(table("load", "t", str(file), "--json", code=2))
    assert (body["rows"], body["written"], body["already"], body["refused"]) == (501, 2, 498, 1)
    assert json.loads(table.err)["problems"] == [{"file": str(file), "line": 502, "message": "It is no JSON object."}]


def test_a_table_goes_through_a_file_and_through_a_pipe(table: Table, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    table("load", "t", "-", input=b'{"key":"a","value":"x, \\"y\\"\\r\\n"}\n{"key":"b","value":[1]}\n')
    out.write_text("old")
    assert table("export", "t", str(out)) == f"2 rows of t in {out}\n"
    lines = table("export", "t")
    assert lines == table("export", "t", "-o", "jsonl") and len(lines.splitlines()) == 2
    for key in ("a", "b"):
        table("delete", "t", key)
    assert table("load", "t", str(out), "--key", "key", "--value", "value") == "2 rows: 2 written, 0 there already\n"
    assert table("load", "t", "-", input=lines.encode()) == "2 rows: 0 written, 2 there already\n"
    assert (
        table("load", "t", "-", "--input", "csv", "--key", "key", input=b"") == "0 rows: 0 written, 0 there already\n"
    )


def test_an_export_that_fails_leaves_the_older_file(table: Table, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")
    table("put", "t", "k", "-", input=b"\xff")
    assert table("export", "t", str(out), code=2) == "" and "not UTF-8" in table.err
    assert table("export", "t", str(tmp_path / "absent" / "out.csv"), code=2) == ""
    assert table("export", "t", str(out), "-d", "aws", code=11) == ""
    assert out.read_text() == "old" and sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "store"]


def test_what_was_acknowledged_before_a_signal_stays_and_the_same_command_goes_on(table: Table, run: Runner) -> None:
    rows = [b'{"key":"%06d","value":"x"}\n' % at for at in range(30_000)]
    command = run.start("table", "load", "t", "-", "-o", "jsonl", env=table.env)
    assert command.stdin is not None and command.stdout is not None
    command.stdin.write(b"".join(rows[:25_000]))
    command.stdin.flush()
    done = 0
    while done < 20_000:
        done += json.loads(command.stdout.readline())["written"]
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=60)
    assert (command.returncode, json.loads(err.splitlines()[-1])["code"]) == (130, "interrupted")
    done += sum(json.loads(line)["written"] for line in out.splitlines())
    with client.open(table.path) as store:
        there = store.tables.count("t").body["count"]
        assert done <= there <= 25_000
    again = json.loads(table("load", "t", "-", "--json", input=b"".join(rows)))
    assert (again["rows"], again["already"], again["written"]) == (30_000, there, 30_000 - there)


def test_a_slow_producer_is_not_waited_for(table: Table, run: Runner) -> None:
    command = run.start("table", "load", "t", "-", "-o", "jsonl", env=table.env)
    assert command.stdin is not None and command.stdout is not None
    for at in range(3):
        command.stdin.write(b'{"key":"%d","value":"x"}\n' % at)
        command.stdin.flush()
        assert json.loads(command.stdout.readline())["written"] == 1
    command.communicate(timeout=60)
    assert command.returncode == 0
    with client.open(table.path) as store:
        assert [row.key for row in store.tables.get_many("t", [b"0", b"1", b"2"], domain=GCP) if row] == [
            b"0",
            b"1",
            b"2",
        ]


def test_an_empty_batch_of_items_is_no_entry(table: Table) -> None:
    with client.open(table.path) as store:
        assert store.tables.put_many("t", [], domain=GCP) == []
        (done,) = store.tables.load("t", [[Item(b"a", b"1"), Item(b"a", b"2")]], domain=GCP)
        assert (done.rows, done.written, done.already) == (2, 1, 0)
        assert store.tables.get("t", "a", domain=GCP).value == b"2"
