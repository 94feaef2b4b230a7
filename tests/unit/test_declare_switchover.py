"""Declared waves: what a good file means, every problem of a bad one with its line, and any text at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from grafctl.declare import store as declare
from grafctl.declare import switchover
from grafctl.declare.switchover import DeclaredWave
from grafctl.errors import InvalidConfig, NotFound
from grafctl.pipeline import declaring
from grafctl.store.wave_rules import Stops

FOLDER = Path("/folder")
WAVE = '[wave]\nname = "w"\n'
ONE = '[[consumer]]\nname = "a"\nsource = "old"\ntarget = "new"\nshape = "s"\nrisk = "low"\n'
GOOD = WAVE + ONE
STORE = """
[[domain]]
name = "aws"
[[queue]]
name = "old"
replicas = { a = "aws" }
group = [{ name = "a", allow = ["aws"] }]
[[topic]]
name = "new"
replicas = { a = "aws" }
group = [{ name = "b", allow = ["aws"] }]
"""


GROUP_B = 'group = [{ name = "b", allow = ["aws"] }]\n'


def parse(text: str | bytes) -> DeclaredWave:
    return switchover.parse(text.encode() if isinstance(text, str) else text, "wave.toml", FOLDER)


def problems(text: str | bytes) -> list[tuple[int, str]]:
    with pytest.raises(InvalidConfig) as caught:
        parse(text)
    assert caught.value.exit_code == 78 and caught.value.file == "wave.toml"
    return caught.value.problems


# --- good files


def test_who_reads_a_table_has_no_group_there() -> None:
    tables = """
