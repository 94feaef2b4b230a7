"""What the measurements are made on: a store, the raw library below it, records and other processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import lmdb

import grafctl
from grafctl.client import Outgoing, Store

ROOT = Path(__file__).resolve().parent.parent
DOMAINS = ("aws", "gcp")
PAYLOAD_BYTES = 1024
RAW_MAP_BYTES = 1 << 38
IN_FLIGHT = 3  # batches, as in `publish -`
FILL_RECORDS = 10_000  # in one batch, the most that a block holds

# What the script that an installer writes for `grafctl` does; `python -m grafctl` imports runpy on top.
GRAFCTL = (sys.executable, "-c", "import sys; from grafctl.__main__ import main; sys.exit(main())")

# Reads standard input and commits each MiB of it durably, in one environment and then in the other.
RAW_WRITER = """
import lmdb, sys
pair = [lmdb.open(path, map_size=1 << 38, lib_version=0) for path in sys.argv[1:]]
number = 0
while piece := sys.stdin.buffer.read(1 << 20):
    for environment in pair:
        with environment.begin(write=True) as transaction:
            transaction.put(b"%012d" % number, piece, append=True)
    number += 1
"""


def make(directory: Path, *queues: str) -> Path:
    """Makes a store with two domains and these queues, each in both, and returns where it is."""
    grafctl.create(directory, dict.fromkeys(DOMAINS))
    with grafctl.open(directory) as store:
        for name in queues:
            add_queue(store, name)
    return directory


def add_queue(store: Store, name: str) -> str:
    """Creates a queue in both domains and returns its name."""
    store.queues.create(name, replicas=[f"{name}-{domain}={domain}" for domain in DOMAINS], allow=DOMAINS)
    return name


def payload(size: int = PAYLOAD_BYTES) -> bytes:
    """Returns one line of random text, without its end."""
    return b64encode(os.urandom(size))[:size]


def payloads(count: int, size: int = PAYLOAD_BYTES) -> list[bytes]:
    """Returns so many different lines."""
    return [payload(size) for _ in range(count)]


def fill(
    store: Store,
    queue: str,
    count: int,
    seconds_max: float,
    make_one: Callable[[], bytes | Outgoing],
    at_once: int = FILL_RECORDS,
) -> int:
    """Publishes records, so many in a batch, until all are there or the time is over; returns how many there are."""
    until_s = time.monotonic() + seconds_max

    def batches() -> Iterator[list[Any]]:
        for first in range(0, count, at_once):
            if time.monotonic() > until_s:
                return
            yield [make_one() for _ in range(min(at_once, count - first))]

    return sum(ack.count for ack in store.publish_stream(queue, batches(), domain=DOMAINS[0], in_flight=IN_FLIGHT))


def publish_all(store: Store, queue: str, batches: Sequence[Sequence[Any]]) -> None:
    """Publishes batches as `publish -` does, and asserts that every record was acknowledged."""
    acks = store.publish_stream(queue, batches, domain=DOMAINS[0], in_flight=IN_FLIGHT)
    assert sum(ack.count for ack in acks) == sum(len(batch) for batch in batches)


def said(stored: int, meant: int, things: str) -> str:
    """Returns how many were stored, and plainly so where that is fewer than was meant."""
    return f"{stored:,} {things}" + (f" and not {meant:,}, because loading took too long" if stored < meant else "")


class Raw:
    """Two environments of the raw library, which commit the same items durably in turn."""

    def __init__(self, environments: Sequence[lmdb.Environment]) -> None:
        self.environments = environments
        self._number = 0

    def commit(self, *values: bytes) -> None:
        """Puts values at the end: one durable commit in one environment, then one in the other."""
        first = self._number
        self._number += len(values)
        for environment in self.environments:
            with environment.begin(write=True) as transaction:
                for number, value in enumerate(values, first):
                    transaction.put(b"%012d" % number, value, append=True)


@contextmanager
def raw(directory: Path) -> Iterator[Raw]:
    """Opens two new environments as py-lmdb opens them where nothing else is said."""
    with ExitStack() as stack:
        places = [directory / f"raw-{domain}" for domain in DOMAINS]
        environments = [lmdb.open(str(place), map_size=RAW_MAP_BYTES, lib_version=0) for place in places]
        for environment in environments:
            stack.callback(environment.close)
        yield Raw(environments)


def surroundings() -> dict[str, str]:
    """Returns the environment of a process that is measured: nothing of ours, and compiled modules are kept."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GRAFCTL_", "PYTHONDONT"))}
    return kept | {"PYTHONPATH": str(ROOT)}


def run_process(*command: str) -> None:
    """Runs a process to its end."""
    subprocess.run(command, env=surroundings(), check=True, stdout=subprocess.DEVNULL)


def pipe(writer: Sequence[str], reader: Sequence[str]) -> None:
    """Runs `WRITER | READER` to the end of both."""
    with subprocess.Popen(writer, env=surroundings(), stdout=subprocess.PIPE) as left:
        subprocess.run(reader, env=surroundings(), stdin=left.stdout, stdout=subprocess.DEVNULL, check=True)
        assert left.stdout is not None
        left.stdout.close()
    if left.returncode:
        raise subprocess.CalledProcessError(left.returncode, list(writer))
