"""Python functions as transforms: where they are found, what they are given and may return, and what errors say."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import ExternalFailed, Usage
from grafctl.pipeline.message import Message, Output, Refused
from pipeline.transforming import transform

ABOUT: dict[str, Any] = {"id": "i", "key": "k", "headers": {"type": "t"}, "offset": 3}


def call(folder: Path, body: str, value: Any = None, *, name: str = "shop:work") -> list[Output]:
    """Returns what the function `work` of a module makes of a value."""
    (folder / "shop.py").write_text(textwrap.dedent(body))
    return list(transform(folder=folder, call=name)(Message({"a": 1} if value is None else value, **ABOUT)))


def test_a_function_gives_an_object_or_several_or_none(tmp_path: Path) -> None:
    assert call(tmp_path, "def work(value): return {**value, 'b': 2}") == [
        Output({"a": 1, "b": 2}, None, "k", None, {"type": "t"})
    ]
    assert [output.value for output in call(tmp_path, "def work(value): return [{'n': n} for n in (1, 2)]")] == [
        {"n": 1}, {"n": 2},
    ]  # fmt: skip
    assert call(tmp_path, "def work(value): return None") == []
    assert call(tmp_path, "def work(value): return []") == []


@pytest.mark.parametrize(
    "head",
    [
        "def work(message):",
        "def work(m: Message):",
        "from __future__ import annotations\ndef work(m: Message):",
        "import grafctl.pipeline.message as seam\ndef work(m: seam.Message):",
        "def work(m: 'Message', more=None):",
    ],
)
def test_a_function_that_asks_for_the_message_gets_it(tmp_path: Path, head: str) -> None:
    imports = "" if head.startswith("from __future__") else "from grafctl.pipeline.message import Message\n"
    body = f"{imports}{head}\n    m = locals().get('m') or message\n    return {{'id': m.id, 'offset': m.offset}}\n"
    assert call(tmp_path, body)[0].value == {"id": "i", "offset": 3}


def test_an_output_says_where_it_goes(tmp_path: Path) -> None:
    body = """
        from grafctl.pipeline.message import Output
        def work(value):
            return [Output([1], "b", id="x"), Output({"a": 2}, headers={"h": "1"})]
    """
    assert call(tmp_path, body) == [Output([1], "b", None, "x"), Output({"a": 2}, headers={"h": "1"})]
    for bad in ("to=3", "id=b'x'", "key=1", "headers={'a': 1}", "headers=[1]", "headers=7"):
        with pytest.raises(Refused, match="to, key, id and headers of an Output are texts"):
            call(tmp_path, f"from grafctl.pipeline.message import Output\ndef work(value): return Output({{}}, {bad})")


DEEP = "a value that is nested more than 100 levels deep"


@pytest.mark.parametrize(
    ("returned", "why"),
    [
        ("'text'", "it returned text, and no object."),
        ("3", "it returned an integer, and no object."),
        ("({},)", "it returned a tuple, and no object."),
        ("[{}, None]", "it returned null, and no object."),
        ("iter([{}])", "it returned a list_iterator, and no object."),
        ("{'a': float('nan')}", "it returned NaN or Infinity."),
        ("{'a': [{1: 2}]}", "it returned an object with a key that is no text."),
        ("{'a': (1, 2)}", "it returned a tuple, which is no JSON."),
        ("{'a': b'x'}", "it returned a bytes, which is no JSON."),
        ("(lambda x: x.append(x) or {'a': x})([])", f"it returned {DEEP}."),
        ("(lambda x: x.extend([x, x]) or {'a': x})([])", f"it returned {DEEP}."),
        ("[{}] * 10001", "the record becomes more than 10000."),
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(tmp_path: Path, returned: str, why: str) -> None:
    with pytest.raises(Refused) as refused:
        call(tmp_path, f"def work(value): return {returned}")
    assert str(refused.value) == f"shop:work: {why}"


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("raise ValueError('the order has no lines')", "ValueError in line 3: the order has no lines."),
        ("raise ValueError(f'{value} is bad')", "ValueError in line 3."),
        ("raise ValueError(value['a'])", "ValueError in line 3."),
        ("int(value['a'])", "ValueError in line 3."),
        ("value['b']", "KeyError in line 3."),
        ("value[value['a']]", "KeyError in line 3."),
        ("json.loads(value['a'])", "JSONDecodeError in line 3."),
        ("import sys; sys.exit('paid')", "SystemExit in line 3."),
        ("raise KeyError('paid') if value['a'] else ValueError('paid')", "KeyError in line 3."),
        ("x = 'hunter2'; raise ValueError(value['a'])", "ValueError in line 3."),
        ("work(value)", "RecursionError in line 3."),
        ("raise Refused('no lines')", "no lines"),
        ("raise Refused('a\\nb\\x1b' + 'x' * 1000)", "a b " + "x" * 496),
    ],
)
def test_an_exception_refuses_the_record_without_what_it_holds(tmp_path: Path, line: str, why: str) -> None:
    body = f"import json; from grafctl.pipeline.message import Refused\ndef work(value):\n    {line}\n"
    with pytest.raises(Refused) as refused:
        call(tmp_path, body, {"a": SECRET})
    assert str(refused.value) == f"shop:work: {why}"
    assert refused.value.__cause__ is None and refused.value.__suppress_context__


def test_what_fails_outside_ends_the_stage_and_refuses_nothing(tmp_path: Path) -> None:
    with pytest.raises(ExternalFailed, match="The function shop:work failed: FileNotFoundError"):
        call(tmp_path, "def work(value): open('/nowhere/at/all')")
    with pytest.raises(ExternalFailed, match="MemoryError"):
        call(tmp_path, "def work(value): raise MemoryError")
    with pytest.raises(KeyboardInterrupt):
        call(tmp_path, "def work(value): raise KeyboardInterrupt")


def test_a_module_is_looked_for_in_the_folder_first(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, number in ((one, 1), (other, 2)):
        (folder / "parts").mkdir(parents=True)
        (folder / "shop.py").write_text(f"def work(value): return {{'n': {number}}}")
        (folder / "json.py").write_text(f"def work(value): return {{'json': {number}}}")
    for folder, number in ((one, 1), (other, 2), (one, 1)):
        assert transform(folder=folder, call="shop:work")(Message({}))[0].value == {"n": number}
        assert transform(folder=folder, call="json:work")(Message({}))[0].value == {"json": number}
    import json

    assert json.dumps([1]) == "[1]" and "shop" not in sys.modules


def test_a_module_of_a_package_and_what_lies_beside_it_are_found(tmp_path: Path) -> None:
    parts = tmp_path / "parts_of_shop"
    parts.mkdir()
    (parts / "clean.py").write_text("from parts_of_shop.words import WORD\ndef work(v): return {'w': WORD}")
    (parts / "words.py").write_text("WORD = 'ok'")
    (tmp_path / "beside_shop.py").write_text("WORD = 'beside'")
    assert call(tmp_path, "", name="parts_of_shop.clean:work")[0].value == {"w": "ok"}
    (made,) = call(tmp_path, "def work(v):\n    import beside_shop\n    return {'w': beside_shop.WORD}")
    assert made.value == {"w": "beside"}
    (tmp_path / "email").mkdir()
    with pytest.raises(Usage, match=r"There is another module email\.message, which Python finds before"):
        call(tmp_path, "", name="email.message:Message")


def test_a_module_that_was_changed_is_read_anew(tmp_path: Path) -> None:
    assert call(tmp_path, "def work(value): return {'n': 1}")[0].value == {"n": 1}
    assert call(tmp_path, "def work(value): return {'n': 2}")[0].value == {"n": 2}  # the same size, in the same second


@pytest.mark.parametrize(
    ("name", "body", "why"),
    [
        ("shop", "", "'shop' is no function; write module:function."),
        (":work", "", "':work' is no function; write module:function."),
        ("shop:", "", "'shop:' is no function; write module:function."),
        ("shop:a.b", "", "'shop:a.b' is no function; write module:function."),
        ("../shop:work", "", "'../shop:work' is no function; write module:function."),
        ("", "", "'' is no function; write module:function."),
        ("shop:work", "x = 1", "The module shop has no function work."),
        ("shop:work", "work = 1", "The module shop has no function work."),
        ("shop:work", "def work(): pass", "The function shop:work has to take one argument."),
        ("shop:work", "def work(a, b): pass", "The function shop:work has to take one argument."),
        ("shop:work", "def work(:", "The module shop cannot be imported: SyntaxError: "),
        ("shop:work", "import no_such_name", "The module shop cannot be imported: No module named 'no_such_name'."),
        ("shop:work", "raise SystemExit(3)", "The module shop cannot be imported: SystemExit: 3"),
        ("nothing_of_this_name:work", "", "The module nothing_of_this_name cannot be imported: No module named"),
        ("sys:exit", "", "The module sys has no file of which a fingerprint could be taken."),
    ],
)  # fmt: skip
def test_a_name_that_is_no_function_is_refused(tmp_path: Path, name: str, body: str, why: str) -> None:
    with pytest.raises(Usage) as refused:
        call(tmp_path, body, name=name)
    assert refused.value.message.startswith(why)
