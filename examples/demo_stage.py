"""The stage of the demo: its directory, the processes that it starts and ends, its clock, and what it tells.

Every process is in a group of its own, so that Ctrl-C reaches the demo alone, which then ends the others in order. A
worker also ends when the demo is gone, because it holds the other end of the worker's standard input.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grafctl

QUEUE, OLD = "orders", "active-workers"
WORKER = Path(__file__).with_name("worker.py")
SAY_EVERY_S = 2.0
STALLED_S = 60.0
END_S = 5.0


class Failed(Exception):
    """Something is not as it should be; the sentence says what."""


def require(is_so: bool, sentence: str) -> None:
    if not is_so:
        raise Failed(sentence)


# --- the processes


class Publisher:
    """`grafctl publish - --input jsonl` in a domain: fed from a file as far as it may be."""

    def __init__(self, demo: Demo, domain: str, source: Path) -> None:
        self.domain, self.source, self.limit = domain, source, 0.0
        self.answers = source.with_suffix(".acks")
        words = ("publish", QUEUE, "-", "--input", "jsonl", "-d", domain, "-o", "jsonl", "--quiet")
        with self.answers.open("wb") as out:
            self.process = demo.start(demo.show(*words), stdin=subprocess.PIPE, stdout=out)
        self.feeder = threading.Thread(target=self._feed, daemon=True)
        self.feeder.start()

    def _feed(self) -> None:
        assert self.process.stdin is not None
        size, sent = self.source.stat().st_size, 0
        try:
            with self.source.open("rb") as lines, self.process.stdin as pipe:
                while sent < size:
                    while sent >= self.limit * size:
                        time.sleep(0.02)
                    sent += pipe.write(lines.read(1 << 17))
        except BrokenPipeError:
            pass  # it ended early, and its exit code says why

    def offsets(self) -> list[int]:
        """Returns the offset of each of its records, in order, as it was told when they were durable."""
        found: list[int] = []
        for line in self.answers.read_text().splitlines():
            ack = json.loads(line)
            found += ack.get("offsets") or range(ack["offset"], ack["offset"] + ack["count"])
        return found


class Workers:
    """Two processes that work for one group, each writing what it did to a ledger of its own."""

    def __init__(self, demo: Demo, group: str, domains: tuple[str, ...]) -> None:
        self.ledgers = [demo.directory / f"{group}-{number}.ledger" for number in range(len(domains))]
        self.processes = [
            demo.start(
                [sys.executable, str(WORKER), str(demo.store), group, domain, str(ledger)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for domain, ledger in zip(domains, self.ledgers, strict=True)
        ]

    def stop(self) -> list[dict[str, int]]:
        """Asks both to stop, as a supervisor does, and returns what each did."""
        for process in self.processes:
            process.terminate()
        reports = []
        for process in self.processes:
            out, _ = process.communicate(timeout=60)
            require(process.returncode == 0, f"a worker ended with {process.returncode}")
            reports.append(json.loads(out))
        return reports


# --- the stage


class Step(NamedTuple):
    title: str
    seconds: float
    outcome: str


class Demo:
    """What the acts share: the directory, the processes, the clock, and the account."""

    def __init__(self, directory: Path, scale: float) -> None:
        self.directory, self.scale, self.store = directory, scale, directory / "store"
        self.began_s = time.monotonic()
        self.steps: list[Step] = []
        self.refusals: list[tuple[int, str, str]] = []
        self.children: list[subprocess.Popen[bytes]] = []
        self.orders: list[list[bytes]] = [[], []]  # by publisher: the digest of each order's id and payload
        self.env = os.environ | {"GRAFCTL_STORE": str(self.store), "NO_COLOR": "1"}

    @contextmanager
    def step(self, title: str) -> Iterator[list[str]]:
        """Announces a step, measures it, and keeps it for the account with what the caller appends."""
        self.say(f"\n== {title}")
        outcome: list[str] = []
        began_s = time.monotonic()
        yield outcome
        self.steps.append(Step(title, time.monotonic() - began_s, "; ".join(outcome)))

    def say(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def show(self, *words: str) -> list[str]:
        """Prints a command as it would be typed, and returns how it is started."""
        self.say(f"$ grafctl {shlex.join(words)}")
        return [sys.executable, "-m", "grafctl", *words]

    def start(self, command: list[str], **streams: Any) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(command, cwd=self.directory, env=self.env, process_group=0, **streams)
        self.children.append(child)
        return child

    def run(self, *words: str, expect: int = 0, input: bytes = b"") -> Any:
        """Runs a command to its end and returns its JSON; requires its exit code."""
        child = self.start(
            self.show(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE if expect else None
        )
        out, err = child.communicate(input)
        if expect:
            said = err.decode().partition("\n")[0].removeprefix("error: ")
            self.say(f"  refused with {child.returncode}: {said}")
            self.refusals.append((child.returncode, f"grafctl {shlex.join(words)}", said))
        require(child.returncode == expect, f"`grafctl {shlex.join(words)}` ended with {child.returncode}")
        return None if expect else json.loads(out.splitlines()[-1])

    def wait(self, is_reached: Callable[[int, int], bool], publishers: list[Publisher]) -> None:
        """Waits until the counts of published and finished orders say so, and tells them every two seconds."""
        said_s = moved_s = time.monotonic()
        last: tuple[int, int] = (-1, -1)
        total = sum(map(len, self.orders))
        with grafctl.open(self.store) as store:
            while True:
                published = store.queues.show(QUEUE).body["next_offset"]
                finished = store.consumers.show(QUEUE, OLD).body["ack_floor"]
                now_s = time.monotonic()
                if (published, finished) != last:
                    moved_s, last = now_s, (published, finished)
                is_done = is_reached(published, finished)
                if is_done or now_s - said_s >= SAY_EVERY_S:
                    said_s = now_s
                    self.say(
                        f"  {now_s - self.began_s:5.1f} s   published {published:7,} of {total:,}"
                        f"   finished {finished:7,}"
                    )
                if is_done:
                    return
                ended = [p.process.returncode for p in publishers if p.process.poll() not in (None, 0)]
                require(not ended, f"a publisher ended with {ended}")
                require(now_s - moved_s < STALLED_S, f"nothing moved for {STALLED_S:.0f} s")
                time.sleep(0.1)

    def end_children(self) -> None:
        """Ends every process that still runs: first asked, then killed."""
        running = [child for child in self.children if child.poll() is None]
        for child in running:
            child.terminate()
        until_s = time.monotonic() + END_S
        for child in running:
            try:
                child.wait(timeout=max(until_s - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
