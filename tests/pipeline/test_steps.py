"""The declarative steps: what each makes of a record, and why each refuses one, word for word."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import Usage
from grafctl.pipeline.message import Message, Output, Refused
from pipeline.transforming import outputs, transform, values

ORDER: dict[str, Any] = {
    "id": 7,
    "total": "173.50",
    "customer": {"name": "Ada", "city": "Paris", "address": {"zip": "75001", "street": "Rue"}},
    "lines": [{"sku": "a", "price": 1.25}, {"sku": "b", "price": 2.5}],
    "note": None,
}

GOOD: list[tuple[dict[str, Any], Any]] = [
    ({"op": "keep", "fields": ["total", "id", "nothing"]}, {"total": "173.50", "id": 7}),
    (
        {"op": "keep", "fields": ["customer.name", "customer.address.zip", "id", "total.x", "lines.0"]},
        {"customer": {"name": "Ada", "address": {"zip": "75001"}}, "id": 7},
    ),
    ({"op": "keep", "fields": ["note"]}, {"note": None}),
    ({"op": "drop", "fields": ["customer", "lines", "nothing"]}, {"id": 7, "total": "173.50", "note": None}),
    ({"op": "rename", "fields": {"id": "total", "total": "id"}}, ORDER | {"id": "173.50", "total": 7}),
    ({"op": "rename", "fields": {"nothing": "something"}}, ORDER),
    ({"op": "cast", "fields": {"total": "decimal:2"}}, ORDER | {"total": 17350}),
    ({"op": "cast", "fields": {"note": "int", "nothing": "int", "total.x": "int"}}, ORDER),
    ({"op": "set", "fields": {"total": "id", "id": "total"}}, ORDER | {"id": "173.50", "total": 7}),
    (
        {"op": "set", "fields": {"lines": "len(lines)", "new.a.b": "_offset"}},
        ORDER | {"lines": 2, "new": {"a": {"b": 4}}},
    ),
    ({"op": "set", "fields": {"_value": '{"all": _value}'}}, {"all": ORDER}),
    ({"op": "set", "fields": {"a\\.b": "1"}}, ORDER | {"a.b": 1}),
    (
        {"op": "lookup", "field": "customer.city", "into": "country", "table": {"Paris": "FR"}},
        ORDER | {"country": "FR"},
    ),
    ({"op": "lookup", "field": "id", "into": "id", "table": {"7": [1, 2]}}, ORDER | {"id": [1, 2]}),
    ({"op": "lookup", "field": "nothing", "into": "x.y", "table": {}, "default": 0}, ORDER | {"x": {"y": 0}}),
    ({"op": "lookup", "field": "note", "into": "note", "table": {}, "default": "none"}, ORDER | {"note": "none"}),
    ({"op": "filter", "when": "id > 5"}, ORDER),
]


@pytest.mark.parametrize(("step", "expected"), GOOD)
def test_a_step_makes_this_of_a_record_and_leaves_the_record_alone(step: dict[str, Any], expected: Any) -> None:
    before = copy.deepcopy(ORDER)
    (made,) = values(ORDER, step, offset=4)
    assert json.dumps(made, sort_keys=True) == json.dumps(expected, sort_keys=True)
    assert before == ORDER


def test_keep_and_drop_reach_below() -> None:
    (made,) = values(
        ORDER, {"op": "drop", "fields": ["lines.*.price", "customer.address", "id.x", "lines.0", "lines.9.a"]}
    )
    assert made == ORDER | {"lines": [{"sku": "a"}, {"sku": "b"}], "customer": {"name": "Ada", "city": "Paris"}}
    assert list(values(ORDER, {"op": "keep", "fields": ["total", "id"]})[0]) == ["total", "id"]


def test_rename_moves_between_objects_and_refuses_a_name_that_is_taken() -> None:
    (made,) = values(ORDER, {"op": "rename", "fields": {"customer.name": "name", "id": "customer.id", "x.y": "z"}})
    assert made["name"] == "Ada" and made["customer"]["id"] == 7
    assert "id" not in made and "name" not in made["customer"]
    with pytest.raises(Refused, match=r"^Step 1 \(rename\): there is a field 'total' already\.$"):
        values(ORDER, {"op": "rename", "fields": {"id": "total"}})
    with pytest.raises(Refused, match=r"^Step 1 \(rename\): there is a field 'customer\.city' already\.$"):
        values(ORDER, {"op": "rename", "fields": {"id": "customer.city"}})
    assert values({"id": 1}, {"op": "rename", "fields": {"id": "total"}}) == [{"total": 1}]


def test_fields_that_hold_one_value_do_not_change_with_each_other() -> None:
    (made,) = values(
        ORDER,
        {"op": "set", "fields": {"copy": "customer", "whole": "_value"}},
        {"op": "set", "fields": {"copy.name": '"Bob"', "lines.1.sku": '"z"'}},
        {"op": "drop", "fields": ["whole.id"]},
        {"op": "cast", "fields": {"whole.lines.*.price": "text"}},
    )
    assert made["customer"]["name"] == "Ada" and made["copy"]["name"] == "Bob"
    assert [line["price"] for line in made["lines"]] == [1.25, 2.5] and made["lines"][1]["sku"] == "z"
    assert made["whole"]["lines"] == [{"sku": "a", "price": "1.25"}, {"sku": "b", "price": "2.5"}]
    assert made["id"] == 7 and "id" not in made["whole"] and "copy" not in made["whole"]


@pytest.mark.parametrize("fields", [{"whole": "_value"}, {"whole": "_value", "n": "2"}])
def test_a_record_that_is_set_into_itself_is_what_it_was_before(fields: dict[str, str]) -> None:
    (made,) = values({"a": 1}, {"op": "set", "fields": {"n": "1"}}, {"op": "set", "fields": fields})
    assert made == {"a": 1, "n": int(fields.get("n", "1")), "whole": {"a": 1, "n": 1}}


def test_key_id_and_headers_go_on_or_are_set() -> None:
    about: dict[str, Any] = {"id": "i", "key": "k", "headers": {"type": "order", "a": "1"}, "offset": 3}
    assert outputs(ORDER, **about) == [Output(ORDER, None, "k", None, {"type": "order", "a": "1"})]
    fields = {
        "_key": 'customer["city"]',
        "_id": '_id + "/" + text(_offset)',
        "_headers.type": '_headers["a"]',
        "_headers.a": "null",
    }
    (made,) = outputs(ORDER, {"op": "set", "fields": fields}, **about)
    assert made == Output(ORDER, None, "Paris", "i/3", {"type": "1"})
    with pytest.raises(Refused, match=r"^Step 1 \(set\): _key has to be text, and is an integer\.$"):
        outputs(ORDER, {"op": "set", "fields": {"_key": "id"}})


def test_explode_makes_a_record_of_each_item() -> None:
    step = {"op": "explode", "field": "lines", "index": "line.number"}
    made = values(
        ORDER, step, {"op": "keep", "fields": ["id", "lines.sku", "line"]}, {"op": "filter", "when": "id == 7"}
    )
    assert made == [
        {"id": 7, "lines": {"sku": "a"}, "line": {"number": 0}},
        {"id": 7, "lines": {"sku": "b"}, "line": {"number": 1}},
    ]
    assert values({"lines": []}, step) == []
    assert values({"a": [[1, 2], [3]]}, {"op": "explode", "field": "a"}, {"op": "explode", "field": "a"}) == [
        {"a": 1}, {"a": 2}, {"a": 3},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("int", 5, 5), ("int", 5.0, 5), ("int", "-12", -12), ("int", "9" * 40, int("9" * 40)),
        ("int", 1.5, None), ("int", "1.5", None), ("int", "", None), ("int", True, None), ("int", [], None),
        ("int", "٣", None), ("int", "1_0", None), ("int", " 1", None), ("int", "9" * 5000, None),
        ("float", 5, 5.0), ("float", "2.5e3", 2500.0), ("float", 1.5, 1.5), ("float", 2**53 + 1, None),
        ("float", "nan", None), ("float", "1e999", None), ("float", "x", None), ("float", False, None),
        ("text", 5, "5"), ("text", 1.5, "1.5"), ("text", True, "true"), ("text", [1, "a"], '[1,"a"]'),
        ("text", "é", "é"),
        ("bool", True, True), ("bool", "false", False), ("bool", "1", True), ("bool", 0, False),
        ("bool", "yes", None), ("bool", 2, None), ("bool", 1.0, None), ("bool", {}, None),
        ("decimal:2", "17.5", 1750), ("decimal:2", "-0.05", -5), ("decimal:2", "+3", 300), ("decimal:2", "1.500", 150),
        ("decimal:2", 12, 1200), ("decimal:2", 173665.47, 17366547), ("decimal:2", -0.1, -10), ("decimal:0", 3.0, 3),
        ("decimal:2", 2**70, 2**70 * 100), ("decimal:18", "0.000000000000000001", 1),
        ("decimal:2", "1.505", None), ("decimal:2", 1.005, None), ("decimal:0", 0.5, None), ("decimal:2", "1e3", None),
        ("decimal:2", "1.", None), ("decimal:2", ".5", None), ("decimal:2", "", None), ("decimal:2", True, None),
        ("decimal:2", 123456789012345.12, None), ("decimal:2", 1e300, None), ("decimal:2", "9" * 2000, None),
    ],
)  # fmt: skip
def test_cast_is_exact_or_refuses(kind: str, value: Any, expected: Any) -> None:
    step = {"op": "cast", "fields": {"x": kind}}
    if expected is None:
        with pytest.raises(Refused, match=r"^Step 1 \(cast\): 'x': [^9]*\.$"):
            values({"x": value}, step)
    else:
        (made,) = values({"x": value}, step)
        assert repr(made) == repr({"x": expected})


def test_hash_is_that_of_other_programs(tmp_path: Path) -> None:
    (tmp_path / "salt").write_bytes(b"pepper\n")
    record = {"mail": "é@x.org", "n": 1, "o": {"b": 1, "a": [2]}, "null": None, "list": [{"m": "x"}]}
    (made,) = values(record, {"op": "hash", "fields": ["mail", "n", "o", "null", "nothing", "list.*.m"]})
    plain = [hashlib.sha256(text.encode()).hexdigest() for text in ("é@x.org", "1", '{"a":[2],"b":1}', "x")]
    assert made == {"mail": plain[0], "n": plain[1], "o": plain[2], "null": None, "list": [{"m": plain[3]}]}
    (salted,) = values(record, {"op": "hash", "fields": ["mail"], "salt_file": "salt"}, folder=tmp_path)
    assert salted["mail"] == hmac.new(b"pepper", "é@x.org".encode(), "sha256").hexdigest()


def test_lookup_reads_a_file_once(tmp_path: Path) -> None:
    (tmp_path / "countries.json").write_text('{"Paris": {"code": "FR"}}')
    made = transform(
        {"op": "lookup", "field": "customer.city", "into": "customer.city", "file": "countries.json"}, folder=tmp_path
    )
    (tmp_path / "countries.json").unlink()
    (output,) = made(Message(ORDER))
    assert output.value["customer"]["city"] == {"code": "FR"}


def test_filter_drops_and_route_sends() -> None:
    assert values(ORDER, {"op": "filter", "when": "id > 7"}, {"op": "set", "fields": {"x": "nothing"}}) == []
    by_text = {"op": "route", "to": 'get(customer, "way", null)', "default": "b"}
    assert [output.to for output in outputs(ORDER, by_text)] == ["b"]
    assert [output.to for output in outputs({"customer": {"way": "a"}}, by_text)] == ["a"]
    cases = {"op": "route", "cases": [{"when": "id > 7", "to": "a"}, {"when": "id == 7", "to": "b"}]}
    assert [output.to for output in outputs(ORDER, cases)] == ["b"]
    assert [output.to for output in outputs({"id": 1}, {**cases, "default": "a"})] == ["a"]
    assert [output.to for output in outputs(ORDER)] == [None]


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    ([1], {"op": "keep", "fields": ["a"]}, "the record has to be an object, and is a list."),
    ("text", {"op": "drop", "fields": ["a"]}, "the record has to be an object, and is text."),
    (None, {"op": "set", "fields": {"a": "1"}}, "the record has to be an object, and is null."),
    (ORDER, {"op": "set", "fields": {"a": "nothing"}}, "There is no field 'nothing'."),
    (ORDER, {"op": "set", "fields": {"id.x": "1"}}, "there is no place for 'id.x': 'id' is an integer."),
    (ORDER, {"op": "set", "fields": {"lines.9.x": "1"}}, "there is no place for 'lines.9.x': 'lines' is a list."),
    (ORDER, {"op": "explode", "field": "id"}, "'id' has to be a list, and is an integer."),
    (ORDER, {"op": "explode", "field": "nothing"}, "'nothing' has to be a list, and is not there."),
    (ORDER, {"op": "explode", "field": "note"}, "'note' has to be a list, and is null."),
    ({"x": [0] * 10_001}, {"op": "explode", "field": "x"}, "'x' has 10001 items; at most 10000 are allowed."),
    (
        ORDER,
        {"op": "lookup", "field": "customer.city", "into": "x", "table": {}},
        "the table has nothing for 'customer.city'.",
    ),
    (ORDER, {"op": "lookup", "field": "nothing", "into": "x", "table": {}}, "'nothing' is not there."),
    (
        ORDER,
        {"op": "lookup", "field": "lines", "into": "x", "table": {}},
        "'lines' has to be text or an integer, and is a list.",
    ),
    (ORDER, {"op": "filter", "when": "id"}, "when has to be true or false, and is an integer."),
    (
        ORDER,
        {"op": "filter", "when": "id < note"},
        "In `id < note`: < takes two numbers or two texts, not an integer and null.",
    ),
    (ORDER, {"op": "route", "to": "id"}, "to has to give an output of the stage, and gives an integer."),
    (ORDER, {"op": "route", "to": "total"}, "to has to give an output of the stage, and gives a text that is none."),
    (ORDER, {"op": "route", "to": "note"}, "to has to give an output of the stage, and gives null."),
    (ORDER, {"op": "route", "cases": [{"when": "false", "to": "a"}]}, "no case is true, and there is no default."),
    (
        ORDER,
        {"op": "cast", "fields": {"lines.*.sku": "int"}},
        "'lines.*.sku': the text is no integer of at most 1233 digits.",
    ),
]


@pytest.mark.parametrize(("record", "step", "why"), REFUSED)
def test_a_record_is_refused_with_a_reason_that_names_the_step(record: Any, step: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused) as refused:
        values(record, {"op": "filter", "when": "true"}, step)
    assert str(refused.value) == f"Step 2 ({step['op']}): {why}"


def test_a_record_that_is_refused_after_an_explode_says_where() -> None:
    with pytest.raises(Refused, match=r"^Step 2 \(cast\): 'lines\.sku': "):
        values(ORDER, {"op": "explode", "field": "lines"}, {"op": "cast", "fields": {"lines.sku": "int"}})
    many = {"a": [0] * 200, "b": [0] * 200}
    with pytest.raises(Refused, match=r"^Step 2 \(explode\): the record becomes more than 10000\.$"):
        values(many, {"op": "explode", "field": "a"}, {"op": "explode", "field": "b"})


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "A step has no op, which is one of keep, drop,"),
    ({"op": 3}, "A step has no op, which is one of keep, drop,"),
    ({"op": "kepe"}, "There is no step 'kepe'; did you mean keep?"),
    ({"op": "keep"}, "keep: It has no fields, which is a list of field names."),
    ({"op": "keep", "fields": []}, "keep: Its fields is a list of field names, and names at least one."),
    ({"op": "keep", "fields": ["a", 3]}, "keep: Its fields is a list of field names, and names at least one."),
    ({"op": "keep", "fields": "a"}, "keep: Its fields is a list of field names."),
    ({"op": "keep", "fields": ["a", "a"]}, "keep: Its fields names a field twice."),
    ({"op": "keep", "fields": ["a", "a.b"]}, "keep: Its field 'a.b' is part of its field 'a'."),
    ({"op": "keep", "fields": ["a..b"]}, "keep: 'a..b' is no path."),
    ({"op": "keep", "fields": ["a.*"]}, "keep: keep takes no *; drop does."),
    (
        {"op": "keep", "fields": [f"f{at}" for at in range(1001)]},
        "keep: Its fields has 1001 names; at most 1000 are allowed.",
    ),
    ({"op": "drop", "fields": ["a"], "feilds": 1}, "drop: It has no key 'feilds'; did you mean fields?"),
    ({"op": "rename", "fields": {"a": "c", "b": "c"}}, "rename: Two of its fields are the same."),
    ({"op": "rename", "fields": {"a": 3}}, "rename: Its fields is a table of old and new names, each a text"),
    ({"op": "rename", "fields": {"a.*": "b"}}, "rename: rename takes no *."),
    ({"op": "set", "fields": {"a": "1 + a.b"}}, "set: Character 5 of the expression: there is no access by a dot"),
    (
        {"op": "set", "fields": {"_offset": "1"}},
        "set: '_offset' cannot be set; _id, _key, _headers.NAME and _value can.",
    ),
    ({"op": "set", "fields": {"_headers": "1"}}, "set: '_headers' cannot be set;"),
    ({"op": "set", "fields": {"_value": "1", "a": "2"}}, "set: _value is the whole record: a step sets it alone."),
    ({"op": "set", "fields": {"lines.*": "1"}}, "set: set takes no *."),
    ({"op": "cast", "fields": {"a": "number"}}, "cast: 'number' is no kind; take int, float, text, bool or decimal:N."),
    ({"op": "cast", "fields": {"a": "decimal:19"}}, "cast: decimal:N keeps at most 18 digits."),
    ({"op": "cast", "fields": {"a": "decimal:"}}, "cast: 'decimal:' is no kind;"),
    ({"op": "lookup", "field": "a", "into": "a"}, "lookup: It takes a table or a file, and one of the two."),
    (
        {"op": "lookup", "field": "a", "into": "a", "table": {}, "file": "x"},
        "lookup: The file 'x' cannot be read: No such file",
    ),
    ({"op": "lookup", "field": "a", "into": "a", "file": "."}, "lookup: The file '.' cannot be read: Is a directory."),
    ({"op": "lookup", "field": "a", "into": "a", "file": "a\0b"}, "lookup: Its file is the name of a file."),
    ({"op": "lookup", "field": "a", "into": "a", "table": {"x": float("nan")}}, "lookup: 'x' is no JSON value;"),
    (
        {"op": "lookup", "field": "a", "into": "a", "table": {}, "default": float("inf")},
        "lookup: 'default' is no JSON value;",
    ),
    ({"op": "explode", "field": "a", "index": "a.b"}, "explode: Its field 'a.b' is part of its field 'a'."),
    ({"op": "hash", "fields": ["a"], "salt_file": "nothing"}, "hash: The file 'nothing' cannot be read: No such file"),
    ({"op": "route"}, "route: It takes an expression (to) or cases, and one of the two."),
    ({"op": "route", "to": '"a"', "cases": []}, "route: It takes an expression (to) or cases, and one of the two."),
    ({"op": "route", "to": '"a"', "default": "c"}, "route: 'c' is no output of the stage; it has a, b."),
    ({"op": "route", "to": "1"}, "route: The expression '1' has to give text, and gives an integer."),
    ({"op": "route", "cases": []}, "route: It has 0 cases; 1 to 1000 are allowed."),
    (
        {"op": "route", "cases": [{"when": "true"}]},
        "route: Each of its cases has a when, which is an expression, and a to",
    ),
    ({"op": "route", "cases": [{"when": "true", "to": "c"}]}, "route: 'c' is no output of the stage; it has a, b."),
    ({"op": "filter", "when": '"x"'}, "filter: The expression '\"x\"' has to give true or false, and gives text."),
    ({"op": "filter", "when": ""}, "filter: The expression is empty."),
]


@pytest.mark.parametrize(("step", "why"), BAD)
def test_a_step_that_is_none_is_refused(step: dict[str, Any], why: str) -> None:
    with pytest.raises(Usage) as refused:
        transform({"op": "filter", "when": "true"}, step)
    assert refused.value.message.startswith(f"Step 2 of the stage normalise: {why}")
