"""Runs command lines in this process, through the real entry point, where each would else cost an interpreter.

Promises
- A command that does not end is ended by an alarm, and told as `Hang`; one that takes all memory has less to take.
- What a command leaves in its process (open files of LMDB, the working directory, the streams) is put back.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from grafctl import front
from grafctl.errors import ERRORS

LIMIT_S = 20.0
MEMORY_MAX = 2 << 30
WAIT_S = 0.4  # for a command that was told to wait
CODES = {error.exit_code for error in ERRORS} | {0, 12, 130} - {1}
DOMAINS = ("aws", "gcp")


class Hang(BaseException):
    """Raised where a command did not end."""


class Said(NamedTuple):
    """What a command line came to."""

    words: tuple[str, ...]
    code: int
    out: bytes
    err: str

    def __str__(self) -> str:
        return (
            f"{list(self.words)!r:.600} ended with {self.code}\n--- out\n{self.out[:2000]!r}\n--- err\n{self.err:.2000}"
        )


def run(words: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: bytes = b"", waits: bool = False) -> Said:
    """Runs one command line; one that `waits` is interrupted, as by Ctrl-C, when it has waited for a moment."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt if waits else Hang

    given = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    err = io.StringIO()
    before = signal.signal(signal.SIGALRM, stop)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GRAFCTL_")}
    signal.setitimer(signal.ITIMER_REAL, WAIT_S if waits else LIMIT_S)
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MAX, hard))
    try:
        with patch.dict(os.environ, {**clean, "TERM": "dumb", **(env or {})}, clear=True):
            with patch.multiple(sys, stdin=given, stdout=out, stderr=err, argv=["grafctl", *words]):
                code = front.run(list(words))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    return Said(tuple(words), code, out.buffer.getvalue(), err.getvalue())  # type: ignore[attr-defined]


def run_all(lines: Sequence[str]) -> None:
    """Runs command lines that do what they say."""
    for line in lines:
        said = run(line.split())
        assert said.code == 0, str(said)


def check(said: Said) -> None:
    """Asserts what holds of every command line, right or wrong."""
    assert said.code in CODES, str(said)
    assert "Traceback" not in said.err and "Hang" not in said.err, str(said)
    assert said.err.replace("\n", "").isprintable(), str(said)
    lines = said.err.splitlines()
    options = said.words[: said.words.index("--")] if "--" in said.words else said.words
    if said.code in (0, 130):
        return
    assert lines, str(said)
    if front.wants_json(list(options)):
        body = json.loads(lines[-1])
        assert (body["exit"], body["ok"]) == (said.code, False) and body["code"] and body["message"], str(said)
    elif not lines[0].startswith("Usage:"):  # a group alone shows its help
        assert any(line.startswith("error: ") for line in lines), str(said)


class Sandbox:
    """A directory with a small store, keys, files of every kind, and something beside it that nobody may touch."""

    def __init__(self, place: Path) -> None:
        self.root, self.template, self.place = place, place / "template", place / "sandbox" / "inner" / "work"
        self.beside = place / "beside"
        self.beside.write_bytes(b"mine")
        self.template.mkdir()
        with contextlib.chdir(self.template):
            self._fill()

    def _fill(self) -> None:
        steps = (
            "init store -d aws -d gcp",
            "queue create q -s store --schema s.v1 --replica r-aws=aws --replica r-gcp=gcp --allow aws --allow gcp",
            "consumer create q g -s store --allow aws --allow gcp",
            "authority keygen sched",
            "authority add sched --public-key sched.pub -s store",
            "publish q one -s store -d aws --id one",
            "publish q two -s store -d gcp",
            "poll q -g g -s store -d aws -n 1",
        )
        run_all(steps)
        Path("ok.toml").write_text('[[domain]]\nname = "aws"\n[[domain]]\nname = "gcp"\n', encoding="utf-8")
        Path("bad.toml").write_bytes(b'[[domain]]\nname = 3\n[[queue]]\n\xff = "\x1b[31m"\n')
        Path("empty").touch()
        Path("binary").write_bytes(bytes(range(256)) * 20)
        Path("folder").mkdir()
        Path("loop").symlink_to("loop")
        Path("zero").symlink_to("/dev/zero")
        Path("out").symlink_to(self.beside)

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Path]:
        """Makes the sandbox anew and works in it; asserts that nothing beside it was touched."""
        shutil.rmtree(self.root / "sandbox", ignore_errors=True)
        shutil.copytree(self.template, self.place, symlinks=True)
        os.mkfifo(self.place / "fifo")
        (self.place / "unreadable").write_text("secret")
        (self.place / "unreadable").chmod(0)
        with contextlib.chdir(self.place):
            yield self.place
        assert self.beside.read_bytes() == b"mine", "something outside was written"
        names = {path.name for path in self.root.iterdir()}
        assert names == {"template", "sandbox", "beside"}, f"something outside was made: {names}"
        made = [path.name for path in self.place.iterdir() if path.name.startswith("pwned")]
        assert not made, "a shell has read what was typed"


def modes_of(place: Path) -> dict[str, int]:
    """Returns the permissions of everything below a directory, by its path from there."""
    return {
        str(path.relative_to(place)): stat.S_IMODE(path.lstat().st_mode)
        for path in sorted(place.rglob("*"))
        if not path.is_symlink()
    }
