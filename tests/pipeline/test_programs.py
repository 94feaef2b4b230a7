"""Programs as transforms, with real processes: one that breaks is asked again, and no answer goes to another record."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import ExternalFailed, NotFound
from grafctl.names import shown
from grafctl.pipeline.message import Message, Output, Refused
from grafctl.pipeline.transforms.executing import ATTEMPTS, Exec

HEAD = """
import json, os, sys, time
from pathlib import Path
def answer(value):
    print(json.dumps(value), flush=True)
def times(name):
    "Counts how often this was called, over all processes."
    with open(name, "a") as file:
        file.write("x")
    return len(Path(name).read_text())
"""


class Program:
    """A program that a test wrote, as a transform."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[Exec] = []

    def __call__(self, body: str, *, wait_s: float = 30.0) -> Exec:
        (self.folder / "program.py").write_text(HEAD + textwrap.dedent(body))
        self.made.append(Exec([sys.executable, "program.py"], self.folder, "sha256:", wait_s=wait_s))
        return self.made[-1]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(tmp_path)
    yield made
    for one in made.made:
        one.close()


def ask(transform: Exec, value: Any) -> list[Any]:
    return [output.value for output in transform(Message(value))]


ECHO = "for line in sys.stdin: answer(json.loads(line))"


def test_each_kind_of_answer(program: Program) -> None:
    echo = program("for line in sys.stdin: answer(json.loads(line)['answer'])")
    message = Message({"answer": {"b": 2**70, "é": "é\n"}}, "i", "k", {"h": "1"}, 3)
    assert echo(message) == [Output({"b": 2**70, "é": "é\n"}, None, "k", None, {"h": "1"})]
    assert ask(echo, {"answer": [{"n": 1}, {"n": 2}]}) == [{"n": 1}, {"n": 2}]
    assert ask(echo, {"answer": None}) == [] and ask(echo, {"answer": []}) == []
    assert ask(echo, {"answer": {"refuse": "x", "more": 1}}) == [{"refuse": "x", "more": 1}]
    none = "it gave no reason."
    for why, said in (("bad\nline", "bad line"), ("", none), (3, none), ("x" * 600, "x" * 500)):
        with pytest.raises(Refused) as refused:
            ask(echo, {"answer": {"refuse": why}})
        assert str(refused.value) == f"{shown(sys.executable)}: {said}"
    with pytest.raises(Refused, match="the record becomes more than 10000"):
        ask(echo, {"answer": [{}] * 10_001})


def test_a_record_larger_than_any_pipe_goes_through_both_ways(program: Program) -> None:
    value = {"a": "é" * 3_000_000, "b": list(range(100_000))}
    echo = program("""
        for line in sys.stdin:
            sys.stdout.write("[")
            for place in range(0, len(line) - 1, 1000):
                sys.stdout.write(line[place:place + 1000].rstrip("\\n"))
            sys.stdout.write("]\\n")
            sys.stdout.flush()
    """)
    assert ask(echo, value) == [value]
    assert ask(echo, {"a": 1}) == [{"a": 1}]


def test_it_runs_in_the_folder_of_the_pipeline_and_only_once(program: Program) -> None:
    where = program("times('started')\nfor line in sys.stdin: answer({'in': os.getcwd(), 'group': os.getpgid(0)})")
    (first,), (second,) = ask(where, {}), ask(where, {})
    assert first == second and first["in"] == str(program.folder.resolve()) and first["group"] != os.getpgid(0)
    assert (program.folder / "started").read_text() == "x"


@pytest.mark.parametrize(
    "death",
    [
        "sys.exit(3)",
        "os.kill(os.getpid(), 9)",
        "os._exit(0)",
        "sys.stdout.write('{\"n\": '); sys.stdout.flush(); os._exit(1)",
        "os.close(1); time.sleep(60)",
        "print('a line of its own', flush=True)",
        "answer('no object')",
        "answer([1])",
        'print(\'{"n": 1, "n": 2}\', flush=True)',
        "sys.stdout.write('{}\\n{}\\n'); sys.stdout.flush()",
        "print('{\"n\": \"' + 'x' * 70_000_000 + '\"}', flush=True)",
        "print('a line of its own', flush=True); time.sleep(1); answer({'n': 'late'})",
    ],
)
def test_a_program_that_breaks_is_asked_the_same_record_again(program: Program, death: str) -> None:
    weak = program(f"""
        for line in sys.stdin:
            if json.loads(line)["n"] == 2 and times("asked") == 1:
                {death}
            else:
                answer(json.loads(line))
    """)
    assert [ask(weak, {"n": number}) for number in range(5)] == [[{"n": number}] for number in range(5)]
    assert (program.folder / "asked").read_text() == "xx"


