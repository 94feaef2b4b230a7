"""Power lost in the middle of every command: what was acknowledged is there, and the same command finishes.

The default run judges a dozen images for each command, some of them of a run that met a failing flush first. `make
powerloss` and `pytest -m slow` judge all.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.disk import Disk, File
from faults.failing_calls import COMMANDS_AND_FOLDING, home
from faults.power_loss import ALL, CHANCE, EVERYTHING, NOTHING, History, Loss, PowerLoss
from faults.tracing import AFTER, BEFORE, ONCE, Event, Fault

IMAGES = 8  # of each command in the default run, beside those right behind an answer
# What happens before the loss: a flush that failed once, or a process that died at one.
BEFORE_IT = [("flush", "EIO"), ("flush", BEFORE), ("flush", AFTER), ("rename", AFTER)]


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PowerLoss]:
    losses = PowerLoss(tmp_path_factory.mktemp("losses"))
    yield losses
    losses.close()


def judged(losses: PowerLoss, history: History, chosen: list[Loss]) -> int:
    count, images, failed = losses.try_all(history, sorted(chosen, key=lambda loss: loss.at))
    assert not failed, "\n".join(["", f"{len(failed)} of {count} losses:", *failed[:5]])
    return images


@pytest.mark.parametrize("command", COMMANDS_AND_FOLDING)
def test_power_is_lost_in_a_command(losses: PowerLoss, command: str, seed: int) -> None:
    history = losses.record(command, home(command))
    chance = random.Random(seed)
    every = list(losses.losses(history))
    chosen = [Loss(at) for at in {*history.answers(), len(history.log)}]
    assert judged(losses, history, chosen + chance.sample(every, min(IMAGES, len(every))))


@pytest.mark.parametrize("command", COMMANDS_AND_FOLDING)
def test_power_is_lost_after_a_fault_and_the_same_command(losses: PowerLoss, command: str, seed: int) -> None:
    """A failed flush is never made good by a later one; what a dead process left must be made durable by the next."""
    chance = random.Random(seed)
    reached = losses.reached(command, home(command))
    kind, how = chance.choice([pair for pair in BEFORE_IT if reached[pair[0]]])
    history = losses.record(command, home(command), Fault(kind, chance.randint(1, reached[kind]), how, ONCE))
    end = len(history.log)
    chosen = [Loss(end), Loss(end, ALL, CHANCE, chance.randrange(100)), Loss(chance.randrange(end), ALL, CHANCE)]
    assert judged(losses, history, chosen)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS_AND_FOLDING)
def test_every_moment_of_every_command(losses: PowerLoss, command: str) -> None:
    history = losses.record(command, home(command))
    assert judged(losses, history, list(losses.losses(history)))


# --- the model of a disk


def made(tmp_path: Path, *events: Event) -> Disk:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "old").write_bytes(b"o" * 1024)
    disk = Disk(tmp_path, "s")
    for event in events:
        disk.take(event)
    return disk


def image(disk: Disk, tmp_path: Path, *, keep: bool) -> dict[str, bytes]:
    target = tmp_path / f"image{keep}"
    disk.write(target, lambda change: keep)
    return {path.name: path.read_bytes() for path in (target / "s").iterdir()}


def test_what_was_not_flushed_may_be_lost_by_sectors(tmp_path: Path) -> None:
    disk = made(tmp_path, Event("write", "s/old", 500, b"n" * 24))
    assert [change.sector for change in disk.pending()] == [0, 1]
    assert image(disk, tmp_path, keep=False) == {"old": b"o" * 1024}
    assert image(disk, tmp_path, keep=True) == {"old": b"o" * 500 + b"n" * 24 + b"o" * 500}
    first = next(disk.pending())
    disk.write(tmp_path / "torn", lambda change: change is first)
    assert (tmp_path / "torn/s/old").read_bytes() == b"o" * 500 + b"n" * 12 + b"o" * 512


def test_a_flush_and_a_write_that_flushes_are_durable(tmp_path: Path) -> None:
    disk = made(
        tmp_path,
        Event("write", "s/old", 0, b"1"),
        Event("flush", "s/old"),
        Event("write", "s/old", 512, b"2"),
        Event("write", "s/old", 513, b"3", sync=True),
    )
    assert not list(disk.pending())
    assert image(disk, tmp_path, keep=False)["old"] == b"1" + b"o" * 511 + b"23" + b"o" * 510


def test_a_failed_flush_makes_nothing_durable_nor_does_the_next(tmp_path: Path) -> None:
    events = [Event("write", "s/old", 0, b"1"), Event("flush", "s/old", ok=False), Event("flush", "s/old")]
    disk = made(tmp_path, *events)
    assert image(disk, tmp_path, keep=False)["old"] == b"o" * 1024
    for event in events[::2]:
        disk.take(event)
    assert image(disk, tmp_path, keep=False)["old"] == b"1" + b"o" * 1023


def test_a_name_is_durable_when_its_directory_is(tmp_path: Path) -> None:
    disk = made(
        tmp_path,
        Event("cut", "s/new"),
        Event("write", "s/new", 0, b"n"),
        Event("flush", "s/new"),
        Event("rename", "s/new", data=b"s/old"),
    )
    assert image(disk, tmp_path, keep=False)["old"] == b"o" * 1024
    assert image(disk, tmp_path, keep=True) == {"old": b"n"}
    disk.take(Event("flush", "s"))
    assert image(disk, tmp_path / "s", keep=False) == {"old": b"n"}
    disk.take(Event("unlink", "s/old"))
    disk.write(tmp_path / "back", lambda change: False)
    assert (tmp_path / "back/s/old").read_bytes() == b"n"


def test_the_model_ends_where_the_real_disk_does(losses: PowerLoss) -> None:
    """All of a log carried out is what the command left: then no call that matters was overlooked."""
    command = "domain add"
    store, ledger = losses.sweep.begin(command, home(command))
    history = losses.record_in(store, ledger, command)
    for event in history.log:
        history.start.take(event)
    for path in store.rglob("*"):
        node = history.start.find(str(path.relative_to(store.parent)))
        assert node is not None, path
        if isinstance(node, File) and path.name != "lock.mdb":  # which LMDB maps
            assert bytes(node.cache) == path.read_bytes(), path
    losses.sweep.templates.discard(store)


def test_every_way_of_a_loss_is_met(losses: PowerLoss) -> None:
    history = losses.record("fence", "three")
    found = list(losses.losses(history))
    assert {loss.whose for loss in found} == {ALL, *"abcd"}
    assert {loss.way for loss in found} >= {NOTHING, EVERYTHING, CHANCE}
