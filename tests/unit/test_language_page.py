"""What `docs/pipelines.md` says of expressions and steps is so: examples are run, its names are all that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from grafctl.expression import values
from grafctl.expression.code import DEPTH_MAX
from grafctl.expression.functions import PIECES_MAX, TABLE
from grafctl.expression.language import CHARACTERS_MAX, compile_expression
from grafctl.expression.operators import INTEGER_BITS_MAX, SIZE_MAX
from grafctl.expression.scope import ABOUT
from grafctl.pipeline.transforms.executing import ATTEMPTS, WAIT_S
from grafctl.pipeline.transforms.steps import OPERATIONS, OUTPUTS_MAX

PAGE = (Path(__file__).parents[2] / "docs" / "pipelines.md").read_text()
TRANSFORMS = PAGE.partition("## Transforms\n")[2].partition("\n## ")[0]
EXPRESSIONS = PAGE.partition("## Expressions\n")[2].partition("\n## ")[0]
FUNCTIONS = re.findall(r"^\| `(\w+)\((.*?)\)` \| .* \| `(.*)` is `(.*)` \|$", EXPRESSIONS, re.MULTILINE)


def test_each_function_has_a_row_and_each_row_a_function() -> None:
    assert [name for name, *_ in FUNCTIONS] == list(TABLE)
    for name, parameters, *_ in FUNCTIONS:
        given = parameters.split(", ")
        assert TABLE[name].most in (len(given), 100) and TABLE[name].least <= len(given)


@pytest.mark.parametrize(("name", "example", "result"), [(name, *row) for name, _, *row in FUNCTIONS])
def test_each_example_gives_what_the_page_says(name: str, example: str, result: str) -> None:
    assert f"{name}(" in example
    assert values.encode(compile_expression(example).evaluate({})).decode() == result


def test_the_other_examples_compile_and_the_bounds_are_those_of_the_code() -> None:
    (block,) = re.findall(r"```\n(.*?)```", EXPRESSIONS, re.DOTALL)
    for line in block.splitlines():
        compile_expression(line)
    for number in (CHARACTERS_MAX, SIZE_MAX, PIECES_MAX, INTEGER_BITS_MAX):
        assert f"{number:,}" in EXPRESSIONS
    assert f"{DEPTH_MAX} levels" in EXPRESSIONS
    assert all(f"`{name}`" in EXPRESSIONS for name in ABOUT)


def test_each_step_has_a_row_and_the_bounds_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", TRANSFORMS, re.MULTILINE)
    assert rows == ["op", *OPERATIONS]
    assert f"{OUTPUTS_MAX:,} outputs" in TRANSFORMS and f"{WAIT_S:g} seconds" in TRANSFORMS
    assert ATTEMPTS == 3 and "after the third time" in TRANSFORMS
