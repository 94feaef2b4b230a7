"""The stages of `examples/mirrored-etl.toml` over Redis Streams: `python -m bench.redis_stages STAGE SOCKET …`.

Each stage is a process, as ours are. What was read is acknowledged together with what was made of it, in one
transaction of the server, or after the commit of the warehouse. Lines are handed on as they are and no id is looked up
on the way, so a repeated order is found by the warehouse alone; that is less than ours promises, and faster.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import orders_by_hand as by_hand

RAW, ORDERS = b"raw-orders", b"orders"
WAIT_MS = b"200"


class Client:
    """One connection; commands go together and their answers are taken together."""

    def __init__(self, place: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(place)
        self._answers = self._socket.makefile("rb", buffering=1 << 20)

    def ask(self, *commands: Sequence[bytes]) -> list[Any]:
        """Returns the answer of each command; raises where one was refused."""
        self._socket.sendall(b"".join(map(encoded, commands)))
        return [self._answer() for _ in commands]

    def _answer(self) -> Any:
        line = self._answers.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self._answers.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self._answer() for _ in range(int(rest))]
        if kind not in (b"+", b":"):
            raise RuntimeError(f"redis answered {line[:200]!r}")
        return rest

    def read(self, stream: bytes, group: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """Returns the id and the payload of the next entries of a group, waiting a little where there are none."""
        how = (b"COUNT", b"%d" % count, b"BLOCK", WAIT_MS, b"STREAMS", stream, b">")
        (found,) = self.ask((b"XREADGROUP", b"GROUP", group, b"one", *how))
        return [(name, fields[1]) for name, fields in found[0][1]] if found else []


def encoded(words: Sequence[bytes]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


def prepare(place: str) -> None:
    """Makes the streams and their groups anew."""
    client = Client(place)
    client.ask((b"FLUSHALL",))
    for stream, group in ((RAW, b"normalise"), (ORDERS, b"warehouse")):
        client.ask((b"XGROUP", b"CREATE", stream, group, b"0", b"MKSTREAM"))


def ingest(client: Client, batch: int, file: str) -> None:
    """Adds the lines of a file to the first stream."""
    for lines in by_hand.batches([Path(file)], batch):
        client.ask(*[(b"XADD", RAW, b"*", b"p", line) for line in lines])


def normalise(client: Client, batch: int, count: str) -> None:
    """Makes an order of each of so many lines."""
    for entries in _entries(client, RAW, b"normalise", batch, int(count)):
        made = [by_hand.normalised(json.loads(text)) for _, text in entries]
        adds = [(b"XADD", ORDERS, b"*", b"p", json.dumps(order, separators=(",", ":")).encode()) for order in made]
        acks = (b"XACK", RAW, b"normalise", *(name for name, _ in entries))
        client.ask((b"MULTI",), *adds, acks, (b"EXEC",))


def sink(client: Client, batch: int, count: str, database: str) -> None:
    """Commits so many orders to the warehouse."""
    connection = by_hand.warehouse(Path(database))
    for entries in _entries(client, ORDERS, b"warehouse", batch, int(count)):
        by_hand.commit(connection, [by_hand.row(json.loads(text)) for _, text in entries])
        client.ask((b"XACK", ORDERS, b"warehouse", *(name for name, _ in entries)))
    connection.close()


def _entries(
    client: Client, stream: bytes, group: bytes, batch: int, count: int
) -> Iterator[list[tuple[bytes, bytes]]]:
    while count > 0:
        entries = client.read(stream, group, batch)
        if entries:
            yield entries
            count -= len(entries)


STAGES: dict[str, Callable[..., None]] = {"ingest": ingest, "normalise": normalise, "sink": sink}

if __name__ == "__main__":
    stage, place, batch, *words = sys.argv[1:]
    STAGES[stage](Client(place), int(batch), *words)
