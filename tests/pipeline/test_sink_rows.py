"""Rows of sinks: effect keys, fingerprints, and values that a column takes exactly or not at all."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.pipeline.message import Message, Refused
from grafctl.pipeline.sinks.columns import take_for
from grafctl.pipeline.sinks.row import Row, divide
from grafctl.pipeline.sinks.rows import RowMaker
from pipeline.warehouses import declare_sink

SQL = ("sqlite", "duckdb", "postgres")
INSTANT = datetime(2024, 5, 31, 10, 0, 0, 120000, tzinfo=UTC)


def maker(kind: str = "sqlite", **other: Any) -> RowMaker:
    return RowMaker(declare_sink(kind, Path("x"), **other))


def one(value: Any, type_name: str, kind: str = "sqlite") -> Any:
    """Returns what a column of this type stores for a value."""
    row = maker(kind, key='"k"', columns={"c": "value"}, types={"c": type_name})(Message({"value": value}))
    return row.values[0]


# --- effect keys


@pytest.mark.parametrize(
    ("key", "effect"),
    [
        ('"warehouse://orders/" + tenant + "/" + _id', "warehouse://orders/acme/é-1"),
        ("number", "17"),
        ('_key + "/" + text(_offset) + _headers["type"]', "k/5t"),
    ],
)
def test_an_effect_key_is_what_the_expression_gives(key: str, effect: str) -> None:
    message = Message({"tenant": "acme", "number": 17, "name": "n"}, "é-1", "k", {"type": "t"}, 5)
    assert maker(key=key)(message).effect == effect


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("absent", "The effect key cannot be had: There is no field 'absent'."),
        ("_id", "The effect key is null"),
        ("fraction", "The effect key is a fraction"),
        ('""', "The effect key is empty"),
        ("long", "at most 1,024"),
        ("wide", "at most 1,024"),
        ("nul", "NUL"),
        ("half", "half a surrogate pair"),
    ],
)
def test_a_key_that_is_none_refuses_the_record(key: str, why: str) -> None:
    value = {"number": 1, "name": "n", "fraction": 0.5, "long": "x" * 1025, "wide": "é" * 513, "nul": "a\0b"}
    with pytest.raises(Refused, match=why):
        maker(key=key)(Message(value | {"half": "\ud800"}))


def test_a_key_may_be_as_long_as_the_limit_says() -> None:
    assert maker(key="k")(Message({"number": 1, "name": "n", "k": "é" * 512})).effect == "é" * 512


# --- fingerprints


def test_the_same_record_gives_the_same_row_and_any_change_another_fingerprint() -> None:
    message = Message({"number": 1, "name": "n", "other": "n"})
    row = maker()(message)
    assert row == maker()(message) and len(row.fingerprint) == 32
    changed = [
        maker(columns={"number": "number", "name": 'name + "!"'}),
        maker(columns={"number": "number", "label": "name"}),
        maker(columns={"name": "name", "number": "number"}),
        maker(columns={"number": "number"}),
        maker(types={"number": "real"}),
        maker(table="orders2"),
        maker("duckdb"),
    ]
    prints = [make(message).fingerprint for make in changed]
    prints.append(maker()(Message({"number": 2, "name": "n"})).fingerprint)
    assert len({row.fingerprint, *prints}) == len(prints) + 1
    assert maker(columns={"number": "number", "name": "other"})(message) == row


def test_a_resource_s_row_is_the_record() -> None:
    make = maker("resource", columns={}, types={}, table=None, resource="out", key="_id")
    assert make(Message([1, {"a": None}], "x"))[::2] == ("x", ([1, {"a": None}],))


# --- values


@pytest.mark.parametrize("kind", SQL)
@pytest.mark.parametrize(
    ("type_name", "value", "stored"),
    [
        ("integer", 2**63 - 1, 2**63 - 1),
        ("integer", -(2**63), -(2**63)),
        ("real", 1.5, 1.5),
        ("real", 2**53, 2.0**53),
        ("real", 2**60, 2.0**60),
        ("boolean", True, True),
        ("text", "é\n", "é\n"),
        ("json", {"b": [1, 2**70, 0.1], "a": "é"}, '{"a":"é","b":[1,1180591620717411303424,0.1]}'),
        ("json", "text", '"text"'),
        ("json", "\\u0000", '"\\\\u0000"'),
        *[(type_name, None, None) for type_name in ("integer", "real", "boolean", "text", "json", "timestamp")],
    ],
)
def test_a_value_is_stored_as_it_is(kind: str, type_name: str, value: Any, stored: Any) -> None:
    found = one(value, type_name, kind)
    assert found == stored and type(found) is type(stored)


@pytest.mark.parametrize("kind", SQL)
@pytest.mark.parametrize(
    ("type_name", "value", "why"),
    [
        ("integer", 2**63, "an integer of more than 64 bits"),
        ("integer", -(2**63) - 1, "an integer of more than 64 bits"),
        ("integer", 1.0, "a fraction, not an integer"),
        ("integer", "1", "text, not an integer"),
        ("integer", True, "a boolean, not an integer"),
        ("real", 2**53 + 1, "no double holds"),
        ("real", 10**400, "no double holds"),
        ("real", float("inf"), "not a finite number"),
        ("real", float("nan"), "not a finite number"),
        ("real", "1.5", "text, not a fraction"),
        ("real", False, "a boolean, not a fraction"),
        ("boolean", 1, "an integer, not a boolean"),
        ("text", 1, "an integer, not text"),
        ("text", ["x"], "a list, not text"),
        ("text", "\ud800", "half a surrogate pair"),
        ("json", {"a": "\ud800"}, "half a surrogate pair"),
        ("json", [float("nan")], "what JSON cannot"),
        ("timestamp", "yesterday", "no timestamp"),
        ("timestamp", "2024-02-30", "no timestamp"),
        ("timestamp", "2024-05-31T12:00:00.0000001Z", "at most with microseconds"),
        ("timestamp", "0001-01-01T00:00:00+10:00", "no timestamp"),
        ("timestamp", 1717149600, "an integer, not text with a timestamp"),
    ],
)
def test_a_value_that_does_not_fit_refuses_the_record_without_showing_it(
    kind: str, type_name: str, value: Any, why: str
) -> None:
    with pytest.raises(Refused, match=why) as caught:
        one(value, type_name, kind)
    assert "'c'" in str(caught.value) and "1717149600" not in str(caught.value)


def test_a_column_without_a_type_says_how_to_declare_one() -> None:
    with pytest.raises(Refused, match=r'types\.number = "integer"'):
        maker(types={})(Message({"number": 1, "name": "n"}))


@pytest.mark.parametrize(
    "text", ["2024-05-31T10:00:00.12Z", "2024-05-31 12:00:00.120000+02:00", "2024-05-31T10:00:00.120"]
)
def test_a_timestamp_is_kept_in_utc(text: str) -> None:
    assert one(text, "timestamp") == "2024-05-31T10:00:00.120000Z"
    assert one(text, "timestamp", "duckdb") == one(text, "timestamp", "postgres") == INSTANT


def test_a_day_is_its_midnight() -> None:
    assert one("1996-01-02", "timestamp") == "1996-01-02T00:00:00.000000Z"


@pytest.mark.parametrize(("type_name", "value"), [("text", "a\0b"), ("json", {"a": ["\0"]}), ("json", "\\\0")])
def test_nul_is_refused_where_postgresql_has_none(type_name: str, value: Any) -> None:
    with pytest.raises(Refused, match="NUL"):
        one(value, type_name, "postgres")
    assert one(value, type_name, "sqlite") is not None


def test_a_line_takes_any_value() -> None:
    make = maker("jsonl", columns={"v": "v"}, key='"k"')
    good: tuple[Any, ...] = (2**70, 0.5, True, None, "a\0", {"a": [1]})
    for value in good:
        assert make(Message({"v": value})).values == (value,)
    bad: tuple[Any, ...] = (float("nan"), "\ud800", {"a": object()})
    for value in bad:
        with pytest.raises(Refused, match="JSON cannot"):
            make(Message({"v": value}))


@given(st.integers())
def test_an_integer_is_stored_exactly_or_refused(value: int) -> None:
    for type_name in ("integer", "real"):
        try:
            assert take_for(type_name, "sqlite")(value) == value
        except ValueError:
            assert abs(value) > 2**53


# --- what is there already


def test_a_batch_is_parted_by_what_is_there_and_by_what_came_before_in_it() -> None:
    def made(effect: str, mark: int) -> Row:
        return Row(effect, bytes([mark]), ())

    rows = [made("a", 1), made("b", 1), made("c", 1), made("b", 1), made("b", 2), made("d", 1), made("c", 2)]
    found = divide(rows, {"a": b"\x01", "d": b"\x02", "x": b"\x07"})
    assert [(at, row.effect) for at, row in found.new] == [(1, "b"), (2, "c")]
    assert found.replayed == 2
    assert [at for at, _ in found.conflicts] == [4, 5, 6]
    assert found.conflicts[0][1].endswith("fingerprint 01 there, 02 here.")
