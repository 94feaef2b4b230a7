"""Sources that do not end by themselves: standard input, named pipes and programs, and how they are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from grafctl.errors import ExternalFailed, NotFound
from grafctl.pipeline.model import DeclaredSource
from grafctl.pipeline.sources.item import Item
from grafctl.pipeline.sources.opening import open_source
from pipeline.inputs import declare_source, items

ROOT = Path(__file__).resolve().parents[2]


def program(text: str) -> DeclaredSource:
    return declare_source(kind="exec", command=(sys.executable, "-c", text))


def run(text: str, *arguments: str, stdin: bytes | None = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs Python that has `declare_source` and `open_source` at hand."""
    head = "from pathlib import Path\nfrom pipeline.inputs import declare_source, items\n"
    head += "from grafctl.pipeline.sources.opening import open_source\n"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    return subprocess.run(
        [sys.executable, "-c", head + text, *arguments], input=stdin, capture_output=True, env=environment, timeout=60
    )


def is_alive(pid: int) -> bool:
    """Returns whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pid: int) -> None:
    until_s = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < until_s, f"{pid} runs on"
        time.sleep(0.01)


# --- standard input and named pipes


def test_standard_input_is_read_to_its_end() -> None:
    text = "print([item[:2] + item[4:] for item in items(declare_source(Path('-'), id='id'))])"
    done = run(text, stdin=b'{"id":1}\n{\n{"id":2}')
    assert b"(b'{\"id\":1}', '1', 'stdin:1', None)" in done.stdout, done.stderr
    assert b"'stdin:2', 'It is not JSON" in done.stdout and b"'stdin:3', None)" in done.stdout


def test_standard_input_that_is_closed_is_refused() -> None:
    text = "import sys; sys.stdin = None; items(declare_source(Path('-')))"  # as it is after `<&-`
    assert b"NotFound: Source orders: standard input is closed." in run(text).stderr


@contextmanager
def pipe(path: Path) -> Iterator[int]:
    """Yields the writing end of a new named pipe, which somebody has to open for reading."""
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_what_is_there_comes_before_the_source_waits_for_more(tmp_path: Path, kind: str) -> None:
    with pipe(tmp_path / "p") as writer, open_source(declare_source(tmp_path / "p", kind=kind)) as source:
        batches = source.batches()
        os.write(writer, b"1\n2\n3\n")
        before: list[Item] = []
        while not before:
            before = next(batches)
        os.write(writer, b"4\n")
        after: list[Item] = []
        while not after:
            after = next(batches)
        assert [len(before), len(after)] == ([3, 1] if kind == "jsonl" else [2, 1])


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("jsonl", b""),
        ("jsonl", b"1\n"),
        ("jsonl", b'1\n{"half":'),
        ("csv", b""),
        ("csv", b'a\n"half\n'),
        ("csv", b"a\n1"),
    ],
)
def test_a_source_that_waits_ends_when_it_is_told_to_stop(tmp_path: Path, kind: str, text: bytes) -> None:
    """Half a line, or half a row, that was there by then is not taken for a whole one."""
    with pipe(tmp_path / "p") as writer, open_source(declare_source(tmp_path / "p", kind=kind)) as source:
        os.write(writer, text)
        found: list[Item] = []
        reader = threading.Thread(target=lambda: found.extend(source))
        reader.start()
        time.sleep(0.05)
        source.stop()
        reader.join(30)
        assert not reader.is_alive()
        assert all(item.problem is None for item in found)


def test_a_pipe_that_nobody_has_opened_yet_can_be_stopped(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p")
    with open_source(declare_source(tmp_path / "p")) as source:
        assert next(source.batches()) == []
        timer = threading.Timer(0.05, source.stop)
        timer.start()
        assert list(source) == []


def test_a_stop_ends_a_file_at_the_next_item(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1\n" * 1000)
    with open_source(declare_source(tmp_path / "a")) as source:
        found = []
        for item in source:
            found.append(item)
            if len(found) == 3:
                source.stop()
    assert len(found) == 3


def test_a_stop_after_the_end_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1\n")
    with open_source(declare_source(tmp_path / "a")) as source:
        assert len(list(source)) == 1
    source.stop()
    source.close()


# --- programs


def test_a_program_gives_what_it_prints(capfd: pytest.CaptureFixture[str]) -> None:
    found = items(program("import sys; print(1); print('{'); sys.stderr.write('told'); print(2, end='')"))
    assert [(item.payload, item.problem is None) for item in found] == [(b"1", True), (b"{", False), (b"2", True)]
    assert found[2].place == f"{Path(sys.executable).name}:3"
    assert capfd.readouterr().err == "told"


@pytest.mark.parametrize(
    ("how", "why"),
    [("sys.exit(3)", "ended with 3"), ("os.kill(os.getpid(), 9)", "was killed by SIGKILL"), ("os.abort()", "SIGABRT")],
)
def test_a_program_that_fails_is_an_error_after_its_lines(how: str, why: str) -> None:
    found = []
    with open_source(program(f"import os, sys; print('1\\n2\\n12', end='', flush=True); {how}")) as source:
        with pytest.raises(ExternalFailed, match=why) as caught:
            for item in source:
                found.append(item)
    assert [item.payload for item in found] == [b"1", b"2", b"12"]
    assert [item.problem for item in found] == [None, None, "The program ended in the middle of this line."]
    assert caught.value.exit_code == 26


def test_a_program_that_fails_without_a_word_is_an_error() -> None:
    with pytest.raises(ExternalFailed, match="ended with 1"):
        items(declare_source(kind="exec", command=("false",)))


@pytest.mark.parametrize("name", ["no-such-program", "/no/such/program", "", "a\0b"])
def test_a_program_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(NotFound, match="there is no program"):
        open_source(declare_source(kind="exec", command=(name,)))


def test_arguments_reach_no_shell() -> None:
    (item,) = items(declare_source(kind="exec", command=("printf", "%s", '"$HOME `id` ; * \\\\"')))
    assert item.payload == b'"$HOME `id` ; * \\\\"'


def test_a_program_reads_nothing_of_ours_and_has_signals_as_they_come() -> None:
    text = "import os, sys; print(len(sys.stdin.read())); print(len(os.listdir('/proc/self/fd')))"
    command = (sys.executable, "-c", text)
    done = run(f"print([item.payload for item in items(declare_source(kind='exec', command={command!r}))])")
    assert done.stdout == b"[b'0', b'4']\n", (done.stdout, done.stderr)
    (item,) = items(declare_source(kind="exec", command=("grep", "SigIgn", "/proc/self/status")))
    ignored = int(item.payload.split()[1], 16)  # with whatever was ignored before there was Python
    assert not any(ignored >> (number - 1) & 1 for number in (signal.SIGPIPE, signal.SIGXFSZ))


def test_a_program_that_waits_is_told_to_end_and_what_it_started_too() -> None:
    text = "import os, subprocess, time; below = subprocess.Popen(['sleep', '100']); print(os.getpid()); "
    with open_source(program(text + "print(below.pid, flush=True); time.sleep(100)")) as source:
        found = iter(source)
        pids = [int(next(found).payload), int(next(found).payload)]
        assert all(map(is_alive, pids))
        source.stop()
        assert list(found) == []
    for pid in pids:
        wait_until_gone(pid)


def test_a_program_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grafctl.pipeline.children.GRACE_S", 0.05)
    text = "import os, signal, time; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(100)"
    with open_source(program(text)) as source:
        pid = int(next(iter(source)).payload)
    assert not is_alive(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_ends_with_us_however_we_end(tmp_path: Path, number: signal.Signals) -> None:
    """Also where it prints nothing more, so that no closed pipe tells it."""
    inner = "import os, time; print(os.getpid(), flush=True); time.sleep(100)"
    text = f"""
