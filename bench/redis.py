"""A private Redis that flushes before it answers, in a directory that goes away, spoken to over its socket."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.ids import new_id
from bench.servers import Missing, wait_for
from bench.turns import Action
from grafctl import Outgoing

NAME = "Redis Streams, appendfsync always, one copy"
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
PRELOADED = 1000  # ids in one command


class Redis:
    """One connection. With ids, each command of a set that knows the ids goes with the one that adds the record."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def plain(self, records: Sequence[bytes]) -> Action:
        """Returns what publishes the records in one pipeline."""
        return self._pipelined([(b"XADD", b"records", b"*", b"p", record) for record in records])

    def keyed(self, records: Sequence[Outgoing]) -> Action:
        """Returns what publishes records with ids in one pipeline."""
        commands: list[tuple[bytes, ...]] = []
        for record in records:
            assert record.id is not None
            commands.append((b"SADD", b"ids", record.id.encode()))
            commands.append((b"XADD", b"keyed", b"*", b"p", record.payload))
        return self._pipelined(commands)

    def preload(self, count: int) -> None:
        """Stores so many ids, without a flush for each command."""
        self._pipelined([(b"CONFIG", b"SET", b"appendfsync", b"no")])()
        for first in range(0, count, PRELOADED):
            ids = [new_id().encode() for _ in range(min(PRELOADED, count - first))]
            self._pipelined([(b"SADD", b"ids", *ids)])()
        self._pipelined([(b"CONFIG", b"SET", b"appendfsync", b"always")])()

    def _pipelined(self, commands: Sequence[tuple[bytes, ...]]) -> Action:
        text = b"".join(_encoded(command) for command in commands)
        # A number or a word is one line of an answer, and the id of a record is a line of its own after its length.
        lines = sum(2 if command[0] == b"XADD" else 1 for command in commands)
        return lambda: self._ask(text, lines)

    def _ask(self, text: bytes, lines: int) -> None:
        """Sends commands and waits for all answers, which come when their effects are on disk."""
        self._connection.sendall(text)
        while lines > 0:
            answer = self._connection.recv(1 << 16)
            if not answer or b"-ERR" in answer:
                raise RuntimeError(f"redis answered {answer[:200]!r}")
            lines -= answer.count(b"\n")


@contextmanager
def started(directory: Path) -> Iterator[Redis]:
    """Runs a server in this directory; raises `Missing`."""
    tool = shutil.which("redis-server")
    if tool is None:
        raise Missing("redis-server is not installed")
    directory.mkdir()
    place = directory / "socket"
    command = [tool, "--port", "0", "--unixsocket", str(place), "--dir", str(directory), "--save", "", *DURABLE]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=directory) as server:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                wait_for(server, lambda: _connects(connection, place))
                yield Redis(connection)
        finally:
            server.terminate()


def _connects(connection: socket.socket, place: Path) -> bool:
    try:
        connection.connect(str(place))
    except OSError:
        return False
    return True


def _encoded(words: Sequence[bytes]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
