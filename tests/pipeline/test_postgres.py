"""PostgreSQL as a warehouse: its statements without a server, and all it promises with one, where one is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bench import postgres as server
from bench.servers import Missing
from grafctl.errors import Busy, ExternalFailed, InvalidConfig
from grafctl.pipeline.declaring_names import EFFECTS_TABLE
from grafctl.pipeline.message import Message
from grafctl.pipeline.model import DeclaredSink
from grafctl.pipeline.sinks.opening import open_sink
from grafctl.pipeline.sinks.postgres import PostgresSink, Statements
from pipeline.warehouses import FILE, declare_sink, row

VARIABLE = "WAREHOUSE_OF_A_TEST"
ROOT = Path(__file__).resolve().parents[2]


def declare(**other: Any) -> DeclaredSink:
    return declare_sink("postgres", None, **{"variable": VARIABLE} | other)


def opened(wait_s: float = 5.0, **other: Any) -> PostgresSink:
    found = open_sink(declare(**other), FILE, wait_s=wait_s)
    assert isinstance(found, PostgresSink)
    return found


def sentence(error: InvalidConfig) -> str:
    return str(error.fields["problems"][0]["message"])


# --- without a server


def test_statements_quote_every_name_and_give_every_list_its_type() -> None:
    columns = {'a"b': "x", "c%s": "x", "j": "x", "at": "x"}
    found = Statements(
        declare(table='raw.o"%', columns=columns, types={"c%s": "integer", "j": "json", "at": "timestamp"})
    )
    assert found.table == '"raw"."o""%"'
    assert found.create == (
        'CREATE TABLE "raw"."o""%" ("a""b" text, "c%s" bigint, "j" jsonb, "at" timestamp with time zone)'
    )
    assert found.insert == (
        'INSERT INTO "raw"."o""%%" ("a""b", "c%%s", "j", "at") SELECT f0, f1, f2::jsonb, f3 '
        "FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::timestamp with time zone[]) AS rows (f0, f1, f2, f3)"
    )


@pytest.mark.parametrize("name", ["x" * 64, "é" * 32])
def test_a_name_that_postgresql_would_cut_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(VARIABLE, "host=/absent")
    for other in ({"table": name}, {"columns": {name: "number"}, "types": {}}):
        with pytest.raises(InvalidConfig) as caught:
            opened(**other)
        assert "more than 63 bytes" in sentence(caught.value)


@pytest.mark.parametrize(
    "text", ["nonsense secret-word", "host=x secret-word", "postgresql://[secret-word", "a='secret-word", ""]
)
def test_a_connection_string_is_in_no_message(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(InvalidConfig) as caught:
        opened()
    assert VARIABLE in sentence(caught.value) and "secret-word" not in str(caught.value.as_json())
    assert caught.value.__cause__ is None and (caught.value.__suppress_context__ or not text)


def test_a_variable_that_is_not_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(InvalidConfig) as caught:
        opened()
    assert f"the environment variable {VARIABLE} with its connection string is not set" in sentence(caught.value)


def test_a_server_that_is_not_there_is_told_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"host={tmp_path} user=u password=secret-word connect_timeout=2")
    with pytest.raises(ExternalFailed, match="PostgreSQL fails") as caught:
        opened()
    assert "secret-word" not in str(caught.value.as_json()) and caught.value.exit_code == 26


# --- with a server


@pytest.fixture(scope="module")
def socket() -> Iterator[Path]:
    """A server for this file; its directory is a short one, because that of a socket has to be."""
    with tempfile.TemporaryDirectory(prefix="pg") as directory:
        try:
            with server.serving(Path(directory) / "s", "-c", "synchronous_commit=off") as found:
                yield found
        except Missing as error:
            pytest.skip(f"there is no PostgreSQL to try: {error}")


@pytest.fixture
def warehouse(socket: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection[Any]]:
    """A session of the owner of an empty schema, and the variable with the way there."""
    with psycopg.connect(host=str(socket), user=server.USER, dbname=server.DATABASE, autocommit=True) as session:
        session.execute("DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public")
        monkeypatch.setenv(VARIABLE, f"host={socket} user={server.USER} dbname={server.DATABASE}")
        yield session


def held(session: psycopg.Connection[Any], statement: str = "SELECT number, name FROM orders ORDER BY 1") -> list[Any]:
    return session.execute(statement.encode()).fetchall()


def test_rows_are_written_once_however_often_they_are_given(warehouse: psycopg.Connection[Any]) -> None:
    for again in range(2):
        sink = opened()
        rows = [row(sink, number) for number in range(5)]
        assert sink.commit(rows[:3]) == ((0, 3, []) if again else (3, 0, []))
        written = sink.commit([*rows, row(sink, 1, "other"), rows[4]])
        assert (written.written, written.replayed) == ((0, 6) if again else (2, 4))
        assert [at for at, _ in written.conflicts] == [5] and sink.commit([]) == (0, 0, [])
        sink.close()
    assert held(warehouse) == [(number, f"name {number}") for number in range(5)]


def test_types_come_back_as_they_were(warehouse: psycopg.Connection[Any]) -> None:
    types = {"i": "integer", "r": "real", "b": "boolean", "t": "text", "j": "json", "at": "timestamp"}
    record = {
        "i": -(2**63),
        "r": 0.1,
        "b": True,
        "t": "é'\"%s\\",
        "j": {"x": [2**70, None, "\\u0000"]},
        "at": "2024-05-31",
    }
    sink = opened(columns={name: name for name in types}, types=types, key="k")
    rows = [sink.make_row(Message(record | {"k": 1})), sink.make_row(Message(dict.fromkeys(record) | {"k": 2}))]
    assert sink.commit(rows).written == 2 and sink.commit(rows[1:]).replayed == 1
    sink.close()
    full, null = held(warehouse, 'SELECT i, r, b, t, j, "at" FROM orders ORDER BY i NULLS LAST')
    assert full == (*list(record.values())[:5], datetime(2024, 5, 31, tzinfo=UTC)) and null == (None,) * 6


def test_hostile_names_are_quoted(warehouse: psycopg.Connection[Any]) -> None:
    hostile = 'x"; DROP TABLE mine; --'
    warehouse.execute("CREATE TABLE mine (a int)")
    for _ in range(2):
        sink = opened(table=hostile, columns={hostile: "name", "a%sb": "number"}, types={"a%sb": "integer"})
        sink.commit([row(sink, 1)])
        sink.close()
    assert held(warehouse, 'SELECT * FROM "x""; DROP TABLE mine; --"') == [("name 1", 1)]
    assert held(warehouse, "SELECT * FROM mine") == []


@pytest.mark.parametrize(
    ("created", "why"),
    [
        ("number bigint", "'name' is missing"),
        ("number bigint, name text, extra text", "'extra' is there and not declared"),
        ("number smallint, name text", "'number' is smallint and declared as integer"),
        ("number bigint, name varchar(10)", "'name' is character varying(10) and declared as text"),
        ('number bigint, "Name" text', "'Name' is there and not declared"),
    ],
)
def test_a_table_with_other_columns_is_refused_and_left_alone(
    warehouse: psycopg.Connection[Any], created: str, why: str
) -> None:
    warehouse.execute(f"CREATE TABLE orders ({created})".encode())
    with pytest.raises(InvalidConfig) as caught:
        opened()
    assert why in sentence(caught.value)
    assert held(warehouse, f"SELECT to_regclass('{EFFECTS_TABLE}')") == [(None,)]


def test_a_row_that_the_table_refuses_is_told_and_its_effect_is_not_there(warehouse: psycopg.Connection[Any]) -> None:
    warehouse.execute("CREATE TABLE orders (number numeric CHECK (number < 3), name varchar UNIQUE)")
    sink = opened()
    written = sink.commit([row(sink, 1), row(sink, 3), row(sink, 2), row(sink, 0, "name 2")])
    assert written[:2] == (2, 0) and [at for at, _ in written.conflicts] == [1, 3]
    assert all("name 2" not in why for _, why in written.conflicts)
    assert sink.commit([row(sink, 0)]).written == 1
    sink.close()
    assert len(held(warehouse, f"SELECT effect FROM {EFFECTS_TABLE}")) == 3


def test_a_lock_that_is_held_is_busy_after_a_while(warehouse: psycopg.Connection[Any]) -> None:
    sink = opened(wait_s=0.2)
    with warehouse.transaction():
        warehouse.execute("LOCK TABLE orders IN EXCLUSIVE MODE")
        with pytest.raises(Busy):
            sink.commit([row(sink, 1)])
    assert sink.commit([row(sink, 1)]).written == 1
    sink.close()


def test_a_commit_is_durable_though_the_server_says_it_need_not_be(warehouse: psycopg.Connection[Any]) -> None:
    assert held(warehouse, "SHOW synchronous_commit") == [("off",)]
    sink = opened()
    assert held(sink._connection, "SHOW synchronous_commit") == [("on",)]
    sink.close()


def test_a_lost_connection_is_an_error_and_the_next_commit_makes_another(warehouse: psycopg.Connection[Any]) -> None:
    sink = opened()
    sink.commit([row(sink, 1)])
    pid = sink._connection.info.backend_pid
    warehouse.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
    with pytest.raises(ExternalFailed):
        sink.commit([row(sink, 1), row(sink, 2)])
    assert sink.commit([row(sink, 1), row(sink, 2)]) == (1, 1, [])
    sink.close()
    assert held(warehouse) == [(1, "name 1"), (2, "name 2")]


def test_keys_are_taken_in_one_order_so_that_no_two_batches_wait_for_each_other(
    warehouse: psycopg.Connection[Any], socket: Path
) -> None:
    """Another batch has taken the first key and takes the second: one that began with the second would block it."""
    sink = opened()
    add = f"INSERT INTO {EFFECTS_TABLE} VALUES (%s, '')".encode()
    waiting = b"SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    found: list[int] = []
    with psycopg.connect(host=str(socket), user=server.USER, dbname=server.DATABASE) as other:
        other.execute(add, ["orders/1"])
        rows = [row(sink, 2), row(sink, 1)]
        thread = threading.Thread(target=lambda: found.append(sink.commit(rows).written))
        thread.start()
        while warehouse.execute(waiting, [sink._connection.info.backend_pid]).fetchone() != (1,):
            pass
        other.execute(b"SET lock_timeout = 500")
        other.execute(add, ["orders/2"])
        other.rollback()
    thread.join(60)
    sink.close()
    assert found == [2]


def test_sinks_that_begin_and_write_the_same_rows_at_once_write_each_once(warehouse: psycopg.Connection[Any]) -> None:
    written, failed = [], []

    def write(step: int) -> None:
        try:
            sink = opened()
            for start in range(0, 400, 100):
                numbers = [start + (at * step) % 100 for at in range(100)]
                written.append(sink.commit([row(sink, number) for number in numbers]).written)
            sink.close()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(step,)) for step in (1, 99, 7, 41)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == [] and sum(written) == 400
    assert held(warehouse) == [(number, f"name {number}") for number in range(400)]


WRITER = """
from pipeline.test_postgres import opened, row
sink = opened()
for start in range(0, 2000, 20):
    sink.commit([row(sink, number) for number in range(start, start + 20)])
    print(start + 20, flush=True)
"""


def test_a_sink_killed_at_any_moment_loses_no_row_and_writes_none_twice(warehouse: psycopg.Connection[Any]) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    told = 0
    for commits in (3, 8, 20, 45, 80, 100):
        with subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE, env=environment) as child:
            assert child.stdout is not None
            for _ in range(commits):
                told = max(told, int(child.stdout.readline()))
            child.kill()
            told = max([told, *map(int, child.stdout.read().split())])
        assert held(warehouse, "SELECT count(DISTINCT number) FROM orders")[0][0] >= told
    assert held(warehouse) == [(number, f"name {number}") for number in range(2000)]
