"""A process that keeps a store open and does what it is told, so that what is measured is its steady state.

`python -m bench.child STORE QUEUE [GROUP]` reads lines `ACTION AMOUNT` and answers each with one number.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import grafctl
from bench.stores import DOMAINS, ROOT, fill, payload, surroundings
from grafctl.client import Store
from grafctl.errors import NoQuorum, Timeout

POLLED = 5
SHORT = b"twenty-four bytes, each."


def publish_for(store: Store, queue: str, record: bytes, seconds: float) -> float:
    """Returns how many publishes a second were durable; what was refused because too many came at once is not one."""
    began_s, count = time.perf_counter(), 0
    while (took_s := time.perf_counter() - began_s) < seconds:
        try:
            store.publish(queue, record, domain=DOMAINS[0])
        except (NoQuorum, Timeout) as error:
            print(f"a publish failed: {error.message}", file=sys.stderr, flush=True)
        else:
            count += 1
    return count / took_s


class Actions:
    """What a child can do; every action takes an amount and returns a number."""

    def __init__(self, store: str, queue: str, group: str = "") -> None:
        self.path, self.queue, self.group = store, queue, group
        self.store = grafctl.open(store)
        self.record = payload()
        self.fill_s_max = 60.0

    def publish(self, count: float) -> float:
        """Returns the seconds of so many durable publishes."""
        began_s = time.perf_counter()
        for _ in range(int(count)):
            self.store.publish(self.queue, self.record, domain="aws")
        return time.perf_counter() - began_s

    def publish_for(self, seconds: float) -> float:
        """Returns how many publishes a second were durable in so many seconds."""
        return publish_for(self.store, self.queue, self.record, seconds)

    def poll(self, count: float) -> float:
        """Returns the seconds of so many polls of a few records, each with its ack."""
        began_s = time.perf_counter()
        for _ in range(int(count)):
            given = self.store.poll(self.queue, self.group, domain="aws", max=POLLED)
            offsets = [record.offset for record in given.records]
            assert len(offsets) == POLLED
            self.store.ack(self.queue, self.group, offsets, domain="aws", lease=given.lease)
        return time.perf_counter() - began_s

    def status(self, count: float) -> float:
        """Returns the seconds of so many answers to `status`."""
        began_s = time.perf_counter()
        for _ in range(int(count)):
            self.store.status()
        return time.perf_counter() - began_s

    def open(self, count: float) -> float:
        """Returns the seconds of so many openings, each with one record read and a close."""
        self.store.close()
        began_s = time.perf_counter()
        for _ in range(int(count)):
            with grafctl.open(self.path) as store:
                store.peek(self.queue, domain="aws", max=1)
        took_s = time.perf_counter() - began_s
        self.store = grafctl.open(self.path)
        return took_s

    def fill(self, count: float) -> float:
        """Returns how many short records were published by 1,000, in at most the seconds that were set."""
        return fill(self.store, self.queue, int(count), self.fill_s_max, lambda: SHORT, 1000)

    def limit(self, seconds: float) -> float:
        """Sets for how long `fill` goes on."""
        self.fill_s_max = seconds
        return seconds

    def memory(self, _: float) -> float:
        """Returns the most memory in MB that this process ever had, with the pages of its files that it has mapped."""
        if (kept := status_mb("VmHWM")) is not None:
            return kept
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6

    def own_memory(self, _: float) -> float:
        """Returns the memory in MB that this process has now without pages of files, or 0 where that is not told."""
        return status_mb("RssAnon") or 0.0


def status_mb(field: str, process: int | str = "self") -> float | None:
    """Returns a field of what Linux says of a process; its `ru_maxrss` would be at least that of who started it."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{field}:")), None)


class Child:
    """Such a process, or one of another module that does the same, to be used in a `with` block."""

    def __init__(self, *words: str, module: str = "bench.child") -> None:
        command = [sys.executable, "-m", module, *words]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=surroundings(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:  # closes the pipes, and its standard input ends the process
            pass

    def begin(self, action: str, amount: float) -> None:
        """Tells the process what to do and does not wait."""
        assert self._process.stdin is not None
        print(action, amount, file=self._process.stdin, flush=True)

    def answer(self) -> float:
        """Waits for what was begun."""
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())

    def ask(self, action: str, amount: float = 1) -> float:
        """Returns what the action gives."""
        self.begin(action, amount)
        return self.answer()


def serve(actions: Any) -> None:
    """Answers until standard input ends."""
    while line := sys.stdin.readline():
        name, amount = line.split()
        print(getattr(actions, name)(float(amount)), flush=True)
    actions.store.close()


if __name__ == "__main__":
    serve(Actions(*sys.argv[1:]))
