"""Other processes at work on the same files: real ones, because locks, signals and death are the kernel's."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PRELUDE = f"""
import faulthandler, os, resource, signal, sys, time
faulthandler.enable()
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
from drivers.contract import IDENTITY, get, put
from grafctl.errors import *
from grafctl.store.driver.lmdb import LmdbDriver
path = Path(sys.argv[1])
def say(word):
    sys.stdout.write(word + chr(10))
    sys.stdout.flush()
def env(**sizes):
    return LmdbDriver(**sizes).open(path, IDENTITY)
"""


@contextlib.contextmanager
def child(code: str, path: Path, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Starts a process that runs `code` after the prelude, and ends it with SIGKILL where it is still there."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, str(path)],
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def hear(process: subprocess.Popen[str], word: str) -> None:
    """Waits until the child says `word`."""
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline().strip()
    assert line == word, f"{line!r} instead of {word!r}: {process.stderr.read() if not line else ''}"


def ended(code: str, path: Path, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Runs `code` to its end and returns the exit code (negative for a signal) and what it said."""
    with child(code, path, env) as process:
        out, err = process.communicate(timeout=60)
        assert process.returncode in (0, -9), err
        return process.returncode, out.strip()