[[domain]]
name = "aws"
[[table]]
name = "old"
replicas = { a = "aws" }
[[table]]
name = "new"
replicas = { a = "aws" }
"""
    (consumer,) = parse(GOOD + tables).consumers
    assert (consumer.source, consumer.target, consumer.group) == ("old", "new", "a")


def test_the_example_holds_with_its_store() -> None:
    wave = switchover.read(ROOT / "examples" / "switchover.toml")
    assert len(wave.consumers) == 20 and len({item.member.shape for item in wave.consumers}) == 5
    assert {item.member.risk for item in wave.consumers} == {"low", "medium", "high"}
    assert wave.declaration is not None and len(wave.declaration.resources) == 10
    assert max(map(len, (ROOT / "examples" / "switchover.toml").read_text().splitlines())) <= 120


def test_what_the_example_leaves_out_is_good_too() -> None:
    lines = (ROOT / "examples" / "switchover.toml").read_text().splitlines()
    bare = [line[2:] if line.startswith(("# max_", "# health_")) else line for line in lines]
    (rules, *others) = {tuple(sorted(item.rules)) for item in parse("\n".join(bare)).consumers}
    assert len(rules) == 7 and not others


def test_what_is_left_out_has_its_defaults() -> None:
    wave = parse(GOOD)
    assert (wave.name, wave.at_once, wave.high_value, wave.drain_ms) == ("w", 1, None, 30_000)
    assert wave.stops == Stops(None, None, True)
    (one,) = wave.consumers
    assert (one.group, one.target_group, one.match, one.fields, one.rules) == ("a", "a", "id", (), {})
    assert (one.window_ms, one.grace_ms, one.member.value) == (600_000, 60_000, 0.0)
    assert (wave.lines[""], one.lines["risk"]) == (1, 8)


def test_a_consumer_says_otherwise_than_the_wave() -> None:
    common = 'match = "key"\nfields = ["x"]\nwindow = "1m"\ngrace = "2s"\nrules = { max_lag = 1, max_idle = "1m" }\n'
    own = 'match = "json:a.b"\nfields = []\nwindow = "2m"\ngrace = "0"\nrules = { max_lag = 2 }\n'
    first, other = parse(WAVE + common + ONE + own + ONE.replace('"a"', '"b"')).consumers
    assert (other.match, other.fields, other.window_ms, other.grace_ms) == ("key", ("x",), 60_000, 2000)
    assert (first.match, first.fields, first.window_ms, first.grace_ms) == ("json:a.b", (), 120_000, 0)
    assert other.rules == {"max_lag": 1, "max_idle_ms": 60_000}
    assert first.rules == {"max_lag": 2, "max_idle_ms": 60_000}


@pytest.mark.parametrize(
    ("line", "value"),
    [('"low"', 0.0), ('"high"', None), ("0", 0.0), ("7", 7.0), ("0.5", 0.5), ("1000000000000000", 1e15)],
)
def test_values_of_value(line: str, value: float | None) -> None:
    assert parse(GOOD + f"value = {line}\n").consumers[0].member.value == value


def test_groups_may_have_another_name_on_each_side() -> None:
    (one,) = parse(GOOD + 'group = "g"\n').consumers
    assert (one.group, one.target_group) == ("g", "g")
    (one,) = parse(GOOD + 'group = "g"\ntarget_group = "h"\n').consumers
    assert (one.group, one.target_group) == ("g", "h")


def test_a_store_in_the_same_file_has_the_outputs_and_the_groups() -> None:
    assert parse(GOOD + 'target_group = "b"\n' + STORE).declaration is not None
    text = (GOOD + 'target_group = "b"\n' + STORE).encode()
    assert len(declare.parse(text, "wave.toml", FOLDER).resources) == 2
    pipeline = (ROOT / "examples" / "pipeline.toml").read_bytes() + GOOD.encode()
    assert declaring.parse(pipeline, Path("wave.toml"), ROOT / "examples").name == "orders"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(NotFound, match="cannot be read"):
            switchover.read(path)


# --- bad files

BAD: list[tuple[str | bytes, int, str]] = [
    ("", 1, "declares no [wave]"),
    (ONE, 1, "declares no [wave]"),
    (WAVE, 1, "declares no [[consumer]]"),
    (WAVE + "[consumer]\n", 3, "consumer of The file is written as [[consumer]], not a table"),
    ("[[wave]]\nname = 'w'\n" + ONE, 1, "wave of The file is written as [wave], not a list"),
    ("[wave]\n" + ONE, 1, "[wave] has no name"),
    ("[wave]\nname = 'a b'\n" + ONE, 2, "no name for a wave"),
    (b"[wave]\nname = '\xff'", 2, "not UTF-8"),
    (GOOD + "[[consumer]\n", 9, "This is not TOML"),
    (WAVE + "at_once = 0\n" + ONE, 3, "'0' is not a whole number from 1 to 100"),
    (WAVE + "at_once = 101\n" + ONE, 3, "from 1 to 100"),
    (WAVE + "at_once = '2'\n" + ONE, 3, "at_once of [wave] is a whole number, not text"),
    (WAVE + "at_once = 0x" + "f" * 5000 + "\n" + ONE, 3, "too large"),
    (WAVE + "stop_after_rollbacks = 0\n" + ONE, 3, "from 1 on"),
    (WAVE + "stop_after_blocked = -1\n" + ONE, 3, "from 1 on"),
    (WAVE + "stop_same_shape = 'yes'\n" + ONE, 3, "true or false, not text"),
    (WAVE + "stop_same_shapes = true\n" + ONE, 3, "did you mean stop_same_shape?"),
    (WAVE + "high_value = 'much'\n" + ONE, 3, "a number, not text"),
    (WAVE + "high_value = -1\n" + ONE, 3, "no number from 0"),
    (WAVE + "high_value = nan\n" + ONE, 3, "no number from 0"),
    (WAVE + "drain = 30\n" + ONE, 3, "text, such as 30s, not a number"),
    (WAVE + "drain = '30'\n" + ONE, 3, "no time"),
    (WAVE + "window = '0'\n" + ONE, 3, "longer than nothing"),
    (WAVE + "grace = '-1s'\n" + ONE, 3, "no time"),
    (WAVE + "match = 'hash'\n" + ONE, 3, "says not where match keys are. Write id, key or json:PATH"),
    (WAVE + "match = 'json:'\n" + ONE, 3, "no path"),
    (WAVE + "fields = 'a'\n" + ONE, 3, "fields of [wave] is a list of texts, not text"),
    (WAVE + "fields = [\n 'a',\n 3]\n" + ONE, 5, "a list of texts, and holds a number"),
    (WAVE + "fields = ['a..b']\n" + ONE, 3, "no path"),
    (WAVE + "fields = ['a~']\n" + ONE, 3, "no tolerance behind the ~. Write total"),
    (WAVE + "fields = ['a~-1']\n" + ONE, 3, "no tolerance"),
    (WAVE + "fields = ['a~inf']\n" + ONE, 3, "no tolerance"),
    (WAVE + "fields = ['a~b']\n" + ONE, 3, "no tolerance"),
    (WAVE + "fields = [" + ", ".join(f"'a{number}'" for number in range(33)) + "]\n" + ONE, 3, "At most 32 fields"),
    (WAVE + "fields = ['a', 'b', 'a~1']\n" + ONE, 3, "The field 'a~1' is declared twice"),
    (WAVE + "rules = 3\n" + ONE, 3, "rules of [wave] is a table, not a number"),
    (WAVE + "rules.max_lag = -1\n" + ONE, 3, "from 0 on"),
    (WAVE + "[wave.rules]\nmax_lags = 1\n" + ONE, 4, "rules of [wave] has no key 'max_lags'; did you mean max_lag?"),
    (WAVE + "rules.max_error_rate = 1.1\n" + ONE, 3, "no share from 0 to 1"),
    (WAVE + "rules.max_error_rate = nan\n" + ONE, 3, "no share from 0 to 1"),
    (WAVE + "rules.max_idle = 5\n" + ONE, 3, "text, such as 5m, not a number"),
    (WAVE + "rules.health_command = ''\n" + ONE, 3, "The health command has 1 to 1024 characters"),
    (WAVE + "rules.health_command = 'check \"billing'\n" + ONE, 3, "cannot be read: No closing quotation"),
    (WAVE + 'rules.health_command = "a\\u0000"\n' + ONE, 3, "that can be printed"),
    (WAVE + "[[consumer]]\n", 3, "[[consumer]] has no name"),
    (WAVE + "[[consumer]]\nname = 3\n", 4, "name of [[consumer]] is text, not a number"),
    (WAVE + "[[consumer]]\nname = 'a/b'\n", 4, "no name for a switch"),
    (GOOD + "risk = 'low'\n", 9, "This is not TOML"),
    (GOOD.replace("low", "tiny"), 8, "'tiny' is not low, medium or high"),
    (GOOD.replace('risk = "low"', ""), 3, "consumer 'a' has no risk"),
    (GOOD.replace('shape = "s"', ""), 3, "consumer 'a' has no shape"),
    (GOOD.replace('"new"', '"old"'), 6, "has one output, old, as its source and its target"),
    (GOOD + "value = 'medium'\n", 9, "'medium' is not low, high or a number"),
    (GOOD + "value = -3\n", 9, "no number from 0"),
    (GOOD + "value = true\n", 9, "low, high or a number, not true or false"),
    (GOOD + "value = 1e16\n", 9, "no number from 0"),
    (GOOD + "rules = { max_lag = 'x' }\n", 9, "max_lag of rules of consumer 'a' is a whole number, not text"),
    (GOOD + "shpae = 's'\n", 9, "no key 'shpae'; did you mean shape?"),
    (GOOD + ONE, 10, "another consumer 'a' before this one"),
    (GOOD + ONE.replace('"a"', '"b"\ngroup = "a"'), 9, "consumer 'b' is of group a of old, as is consumer 'a'"),
    (GOOD + ONE.replace('"a"', '"b"\ntarget_group = "a"'), 9, "is of group a of new, as is consumer 'a'"),
    (GOOD + "[[queue]]\nname = 'old'\n", 1, "declares no [[domain]]"),
    (GOOD + STORE, 6, "target of consumer 'a' has no group 'a'; declare it in new"),
    (
        GOOD.replace('"old"', '"odl"') + STORE,
        5,
        "source of consumer 'a' is 'odl', and no [[queue]], [[topic]] or [[table]]",
    ),
    (
        GOOD + STORE.replace("[[topic]]", "[[table]]").replace(GROUP_B, ""),
        6,
        "has one table; its outputs are of one kind",
    ),
]


@pytest.mark.parametrize(("text", "line", "sentence"), BAD, ids=range(len(BAD)))
def test_a_bad_file(text: str | bytes, line: int, sentence: str) -> None:
    found = problems(text)
    assert any(number == line and sentence in told for number, told in found), found
    assert all(told.endswith((".", "?")) and told.isprintable() for _, told in found), found
    assert len(set(found)) == len(found)


def test_all_problems_come_at_once_and_in_order() -> None:
    text = WAVE.replace('"w"', "3") + "window = 'x'\n" + ONE.replace("low", "tiny") + "vlaue = 3\n" + "[[x]]\n"
    assert [line for line, _ in problems(text)] == [2, 3, 9, 10, 11]


def test_too_many_consumers_are_told_once() -> None:
    text = WAVE + "".join(ONE.replace('"a"', f'"a{number}"') for number in range(1001))
    (problem,) = problems(text)
    assert problem[1] == "The file declares 1001 consumers; a wave has at most 1000."


# --- any text

LOOSE: Any = st.one_of(
    st.sampled_from(["a", "low", "high", "key", "json:x", "a~1", "1m", "", "\0", "x" * 200, "é"]),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.floats(),
    st.dates(),
    st.lists(st.sampled_from(["a", "a~1", 3]), max_size=3),
)
BOTH = ["match", "fields", "window", "grace"]
RULES = st.fixed_dictionaries({}, optional=dict.fromkeys(switchover._RULES, LOOSE))
OWN = ["at_once", "high_value", "drain", "stop_after_rollbacks", "stop_after_blocked", "stop_same_shape"]
WAVES = st.fixed_dictionaries(
    {}, optional={"name": LOOSE, "rules": st.one_of(LOOSE, RULES), **dict.fromkeys([*BOTH, *OWN], LOOSE)}
)
NEEDED = ["name", "source", "target", "group", "target_group", "risk", "value", "shape"]
CONSUMERS = st.lists(
    st.fixed_dictionaries({}, optional={"rules": st.one_of(LOOSE, RULES), **dict.fromkeys([*BOTH, *NEEDED], LOOSE)}),
    max_size=3,
)


@given(text=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))))
def test_any_bytes_are_a_wave_or_a_list_of_problems(text: bytes) -> None:
    reads_or_tells(text)


@given(wave=st.one_of(WAVES, LOOSE), consumers=st.one_of(CONSUMERS, LOOSE))
def test_any_near_miss_is_a_wave_or_a_list_of_problems(wave: Any, consumers: Any) -> None:
    reads_or_tells(tomli_w.dumps({"wave": wave, "consumer": consumers}).encode())


def reads_or_tells(text: bytes) -> None:
    try:
        found = parse(text)
    except InvalidConfig as error:
        rows = text.count(b"\n") + 1
        assert error.problems == sorted(error.problems, key=lambda note: note[0])
        assert all(1 <= line <= rows for line, _ in error.problems)
        assert all(len(told) < 1000 and told.isprintable() for _, told in error.problems)
    else:
        assert found.consumers and all(item.source != item.target for item in found.consumers)