import sys
with open_source(declare_source(kind="exec", command=({sys.executable!r}, "-c", {inner!r}))) as source:
    for item in source:
        print(item.payload.decode(), flush=True)
"""
    head = "from pipeline.inputs import declare_source\nfrom grafctl.pipeline.sources.opening import open_source\n"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    with subprocess.Popen([sys.executable, "-c", head + text], stdout=subprocess.PIPE, env=environment) as ours:
        assert ours.stdout is not None
        pid = int(ours.stdout.readline())
        assert is_alive(pid)
        ours.send_signal(number)
        ours.wait(30)
    wait_until_gone(pid)


WAITING = {
    "a program": "source = open_source(declare_source(kind='exec', command=('sh', '-c', 'echo 1; exec sleep 100')))",
    "standard input": """
read, write = os.pipe()
os.dup2(read, 0)
os.write(write, b"1\\n")
source = open_source(declare_source(Path("-")))""",
}


@pytest.mark.parametrize("what", WAITING)
def test_a_signal_handler_may_stop_a_source_that_waits(what: str) -> None:
    done = run(
        f"""
import os, signal, threading
{WAITING[what]}
signal.signal(signal.SIGTERM, lambda *_: source.stop())
with source:
    for item in source:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
print("left in order")
"""
    )
    assert (done.returncode, done.stdout) == (0, b"left in order\n"), done.stderr


# --- memory


def test_memory_does_not_grow_with_the_input() -> None:
    """As many bytes as would be missed by nobody are printed and read twice: once a few, once eighty times as many."""
    text = """
import resource, sys
size = int(sys.argv[1])
make = "import sys\\nfor _ in range(%d): sys.stdout.write('{\\"id\\":1,\\"pad\\":\\"' + 'x' * 1000 + '\\"}\\\\n')"
command = (sys.executable, "-c", make % size)
with open_source(declare_source(kind="exec", command=command, id="id")) as source:
    assert sum(1 for _ in source) == size
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    few, many = (int(run(text, str(size)).stdout) for size in (2_000, 160_000))
    assert many < few + 16_384  # KiB
