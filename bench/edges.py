"""What a record over an edge with open ends costs, beside a bare ring in a file, a pipe, and asking each time."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import grafctl
from bench.rows import Row, Target
from bench.stores import make
from bench.turns import in_turn, ratio

NAME = "edges: push and pop of 256 bytes over an edge, both ends in one process, Python API"
ROUNDS, RECORDS, BATCH = 15, 400, 100
PAYLOAD = b"x" * 256
SLOTS, SLOT_BYTES = 512, 280
BATCHED_RATIO_MIN, KEPT_MIN = 0.5, 10


class BareRing:
    """The same ring with nothing to trust it by: no checksum, no lock, no lease; a number, a length and the bytes."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT)
        os.posix_fallocate(self._handle, 0, 16 + SLOTS * SLOT_BYTES)

    def push(self, payload: bytes) -> None:
        head, tail = struct.unpack("<QQ", os.pread(self._handle, 16, 0))
        assert tail - head < SLOTS - 1
        os.pwrite(self._handle, struct.pack("<I", len(payload)) + payload, 16 + tail % SLOTS * SLOT_BYTES)
        os.pwrite(self._handle, struct.pack("<Q", tail + 1), 8)

    def pop(self) -> bytes:
        head, tail = struct.unpack("<QQ", os.pread(self._handle, 16, 0))
        assert head < tail
        raw = os.pread(self._handle, SLOT_BYTES, 16 + head % SLOTS * SLOT_BYTES)
        os.pwrite(self._handle, struct.pack("<Q", head + 1), 0)
        return raw[4 : 4 + int.from_bytes(raw[:4], "little")]

    def close(self) -> None:
        os.close(self._handle)


def run() -> list[Row]:
    """Passes the same records in turn over a pipe, a bare ring and an edge."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        with bare_ring(directory) as bare, pipe() as (into, out), grafctl.open(make(directory / "store", "q")) as store:
            store.leases.acquire("e", domain="aws", bytes=SLOTS * 512, owner="bench")
            store.edges.create("e", token=store.leases.list().items[0]["token"], slots=SLOTS, domain="aws")
            with store.edges.writer("e", domain="aws") as writer, store.edges.reader("e", domain="aws") as reader:

                def over_pipe() -> None:
                    for _ in range(RECORDS):
                        os.write(into, PAYLOAD)
                        assert len(os.read(out, len(PAYLOAD))) == len(PAYLOAD)

                def over_bare_ring() -> None:
                    for _ in range(RECORDS):
                        bare.push(PAYLOAD)
                        assert bare.pop() == PAYLOAD

                def over_edge() -> None:
                    for _ in range(RECORDS):
                        writer.push(PAYLOAD)
                        assert reader.pop().records[0].payload == PAYLOAD

                def in_batches() -> None:
                    for _ in range(RECORDS // BATCH):
                        writer.push_batch([PAYLOAD] * BATCH)
                        assert len(reader.pop(BATCH).records) == BATCH

                def not_kept() -> None:
                    for _ in range(max(RECORDS // 20, 1)):
                        store.edges.push("e", PAYLOAD, domain="aws")
                        store.edges.pop("e", domain="aws")

                times = in_turn(ROUNDS, over_pipe, over_bare_ring, over_edge, in_batches, not_kept)
    return rows(*times)


def rows(
    pipe_s: list[float], bare_s: list[float], edge_s: list[float], batch_s: list[float], not_s: list[float]
) -> list[Row]:
    """Returns what these seconds say."""
    each_s = [seconds / max(RECORDS // 20, 1) * RECORDS for seconds in not_s]
    note = f"{ROUNDS} rounds of {RECORDS:,} x {len(PAYLOAD)} B, batches of {BATCH}"
    bare = "a bare ring in a file: no checksum, no lock, no lease"
    names = (
        ("a pipe", pipe_s),
        ("a bare ring in a file", bare_s),
        ("an edge", edge_s),
        ("an edge in batches", batch_s),
    )
    return [
        *(Row(f"push and pop over {name}", median(seconds) / RECORDS * 1e6, "us") for name, seconds in names),
        Row("push and pop by store.edges, which asks each time", median(each_s) / RECORDS * 1e6, "us"),
        Row("push and pop over an edge", ratio(pipe_s, edge_s), "x", None, "a pipe", note),
        Row("push and pop over an edge", ratio(bare_s, edge_s), "x", None, bare, note),
        Row(
            "push and pop over an edge in batches",
            ratio(bare_s, batch_s),
            "x",
            Target(">=", BATCHED_RATIO_MIN),
            bare,
            note,
        ),
        Row(
            "ends that are kept open",
            ratio(each_s, edge_s),
            "x",
            Target(">=", KEPT_MIN),
            "asking for the lease each time",
            note,
        ),
    ]


@contextmanager
def bare_ring(directory: Path) -> Iterator[BareRing]:
    """Yields one, and closes it."""
    ring = BareRing(directory / "ring")
    try:
        yield ring
    finally:
        ring.close()


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Yields the end to write to and the end to read from."""
    out, into = os.pipe()
    try:
        yield into, out
    finally:
        os.close(out)
        os.close(into)
