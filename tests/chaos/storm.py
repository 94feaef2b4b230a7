"""A storm over real processes: they are killed, stopped and started again while domains go away and come back.

One queue in three of four domains; publishers, consumers of two groups of one lineage, and an operator who moves the
replicas through the domains. A seed decides what hits whom and when; the schedule is the kernel's, so a seed
repeats the weather and not the history.

When it is over everything comes back, a consumer finishes what is left, and the standard verdict is held over what the
processes said. Beyond the verdict: every acknowledged record is final, every payload that was delivered is the one that
was published, and every process ended by itself or by our signal, with no error that the storm does not explain.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.deeds import GROUP, HOUR_MS, QUEUE
from faults.forks import Forks, Ran, heard
from faults.stores import DOMAINS
from faults.verdict import Ledger, peeked, verdict
from histories.checker import check
from histories.models import MODELS
from histories.recorder import load

import grafctl.client as client
from chaos.roles import MOVED, SHARED_IDS, VISIBILITY_MS, groups_of, shared

CREW = ("publisher", "publisher", "publisher", "consumer", "consumer", "operator", "keeper", "mender")
WATCH_S = 15.0  # how long a process works before another takes its place
PAUSE_S = (0.02, 0.4)  # between two blows
BLOWS = {"kill": 10, "stop": 5, "drill": 3, "loss": 2, "harm": 2}  # how often each comes, of their sum
OUT_S = (0.1, 3.0)
STOPPED_S = (0.02, 4.0)  # some longer than a writer waits for a lock


@dataclass
class Sailor:
    """One process of the crew."""

    role: str
    pid: int
    log: Path
    killed: bool = False
    stopped_until: float | None = None


@dataclass
class Storm:
    """One storm over one store."""

    folder: Path
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    delivered: Counter[int] = field(default_factory=Counter)  # offset -> how often
    backups: list[tuple[Path, int]] = field(default_factory=list)  # file, and a record acknowledged before it began
    shown: dict[int, str] = field(default_factory=dict)  # offset -> the payload that was delivered

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.store = self.folder / "store"
        self.calm = self.folder / "calm"
        self.harmed = self.folder / "harmed"
        self.histories = self.folder / "histories"
        self.ledger = Ledger(QUEUE)
        self._crew: list[Sailor] = []
        self._out: dict[str, tuple[str, float]] = {}  # domain -> how it went away, and until when
        self._started = 0

    # --- before

    def launch(self) -> None:
        """Makes the store: a queue in a, b and c, and d for the migration."""
        self.histories.mkdir(parents=True, exist_ok=True)
        client.create(self.store, dict.fromkeys(DOMAINS))
        client.keygen("watch", self.folder)
        with client.open(self.store) as opened:
            opened.authorities.add("watch", public_key=self.folder / "watch.pub")
            for domain in DOMAINS:
                opened.health.observe(domain, "healthy", authority="watch", key_file=self.folder / "watch.key")
            replicas = [f"r{domain}={domain}" for domain in DOMAINS[:3]]
            opened.queues.create(QUEUE, replicas=replicas, allow=list(DOMAINS))
            opened.consumers.create(QUEUE, GROUP, allow=list(DOMAINS), semantics="effectively-once")
        shutil.copytree(self.store / "domains", self.folder / "old")

    # --- during

    def rage(self, forks: Forks, seconds: float) -> None:
        """Lets the crew work through the weather for so long, then calms it down and waits for everybody."""
        until = time.monotonic() + seconds
        self._crew = [self._start(forks, role) for role in CREW]
        while time.monotonic() < until:
            time.sleep(self.rng.uniform(*PAUSE_S))
            self._change_the_watch(forks)
            self._clear_up(time.monotonic())
            self._blow(self.rng.choices(list(BLOWS), list(BLOWS.values()))[0])
        self.calm.touch()
        self._clear_up(float("inf"))
        for sailor in self._crew:
            self._leave(sailor, forks.ended(sailor.pid, wait=True))

    def _start(self, forks: Forks, role: str) -> Sailor:
        self._started += 1
        log = self.folder / f"{role}{self._started}"
        about: dict[str, Any] = {"seed": self.rng.getrandbits(32), "calm": str(self.calm), "seconds": WATCH_S}
        if role == "publisher":
            about |= {"name": f"p{self._started}", "domains": self.rng.sample(DOMAINS, 2)}
        elif role == "consumer":
            about |= {"groups": [GROUP, MOVED], "history": str(self.histories / log.name)}
        elif role == "mender":
            del about["seed"]
            about |= {"harmed": str(self.harmed)}
        elif role == "keeper":
            del about["seed"]
            about |= {"name": f"k{self._started}", "domains": list(DOMAINS), "folder": str(self.folder)}
        return Sailor(role, forks.start(f"chaos.roles:{role}", self.store, log, **about), log)

    def _change_the_watch(self, forks: Forks) -> None:
        """Puts a new process in the place of each that has ended."""
        for place, sailor in enumerate(self._crew):
            ended = forks.ended(sailor.pid, wait=False)
            if ended is not None:
                self._leave(sailor, ended)
                self._crew[place] = self._start(forks, sailor.role)

    def _blow(self, kind: str) -> None:
        if kind in ("kill", "stop"):
            sailor = self.rng.choice(self._crew)
            if sailor.killed or sailor.stopped_until is not None:
                return
            if kind == "kill":
                os.kill(sailor.pid, signal.SIGKILL)
                sailor.killed = True
            else:
                os.kill(sailor.pid, signal.SIGSTOP)
                sailor.stopped_until = time.monotonic() + self.rng.uniform(*STOPPED_S)
        else:
            gone = {*self._out, *([self.harmed.read_text()] if self.harmed.exists() else [])}
            most = 0 if kind == "harm" else 1 if self.rng.random() < 0.1 else 0
            if len(gone) > most:
                return
            domain = self.rng.choice([domain for domain in DOMAINS if domain not in gone])
            if kind == "harm":
                self._harm(domain)
            else:
                self._take_out(domain, kind)
        self.counts[kind] += 1

    def _harm(self, domain: str) -> None:
        """Puts an empty place, an old copy or another domain's files where a domain was; a mender is to repair it."""
        place, trash = self._place(domain), self.folder / f"trash{self.counts['harm']}"
        kind = self.rng.choice(("wiped", "an old copy", "another's files"))
        if kind != "wiped":
            other = self.folder / "old" / domain if kind == "an old copy" else self._place(self._another(domain))
            shutil.copytree(other, self.folder / "copy")
        self.harmed.write_text(domain)
        place.rename(trash)
        if kind != "wiped":
            (self.folder / "copy").rename(place)
        self.counts[f"harm: {kind}"] += 1

    def _another(self, domain: str) -> str:
        return next(other for other in DOMAINS if other != domain)

    def _take_out(self, domain: str, kind: str) -> None:
        place = self._place(domain)
        if kind == "drill":
            (place / "FAILED").touch()
        else:
            place.rename(self._hidden(domain))
        self._out[domain] = (kind, time.monotonic() + self.rng.uniform(*OUT_S))

    def _clear_up(self, now: float) -> None:
        """Ends every outage and wakes every process whose time has come."""
        for domain, (kind, until) in list(self._out.items()):
            if until <= now:
                if kind == "drill":
                    (self._place(domain) / "FAILED").unlink()
                else:
                    self._hidden(domain).rename(self._place(domain))
                del self._out[domain]
        for sailor in self._crew:
            if sailor.stopped_until is not None and sailor.stopped_until <= now:
                os.kill(sailor.pid, signal.SIGCONT)
                sailor.stopped_until = None

    def _place(self, domain: str) -> Path:
        return self.store / "domains" / domain

    def _hidden(self, domain: str) -> Path:
        return self.store / "domains" / f"{domain}.unmounted"

    def _leave(self, sailor: Sailor, ended: int | None) -> None:
        """Takes over what a process said that has ended."""
        said = heard(sailor.log)
        self.counts[f"{sailor.role} processes"] += 1
        assert ended == (signal.SIGKILL if sailor.killed and ended else 0), f"{sailor.log.name}: signal {ended}"
        assert ended or said[-1:] == [{"done": True}], f"{sailor.log.name} ended with {said[-1:]}"
        self._note(Ran(ended or 0, said))
        sailor.log.unlink(missing_ok=True)  # who was killed at once never made it

    def _note(self, ran: Ran) -> None:
        for texts in ran.of("tries"):
            self.ledger.publishes(text for text in texts if not text.startswith("shared"))
            self.counts["publishes tried"] += len(texts)
        for offset, payload, record_id in ran.of("published"):
            self.ledger.published(offset, payload, record_id)
        for lineage, offsets, changed in ran.of("finalised"):
            self.ledger.finalised(lineage, offsets, changed)
            self.counts["acks"] += 1
        for records in ran.of("delivered"):
            self._deliver(records)
        self.backups += [(Path(path), offset) for path, offset in ran.of("backed_up")]
        for word in ("repaired", "backed_up", "added", "removed", "caught_up", "shifted"):
            self.counts[word] += len(ran.of(word))
        for code in ran.of("refused"):
            self.counts[f"refused: {code}"] += 1

    def _deliver(self, records: list[tuple[int, str]]) -> None:
        for offset, payload in records:
            self.delivered[offset] += 1
            known = self.shown.setdefault(offset, payload)
            assert known == payload, f"{payload!r} was delivered at offset {offset}, and {known!r} as well"

    # --- after

    def judge(self) -> None:
        """Finishes what is left, and raises `AssertionError` with all that does not hold."""
        for number in range(SHARED_IDS):
            self.ledger.publishes([shared(number)[1]])
        with client.open(self.store) as opened:
            if self.harmed.exists():
                opened.domains.repair(self.harmed.read_text(), lost=True)
            self._drain(opened)
        verdict(self.store, self.ledger)
        acked = self.ledger.acked
        wrong = [offset for offset, payload in self.shown.items() if acked.get(offset, payload) != payload]
        assert not wrong, f"other payloads were delivered than published at {sorted(wrong)[:20]}"
        unfinished = [offset for offset in acked if offset >= self._floor]
        assert not unfinished, f"acknowledged records that nobody finished: {sorted(unfinished)[:20]}"
        self._judge_backups()
        history = load(self.histories.iterdir())
        unexplained = check(history, MODELS)
        assert unexplained is None, f"no order explains what consumers were told: {unexplained}"
        self.counts["calls checked for linearizability"] = len(history)
        self.counts["records acknowledged"] = len(acked)
        self.counts["records there"] = self._floor
        self.counts["records delivered more than once"] = sum(1 for count in self.delivered.values() if count > 1)

    def _judge_backups(self) -> None:
        """Makes a store of each backup: it is whole, is a prefix of the queue, and has what was acknowledged before."""
        with client.open(self.store) as opened:
            there = {record.offset: record.payload for record in peeked(opened, QUEUE, self._ready(opened))}
        for number, (path, offset) in enumerate(self.backups):
            store = self.folder / f"restored{number}"
            client.restore(path, store)
            with client.open(store) as opened:
                assert not (findings := list(opened.verify())), f"{path.name}: {findings}"
                records = {record.offset: record.payload for record in peeked(opened, QUEUE, self._ready(opened))}
            assert offset in records, f"{path.name} has {len(records)} records, and not the one at {offset}"
            assert records == {at: there[at] for at in range(len(records))}, f"{path.name} holds other records"

    def _drain(self, opened: client.Store) -> None:
        group = MOVED if MOVED in groups_of(opened) else GROUP
        domain = "d" if group == MOVED else self._ready(opened)
        until = time.monotonic() + 60
        while True:
            records = opened.poll(QUEUE, group, domain=domain, max=1000, visibility_ms=HOUR_MS).records
            if records:
                self._deliver([(record.offset, record.payload.decode()) for record in records])
                offsets = [record.offset for record in records]
                done = opened.ack(QUEUE, group, offsets, domain=domain)
                self.ledger.finalised(GROUP, offsets, done.count)
            shown = opened.queues.show(QUEUE).fields()["next_offset"]
            floor = opened.consumers.show(QUEUE, group).fields()["ack_floor"]
            if floor == shown:
                self._floor = floor
                return
            assert time.monotonic() < until, f"the ack floor stays at {floor} of {shown}"
            time.sleep(0 if records else VISIBILITY_MS / 3000)

    def _ready(self, opened: client.Store) -> str:
        replicas = opened.locator.show(QUEUE).fields()["replicas"]
        return next(str(item["domain"]) for item in replicas if item["state"] == "ready")
