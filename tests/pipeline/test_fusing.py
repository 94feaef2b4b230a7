"""Steps made into one function: whatever the steps and the record, it gives what the steps give one by one."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grafctl.errors import Usage
from grafctl.pipeline.message import Message, Refused, Transform
from grafctl.pipeline.transforms.fusing import LINES_MAX, fuse
from grafctl.pipeline.transforms.steps import Steps, compile_step
from pipeline.transforming import HERE, transform

NAMES = st.sampled_from(["a", "b", "c", "it's"])
EXPRESSIONS = st.sampled_from(
    [
        *("a", "len(b)", 'a + "x"', "coalesce(a, b, 7)", "exists(c)", "[a, b]", '{"in": c}', "null", "a == b", "_key"),
        *("get(c, 'a')", 'd["a"]', "a > 1 or exists(b)", '"text"'),
    ]
)
WHENS = st.sampled_from(
    ["exists(a)", "a == 1", "not exists(record)", "len(b) < 3", "_offset == 3", 'c in ["x", "1.5"]']
)
KINDS = st.sampled_from(["int", "float", "text", "bool", "decimal:0", "decimal:2"])
PATHS = NAMES | st.builds("{}.{}".format, NAMES, NAMES | st.just("*"))
SCALARS = st.none() | st.booleans() | st.integers(-3, 12) | st.sampled_from(["x", "1", "1.5", "-2.50", "", 0.5, 10**30])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=6,
)
RECORDS = st.dictionaries(NAMES, VALUES, max_size=6)
TABLES = st.dictionaries(st.sampled_from(["x", "1", "1.5", "12"]), SCALARS, max_size=4)


def step(op: str, **keys: Any) -> Any:
    return st.fixed_dictionaries({"op": st.just(op), **keys})


def fields(names: Any, texts: Any) -> Any:
    return st.dictionaries(names, texts, min_size=1, max_size=3)


LISTS: dict[str, Any] = {"min_size": 1, "max_size": 3, "unique": True}
KEEP = step("keep", fields=st.lists(NAMES, **LISTS))
INSIDE = st.sampled_from(["a.b", "a.c", "b.a"])
PLAIN = (
    KEEP
    | step("rename", fields=fields(NAMES, NAMES))
    | step("rename", fields=fields(NAMES | INSIDE, NAMES))
    | step("drop", fields=st.lists(NAMES | INSIDE, **LISTS))
    | step("set", fields=fields(NAMES, EXPRESSIONS))
    | step("cast", fields=fields(NAMES, st.just("text")))
    | step("lookup", field=NAMES, into=NAMES, table=TABLES, default=st.integers(0, 1))
    | step("filter", when=WHENS)
)
STEPS = (
    PLAIN
    | step("cast", fields=fields(NAMES | PATHS, KINDS))
    | step("hash", fields=st.lists(PATHS, **LISTS))
    | step("set", fields=fields(NAMES | st.sampled_from(["_key", "_value", "a.b"]), EXPRESSIONS))
    | step("lookup", field=NAMES, into=NAMES, table=TABLES)
    | step("lookup", field=PATHS, into=NAMES, table=TABLES, default=st.integers(0, 1))
    | step("rename", fields=fields(PATHS, PATHS))
    | step("explode", field=NAMES)
)


def told(transformed: Any, message: Message) -> tuple[str, str]:
    """Returns what comes of a message, to the order of its fields, or why nothing does."""
    try:
        return "gives", json.dumps(list(transformed(message)))
    except Refused as error:
        return "refuses", str(error)


def made(*steps: dict[str, Any]) -> Transform | None:
    try:
        return transform(*steps)
    except Usage:  # steps that no file may have
        return None


OBJECTS = st.dictionaries(NAMES, st.integers(0, 3), max_size=3)
DENSE = st.lists(st.dictionaries(NAMES, SCALARS | OBJECTS, max_size=4), min_size=8, max_size=8)


@settings(max_examples=500)
@given(st.lists(PLAIN, min_size=1, max_size=3), st.none() | KEEP, DENSE)
def test_plain_steps_give_together_what_they_give_one_by_one(steps: list[Any], last: Any, records: list[Any]) -> None:
    compare([*steps, last] if last else steps, records)


@settings(max_examples=200)
@given(st.lists(STEPS, min_size=1, max_size=5), st.lists(RECORDS | VALUES, min_size=1, max_size=8))
def test_any_steps_give_together_what_they_give_one_by_one(steps: list[Any], records: list[Any]) -> None:
    compare(steps, records)


def compare(steps: list[Any], records: list[Any]) -> None:
    found = made(*steps)
    if not isinstance(found, Steps):
        return
    for value in records:
        message, before = Message(value, "id", "key", {"h": "v"}, 3), copy.deepcopy(value)
        assert told(found, message) == told(found.one_by_one, message)
        assert value == before


NESTED = {"op": "rename", "fields": {"id": "order", "customer.key": "customer_key", "customer.name": "name"}}
QUICK: list[tuple[list[dict[str, Any]], Any]] = [
    ([NESTED, {"op": "keep", "fields": ["name", "order", "nothing"]}], {"name": "Ada", "order": 7}),
    (
        [
            {"op": "cast", "fields": {"total": "decimal:2", "note": "int"}},
            {"op": "set", "fields": {"lines": "len(lines)", "late": "exists(due)"}},
            {"op": "lookup", "field": "state", "into": "open", "table": {"O": True}},
            {"op": "filter", "when": "total > 5"},
            {"op": "drop", "fields": ["customer", "state", "nothing"]},
            {"op": "rename", "fields": {"id": "total", "total": "id"}},
        ],
        {"total": 7, "id": 17350, "lines": 2, "note": None, "late": False, "open": True},
    ),
    (
        [
            *(NESTED, {"op": "keep", "fields": ["order", "state", "name"]}),
            *({"op": "set", "fields": {"note": "name"}}, {"op": "cast", "fields": {"order": "text"}}),
        ],
        {"order": "7", "state": "O", "name": "Ada", "note": "Ada"},
    ),
    ([{"op": "filter", "when": "state != 'O'"}, {"op": "keep", "fields": ["id"]}], None),
]
ORDER = {
    "id": 7, "total": "173.50", "customer": {"key": 3, "name": "Ada"}, "lines": [1, 2], "state": "O", "note": None,
}  # fmt: skip


@pytest.mark.parametrize(("steps", "expected"), QUICK)
def test_steps_of_plain_fields_go_the_quick_way(steps: list[dict[str, Any]], expected: Any) -> None:
    quick = fuse([compile_step(step, ("a",), HERE).plan for step in steps])
    assert quick is not None
    found = quick(ORDER)
    assert found is not None
    assert expected is None or json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)
    outputs = transform(*steps)(Message(ORDER, "id", "key", {"h": "v"}))
    assert [output.value for output in outputs] == ([] if expected is None else [expected])
    assert all(output[1:] == (None, "key", None, {"h": "v"}) for output in outputs)


@pytest.mark.parametrize("record", [{}, {"a": "x"}, {"a": {}, "b": 1}], ids=range(3))
def test_what_is_refused_is_refused_with_the_same_words(record: dict[str, Any]) -> None:
    refusing = transform(
        {"op": "rename", "fields": {"a": "b"}},
        {"op": "cast", "fields": {"b": "int"}},
        {"op": "lookup", "field": "b", "into": "c", "table": {"1": 1}},
    )
    with pytest.raises(Refused, match=r"^Step [123] \((rename|cast|lookup)\): "):
        refusing(Message(record))


LEFT: list[list[dict[str, Any]]] = [
    [],
    [{"op": "explode", "field": "a"}],
    [{"op": "set", "fields": {"_key": "a"}}],
    [{"op": "set", "fields": {"a": "_offset"}}],
    [{"op": "drop", "fields": ["a.b"]}],
    [{"op": "drop", "fields": ["a.b"]}, {"op": "keep", "fields": ["a"]}],
    [{"op": "rename", "fields": {"a.b": "a"}}, {"op": "keep", "fields": ["a"]}],
    [{"op": "set", "fields": {f"f{number}": "a" for number in range(LINES_MAX // 2)}}] * 2,
]


@pytest.mark.parametrize("steps", LEFT, ids=range(len(LEFT)))
def test_what_is_not_plain_is_left_to_the_steps(steps: list[dict[str, Any]]) -> None:
    assert fuse([compile_step(step, ("a",), HERE).plan for step in steps]) is None


def test_a_name_is_never_code() -> None:
    name = "x'] or open('/tmp/x') or record['"
    found = transform({"op": "set", "fields": {name: "1"}}, {"op": "keep", "fields": [name]})
    assert found(Message({}))[0].value == {name: 1}


def test_a_name_that_an_earlier_step_gave_is_taken() -> None:
    steps: list[dict[str, Any]] = [
        {"op": "set", "fields": {"b": "1"}},
        {"op": "rename", "fields": {"a": "b"}},
        {"op": "keep", "fields": ["b"]},
    ]
    with pytest.raises(Refused, match=r"^Step 2 \(rename\): there is a field 'b' already\.$"):
        transform(*steps)(Message({"a": 2}))
