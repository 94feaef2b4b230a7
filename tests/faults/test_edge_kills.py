"""SIGKILL at random moments of each step of a lease, of an edge and of both its ends: at the points of the product, and
right before, right after or in the middle of any system call on the store's files. Then the same step again.

What was acknowledged is in the edge, in its order, or is told as lost, and then the producer's replay refills it; what
was finished comes no more; the generation never goes back, and a reader that was open all the time follows newer ones.

EDGE_KILLS=N takes cases of each step until it was killed N times.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import grafctl.client as client
from faults.edges import AT, LEASE, NAME, SLOTS, STAGES, STEPS, Flow, at_ms, files
from faults.forks import Forks, Ran, Trace, points
from faults.rivals import every
from faults.tracing import AFTER, BEFORE, TORN, Fault
from grafctl.errors import Fenced, GenerationConflict, GrafctlError, NotFound
from grafctl.nouns.edge_handles import EdgeReader
from grafctl.store.segment_rules import REVOKED, REVOKING

IS_LONG = "EDGE_KILLS" in os.environ
KILLS = int(os.environ.get("EDGE_KILLS", "1"))
FIRST_CALLS = {"open": 8, "write": 8, "flush": 2, "create": 1}  # without it: from these, which most steps make
DO = "faults.edges:do"
READ_MAX = 100


class Moment(NamedTuple):
    """When a step is killed: at a point of the product, or at a system call."""

    point: tuple[str, int] | None = None
    fault: Fault | None = None

    @property
    def is_torn(self) -> bool:
        return self.fault is not None and self.fault.how == TORN

    def __str__(self) -> str:
        return f"{self.point[0]}:{self.point[1]}" if self.point else str(self.fault)


class Sweep:
    """Runs cases; knows which points and system calls each step passes, because it has counted them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.forks = folder, Forks()
        self._stages: dict[str, Flow] = {}
        self._points: dict[str, list[tuple[str, int]]] = {}
        self._calls: dict[str, dict[str, int]] = {}
        self._count = 0
        self.told = Counter[str]()  # step -> how often an edge was told as lost that it had not ended

    def begin(self, step: str) -> Flow:
        at_ms(0)
        stage = STEPS[step].stage
        if stage not in self._stages:
            self._stages[stage] = STAGES[stage](self.folder / stage)
        self._count += 1
        store = self.folder / f"copy{self._count}"
        shutil.copytree(self.folder / stage, store)
        return replace(deepcopy(self._stages[stage]), store=store)

    def points(self, step: str) -> list[tuple[str, int]]:
        if step not in self._points:
            ran = self._alone(step, count=True)
            self._points[step] = every(ran.hits)
        return self._points[step]

    def calls(self, step: str) -> dict[str, int]:
        if step not in self._calls:
            flow = self.begin(step)
            ran = self.run(step, flow, Moment(fault=Fault("none", 0, AFTER)))
            assert ran.exit == 0, f"{step}: {ran}"
            self._calls[step] = ran.reached
            shutil.rmtree(flow.store)
        return self._calls[step]

    def _alone(self, step: str, *, count: bool) -> Ran:
        flow = self.begin(step)
        ran = self.forks.run(DO, flow.store, count=count, step=step, later_ms=STEPS[step].later_ms)
        assert ran.exit == 0, f"{step}: {ran}"
        shutil.rmtree(flow.store)
        return ran

    def moment(self, step: str, chance: random.Random) -> Moment:
        if chance.random() < 0.5:
            return Moment(point=chance.choice(self.points(step)))
        kind, n = chance.choice(every(self.calls(step) if IS_LONG else FIRST_CALLS))
        return Moment(fault=Fault(kind, n, chance.choice((BEFORE, AFTER, *([TORN] * 2 if kind == "write" else [])))))

    def run(self, step: str, flow: Flow, moment: Moment) -> Ran:
        kill = dict([moment.point]) if moment.point else None
        trace = Trace(str(flow.store), moment.fault) if moment.fault else None
        return self.forks.run(DO, flow.store, kill=kill, trace=trace, step=step, later_ms=STEPS[step].later_ms)

    def case(self, step: str, moment: Moment) -> tuple[bool, list[str]]:
        """Runs a case; returns whether the step was killed in it, and what did not hold."""
        flow = self.begin(step)
        at_ms(STEPS[step].later_ms)
        with client.open(flow.store) as opened:
            case = Case(self, step, flow, opened)
            ran = self.run(step, flow, moment)
            wrong = case.heard(ran) + case.look(is_torn=moment.is_torn)
            wrong += case.again(is_torn=moment.is_torn) + case.end()
        shutil.rmtree(flow.store)
        return ran.killed, wrong


