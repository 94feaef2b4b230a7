"""What every warehouse that is a file promises: each effect once, whole or not at all, and nothing altered."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from grafctl.errors import Busy, Corrupt, GrafctlError, Internal, InvalidConfig, StoreFull
from grafctl.pipeline.declaring_names import EFFECTS_TABLE
from grafctl.pipeline.message import Message
from grafctl.pipeline.sinks.opening import open_sink
from pipeline.warehouses import FILE, KINDS, declare_sink, held, open_at, row

TABLES = ("sqlite", "duckdb")
every = pytest.mark.parametrize("kind", KINDS)
tables = pytest.mark.parametrize("kind", TABLES)


def sentence(error: GrafctlError) -> str:
    return error.fields["problems"][0]["message"]


@every
def test_rows_are_written_once_however_often_they_are_given(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w"
    for again in range(2):
        sink = open_at(kind, path)
        rows = [row(sink, number) for number in range(5)]
        assert sink.commit(rows[:3]) == ((0, 3, []) if again else (3, 0, []))
        assert sink.commit(rows) == ((0, 5, []) if again else (2, 3, []))
        assert sink.commit([]) == (0, 0, [])
        sink.close()
    assert held(kind, path) == [(number, f"name {number}") for number in range(5)]


@every
def test_another_row_under_a_key_is_a_conflict_and_the_others_are_written(tmp_path: Path, kind: str) -> None:
    sink = open_at(kind, tmp_path / "w")
    sink.commit([row(sink, 1)])
    written = sink.commit([row(sink, 2), row(sink, 1, "other"), row(sink, 3), row(sink, 3), row(sink, 3, "other")])
    assert written[:2] == (2, 1)
    assert [at for at, _ in written.conflicts] == [1, 4]
    assert all("name" not in why and "fingerprint" in why for _, why in written.conflicts)
    sink.close()
    assert held(kind, tmp_path / "w") == [(1, "name 1"), (2, "name 2"), (3, "name 3")]


@every
def test_a_changed_declaration_is_a_conflict_and_not_a_second_row(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w"
    sink = open_at(kind, path)
    sink.commit([row(sink, 1)])
    sink.close()
    sink = open_at(kind, path, columns={"number": "number", "name": 'name + "!"'})
    assert [at for at, _ in sink.commit([row(sink, 1)]).conflicts] == [0]
    sink.close()
    assert held(kind, path) == [(1, "name 1")]


@every
def test_types_come_back_as_they_were(tmp_path: Path, kind: str) -> None:
    types = {"i": "integer", "r": "real", "b": "boolean", "t": "text", "j": "json", "at": "timestamp"}
    record = {
        "i": -(2**63), "r": 0.1, "b": True, "t": "a\0é'\"", "j": {"x": [1, None]}, "at": "2024-05-31T10:00:00Z",
    }  # fmt: skip
    empty = dict.fromkeys(record)
    sink = open_at(kind, tmp_path / "w", columns={name: name for name in types}, types=types, key="k")
    sink.commit([sink.make_row(Message(record | {"k": 1})), sink.make_row(Message(empty | {"k": 2}))])
    sink.close()
    at = 'epoch("at")' if kind == "duckdb" else '"at"'  # whose Python makes a moment only with another library
    found = held(kind, tmp_path / "w", f"i, r, b, t, j, {at}")
    full, null = sorted(found, key=lambda values: values[0] is None)
    assert null == (None,) * 6
    assert full[:4] == (-(2**63), 0.1, True, "a\0é'\"")
    assert full[4] == (record["j"] if kind == "jsonl" else '{"x":[1,null]}')
    assert full[5] == 1717149600 if kind == "duckdb" else str(full[5]).startswith("2024-05-31T10:00:00")


HOSTILE = 'x"; DROP TABLE orders; --'


@tables
def test_names_are_quoted(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w"
    columns = {HOSTILE: "number", "select": "name", "a%s'b": "name", "ünï": "name"}
    sink = open_at(kind, path, table=f"order {HOSTILE}", columns=columns, types={HOSTILE: "integer"})
    sink.commit([row(sink, 1)])
    sink.close()
    quoted = f'"order {HOSTILE}"'.replace('x"', 'x""')
    assert held(kind, path, "*", quoted) == [(1, "name 1", "name 1", "name 1")]
    open_at(kind, path, table=f"order {HOSTILE}", columns=columns, types={HOSTILE: "integer"}).close()


@every
@pytest.mark.parametrize(
    ("columns", "table", "why"),
    [
        ({"": "number"}, "t", "name of a column is empty"),
        ({"a\0": "number"}, "t", "is no name for a column"),
        ({"\ud800": "number"}, "t", "is no name for a column"),
        ({"x" * 256: "number"}, "t", "more than 255 bytes"),
        ({"a": "number", "A": "number"}, "t", "are one to a warehouse"),
        ({}, "t", "it has 0 columns"),
        ({f"c{at}": "number" for at in range(501)}, "t", "it has 501 columns"),
        ({"a": "number"}, "", "name of a table is empty"),
        ({"a": "number"}, "x.", "name of a table is empty"),
        ({"a": "number"}, "Grafctl_Effects", "holds the effect keys"),
    ],
)
def test_names_that_cannot_be_are_refused_before_anything_is_made(
    tmp_path: Path, kind: str, columns: dict[str, str], table: str, why: str
) -> None:
    if kind == "jsonl" and "table" in why + table.lower() + ("table" if "effect" in why else ""):
        table = "t"
        columns, why = {"_effect": "number"}, "the column _effect holds the effect key"
    with pytest.raises(InvalidConfig) as caught:
        open_at(kind, tmp_path / "w", columns=columns, table=None if kind == "jsonl" else table, types={})
    assert why in sentence(caught.value) and caught.value.fields["problems"][0]["line"] == 7
    assert os.listdir(tmp_path) == []


@tables
@pytest.mark.parametrize(
    ("created", "why"),
    [
        ("number BIGINT", "'name' is missing"),
        ("number BIGINT, name TEXT, extra TEXT", "'extra' is there and not declared"),
        ("number TEXT, name TEXT", "'number' is"),
        ("number BIGINT, name BIGINT", "'name' is"),
        ("id BIGINT", "'number' is missing; 'name' is missing; 'id' is there and not declared"),
    ],
)
def test_a_table_with_other_columns_is_refused_and_left_alone(
    tmp_path: Path, kind: str, created: str, why: str
) -> None:
    path = tmp_path / "w"
    make(kind, path, f"CREATE TABLE orders ({created})")
    with pytest.raises(InvalidConfig) as caught:
        open_at(kind, path)
    assert why in sentence(caught.value) and "the table 'orders' is there with other columns" in sentence(caught.value)
    assert held(kind, path, "*") == []


@tables
def test_a_table_that_fits_is_written_to_as_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w"
    make(kind, path, "CREATE TABLE orders (name VARCHAR, Number BIGINT)", "INSERT INTO orders VALUES ('old', 0)")
    sink = open_at(kind, path)
    assert sink.commit([row(sink, 1)]).written == 1
    sink.close()
    assert held(kind, path) == [(0, "old"), (1, "name 1")]


@tables
def test_a_row_that_the_table_refuses_is_told_and_its_effect_is_not_there(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w"
    make(kind, path, "CREATE TABLE orders (number BIGINT CHECK (number < 3), name TEXT UNIQUE)")
    sink = open_at(kind, path)
    written = sink.commit([row(sink, 1), row(sink, 3), row(sink, 2), row(sink, 0, "name 2")])
    assert written[:2] == (2, 0)
    assert [at for at, _ in written.conflicts] == [1, 3]
    assert all("The table refuses the row" in why and "name 2" not in why for _, why in written.conflicts)
    again = sink.commit([row(sink, 0), row(sink, 3)])
    assert (again.written, [at for at, _ in again.conflicts]) == (1, [1])
    sink.close()
    assert held(kind, path) == [(0, "name 0"), (1, "name 1"), (2, "name 2")]
    assert len(held(kind, path, "effect", EFFECTS_TABLE)) == 3


def make(kind: str, path: Path, *statements: str) -> None:
    """Prepares a warehouse as its owner would."""
    connection = duckdb.connect(str(path)) if kind == "duckdb" else sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


HOLDER = {
    "sqlite": "import sqlite3; c = sqlite3.connect({!r}); c.execute('BEGIN IMMEDIATE')",
    "jsonl": "import sqlite3; c = sqlite3.connect({!r} + '.effects'); c.execute('BEGIN IMMEDIATE')",
    "duckdb": "import duckdb; c = duckdb.connect({!r})",
}


@every
def test_a_warehouse_that_somebody_else_writes_to_is_busy_after_a_while(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w"
    sink = open_at(kind, path)
    if kind == "duckdb":
        sink.close()
    command = HOLDER[kind].format(str(path)) + "; print('held', flush=True); input()"
    holder = subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(Busy) as caught:
            open_at(kind, path) if kind == "duckdb" else sink.commit([row(sink, 1)])
        assert caught.value.exit_code == 22
    if kind == "duckdb":
        sink = open_at(kind, path)
    assert sink.commit([row(sink, 1)]).written == 1
    sink.close()


@every
@pytest.mark.parametrize("text", [b"no database\n" * 1000, b"SQLite format 3\0" + bytes(5000)])
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path, kind: str, text: bytes) -> None:
    path = tmp_path / "w"
    path.write_bytes(text)
    with pytest.raises((Corrupt, InvalidConfig)):
        open_at(kind, path)
    assert path.read_bytes() == text


@every
@pytest.mark.parametrize("place", ["absent/w", ".", "a\0b"])
def test_a_path_that_is_no_place_for_a_file_is_refused(tmp_path: Path, kind: str, place: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        open_at(kind, tmp_path / place)
    assert sentence(caught.value).startswith("Sink 'rows': ")
    with pytest.raises(InvalidConfig):
        open_at(kind, Path("-"))
    assert os.listdir(tmp_path) == []


FULL = """
import resource, signal, sys
from pathlib import Path
from pipeline.warehouses import open_at, row
from grafctl.errors import StoreFull
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
kind, path = sys.argv[1], Path(sys.argv[2])
sink = open_at(kind, path)
assert sink.commit([row(sink, number) for number in range(10)]).written == 10
resource.setrlimit(resource.RLIMIT_FSIZE, (%d, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    sink.commit([row(sink, number, "x" * 1000) for number in range(10, 3000)])
except StoreFull as error:
    print(error.exit_code)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
print(sink.commit([row(sink, number) for number in range(5, 15)]))
sink.close()
"""


def test_a_full_disk_writes_nothing_and_the_same_sink_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """A limit on the size of a file is what a full disk looks like; SQLite takes it for another error."""
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root}:{root / 'tests'}"}
    command = [sys.executable, "-c", FULL % 100_000, "jsonl", str(tmp_path / "w")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout == "23\nWritten(written=5, replayed=5, conflicts=[])\n", done.stderr
    assert held("jsonl", tmp_path / "w") == [(number, f"name {number}") for number in range(15)]


def test_a_full_sqlite_file_is_store_full_and_written_to_again_when_there_is_room(tmp_path: Path) -> None:
    sink = open_at("sqlite", tmp_path / "w")
    sink.commit([row(sink, 0)])
    connection = sink._file.connection  # type: ignore[attr-defined]
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreFull):
        sink.commit([row(sink, number, "x" * 1000) for number in range(1, 100)])
    connection.execute("PRAGMA max_page_count=100000")
    assert sink.commit([row(sink, 0), row(sink, 1)]) == (1, 1, [])
    sink.close()
    assert held("sqlite", tmp_path / "w") == [(0, "name 0"), (1, "name 1")]


def test_a_missing_library_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, module in (("duckdb", "duckdb"), ("postgres", "psycopg")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(InvalidConfig) as caught:
            open_at(kind, tmp_path / "w")
        assert f"pip install 'grafctl[{kind}]'" in sentence(caught.value) and caught.value.exit_code == 78


def test_a_new_sqlite_file_is_in_wal_mode_and_one_that_is_there_keeps_its_own(tmp_path: Path) -> None:
    make("sqlite", tmp_path / "old", "CREATE TABLE mine (a)")
    for name, mode in (("new", "wal"), ("old", "delete")):
        sink = open_at("sqlite", tmp_path / name)
        connection = sink._file.connection  # type: ignore[attr-defined]
        assert connection.execute("PRAGMA journal_mode").fetchone() == (mode,)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        sink.close()


def test_duckdb_fetches_nothing_from_the_network(tmp_path: Path) -> None:
    sink = open_at("duckdb", tmp_path / "w")
    for setting in ("autoinstall_known_extensions", "autoload_known_extensions"):
        found = sink._connection.execute(f"SELECT current_setting('{setting}')")  # type: ignore[attr-defined]
        assert found.fetchone() == (False,)
    sink.close()


def test_a_resource_is_no_warehouse() -> None:
    with pytest.raises(Internal):
        open_sink(declare_sink("resource", None, resource="out"), FILE)
