"""Power losses in the middle of everything: what the disk kept of the journal is any part of what was not flushed.

Each history writes commits, some of which their writers never flush, as if they had been on their way; at a loss every
sector that was written since the last flush may be there or not. Then the domain is opened again and must hold exactly
the first k commits, for a k that covers all that were acknowledged; and it goes on from there to the next loss.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.contract import IDENTITY
from drivers.journals import EVERYTHING, forget_boot
from grafctl.store.driver.journal_bytes import SECTOR
from grafctl.store.driver.lmdb import LmdbDriver, LmdbEnvironment

Rows = dict[bytes, bytes]
LOSSES, COMMITS = 6, 12


class Disk:
    """The journal's file as a disk has it: what was flushed, and the sectors written since, in their order."""

    def __init__(self, path: Path, patch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.fd = -1
        self._flushed = path.read_bytes()
        self._since: list[tuple[int, bytes]] = []
        self._pwrite, self._fdatasync = os.pwrite, os.fdatasync
        patch.setattr(os, "pwrite", self.pwrite)
        patch.setattr(os, "fdatasync", self.fdatasync)

    def pwrite(self, fd: int, data: bytes, at: int) -> int:
        if fd == self.fd:
            sectors = range(0, len(data), SECTOR)
            self._since += [(at + start, data[start : start + SECTOR]) for start in sectors]
        return self._pwrite(fd, data, at)

    def fdatasync(self, fd: int) -> None:
        self._fdatasync(fd)
        if fd == self.fd:
            self._flushed, self._since = self.path.read_bytes(), []

    def lose_power(self, chance: random.Random) -> None:
        """Leaves of the sectors that were not flushed any that chance wants."""
        image, kept = bytearray(self._flushed), chance.choice((0.0, 0.3, 0.7, 1.0))
        for at, sector in self._since:
            if chance.random() < kept:
                image[at : at + SECTOR] = sector
        self.path.write_bytes(image)
        self._flushed, self._since = bytes(image), []


class History:
    """A domain, its disk, and the rows after each commit."""

    def __init__(self, path: Path, patch: pytest.MonkeyPatch, seed: int) -> None:
        self.chance = random.Random(seed)
        self.path = path
        LmdbDriver(journal_size=self.chance.choice((8, 64)) * 1024).create(path, IDENTITY)
        self.disk = Disk(path / "env" / "journal", patch)
        self.rows: list[Rows] = [{}]  # by how many commits
        self.acknowledged = 0
        self.open()

    def open(self) -> None:
        self.env: LmdbEnvironment = LmdbDriver().open(self.path, IDENTITY)
        self.disk.fd = self.env.handle().journal_fd

    def changes(self) -> dict[bytes, bytes | None]:
        """Returns a commit that tells itself from all others, and now and then one that goes to LMDB."""
        size = self.chance.choice((10, 400, 700, 2000, 70_000))
        key = b"row %d" % self.chance.randrange(8)
        found: dict[bytes, bytes | None] = {b"count": b"%d" % len(self.rows), key: bytes(size)}
        other = b"row %d" % self.chance.randrange(8)
        if other != key and other in self.rows[-1]:
            found[other] = None
        return found

    def commit(self) -> None:
        """Commits; without the flush where the writer is thought to be on its way still."""
        changes, handle = self.changes(), self.env.handle()
        after = dict(self.rows[-1])
        for key, value in changes.items():
            after.pop(key, None)
            after |= {} if value is None else {key: value}
        is_done = self.chance.random() < 0.5
        handle.outer.take(1)
        try:
            overlay = handle.begin_write()
            assert overlay is not None
            overlay = handle.commit(overlay, changes)
        finally:
            handle.outer.give()
        self.rows.append(after)
        if is_done:
            handle.finish(overlay)
        if handle.journal.durable >= overlay.number:
            self.acknowledged = len(self.rows) - 1

    def lose_power(self) -> None:
        self.env.close()
        self.disk.lose_power(self.chance)
        forget_boot(self.path)
        self.open()
        found = self.read()
        count = int(found.get(b"count", b"0"))
        assert count >= self.acknowledged, f"{count} of {self.acknowledged} acknowledged commits are there"
        assert found == self.rows[count]
        del self.rows[count + 1 :]
        self.acknowledged = count

    def read(self) -> Rows:
        with self.env.read() as view:
            return dict(view.scan(*EVERYTHING))


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as made:
        yield made


@pytest.mark.parametrize("seed", range(40))
def test_all_that_was_acknowledged_and_nothing_out_of_order(
    tmp_path: Path, patch: pytest.MonkeyPatch, seed: int
) -> None:
    history = History(tmp_path / "domain", patch, seed)
    for _ in range(LOSSES):
        for _ in range(history.chance.randrange(COMMITS)):
            history.commit()
            if history.chance.random() < 0.2:
                assert history.read() == history.rows[-1]
                history.acknowledged = len(history.rows) - 1  # what was read is durable
        history.lose_power()
    history.env.close()
