r"""Bytes as lines, as they come, with a limit on what one line may hold in memory.

Promises
- A line ends at `\n`, which is taken off; a last line without one counts. A line that is longer than `LINE_BYTES_MAX`,
  or what the caller says, comes as `Dropped`, and no more than that and one chunk of it was in memory.
- An empty list comes before the reader waits, so that whoever takes the lines can do something with those it has.
- What cannot be read raises `NotFound` or `ExternalFailed` with the name of the file; `Stopped` goes through.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from grafctl.errors import ExternalFailed, NotFound
from grafctl.pipeline.sources.item import Item
from grafctl.pipeline.sources.stopping import Stop
from grafctl.store.blocks import PAYLOAD_BYTES_MAX

STANDARD_INPUT = Path("-")
READ_BYTES = 1 << 20
LINE_BYTES_MAX = PAYLOAD_BYTES_MAX
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Dropped(NamedTuple):
    """A line that was too long to be kept."""

    quotes: int  # how many `"` it held, which says whether a CSV row goes on behind it


class Torn(NamedTuple):
    """A last line without an end, of somebody who failed before it was written whole."""

    data: bytes


Line = bytes | Dropped | Torn


class Reader(Protocol):
    """What makes items of the lines of one file after another."""

    def items(self, batches: Iterator[list[Line]], name: str) -> Iterator[list[Item]]: ...


def check_file(path: Path, source: str) -> None:
    """Raises `NotFound` where a file is not there or may not be read, before anything is read at all."""
    if path == STANDARD_INPUT:
        if sys.stdin is None:  # its number belongs to the next file that anybody opens
            raise NotFound(f"Source {source}: standard input is closed.", hint="Give it a file or a pipe.")
        return
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a directory")
        if not os.access(path, os.R_OK):
            path.stat()
            raise PermissionError(0, "it may not be read")
    except (OSError, ValueError) as error:
        raise _unreadable(path, source, error) from None


def open_file(path: Path, source: str) -> int:
    """Returns the descriptor of a file, or one of standard input; raises `NotFound`."""
    try:
        if path == STANDARD_INPUT:
            return os.dup(0)
        # A pipe with a name would wait here for its other end, where nobody could stop it; it waits in `poll` instead.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise _unreadable(path, source, error) from None


def _unreadable(path: Path, source: str, error: OSError | ValueError) -> NotFound:
    why = error.strerror if isinstance(error, OSError) else str(error)
    return NotFound(f"Source {source}: {str(path)!r} cannot be read: {why}.", hint="Name a file that is there.")


def chunks(descriptor: int, name: str, stop: Stop) -> Iterator[bytes]:
    """Yields what comes until the end, and nothing (`b""`) before it waits; raises `Stopped`."""
    may_wait = not stat.S_ISREG(os.fstat(descriptor).st_mode)
    while True:
        stop.check()
        if may_wait and not stop.is_ready(descriptor):
            yield b""
            stop.wait_for(descriptor)
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:  # another reader of the same pipe was quicker
            continue
        except OSError as error:
            raise ExternalFailed(f"{name} cannot be read any further: {error.strerror}.") from None
        if not data:
            return
        yield data


def lines(
    data: Iterator[bytes], ends_well: Callable[[], bool] = lambda: True, bytes_max: int = LINE_BYTES_MAX
) -> Iterator[list[Line]]:
    """Yields the lines of a stream as they come; a last one without an end is `Torn` where that is no good one."""
    held: list[bytes] = []  # the pieces of a line that has not ended yet
    held_bytes, quotes, is_first = 0, 0, True
    for chunk in data:
        if not chunk:
            yield []
            continue
        head, newline, tail = chunk.rpartition(b"\n")
        if newline:
            whole = head.split(b"\n")
            first = _joined(held, whole[0], held_bytes, quotes, bytes_max)
            found: list[Line] = [_unmarked(first) if is_first else first, *whole[1:]]
            held, held_bytes, quotes, is_first = [], 0, 0, False
            yield found
        if tail:
            held_bytes += len(tail)
            if held_bytes <= bytes_max:
                held.append(tail)
            else:
                quotes += sum(piece.count(b'"') for piece in (*held, tail))
                held = []
    if held_bytes:
        yield []  # it may take its time to end
        last = _joined(held, b"", held_bytes, quotes, bytes_max)
        last = _unmarked(last) if is_first else last
        yield [Torn(last) if isinstance(last, bytes) and not ends_well() else last]


def _joined(held: list[bytes], end: bytes, held_bytes: int, quotes: int, bytes_max: int) -> Line:
    """Returns a line of its pieces, or what is left of one that is too long."""
    if held_bytes + len(end) > bytes_max:
        return Dropped(quotes + end.count(b'"') + sum(piece.count(b'"') for piece in held))
    return b"".join((*held, end)) if held else end


def _unmarked(line: Line) -> Line:
    """Returns the first line of a file without the mark that some editors put there."""
    return line.removeprefix(BYTE_ORDER_MARK) if isinstance(line, bytes) else line
