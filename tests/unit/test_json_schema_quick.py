"""The quick test of a schema: it says yes to nothing that the full check refuses, and to most of what conforms."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.json_schema import ASKED_BEFORE_QUICK, Schema, parse_document
from grafctl.json_schema_quick import FUNCTIONS_MAX, NAMES_MAX, quick_test

NAMES = st.sampled_from(["a", "b", "class", "a'b\"\\", "ä", "value", "item", "given_1"])
TEXTS = st.sampled_from(["", "a", "ab", "b-1", "12", "äö"])
NUMBERS = st.integers(-3, 9) | st.sampled_from([0.5, 1.0, 2.5, 1e300])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
NOTES = {"title": st.just("note"), "x-owner": st.just(1), "default": VALUES, "format": st.just("date")}
BOUNDS = dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), NUMBERS)
SIZES = st.integers(0, 3)
PATTERNS = st.sampled_from(["^[a-z]+$", "1", "^a?b-[0-9]$"])


def typed(kind: str, **optional: Any) -> Any:
    return st.fixed_dictionaries({"type": st.just(kind)}, optional=NOTES | optional)


SCALARS = (
    typed("string", minLength=SIZES, maxLength=SIZES, pattern=PATTERNS, multipleOf=st.just(2))
    | typed("integer", **BOUNDS)
    | typed("number", **BOUNDS, minLength=SIZES)
    | typed("boolean")
    | typed("null")
    | st.fixed_dictionaries({"enum": st.lists(TEXTS | st.none(), min_size=1, unique=True)}, optional=NOTES)
    | st.booleans()
)
SCHEMAS = st.recursive(
    SCALARS,
    lambda inner: (
        typed("array", items=inner, minItems=SIZES, maxItems=SIZES)
        | typed(
            "object",
            properties=st.dictionaries(NAMES, inner, max_size=4),
            required=st.lists(NAMES, max_size=2),
            additionalProperties=st.booleans() | inner,
        )
    ),
    max_leaves=6,
).filter(lambda schema: type(schema) is dict)


@given(SCHEMAS, st.lists(VALUES, min_size=1, max_size=20))
def test_what_the_quick_test_passes_conforms(document: dict[str, Any], values: list[Any]) -> None:
    quick, full = quick_test(document), Schema(document)
    assert len(values) < ASKED_BEFORE_QUICK, "so the schema itself takes no quick way"
    for value in values:
        if quick is not None and quick(value):
            assert full.mismatch(json.dumps(value).encode()) is None


ORDER: dict[str, Any] = {
    "type": "object",
    "required": ["id", "lines"],
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "tenant": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 9},
        "status": {"enum": ["O", "F"]},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"price": {"type": "number"}}}},
        "note": True,
    },
    "additionalProperties": False,
}
CONFORMS = [
    {"id": 1, "lines": []},
    {"lines": [{}, {"price": 1.5}, {"price": 1, "more": None}], "id": 7, "tenant": "acme", "status": "F", "note": {}},
]
DOES_NOT: list[Any] = [
    *(None, [], {}, {"id": 1}, {"id": 0, "lines": []}, {"id": True, "lines": []}, {"id": 1, "lines": [{"price": "1"}]}),
    *({"id": 1, "lines": [], "status": ["F"]}, {"id": 1, "lines": [], "more": 1}, {"id": 1, "lines": [[]]}),
    *({"id": 1, "lines": [], "tenant": "ACME"}, {"id": 1, "lines": [], "tenant": "a" * 10}, {"id": 1, "lines": {}}),
]


def test_what_conforms_to_a_plain_schema_passes_quickly_and_nothing_else_does() -> None:
    quick = quick_test(ORDER)
    assert quick is not None
    assert all(quick(value) for value in CONFORMS)
    assert not any(quick(value) for value in DOES_NOT)


def test_a_schema_tells_the_same_before_and_after_it_has_become_quick() -> None:
    schema = Schema(ORDER)
    payloads = [json.dumps(value).encode() for value in (*CONFORMS, *DOES_NOT)]
    first = [schema.mismatch(payload) for payload in payloads]
    for _ in range(ASKED_BEFORE_QUICK):
        assert [schema.mismatch(payload) for payload in payloads] == first
    assert first[:2] == [None, None] and None not in first[2:]


@pytest.mark.parametrize("payload", [b"", b" ", b"{", b"1 2", b"\xff", b"NaN", b'{"a":-Infinity}', b"[" * 100_000])
def test_what_is_no_json_conforms_to_nothing(payload: bytes) -> None:
    found = Schema({}).mismatch(payload)
    assert found is not None and found.rule == "it is no JSON"


@pytest.mark.parametrize("payload", [b" 1", b"1\n", b"\t[1, 2 ]\r\n "])
def test_space_around_a_value_is_none_of_it(payload: bytes) -> None:
    assert Schema({}).mismatch(payload) is None


@pytest.mark.parametrize(
    "document",
    [
        {"$ref": "#"},
        {"type": ["string", "null"]},
        {"type": "object", "properties": {"a": {"anyOf": [{}]}}},
        {"type": "string", "enum": [1]},
        {"type": "object", "patternProperties": {"a": False}},
        {"type": "object", "properties": {f"p{number}": {} for number in range(NAMES_MAX + 1)}},
        {"type": "object", "properties": {f"p{number}": {"type": "array"} for number in range(FUNCTIONS_MAX)}},
    ],
    ids=range(7),
)
def test_what_is_not_plain_is_left_to_the_full_check(document: dict[str, Any]) -> None:
    assert quick_test(document) is None


def test_nothing_that_a_schema_says_becomes_code() -> None:
    name = "a'] or open('/tmp/x') or value['"
    quick = quick_test(parse_document(json.dumps({"type": "object", "required": [name]}).encode()))
    assert quick is not None and quick({name: 1}) and not quick({"a": 1})
