"""The audit spool: nothing is lost between those who add and those who take, whatever each finds half done."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from grafctl.store import spool

ADDERS, RECORDS, TAKERS = 3, 60, 3


def test_what_was_added_is_taken_once(tmp_path: Path) -> None:
    taken: list[dict[str, Any]] = []
    for number in range(3):
        spool.add(tmp_path, {"n": number})
    spool.take(tmp_path, taken.append)
    spool.take(tmp_path, taken.append)
    assert taken == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert list(tmp_path.iterdir()) == []


def test_no_record_is_lost_between_threads_that_add_and_threads_that_take(tmp_path: Path) -> None:
    """The window is between opening the spool and writing to it: whoever takes it then must leave it to the writer."""
    taken: list[tuple[int, int]] = []
    is_over = threading.Event()
    errors: list[BaseException] = []

    def guarded(act: Any) -> threading.Thread:
        def run() -> None:
            try:
                act()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def adder(name: int) -> None:
        for number in range(RECORDS):
            spool.add(tmp_path, {"by": name, "n": number})

    def taker() -> None:
        while not is_over.is_set():
            spool.take(tmp_path, lambda record: taken.append((record["by"], record["n"])))

    takers = [guarded(taker) for _ in range(TAKERS)]
    adders = [guarded(lambda name=name: adder(name)) for name in range(ADDERS)]  # type: ignore[misc]
    for thread in adders:
        thread.join()
    is_over.set()
    for thread in takers:
        thread.join()
    spool.take(tmp_path, lambda record: taken.append((record["by"], record["n"])))
    assert not errors
    assert sorted(taken) == [(name, number) for name in range(ADDERS) for number in range(RECORDS)]


def test_a_writer_that_finds_the_spool_taken_away_writes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one who takes comes between the writer's `open` and its lock."""
    spool.add(tmp_path, {"n": 0})
    taken: list[dict[str, Any]] = []
    lock = fcntl.flock

    def take_first(handle: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        spool.take(tmp_path, taken.append)
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", take_first)
    spool.add(tmp_path, {"n": 1})
    spool.take(tmp_path, taken.append)
    assert taken == [{"n": 0}, {"n": 1}]


def test_nobody_takes_a_spool_while_somebody_writes_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who takes comes when the writer has seen that the spool is its own."""
    taken: list[dict[str, Any]] = []
    write = os.write

    def take_before(handle: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        spool.take(tmp_path, taken.append)
        return write(handle, data)

    monkeypatch.setattr(os, "write", take_before)
    spool.add(tmp_path, {"n": 0})
    spool.take(tmp_path, taken.append)
    assert taken == [{"n": 0}]


def test_what_the_caller_could_not_append_stays(tmp_path: Path) -> None:
    spool.add(tmp_path, {"n": 0})

    def refuse(record: dict[str, Any]) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        spool.take(tmp_path, refuse)
    taken: list[dict[str, Any]] = []
    spool.take(tmp_path, taken.append)
    assert taken == [{"n": 0}]


@pytest.mark.parametrize("line", [b'{"n":', b"\xff\n", b"[1]\n", b"\n", b"\x00" * 9 + b"\n"])
def test_a_line_that_is_not_whole_stops_nobody(tmp_path: Path, line: bytes) -> None:
    spool.add(tmp_path, {"n": 0})
    with open(tmp_path / spool.SPOOL_NAME, "ab") as file:
        file.write(line)
    taken: list[dict[str, Any]] = []
    spool.take(tmp_path, taken.append)
    assert taken == [{"n": 0}] and not os.listdir(tmp_path)
