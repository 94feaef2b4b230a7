"""Expressions of any kind, on records of any kind: a JSON value or one of the named errors, and the same each time."""

from __future__ import annotations

import copy
import json
import operator
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fuzz.effort import examples
from grafctl.errors import Usage
from grafctl.expression import values
from grafctl.expression.functions import PATHS, TABLE
from grafctl.expression.language import EvaluationError, compile_expression
from grafctl.expression.operators import INTEGER_MAX

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "a", "b", "12", "-1.5", "2024-01-31", "é", "a,b"])
)
KEYS = st.sampled_from("abc")
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
RECORDS = st.dictionaries(st.sampled_from("abcd"), JSON, max_size=4)


@st.composite
def calls(draw: Any, inner: Any) -> str:
    name = draw(st.sampled_from(sorted(TABLE)))
    entry = TABLE[name]
    given = [draw(inner) for _ in range(draw(st.integers(entry.least, min(entry.most, entry.least + 1))))]
    if name in PATHS:
        given[1] = repr(draw(st.sampled_from(["a", "a.b", "0", "b.0.c"])))
    if name == "exists":
        given = [draw(st.sampled_from(["a", "d", "a['b']", "get(a, 'b.c')"]))]
    return f"{name}({', '.join(given)})"


def deeper(inner: Any) -> Any:
    signs = ["+", "-", "*", "/", "//", "%", "<", "<=", ">", ">=", "==", "!=", "in", "not in", "and", "or"]
    return (
        st.builds("({} {} {})".format, inner, st.sampled_from(signs), inner)
        | st.builds("({}{})".format, st.sampled_from(["-", "+", "not "]), inner)
        | st.builds("({} < {} <= {})".format, inner, inner, inner)
        | st.builds("({} if {} else {})".format, inner, inner, inner)
        | st.builds("{}[{}]".format, inner, inner)
        | st.builds("[{}, {}]".format, inner, inner)
        | st.builds("{{'a': {}, 'b': {}}}".format, inner, inner)
        | calls(inner)
    )


ATOMS = st.sampled_from(["a", "b", "c", "d", "true", "null", "'a'", "'12'", "0", "1", "2.5", "[]"]) | st.integers(
    0, 2**80
).map(str)
EXPRESSIONS = st.recursive(ATOMS, deeper, max_leaves=12)


def outcome(text: str, record: Any) -> str:
    """Returns what an expression comes to; raises where it comes to what it may not."""
    try:
        expression = compile_expression(text)
    except Usage as refused:
        return f"refused: {refused.message}"
    try:
        made = expression.evaluate(record)
    except EvaluationError as failed:
        return f"failed: {failed}"
    kinds = {"bool": bool, "text": str, "int": int}
    assert expression.kind == "" or type(made) is kinds[expression.kind]
    return f"gave {values.encode(made).decode()}"


@examples(600)
@given(EXPRESSIONS, RECORDS)
def test_any_expression_gives_json_or_a_named_error_and_the_same_each_time(text: str, record: Any) -> None:
    before = copy.deepcopy(record)
    first = outcome(text, record)
    assert outcome(text, before) == first
    assert repr(record) == repr(before)


TOKENS = [
    "a", "b", "12", "2.5", "'a'", "(", ")", "[", "]", "{", "}", ",", ":", ".", "+", "-", "*", "**", "/", "//", "%", "<",
    ">", "==", "=", ":=", "!", "~", "@", "&", "|", "^", "<<", "and", "or", "not", "in", "is", "if", "else", "for",
    "lambda", "yield", "await", "async", "import", "None", "True", "f'{a}'", "b'a'", "...", "\\", "#", "\n", "\0",
    "\x1b", "é", "ﬁ", "len", "get", "exists", "sum", "pluck", "__class__", "__import__", ";", "?", "$", "'", '"', "'''",
    "0x", "1e999", "1j",
]  # fmt: skip


@examples(800)
@given(st.lists(st.sampled_from(TOKENS), max_size=14).map(" ".join) | st.text(max_size=30), RECORDS)
def test_any_text_is_an_expression_or_refused_in_one_sentence(text: str, record: Any) -> None:
    assert outcome(text, record)
    try:
        compile_expression(text)
    except Usage as refused:
        assert refused.message.isprintable() and len(refused.message) < 300


SECRET = "hunter2-hunter2"


@examples(250)
@given(EXPRESSIONS)
def test_an_error_never_holds_what_the_record_holds(text: str) -> None:
    record = {"a": SECRET, "b": {"a": [SECRET], SECRET: SECRET}, "c": [SECRET, {"b": SECRET}]}
    for key in ("a", "b", "c"):
        said = outcome(text, {**record, "d": record[key]})
        assert said.startswith("gave") or SECRET not in said


WORK: dict[str, Any] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}
INTEGERS = st.integers() | st.integers(-INTEGER_MAX, INTEGER_MAX)


@examples(250)
@given(INTEGERS, st.sampled_from(sorted(WORK)), INTEGERS)
def test_integers_are_exact_or_refused(left: int, sign: str, right: int) -> None:
    try:
        expected = WORK[sign](left, right)
    except ZeroDivisionError:
        expected = None
    said = outcome(f"a {sign} b", {"a": left, "b": right})
    if expected is None or abs(expected) > INTEGER_MAX:
        assert said.startswith("failed: ")
    else:
        assert said == f"gave {expected}"


NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@examples(250)
@given(NUMBERS, NUMBERS)
def test_numbers_are_compared_by_what_they_are_worth(left: Any, right: Any) -> None:
    for sign, work in [
        ("<", operator.lt),
        ("<=", operator.le),
        ("==", operator.eq),
        ("!=", operator.ne),
        (">", operator.gt),
    ]:
        expected = json.dumps(work(Fraction(left), Fraction(right)))
        assert outcome(f"a {sign} b", {"a": left, "b": right}) == f"gave {expected}"
        assert outcome(f"a {sign} {right!r}", {"a": left}) == f"gave {expected}"


def tagged(value: Any) -> Any:
    """Returns a value in which a boolean is told from a number."""
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, list):
        return [tagged(item) for item in value]
    return {key: tagged(item) for key, item in value.items()} if isinstance(value, dict) else value


@examples(300)
@given(JSON, JSON)
def test_equality_tells_booleans_from_numbers_and_nothing_else(left: Any, right: Any) -> None:
    for one, other in [(left, right), (left, left), ([left], [right]), (True, 1), ([0], [False])]:
        expected = json.dumps(tagged(one) == tagged(other))
        assert outcome("a == b", {"a": one, "b": other}) == f"gave {expected}"
        assert outcome("a in [b]", {"a": one, "b": other}) == f"gave {expected}"


@examples(250)
@given(st.text(alphabet="ab*", max_size=12), st.text(alphabet="ab", max_size=12))
def test_matches_is_what_a_slow_search_says(pattern: str, text: str) -> None:
    def slow(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return slow(pattern[1:], text) or bool(text and slow(pattern, text[1:]))
        return bool(text) and text[0] == pattern[0] and slow(pattern[1:], text[1:])

    expected = json.dumps(slow(pattern, text))
    assert outcome("matches(a, b)", {"a": text, "b": pattern}) == f"gave {expected}"
