"""What a durable commit costs where its bytes are on the disk already, and where the file grows with it."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from statistics import median

import lmdb

from bench.rows import Row

NAME = "preallocation: a commit of 1 KiB into zeros that were written ahead, beside one that makes the file longer"
COMMITS = 300
AHEAD_BYTES = 64 << 20


def run() -> list[Row]:
    """Measures commits into two environments in turn, one of them with room in its file."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        places = [Path(name) / "grows", Path(name) / "ahead"]
        environments = [lmdb.open(str(place), map_size=1 << 30, lib_version=0) for place in places]
        with (places[1] / "data.mdb").open("r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(bytes(AHEAD_BYTES))
            os.fsync(file.fileno())
        times: tuple[list[float], list[float]] = ([], [])
        payload = os.urandom(1024)
        for number in range(COMMITS):
            for environment, found in zip(environments, times, strict=True):
                began = time.perf_counter()
                with environment.begin(write=True) as transaction:
                    transaction.put(b"%d" % number, payload)
                found.append(time.perf_counter() - began)
        for environment in environments:
            environment.close()
    grows, ahead = (median(found) * 1e6 for found in times)
    return [
        Row("commit that makes the file longer", grows, "us"),
        Row("commit into zeros that are there", ahead, "us"),
        Row("the second, as a part of the first", ahead / grows, "x"),
    ]
