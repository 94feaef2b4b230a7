"""`[[test]]` cases through real transforms: what passes, and every way in which a case can differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from grafctl.errors import InvalidConfig, NotFound
from grafctl.pipeline import declaring, trying
from grafctl.pipeline.trying import try_cases
from grafctl.results import Tried
from pipeline.declared import FILE, FOLDER, GOOD

HEAD = GOOD[: GOOD.index("[[test]]")]
PUT = 'input = [{ value = { total = 1, name = "é" }, id = "7", key = "k" }]\n'
MADE = '{ total = 1, name = "é" }'


def tried(test: str, head: str = HEAD, folder: Path = FOLDER) -> Tried:
    text = f'{head}[[test]]\nname = "t"\nstage = "tidy"\n{test}'
    return try_cases(declaring.examine(text.encode(), folder / FILE, folder).pipeline)


def difference(test: str, head: str = HEAD, folder: Path = FOLDER) -> list[str]:
    """Returns what differs in a case that has to fail."""
    found = tried(test, head, folder)
    assert (found.passed, found.failed) == (0, 1)
    lines: list[str] = found.cases[0]["difference"]
    assert lines
    return lines


@pytest.mark.parametrize(
    "test",
    [
        f"{PUT}expect = [{{ value = {MADE} }}]",
        f'{PUT}expect = [{{ value = {MADE}, to = "clean", key = "k" }}]',
        "input = [{ value = { total = 0 } }, { value = { total = -5 } }]\nexpect = []",
        'input = [{ value = { total = "x" } }]\nrefuse = "Step 1"',
        'input = [{ value = { total = "x" } }, { value = {} }]\nrefuse = "filter"',
        "input = [{ value = { total = 1.5 } }]\nexpect = [{ value = { total = 1.5 } }]",
        """input = [{ json = '{"total":1,"x":null}' }]\nexpect = [{ json = '{"x":null,"total":1}' }]""",
    ],
)
def test_what_passes(test: str) -> None:
    found = tried(test)
    assert (found.passed, found.failed) == (1, 0) and "difference" not in found.cases[0]


@pytest.mark.parametrize(
    ("expect", "lines"),
    [
        ("[]", ["0 records expected, 1 found", "record 1: - expected, + found"]),
        ('[{ value = { total = 1, name = "e" } }]', ['-     "name": "e",', '+     "name": "é",']),
        ('[{ value = { total = true, name = "é" } }]', ['-     "total": true', '+     "total": 1']),
        ('[{ value = { total = 1.0, name = "é" } }]', ['-     "total": 1.0', '+     "total": 1']),
        ('[{ value = { total = "1", name = "é" } }]', ['-     "total": "1"', '+     "total": 1']),
        (f'[{{ value = {MADE}, to = "bad" }}]', ['-   "to": "bad",', '+   "to": "clean",']),
        (f'[{{ value = {MADE}, key = "j" }}]', ['-   "key": "j",', '+   "key": "k",']),
        (f'[{{ value = {MADE}, id = "7" }}]', ['-   "id": "7",', '+   "id": null,']),
        (f"[{{ value = {MADE} }}, {{ value = 1 }}]", ["2 records expected, 1 found", "record 2: - expected, + found"]),
    ],
)
def test_what_differs_is_shown(expect: str, lines: list[str]) -> None:
    found = difference(f"{PUT}expect = {expect}")
    assert [line for line in lines if line not in found] == []


def test_a_refusal_that_was_not_expected_and_one_that_did_not_come() -> None:
    (line,) = difference('input = [{ value = { total = "x" } }]\nexpect = []')
    assert line.startswith("input 1 was refused: Step 1 (filter)")
    assert difference(f'{PUT}refuse = "x"') == ["input 1 was not refused, and became 1 record"]
    (line,) = difference('input = [{ value = { total = "x" } }]\nrefuse = "schema"')
    assert line.startswith("input 1 was refused, but not for 'schema': Step 1")


def test_a_long_difference_ends_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    many = ", ".join(f"{{ value = {{ total = {at} }} }}" for at in range(1, 900))
    lines = difference(f"input = [{many}]\nexpect = []")
    assert len(lines) == trying.DIFFERENCE_LINES_MAX
    long = ", ".join(f"x{at} = {at}" for at in range(1, 3000))
    lines = difference(
        f"input = [{{ value = {{ total = 1, {long} }} }}]\nexpect = [{{ value = {{ total = 2, {long} }} }}]"
    )
    assert lines == ["record 1: - expected, + found", '-     "total": 2,', '+     "total": 1,']


def test_a_program_and_a_function_are_tried_for_real(tmp_path: Path) -> None:
    (tmp_path / "double.py").write_text("def double(value):\n    return {**value, 'total': value['total'] * 2}\n")
    step = '[[stage.step]]\nop = "filter"\nwhen = "total > 0"\n'
    head = HEAD.replace(step, 'call = "double:double"\n')
    assert head != HEAD
    assert tried(f'{PUT}expect = [{{ value = {{ total = 2, name = "é" }} }}]', head, tmp_path).passed == 1
    head = HEAD.replace(step, 'call = "absent:double"\n')
    with pytest.raises(InvalidConfig) as caught:
        tried(f"{PUT}expect = []", head, tmp_path)
    ((line, sentence),) = caught.value.problems
    assert "absent" in sentence and head.split("\n")[line] == 'name = "tidy"'


def test_a_case_by_its_name() -> None:
    pipeline = declaring.examine(GOOD.encode(), FILE, FOLDER).pipeline
    assert try_cases(pipeline, "positive").passed == 1
    with pytest.raises(NotFound, match="no test 'negative'"):
        try_cases(pipeline, "negative")


ROWS = HEAD.replace('columns = { id = "_id" }', 'columns = { id = "_id", n = "total" }\ntypes = { n = "integer" }')


def of_stage(stage: str, test: str) -> Tried:
    text = f'{ROWS}[[test]]\nname = "t"\nstage = "{stage}"\n{test}'
    return try_cases(declaring.examine(text.encode(), FILE, FOLDER).pipeline)


@pytest.mark.parametrize(
    ("stage", "test"),
    [
        (
            "keep",
            'input = [{ value = { total = 1 }, id = "7" }]\nexpect = [{ value = { id = "7", n = 1 }, key = "7" }]',
        ),
        ("keep", 'input = [{ value = { total = "1" }, id = "7" }]\nrefuse = "Column \'n\'"'),
        ("keep", 'input = [{ value = { total = 1 } }]\nrefuse = "effect key"'),
        ("take", 'input = [{ value = { number = 5 } }]\nexpect = [{ value = { number = 5 }, id = "5", to = "raw" }]'),
        ("take", 'input = [{ json = \'{"number":null}\' }]\nrefuse = "The id is null"'),
    ],
)
def test_an_ingest_names_records_and_a_sink_makes_rows(stage: str, test: str) -> None:
    assert of_stage(stage, test).passed == 1
    assert (
        of_stage(
            stage, test.replace(" = 1", " = 2", 1).replace(" = 5", " = 6", 1).replace('refuse = "', 'refuse = "Z')
        ).failed
        == 1
    )
