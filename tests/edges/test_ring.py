"""A ring in a file: against a deque, with every byte flipped and cut, with power losses, and with killed processes."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from grafctl.edges import ring as ringing
from grafctl.edges.ring import Noticed, Ring
from grafctl.edges.ring_bytes import SLOTS_AT, Layout, Lost
from grafctl.errors import Busy
from grafctl.store.driver.journal_bytes import boot_id

SLOTS, SLOT_BYTES, TOKEN = 4, 40, 7
SIZE = SLOTS_AT + SLOTS * SLOT_BYTES


def make(path: Path, kind: str = "memory") -> Path:
    path.write_bytes(bytes(SIZE))
    with Ring(str(path), SIZE, TOKEN) as ring:
        ring.format(Layout(kind, SLOTS, SLOT_BYTES, TOKEN, boot_id() if kind == "memory" else bytes(8)))
    return path


def opened(path: Path) -> Ring:
    return Ring(str(path), SIZE, TOKEN)


def emptied(path: Path) -> list[bytes]:
    """Returns what a new consumer takes out, one by one."""
    found: list[bytes] = []
    with opened(path) as ring:
        while True:
            payloads, front = ring.take(1)
            if not payloads:
                return found
            found += payloads
            assert ring.finish(front.head, front.head + 1) is not None


class AgainstADeque(RuleBasedStateMachine):
    """Two open handles, as producer and consumer have them, and a deque that says what must be there."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else ".")
        self.path = make(self.folder / f"ring-{os.getpid()}-{id(self)}")
        self.producer, self.consumer = opened(self.path), opened(self.path)
        self.model: deque[bytes] = deque()
        self.head = 0

    def teardown(self) -> None:
        self.producer.close()
        self.consumer.close()
        self.path.unlink()

    @rule(payloads=st.lists(st.binary(max_size=24), max_size=5))
    def push(self, payloads: list[bytes]) -> None:
        count, front = self.producer.push(payloads)
        assert count == min(len(payloads), SLOTS - 1 - len(self.model))
        self.model += payloads[:count]
        assert front.tail == self.head + len(self.model)

    @rule(most=st.integers(1, 5))
    def look(self, most: int) -> None:
        payloads, front = self.consumer.take(most)
        assert payloads == list(self.model)[:most] and front.head == self.head

    @rule(most=st.integers(1, 5))
    def pop(self, most: int) -> None:
        payloads, front = self.consumer.take(most)
        assert self.consumer.finish(front.head, front.head + len(payloads)) is not None
        for payload in payloads:
            assert self.model.popleft() == payload
        self.head += len(payloads)

    @rule(off=st.integers(1, 9))
    def finish_what_is_not_there(self, off: int) -> None:
        assert self.consumer.finish(self.head + off, self.head + off) is None
        assert self.consumer.finish(self.head, self.head + len(self.model) + off) is None

    @rule()
    def open_again(self) -> None:
        self.producer.close()
        self.producer = opened(self.path)

    @invariant()
    def holds_as_much(self) -> None:
        front = self.consumer.front()
        assert (front.used, front.room) == (len(self.model), SLOTS - 1 - len(self.model))


