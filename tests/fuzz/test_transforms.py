"""Steps of any kind on records of any kind: outputs that can be written, or `Refused`, and the same each time."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st
from pipeline.transforming import transform

from fuzz.effort import examples
from grafctl.errors import Usage
from grafctl.expression import values
from grafctl.pipeline.message import Message, Refused

SECRET = "hunter2"
SCALARS = (
    st.none() | st.booleans() | st.integers(-2, 2) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "a", "1", "-1.50", "true", "1e3", SECRET])
)  # fmt: skip
NAMES = ["a", "b", "c", "0"]
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=10,
)
RECORDS = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4) | JSON

PATHS = st.sampled_from(
    [
        "a",
        "b",
        "c",
        "a.b",
        "a.0",
        "b.*",
        "a.*.b",
        "a.b.c",
        "c.1.a",
        "_id",
        "_key",
        "_headers.x",
        "_value",
        "_offset",
        "a\\.b",
    ]
)
EXPRESSIONS = st.sampled_from(
    [
        "a", "b", "_value", "a > 1", "exists(b)", "coalesce(a, b, 0)", "get(_value, 'a.b', null)", "text(a)", "'x'",
        "true", "len(a) == 1", "[a, b]", "{'a': _value}", "_key", "null", "a + b", "_headers",
    ]
)  # fmt: skip
TABLES = st.dictionaries(st.sampled_from(["a", "1", "-2", "", SECRET]), SCALARS, max_size=3)


def named(values: Any) -> Any:
    return st.dictionaries(PATHS, values, min_size=1, max_size=3)


FIELDS = st.lists(PATHS, min_size=1, max_size=3)
KINDS = st.sampled_from(["int", "float", "text", "bool", "decimal:0", "decimal:2", "decimal:18"])
CASES = st.lists(st.fixed_dictionaries({"when": EXPRESSIONS, "to": st.sampled_from("ab")}), min_size=1, max_size=3)


def step(op: str, required: dict[str, Any], **optional: Any) -> Any:
    return st.fixed_dictionaries({"op": st.just(op), **required}, optional=optional)


STEPS = st.one_of(
    step("keep", {"fields": FIELDS}),
    step("drop", {"fields": FIELDS}),
    step("rename", {"fields": named(PATHS)}),
    step("set", {"fields": named(EXPRESSIONS)}),
    step("cast", {"fields": named(KINDS)}),
    step(
        "lookup",
        {"field": PATHS, "into": PATHS, "table": TABLES},
        default=SCALARS.filter(lambda value: value is not None),
    ),
    step("explode", {"field": PATHS}, index=PATHS),
    step("hash", {"fields": FIELDS}),
    step("route", {"to": EXPRESSIONS}, default=st.sampled_from("ab")),
    step("route", {"cases": CASES}, default=st.sampled_from("ab")),
    step("filter", {"when": EXPRESSIONS}),
)


@examples(400)
@given(st.lists(STEPS, max_size=6), RECORDS)
def test_any_steps_give_outputs_that_can_be_written_or_refuse_and_the_same_each_time(
    steps: list[Any], record: Any
) -> None:
    made = []
    for one in steps:
        try:
            transform(one)
            made.append(one)
        except Usage:
            continue
    assume(made)
    work, message = transform(*made), Message(record, "i", "k", {"h": "1"}, 3)
    before = copy.deepcopy(message)

    def outcome() -> str:
        try:
            outputs = work(message)
        except Refused as refused:
            assert SECRET not in str(refused)
            return f"refused: {refused}"
        for output in outputs:
            assert output.to in (None, "a", "b")
            assert all(text is None or type(text) is str for text in (output.key, output.id))
            values.encode(output.value)
        return repr(outputs)

    first = outcome()
    assert outcome() == first and repr(message) == repr(before)


KEYS = st.sampled_from(
    ["op", "fields", "field", "into", "table", "file", "default", "when", "to", "cases", "index", "salt_file", "x"]
)
ANY = JSON | st.sampled_from(
    ["keep", "set", "cast", "lookup", "explode", "route", "filter", "hash", "a b", "a..b", "/", "\0", "."]
)


@examples(300)
@given(st.dictionaries(KEYS, ANY | st.dictionaries(PATHS, ANY, max_size=2), max_size=5))
def test_any_table_is_a_step_or_refused_in_one_sentence(table: dict[str, Any]) -> None:
    try:
        transform(table)
    except Usage as refused:
        assert refused.message.isprintable() and len(refused.message) < 500
