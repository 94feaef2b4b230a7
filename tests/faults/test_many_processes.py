"""Many processes at once publish, poll and acknowledge, while one is killed and a domain fails and comes back.

A seed decides who does what, who is killed, and after how many words of all of them together; the schedule is the
kernel's. `pytest -m slow tests/faults` takes many more goes.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import grafctl.client as client
from faults.deeds import GROUP, QUEUE
from faults.forks import Forks, Ran, heard
from faults.stores import Templates, note
from faults.verdict import Ledger, verdict
from grafctl.store import keys
from grafctl.store.resources.delivery import Lineage
from grafctl.store.resources.leases import leases_of

VOTERS = {"two": "ab", "three": "abc", "witness1": "ab"}  # the domains in which there is work
PUBLISHERS, GOES, CONSUMERS = 3, 16, 2
SLOW_GOES = 25


@dataclass
class Crowd:
    """The processes of one go, by what they do."""

    forks: Forks
    store: Path
    folder: Path
    publishers: list[int] = field(default_factory=list)
    consumers: list[int] = field(default_factory=list)
    logs: dict[int, Path] = field(default_factory=dict)

    @property
    def stop(self) -> Path:
        return self.folder / "stop"

    def start(self, rng: random.Random, domains: str) -> None:
        for number in range(PUBLISHERS):
            about: dict[str, Any] = {"name": f"p{number}", "goes": GOES}
            self.publishers.append(self._start("publish_many", domains, number, rng, **about))
        for number in range(CONSUMERS):
            self.consumers.append(self._start("consume_many", domains, number, rng, until=str(self.stop)))

    def _start(self, deed: str, domains: str, number: int, rng: random.Random, **about: Any) -> int:
        log = self.folder / f"{deed}{number}"
        at: dict[str, Any] = {"domain": domains[number % len(domains)], "seed": rng.getrandbits(32)}
        pid = self.forks.start(deed, self.store, log, **at, **about)
        self.logs[pid] = log
        return pid

    def words(self) -> int:
        """Returns how much all of them have said."""
        return sum(log.read_bytes().count(b"\n") for log in self.logs.values() if log.exists())

    def wait_for(self, words: int) -> None:
        """Waits until they have said so much, or the publishers have nothing more to say."""
        while self.words() < words and not all(self._is_done(pid) for pid in self.publishers):
            time.sleep(0.002)

    def _is_done(self, pid: int) -> bool:
        return any("done" in item or "crash" in item for item in heard(self.logs[pid]))

    def end(self, killed: int) -> None:
        """Waits for all of them: the publishers, then the consumers, who take what is left."""
        for pid in self.publishers:
            self._end(pid, killed)
        self.stop.touch()
        for pid in self.consumers:
            self._end(pid, killed)

    def _end(self, pid: int, killed: int) -> None:
        ended = self.forks.ended(pid, wait=True)
        if not (pid == killed and ended == signal.SIGKILL):  # who was to be killed may have been done by then
            assert ended == 0, f"{self.logs[pid].name} ended with signal {ended}"
            words = heard(self.logs[pid])
            assert words[-1] == {"done": True}, words[-1]


def one_go(templates: Templates, forks: Forks, folder: Path, shape: str, rng: random.Random) -> None:
    """Lets a crowd work through a kill and an outage in any order, and checks what came of it."""
    store, ledger = templates.copy(shape, "base")
    crowd = Crowd(forks, store, folder)
    folder.mkdir()
    crowd.start(rng, VOTERS[shape])
    killed = rng.choice(crowd.publishers + crowd.consumers)
    out = rng.choice(VOTERS[shape])
    fail_at = rng.randrange(8, 60)
    acts: list[tuple[int, Callable[[], None]]] = [
        (rng.randrange(8, 100), lambda: os.kill(killed, signal.SIGKILL)),
        (fail_at, lambda: drill(store, out, fails=True)),
        (fail_at + rng.randrange(2, 40), lambda: drill(store, out, fails=False)),
    ]
    for words, act in sorted(acts, key=lambda item: item[0]):
        crowd.wait_for(words)
        act()
    crowd.end(killed)
    delivered: Counter[int] = Counter()
    for log in crowd.logs.values():
        ran = Ran(0, heard(log))
        for texts in ran.of("tries"):
            ledger.publishes(texts)
        note(ledger, ran)
        for offsets in ran.of("delivered"):
            delivered.update(offsets)
    verdict(store, ledger)
    assert delivered and not [offset for offset, count in delivered.items() if count > 1], delivered
    require_all_in_somebodys_hands(store, ledger)
    templates.discard(store)


def drill(store: Path, domain: str, *, fails: bool) -> None:
    with client.open(store) as opened:
        if fails:
            opened.domains.fail(domain)
        else:
            opened.domains.restore(domain)


def require_all_in_somebodys_hands(store: Path, ledger: Ledger) -> None:
    """Every record is final, or leased to the one that was killed or could not read it: none was passed over."""
    with client.open(store) as opened, opened.session.state(QUEUE) as state:
        lineage = Lineage.of(state.get_json(keys.lineage(GROUP)))
        hands = set(range(lineage.floor)) | {o for start, stop in lineage.done for o in range(start, stop)}
        for _, lease in leases_of(state, GROUP):
            hands |= {offset for start, stop, _ in lease["grants"] for offset in range(start, stop)}
    assert set(ledger.acked) <= hands, f"nobody was given {sorted(set(ledger.acked) - hands)}"


@pytest.mark.parametrize("go", range(2))
@pytest.mark.parametrize("shape", VOTERS)
def test_nothing_is_lost_or_doubled(
    templates: Templates, forks: Forks, tmp_path: Path, seed: int, shape: str, go: int
) -> None:
    one_go(templates, forks, tmp_path / "crowd", shape, random.Random(f"{seed} {shape} {go}"))


@pytest.mark.slow
@pytest.mark.parametrize("shape", VOTERS)
def test_nothing_is_lost_or_doubled_in_many_goes(
    templates: Templates, forks: Forks, tmp_path: Path, seed: int, shape: str
) -> None:
    for go in range(SLOW_GOES):
        one_go(templates, forks, tmp_path / f"crowd{go}", shape, random.Random(f"{seed} {shape} {go}"))
