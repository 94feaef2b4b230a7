"""The worker in real processes that are stopped, cut off, or compete: what is acked, given back and tried again."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Runner

import grafctl
from workers.conftest import GROUP, HERE, QUEUE, THERE, THIRD, floor, make, publish, rest, worker

# The real thing, as somebody would write it: it tells what it does on stdout, and how it ended.
PROGRAM = """
import logging, sys, time
import grafctl

logging.basicConfig(level=logging.WARNING)
store, domain, work_s, options = sys.argv[1], sys.argv[2], float(sys.argv[3]), eval(sys.argv[4])
with grafctl.open(store) as opened, grafctl.Worker(opened, "orders", "billing", domain=domain, **options) as records:
    print("ready", flush=True)
    for record in records:
        print("begun", record.offset, record.delivery, flush=True)
        time.sleep(work_s)
        print("done", record.offset, flush=True)
print("ended", records.acked, records.given_back, records.lost, records.stopped_by, flush=True)
"""


class Process:
    """A worker as a process of its own, whose lines are read as they come."""

    def __init__(self, path: Path, work_s: float = 0.0, domain: str = HERE, env: Any = None, **options: Any) -> None:
        environment = Runner(path.parent).environment(env=env)
        command = [sys.executable, "-c", PROGRAM, str(path), domain, str(work_s), repr(options)]
        self.process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []

    def until(self, start: str) -> None:
        """Reads until a line begins so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if line.startswith(start):
                return
        raise AssertionError(f"no line {start!r} in {self.lines}, but {self.error()}")

    def error(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def end(self, timeout: float = 30) -> int:
        out, self.said = self.process.communicate(timeout=timeout)
        self.lines += out.splitlines()
        return self.process.returncode

    def numbers(self, word: str) -> list[int]:
        return [int(line.split()[1]) for line in self.lines if line.split()[0] == word]

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_record_under_way_finish_and_gives_back_the_rest(path: Path, number: int) -> None:
    publish(path, 60)
    with Process(path, work_s=0.05) as process:
        process.until("begun 9 ")
        process.process.send_signal(number)
        assert process.end() == 0
    assert process.numbers("begun") == process.numbers("done") == list(range(10))
    with grafctl.open(path) as store:
        assert floor(store) == 10
        assert process.lines[-1].split()[1] == "10" and process.lines[-1].endswith(f" 0 {int(number)}")
        assert rest(store, max=100) == [(offset, 1) for offset in range(10, 66)]  # at once, and as if new


def test_a_second_signal_does_not_wait_for_the_record_under_way(path: Path) -> None:
    with Process(path, work_s=30) as process:
        process.until("begun 0 ")
        process.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        process.process.send_signal(signal.SIGINT)
        assert process.end() != 0
        assert "KeyboardInterrupt" in process.said
    with grafctl.open(path) as store:
        assert rest(store)[0] == (0, 2)


def test_after_sigkill_only_what_was_not_acked_comes_again_when_the_lease_runs_out(path: Path, run: Runner) -> None:
    with Process(path, work_s=0.05) as process:
        process.until("begun 4 ")
        process.process.kill()
        process.end()
    with grafctl.open(path) as store:
        assert floor(store) == 4
        held = 6 - 4 - len(rest(store, visibility_ms=1))  # what the dead worker still holds
        assert held >= 1
    later = {"GRAFCTL_CLOCK_OFFSET_MS": "60000"}
    with Process(path, env=later, idle_s=0.5) as second:
        assert second.end() == 0
    assert second.numbers("done") == [4, 5]
    assert "begun 4 2" in second.lines
    assert run("consumer", "show", QUEUE, GROUP, "--json", store=path).json["ack_floor"] == 6


@pytest.mark.parametrize(
    ("domains", "failed", "why"), [((HERE, THERE), THERE, "voters"), ((HERE, THERE, THIRD), HERE, HERE)]
)
def test_a_failed_domain_is_waited_for(tmp_path: Path, domains: tuple[str, ...], failed: str, why: str) -> None:
    path = make(tmp_path, domains, count=40)
    with Process(path, work_s=0.02, idle_s=1.0) as process, grafctl.open(path) as store:
        process.until("begun 9 ")
        store.domains.fail(failed)
        time.sleep(1.5)
        assert process.process.poll() is None
        store.domains.restore(failed)
        assert process.end() == 0
        assert floor(store) == 40
        assert not list(store.verify())
    assert process.numbers("done") == list(range(40))  # each once: no lease was lost meanwhile
    assert why in process.said and "Waiting for it." in process.said
    assert f"is served again in {HERE}" in process.said


def test_a_signal_ends_the_wait_for_a_failed_domain(path: Path) -> None:
    with Process(path) as process, grafctl.open(path) as store:
        process.until("done 5")
        time.sleep(0.3)
        store.domains.fail(THERE)
        time.sleep(0.7)
        process.process.terminate()
        began = time.monotonic()
        assert process.end() == 0
        assert time.monotonic() - began < 4
        store.domains.restore(THERE)
        assert floor(store) == 6


def test_workers_that_compete_do_every_record_once(path: Path) -> None:
    publish(path, 394)
    slowly: dict[str, Any] = {"work_s": 0.005, "idle_s": 0.5}  # because one of them may start much later than the other
    with Process(path, **slowly) as one, Process(path, **slowly, domain=THERE, ack_every=20) as two:
        assert one.end() == two.end() == 0
    done = one.numbers("done") + two.numbers("done")
    assert sorted(done) == list(range(400))
    assert min(len(one.numbers("done")), len(two.numbers("done"))) > 0
    with grafctl.open(path) as store:
        assert floor(store) == 400


def test_a_worker_in_a_thread_leaves_the_signals_alone(store: grafctl.Store) -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[Any] = []

    def go() -> None:
        with worker(store) as records:
            seen.append(signal.getsignal(signal.SIGTERM) is before)
            seen.extend(record.offset for record in records)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    assert seen == [True, 0, 1, 2, 3, 4, 5]
    assert signal.getsignal(signal.SIGTERM) is before
