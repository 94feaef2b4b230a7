"""Filters: what each form wants, what it cannot judge, and what is no filter."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.errors import Usage
from grafctl.store.blocks import Columns
from grafctl.store.filters import FILTER_CHARACTERS_MAX, check_filter, matched, wants

Headers = dict[str, str] | None


def wanted(text: str, payload: bytes | Any = b"", key: str | None = None, headers: Headers = None) -> bool:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return wants(text)(7, body, "id-1", key, headers)


CASES: list[tuple[str, Any, str | None, Headers, bool]] = [
    ("all", b"", None, None, True),
    ("key:eu-", b"", "eu-1", None, True),
    ("key:eu-", b"", "us-1", None, False),
    ("key:eu-", b"", None, None, False),
    ("key:eu-", b"", "EU-1", None, False),
    ("key: eu", b"", " eu", None, True),
    ("key:größe:", b"", "größe:1", None, True),
    ("type:order.", b"", None, {"type": "order.made"}, True),
    ("type:order.", b"", "order.made", {"kind": "order.made"}, False),
    ("type:order.", b"", None, None, False),
    ("expr:total > 1000", {"total": 1001}, None, None, True),
    ("expr:total > 1000", {"total": 1000}, None, None, False),
    ("expr: total > 1000 ", {"total": 1000}, None, None, False),
    ("expr:total > 9007199254740992", {"total": 9007199254740993}, None, None, True),
    ("expr:_key == 'a'", {}, "a", None, True),
    ("expr:_key == 'a'", {}, "b", None, False),
    ("expr:_offset == 7 and _id == 'id-1'", {}, None, None, True),
    ("expr:_headers['type'] == 'x'", {}, None, {"type": "y"}, False),
    ("expr:_value == 5", 5, None, None, True),
    ("expr:_value == 5", 6, None, None, False),
]


@pytest.mark.parametrize(("text", "payload", "key", "headers", "expected"), CASES)
def test_what_a_filter_wants(text: str, payload: Any, key: str | None, headers: Headers, expected: bool) -> None:
    assert wanted(text, payload, key, headers) is expected


UNJUDGED: list[tuple[str, bytes]] = [
    ("no JSON", b"{"),
    ("nothing at all", b""),
    ("no UTF-8", b"\xff\xfe"),
    ("a field that is missing", b'{"amount":1}'),
    ("a field of another type", b'{"total":"many"}'),
    ("no object", b"[1,2]"),
    ("a number that is none", b'{"total":NaN}'),
    ("an integer beyond reading", b'{"total":' + b"9" * 5000 + b"}"),
    ("nested beyond reading", b"[" * 100_000),
]


@pytest.mark.parametrize("payload", [pytest.param(payload, id=name) for name, payload in UNJUDGED])
def test_what_an_expression_cannot_judge_is_wanted(payload: bytes) -> None:
    assert wanted("expr:total > 1000", payload)
    assert wanted("expr:total <= 1000", payload)


def test_only_false_leaves_a_record_out() -> None:
    assert wanted("expr:total", {"total": 0}), "a number is no judgement"
    assert wanted("expr:total", {"total": None})
    assert not wanted("expr:total", {"total": False})


NO_FILTERS = [
    "",
    "ALL",
    "all:",
    "key",
    "key:",
    "key:  ",
    "type:",
    "expr:",
    "expr: ",
    "regex:a",
    "expr:1 +",
    "expr:open('x')",
    "expr:1 + 1",
    "expr:'x'",
]
NO_FILTERS += ["key:" + "k" * FILTER_CHARACTERS_MAX, "expr:" + "(" * 4000]


@pytest.mark.parametrize("text", [pytest.param(text, id=text[:20]) for text in NO_FILTERS])
def test_what_is_no_filter(text: str) -> None:
    with pytest.raises(Usage) as refused:
        check_filter(text)
    assert len(refused.value.message) < 300


@given(st.text(max_size=40))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    for form in ("", "key:", "type:", "expr:"):
        try:
            check_filter(form + text)
        except Usage:
            continue
        assert wanted(form + text, {"total": 1}, "key", {"type": "t"}) in (True, False)


def test_offsets_that_are_wanted_are_told_as_intervals() -> None:
    keys: list[str | None] = ["a", "b", "a", "a", None]
    columns = Columns([b""] * 5, [None] * 5, keys, [None] * 5)
    assert matched("key:a", 10, columns) == [[10, 11], [12, 14]]
    assert matched("all", 10, columns) == [[10, 15]]
    assert matched("key:c", 10, columns) == []
