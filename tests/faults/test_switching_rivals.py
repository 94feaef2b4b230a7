"""Two live operators at one switch, or at two of which one may be in flight: SIGKILL of either or both at drawn
points, one stopped meanwhile, consumers that poll and engines that write. Then each command again.

Every order is finished once, one side at most is open at any moment, one switch at most is in flight, and each command
that is typed again comes to its end, or to the refusal that the other one's end asks for.

SWITCH_KILLS=N takes cases of each pair of commands until N operators have died; the normal run, one of some pairs.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import grafctl.client as client
from faults.forks import Forks, heard
from faults.rivals import (
    ATTACH,
    DETACH,
    GROUPS,
    LOCK,
    MORE,
    NEW,
    OLD,
    RIVALS,
    STAGES,
    TARGET,
    Deed,
    Fate,
    World,
    fates,
    write,
    wrong_now,
)
from faults.switches import HOUR_MS, PIECES, wrong_at_once, wrong_in_the_end
from grafctl import clock
from grafctl.errors import Busy, GenerationConflict, NotFound
from grafctl.store.operations.switching.work import all_rows
from grafctl.store.switch_rules import DETACHING, LOCKED, SOAKING, SOURCE, in_flight, is_closing, phase_of

KILLS = int(os.environ.get("SWITCH_KILLS", "0")) or 1
FEW = ("attach and attach", "switch and rollback", "switch and detach", "rollback and switch", "two switches")
PAIRS = FEW if KILLS == 1 else tuple(RIVALS)
OPERATE, CONSUME = "faults.rivals:operate", "faults.rivals:consume"
CARRY = "grafctl.store.operations.switching.turning.CARRY_MS"
SHORT_MS = 150  # a closing that polls give up while its operator is at it
MET = {0, 10, 13, 22}  # what an operator may be told who is not alone
WRITTEN = 16
LOOK_S = 0.01  # between two looks at what nobody may ever see


class Arena:
    """Runs cases; knows which points each command passes when it is alone."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.forks = folder, Forks()
        self._stages: dict[str, World] = {}
        self._hits: dict[tuple[str, Deed], dict[str, int]] = {}
        self._count = 0

    def begin(self, stage: str) -> World:
        os.environ[clock.OFFSET_VARIABLE] = "0"
        if stage not in self._stages:
            self._stages[stage] = STAGES[stage](self.folder / stage)
        self._count += 1
        store = self.folder / f"copy{self._count}"
        shutil.copytree(self.folder / stage, store)
        return replace(deepcopy(self._stages[stage]), store=store)

    def hits(self, stage: str, deed: Deed) -> dict[str, int]:
        deed = deed._replace(domain="a")
        if (stage, deed) not in self._hits:
            world = self.begin(stage)
            self._hits[stage, deed] = self.forks.run(
                OPERATE, world.store, count=True, patch=PIECES, **deed.about()
            ).hits
            shutil.rmtree(world.store)
        return self._hits[stage, deed]

    def run(self, pair: str, chance: random.Random) -> tuple[int, list[str]]:
        """Runs a case of a pair; returns how many operators died in it, and what did not hold."""
        stage, *deeds = RIVALS[pair]
        both = fates(chance, self.hits(stage, deeds[0]), self.hits(stage, deeds[1]))
        world = self.begin(stage)
        patch = {**PIECES, CARRY: chance.choice((30_000, 30_000, SHORT_MS))}
        case = Case(self.forks, world, patch)
        wrong = case.meet(deeds, both)
        wrong += case.settle(chance.sample(deeds, 2), chance)
        shutil.rmtree(world.store)
        return case.died, [
            f"{pair}: {deeds[0]} {both[0]}, {deeds[1]} {both[1]}, {patch[CARRY]} ms: {what}" for what in wrong
        ]


