"""JSON Lines as a source: payloads as they stand, names by expressions, and a problem where there is no record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from grafctl.errors import NotFound, Usage
from grafctl.pipeline.sources import reading
from grafctl.pipeline.sources.item import Item
from grafctl.pipeline.sources.naming import Naming
from grafctl.pipeline.sources.opening import open_source
from grafctl.store.blocks import PAYLOAD_BYTES_MAX
from pipeline.inputs import declare_source, items


def write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def problems(found: list[Item]) -> list[str | None]:
    return [item.problem for item in found]


def test_a_payload_is_the_bytes_of_its_line(tmp_path: Path) -> None:
    lines = [b'{"a": 1.50, "b":"\xc3\xa9"}', b" [1,2]\t", b'"text"\r', b"12345678901234567890123"]
    found = items(declare_source(write(tmp_path / "a.jsonl", *lines)))
    assert [item.payload for item in found] == lines
    assert [item.place for item in found] == [f"a.jsonl:{at}" for at in (1, 2, 3, 4)]
    assert problems(found) == [None] * 4


def test_several_files_come_in_order_and_places_tell_them_apart(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    first, second = write(tmp_path / "x.jsonl", b"1", b"2"), write(tmp_path / "a.jsonl", b"3")
    third = write(tmp_path / "b" / "a.jsonl", b"4")
    found = items(declare_source(first, second, third))
    assert [(item.payload, item.place) for item in found] == [
        (b"1", "x.jsonl:1"),
        (b"2", "x.jsonl:2"),
        (b"3", f"{second}:1"),
        (b"4", f"{third}:1"),
    ]


def test_blank_lines_are_passed_over_and_counted_as_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"\xef\xbb\xbf1\n\n \t\r\n2\n\n3")
    found = items(declare_source(file))
    assert [(item.payload, item.place) for item in found] == [
        (b"1", "a.jsonl:1"),
        (b"2", "a.jsonl:4"),
        (b"3", "a.jsonl:6"),
    ]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "not JSON"),
        (b'{"id":1,}', "not JSON"),
        (b'{"id":1', "not JSON"),
        (b'{"id":1}x', "not JSON"),
        (b'{"id":1}\0x', "not JSON"),
        (b'{"id":NaN}', "not JSON"),
        (b'{"id":1,"a":\xff}', "not UTF-8"),
        (b'{"id":"\\ud800"}', "surrogate"),
        (b"nobody", "not JSON"),
    ],
)
@pytest.mark.parametrize("name", [None, "id", 'text(id) + ""'])
def test_a_line_that_is_no_json_is_a_problem_and_the_next_ones_are_read(
    tmp_path: Path, line: bytes, why: str, name: str | None
) -> None:
    file = write(tmp_path / "a.jsonl", b'{"id":1}', line, b'{"id":2}')
    first, bad, last = items(declare_source(file, id=name))
    assert (first.problem, last.problem) == (None, None)
    assert bad.problem is not None and (why in bad.problem or "no JSON" in bad.problem), bad.problem
    assert (bad.payload, bad.place, bad.id) == (line, "a.jsonl:2", None)


LINES = [
    b'{"id":17,"a":1}',
    b'{"id":"x-\xc3\xa9","a":1}',
    b'{ "id" : -5 ,"a":1}',
    b'{"a":1,"id":0}',
    b'{"a":{"id":3},"id":4}',
    b'{"a":[{"id":3}],"id":5}',
    b'{"a":"\\"id\\":7","id":6}',
    b'{"a":"{","id":8}',
    b'{"a":"id","id":9}',
    b'{"id":"a\\u0062c"}',
    b'{"id":123456789012345678901234567890}',
    b'{"id":1.0}',
    b'{"id":1e3}',
    b'{"id":true}',
    b'{"id":null}',
    b'{"id":""}',
    b'{"id":[1]}',
    b'{"a":{"id":1}}',
    b'[{"id":1}]',
    b"17",
    b'{"id":"' + b"x" * 1024 + b'"}',
    b'{"id":"' + b"x" * 1025 + b'"}',
    b'{"id":"' + "é".encode() * 513 + b'"}',
    b'{"id":"\\ud83d\\ude00"}',
    b'{"id":"\\u0000"}',
]


@pytest.mark.parametrize("line", LINES)
def test_a_field_found_in_the_line_is_the_field_that_the_decoder_gives(tmp_path: Path, line: bytes) -> None:
    """The same expression in parentheses is no name that stands alone, so that it is evaluated."""
    file = write(tmp_path / "a.jsonl", line)
    for option in ("id", "key"):
        (quick,) = items(declare_source(file, **{option: "id"}))
        (slow,) = items(declare_source(file, **{option: "(id)"}))
        assert quick == slow


def test_only_a_field_that_stands_alone_is_found_without_a_decoder() -> None:
    assert Naming(declare_source(id="id")).find(b'{"id":17}') == ("17", None, None)
    assert Naming(declare_source(id="id", key="k")).find(b'{"k":"z","id":17}') == ("17", "z", None)
    assert Naming(declare_source(key="k")).find(b'{"k":"z","id":17}') == (None, "z", None)
    assert not Naming(declare_source(id="(id)")).can_find
    assert not Naming(declare_source(id="id", headers={"a": "k"})).can_find
    assert not Naming(declare_source(id="true")).can_find


def test_id_key_and_headers_are_what_expressions_give(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", b'{"id":7,"who":{"name":"n"},"type":"t","none":null}')
    (item,) = items(
        declare_source(
            file, id='"order-" + text(id)', key='who["name"]', headers={"type": "type", "none": "none", "n": "id"}
        )
    )
    assert item[1:4] == ("order-7", "n", {"type": "t", "n": "7"})
    (plain,) = items(declare_source(file, id="id", key="none", headers={"none": "none"}))
    assert plain[1:4] == ("7", None, None)
    (whole,) = items(declare_source(file, id='text(_value["id"])'))
    assert whole.id == "7"


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        ({"id": "absent"}, "absent"),
        ({"id": "none"}, "The id is null."),
        ({"id": "fraction"}, "The id is a fraction"),
        ({"key": "who"}, "The key is an object"),
        ({"headers": {"h": "who"}}, "header 'h' is an object"),
        ({"key": "_headers"}, "The key is an object"),
        ({"headers": {"h": '"x" * 3'}}, "header 'h' cannot be had"),
    ],
)
def test_a_name_that_cannot_be_had_is_a_problem_that_holds_no_value(
    tmp_path: Path, declared: dict[str, str], why: str
) -> None:
    file = write(tmp_path / "a.jsonl", b'{"fraction":1.25,"who":{"name":"secret"},"none":null}')
    (item,) = items(declare_source(file, **declared))
    assert item.problem is not None and why in item.problem
    assert "secret" not in item.problem and "1.25" not in item.problem
    assert item.id is None and item.payload.startswith(b'{"fraction"')


def test_a_line_that_is_too_long_is_a_problem_and_was_never_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.jsonl"
    with file.open("wb") as handle:
        handle.write(b'"' + b"x" * (PAYLOAD_BYTES_MAX - 2) + b'"\n')
        handle.write(b'"' + b"x" * (PAYLOAD_BYTES_MAX - 1) + b'"\n')
        handle.write(b"1\n")
        handle.write(b"y" * (3 * PAYLOAD_BYTES_MAX))
    sizes = []
    joined = reading._joined

    def spied(held: list[bytes], end: bytes, *rest: int) -> reading.Line:
        sizes.append(sum(map(len, held)))
        return joined(held, end, *rest)

    monkeypatch.setattr(reading, "_joined", spied)
    fits, too_long, short, last = items(declare_source(file))
    assert (len(fits.payload), fits.problem) == (PAYLOAD_BYTES_MAX, None)
    assert (short.payload, short.problem, short.place) == (b"1", None, "a.jsonl:3")
    for item in (too_long, last):
        assert item.payload == b"" and item.problem is not None and "longer than 8 MiB" in item.problem
    assert max(sizes) <= PAYLOAD_BYTES_MAX


def test_a_start_passes_over_items_of_all_files(tmp_path: Path) -> None:
    files = [write(tmp_path / "a.jsonl", b"1", b"", b"{", b"3"), write(tmp_path / "b.jsonl", b"4", b"5")]
    every = items(declare_source(*files))
    assert len(every) == 5
    for start in range(7):
        assert items(declare_source(*files), start) == every[start:]


def test_a_start_before_the_first_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="starts at item 0 or later"):
        open_source(declare_source(write(tmp_path / "a")), start=-1)


def test_files_that_cannot_be_read_are_refused_before_any_is(tmp_path: Path) -> None:
    there = write(tmp_path / "a.jsonl", b"1")
    for path, why in (
        (tmp_path / "absent", "No such file"),
        (tmp_path, "directory"),
        (tmp_path / "a\0b", "null"),
        (there / "below", "Not a directory"),
        (tmp_path / ("x" * 5000), "too long"),
    ):
        with pytest.raises(NotFound, match=why) as caught:
            open_source(declare_source(there, path))
        assert caught.value.message.startswith("Source orders:")


def test_an_expression_that_is_none_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(Usage):
        open_source(declare_source(tmp_path / "absent", id="a +"))


def test_an_empty_file_has_no_items(tmp_path: Path) -> None:
    assert items(declare_source(write(tmp_path / "a"))) == []


def test_a_batch_holds_what_one_read_gave(tmp_path: Path) -> None:
    record = json.dumps({"id": 1, "pad": "x" * 1000}).encode()
    file = write(tmp_path / "a.jsonl", *[record] * 5000)
    with open_source(declare_source(file, id="id")) as source:
        sizes = [len(batch) for batch in source.batches()]
    assert sum(sizes) == 5000 and len(sizes) >= 5 and max(sizes) <= 1200
