"""Child processes that a pipeline runs: started without a shell, ended with us.

Promises
- A child is a process group of its own, so that whoever ends it ends what it started; where the system can (Linux), it
  is killed when the thread that started it is gone, also when that was killed itself.
- What it writes to standard error goes to ours. Of our files it inherits none but those it is given.
- A program that is not there is refused before anything is started.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from grafctl import clock
from grafctl.errors import NotFound
from grafctl.names import shown

GRACE_S = 5.0  # that a child has between SIGTERM and SIGKILL

# Runs in the child and becomes the program. It is a program of its own, because what a process with threads may do
# between fork and exec is next to nothing. Python ignores two signals, and programs do not expect to
# inherit that.
_LAUNCHER = """
import os, signal, sys
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, 9)
except (ImportError, AttributeError, OSError):
    pass
if os.getppid() != int(sys.argv[1]):
    os._exit(127)
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.stderr.write(f"{sys.argv[2]}: {error.strerror}\\n")
    os._exit(127)
"""


def start(
    command: Sequence[str], who: str, *, stdin: int = subprocess.DEVNULL, folder: Path | None = None
) -> subprocess.Popen[bytes]:
    """Starts a program, in a folder, whose standard output is a pipe to us; raises `NotFound` where there is none."""
    is_path = folder is not None and os.sep in command[0]
    if shutil.which(os.path.join(folder or "", command[0]) if is_path else command[0]) is None:
        raise NotFound(f"{who}: there is no program {shown(command[0])}.", hint="Install it, or name its path.")
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())] if sys.executable else []
    return subprocess.Popen(
        [*launcher, *command],
        cwd=folder,
        stdin=stdin,
        stdout=subprocess.PIPE,
        bufsize=0,
        process_group=0,
        close_fds=True,
    )


def terminate(child: subprocess.Popen[bytes]) -> None:
    """Sends SIGTERM to a child and what it started; may be called in a signal handler."""
    _signal(child, signal.SIGTERM)


def end(child: subprocess.Popen[bytes]) -> None:
    """Ends a child and what it started: at once where it listens, by SIGKILL after a while where it does not."""
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # what was still to be written has no reader any more
                pass
    if child.returncode is None:
        terminate(child)
        until_s = clock.monotonic_s() + GRACE_S
        while not _has_ended(child) and clock.monotonic_s() < until_s:
            clock.sleep(0.01)
        _signal(child, signal.SIGKILL)  # before the child is waited for: until then its number is nobody else's
        child.wait()


def _has_ended(child: subprocess.Popen[bytes]) -> bool:
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if child.returncode is not None:  # waited for, so that the number may be somebody else's by now
        return
    try:
        os.killpg(child.pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def how_ended(code: int) -> str:
    """Returns how a process ended, in words that follow its name."""
    if code >= 0:
        return f"ended with {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
