"""What SQLite takes for JSON is what the decoder takes for JSON, but for what only a decoder can find."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.expression import values
from grafctl.pipeline.sources.validity import Validity, is_doubtful, may_be_doubtful

VALIDITY = Validity()

FORMS = [
    '{"a":1}', '{"a":01}', '{"a":-01}', '{"a":-0}', '{"a":NaN}', '{"a":Infinity}', '{"a":\x011}', '{"a":"\x01"}',
    '{"a":"\t"}', '{"a":"\x7f"}', '{"a":1,}', "[1,]", "[,1]", "{a:1}", "{'a':1}", '{"a":1} ', " [1]", "\x0c{}",
    "\u00a0{}", "\ufeff{}", '{"a":1e9}', '{"a":1E+5}', '{"a":1.}', '{"a":.5}', '{"a":-}', '{"a":+1}', '{"a":--1}',
    '{"a":1-2}', '{"a":1e}', '{"a":0x10}', '{"a":"\\x"}', '{"a":"\\u12"}', '{"a":"\\u00e9"}', '{"a":1}x', "", " ",
    "nul", "null", "tRue", "true", "1", '"a"', '"a', "{/*x*/}", "[1]//x", '{"a" 1}', '{"a":1 "b":2}', "[1 2]", "[[]",
    "[]]", "{}{}", '{"a":"é"}', '{1:2}', '{"a":"\\/"}', '{"a":"\\\n"}',
]  # fmt: skip


def is_json(text: str) -> bool:
    try:
        values.decode(text.encode())
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("text", FORMS)
def test_each_form_is_json_for_both_or_for_neither(text: str) -> None:
    assert VALIDITY.are_json([text]) == is_json(text)


@pytest.mark.parametrize("text", ['{"a":"\\ud800"}', '{"a":"\\uDFff"}', '{"a":1}\0x', '{"a":"\0"}'])
def test_what_sqlite_reads_otherwise_is_doubtful(text: str) -> None:
    assert may_be_doubtful(text.encode()) and is_doubtful(text.encode())


def test_an_escape_that_is_a_whole_character_is_not_doubtful() -> None:
    assert not is_doubtful(b'{"a":"\\u00e9\\n\\ue000"}')
    assert not may_be_doubtful(b'{"a":"e"}')


@given(st.text(st.sampled_from('{}[]",:0123456789.eE+-\\untrfalsb \t"'), max_size=20))
def test_texts_of_json_letters_are_json_for_both_or_for_neither(text: str) -> None:
    if not is_doubtful(text.encode()) and VALIDITY.are_json([text]) != is_json(text):
        with pytest.raises(ValueError, match=r"twice|too large"):
            values.decode(text.encode())


@pytest.mark.parametrize("number", [1, 99, 100, 101, 250])
def test_one_bad_text_among_many_is_found_wherever_it_is(number: int) -> None:
    texts = ['{"a":1}'] * number
    assert VALIDITY.are_json(texts)
    for place in {0, number // 2, number - 1}:
        assert not VALIDITY.are_json([*texts[:place], '{"a":1', *texts[place + 1 :]])
