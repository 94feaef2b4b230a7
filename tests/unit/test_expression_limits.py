"""What is no expression, what an expression may not reach, and how large anything in it may be."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import pytest

from grafctl.errors import Usage
from grafctl.expression.code import DEPTH_MAX, NAMESPACE
from grafctl.expression.language import CHARACTERS_MAX, EvaluationError, Expression, compile_expression
from grafctl.expression.operators import INTEGER_BITS_MAX, INTEGER_MAX
from grafctl.expression.paths import MISSING, find, parse_path
from grafctl.expression.scope import fields_of, is_about, whole_scope

REFUSED: list[tuple[str, str]] = [
    ("().__class__", 'Character 1 of the expression: there is no access by a dot; write a["b"] or get(a, "b.c").'),
    ("1 + a.b", 'Character 5 of the expression: there is no access by a dot; write a["b"] or get(a, "b.c").'),
    ("größe + a.b", 'Character 9 of the expression: there is no access by a dot; write a["b"] or get(a, "b.c").'),
    ("(1 +\n é +\n a.b)", "Character 12 of the expression: there is no access by a dot;"),
    ("a[1:2]", "Character 1 of the expression: there are no slices; write substring(text, start, end)."),
    ("a[1, 2]", "Character 1 of the expression: there are no slices; write substring(text, start, end)."),
    ("exists(a[::])", "Character 8 of the expression: there are no slices; write substring(text, start, end)."),
    ("(1, 2)", "Character 1 of the expression: write a list in [ ]; ( ) around several values stands only right of"),
    ("a in b, c", "Character 1 of the expression: write a list in [ ];"),
    ("{1, 2}", "Character 1 of the expression: there are no sets; write a list in [ ]."),
    ("lambda: 1", "Character 1 of the expression: there are no functions of one's own."),
    ("f'{a}'", "Character 1 of the expression: there are no texts with { } in them; write text(a) + b."),
    ("(a := 1)", "Character 2 of the expression: nothing can be assigned."),
    ("[*a]", "Character 2 of the expression: there is no *."),
    ("len(*a)", "Character 5 of the expression: there is no *."),
    ("9 ** 9 ** 9", "Character 1 of the expression: there is no **."),
    ("1 << 99", "Character 1 of the expression: this operator is not part of the language."),
    ("a @ b", "Character 1 of the expression: this operator is not part of the language."),
    ("~a", "Character 1 of the expression: this is not part of the language."),
    ("[a for a in b]", "Character 1 of the expression: there are no loops; pluck(list, path) takes a field of each"),
    ("sum(a for a in b)", "Character 4 of the expression: there are no loops;"),
    ("await a", "Character 1 of the expression: this is not part of the language."),
    ("(yield)", "Character 2 of the expression: this is not part of the language."),
    ("...", "Character 1 of the expression: this is no JSON value."),
    ("b'a'", "Character 1 of the expression: this is no JSON value."),
    ("1j", "Character 1 of the expression: this is no JSON value."),
    ("1e999", "Character 1 of the expression: this number is too large."),
    (f"a + {INTEGER_MAX + 1}", "Character 5 of the expression: this number is too large."),
    ("'\\ud800'", "Character 1 of the expression: this text holds half a surrogate pair."),
    ("a is 1", "Character 1 of the expression: is and is not are for null alone; write == or !=."),
    ("{a: 1}", "Character 1 of the expression: the keys of an object are texts, written out."),
    ("{**a}", "Character 1 of the expression: the keys of an object are texts, written out."),
    ("{'a': 1, 'a': 2}", "Character 1 of the expression: the object has a key twice."),
    ("__import__('os')", "Character 1 of the expression: there is no function '__import__'."),
    ("eval('1')", "Character 1 of the expression: there is no function 'eval'."),
    ("lenn(a)", "Character 1 of the expression: there is no function 'lenn'."),
    ("a['b'](1)", "Character 1 of the expression: only a function by its name can be called."),
    ("len(1)(2)", "Character 1 of the expression: only a function by its name can be called."),
    ("len()", "Character 1 of the expression: len() takes 1 argument, without names."),
    ("len(a, b)", "Character 1 of the expression: len() takes 1 argument, without names."),
    ("len(text=a)", "Character 1 of the expression: len() takes 1 argument, without names."),
    ("len(a, text=a)", "Character 1 of the expression: len() takes 1 argument, without names."),
    ("get(a)", "Character 1 of the expression: get() takes 2 to 3 arguments, without names."),
    ("get(a, b)", 'Character 8 of the expression: the path of get() is written out, such as "customer.city".'),
    ("get(a, 'b..c')", "Character 8 of the expression: 'b..c' is no path."),
    ("pluck(a, 1)", 'Character 10 of the expression: the path of pluck() is written out, such as "customer.city".'),
    ("exists('a.b')", 'Character 8 of the expression: exists() takes a field, such as a, a["b"] or get(a, "b.c").'),
    ("exists(true)", 'Character 8 of the expression: exists() takes a field, such as a, a["b"] or get(a, "b.c").'),
    ("exists(a + b)", 'Character 8 of the expression: exists() takes a field, such as a, a["b"] or get(a, "b.c").'),
    ("ﬁeld", "Character 1 of the expression: this name is spelt in letters that stand for others."),
    ("1 + \u212a", "Character 5 of the expression: this name is spelt in letters that stand for others."),
    ("", "The expression is empty."),
    (" \n\t", "The expression is empty."),
    (" a", "Character 1 of the expression: it begins with a space."),
]  # fmt: skip

NO_EXPRESSIONS = [
    "1 +", "a b", "a; b", "import os", "a = 1", "del a", "class", "from", "(", ")", "(a) + (b))", "'a", '"""', "a\nb",
    "\\", "'\\d'", "'\\N{nothing}'", "0777", "1__0", "1if a else 2", "a\0b", "\x1b[31m", "\ufeffa", "?", "$a",
    "{{a}}", "a ? b : c", "a && b", "a || b", "!a", "a <> b", "`a`", "pass", "return 1", "#", "# a", "*a",
    "**a", "\ud800", "'\ud800'",
    "[" * 300, "(" * 4000, "- " * 2000, "not " * 1000, "f(" * 1000, "a[" * 1500, "lambda:" * 500, "a if " * 800,
]  # fmt: skip


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_what_is_not_part_of_the_language_is_refused_with_its_place(text: str, why: str) -> None:
    with pytest.raises(Usage) as refused:
        compile_expression(text)
    assert refused.value.message.startswith(why)


