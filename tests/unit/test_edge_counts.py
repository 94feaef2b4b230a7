"""What the ends of an edge count, as values and as a cell; and the text that a collector reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.edges import counts
from grafctl.edges.counts import CELL_BYTES, READER_AT, WRITER_AT, Counter, Counts
from grafctl.render_metrics import Metric, exposition, metrics_of

NUMBERS = st.integers(0, 2**64 - 1)


@given(st.lists(NUMBERS, min_size=9, max_size=9))
def test_a_cell_is_read_as_it_was_written_or_counts_nothing(fields: list[int]) -> None:
    cell = Counts(*fields).encode()
    assert Counts.decode(cell) == Counts(*fields)
    for at in range(84):
        wrong = bytearray(cell)
        wrong[at] ^= 1
        assert Counts.decode(bytes(wrong)) == Counts()
    for length in (0, 1, CELL_BYTES - 1, CELL_BYTES + 1):
        assert Counts.decode((cell + cell)[:length]) == Counts()


def test_records_of_all_generations_are_counted_and_the_longest_dip() -> None:
    found = Counts().bound(1)
    assert (found.moved, found.generation) == (0, 1), "the first generation is no change"
    found = found.counted(3, 1_000).counted(5, 1_010)
    assert (found.total(1, 5), found.total(1, 7), found.total(2, 4), found.dip_ms) == (5, 7, 9, 0)
    moved = found.bound(2)
    assert (moved.moved, moved.before, moved.passed, moved.bound(2)) == (1, 5, 0, moved)
    assert moved.total(2, None) == 5 and moved.total(2, 4) == 9
    slow = moved.counted(1, 1_510)
    assert slow.dip_ms == 500 and slow.counted(2, 9_000).dip_ms == 500, "a pause within a generation is none"
    assert slow.bound(3).counted(1, 1_600).dip_ms == 500 and slow.bound(3).counted(1, 9_000).dip_ms == 7_490
    assert slow.bound(3).counted(1, 0).dip_ms == 500, "a clock that went back is no dip"


def test_what_one_end_counted_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    for opened in (1, 2, 3):
        for at in (WRITER_AT, READER_AT):
            counter = Counter(str(tmp_path), "e", at)
            counter.bind(opened, relocated=at == WRITER_AT and opened > 1)
            counter.count(10, 1_000 * opened)
            counter.count(20, 1_000 * opened + 1)
            counter.close()
    writer, reader = counts.read(str(tmp_path), "e")
    assert (writer.restarts, writer.relocated, writer.moved, writer.total(3, 20), writer.dip_ms) == (2, 2, 2, 60, 999)
    assert (reader.restarts, reader.relocated) == (2, 0)
    assert counts.read(str(tmp_path), "absent") == (Counts(), Counts())
    counter = Counter(str(tmp_path), "e", READER_AT)
    counter.find(25)  # it died before it had counted five
    assert counter.counts.total(3, 25) == 65
    counter.close()


def test_counting_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / counts.FOLDER).write_text("no folder")
    counter = Counter(str(tmp_path), "e", WRITER_AT)
    counter.bind(1)
    counter.count(5, 1_000)
    assert counter.counts.total(1, 5) == 5
    counter.close()
    (tmp_path / counts.FOLDER).unlink()
    (tmp_path / counts.FOLDER).mkdir()
    (tmp_path / counts.FOLDER / "e").symlink_to(tmp_path / "elsewhere")
    Counter(str(tmp_path), "e", WRITER_AT).close()
    assert not (tmp_path / "elsewhere").exists() and counts.read(str(tmp_path), "e") == (Counts(), Counts())


LINE = re.compile(r'([a-z_]+)\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)*)\} (-?[0-9.e+-]+)')


def parsed(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Returns the samples of an exposition, read by its own rules: HELP and TYPE first, each metric in one group."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    kinds: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("# HELP "):
            name = line.split(" ", 3)[2]
            assert name not in found and next(lines).rpartition(" ")[0] == f"# TYPE {name}"
            found[name] = {}
            kinds[name] = name
            continue
        match = LINE.fullmatch(line)
        assert match and match[1] == list(found)[-1], line
        labels = tuple(re.findall(r'="((?:[^"\\]|\\.)*)"', match[2]))
        assert labels not in found[match[1]], "a sample is there once"
        found[match[1]][labels] = float(match[3])
    assert text.endswith("\n") or not text
    return found


def edge(**more: Any) -> dict[str, Any]:
    zero = counts.shown((Counts(), Counts()), 1, None, None)
    fields = {"edge": "e", "domain": "aws", "state": "held", "generation": 1, "capacity": 3, "counts": zero}
    return fields | more


def test_metrics_are_grouped_by_name_and_a_state_is_one_of_all() -> None:
    told = counts.shown((Counts(opened=3, relocated=2), Counts(opened=1, dip_ms=1_250)), 2, 4, 9)
    found = parsed(exposition(metrics_of([edge(counts=told, used=5), edge(edge="f", state="expired")])))
    assert found["grafctl_edge_records_pushed_total"] == {("e", "aws"): 9, ("f", "aws"): 0}
    assert found["grafctl_edge_records_popped_total"]["e", "aws"] == 4
    assert found["grafctl_edge_restarts_total"]["e", "aws", "writer"] == 2
    assert found["grafctl_edge_restarts_total"]["e", "aws", "reader"] == 0
    assert found["grafctl_edge_longest_dip_seconds"]["e", "aws"] == 1.25
    assert found["grafctl_edge_used_records"] == {("e", "aws"): 5}, "unknown is absent, and not 0"
    states = found["grafctl_edge_state"]
    assert [labels for labels, value in states.items() if value] == [("e", "aws", "held"), ("f", "aws", "expired")]
    assert exposition(metrics_of([])) == ""


@pytest.mark.parametrize("text", ['a"b', "a\\b", "a\nb", '\\"\n', "ü", ""])
def test_labels_and_help_are_escaped(text: str) -> None:
    told = exposition([Metric("m", "gauge", text, [({"a": text}, 1)])])
    assert len(told.splitlines()) == 3
    (labels,) = parsed(told)["m"]
    unescaped = re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), labels[0])
    assert unescaped == text
