"""Storms over a keyed table: four writers and two readers in processes of their own, and what happens to the table
meanwhile. Every key's history must have an order, whatever happened, and nobody may see an error of a migration.

`STORMS=20` has each storm that many times, each with a seed of its own (`make storms`).
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from faults.forks import Forks, Ran, heard, points
from faults.vshard_operators import BUDGET_US
from faults.vshard_storm import AWAY, DOMAINS, HOME, MOVED, VshardStorm

import grafctl.client as client

STORMS = int(os.environ.get("STORMS", "1"))
ROUNDS = 20  # there and back
OPERATORS, OPERATORS_MAX = 20, 100
(VSHARD,) = MOVED
STEPS = ("migrated", "reversed", "resumed", "cancelled", "retired")
POINTS = tuple(point for point in points() if point.startswith("moving."))
SMALL_STEPS = {"grafctl.store.operations.moving.copying.CHUNK_ROWS": 3} | {
    "grafctl.store.operations.moving.ending.DROP_ROWS": 3
}
ABOUT: dict[str, Any] = {"vshard": VSHARD, "sets": [list(HOME), list(AWAY)], "domain": "e"}


@pytest.fixture(autouse=True, params=range(STORMS))
def go(request: pytest.FixtureRequest) -> int:
    """Which time this is; a test that fails names it."""
    number: int = request.param
    return number


@pytest.fixture
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture
def storm(tmp_path: Path, forks: Forks, seed: int) -> Iterator[VshardStorm]:
    """A storm that has begun; its crew knows no error."""
    storm = VshardStorm(tmp_path / "storm", forks, seed)
    storm.launch()
    storm.begin()
    yield storm
    storm.calm.touch()  # where the test failed, so that its crew is no burden to the next one


@pytest.fixture
def quiet(tmp_path: Path, forks: Forks, seed: int) -> VshardStorm:
    """A storm without a crew: nobody writes but the test itself."""
    storm = VshardStorm(tmp_path / "storm", forks, seed)
    storm.launch()
    return storm


def step(storm: VshardStorm, forks: Forks, name: str, log: Path) -> int:
    """Lets an operator take one step; returns the exit code that it would have had as a command."""
    pid = forks.start("faults.vshard_operators:one_step", storm.store, log, step=name, **ABOUT)
    assert forks.ended(pid, wait=True) == 0
    return int(ran(log).of("ended")[-1])


def stopped_at(storm: VshardStorm, forks: Forks, moment: str, log: Path) -> int:
    """Starts a migration that stops there; returns the process of its operator."""
    pid = forks.start("faults.vshard_operators:one_step", storm.store, log, step="migrate", stop={moment: 1}, **ABOUT)
    forks.stopped(pid)
    return pid


def woken(forks: Forks, pid: int, log: Path) -> int:
    """Lets a stopped operator go on; returns the exit code that it would have had as a command."""
    os.kill(pid, signal.SIGCONT)
    assert forks.ended(pid, wait=True) == 0
    return int(ran(log).of("ended")[-1])


def ran(log: Path) -> Ran:
    """Returns what an operator said who ended by himself, without a crash."""
    said = heard(log)
    ended = Ran(0, said)
    assert said[-1:] == [{"done": True}], said[-1:]
    assert ended.error is None, ended.error["message"]
    return ended


def shown(storm: VshardStorm) -> tuple[str, list[str]]:
    """Returns the state and the owner of the vshard that is moved."""
    with client.open(storm.store) as opened:
        body = opened.vshards.show("accounts", VSHARD).body
    return body["state"], body["owner"]


def test_a_vshard_goes_back_and_forth_while_it_is_written(storm: VshardStorm, forks: Forks, tmp_path: Path) -> None:
    log = tmp_path / "operator"
    pid = forks.start("faults.vshard_operators:there_and_back", storm.store, log, rounds=ROUNDS, **ABOUT)
    assert forks.ended(pid, wait=True) == 0
    storm.end()
    said = ran(log)
    assert len(said.of("retired")) == ROUNDS and shown(storm) == ("idle", list(HOME))
    storm.judge()
    assert not storm.counts["refused"] and not storm.counts["calls without an answer"]


def test_somebody_else_takes_over_from_an_operator_who_was_killed(
    storm: VshardStorm, forks: Forks, tmp_path: Path
) -> None:
    """Each is killed at a point by name, or after some time, and the next one resumes or cancels what he finds."""
    killed: Counter[str] = Counter()
    for number in range(OPERATORS_MAX):
        if number >= OPERATORS and len(killed) > 3 and any(storm.counts[word] for word in STEPS):
            break  # on a slow machine most of them die of their time, so there it takes more of them
        log, point = tmp_path / f"operator{number}", storm.chance.choice(POINTS)
        about = {"seed": storm.chance.getrandbits(32), "calm": str(storm.calm), "patch": SMALL_STEPS, **ABOUT}
        plan = {point: storm.chance.choice((1, 1, 2))} if number % 2 else None
        pid = forks.start("faults.vshard_operators:wandering", storm.store, log, kill=plan, **about)
        until = time.monotonic() + (2.0 if plan else storm.chance.uniform(0.05, 1.0))
        while forks.ended(pid, wait=False) is None:
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
                assert forks.ended(pid, wait=True) == signal.SIGKILL
                point = "some time"
                break
            time.sleep(0.005)
        killed[point] += 1
        said = Ran(0, heard(log))
        assert not said.of("crash") and not said.of("done"), said.said[-3:]
        storm.counts.update(word for word in STEPS for _ in said.of(word))
    storm.end()
    storm.judge()
    assert len(killed) > 3 and any(storm.counts[word] for word in STEPS), (killed, storm.counts)
    assert not storm.counts["refused"]


def test_two_operators_at_once_do_the_table_no_harm(storm: VshardStorm, forks: Forks, tmp_path: Path) -> None:
    logs = [tmp_path / "one", tmp_path / "other"]
    until = tmp_path / "enough"
    pids = [
        forks.start("faults.vshard_operators:wandering", storm.store, log, seed=number, calm=str(until), **ABOUT)
        for number, log in enumerate(logs)
    ]
    time.sleep(4)
    until.touch()
    assert [forks.ended(pid, wait=True) for pid in pids] == [0, 0]
    storm.end()
    storm.judge()
    for log in logs:
        storm.counts.update(word for word in STEPS for _ in ran(log).of(word))
    assert any(storm.counts[word] for word in STEPS) and not storm.counts["refused"]


@pytest.mark.parametrize("moment", ["moving.sealed", "moving.drained"])
def test_an_operator_who_sleeps_through_the_pause_flips_nothing(
    storm: VshardStorm, forks: Forks, tmp_path: Path, moment: str
) -> None:
    log = tmp_path / "operator"
    pid = stopped_at(storm, forks, moment, log)
    time.sleep(BUDGET_US / 1e6)
    with storm.hand() as hand:  # writers go on at the source, and each of them may be the first
        assert hand.put(storm.keys[str(VSHARD)][-1], "while the operator sleeps")
    assert woken(forks, pid, log) == 20 and shown(storm) == ("wal_catchup", list(HOME))
    assert step(storm, forks, "resume", log) == 0 and shown(storm) == ("completed", list(AWAY))
    storm.end()
    storm.judge()
    assert not storm.counts["refused"]


@pytest.mark.parametrize("moment", ["moving.sealed", "moving.drained"])
def test_a_pause_that_was_slept_through_is_over_though_nobody_wrote(
    quiet: VshardStorm, forks: Forks, tmp_path: Path, moment: str
) -> None:
    log = tmp_path / "operator"
    pid = stopped_at(quiet, forks, moment, log)
    time.sleep(BUDGET_US / 1e6)
    assert woken(forks, pid, log) == 20 and shown(quiet) == ("wal_catchup", list(HOME))
    quiet.judge()


def test_who_knows_the_target_from_long_ago_waits_as_everybody_does(
    quiet: VshardStorm, forks: Forks, tmp_path: Path
) -> None:
    """A client that last wrote when the vshard was there goes there first, and finds a copy that is ready to open."""
    log, key = tmp_path / "operator", quiet.keys[str(VSHARD)][-1]
    assert step(quiet, forks, "migrate", log) == 0
    with quiet.hand() as hand, quiet.hand() as reader:
        assert hand.put(key, "there") and reader.get(key)
        assert step(quiet, forks, "reverse", log) == 0
        with quiet.hand() as other:
            assert other.put(key, "back again")
        assert step(quiet, forks, "retire", log) == 0
        pid = stopped_at(quiet, forks, "moving.drained", log)
        assert (reader.get(key) or {})["value"] == "back again"
        assert hand.put(key, "when the pause was over") and shown(quiet)[1] == list(HOME)
        assert woken(forks, pid, log) == 20
    quiet.judge()


BEFORE_FLIP = ("moving.copied", "moving.replayed", "moving.sealed", "moving.drained")
FAILURES = [(moment, gone) for moment in (*BEFORE_FLIP, "moving.flipped") for gone in ("de", "d", "c", "a")]
FAILURES.remove(("moving.flipped", "de"))  # it takes the quorum of the new owner, and no migration helps with that


@pytest.mark.parametrize(("moment", "gone"), FAILURES)
def test_domains_that_fail_during_a_migration_cost_the_writers_nothing(
    storm: VshardStorm, forks: Forks, tmp_path: Path, moment: str, gone: str
) -> None:
    log = tmp_path / "operator"
    pid = stopped_at(storm, forks, moment, log)
    with out(storm, gone):
        ended = woken(forks, pid, log)
        with storm.hand() as hand:
            assert hand.put(storm.keys[str(VSHARD)][-1], "while domains are away")
        if gone == "de":  # no quorum of the target is left, so it cannot own anything
            assert ended in (20, 21) and shown(storm)[1] == list(HOME)
        else:
            assert ended in (0, 20)
    pid = forks.start("faults.vshard_operators:to_the_end", storm.store, log, **ABOUT)
    assert forks.ended(pid, wait=True) == 0
    assert ran(log) and shown(storm) == ("completed", list(AWAY))
    storm.end()
    storm.judge()
    assert not storm.counts["refused"]


def test_nothing_is_given_to_a_target_that_lost_its_quorum_after_the_last_entry(
    quiet: VshardStorm, forks: Forks, tmp_path: Path
) -> None:
    log = tmp_path / "operator"
    pid = stopped_at(quiet, forks, "moving.drained", log)
    with out(quiet, "de"):
        assert woken(forks, pid, log) in (20, 21) and shown(quiet)[1] == list(HOME)
    quiet.judge()


@contextmanager
def out(storm: VshardStorm, domains: Iterable[str]) -> Iterator[None]:
    """Takes domains out for a drill."""
    with client.open(storm.store) as opened:
        for domain in domains:
            opened.domains.fail(domain)
        yield
        for domain in domains:
            opened.domains.restore(domain)


def test_a_table_keeps_its_order_while_domains_go_away_and_writers_are_killed(
    tmp_path: Path, forks: Forks, seed: int
) -> None:
    storm = VshardStorm(tmp_path / "storm", forks, seed, weather=True)
    storm.launch()
    storm.begin()
    for number in range(8):
        # Now and then two of three, so that what was asked for then has no answer.
        gone = storm.chance.sample(HOME, 2) if number % 4 == 3 else [storm.chance.choice(DOMAINS)]
        with out(storm, gone):
            time.sleep(storm.chance.uniform(0.05, 0.4))
        storm.kill_a_writer()
        time.sleep(storm.chance.uniform(0.0, 0.2))
    storm.end()
    storm.judge()
    assert storm.counts["calls without an answer"] and storm.counts["killed"] == 8
