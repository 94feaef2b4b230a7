"""Power losses in every command's run: what the disk may hold at each moment of it, and what must be true of that.

A history is the log of one run, or of one that met a fault and the same command after it. At each moment an image is
made: all domains lose power together, as on one host, or one of them alone, while what the others wrote stays. From the
image everything that was acknowledged before must be there, all domains open, and the same command finishes.
"""

from __future__ import annotations

import copy
import json
import pickle
import random
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import grafctl.client as client
from faults import moves
from faults.disk import Change, Disk
from faults.failing_calls import COMMANDS_AND_FOLDING, HOPELESS_S
from faults.forks import Ran, Trace
from faults.stores import note
from faults.sweeping import DAMAGED, Case, Sweep
from faults.tracing import Event, Fault, domain_of
from faults.verdict import Ledger, verdict
from grafctl.store.driver.journal_bytes import read_mark

ALL = "all"
NOTHING, EVERYTHING, NAMES, CONTENT, CHANCE = "nothing", "everything", "names", "content", "chance"
WAYS = (NOTHING, EVERYTHING, NAMES, CONTENT, CHANCE)
ANSWERS = {"published", "finalised", "delivered", "changed", "proof"}


class Loss(NamedTuple):
    """A power loss: after how many lines of the log, whose, and what of all that was not flushed is there."""

    at: int
    whose: str = ALL
    way: str = NOTHING
    seed: int = 0

    def __str__(self) -> str:
        chance = f" (seed {self.seed})" if self.way == CHANCE else ""
        return f"after {self.at} calls {self.whose} lost power and kept {self.way}{chance} of what was not flushed"


@dataclass
class History:
    """One or more runs of a command, with what was known before them."""

    command: str
    shape: str
    log: list[Event]
    start: Disk
    store: Path
    ledger: Ledger
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        faults = "".join(f", {fault}, again" for fault in self.faults)
        return f"{self.command} [{self.shape}]{faults}"

    def said(self, at: int) -> list[dict[str, Any]]:
        """Returns what the runs had said by then."""
        words = b"".join(event.data for event in self.log[:at] if event.what == "said")
        return [json.loads(line) for line in words.splitlines()]

    def answers(self) -> list[int]:
        """Returns after how many lines each answer has been given."""
        return [at + 1 for at, event in enumerate(self.log) if event.what == "said" and b"done" not in event.data]