TestAgainstADeque = AgainstADeque.TestCase


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A ring that has gone round: records 5 and 6 are in it, and older ones in the other slots."""
    path = make(tmp_path / "ring")
    with opened(path) as ring:
        for number in range(5):
            ring.push([b"old-%d" % number])
            ring.finish(number, number + 1)
        ring.push([b"five", b"six"])
    return path


def test_no_flipped_byte_gives_a_wrong_record(whole: Path) -> None:
    raw, lost = whole.read_bytes(), 0
    for at in range(SIZE):
        wrong = bytearray(raw)
        wrong[at] ^= 0x41
        whole.write_bytes(wrong)
        try:
            assert emptied(whole) == [b"five", b"six"]
        except Lost:
            lost += 1
            with pytest.raises(Lost), opened(whole) as ring:  # from then on for everybody
                ring.push([b"more"])
    assert lost >= 36 + 2 * 12 + 512 + 2 * 16


def test_no_segment_that_was_cut_gives_a_wrong_record(whole: Path) -> None:
    raw = whole.read_bytes()
    for length in range(SIZE):
        whole.write_bytes(raw[:length])
        with pytest.raises(Lost):
            opened(whole)
        whole.write_bytes(raw[:length].ljust(SIZE, b"\0"))  # as a disk that has lost the end of it
        try:
            assert emptied(whole) == [b"five", b"six"]
        except Lost:
            continue
        assert length >= raw.index(b"six") + 3, length


def test_what_is_no_segment_is_lost(tmp_path: Path) -> None:
    path = make(tmp_path / "ring")
    link = tmp_path / "link"
    link.symlink_to(path)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for wrong in (link, fifo, tmp_path, tmp_path / "absent"):
        with pytest.raises(Lost):
            opened(wrong)
    zeros = tmp_path / "zeros"
    zeros.write_bytes(bytes(SIZE))
    with pytest.raises(Lost), opened(zeros) as ring:
        ring.front()
    assert zeros.read_bytes() == bytes(SIZE), "what is no ring yet is left for who makes it one"


def test_who_has_the_ring_for_too_long_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "ring")
    monkeypatch.setattr(ringing, "LOCK_WAIT_S", 0.0)
    with opened(path) as ring, path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Busy):
            ring.push([b"x"])
        fcntl.flock(other, fcntl.LOCK_UN)
        assert ring.push([b"x"])[0] == 1


# --- power losses


class Disk:
    """A file as a disk has it: at a power loss each piece of 16 bytes written since the last flush is there or not."""

    def __init__(self, path: Path, patch: pytest.MonkeyPatch) -> None:
        self.path, self.flushed = path, path.read_bytes()
        self.since: list[tuple[int, bytes]] = []
        self.write, self.flush = os.pwrite, os.fdatasync
        patch.setattr(os, "pwrite", self.pwrite)
        patch.setattr(os, "fdatasync", self.fdatasync)

    def pwrite(self, handle: int, data: bytes, at: int) -> int:
        self.since += [(at + start, data[start : start + 16]) for start in range(0, len(data), 16)]
        return self.write(handle, data, at)

    def fdatasync(self, handle: int) -> None:
        self.flushed, self.since = self.path.read_bytes(), []

    def lose_power(self, chance: random.Random) -> None:
        left = bytearray(self.flushed)
        for at, piece in self.since:
            if chance.random() < 0.5:
                left[at : at + len(piece)] = piece
        self.path.write_bytes(left)
        self.flushed, self.since = bytes(left), []


class Cut(Exception):
    """The power went."""


@pytest.mark.parametrize("turn", range(40))
def test_a_power_loss_at_any_write_keeps_what_was_pushed_or_loses_the_segment(
    tmp_path: Path, seed: int, turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed + turn)
    path = make(tmp_path / "ring", "block")
    disk = Disk(path, monkeypatch)
    left = chance.randrange(1, 30)

    def cut(handle: int, data: bytes, at: int) -> int:
        nonlocal left
        left -= 1
        written = disk.pwrite(handle, data, at)
        if not left:
            raise Cut
        return written

    monkeypatch.setattr(os, "pwrite", cut)
    there: list[bytes] = []  # pushed and not finished
    unsure: list[list[bytes]] = [there]
    with opened(path) as ring:
        try:
            for number in range(100):
                payload = b"record-%d" % number
                unsure = [there, [*there, payload]]
                ring.push([payload])
                there = unsure[1]
                if chance.random() < 0.7 or len(there) == SLOTS - 1:
                    unsure = [there, there[1:]]
                    ring.finish(ring.front().head, ring.front().head + 1)
                    there = there[1:]
        except Cut:
            pass
    assert not left
    disk.lose_power(chance)
    monkeypatch.undo()
    try:
        assert emptied(path) in unsure
    except Lost as lost:
        assert "checksum" in str(lost), "only what is torn is lost"


# --- killed processes

CHILD = """
import sys
from grafctl.edges.ring import Noticed, Ring
path, size, token, what, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
with Ring(path, size, token) as ring:
    print("ready", flush=True)
    while True:
        if what == "push":
            tail = ring.front().tail
            if tail >= last:
                break
            ring.push([b"%d" % number for number in range(tail, min(tail + 2, last))])
        else:
            taken, front = ring.take(2)
            for number, payload in enumerate(taken, front.head):
                assert payload == b"%d" % number, (payload, number)
            if front.head >= last:
                break
            if taken and ring.finish(front.head, front.head + len(taken)) is None:
                sys.exit("somebody else finished it")
