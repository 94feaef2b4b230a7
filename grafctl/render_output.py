"""Standard output and standard error, as they really are: unbuffered, closed, full, or a pipe that nobody reads.

Promises
- What `write` returned from has left the process; a closed pipe or a full disk raises `OutputLost` instead.
- `note` never fails: losing a line for people is no reason to stop work.

When it fails: a part of what was given to `write` may have been written; the caller acknowledges none of it.
"""

from __future__ import annotations

import errno
import sys
from io import TextIOWrapper


class OutputLost(Exception):
    """Raised when standard output takes no more; `closed` where its reader has gone, which is no fault of anybody.

    `full` where the disk, or what the user may have of it, is.
    """

    def __init__(self, error: OSError | None) -> None:
        super().__init__(f"Standard output cannot be written: {error.strerror if error else 'it is closed'}.")
        self.closed = isinstance(error, BrokenPipeError)
        self.full = error is not None and error.errno in (errno.ENOSPC, errno.EDQUOT)


def write(data: bytes) -> None:
    """Writes all of `data` to standard output and flushes it; raises `OutputLost`."""
    if sys.stdout is None:
        raise OutputLost(None)
    try:
        sys.stdout.flush()
        stream = sys.stdout.buffer
        view = memoryview(data)
        while view:  # NB an unbuffered stream may take a part only
            view = view[stream.write(view) or 0 :]
        stream.flush()
    except OSError as error:
        raise OutputLost(error) from None


def prepare() -> None:
    """Lets text through that the encoding of standard output has no letters for, escaped; bytes are always UTF-8."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def note(text: str) -> None:
    """Writes lines for people to standard error; losing them loses nothing, so failing to is ignored."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass


def abandon_output() -> None:
    """Points standard output at nothing, so that the interpreter does not complain about a closed pipe at its end."""
    import os

    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
    except (OSError, ValueError, AttributeError):
        pass
