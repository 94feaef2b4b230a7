"""CSV as a source: RFC 4180, and what is not that is a problem of one row."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.errors import Usage
from grafctl.pipeline.sources.item import Item
from grafctl.pipeline.sources.naming import Naming
from grafctl.pipeline.sources.reading import lines
from grafctl.pipeline.sources.separated import FIELDS_MAX, Separated
from grafctl.store.blocks import PAYLOAD_BYTES_MAX
from pipeline.inputs import declare_source, items


def read(tmp_path: Path, text: bytes, start: int = 0, **declared: str) -> list[Item]:
    file = tmp_path / "a.csv"
    file.write_bytes(text)
    return items(declare_source(file, kind="csv", **declared), start)


def test_a_row_is_an_object_of_texts(tmp_path: Path) -> None:
    found = read(tmp_path, b'\xef\xbb\xbfid,"the name"\r\n1, x \r\n\r\n"2","a ""b"", c\r\nd"\n3,\xc3\xa9', id="id")
    assert [(item.payload.decode(), item.id, item.place, item.problem) for item in found] == [
        ('{"id":"1","the name":" x "}', "1", "a.csv:2", None),
        ('{"id":"2","the name":"a \\"b\\", c\\r\\nd"}', "2", "a.csv:4", None),
        ('{"id":"3","the name":"é"}', "3", "a.csv:6", None),
    ]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (b"1", "It has 1 fields, and the header has 2."),
        (b"1,2,3", "It has 3 fields, and the header has 2."),
        (b"1,\xff", "It is not UTF-8."),
        (b"1,\xed\xa0\x80", "It is not UTF-8."),
        (b'1,"a"b', "Something stands behind a closing quote"),
        (b"1,a\rb", "A carriage return stands in a field without quotes."),
        (b",5", "empty"),
    ],
)
def test_a_bad_row_is_a_problem_and_the_next_ones_are_read(tmp_path: Path, row: bytes, why: str) -> None:
    first, bad, last = read(tmp_path, b"id,b\n0,0\n" + row + b"\n9,9\n", id="id")
    assert (first.problem, last.problem, last.place) == (None, None, "a.csv:4")
    assert bad.problem is not None and why in bad.problem
    assert (bad.id, bad.place) == (None, "a.csv:3")
    assert bad.payload in (row, b'{"id":"","b":"5"}')


def test_a_quote_inside_a_field_is_a_character_and_nul_is_one_too(tmp_path: Path) -> None:
    (item,) = read(tmp_path, b'a,b\n5" pipe,x\0y\n')
    assert json.loads(item.payload) == {"a": '5" pipe', "b": "x\0y"}


def test_a_quote_that_is_never_closed_is_one_problem_that_reaches_to_the_end(tmp_path: Path) -> None:
    fine, bad = read(tmp_path, b'a,b\n1,2\n3,"4\n5,6\n7,8\n')
    assert (fine.problem, bad.problem, bad.place) == (None, "It has a quote that is not closed.", "a.csv:3")
    assert bad.payload == b'3,"4\n5,6\n7,8'


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"a,a\n", "'a' twice"),
        (b"a,,b\n", "field 2 of the header has no name"),
        (b"a,\xff\n", "not UTF-8"),
        (b'a,"b\n', "not closed"),
        (b'"a"b,c\n', "closing quote"),
        (b",".join(b"f%d" % at for at in range(FIELDS_MAX + 1)), "at most 10000"),
        (b"x" * (PAYLOAD_BYTES_MAX + 1), "longer than 8 MiB"),
    ],
)
def test_a_header_that_names_nothing_refuses_the_file(tmp_path: Path, header: bytes, why: str) -> None:
    with pytest.raises(Usage, match=why) as caught:
        read(tmp_path, header + b"1,2\n")
    assert caught.value.message.startswith("a.csv:1:")


def test_each_file_has_its_own_header(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x,y\n1,2\n")
    (tmp_path / "b").write_bytes(b"\n\nz\n3\n")
    (tmp_path / "c").write_bytes(b"")
    found = items(declare_source(tmp_path / "a", tmp_path / "c", tmp_path / "b", kind="csv"))
    assert [(item.payload, item.place) for item in found] == [(b'{"x":"1","y":"2"}', "a:2"), (b'{"z":"3"}', "b:4")]


def test_a_start_passes_over_rows_and_not_headers(tmp_path: Path) -> None:
    text = b'a,b\n1,"x\ny"\n\n2\n3,4\n'
    every = read(tmp_path, text)
    assert len(every) == 3
    for start in range(5):
        assert read(tmp_path, text, start) == every[start:]


HUGE = b"x" * (PAYLOAD_BYTES_MAX + 1)
MANY = b"y,z\n" * (PAYLOAD_BYTES_MAX // 4 + 1)


@pytest.mark.parametrize(
    "row",
    [
        b"1," + HUGE,
        b'1,"' + HUGE + b'"',
        b'1,"' + MANY + b'"',
        b'1,"' + MANY + HUGE + b'\n7,8\n"',
        b'1,"a\n' + HUGE + b'\n7,8\n""\n"',
        b'1,"' + HUGE + b'\n7,8\n"',
    ],
    ids=["plain", "quoted", "many lines", "many, then a long one", "a long one inside", "a long one that goes on"],
)
def test_a_row_that_is_too_long_ends_where_its_quotes_end(tmp_path: Path, row: bytes) -> None:
    """What stands inside of it (`7,8`) is never taken for a row."""
    bad, fine = read(tmp_path, b"a,b\n" + row + b"\n5,6\n")
    assert bad.problem is not None and "longer than 8 MiB" in bad.problem and bad.payload == b""
    assert (fine.payload, fine.problem, bad.place) == (b'{"a":"5","b":"6"}', None, "a.csv:2")


def test_a_row_whose_object_is_too_long_is_a_problem(tmp_path: Path) -> None:
    (bad,) = read(tmp_path, b"a\n" + b"\x01" * (PAYLOAD_BYTES_MAX // 4))
    assert bad.problem is not None and "longer than 8 MiB" in bad.problem


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)


@given(st.lists(st.lists(TEXT, min_size=2, max_size=2), max_size=5), st.sampled_from(["\n", "\r\n"]), st.integers(1, 9))
def test_what_a_writer_of_csv_wrote_is_read_back(rows: list[list[str]], end: str, piece: int) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([["a", "b"], *rows])
    text = out.getvalue().encode()
    chunks = (text[at : at + piece] for at in range(0, len(text), piece))
    found = [
        item for batch in Separated(Naming(declare_source(kind="csv")), 0).items(lines(chunks), "a") for item in batch
    ]
    assert [[*json.loads(item.payload).values()] for item in found] == rows
    assert {item.problem for item in found} <= {None}


@given(st.binary(max_size=60).map(lambda text: b"a,b\n" + text))
def test_no_bytes_are_more_than_problems(text: bytes) -> None:
    for batch in Separated(Naming(declare_source(kind="csv")), 0).items(lines(iter([text])), "a"):
        for item in batch:
            assert (item.problem is None) == (item.payload.startswith(b'{"a":"') and item.payload.endswith(b'"}'))