def test_a_program_that_always_breaks_ends_the_stage_and_skips_nothing(program: Program) -> None:
    weak = program("""
        for line in sys.stdin:
            times("asked")
            if json.loads(line)["n"] == 1 and not os.path.exists("mended"):
                sys.exit(7)
            answer(json.loads(line))
    """)
    assert ask(weak, {"n": 0}) == [{"n": 0}]
    with pytest.raises(ExternalFailed, match=rf"gave no answer to a record in {ATTEMPTS} attempts: it ended with 7\.$"):
        ask(weak, {"n": 1})
    assert (program.folder / "asked").read_text() == "x" * (1 + ATTEMPTS)
    (program.folder / "mended").touch()
    assert ask(weak, {"n": 1}) == [{"n": 1}]


def test_a_program_that_does_not_answer_is_not_waited_for_without_an_end(program: Program) -> None:
    slow = program(
        """
        for line in sys.stdin:
            if times("asked") == 1:
                time.sleep(600)
            answer(json.loads(line))
        """,
        wait_s=3.0,
    )
    assert ask(slow, {"n": 1}) == [{"n": 1}]
    deaf = program("time.sleep(600)", wait_s=0.3)
    with pytest.raises(ExternalFailed, match=r"it gave no answer for 0\.3 s\.$"):
        ask(deaf, {"n": "x" * 1_000_000})


def test_a_line_too_many_is_never_taken_for_the_next_answer(program: Program) -> None:
    chatty = program("""
        for line in sys.stdin:
            answer(json.loads(line))
            if json.loads(line)["n"] == 1 and times("asked") == 1:
                time.sleep(0.2)
                answer({"n": "of nobody"})
                Path("said").touch()
    """)
    assert ask(chatty, {"n": 1}) == [{"n": 1}]
    while not (program.folder / "said").exists():
        pass
    assert ask(chatty, {"n": 2}) == [{"n": 2}]
    assert ask(chatty, {"n": 3}) == [{"n": 3}]


def test_an_answer_after_an_interruption_is_never_taken_for_the_next_one(program: Program) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(*_: Any) -> None:
        if (program.folder / "asked").exists():
            raise Interrupted

    slow = program("""
        for line in sys.stdin:
            if json.loads(line)["n"] == 1:
                Path("asked").touch()
                time.sleep(1)
            answer(json.loads(line))
    """)
    assert ask(slow, {"n": 0}) == [{"n": 0}]
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        with pytest.raises(Interrupted):
            ask(slow, {"n": 1})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ask(slow, {"n": 2}) == [{"n": 2}]


def test_nothing_of_it_is_left_when_the_stage_ends(program: Program) -> None:
    echo = program("for line in sys.stdin: answer({'pid': os.getpid()})")
    assert ask(echo, {}) == ask(echo, {})
    pid = ask(echo, {})[0]["pid"]
    echo.close()
    echo.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert ask(echo, {})[0]["pid"] != pid


def test_nothing_is_started_before_the_first_record_and_a_program_that_is_not_there_is_named(program: Program) -> None:
    program("times('started')\n" + ECHO)
    assert not (program.folder / "started").exists()
    for missing in ("no-program-of-this-name", "./no-program-of-this-name", str(program.folder / "program.py")):
        with pytest.raises(NotFound, match="there is no program"):
            Exec([missing], program.folder, "sha256:")(Message({}))
    script = program.folder / "echo.sh"
    script.write_text("#!/bin/sh\nexec cat\n")
    script.chmod(0o700)
    echo = Exec(["./echo.sh"], program.folder, "sha256:")
    program.made.append(echo)
    assert ask(echo, {"a": 1}) == [{"a": 1}]


def test_what_no_json_says_is_refused_before_the_program_is_asked(program: Program) -> None:
    echo = program("times('started')\n" + ECHO)
    with pytest.raises(Refused, match="cannot be written"):
        ask(echo, {"a": float("nan")})
    assert not (program.folder / "started").exists()
