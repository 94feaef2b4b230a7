"""Damage: one domain's files are harmed between two commands, and then life goes on; `python -m damage.trials 10000`.

A trial is a store, a domain, a way of `harm.py` and the commands of a day, all from one seed. It passes where
- no process was killed by a signal, hung, or ended with a traceback;
- every byte that was returned is right, everything acknowledged is served, and nothing was finalised twice;
- the damaged domain is named by `status` and by `verify`, or the damage did no harm: the full check of the whole store,
  the damaged domain included, finds everything right.

`--rot` makes what the driver notes of data.mdb fit the damaged file, as if the disk under the file system had changed
it: then a process may be killed and a hidden row missed, which is counted, and only a wrong byte is wrong.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from faults.deeds import GROUP
from faults.forks import Forks, Ran

from damage.harm import ROT, WAYS, harm
from damage.stores import CONTENTS, DOMAINS, SETS, Store, Stores, place
from grafctl.store.driver import lmdb_stamp

DAY, JUDGED = "damage.deeds:day", "damage.deeds:judged"
SERVED = {0}
# What follows where a row is hidden and nothing tells: an id that is published again, and replicas that differ.
UNSEEN = ("killed", "publish: ", "at the end", "verify blames")
REFUSED_THERE = {0, 11, 12, 25}  # asked of the damaged domain itself


class Trial(NamedTuple):
    """What a seed stands for, and what came of it."""

    seed: int
    way: str
    what: str
    outcome: str  # one of OUTCOMES
    wrong: list[str]
    signals: int


def run(seed: int, stores: Stores, forks: Forks, *, rot: bool = False, way: str | None = None) -> Trial:
    """Runs the trial of one seed."""
    rng = random.Random(seed)
    way = way or rng.choice(ROT if rot else list(WAYS))
    store = stores.copy(rng.choice(list(SETS)), "large" if rng.random() < 0.75 else rng.choice(CONTENTS))
    domain = rng.choice(DOMAINS)
    what = harm(way, store, domain, rng)
    if rot:
        settle(place(store.path, domain))
    try:
        outcome, wrong, signals = _live(store, domain, rng, forks, rot)
    finally:
        stores.discard(store)
    return Trial(seed, way, what, outcome, wrong, signals)


def settle(path: Path) -> None:
    """Makes what the driver notes of a domain's files fit the files."""
    if (path / "writer.lock").exists() and (path / "env" / "data.mdb").exists():
        with (path / "writer.lock").open("r+b") as file:
            lmdb_stamp.note(file.fileno(), lmdb_stamp.look_at(os.fsencode(path / "env" / "data.mdb")))


def _steps(store: Store, domain: str, rng: random.Random) -> list[list[Any]]:
    name, (_, payload) = rng.choice(sorted(store.ledger.ids.items()))
    last, (_, other) = sorted(store.ledger.ids.items())[-1]
    well = [item for item in store.voters if item != domain]
    steps: list[list[Any]] = [
        ["status", {}],
        ["verify", {}],
        ["doctor", {}],
        ["publish", {"payload": "new one", "domain": rng.choice(well)}],
        ["publish", {"payload": payload, "id": name, "domain": rng.choice(well)}],
        ["publish", {"payload": other, "id": last, "domain": rng.choice(well)}],
        ["work", {"domain": rng.choice(well)}],
        ["work", {"domain": rng.choice(well)}],
        *[["peek", {"domain": item}] for item in store.voters],
    ]
    rng.shuffle(steps)
    return [*steps, ["work", {"domain": rng.choice(well)}], ["status", {}], ["verify", {}]]


def _live(store: Store, domain: str, rng: random.Random, forks: Forks, rot: bool) -> tuple[str, list[str], int]:
    steps = _steps(store, domain, rng)
    ledger = store.ledger
    ledger.publishes(["new one"])
    said: list[dict[str, Any]] = []
    signals = 0
    while steps:  # a child that was killed is followed by one that does the rest, as a shell would
        ran = forks.run(DAY, store.path, steps=steps)
        said += ran.said
        if not ran.signal:
            break
        signals += 1
        begun = len([item for item in ran.said if "begins" in item])
        said.append({"killed": ran.of("begins")[-1], "signal": ran.signal})
        steps = steps[begun:]
    judge = _Judge(store, domain)
    for item in said:
        judge.hear(item)
    away = [domain] if judge.is_named else []
    last = _verdict(forks, store, away)
    judge.wrong += [f"at the end: {text}" for text in last.of("wrong")]
    if last.signal:
        judge.wrong.append(f"the verdict was killed by signal {last.signal}")
    if any("crash" in item for item in last.said):
        judge.wrong.append(f"the verdict: {last.said[-1]['crash']}")
    outcome = "named" if judge.is_named else "harmless"
    if judge.wrong:
        outcome = "missed" if rot and all(text.startswith(UNSEEN) for text in judge.wrong) else "wrong"
    return outcome, judge.wrong, signals