"""


def child(path: Path, what: str, last: int, **variables: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", CHILD, str(path), str(SIZE), str(TOKEN), what, str(last)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield make(tmp_path / "ring")


def test_a_producer_and_a_consumer_that_are_killed_again_and_again_lose_and_repeat_nothing(
    path: Path, seed: int
) -> None:
    chance, last = random.Random(seed), 200_000
    running = {what: child(path, what, last) for what in ("push", "pop")}
    for started in running.values():
        assert started.stdout is not None and started.stdout.readline() == b"ready\n"
    for _ in range(12):
        what = chance.choice(("push", "pop"))
        os.kill(running[what].pid, signal.SIGKILL)
        assert running[what].wait() == -signal.SIGKILL
        running[what] = child(path, what, last)
        stdout = running[what].stdout
        assert stdout is not None and stdout.readline() == b"ready\n"
    for started in running.values():
        started.kill()
        started.wait()
    with opened(path) as ring:
        front = ring.front()
    finished = front.tail + 50
    ended = [child(path, what, finished) for what in ("push", "pop")]
    assert [process.wait(timeout=60) for process in ended] == [0, 0]
    with opened(path) as ring:
        assert (ring.front().head, ring.front().tail) == (finished, finished)


@pytest.mark.parametrize(
    ("what", "step", "left"),
    [
        ("push", "edge.slot", (0, 0)),
        ("push", "edge.tail", (0, 2)),
        ("pop", "edge.taken", (0, 2)),
        ("pop", "edge.head", (2, 2)),
    ],
)
def test_a_kill_between_two_writes_leaves_a_record_whole_or_not_there(
    path: Path, what: str, step: str, left: tuple[int, int]
) -> None:
    if what == "pop":
        with opened(path) as ring:
            ring.push([b"0", b"1"])
    started = child(path, what, 9, GRAFCTL_KILL_AT=f"{step}:1")
    assert started.wait(timeout=60) == -signal.SIGKILL
    with opened(path) as ring:
        assert (ring.front().head, ring.front().tail) == left
        ring.push([b"%d" % number for number in range(ring.front().tail, 3)])
    assert emptied(path) == [b"%d" % number for number in range(left[0], 3)]


def test_a_ring_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    path = make(tmp_path / "ring")
    with opened(path) as ring:
        ring.push([b"a"])
        ring.format(Layout("memory", SLOTS, SLOT_BYTES, TOKEN, boot_id()))  # by who began before it was published
    assert emptied(path) == [b"a"]


def test_who_watches_meets_each_notice_and_a_removed_file(tmp_path: Path) -> None:
    path = make(tmp_path / "ring")
    with opened(path) as holder, opened(path) as ender:
        holder.watch(holder.look().notice)
        holder.push([b"a"])
        for say in (ender.begin_notice, ender.end_notice):
            say()
            for _ in range(2):
                with pytest.raises(Noticed):
                    holder.push([b"b"])
            holder.watch(holder.look().notice)
            assert holder.look().notice.is_pending is (say == ender.begin_notice)
        assert holder.take(9)[0] == [b"a"]
        path.unlink()
        for call in (holder.front, holder.look):
            with pytest.raises(Lost, match="its file was removed"):
                call()
