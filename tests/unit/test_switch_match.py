"""Match keys and declared fields: what makes two records counterparts, and what makes counterparts equal."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.errors import Usage
from grafctl.expression.values import decode, decode_exact
from grafctl.store.switch_fields import Difference, check_fields, content_of, difference, field
from grafctl.store.switch_match import HASH_BYTES, TEXT_CHARACTERS_MAX, check_match, exact_text, match_key


def keyed(match: str, payload: str, id: str | None = None, key: str | None = None) -> tuple[bytes, str]:
    return match_key(check_match(match), payload.encode(), id, key)


def compared(fields: list[str], source: bytes, target: bytes) -> Difference | None:
    parsed = [field(text) for text in check_fields(fields)]
    return difference(parsed, content_of(parsed, source, None), content_of(parsed, target, None))


def test_a_match_key_is_the_id_the_key_or_a_single_value_of_the_payload() -> None:
    assert keyed("id", "{}", id="a")[1] == "a"
    assert keyed("id", "{}", id="a") == keyed("key", "[]", key="a") != keyed("key", "", key="b")
    assert keyed("json:order.no", '{"order":{"no":"a"}}')[1] == "a"
    assert len(keyed("id", "", id="x")[0]) == HASH_BYTES
    long = keyed("id", "", id="x" * 1000)
    assert len(long[1]) == TEXT_CHARACTERS_MAX and long[0] != keyed("id", "", id="x" * 1001)[0]


@pytest.mark.parametrize(
    ("one", "other"), [("1", "1.0"), ("100", "1e2"), ("-0", "0"), ("0.50", "5e-1"), ("-1", "-1.0")]
)
def test_a_number_is_what_it_says_however_it_is_written(one: str, other: str) -> None:
    assert keyed("json:n", f'{{"n":{one}}}')[0] == keyed("json:n", f'{{"n":{other}}}')[0]
    assert keyed("json:n", f'{{"n":{one}}}')[0] != keyed("json:n", f'{{"n":"{one}"}}')[0]


@pytest.mark.parametrize(
    ("match", "payload", "why"),
    [
        ("id", "{}", "It has no id."),
        ("key", "{}", "It has no key."),
        ("json:a.b", "{}", "There is nothing at a.b."),
        ("json:a", '{"a":null}', "There is null at a."),
        ("json:a", '{"a":[1]}', "There is no single value at a."),
        ("json:a", "plain", "It is not JSON: it goes wrong at character 1."),
        ("json:a", '{"a":1e99999999999999999999}', "A number in it is too large."),
        ("json:a", '{"a":' + "9" * 5000 + "}", "A number in it has too many digits."),
    ],
)
def test_a_record_without_a_match_key_says_why(match: str, payload: str, why: str) -> None:
    assert keyed(match, payload) == (b"", why)


@pytest.mark.parametrize("text", ["", "ID", "json", "json:", "json:a..b", "payload", "json:" + "a" * 2000, "id "])
def test_what_is_no_match_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        check_match(text)


@pytest.mark.parametrize(
    ("fields", "source", "target", "found"),
    [
        (["a"], '{"a":1,"b":2}', '{"a":1.0,"b":3}', None),
        (["a"], '{"a":1}', '{"a":1.01}', ("a", "1", "1.01")),
        (["a~0.01"], '{"a":1}', '{"a":1.01}', None),
        (["a~0.01"], '{"a":1}', '{"a":1.0100000000000000000000001}', ("a", "1", "1.0100000000000000000000001")),
        (["a~0.3"], '{"a":0.1}', '{"a":0.4}', None),  # in doubles the distance is more than 0.3
        (["a~1%"], '{"a":99}', '{"a":100}', None),
        (["a~1%"], '{"a":98.99}', '{"a":100}', ("a", "98.99", "100")),
        (["a~1%"], '{"a":-100}', '{"a":100}', ("a", "-100", "100")),
        (["a~1"], '{"a":"1"}', '{"a":1}', ("a", '"1"', "1")),
        (["a~1"], '{"a":true}', '{"a":1}', ("a", "true", "1")),
        (["a"], '{"a":"x"}', '{"a":"x "}', ("a", '"x"', '"x "')),
        (["a"], "{}", "{}", None),
        (["a"], "{}", '{"a":null}', ("a", "(absent)", "null")),
        (["a"], '{"a":{"y":1.0,"x":2}}', '{"a":{"x":2,"y":1}}', None),
        (["a", "b"], '{"a":1,"b":1}', '{"a":1,"b":2}', ("b", "1", "2")),
        (["a"], "x", "x", ("payload", *["It is not JSON: it goes wrong at character 1."] * 2)),
        (["a"], "{}", '{"a":1,"a":1}', ("payload", "(JSON)", "An object in it has the key 'a' twice.")),
        ([], '{"a":1}', '{"a":1}', None),
        ([], '{"a":{"b":[1,2]}}', '{"a":{"b":[1,3]}}', ("a.b.1", "2", "3")),
        ([], '{"a":1}', '{"a":1.0}', ("payload", '{"a":1}', '{"a":1.0}')),
        ([], "1", "2", ("payload", "1", "2")),
        ([], "x" * 100 + "y", "x" * 100 + "z", ("payload", "…" + "x" * 20 + "y", "…" + "x" * 20 + "z")),
    ],
)
def test_counterparts_are_equal_in_their_bytes_or_in_declared_fields(
    fields: list[str], source: str, target: str, found: tuple[str, str, str] | None
) -> None:
    assert compared(fields, source.encode(), target.encode()) == found


def test_the_key_counts_where_no_fields_are_declared() -> None:
    one, other = content_of([], b"x", "a"), content_of([], b"x", None)
    assert difference([], one, other) == ("key", "a", "(absent)")
    fields = [field("a")]
    assert difference(fields, content_of(fields, b"{}", "a"), content_of(fields, b"{}", None)) is None


def test_of_large_records_little_is_kept_and_the_last_byte_still_counts() -> None:
    big, other = b"x" * 1_000_000, b"x" * 999_999 + b"y"
    assert compared([], big, big) is None
    found = compared([], big, other)
    assert found is not None and max(map(len, found)) < 200 and "1,000,000 bytes" in found.source
    assert len(content_of([], big, None).payload) < 1000
    texts = [json.dumps({"a": "x" * 100_000 + end}).encode() for end in "ab"]
    found = compared(["a"], *texts)
    assert found is not None and max(map(len, found)) <= 120 and compared(["a"], texts[0], texts[0]) is None
    huge = compared(["a~1"], b'{"a":1e999999}', b'{"a":1}')
    assert huge == ("a", "1e999999", "1")


@pytest.mark.parametrize("text", ["", "a~", "a~x", "a~-1", "a~1e9", "a~101%", "a~%", "a~.5", "a..b", "a~" + "1" * 50])
def test_what_is_no_field_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        check_fields([text])


def test_fields_are_few_and_each_is_named_once() -> None:
    assert field("a~b~0.5").path == ("a~b",)
    with pytest.raises(Usage, match="twice"):
        check_fields(["a", "b", "a~1"])
    with pytest.raises(Usage, match="At most 32"):
        check_fields([f"f{number}" for number in range(33)])


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_reading_exactly_gives_the_same_value_in_one_form(value: Any) -> None:
    payload = json.dumps(value).encode()
    try:
        decode(payload)
    except ValueError:
        with pytest.raises(ValueError):
            decode_exact(payload)
        return
    exact = decode_exact(payload)
    text = exact_text(exact)
    assert decode_exact(text.encode()) == exact
    assert exact_text(decode_exact(text.encode())) == text


@given(st.decimals(allow_nan=False, allow_infinity=False), st.decimals(allow_nan=False, allow_infinity=False))
def test_two_numbers_have_one_form_when_they_are_equal(one: Decimal, other: Decimal) -> None:
    texts = [exact_text(decode_exact(str(number).encode())) for number in (one, other)]
    assert (texts[0] == texts[1]) == (one == other)
    assert Decimal(texts[0]) == one