def _verdict(forks: Forks, store: Store, away: list[str]) -> Ran:
    ledger = store.ledger
    known = {
        "acked": ledger.acked,
        "ids": ledger.ids,
        "tried": ledger.tried,
        "final": {lineage: sorted(offsets) for lineage, offsets in ledger.final.items()},
    }
    return forks.run(JUDGED, store.path, ledger=known, away=away)


class _Judge:
    """Compares what was shown with what is known."""

    def __init__(self, store: Store, domain: str) -> None:
        self._store, self._domain = store, domain
        self._ledger = store.ledger
        self._given = set(store.leased)
        self.wrong: list[str] = []
        self.is_named = False

    def hear(self, item: dict[str, Any]) -> None:
        if "killed" in item:
            self.wrong.append(f"killed by signal {item['signal']} in {item['killed']}")
        if "crash" in item:
            self.wrong.append(f"{item.get('step')}: {item['crash']}")
        elif "step" in item:
            getattr(self, f"_{item['step']}")(item, item["shown"])

    def _fails(self, item: dict[str, Any]) -> bool:
        at = item["about"].get("domain")
        is_wrong = item["exit"] not in (REFUSED_THERE if at == self._domain else SERVED)
        if is_wrong:
            self.wrong.append(f"{item['step']} {item['about']}: {item['shown']}")
        return is_wrong or item["exit"] != 0

    def _status(self, item: dict[str, Any], shown: Any) -> None:
        if not self._fails(item) and (shown["trouble"] or shown["resources"] != 1):
            self.wrong.append(f"status: {shown}")
        elif item["exit"] == 0:
            self._name("status", shown)

    def _verify(self, item: dict[str, Any], shown: Any) -> None:
        if not self._fails(item):
            self._name("verify", shown)

    def _name(self, step: str, shown: Any) -> None:
        others = [name for name in shown["named"] if name != self._domain]
        if others:
            self.wrong.append(f"{step} blames {others}: {shown}")
        if step == "verify":
            self.is_named = self._domain in shown["named"]

    def _doctor(self, item: dict[str, Any], shown: Any) -> None:
        self._fails(item)

    def _peek(self, item: dict[str, Any], shown: Any) -> None:
        if self._fails(item):
            return
        there = {offset: (payload, name) for offset, payload, name in shown}
        for offset, payload in self._ledger.acked.items():
            if there.get(offset, ("", ""))[0] != payload:
                self.wrong.append(f"peek {item['about']}: offset {offset} is {there.get(offset)}, not {payload[:40]}")
        if unknown := set(there) - set(self._ledger.acked):
            self.wrong.append(f"peek {item['about']}: {unknown} were never acknowledged")

    def _publish(self, item: dict[str, Any], shown: Any) -> None:
        if self._fails(item):
            return
        offset, payload, name = shown
        try:
            self._ledger.published(offset, payload, name)
        except AssertionError as error:
            self.wrong.append(f"publish: {error}")

    def _work(self, item: dict[str, Any], shown: Any) -> None:
        if self._fails(item):
            return
        records, done = shown
        final = self._ledger.final.get(GROUP, set())
        for offset, payload, _ in records:
            if self._ledger.acked.get(offset) != payload:
                self.wrong.append(f"poll gave {payload[:40]!r} at {offset}")
            if offset in final or offset in self._given:
                self.wrong.append(f"poll gave {offset} again")
        self._ledger.finalised(GROUP, [record[0] for record in records], done)


def trials(first: int, count: int, folder: Path, *, rot: bool = False, way: str | None = None) -> list[Trial]:
    """Runs the trials of `count` seeds."""
    forks = Forks()
    try:
        stores = Stores(folder, settle)
        return [run(seed, stores, forks, rot=rot, way=way) for seed in range(first, first + count)]
    finally:
        forks.close()


def table(done: list[Trial]) -> str:
    """Returns how many trials of each way ended how."""
    counts = Counter((trial.way, trial.outcome) for trial in done)
    lines = [f"{'':20}{'trials':>8}{'named':>8}{'harmless':>10}{'wrong':>8}{'missed':>8}{'killed':>8}"]
    for way in [*sorted({trial.way for trial in done}), "all"]:
        mine = [trial for trial in done if way in (trial.way, "all")]
        cells = [sum(n for (w, o), n in counts.items() if o == out and way in (w, "all")) for out in OUTCOMES]
        killed = sum(1 for trial in mine if trial.signals)
        lines.append(f"{way:20}{len(mine):>8}{cells[0]:>8}{cells[1]:>10}{cells[2]:>8}{cells[3]:>8}{killed:>8}")
    return "\n".join(lines)


OUTCOMES = ("named", "harmless", "wrong", "missed")
