"""The command line, fuzzed: any arguments end with a code of the table and a sentence, never with a traceback.

Each example takes a command of the tree with arguments that would do, and then spoils some of them: left out, empty,
huge, of the wrong type, hostile, or a path that is a directory, a pipe or a device. It runs on a store of its own.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from cli.tree import Leaf, leaves
from hypothesis import given
from hypothesis import strategies as st

from fuzz.effort import GIVEN, examples
from fuzz.running import Sandbox, check, run

LEAVES = list(leaves())
GOOD = {
    "resource": "q", "group": "g", "-g": "g", "-d": "aws", "-s": "store", "offset": "0", "op": "poll", "domain": "aws",
    "status": "healthy", "file": "ok.toml", "code": "11", "seq": "0", "shell": "bash", "payload": "x",
    "--public-key": "sched.pub", "--key-file": "sched.key", "--authority": "sched", "--schema": "s.v1",
    "--replica": "r-aws=aws", "--to": "0", "--as": "n", "--proof": "none", "--generation": "2", "--add": "r-new=gcp",
    "--remove": "r-gcp", "--epoch": "0", "directory": "new", "--from": "ok.toml", "--path": "elsewhere", "-n": "1",
    "--wait": "1ms", "--header": "a=b", "--allow": "aws", "--deny": "gcp", "--start": "earliest", "--lease": "2",
    "--id": "i", "--key": "k", "--delay": "1s", "--visibility": "1s", "--timeout": "5s", "--max-age": "1d",
    "--directory": "folder", "--retain-age": "1d", "--retain-bytes": "1MiB", "--min-payload": "1", "--offset": "0",
    "--bytes": "4KiB", "--owner": "me", "--term": "1m", "--token": "1", "--slots": "4", "--replace": "1",
    "--grace": "1s", "--max-deliveries": "3", "--expect": "0" * 64, "--operation": "op_1_" + "0" * 32,
}  # fmt: skip
CHOICES = {
    "--ack": ["majority", "all", "1", "auto", "none", "0", "99"],
    "-o": ["json", "jsonl", "table"],
    "--input": ["lines", "jsonl"],
    "--semantics": ["at-most-once", "at-least-once", "effectively-once"],
    "--compression": ["zstd", "none"],
    "--kind": ["memory", "block"],
    "name": ["aws", "gcp", "azure/eastus", "sched", "q", "q2", "g"],
    "op": ["poll", "publish", "ack"],
    "code": ["0", "11", "corrupt", "78"],
}
SPOILT = [
    "", " ", "-", "--", "@", "@-", "-1", "0", "1", "9" * 30, "9223372036854775807", "9223372036854775808", "1e3", "nan",
    "inf", "-inf", "0x10", "٣", "²", "1_0", "+1", "1.5", "true", "null", "[]", "{}", "%s%s%n", "{0}", "{}",
    "{0.__class__}", "%(x)s", "${HOME}", "$(touch pwned)", "`touch pwned`", "; touch pwned", "| touch pwned", "a;b",
    "&& touch pwned", "\x1b[31mred\x07", "\x9b31m", "\x07", "\n", "a\nerror: all is well", "\r", "\t", "\0", "a\0b",
    "\u202eabc",
    "\u2028", "\ufeffq", "\ud800", "\udcff", "e\u0301", "ﬁ", "é" * 1000, "a" * 300, "a" * 100_000, "a/" * 5000,
    "a=" * 3000, "a=b=c", "=", "=b", "a=", "a:b:c", "a=aws:witness", "x=gcp:learner", "aws", "gcp", "aws/**", "**", "*",
    "a/b/c/d", "a/../b", "../../etc/passwd", "/etc/passwd", "/dev/zero", "/dev/full", "/dev/null", "/proc/self/mem",
    "store/store.toml", "@binary", "@zero", "@folder", "@/etc/passwd", "@nowhere", "@unreadable", "@loop", "@ok.toml",
    "nowhere", "nowhere/x", "folder", "fifo", "loop", "zero", "out", "out/x", "empty", "binary", "bad.toml", "ok.toml",
    "unreadable", "sched.key", "sched.pub", "store", "~", "~root", ".", "..", "0-99999999999", "5-3", "1-2", "0s",
    "1ms",
    "-5s", "5 parsecs", "99999999999999999999d", "9" * 400 + "s", "1MiB", "10gb", "9" * 30 + "TB", "earliest",
    "latest", "op_0_00",
    "op_" + "f" * 40 + "_" + "0" * 32, "op_1_" + "g" * 32, "--help", "--json", "-ojson", "--version", "--no-such",
    "-dgcp", "--domain=gcp", "--domain=", "-qz", "---", "-\x1b",
]  # fmt: skip
TEXT = st.text(max_size=20).filter(lambda text: not text.lstrip("=:@").startswith("/"))  # none of this machine
VALUES = st.one_of(st.sampled_from(SPOILT), st.sampled_from(SPOILT), TEXT)
ENDLESS = ("-f", "-w", "--follow", "--watch")


def _good(parameter: Any) -> st.SearchStrategy[str]:
    name = parameter.opts[-1]
    return st.sampled_from(CHOICES[name]) if name in CHOICES else st.just(GOOD.get(name, "new"))


@st.composite
def command_lines(draw: Any, leaf: Leaf) -> list[str]:
    """Returns a command line that would do, but for what was spoilt."""
    parameters = list(leaf.command.params)
    spoilt = set(draw(st.lists(st.integers(0, len(parameters) - 1), max_size=3)))
    words: list[str] = []
    for place, parameter in enumerate(parameters):
        flag = parameter.opts[-1] if parameter.opts[-1].startswith("-") else None
        if place not in spoilt:
            wanted = parameter.required or (flag not in ENDLESS and draw(st.integers(0, 4)) == 0)
            if not wanted:
                continue
        elif draw(st.integers(0, 4)) == 0:
            continue  # left out, though it may be required
        if flag is not None:
            words.append(flag)
        if getattr(parameter, "is_flag", False):
            continue
        if place in spoilt and draw(st.integers(0, 9)) == 0:
            continue  # an option without its value
        words.append(draw(VALUES if place in spoilt else _good(parameter)))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        words.insert(draw(st.integers(0, len(words))), draw(VALUES))
    return [*leaf.words, *words]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox(tmp_path_factory.mktemp("fuzz"))


def judge(sandbox: Sandbox, leaf: Leaf, words: list[str], stdin: bytes = b"") -> None:
    """Runs a command line on a store of its own and checks what holds of every one."""
    with sandbox.fresh() as place:
        waits = any(word in ENDLESS or word.startswith(("--fo", "--wa", "-f", "-w", "@fifo")) for word in words)
        said = run(words, stdin=stdin, waits=waits, env={"HOME": str(place)})
    check(said)
    if said.code == 0 and "--help" not in words and leaf.words[0] != "completion" and not waits:
        text = said.out.decode()
        assert text.replace("\n", "").replace("\t", "").isprintable(), str(said)
        if "--json" in words and words[words.index("--json") - 1] not in leaf.options() and "--" not in words:
            assert json.loads(text)["ok"] is True, str(said)


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: " ".join(leaf.words))
def test_any_arguments_end_with_a_code_of_the_table(sandbox: Sandbox, leaf: Leaf) -> None:
    @given(command_lines(leaf), st.sampled_from([b"", b"one\ntwo\n", b"\xff\n", b'{"payload":"x"}\n{"id":3}\n']))
    @examples(12)
    def try_one(words: list[str], stdin: bytes) -> None:
        judge(sandbox, leaf, words, stdin)

    try_one()


def _spoilt_once(leaf: Leaf) -> Iterator[tuple[bool, list[str]]]:
    """Yields each hostile value in each place of a command line, and whether the place is that of a path."""
    parameters = list(leaf.command.params)
    for place, parameter in enumerate(parameters):
        if getattr(parameter, "is_flag", False):
            continue
        is_path = any(part in str(parameter.metavar) for part in ("FILE", "DIR", "PATH"))
        for value in SPOILT:
            words = list(leaf.words)
            for other, wanted in enumerate(parameters):
                if other == place or (wanted.required and not getattr(wanted, "is_flag", False)):
                    flag = wanted.opts[-1]
                    words += [flag] if flag.startswith("-") else []
                    words.append(value if other == place else CHOICES.get(flag, [""])[0] or GOOD.get(flag, "new"))
            yield is_path and flag_of(parameter) != "-s", words


def flag_of(parameter: Any) -> str:
    return str(parameter.opts[-1])


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("consumer shift q g --as n --proof @zero -s store", 19),  # endless
        ("consumer shift q g --as n --proof @folder -s store", 2),
        ("publish q @zero -d aws -s store", 2),
        ("locator set q --generation 2 --from zero -s store", 2),
        ("health observe aws healthy --authority sched --key-file fifo -s store", 2),
        ("authority add a --public-key fifo -s store", 2),
        ("domain add azure --path " + "a" * 300 + " -s store", 2),
        ("domain add azure --path loop/x -s store", 2),
        ("init new -d aws -d gcp=" + "a" * 300, 2),
        ("init empty/x -d aws", 2),
        ("status -s " + "a" * 300, 10),
        ("apply fifo -s store", 2),
    ],
)
def test_what_a_path_must_not_be_is_refused_and_nothing_is_begun(sandbox: Sandbox, line: str, code: int) -> None:
    with sandbox.fresh() as place:
        before = (place / "store" / "store.toml").read_bytes()
        said = run(line.split())
        assert (place / "store" / "store.toml").read_bytes() == before
        assert not (place / "new" / "store.toml").exists()
    check(said)
    assert said.code == code, str(said)


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: " ".join(leaf.words))
def test_each_hostile_value_in_each_place_ends_with_a_code_of_the_table(
    sandbox: Sandbox, leaf: Leaf, seed: int
) -> None:
    every = list(_spoilt_once(leaf))
    chosen = every if GIVEN else random.Random(seed).sample(every, min(12, len(every)))
    chosen += [] if GIVEN else [item for item in every if item[0] and item[1] not in chosen][::3]
    for _, words in chosen:
        judge(sandbox, leaf, words)
