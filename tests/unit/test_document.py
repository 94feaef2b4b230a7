"""The lines of a document: every table, key and list item of any TOML has its own."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.declare.document import Lines, Place, load
from grafctl.errors import InvalidConfig

WORDS = st.text(alphabet="ab[]{}#=,.'\"\\\n \té", max_size=12)
KEYS = st.one_of(st.sampled_from(["domain", "name", "queue", "group", "replicas", "allow"]), WORDS)
SCALARS: st.SearchStrategy[Any] = st.one_of(st.integers(-(2**63), 2**63 - 1), st.booleans(), st.floats(), WORDS)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


def places(value: Any, place: Place = ()) -> list[Place]:
    found = [place]
    if isinstance(value, dict):
        for key, item in value.items():
            found += places(item, (*place, key))
    if isinstance(value, list):
        for at, item in enumerate(value):
            found += places(item, (*place, at))
    return found


LINES = '''# [not.a.table]
title = "a [b] = 'c' # d"   # x = 1
"quoted.key \\u0061" = 1
dotted . "k e y".z = { in = "}", deep = [ "]", { x = 1 } ] }
text = """
[no]
no = 1 \\"""
""""
raw = \'\'\'
[[no]]
\'\'\'\'
when = 1979-05-27 07:32:00
list = [
    # a comment ] with [ brackets
    "one, two", 1.5,

    [ "x",
      "y" ],
]

[ a . b ]
c = 1
[[t]]
n = 1
  [[t.u]]
  n = 2
  [[t.u]]
  n = 3
  [t.u.v]
  n = 4
[[t]]
  [[t.u]]
  n = 5
'''


def test_lines_of_everything() -> None:
    lines = Lines(LINES)
    expected: dict[Place, int] = {
        ("title",): 2,
        ("quoted.key a",): 3,
        ("dotted", "k e y", "z", "deep", 1, "x"): 4,
        ("text",): 5,
        ("raw",): 9,
        ("when",): 12,
        ("list",): 13,
        ("list", 0): 15,
        ("list", 1): 15,
        ("list", 2): 17,
        ("list", 2, 1): 18,
        ("a", "b"): 21,
        ("a", "b", "c"): 22,
        ("t", 0): 23,
        ("t", 0, "n"): 24,
        ("t", 0, "u", 0, "n"): 26,
        ("t", 0, "u", 1): 27,
        ("t", 0, "u", 1, "n"): 28,
        ("t", 0, "u", 1, "v", "n"): 30,
        ("t", 1): 31,
        ("t", 1, "u", 0): 32,
        ("t", 1, "u", 0, "n"): 33,
        ("t", 1, "missing"): 31,
        ("missing",): 1,
    }
    assert {place: lines.of(place) for place in expected} == expected
    assert all(place in lines._found for place in places(tomllib.loads(LINES)))


@given(body=st.dictionaries(KEYS, VALUES, max_size=5), multiline=st.booleans())
def test_every_place_of_a_document_has_a_line(body: dict[str, Any], multiline: bool) -> None:
    import tomli_w

    text = tomli_w.dumps(body, multiline_strings=multiline)
    found = Lines(text)._found
    read = tomllib.loads(text)
    assert all(place in found for place in places(read))
    rows = text.split("\n")
    assert all(1 <= line <= len(rows) for line in found.values())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"\na." + b"a." * 500_000 + b"b = 1", 2),
        (b"x = 1\n[" + b"'a' . " * 170_000 + b"b]", 2),
        (b"x = " + b"{ a = " * 150 + b"1" + b" }" * 150, 1),
        (b"[" + b"a." * 90 + b"b]\n" + b"a." * 90 + b"b = 1", 1),
        (b"x = " + b"[" * 120 + b"]" * 120, 1),
    ],
)
def test_what_is_nested_too_deeply_is_refused_before_anybody_takes_long_over_it(text: bytes, line: int) -> None:
    with pytest.raises(InvalidConfig) as caught:
        load(text, "file")
    assert caught.value.problems == [(line, "This is nested too deeply.")]


def test_what_is_deep_and_long_is_read_all_the_same() -> None:
    deep = b"[" + b"a." * 49 + b"b]\n" + b"a." * 40 + b"b = " + b"[" * 8 + b"]" * 8
    assert load(deep, "file")
    assert load(b'x = "' + b"a.b c" * 1000 + b'"', "file")[0] == {"x": "a.b c" * 1000}