class Case:
    """Two operators in one store."""

    def __init__(self, forks: Forks, world: World, patch: dict[str, int]) -> None:
        self.forks, self.world, self.patch, self.died = forks, world, patch, 0

    def meet(self, deeds: list[Deed], both: tuple[Fate, Fate]) -> list[str]:
        """Lets both operators and the consumers run; returns what did not hold meanwhile."""
        store, wrong = self.world.store, list[str]()
        until, logs = store / "until", [store / f"said{number}" for number in range(4)]
        consumers = [
            self.forks.start(CONSUME, store, log, groups=[*GROUPS.values()], domain=domain, until=str(until))
            for domain, log in zip("ab", logs[2:], strict=True)
        ]
        first = self._operator(deeds[0], both[0], logs[0])
        ended = self.forks.stopped_or_ended(first) if both[0].stop is not None else None
        ends = {} if ended is None else {first: ended}
        is_asleep = both[0].stop is not None and not ends
        time.sleep(both[1].delay_s)
        second = self._operator(deeds[1], both[1], logs[1])
        with client.open(store) as opened:
            numbers = iter(range(WRITTEN, WRITTEN + MORE))
            while len(ends) < 2:  # whoever hangs is ended by its alarm
                wrong += wrong_now(opened)
                if (number := next(numbers, None)) is not None:
                    write(self.world, opened, range(number, number + 1), *((OLD, NEW) if number % 2 else (NEW, OLD)))
                self._look(ends, first, second)
                if is_asleep and second in ends:
                    os.kill(first, signal.SIGCONT)
                    is_asleep = False
                time.sleep(LOOK_S)
            wrong += wrong_now(opened)
        until.touch()
        self.died = sum(found == signal.SIGKILL for found in ends.values())
        lost = [pid for pid in consumers if self.forks.ended(pid, wait=True) != 0]
        hung = sum(found not in (0, signal.SIGKILL) for found in ends.values())
        return wrong + [f"{hung} operators hung"] * (hung > 0) + self._heard(logs, lost)

    def _operator(self, deed: Deed, fate: Fate, log: Path) -> int:
        return self.forks.start(OPERATE, self.world.store, log, patch=self.patch, **fate.plan(), **deed.about())

    def _look(self, ends: dict[int, int], *pids: int) -> None:
        for pid in pids:
            if pid not in ends and (found := self.forks.ended(pid, wait=False)) is not None:
                ends[pid] = found

    def _heard(self, logs: list[Path], lost: list[int]) -> list[str]:
        """Takes in what everybody said; returns what nobody should have said."""
        wrong = [f"{len(lost)} consumers were killed"] * bool(lost)
        for log in logs:
            words = heard(log)
            wrong += [str(word) for word in words if "crash" in word]
            wrong += [str(word) for word in words if "error" in word and word["error"]["exit"] not in MET]
            for word in words:
                if "worked" in word:
                    self.world.orders[word["of"]].done.update(word["worked"])
        return wrong

    # --- afterwards

    def settle(self, deeds: list[Deed], chance: random.Random) -> list[str]:
        """Lets both commands be typed again, and brings the consumers to the end; returns what does not hold."""
        store, wrong = self.world.store, list[str]()
        with client.open(store) as opened:
            wrong += wrong_at_once(opened)
            for orders in self.world.orders.values():
                if orders.held is not None and chance.random() < 0.5:
                    orders.ack_held(opened)
            write(self.world, opened, range(WRITTEN + MORE), OLD)
            write(self.world, opened, range(WRITTEN + MORE), NEW)
        for deed in deeds:
            before = self._rows()
            ran = self.forks.run(OPERATE, store, patch=PIECES, later_ms=chance.choice((0, HOUR_MS)), **deed.about())
            owed = ran.error is not None and "owed" in ran.error and deed.verb == DETACH
            if not owed and ran.exit not in expected(deed, before):
                wrong.append(f"{deed} again, of {_states(before)}: {ran}")
        os.environ[clock.OFFSET_VARIABLE] = str(HOUR_MS)
        with client.open(store) as opened:
            rows = all_rows(opened.session)
            wrong += [f"{name} is {phase_of(row)} still" for name, row in rows.items() if row["phase"] is not None]
            for orders in self.world.orders.values():
                empty = 0
                while empty < 3:
                    empty = 0 if orders.take(opened) else empty + 1
                wrong += wrong_in_the_end(opened, orders, is_tied=orders.name in rows)
            wrong += wrong_now(opened)
        for deed in deeds:  # now that nothing is owed
            if deed.verb == DETACH and deed.name in rows and not in_flight(rows[deed.name]):
                ran = self.forks.run(OPERATE, store, patch=PIECES, later_ms=HOUR_MS, **deed.about())
                wrong += [f"{deed} in the end: {ran}"] * (ran.exit != 0)
        return wrong

    def _rows(self) -> dict[str, dict[str, Any]]:
        with client.open(self.world.store) as opened:
            opened.session.control.settle()  # as whoever types a command finds them
            return all_rows(opened.session)


def expected(deed: Deed, rows: dict[str, dict[str, Any]]) -> set[int]:
    """Returns how a command that is typed again may end: done, but for what the other operator made of the switch."""
    row = rows.get(deed.name)
    if row is None:
        return {0 if deed.verb == ATTACH else NotFound.exit_code}
    if deed.verb == ATTACH:
        return {0}
    if deed.verb == DETACH:
        return {GenerationConflict.exit_code} if in_flight(row) else {0}
    if phase_of(row) == DETACHING:
        return {Busy.exit_code, GenerationConflict.exit_code}
    if deed.verb == LOCK:
        return {0} if row["state"] in (SOAKING, LOCKED) and row["phase"] is None else {Busy.exit_code, 13}
    if row["state"] == LOCKED:
        return {GenerationConflict.exit_code}
    others = [name for name, other in rows.items() if name != deed.name and in_flight(other)]
    return {Busy.exit_code} if deed.verb == TARGET and (others or is_closing(row, SOURCE)) else {0}


def _states(rows: dict[str, dict[str, Any]]) -> str:
    return ", ".join(f"{name} {row['state']} {phase_of(row)}" for name, row in rows.items()) or "none"


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory, own_time: None) -> Iterator[Arena]:
    arena = Arena(tmp_path_factory.mktemp("rivals"))
    yield arena
    arena.forks.close()


@pytest.mark.parametrize("pair", PAIRS)
def test_two_operators_who_die_leave_every_order_finished_once(arena: Arena, seed: int, pair: str) -> None:
    chance, wrong = random.Random(f"{seed} {pair}"), list[str]()
    died = cases = 0
    while died < KILLS and cases < 4 * KILLS + 4:
        cases += 1
        more, found = arena.run(pair, chance)
        died, wrong = died + more, wrong + found
    print(f"{pair}: {died} operators killed in {cases} cases, {len(wrong)} wrong")
    assert not wrong, "\n".join(["", f"{len(wrong)} in {cases} cases:", *wrong[:5]])
    assert died >= KILLS