@pytest.mark.parametrize("text", NO_EXPRESSIONS)
def test_what_is_no_expression_is_refused_in_one_sentence(text: str) -> None:
    with warnings.catch_warnings(record=True) as warned, pytest.raises(Usage) as refused:
        warnings.simplefilter("always")
        compile_expression(text)
    message = refused.value.message
    assert not warned and len(message) < 250 and message.isprintable() and message.endswith(".")


def test_a_function_that_is_mistyped_is_guessed() -> None:
    with pytest.raises(Usage) as refused:
        compile_expression("startwith(a, 'b')")
    assert refused.value.hint == "Did you mean startswith()?"
    with pytest.raises(Usage) as refused:
        compile_expression("qqqqqqqqq(a)")
    assert "coalesce, contains" in str(refused.value.hint)


@pytest.mark.parametrize("value", [None, 3, b"a", ["a"]])
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(Usage):
        compile_expression(value)


def test_the_length_and_the_depth_have_a_limit() -> None:
    body = "a" + " + a" * 40
    assert compile_expression(body + " " * (CHARACTERS_MAX - len(body))).evaluate({"a": 1}) == 41
    with pytest.raises(Usage, match=rf"has {CHARACTERS_MAX + 1} characters; at most {CHARACTERS_MAX} are allowed"):
        compile_expression("a" * (CHARACTERS_MAX + 1))
    for open_, close in (("[", "]"), ("not (", ")"), ("exists(a[", "])"), ("len(", ")"), ("coalesce(a[0", "])")):
        deep = DEPTH_MAX + 5
        with pytest.raises(Usage, match=f"nested more than {DEPTH_MAX} levels deep"):
            compile_expression(open_ * deep + "a['b']" + close * deep if "[0" not in open_ else "a" + "[0]" * deep)
    with pytest.raises(Usage, match=f"nested more than {DEPTH_MAX} levels deep"):
        compile_expression("coalesce(a" + "[0]" * (DEPTH_MAX + 1) + ")")
    many = " or ".join(["a"] * 500)
    assert compile_expression(many).evaluate({"a": True}) is True


