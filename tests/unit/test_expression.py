"""Expressions: what each part of the language gives, and what it refuses, word for word."""

from __future__ import annotations

import ast
import copy
from typing import Any

import pytest

from grafctl.expression.functions import TABLE
from grafctl.expression.language import EvaluationError, compile_expression
from grafctl.expression.operators import SIZE_MAX

RECORD: dict[str, Any] = {
    "total": 12,
    "price": 2.5,
    "status": "paid",
    "customer": {"name": "Ada", "tags": ["a", "b"], "address": {"city": "Paris"}, "gone": None},
    "lines": [{"price": 1, "of": {"n": 2}}, {"price": 2.5, "of": {"n": 3}}],
    "gone": None,
    "ok": True,
    "big": 2**70,
    "when": "2024-02-29T23:59:59.9999+01:30",
    "long": "x" * SIZE_MAX,
    "größe": 1,
    "empty": [],
    "sharp": "ß" * SIZE_MAX,
    "digits": "9" * 5000,
}

GIVES: list[tuple[str, Any]] = [
    # Literals
    ("1", 1), ("-1.5", -1.5), ('"a" "b"', "ab"), ("true", True), ("True", True), ("null", None), ("None", None),
    ("[1, [total], 'a']", [1, [12], "a"]), ("total in (1, 12)", True), ("empty == []", True),
    ("1 in [1] == [1]", True), ("{'a': total, 'b': {}}", {"a": 12, "b": {}}),
    ("0x10", 16), ("1_000", 1000), ("größe", 1), ("- - -total", -12), ("+price", 2.5),
    ("(\n  total\n  + 1\n)", 13), ("[\n1,\n2]", [1, 2]),
    # Arithmetic is exact
    ("big + 1", 2**70 + 1), ("big * big", 2**140), ("-big // 7", -(2**70) // 7), ("-7 // 2", -4), ("-7 % 3", 2),
    ("big / 2", 2**69), ("12 / 4", 3), ("-9 / 3", -3), ("price / 2", 1.25), ("1 / 4.0", 0.25), ("total * price", 30.0),
    ("total - 0.5", 11.5), ("9007199254740993 + 0", 9007199254740993), ("status + '!'", "paid!"),
    ("0.1 + 0.2", 0.1 + 0.2),
    # Comparisons
    ("total > 11", True), ("total > 11.9", True), ("price < 2", False), ("price <= 2.5", True),
    ("1 < total <= 12", True),
    ("3 > total > nothing", False), ("total == 12.0", True), ("big == 1180591620717411303424.0", True),
    ("big + 1 == 1180591620717411303424.0", False), ("ok == 1", False), ("ok != 1", True), ("1 == ok", False),
    ("ok == true", True), ("[ok] == [1]", False), ("{'a': [1]} == {'a': [true]}", False),
    ("{'a': [1]} == {'a': [1.0]}", True),
    ("gone == null", True), ("gone != null", False), ("gone == 0", False), ("gone is null", True),
    ("total is not null", True),
    ("status == 'paid'", True), ("status == 1", False), ("'b' > 'a'", True), ("'B' < 'a'", True),
    ("status >= 'paid'", True),
    ("lines == lines", True), ("'z' > 'é'", False), ("'pai' + 'd' == status", True), ("0 == false", False),
    # Booleans
    ("ok and total > 1", True), ("false and nothing", False), ("ok or nothing", True), ("not ok", False),
    ("1 if ok else nothing", 1), ("nothing if total < 3 else 'x'", "x"), ("not (ok and false)", True),
    # in
    ("'a' in customer['tags']", True), ("'x' not in customer['tags']", True), ("status in ['paid', 'sent']", True),
    ("total in ['paid']", False), ("ok in [1]", False), ("true in [1, ok]", True), ("12.0 in [total]", True),
    ("'name' in customer", True), ("'ai' in status", True), ("1 in []", False), ("lines in ['a']", False),
    ("{'price': 1, 'of': {'n': 2}} in lines", True), ("status in ['x', 1]", False), ("[1] in [[1], 2]", True),
    # Access
    ("customer['tags'][0]", "a"), ("customer['tags'][-1]", "b"), ("lines[1]['price']", 2.5), ("{'a': 1}['a']", 1),
    ("get(customer, 'address.city')", "Paris"), ("get(customer, 'address.street', 'none')", "none"),
    ("get(nothing, 'a', 1)", 1), ("get(lines, '1.of.n')", 3), ("get(gone, 'a', 2)", 2),
    ("get(customer, 'gone', 3)", None),
    ("get({'a.b': 1}, 'a\\\\.b')", 1), ("get(customer['nothing'], 'a', 4)", 4), ("get(lines, '-1', 0)", 0),
    ("exists(total)", True), ("exists(nothing)", False), ("exists(gone)", True), ("exists(customer['x']['y'])", False),
    ("exists(customer['tags'][9])", False), ("exists(get(customer, 'address.city'))", True),
    ("exists(lines[0]['x'])", False),
    ("coalesce(nothing, gone, customer['x'], get(customer, 'y'), 5)", 5), ("coalesce(gone, nothing)", None),
    ("coalesce(status)", "paid"),
    # Functions
    ("text(12)", "12"), ("text(2.5)", "2.5"), ("text(ok)", "true"), ("text('é')", "é"), ("text([1, 'é'])", '[1,"é"]'),
    ("text(big)", str(2**70)), ("int('-0012')", -12), ("int(5.0)", 5), ("int(big)", 2**70), ("int('+3')", 3),
    ("float(3)", 3.0), ("float('2.5e-3')", 0.0025), ("type(gone)", "null"), ("type(ok)", "boolean"),
    ("type(1)", "integer"),
    ("type(1.5)", "fraction"), ("type('')", "text"), ("type([])", "list"), ("type({})", "object"),
    ("len('é€')", 2), ("len(lines)", 2), ("len(customer)", 4), ("lower('ÀB')", "àb"), ("upper('aß')", "ASS"),
    ("strip(' a \\n')", "a"), ("startswith(status, 'pa')", True), ("endswith(status, 'pa')", False),
    ("contains(status, 'ai')", True), ("contains(customer, 'name')", True), ("contains([1], 1)", True),
    ("matches(status, 'p*d')", True), ("matches(status, 'paid')", True), ("matches(status, 'pai')", False),
    ("matches('', '')", True), ("matches('', '*')", True), ("matches('aa', 'a*a')", True),
    ("matches('a', 'a*a')", False),
    ("matches('abcabd', '*ab*d')", True), ("matches('abcab', 'ab**ab')", True), ("matches('xaby', '*b*a*')", False),
    ("replace('aXbX', 'X', '--')", "a--b--"), ("replace(status, 'z', '')", "paid"),
    ("split('a,b,c', ',')", ["a", "b", "c"]),
    ("split('a,b,c', ',', 2)", ["a", "b,c"]), ("split('', ',')", [""]), ("join(customer['tags'], '-')", "a-b"),
    ("join([], ',')", ""), ("substring('héllo', 1, 3)", "él"), ("substring('abc', 1)", "bc"),
    ("substring('abc', 9)", ""),
    ("substring('abc', 2, 1)", ""),
    ("sha256('é')", "4a99557e4033c3539de2eb65472017cad5f9557f7a0625a09f1c3f6e2ba69c4c"),
    ("sha256({'b': 1, 'a': [2]}) == sha256({'a': [2], 'b': 1})", True), ("sha256('1') == sha256(1)", True),
    ("abs(-big)", 2**70), ("abs(-2.5)", 2.5), ("round(2.5)", 2), ("round(3.5)", 4), ("round(2.675, 2)", 2.67),
    ("round(7, 2)", 7), ("round(1e300) > 0", True), ("min(3, 1.5, 2)", 1.5), ("max(customer['tags'])", "b"),
    ("min([4])", 4), ("max(1, 1.0)", 1), ("sum(pluck(lines, 'price'))", 3.5), ("sum([])", 0),
    ("sum([big, 1])", 2**70 + 1),
    ("pluck(lines, 'of.n')", [2, 3]), ("to_ms('1970-01-01')", 0), ("to_ms(when)", 1709245799999),
    ("to_ms('2024-01-01T00:00:00Z')", 1704067200000), ("to_ms('0001-01-01') < 0", True),
    ("from_ms(0)", "1970-01-01T00:00:00.000Z"),
    ("from_ms(to_ms(when))", "2024-02-29T22:29:59.999Z"), ("from_ms(-1)", "1969-12-31T23:59:59.999Z"),
]  # fmt: skip

TOO_LONG = f"the result would be longer than {SIZE_MAX} characters"

FAILS: list[tuple[str, str]] = [
    ("nothing + 1", "There is no field 'nothing'."),
    ("len", "There is no field 'len'."),
    ("coalesce(total, nothing + 1)", "There is no field 'nothing'."),
    ("coalesce(nothing + 1, 2)", "There is no field 'nothing'."),
    ("customer['x']", "In `customer['x']`: the object has no such field."),
    ("customer['tags'][2]", "In `customer['tags'][2]`: the list has no item of this number."),
    ("status[0]", "In `status[0]`: an object takes text and a list an integer in [ ], and this is text[an integer]."),
    ("gone['a']", "In `gone['a']`: an object takes text and a list an integer in [ ], and this is null[text]."),
    ("lines[ok]", "In `lines[ok]`: an object takes text and a list an integer in [ ], and this is a list[a boolean]."),
    ("get(customer, 'x.y')", "In `get(customer, 'x.y')`: there is no such field, and no default is given."),
    ("gone + 1", "In `gone + 1`: + takes two numbers or two texts, not null and an integer."),
    ("ok + 1", "In `ok + 1`: + takes two numbers or two texts, not a boolean and an integer."),
    ("status - 1", "In `status - 1`: - takes two numbers, not text and an integer."),
    ("status * 3", "In `status * 3`: * takes two numbers, not text and an integer."),
    ("[0] * 3", "In `[0] * 3`: * takes two numbers, not a list and an integer."),
    ("'%9d' % 3", "In `'%9d' % 3`: % takes two integers, not text and an integer."),
    ("price // 2", "In `price // 2`: // takes two integers, not a fraction and an integer."),
    ("price % 2", "In `price % 2`: % takes two integers, not a fraction and an integer."),
    ("total / 5", "In `total / 5`: / leaves a remainder; write // for whole parts, or float() for a fraction."),
    ("total / 0", "In `total / 0`: this divides by zero."),
    ("total // 0", "In `total // 0`: this divides by zero."),
    ("total % 0", "In `total % 0`: this divides by zero."),
    ("price / 0", "In `price / 0`: this divides by zero."),
    ("9007199254740993 + price", "In `9007199254740993 + price`: an integer would lose digits as a fraction."),
    ("1e308 * 10", "In `1e308 * 10`: the number is too large."),
    ("-gone", "In `-gone`: - takes a number, not null."),
    ("-status", "In `-status`: - takes a number, not text."),
    ("+ok", "In `+ok`: + takes a number, not a boolean."),
    ("total > status", "In `total > status`: > takes two numbers or two texts, not an integer and text."),
    ("total > 'a'", "In `total > 'a'`: > takes two numbers or two texts, not an integer and text."),
    ("gone < 1", "In `gone < 1`: < takes two numbers or two texts, not null and an integer."),
    ("ok >= 1", "In `ok >= 1`: >= takes two numbers or two texts, not a boolean and an integer."),
    ("lines <= lines", "In `lines <= lines`: <= takes two numbers or two texts, not a list and a list."),
    ("total and ok", "In `total`: this has to be true or false, and is an integer."),
    ("not gone", "In `gone`: this has to be true or false, and is null."),
    ("1 if status else 2", "In `status`: this has to be true or false, and is text."),
    ("1 in total", "In `1 in total`: in looks into text, a list or an object, not into an integer."),
    ("1 in status", "In `1 in status`: in looks for text in text, not for an integer."),
    ("1 not in customer", "In `1 not in customer`: in looks for text in an object, not for an integer."),
    ("text(gone)", "In `text(gone)`: null has no text; write coalesce() around it."),
    ("int(2.5)", "In `int(2.5)`: the fraction is no whole number; write round() around it."),
    ("int('٣')", "In `int('٣')`: the text is no integer of at most 1233 digits."),
    ("int(digits)", "In `int(digits)`: the text is no integer of at most 1233 digits."),
    ("float(digits)", "In `float(digits)`: the text is no number."),
    ("int(ok)", "In `int(ok)`: int() takes a number or text, not a boolean."),
    ("float('nan')", "In `float('nan')`: the text is no number."),
    ("float('1e999')", "In `float('1e999')`: the number is too large."),
    ("float(big + 1)", "In `float(big + 1)`: an integer would lose digits as a fraction."),
    ("len(total)", "In `len(total)`: len() takes text, a list or an object, not an integer."),
    ("lower(total)", "In `lower(total)`: this takes text, not an integer."),
    ("join([1], '')", "In `join([1], '')`: this takes text, not an integer."),
    ("join(status, '')", "In `join(status, '')`: this takes a list, not text."),
    ("split(status, '')", "In `split(status, '')`: split() cannot split at an empty text."),
    ("split(status, ',', 0)", "In `split(status, ',', 0)`: split() makes 1 to 10000 pieces."),
    ("split(long, 'x')", "In `split(long, 'x')`: split() would make more than 10000 pieces."),
    ("replace(status, '', 'x')", "In `replace(status, '', 'x')`: replace() cannot look for an empty text."),
    ("replace(long, 'x', '')+long+'x'", f"In `replace(long, 'x', '')+long+'x'`: {TOO_LONG}."),
    ("replace(long, 'x', '12')", f"In `replace(long, 'x', '12')`: {TOO_LONG}."),
    ("join([long, long], '')", f"In `join([long, long], '')`: {TOO_LONG}."),
    ("long + 'x'", f"In `long + 'x'`: {TOO_LONG}."),
    ("upper(long + '') + 'x'", f"In `upper(long + '') + 'x'`: {TOO_LONG}."),
    ("upper(sharp)", f"In `upper(sharp)`: {TOO_LONG}."),
    ("[long, long]", f"In `the result`: {TOO_LONG}."),
    ("substring(status, -1)", "In `substring(status, -1)`: substring() counts from 0, and takes no negative place."),
    ("substring(status, 1.0)", "In `substring(status, 1.0)`: this takes an integer, not a fraction."),
    ("round(1.5, 16)", "In `round(1.5, 16)`: round() keeps 0 to 15 digits."),
    ("abs(status)", "In `abs(status)`: abs() takes a number, not text."),
    ("min(1, 'a')", "In `min(1, 'a')`: < takes two numbers or two texts, not text and an integer."),
    ("max([gone])", "In `max([gone])`: < takes two numbers or two texts, not null and null."),
    ("max(empty)", "In `max(empty)`: the list is empty."),
    ("max(total)", "In `max(total)`: this takes a list, not an integer."),
    ("sum(['a'])", "In `sum(['a'])`: sum() takes a number, not text."),
    ("pluck(lines, 'x')", "In `pluck(lines, 'x')`: an item of the list has no such field."),
    ("to_ms('2024-02-30')", "In `to_ms('2024-02-30')`: the text is no time such as 2024-01-31T12:30:00Z."),
    ("to_ms('2024-1-1')", "In `to_ms('2024-1-1')`: the text is no time such as 2024-01-31T12:30:00Z."),
    ("to_ms('2024-01-01T00')", "In `to_ms('2024-01-01T00')`: the text is no time such as 2024-01-31T12:30:00Z."),
    ("from_ms(big)", "In `from_ms(big)`: the time is not in the years 1 to 9999."),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), GIVES)
def test_an_expression_gives_this_and_leaves_the_record_alone(text: str, expected: Any) -> None:
    before = copy.deepcopy(RECORD)
    made = compile_expression(text).evaluate(RECORD)
    assert repr(made) == repr(expected)
    assert before == RECORD


@pytest.mark.parametrize(("text", "why"), FAILS)
def test_an_expression_gives_nothing_for_this_reason(text: str, why: str) -> None:
    with pytest.raises(EvaluationError) as failed:
        compile_expression(text).evaluate(RECORD)
    assert str(failed.value) == why


@pytest.mark.parametrize("name", TABLE)
def test_each_function_is_in_a_case_that_gives_something(name: str) -> None:
    assert any(f"{name}(" in text for text, _ in GIVES)


def test_a_thread_that_parses_meanwhile_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = ast.parse, [SystemError("AST constructor recursion depth mismatch (before=39, after=48)")] * 3

    def parse(*args: Any, **how: Any) -> ast.AST:
        if failures:
            raise failures.pop()
        return real(*args, **how)

    monkeypatch.setattr(ast, "parse", parse)
    assert compile_expression("a + 1").evaluate({"a": 1}) == 2 and not failures
