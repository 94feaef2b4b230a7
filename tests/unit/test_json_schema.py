"""JSON Schema: what conforms, what is told of what does not, and documents that are not used."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grafctl.errors import Usage
from grafctl.json_pattern import Pattern
from grafctl.json_schema import DOCUMENT_BYTES_MAX, Schema, parse_document

LINE = {"type": "object", "properties": {"price": {"type": "number", "minimum": 0, "multipleOf": 0.01}}}
ORDER = {
    "type": "object",
    "required": ["id", "lines"],
    "properties": {
        "id": {"type": "integer"},
        "tenant": {"type": "string", "pattern": "^[a-z]+(-[0-9]{2})?$"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}, "maxItems": 3},
        "a/b~c": {"const": 1},
    },
    "additionalProperties": {"type": "string"},
    "$defs": {"line": LINE},
}


def told(document: Any, value: Any) -> tuple[str, str] | None:
    found = Schema(parse_document(json.dumps(document).encode())).mismatch(json.dumps(value).encode())
    return None if found is None else (found.pointer, found.rule)


WRONG = [
    ({"id": 1, "lines": [{"price": 1.10}, {"price": -2}]}, "/lines/1/price", "it must be 0 or more"),
    ({"id": 1, "lines": [{"price": 1.101}]}, "/lines/0/price", "it must be a multiple of 0.01"),
    ({"id": True, "lines": []}, "/id", "it must be of type integer"),
    ({"id": 1}, "", "it must have 'lines'"),
    ({"id": 1, "lines": [{}] * 4}, "/lines", "it must have 3 items or less"),
    ({"id": 1, "lines": [], "tenant": "SECRET"}, "/tenant", "it must match the pattern"),
    ({"id": 1, "lines": [], "a/b~c": 2}, "/a~1b~0c", "it must be the value of const"),
    ({"id": 1, "lines": [], "SECRET": 2}, "/*", "it must be of type string"),
    ([], "", "it must be of type object"),
]


@pytest.mark.parametrize(("value", "path", "rule"), WRONG)
def test_a_mismatch_names_the_place_and_the_rule_and_no_value(value: Any, path: str, rule: str) -> None:
    found = told(ORDER, value)
    assert found is not None and found[0] == path and found[1].startswith(rule)
    assert "SECRET" not in "".join(found)


def test_what_conforms_conforms() -> None:
    assert told(ORDER, {"id": 1.0, "lines": [{"price": 19.99}, {}], "tenant": "acme-12", "note": "x"}) is None
    assert told({}, None) is None
    assert told({"enum": [1, "a", [True]]}, 1.0) is None and told({"enum": [1]}, True) is not None


TREE = {"type": "object", "properties": {"child": {"$ref": "#"}}, "additionalProperties": False}


def test_a_schema_may_refer_to_itself_below() -> None:
    assert told(TREE, {"child": {"child": {}}}) is None
    assert told(TREE, {"child": {"child": {"x": 1}}}) == ("/child/child", "it has a name that is not in properties")


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"\xff", b"NaN", b"[1e5000", b"[" * 200_000, b'{"a":' * 100_000, b"1 2"]
)
def test_what_is_no_json_does_not_conform(payload: bytes) -> None:
    assert Schema({"type": ["array", "number"]}).mismatch(payload) is not None


BOMB = {"$ref": "#/$defs/a0", "$defs": {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(30)}}
BOMB["$defs"]["a30"] = True  # type: ignore[index]
DEEP: Any = {}
for _ in range(100):
    DEEP = {"not": DEEP}
FORK = {"properties": {"a": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}}
UNUSABLE: list[tuple[Any, str]] = [
    ({"$ref": "http://example.invalid/s.json"}, "never fetched"),
    ({"$ref": "other.json#/a"}, "never fetched"),
    ({"$ref": 5}, "not in the document"),
    ({"$ref": "#/$defs/absent"}, "names no schema"),
    ({"$ref": "#name"}, "names no schema"),
    ({"$ref": "#"}, "comes back to itself"),
    ({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#"}]}}}, "comes back to itself"),
    (BOMB, "more than 10,000 schemas"),
    (DEEP, "nested deeper"),
    ({"requierd": ["a"]}, "no keyword that is checked"),
    ({"$dynamicRef": "#a"}, "no keyword that is checked"),
    ({"unevaluatedProperties": False}, "no keyword that is checked"),
    ({"type": "text"}, "none of null"),
    ({"type": []}, "none of null"),
    ({"type": 1}, "no list of texts"),
    ({"enum": []}, "no list of values"),
    ({"properties": []}, "no object"),
    ({"properties": {"a": 5}}, "is no schema"),
    ({"required": "a"}, "no list of texts"),
    ({"allOf": []}, "no list of schemas"),
    ({"minLength": -1}, "no whole number"),
    ({"minLength": 1.5}, "no whole number"),
    ({"minimum": "1"}, "no number"),
    ({"minimum": True}, "no number"),
    ({"multipleOf": 0}, "not above 0"),
    ({"uniqueItems": "yes"}, "neither true nor false"),
    ({"pattern": 1}, "no pattern"),
    ({"properties": {"a": {"pattern": "("}}}, "cannot be used"),
    ({"patternProperties": {"(a+)+": {}}}, "cannot be used"),
]


@pytest.mark.parametrize(("document", "why"), UNUSABLE, ids=range(len(UNUSABLE)))
def test_what_cannot_be_used_is_refused_before_it_is_kept(document: Any, why: str) -> None:
    with pytest.raises(Usage) as caught:
        Schema(parse_document(json.dumps(document).encode()))
    assert why in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"true", b'"a"', b"\xff{}", b'{"a":1,"a":2}', b'{"minimum":NaN}', b'{"title":"\\ud800"}',
     b'{"not":' * 50_000, b" " * (DOCUMENT_BYTES_MAX + 1)],
)  # fmt: skip
def test_what_is_no_document_is_refused(text: bytes) -> None:
    with pytest.raises(Usage):
        Schema(parse_document(text))


def test_references_that_fork_at_every_level_end() -> None:
    value: Any = {}
    for _ in range(60):
        value = {"a": value}
    assert told(FORK, value) == ("", "checking it takes too many steps")
    assert told({"not": FORK}, value) is not None, "also where a mismatch would be what is wanted"


# --- patterns

HOSTILE = [
    *(
        r"(a+)+$",
        r"(a*)*b",
        r"(a|a)*b",
        r"(a|ab)+c",
        r"((a{1,3}){1,3}){1,9}",
        r"(a?){50}",
        r"(.*)*",
        r"(?i:a)",
        r"(?i)a",
    ),
    *(r"a*a*a*a*a*b", r"(?=a)b", r"(?<!a)b", r"(a)\1", "a{2000}", "a" * 1_001, "a?" * 40 + "a" * 40, "(", "a**", r"\q"),
]


@pytest.mark.parametrize("text", HOSTILE)
def test_patterns_that_could_go_on_for_ages_are_refused(text: str) -> None:
    with pytest.raises(Usage, match="cannot be used"):
        Pattern(text)


@pytest.mark.parametrize("text", [r"^a*a*$", r"a+b+c+$", r"^[a-z]+@[a-z]+\.[a-z]+$", r"^\d{4}-\d{2}$", "^(foo|bar)$"])
def test_patterns_of_a_known_degree_are_tried_on_as_much_as_they_can_bear(text: str) -> None:
    pattern = Pattern(text)
    assert not pattern.matches("a" * min(pattern.characters_max, 100_000) + "!")
    assert not pattern.matches("a" * (pattern.characters_max + 1)) or pattern.characters_max > 1_000_000


# --- beside another reader

TEXTS = st.sampled_from(["", "a", "ab", "b-1", "12", "äö"])
BIG = 1 << 70  # more than any float tells apart from its neighbours
NUMBERS = st.integers(-3, 9) | st.sampled_from([0.5, 1.0, 2.5, 1.1, BIG, BIG + 1, -BIG])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "ab", "b"]), inner, max_size=3),
    max_leaves=6,
)
PLAIN = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(
            ["null", "boolean", "string", "number", "integer", "array", "object", ["string", "null"]]
        ),
        "enum": st.lists(TEXTS | NUMBERS | st.booleans(), min_size=1, max_size=3),
        "const": VALUES,
        "minimum": NUMBERS,
        "exclusiveMaximum": NUMBERS,
        "multipleOf": st.sampled_from([1, 2, 0.5, 0.1, BIG]),
        "minLength": st.integers(0, 3),
        "maxItems": st.integers(0, 3),
        "uniqueItems": st.booleans(),
        "pattern": st.sampled_from(["^a", "b$", "[0-9]+"]),
        "required": st.lists(st.sampled_from(["a", "b"]), max_size=2, unique=True),
        "dependentRequired": st.dictionaries(st.sampled_from(["a", "b"]), st.just(["ab"]), max_size=1),
        "minProperties": st.integers(0, 2),
    },
)
DOCUMENTS = st.recursive(
    PLAIN,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$"]), inner, max_size=1),
            "additionalProperties": st.booleans() | inner,
            "propertyNames": inner,
            "items": inner,
            "prefixItems": st.lists(inner, min_size=1, max_size=2),
            "contains": inner,
            "minContains": st.integers(0, 2),
            "maxContains": st.integers(0, 2),
            "$ref": st.just("#/$defs/a"),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "oneOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
        },
    ),
    max_leaves=5,
)


ONE_RULE: list[dict[str, Any]] = [
    *({"type": kind} for kind in ("null", "boolean", "string", "number", "integer", "array", "object")),
    *({"const": value} for value in (1, True, 0, False, None, BIG, [1], {"a": 0}, 0.5, "a")),
    *({"enum": values} for values in ([1, "a"], [True], [BIG + 1, None], [[1, 2]], [{"a": 1.0}])),
    *({word: bound} for word in ("minimum", "exclusiveMinimum", "maximum") for bound in (1, 0.5, BIG, -BIG)),
    *({"multipleOf": number} for number in (1, 3, 0.1, 0.5, BIG)),
    *({word: 2} for word in ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")),
    *({"pattern": text} for text in ("^a", "b$", "[0-9]+", "^.$")),
    {"uniqueItems": True},
    {"prefixItems": [{"type": "integer"}], "items": {"type": "string"}},
    {"items": {"const": 1}},
    *({"contains": {"const": 1}, "minContains": least, "maxContains": 2} for least in (0, 1, 2)),
    {"required": ["a"]},
    {"dependentRequired": {"a": ["b"]}},
    {"propertyNames": {"maxLength": 1}},
    {
        "properties": {"a": {"const": 1}},
        "patternProperties": {"^a": {"type": "integer"}},
        "additionalProperties": False,
    },
    {"additionalProperties": {"type": "integer"}},
    *({word: [{"type": "integer"}, {"minimum": 1}]} for word in ("allOf", "anyOf", "oneOf")),
    {"not": {"type": "integer"}},
    {"if": {"type": "integer"}, "then": {"minimum": 1}, "else": {"maxLength": 1}},
    {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"maximum": 1}}},
    {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["b"]},
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]},
]
EVERY_VALUE: list[Any] = [
    *(None, True, False, 0, 1, 1.0, 0.5, 1.1, 0.3, -1, 3, BIG, BIG + 1, 3 * BIG, -BIG, -BIG - 1, 1e300),
    *("", "a", "ab", "b-1", "12", "ä", "äö", "aab", "\U0001f600", "\U0001f600a"),
    *([], [1], [True], [1.0], [1, 1], [1, True], [1, "a"], ["a", 1], [0, False], [BIG, BIG + 1], [1, 1, 1], [[1, 2]]),
    *([1, 2], [{"a": 1}, {"a": 1.0}], [{"a": 1}, {"a": True}], [[0], [False]]),
    *({}, {"a": 1}, {"a": 0}, {"a": False}, {"a": 1.0}, {"b": 1}, {"a": 1, "b": 2}, {"ab": "x"}, {"ab": 1}, {"b": "x"}),
    *({"a": {"b": 1}}, {"a": {"a": 1}, "b": 1}, {"a": {"b": 1}, "b": 1}, {"a": 1, "b": 1, "ab": 1}),
]


@pytest.mark.parametrize("document", ONE_RULE, ids=range(len(ONE_RULE)))
def test_another_reader_finds_the_same_of_each_rule(document: dict[str, Any]) -> None:
    ours, theirs = Schema(parse_document(json.dumps(document).encode())), jsonschema_rs.Draft202012Validator(document)
    for value in EVERY_VALUE * 2:  # the second time by the quick test, where there is one
        assert (ours.mismatch(json.dumps(value).encode()) is None) == theirs.is_valid(value), value


@settings(max_examples=300, deadline=None)
@given(DOCUMENTS, PLAIN, st.lists(VALUES, min_size=1, max_size=5))
def test_another_reader_finds_the_same(schema: dict[str, Any], referred: Any, values: list[Any]) -> None:
    document = {**schema, "$defs": {"a": referred}}
    theirs = jsonschema_rs.Draft202012Validator(document, offline=True)
    for value in values:
        assert (told(document, value) is None) == theirs.is_valid(value), (document, value)
