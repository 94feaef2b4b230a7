"""Expressions: what each part of the language gives, and what it refuses, word for word."""

from __future__ import annotations

from typing import Any

import pytest

from grafctl.errors import Usage
from grafctl.expression.language import EvaluationError, compile_expression

RECORD: dict[str, Any] = {"total": 12, "status": "paid", "customer": {"name": "Ada", "tags": ["a", "b"]}, "gone": None}


def value(text: str, **fields: Any) -> Any:
    return compile_expression(text).evaluate({**RECORD, **fields})


def test_names_arithmetic_and_comparisons() -> None:
    assert value("total * 2 + 1") == 25
    assert value('total > 10 and status == "paid"') is True
    assert value('customer["tags"][-1]') == "b"
    assert compile_expression('total > 10 and customer["name"] == status').names == {"total", "customer", "status"}


def test_a_field_that_is_not_there_is_named() -> None:
    with pytest.raises(EvaluationError, match=r"^There is no field 'nothing'\.$"):
        value("nothing + 1")


def test_what_is_not_part_of_the_language_is_refused_with_its_place() -> None:
    with pytest.raises(Usage, match=r"^Character 5 of the expression: there is no access by a dot; write a\[\"b\"\]"):
        compile_expression("1 + customer.name")