class Case:
    """A step that was killed, and what is looked at and done after that; a reader of before is open all the time."""

    def __init__(self, sweep: Sweep, step: str, flow: Flow, opened: client.Store) -> None:
        self.sweep, self.name, self.step, self.flow, self.opened = sweep, step, STEPS[step], flow, opened
        self.before = self.lease()
        has_edge = bool(opened.edges.status().items)
        self.reader: EdgeReader | None = opened.edges.reader(NAME, domain=AT) if has_edge else None

    def lease(self) -> dict[str, Any] | None:
        return next(iter(self.opened.leases.list().items), None)

    def heard(self, ran: Ran) -> list[str]:
        return [*self.flow.heard(ran.said), *(str(word) for word in ran.said if "crash" in word)]

    def went_back(self) -> list[str]:
        """Returns what went back of the lease since the last look."""
        before, now = self.before, self.lease()
        self.before = now
        if before is None or now is None:
            return []
        is_nearer = now["token"] == before["token"] and now["until_ms"] < before["until_ms"]
        is_older = (now["generation"], now["token"]) < (before["generation"], before["token"])
        return [f"{now} after {before}"] * (is_nearer or is_older)

    def look(self, *, is_torn: bool) -> list[str]:
        """Looks into the edge; what cannot be read has to be told as lost, and must have been."""
        return self.went_back() + self.inside(is_torn=is_torn)

    def inside(self, *, is_torn: bool) -> list[str]:
        try:
            body = self.opened.edges.take(NAME, domain=AT, max=READ_MAX).body
        except NotFound:
            return [] if self.flow.generation == 0 or self.step.again != {0} else ["there is no edge"]
        except (GenerationConflict, Fenced) as error:
            self.sweep.told[self.name] += self.step.keeps
            return [f"{error}"] if self.step.keeps and not is_torn else []
        wrong = list(self.flow.at(body["generation"]))
        return wrong + list(self.flow.found([record.payload.decode() for record in body["records"]]))

    def again(self, *, is_torn: bool) -> list[str]:
        """Does the step again, and once more where that must change nothing."""
        wrong = list[str]()
        for is_more in (False, True) if self.step.told is not None else (False,):
            ran = self.sweep.forks.run(DO, self.flow.store, step=self.name, later_ms=self.step.later_ms)
            wrong += self.heard(ran)
            is_told = is_torn and ran.error is not None and ran.error.get("recoverable")
            if ran.exit not in self.step.again and not is_told:
                wrong.append(f"again: {ran}")
            if is_more and ran.of("changed") != [self.step.told]:
                wrong.append(f"once more: {ran}")
        return wrong + self.look(is_torn=is_torn)

    def end(self) -> list[str]:
        """Brings the edge to its end: the producer replays what is lost, and the reader takes everything."""
        lease = self.lease()
        if lease is not None and lease["state"] in (REVOKING, REVOKED):
            return self.revoked()
        if lease is None:
            self.flow.forgotten()
        wrong = self.refilled(lease)
        wrong += [f"{file.name} is left" for file in files(self.opened)[1:]]
        return wrong + [f"verify: {finding.where}: {finding.problem}" for finding in self.opened.verify()]

    def revoked(self) -> list[str]:
        """The name is given no more, to nobody."""
        at_ms(LEASE["term_ms"] * 2)
        wrong = []
        for act in (
            lambda: self.opened.leases.acquire(NAME, **LEASE),
            lambda: self.opened.edges.take(NAME, domain=AT),
            lambda: self.opened.edges.writer(NAME, domain=AT),
        ):
            try:
                act()
            except Fenced:
                continue
            wrong.append("a lease that was revoked is used")
        return wrong

    def refilled(self, lease: dict[str, Any] | None) -> list[str]:
        flow, opened = self.flow, self.opened
        if lease is None or lease["state"] in ("released", "expired"):
            lease = opened.leases.acquire(NAME, **LEASE).after
        assert lease is not None
        if not any(edge["edge"] == NAME for edge in opened.edges.status().items):
            opened.edges.create(NAME, token=lease["token"], slots=SLOTS, domain=AT)
            self.reader = None  # a name that began anew is not followed
        with opened.edges.writer(NAME, domain=AT) as writer:
            wrong = list(flow.at(writer.generation))
            writer.push_batch([*flow.lost, *flow.pushing, "last"])
            got = self.read()
            wrong += flow.at(writer.generation)
        must = {*flow.left, *flow.lost, "last"}
        wrong += [f"{name} is lost" for name in sorted(must - got.keys())]
        wrong += [f"{name} came after it was finished" for name in sorted(flow.finished & got.keys())]
        wrong += [f"{name} came {n} times" for name, n in got.items() if n > 1 + (name in flow.doubtful)]
        return wrong

    def read(self) -> Counter[str]:
        """Takes everything by the reader that was open all the time; where the edge was lost, it is told so first."""
        reader = self.reader or self.opened.edges.reader(NAME, domain=AT)
        got, known, refused = Counter[str](), reader.generation, 0
        while True:
            try:
                taken = reader.pop(READ_MAX)
            except GenerationConflict as error:
                refused += 1
                assert error.fields["recoverable"] and refused < 3, error
                continue
            assert taken.generation >= known, f"generation {taken.generation} after {known}"
            known = taken.generation
            got.update(record.payload.decode() for record in taken.records)
            if not taken.records:
                assert known == self.flow.generation, f"read at generation {known}, and it is {self.flow.generation}"
                return got


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, own_time: None) -> Iterator[Sweep]:
    sweep = Sweep(tmp_path_factory.mktemp("edges"))
    yield sweep
    sweep.forks.close()


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_moment_nothing_is_lost_that_is_not_told_as_lost(sweep: Sweep, seed: int, step: str) -> None:
    chance, wrong = random.Random(f"{seed} {step}"), list[str]()
    died = cases = 0
    while died < KILLS and cases < 2 * KILLS + 10:
        moment = sweep.moment(step, chance)
        try:
            killed, found = sweep.case(step, moment)
        except (AssertionError, GrafctlError) as error:
            killed, found = True, [f"{type(error).__name__}: {error}"]
        died, cases, wrong = died + killed, cases + 1, wrong + [f"killed at {moment}: {what}" for what in found]
    print(f"{step}: {died} kills in {cases} cases, {sweep.told[step]} times torn and told as lost, {len(wrong)} wrong")
    assert not wrong, "\n".join(["", f"{step}: {len(wrong)} in {cases} cases:", *wrong[:5]])
    assert died >= KILLS


def test_every_point_of_an_edge_is_killed_at(sweep: Sweep) -> None:
    own = {point for point in points() if point.startswith(("edge.", "segment."))}
    passed = {point for step in ("lease acquire", "writer", "reader") for point, _ in sweep.points(step)}
    assert own and own <= passed, f"no step passes {own - passed}"