def test_integers_have_a_limit_and_are_exact_up_to_it() -> None:
    most = {"a": INTEGER_MAX, "b": 2 ** (INTEGER_BITS_MAX // 2), "huge": 10**4299}
    assert compile_expression("a - 1 + 1 == a and -a < 0").evaluate(most) is True
    assert compile_expression("huge == huge and huge > a").evaluate(most) is True
    plain = ["a + 1", "-a - 1", "b * b", "huge + 0", "-huge", "huge // 1", "huge * 1.0", "huge / 2"]
    for text in [*plain, "abs(huge)", "sum([huge])", "text(huge)", "int(huge)", "round(huge)", "float(huge)"]:
        with pytest.raises(EvaluationError):
            compile_expression(text).evaluate(most)
    assert compile_expression("b * (b - 1)").evaluate(most) == most["b"] * (most["b"] - 1)


def test_the_code_names_nothing_but_what_the_tables_have() -> None:
    text = 'coalesce(get(a, "b.c", 0), [b in ["x"], not c]) if exists(d["e"]) and 1 < f <= 3 else -len({"k": g / 2})'
    expression = compile_expression(text)
    assert expression.names == set("abcdfg") and expression.source == text
    code: Any = expression.evaluate
    assert set(code.__code__.co_names) <= set(NAMESPACE) | {"KeyError", "RecursionError", "missing", "too_deep"}
    assert not code.__code__.co_freevars and code.__globals__["__builtins__"] == {}


def test_names_in_an_expression_never_name_what_runs_it() -> None:
    for name in ("scope", "kept_1", "add", "type", "int", "KeyError", "call_len", "missing", "__builtins__", "error"):
        with pytest.raises(EvaluationError, match="There is no field"):
            compile_expression(name).evaluate({})
        assert compile_expression(f"{name} > 1 and {name} < 3").evaluate({name: 2}) is True


def test_a_value_that_is_nested_too_deeply_is_an_error() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for text in ("a == b", "text(a)", "sha256(a)", "a in [b]"):
        with pytest.raises(EvaluationError):
            compile_expression(text).evaluate({"a": deep, "b": [*deep]})
    while deep:  # or Python takes it apart by recursion
        deep = deep.pop()


def test_an_expression_says_what_it_gives_where_that_is_known() -> None:
    known = [
        ("a > 1", "bool"), ("a + 1", ""), ("text(a) + 'x'", "text"), ("len(a) - 1", "int"), ("-len(a)", "int"),
        ("'a' if b else text(c)", "text"), ("1 if a else 'x'", ""), ("len(a) / 2", "int"), ("a", ""),
    ]  # fmt: skip
    for text, kind in known:
        assert compile_expression(text).kind == kind
    with pytest.raises(EvaluationError):
        compile_expression("len(a) / 2").evaluate({"a": "abc"})


def test_an_expression_goes_to_another_process_as_its_text() -> None:
    again: Expression = pickle.loads(pickle.dumps(compile_expression("a + 1")))
    assert again.evaluate({"a": 2}) == 3 and repr(again) == "Expression('a + 1')"


def test_paths_are_read_and_followed() -> None:
    assert parse_path(r"a\.b.c\\.0") == ("a.b", "c\\", "0")
    value = {"a.b": [{"c": 1}, [2]], "": 5}
    assert find(value, parse_path(r"a\.b.0.c")) == 1 and find(value, parse_path(r"a\.b.1.0")) == 2
    for missing in (r"a\.b.2", r"a\.b.-1", r"a\.b.00", r"a\.b.x", "x", r"a\.b.0.c.d", r"a\.b.٣", r"a\.b." + "9" * 100):
        assert find(value, parse_path(missing)) is MISSING
    for bad in ("", ".", "a.", ".a", "a..b", "a\\", "a\\b", "a" * 2000, "a." * 40 + "a"):
        with pytest.raises(Usage):
            parse_path(bad)


def test_a_record_is_seen_with_what_is_known_of_it() -> None:
    assert is_about({"a", "_offset"}) and not is_about({"a", "_links"})
    scope = whole_scope({"a": 1, "_id": "own"}, "i", None, {"type": "t"}, 7)
    assert scope == {
        "a": 1,
        "_id": "i",
        "_key": None,
        "_headers": {"type": "t"},
        "_offset": 7,
        "_value": {"a": 1, "_id": "own"},
    }
    assert (
        whole_scope([1], None, "k", None, None)["_headers"] == {}
        and fields_of([1]) == {}
        and fields_of({"a": 1}) == {"a": 1}
    )
