"""A process that writes to one vshard of a table, one put after another, and keeps when each began and ended.

`python -m bench.table_writer STORE TABLE VSHARD FILE` reads lines `ACTION AMOUNT` and answers each with one number.
The times are of the clock that never goes back, which is the same for all processes of a host.
"""

from __future__ import annotations

import os
import select
import sys
import time
from array import array
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import grafctl
from bench.child import serve
from bench.stores import DOMAINS, payload
from grafctl.store.vshards import vshard_of

KEYS = 500  # which one writer writes over and over


def keys_of(vshard: int, vshards: int, name: str) -> Iterator[bytes]:
    """Yields keys that belong to a vshard."""
    for number in count():
        key = f"{name}-{number:09d}".encode()
        if vshard_of(key, vshards) == vshard:
            yield key


class Actions:
    """What a writer can do; every action takes an amount and returns a number."""

    def __init__(self, store: str, table: str, vshard: str, file: str) -> None:
        self.store, self.table, self._file = grafctl.open(store), table, Path(file)
        vshards = self.store.tables.show(table).body["vshards"]
        self._keys = list(islice(keys_of(int(vshard), vshards, f"writer-{os.getpid()}"), KEYS))
        self._rest = payload()[16:]
        self._number = 0

    def put(self, amount: float) -> float:
        """Returns the seconds of so many puts, for a start."""
        began_s = time.monotonic()
        for _ in range(int(amount)):
            self._put()
        return time.monotonic() - began_s

    def write(self, _: float) -> float:
        """Writes until the next line comes; leaves (began, ended) of each put in the file, returns how many."""
        times = array("d")
        while not select.select([sys.stdin], [], [], 0)[0]:
            times.append(time.monotonic())
            self._put()
            times.append(time.monotonic())
        self._file.write_bytes(times.tobytes())
        return len(times) / 2

    def stop(self, _: float) -> float:
        """Does nothing: that its line came is what ends `write`."""
        return 0

    def _put(self) -> None:
        self._number += 1
        key = self._keys[self._number % KEYS]
        value = b"%016d" % self._number + self._rest
        assert self.store.tables.put(self.table, key, value, domain=DOMAINS[0]).changed


if __name__ == "__main__":
    serve(Actions(*sys.argv[1:]))