class PowerLoss:
    """Records histories, and judges images of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sweep = Sweep(folder, COMMANDS_AND_FOLDING)
        self._reached: dict[tuple[str, str], Counter[str]] = {}

    def close(self) -> None:
        self.sweep.close()

    def reached(self, command: str, shape: str) -> Counter[str]:
        """Returns how many calls of each kind a command makes."""
        if (command, shape) not in self._reached:
            log = self.record(command, shape).log
            self._reached[command, shape] = Counter(event.what for event in log)
        return self._reached[command, shape]

    def record(self, command: str, shape: str, *faults: Fault) -> History:
        """Runs a command with each fault, and then without one; returns the whole log."""
        store, ledger = self.sweep.begin(command, shape)
        history = self.record_in(store, ledger, command, shape, *faults)
        self.sweep.templates.discard(store)
        return history

    def record_in(self, store: Path, ledger: Ledger, command: str, shape: str = "three", *faults: Fault) -> History:
        """Does what `record` does in a store that is left there."""
        start, known = Disk(store.parent, store.name), copy.deepcopy(ledger)
        log: list[Event] = []
        for fault in (*faults, None):
            known.publishes(self.sweep.commands[command].tries)
            path = str(self.folder / "log")
            deadline_s = None if fault is None else HOPELESS_S
            trace = Trace(str(store.parent), fault, path, deadline_s)
            ran = self.sweep.attempt(Case(command, shape, ()), store, ledger, trace=trace)
            assert fault is not None or ran.exit == 0, ran
            with open(path, "rb") as file:
                log += [Event(*row) for row in pickle.load(file)]
        log = [event for event in log if event.what != "open"]
        return History(command, shape, log, start, store, known, faults)

    # --- images

    def losses(self, history: History, every: int = 1, chances: int = 2) -> Iterator[Loss]:
        """Yields all losses: after every line, together and one alone, and each way."""
        domains = sorted({domain for event in history.log if (domain := domain_of(event.path))})
        for at in range(0, len(history.log) + 1, every):
            for whose in (ALL, *domains):
                for way in WAYS if whose == ALL else (NOTHING, CHANCE):
                    for seed in range(chances if way == CHANCE else 1):
                        yield Loss(at, whose, way, seed)

    def try_all(self, history: History, losses: Iterator[Loss] | list[Loss]) -> tuple[int, int, list[str]]:
        """Judges the images of losses, which come in the order of the log; each image once.

        Returns (losses, images, what does not hold).
        """
        disk, taken, count, failed = copy.deepcopy(history.start), 0, 0, []
        judged: set[tuple[int, int]] = set()
        made: set[tuple[Any, ...]] = set()
        for loss in losses:
            assert taken <= loss.at
            for event in history.log[taken : loss.at]:
                made = set() if disk.take(event) or event.what == "said" else made
            taken = loss.at
            count += 1
            kept = _kept(disk, loss)
            if (loss.whose, kept) in made:
                continue
            made.add((loss.whose, kept))
            store = self._image(history, disk, loss, kept)
            mark = (_checksum(store), len(history.said(loss.at)))
            if mark not in judged:
                judged.add(mark)
                try:
                    self._judge(history, loss, store)
                except AssertionError as error:
                    failed.append(f"{history}: {loss}: {error}")
            self.sweep.templates.discard(store)
        return count, len(judged), failed

    def _image(self, history: History, disk: Disk, loss: Loss, kept: frozenset[int]) -> Path:
        store = history.store  # where the runs were, since a store may know paths
        self.sweep.templates.discard(store)
        disk.write(store.parent, lambda change: id(change) in kept)
        for mark in store.glob("domains/*/writer.lock"):
            if loss.whose in (ALL, mark.parent.name):
                _forget_boot(mark)
        return store

    def _judge(self, history: History, loss: Loss, store: Path) -> None:
        """Raises `AssertionError` with what does not hold."""
        case = Case(history.command, history.shape, ())
        command = self.sweep.commands[history.command]
        said = history.said(loss.at)
        before = Ran(0, [item for item in said if ANSWERS & set(item)])
        ledger = copy.deepcopy(history.ledger)
        note(ledger, before)
        moves.note(ledger, Ran(0, said))  # a write of the watching operator is no answer of its command
        is_making = command.stage in ("nothing", "lost", *DAMAGED) or command.deed == "domain_add"
        if before.said or not is_making:  # what is being made may be torn
            assert (store / "store.toml").exists(), "the store is gone"
            _open_all(store)
            away = {"headless": frozenset("a"), "behind": _failed(store)}.get(command.stage, frozenset())
            if command.stage != "nothing":
                verdict(store, ledger, away=away)
        self.sweep.finish(case, store, ledger, before if before.said else None)


def _kept(disk: Disk, loss: Loss) -> frozenset[int]:
    """Returns which of the pending changes reached the disk, by `id`."""
    chance = random.Random(loss.seed)
    share = chance.choice((0.2, 0.5, 0.8))
    return frozenset(
        id(change)
        for change in disk.pending()
        if loss.whose not in (ALL, change.domain) or _is_kept(change, loss.way, chance, share)
    )


def _is_kept(change: Change, way: str, chance: random.Random, share: float) -> bool:
    if way == CHANCE:
        return chance.random() < share
    return way == EVERYTHING or (way == NAMES and bool(change.name)) or (way == CONTENT and not change.name)


def _forget_boot(path: Path) -> None:
    """Leaves a mark as it is after a power loss: what it says is of an earlier boot."""
    with path.open("r+b") as mark:
        found = read_mark(mark.fileno())
        if found is not None:
            body = struct.pack("<Q8s", found[0], b"\xee" * 8)
            mark.seek(0)
            mark.write(body + struct.pack("<I", crc32(body)))


def _checksum(store: Path) -> int:
    found = 0
    for path in sorted(store.rglob("*")):
        found = crc32(str(path.relative_to(store)).encode(), found)
        if path.is_file():
            found = crc32(path.read_bytes(), found)
    return found


def _failed(store: Path) -> frozenset[str]:
    return frozenset(path.parent.name for path in store.glob("domains/*/FAILED"))


def _open_all(store: Path) -> None:
    """Raises where a domain that is not out for a drill cannot be read."""
    with client.open(store) as opened:
        for row in opened.domains.list().items:
            assert row["state"] in ("available", "failed"), row
