"""A storm over one keyed table: writers and readers in processes of their own, while a vshard is moved back and forth.

The store has five domains, the table begins in three of them. A vshard that is moved goes to three others (one domain
is in both sets); what happens to its operator is up to the test.

`judge` is the verdict, after everybody has ended or was killed: every key's history has an order
(`histories.registers`), with what each domain answers in the end at its end; the keys that count add up to the
compare-and-sets that were won; the table counts as many keys as it has; and `verify` finds nothing.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from histories.recorder import Operation, load, recording
from histories.registers import check_registers

import grafctl.client as client
from faults.forks import Forks, Ran, heard
from faults.table_client import COUNTS, TABLE, Hand, Keys, answer, count_of

DOMAINS = ("a", "b", "c", "d", "e")
HOME, AWAY = ("a", "b", "c"), ("c", "d", "e")
VSHARDS, MOVED = 8, (3,)
KEYS, COUNTERS = 5, 2  # of each vshard
WRITERS, READERS = 4, 2


def vshard_of(key: str) -> int:
    """Returns the vshard of a key, by the rule that the documents give and not by the product's code."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % VSHARDS


def keys_of(vshards: int, each: int, counters: int) -> Keys:
    """Returns keys for every vshard: some that count, and some for everything."""
    found: Keys = {str(number): [] for number in range(vshards)}
    for begin, count in ((COUNTS, counters), ("key ", counters + each)):
        number = 0
        while any(len(own) < count for own in found.values()):
            number += 1
            own = found[str(vshard_of(f"{begin}{number}"))]
            if len(own) < count:
                own.append(f"{begin}{number}")
    return found


class VshardStorm:
    """One storm over one store."""

    def __init__(self, folder: Path, forks: Forks, seed: int, *, weather: bool = False) -> None:
        self.folder, self.store, self.calm = folder, folder / "store", folder / "calm"
        self.chance = random.Random(seed)
        self.keys = keys_of(VSHARDS, KEYS, COUNTERS)
        self.counts: Counter[str] = Counter()
        self.longest_s = 0.0  # of all that writers waited for an answer
        self._forks, self._weather = forks, weather
        self._crew: list[tuple[int, Path]] = []
        self._started = 0
        self._histories = folder / "histories"

    def launch(self) -> None:
        """Makes the store and the table, with something in each key that does not count."""
        self._histories.mkdir(parents=True)
        client.create(self.store, dict.fromkeys(DOMAINS))
        client.keygen("watch", self.folder)
        with client.open(self.store) as opened, recording(self._histories / "first", time.monotonic) as recorder:
            opened.authorities.add("watch", public_key=self.folder / "watch.pub")
            for domain in DOMAINS:
                opened.health.observe(domain, "healthy", authority="watch", key_file=self.folder / "watch.key")
            replicas = [f"r{domain}={domain}" for domain in HOME]
            opened.tables.create(TABLE, replicas=replicas, allow=list(DOMAINS), vshards=VSHARDS)
            hand = Hand(opened, recorder, "first", "a", weather=False)
            for own in self.keys.values():
                hand.put_many({key: f"first {key}" for key in own[COUNTERS:]})

    def begin(self) -> None:
        """Starts the writers and the readers, each in a domain of its own."""
        for _ in range(WRITERS):
            self._start("writer")
        for _ in range(READERS):
            self._start("reader")

    def _start(self, role: str) -> None:
        number = self._started = self._started + 1
        name = f"{role[0]}{number}"
        about: dict[str, Any] = {"name": name, "domain": DOMAINS[number % len(DOMAINS)], "keys": self.keys}
        about |= {"moved": MOVED, "seed": self.chance.getrandbits(32), "calm": str(self.calm)}
        about |= {"history": str(self._histories / name), "weather": self._weather}
        log = self.folder / name
        self._crew.append((self._forks.start(f"faults.table_client:{role}", self.store, log, **about), log))

    def kill_a_writer(self) -> None:
        """Kills one of the writers, and starts another in its place."""
        pid, _ = self._crew.pop(self.chance.randrange(WRITERS))
        os.kill(pid, signal.SIGKILL)
        self._forks.ended(pid, wait=True)
        self._start("writer")
        self._crew.insert(0, self._crew.pop())
        self.counts["killed"] += 1

    @contextmanager
    def hand(self) -> Iterator[Hand]:
        """Opens the table for calls of the test itself, which are in the history too."""
        self._started += 1
        name = f"test{self._started}"
        with client.open(self.store) as opened, recording(self._histories / name, time.monotonic) as recorder:
            yield Hand(opened, recorder, name, "b", weather=False)

    def end(self) -> None:
        """Tells everybody to end, and takes over what they said; raises where one did not end by itself."""
        self.calm.touch()
        for pid, log in self._crew:
            ended = self._forks.ended(pid, wait=True)
            said = heard(log)
            assert ended == 0 and said[-1:] == [{"done": True}], f"{log.name} ended with {ended} and {said[-1:]}"
            ran = Ran(0, said)
            self.counts["refused"] += sum(sum(each.values()) for each in ran.of("refused"))
            self.longest_s = max([self.longest_s, *ran.of("longest_s")])
        self._crew = []

    # --- after

    def judge(self) -> None:
        """Raises `AssertionError` where something does not hold."""
        final = self._read_all()
        history = load(self._histories.iterdir())
        finding = check_registers(history, vshard_of)
        assert finding is None, finding
        self._judge_sums(history, final)
        self.counts["calls"] = len(history)
        self.counts["calls without an answer"] = sum(item.is_pending for item in history)

    def _read_all(self) -> Mapping[str, Mapping[str, Any]]:
        """Returns what is there in the end, after every domain has said the same; `verify` finds nothing."""
        everything = [key for own in self.keys.values() for key in own]
        with client.open(self.store) as opened, recording(self._histories / "last", time.monotonic) as recorder:
            assert not (findings := list(opened.verify())), findings
            for domain in DOMAINS:
                Hand(opened, recorder, "last", domain, weather=False).get_many(everything)
            rows = {row.key.decode(): answer(row) for row in opened.tables.scan(TABLE, domain="a")}
            told = {item.key: item.result for item in recorder.operations[-len(everything) :] if item.result["version"]}
            assert rows == told, "a scan shows other rows than those that are read by key"
            assert opened.tables.count(TABLE).body["count"] == len(rows)
            for vshard, own in self.keys.items():
                count = opened.tables.count(TABLE, vshard=int(vshard)).body["count"]
                assert count == sum(key in rows for key in own), f"vshard {vshard} counts {count} keys"
        return rows

    def _judge_sums(self, history: Sequence[Operation], final: Mapping[str, Mapping[str, Any]]) -> None:
        ours = [item for item in history if item.name == "put" and item.key.startswith(COUNTS)]
        total = sum(count_of(row["value"]) for key, row in final.items() if key.startswith(COUNTS))
        unknown = sum(item.is_pending for item in ours)
        won = sum(not item.is_pending and "version" in item.result for item in ours)
        assert won <= total <= won + unknown, f"the keys that count make {total}, and {won} compare-and-sets were won"
        self.counts["compare-and-sets of keys that count"] = won
