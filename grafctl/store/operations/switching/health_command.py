"""Asks an external command whether a consumer is well.

Promises
- The command is run by its words, not by a shell, and its name is looked up as a shell looks it up. It reads nothing
  from us, and finds the name of the switch in `GRAFCTL_SWITCH`.
- Of what it prints, the last line is kept, cut; however much it prints, no more memory is taken.
- It ends within its time, with everything that it started in its own process group; so it does when we are interrupted.

When it fails: a command that cannot be started is `Usage`: that says nothing about the consumer.
"""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import subprocess
from contextlib import suppress

from grafctl import clock
from grafctl.errors import Usage
from grafctl.names import shown
from grafctl.store.switch_health import Verdict

TIMEOUT_S = 30.0
LINE_CHARACTERS_MAX = 200
_KEPT_BYTES = 4096


def words_of(command: str) -> list[str]:
    """Returns the words of a command; raises `Usage` where it cannot be started."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Usage(f"The health command {shown(command)} cannot be read: {error}.") from None
    if not words or shutil.which(words[0]) is None:
        raise Usage(
            f"The health command {shown(command)} cannot be run: there is no such program here.",
            hint="Run the soak where the program is; it is looked up by PATH, or name it with its directory.",
        )
    return words


def ask(command: str, switch: str, *, timeout_s: float = TIMEOUT_S) -> Verdict:
    """Returns what a command says."""
    words = words_of(command)
    more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    environment = {**os.environ, "GRAFCTL_SWITCH": switch}
    try:
        process = subprocess.Popen(words, env=environment, start_new_session=True, **more)  # type: ignore[call-overload]
    except OSError as error:
        raise Usage(f"The health command {shown(command)} cannot be run: {error.strerror}.") from None
    try:
        said, has_ended = _read(process, clock.monotonic_s() + timeout_s)
        return Verdict(process.returncode if has_ended else None, _last_line(said))
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        process.wait()


def _read(process: subprocess.Popen[bytes], until_s: float) -> tuple[bytes, bool]:
    """Returns the end of what a process prints, and whether it ended in time."""
    assert process.stdout is not None
    said, pipe, is_open = b"", process.stdout.fileno(), True
    while (left_s := until_s - clock.monotonic_s()) > 0:
        # What it started may hold the pipe open when it has ended itself.
        if process.poll() is not None and not (is_open and select.select([pipe], [], [], 0)[0]):
            return said, True
        if is_open and select.select([pipe], [], [], min(left_s, 0.05))[0]:
            more = os.read(pipe, 65536)
            is_open = bool(more)
            said = (said + more)[-_KEPT_BYTES:]
        elif not is_open:
            with suppress(subprocess.TimeoutExpired):
                process.wait(left_s)
    return said, process.poll() is not None


def _last_line(said: bytes) -> str:
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    line = "".join(letter if letter.isprintable() else " " for letter in (lines or [""])[-1])
    return line if len(line) <= LINE_CHARACTERS_MAX else line[: LINE_CHARACTERS_MAX - 1] + "…"
