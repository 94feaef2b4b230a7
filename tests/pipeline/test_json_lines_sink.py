"""The file of lines and the database beside it: torn tails, a database that is gone, a file that was cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grafctl.errors import Corrupt, InvalidConfig
from grafctl.pipeline.message import Message
from pipeline.warehouses import held, open_at, row


def written(path: Path, count: int) -> bytes:
    """Writes so many lines; returns the bytes of the file."""
    sink = open_at("jsonl", path)
    sink.commit([row(sink, number) for number in range(count)])
    sink.close()
    return path.read_bytes()


def forget(path: Path) -> None:
    """Takes the database away."""
    for name in path.parent.glob(f"{path.name}.effects*"):
        name.unlink()


def test_a_line_has_its_effect_key_and_the_columns_in_order(tmp_path: Path) -> None:
    columns = {"b": "b", "a": "a"}
    sink = open_at("jsonl", tmp_path / "w", columns=columns, key='"k/" + b')
    sink.commit([sink.make_row(Message({"a": [2**70, 0.1], "b": "é\n"}))])
    sink.close()
    assert (tmp_path / "w").read_bytes() == (
        '{"_effect":"k/é\\n","b":"é\\n","a":[1180591620717411303424,0.1]}\n'.encode()
    )


@pytest.mark.parametrize(
    "tail", [b"{", b'{"_effect":"orders/2","num', b'{"_effect":"orders/2","number":2,"name":"x"}\n']
)
def test_what_stands_behind_the_committed_length_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    before = written(tmp_path / "w", 2)
    (tmp_path / "w").write_bytes(before + tail)
    assert written(tmp_path / "w", 3).startswith(before)
    assert held("jsonl", tmp_path / "w") == [(number, f"name {number}") for number in range(3)]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 250))
def test_lines_are_recognised_where_the_database_is_gone(tmp_path: Path, cut: int) -> None:
    """Wherever the file was cut: the whole lines that are left are not written again, and the torn one is."""
    path = tmp_path / "w"
    path.unlink(missing_ok=True)
    forget(path)
    text = written(path, 4)
    forget(path)
    path.write_bytes(text[:cut])
    assert written(path, 5).startswith(text)
    assert held("jsonl", path) == [(number, f"name {number}") for number in range(5)]


def test_a_line_that_is_recognised_is_a_replay_or_a_conflict_as_ever(tmp_path: Path) -> None:
    written(tmp_path / "w", 2)
    forget(tmp_path / "w")
    sink = open_at("jsonl", tmp_path / "w")
    found = sink.commit([row(sink, 0), row(sink, 1, "other"), row(sink, 2)])
    assert (found.written, found.replayed, [at for at, _ in found.conflicts]) == (1, 1, [1])
    sink.close()


@pytest.mark.parametrize(
    "text",
    [
        b'{"number":1,"name":"a"}\n',
        b'{"_effect":"x","number":1}\n',
        b'{"_effect":"x","name":"a","number":1}\n',
        b'{"_effect":1,"number":1,"name":"a"}\n',
        b'{"_effect":"x","number":1,"name":"a"}\nnobody\n',
        b"nobody",
        b"\n",
        b"\xff\n",
    ],
)
def test_a_file_of_other_lines_is_refused_and_left_alone(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "w"
    path.write_bytes(text)
    for _ in range(2):
        with pytest.raises(InvalidConfig) as caught:
            open_at("jsonl", path)
        assert "was not written by it" in caught.value.fields["problems"][0]["message"]
    assert path.read_bytes() == text


def test_a_file_that_is_shorter_than_what_was_committed_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "w"
    text = written(path, 3)
    sink = open_at("jsonl", path)
    path.write_bytes(text[:-1])
    with pytest.raises(Corrupt, match=f"has {len(text) - 1} bytes, and {len(text)} were committed"):
        sink.commit([row(sink, 3)])
    assert path.read_bytes() == text[:-1]
    path.unlink()
    with pytest.raises(Corrupt, match="has 0 bytes"):
        sink.commit([row(sink, 3)])
    path.write_bytes(text)
    assert sink.commit([row(sink, 3)]).written == 1
    sink.close()
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [0, 1, 2, 3]
