"""JSON without `json` is that of `json`, for values and for texts, right and wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl import json_text

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
SORTED = json_text.encoder(sort_keys=True, allow_nan=False)
AS_GIVEN = json_text.encoder(sort_keys=False, allow_nan=True)


def theirs(value: Any, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), **options)


@given(VALUES)
def test_values_are_written_and_read_as_json_does(value: Any) -> None:
    assert SORTED(value) == theirs(value, sort_keys=True)
    assert AS_GIVEN(value) == theirs(value)
    assert json_text.decode(AS_GIVEN(value)) == json.loads(AS_GIVEN(value)) == value


@given(st.text(alphabet='{}[]",:.-+0123456789eEntrufalsNI\\ u', max_size=12) | st.text(max_size=6))
def test_texts_are_read_or_refused_as_json_does(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            json_text.decode(text)
        return
    if text == text.strip(" \t\n\r"):
        assert repr(json_text.decode(text)) == repr(expected)
    else:
        with pytest.raises(ValueError):  # there is never space around it
            json_text.decode(text)


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError):
        SORTED({"a": b"bytes"})
    with pytest.raises(ValueError):
        SORTED(float("nan"))
    assert AS_GIVEN(float("inf")) == "Infinity"
    with pytest.raises(TypeError):
        SORTED({1: 2, "a": 3})
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises((RecursionError, ValueError)):
        SORTED(circle)
    assert SORTED([1]) == "[1]"  # nothing of a failed value stays behind
