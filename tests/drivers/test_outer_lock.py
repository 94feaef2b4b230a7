"""The outer lock between processes: who waits gets its turn, and a waiter that stands still stops nobody for good."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from pathlib import Path

import pytest

from grafctl import clock
from grafctl.errors import Unreachable
from grafctl.store.driver import outer_lock
from grafctl.store.driver.outer_lock import OuterLock

TAKEN = 8  # bytes of the file that count how often the greedy process took the lock


def open_lock(directory: Path) -> OuterLock:
    fd = os.open(directory / "writer.lock", os.O_RDWR | os.O_CREAT)
    return OuterLock("aws/us-east-1", fd, os.open(directory, os.O_RDONLY))


def in_a_child(work: Callable[[], object]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        work()
    finally:
        os._exit(0)


def be_greedy(directory: Path) -> None:
    """Takes the lock again the moment it has given it back, and counts."""
    lock, counter = open_lock(directory), os.open(directory / "count", os.O_WRONLY | os.O_CREAT)
    for taken in range(1, 1000):
        assert lock.take_at_once() or lock.take(10)
        os.pwrite(counter, taken.to_bytes(TAKEN, "big"), 0)
        clock.sleep(0.02)
        lock.give()


def count(directory: Path) -> int:
    return int.from_bytes((directory / "count").read_bytes(), "big") if (directory / "count").exists() else 0


def test_a_process_that_wants_the_lock_again_at_once_does_not_overtake_who_waits(tmp_path: Path) -> None:
    child = in_a_child(lambda: be_greedy(tmp_path))
    try:
        while count(tmp_path) < 3:
            clock.sleep(0.001)
        lock = open_lock(tmp_path)
        for _ in range(5):
            before = count(tmp_path)
            lock.take(10)
            assert count(tmp_path) - before <= 2
            lock.give()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_stopped_waiter_does_not_keep_the_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outer_lock, "_TURN_WAIT_S", 0.05)
    lock = open_lock(tmp_path)
    lock.take(1)
    child = in_a_child(lambda: open_lock(tmp_path).take(60))
    probe = os.open(tmp_path, os.O_RDONLY)
    try:
        while True:  # until the child holds the turnstile
            try:
                flock(probe, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                break
            flock(probe, LOCK_UN)
            clock.sleep(0.01)
        os.kill(child, signal.SIGSTOP)
        os.waitpid(child, os.WUNTRACED)
        lock.give()
        with_turnstile_kept = open_lock(tmp_path)
        assert with_turnstile_kept.take(10)
        with_turnstile_kept.give()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_holder_that_stays_makes_the_others_meet_their_deadline(tmp_path: Path) -> None:
    lock = open_lock(tmp_path)
    lock.take(1)
    with pytest.raises(Unreachable, match="kept its lock"):
        open_lock(tmp_path).take(0.05)
    lock.give()
    again = open_lock(tmp_path)
    assert again.take(0)
    again.give()
