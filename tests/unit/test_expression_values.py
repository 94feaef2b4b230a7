"""JSON of records: read in one way or refused, and written so that it is read as the same value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fuzz.effort import examples
from hypothesis import given
from hypothesis import strategies as st

from grafctl.expression.values import DEPTH_MAX, canonical, decode, encode

TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20)


@examples(300)
@given(JSON)
def test_what_is_written_is_read_as_the_same_value(value: Any) -> None:
    assert repr(decode(encode(value))) == repr(value)
    assert decode(canonical(value)) == value
    assert decode(json.dumps(value, indent=1).encode()) == value


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "It is not JSON: it goes wrong at character 1."),
        (b"\xff", "It is not UTF-8."),
        (b"\xef\xbb\xbf1", "It is not JSON: it goes wrong at character 1."),
        (b'{"a": 1', "It is not JSON: it goes wrong at character 8."),
        (b"{'a': 1}", "It is not JSON: it goes wrong at character 2."),
        (b"1 2", "It is not JSON: there is more after character 1."),
        (b'{"a":1,"b":2,"a":1}', "An object in it has the key 'a' twice."),
        (b'[{"x":{"a":1,"\\u0061":2}}]', "An object in it has the key 'a' twice."),
        (b"NaN", "It holds NaN or Infinity, which are no JSON."),
        (b"[-Infinity]", "It holds NaN or Infinity, which are no JSON."),
        (b"1e999", "A number in it is too large for a fraction."),
        (b'"\\ud800"', "It holds half a surrogate pair, which no UTF-8 text can."),
        (b'{"\\udfff": 1}', "It holds half a surrogate pair, which no UTF-8 text can."),
        (b"9" * 4301, "It is not JSON: an integer has too many digits."),
        (b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1), f"It is nested more than {DEPTH_MAX} levels deep."),
        (b"[" * 1_000_000, f"It is nested more than {DEPTH_MAX} levels deep."),
        (
            b'{"a":' * (DEPTH_MAX + 1) + b"1" + b"}" * (DEPTH_MAX + 1),
            f"It is nested more than {DEPTH_MAX} levels deep.",
        ),
        (b'"a\nb"', "It is not JSON: it goes wrong at character 3."),
        (b"01", "It is not JSON: there is more after character 1."),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(payload: bytes, why: str) -> None:
    with pytest.raises(ValueError) as refused:
        decode(payload)
    assert str(refused.value) == why


def test_what_is_allowed_up_to_the_limit_is_read() -> None:
    deep = b"[" * DEPTH_MAX + b"]" * DEPTH_MAX
    assert encode(decode(deep)) == deep
    wide = b"[" + b"[]," * 1000 + b"[]]"
    assert encode(decode(wide)) == wide
    assert decode(b"9" * 4300) == 10**4300 - 1
    assert decode(b' \t\r\n{"a" : "\\ud83d\\ude00"} \n') == {"a": "😀"}


def test_what_is_no_json_is_not_written() -> None:
    for value in (float("nan"), float("inf"), "\ud800", {1, 2}, b"a", {"a": object()}, 10**5000, {(1,): 2}):
        for write in (encode, canonical):
            with pytest.raises(ValueError):
                write(value)


def test_what_is_too_deep_to_be_read_again_is_not_written() -> None:
    deep: Any = 1
    for _ in range(DEPTH_MAX + 1):
        deep = {"a": deep}
    with pytest.raises(ValueError, match="nested"):
        encode(deep)
    assert encode(deep["a"])
