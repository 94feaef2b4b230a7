"""A child process that is asked with one line and answers with one line, and that nobody waits for without an end.

Promises
- `ask` returns the one line that the child wrote after it was asked, or raises `Broken` with what went wrong: it ended,
  it took longer than `wait_s`, its line is longer than `LINE_BYTES_MAX`, or it wrote more than one. After `Broken` the
  child is gone, and the next `ask` starts another one; so no answer belongs to a question that was given up. A line too
  many that comes only after the next question is asked cannot be told from its answer.
- The child runs in the folder of the pipeline, without a shell, in a process group of its own, so that Ctrl-C ends the
  stage and not its child in the middle of a record. Its standard error is that of the stage.

When it fails: a stage that is killed leaves its child at the end of its input, where a program that reads lines ends;
on Linux the child is killed with it (`children.py`).
"""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Sequence
from pathlib import Path

from grafctl import clock
from grafctl.pipeline import children

LINE_BYTES_MAX = 64 << 20
LEAVE_S = 2.0  # that a child which has closed a pipe gets to end
_READ_BYTES = 1 << 18


class Broken(Exception):
    """A child that cannot be asked any more; str() says why, without what it was asked or answered."""


class Child:
    """One command, started when it is first asked, and again when it is asked after it broke."""

    def __init__(self, command: Sequence[str], who: str, folder: Path, wait_s: float) -> None:
        self._command, self._who, self._folder, self._wait_s = tuple(command), who, folder, wait_s
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, line: bytes) -> bytes:
        """Returns the answer to a line, both without the `\\n` at their end."""
        process = self._process or self._start()
        try:
            return self._exchange(process, line + b"\n")
        except BaseException:
            # Also where the stage is told to end: what it answers from now on would be taken for another answer.
            self.end()
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        process = children.start(self._command, self._who, stdin=subprocess.PIPE, folder=self._folder)
        assert process.stdin is not None and process.stdout is not None
        os.set_blocking(process.stdin.fileno(), False)
        os.set_blocking(process.stdout.fileno(), False)
        self._process = process
        return process

    def _exchange(self, process: subprocess.Popen[bytes], question: bytes) -> bytes:
        assert process.stdin is not None and process.stdout is not None
        writer, reader = process.stdin.fileno(), process.stdout.fileno()
        deadline = clock.monotonic_s() + self._wait_s
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        if poll.poll(0):
            raise Broken(self._ended(process) if not self._read(reader) else "it wrote more than one line")
        left, answer = memoryview(question), bytearray()
        # The child may answer while it is still being asked, so neither pipe may be left to fill up.
        poll.register(writer, select.POLLOUT)
        while True:
            ready = poll.poll(max(0.0, deadline - clock.monotonic_s()) * 1000)
            if not ready:
                raise Broken(f"it gave no answer for {self._wait_s:g} s")
            for place, _ in ready:
                if place == writer:
                    left = left[self._write(process, writer, left) :]
                    if not left:
                        poll.unregister(writer)
                else:
                    piece = self._read(reader)
                    if not piece:
                        raise Broken(self._ended(process))
                    answer += piece
            if len(answer) > LINE_BYTES_MAX:
                raise Broken(f"its answer is longer than {LINE_BYTES_MAX >> 20} MiB")
            end = answer.find(b"\n", max(0, len(answer) - _READ_BYTES))
            if end >= 0:
                if left or end + 1 < len(answer):
                    raise Broken("it answered before it was asked, or with more than one line")
                return bytes(answer[:end])

    def _read(self, reader: int) -> bytes:
        try:
            return os.read(reader, _READ_BYTES)
        except BlockingIOError:
            return b""

    def _write(self, process: subprocess.Popen[bytes], writer: int, left: memoryview) -> int:
        try:
            return os.write(writer, left[:_READ_BYTES])
        except BlockingIOError:
            return 0
        except OSError:
            raise Broken(self._ended(process)) from None

    def _ended(self, process: subprocess.Popen[bytes]) -> str:
        """Returns how the child ended, which has closed a pipe and so is about to."""
        try:
            return f"it {children.how_ended(process.wait(LEAVE_S))}"
        except subprocess.TimeoutExpired:
            return "it closed its input or its output"

    def end(self) -> None:
        """Ends the child and waits until it is gone."""
        process, self._process = self._process, None
        if process is not None:
            children.end(process)
