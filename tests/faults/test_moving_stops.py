"""Operators and writers that stop in the middle of a migration and wake up later, and what others do meanwhile.

Every process here is a real one; a step begins when the one before has been seen to end, and no time is asserted.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import grafctl.client as client
from faults import moves
from faults.forks import Forks, Ran, heard
from faults.moves import KEYS, MOVED, TABLE
from faults.stores import Templates, note
from faults.verdict import Ledger, verdict
from grafctl.errors import Busy, DomainUnavailable, NoQuorum, PauseBudgetExceeded
from grafctl.store.operations.moving.situation import situation_of

OWN = ("received", "copied", "replayed", "sealed", "drained", "flipped", "opened", "routed")
PAUSED = ("sealed", "drained", "flipped")  # points between which the vshard takes no writes where it was
SHORT_US = 300_000
STOPS = int(os.environ.get("STOPS", "4"))  # of an operator, each at another point
LOCKED = (21, 24)  # what others are told while a stopped process holds the locks of a quorum
IMPATIENT = {**moves.CHUNKS, "grafctl.store.cluster.LOCK_WAIT_S": 0.2}  # where a stopped process holds a lock


def begin(forks: Forks, store: Path, log: Path, deed: str, point: str, hit: int = 1, **about: Any) -> int:
    """Starts a deed and returns its process once it has stopped at a point."""
    pid = forks.start(deed, store, log, stop={point: hit}, patch=moves.CHUNKS, **about)
    forks.stopped(pid)
    return pid


def wake(forks: Forks, pid: int, log: Path, ledger: Ledger) -> Ran:
    """Lets a stopped child go on to its end, and notes what it wrote since."""
    before = len(heard(log))
    os.kill(pid, signal.SIGCONT)
    ended = forks.ended(pid, wait=True)
    ran = Ran(ended or 0, heard(log)[before:])
    note(ledger, ran)
    return ran


def done(forks: Forks, store: Path, ledger: Ledger, deed: str, **about: Any) -> Ran:
    ran = forks.run(deed, store, **{"patch": moves.CHUNKS, **about})
    note(ledger, ran)
    assert ran.exit == 0, f"{deed}: {ran}"
    return ran


def require(store: Path, ledger: Ledger, how: str, *, kept: bool = True) -> None:
    with client.open(store) as opened:
        wrong = list(moves.ended(opened, how, kept=kept))
    assert not wrong, "\n".join(wrong)
    verdict(store, ledger)


# --- two operators


@pytest.mark.parametrize("second", ["vshard_migrate", "vshard_cancel"])
@pytest.mark.parametrize("point", OWN)
def test_an_operator_who_wakes_up_after_another_has_ended_it_does_no_harm(
    templates: Templates, forks: Forks, tmp_path: Path, point: str, second: str
) -> None:
    store, ledger = templates.copy("three", "table")
    log = tmp_path / "log"
    pid = begin(forks, store, log, "vshard_migrate", f"moving.{point}")
    note(ledger, Ran(0, heard(log)))
    done(forks, store, ledger, "table_put")
    other = forks.run(second, store, patch=moves.CHUNKS)
    note(ledger, other)
    is_cancelled = second == "vshard_cancel" and other.exit == 0
    assert other.exit == 0 or (second == "vshard_cancel" and point in ("flipped", "opened", "routed")), other
    late = wake(forks, pid, log, ledger)
    assert late.exit in (0, 13, 20, 22), late
    assert late.exit != 0 or not is_cancelled, f"it was cancelled, and then completed: {late}"
    done(forks, store, ledger, "table_put")
    require(store, ledger, "here" if is_cancelled else "there", kept=not is_cancelled)
    templates.discard(store)


def test_two_operators_at_once_wherever_the_first_one_stopped(
    templates: Templates, forks: Forks, tmp_path: Path, seed: int
) -> None:
    """Also where it holds locks: in one domain, so that the second one may be told that the source is busy, or in the
    two that it copies to at the same time, so that nobody has a quorum until it goes on or dies."""
    store, _ = templates.copy("three", "held")
    hits = forks.run("vshard_resume", store, patch=moves.CHUNKS, count=True).hits
    every = [(name, n) for name, count in sorted(hits.items()) for n in range(1, count + 1)]
    for number, (point, hit) in enumerate(random.Random(seed).sample(every, STOPS)):
        store, ledger = templates.copy("three", "held")
        log = tmp_path / f"log{number}"
        pid = begin(forks, store, log, "vshard_resume", point, hit)
        note(ledger, Ran(0, heard(log)))
        put = forks.run("table_put", store, patch=IMPATIENT)
        note(ledger, put)
        assert put.exit in (0, *LOCKED), f"{point}:{hit}: {put}"
        other = forks.run("vshard_resume", store, patch=IMPATIENT)
        note(ledger, other)
        assert other.exit in (0, 20, 22, *LOCKED), f"{point}:{hit}: {other}"
        late = wake(forks, pid, log, ledger)
        assert late.exit in (0, 13, 20, 22, 24), f"{point}:{hit}: {late}"  # 24: its time was over when it woke up
        done(forks, store, ledger, "vshard_resume")
        require(store, ledger, "there")
        templates.discard(store)


@pytest.mark.parametrize("second", ["vshard_resume", "vshard_cancel"])
def test_an_operator_who_has_changed_the_limits_finds_that_another_has_ended_it(
    templates: Templates, forks: Forks, tmp_path: Path, second: str
) -> None:
    store, ledger = templates.copy("three", "held")
    log = tmp_path / "log"
    pid = begin(forks, store, log, "vshard_resume", "append.committed")
    done(forks, store, ledger, second)
    assert wake(forks, pid, log, ledger).exit == 0
    require(store, ledger, "there" if second == "vshard_resume" else "here", kept=second == "vshard_resume")


@pytest.mark.parametrize("point", PAUSED[:2])
def test_a_writer_waits_for_no_longer_than_the_budget_and_the_sleeper_flips_nothing(
    templates: Templates, forks: Forks, tmp_path: Path, point: str
) -> None:
    store, ledger = templates.copy("three", "held")
    log = tmp_path / "log"
    pid = begin(forks, store, log, "vshard_resume", f"moving.{point}", budget_us=SHORT_US)
    note(ledger, Ran(0, heard(log)))
    with client.open(store) as opened:  # by this clock no hour has passed: the writer itself waits, and lifts the seal
        assert situation_of(opened.session, TABLE, MOVED).state == "cutover"
        ledger.accounts.put(KEYS[MOVED][-1], "x", opened.tables.put(TABLE, KEYS[MOVED][-1], "x", domain="b").version)
        assert situation_of(opened.session, TABLE, MOVED).state == "wal_catchup"
    late = wake(forks, pid, log, ledger)
    assert late.exit == PauseBudgetExceeded.exit_code == 20, late
    verdict(store, ledger)
    done(forks, store, ledger, "vshard_resume")
    require(store, ledger, "there")
    templates.discard(store)


# --- locks: waiting for one and the pause are two limits


def ready(act: Callable[[], None], when: str) -> Callable[[dict[str, Any]], None]:
    """Returns a watch that acts once: when the cut-over may begin, or when the vshard is sealed."""
    acts = [act]

    def watch(event: dict[str, Any]) -> None:
        is_ready = "estimate_us" in event and "waits_for" not in event
        is_sealed = event["event"] == "state" and event["state"] == "cutover"
        if acts and ((when == "ready" and is_ready) or (when == "sealed" and is_sealed)):
            acts.pop()()

    return watch


def test_a_writer_that_stopped_with_the_lock_of_the_source_makes_it_busy_and_pauses_nobody(
    templates: Templates, forks: Forks, tmp_path: Path
) -> None:
    store, ledger = templates.copy("three", "held")
    log, pids = tmp_path / "log", []

    def hold() -> None:
        pids.append(begin(forks, store, log, "table_put", "append.before"))

    with client.open(store) as opened:
        with pytest.raises(Busy) as busy:
            opened.vshards.resume(TABLE, [MOVED], domain="b", budget_us=60_000_000, watch=ready(hold, "ready"))
        assert busy.value.exit_code == 22 and not isinstance(busy.value, PauseBudgetExceeded)
        found = situation_of(opened.session, TABLE, MOVED)
        assert (found.state, (found.owner.row or {})["state"]) == ("wal_catchup", "open")
    note(ledger, Ran(0, heard(log)))
    assert wake(forks, pids[0], log, ledger).exit == 0
    done(forks, store, ledger, "vshard_resume")
    require(store, ledger, "there")


def test_a_lock_at_the_target_ends_the_pause_and_writers_go_on(
    templates: Templates, forks: Forks, tmp_path: Path
) -> None:
    store, ledger = templates.copy("three", "table")
    pids = []

    def hold() -> None:
        pid = forks.start("hold_lock", store, tmp_path / "log", domain="d")
        forks.stopped(pid)
        pids.append(pid)

    with client.open(store) as opened:
        opened.session.cluster.lock_wait_s = SHORT_US / 1e6
        with pytest.raises((PauseBudgetExceeded, NoQuorum)):  # a log whose only voter is locked has no quorum
            opened.vshards.migrate(
                TABLE, [MOVED], to=["d"], domain="a", budget_us=2_000_000, watch=ready(hold, "sealed")
            )
        assert (situation_of(opened.session, TABLE, MOVED).owner.row or {})["state"] == "open"
        with client.open(store) as writer:
            version = writer.tables.put(TABLE, KEYS[MOVED][-1], "x", domain="b").version
        ledger.accounts.put(KEYS[MOVED][-1], "x", version)
    os.kill(pids[0], signal.SIGKILL)
    forks.ended(pids[0], wait=True)
    done(forks, store, ledger, "vshard_resume")
    require(store, ledger, "there")


# --- writers that die


@pytest.mark.parametrize("point", PAUSED)
def test_a_writer_that_dies_beside_a_paused_vshard_leaves_nothing_behind(
    templates: Templates, forks: Forks, tmp_path: Path, seed: int, point: str
) -> None:
    """It lifts the seal, opens the target, or is sent on, and dies at any point of that."""
    store, _ = templates.copy("three", "held")
    pid = begin(forks, store, tmp_path / "count", "vshard_resume", f"moving.{point}")
    hits = forks.run("table_put", store, count=True).hits
    os.kill(pid, signal.SIGKILL)
    forks.ended(pid, wait=True)
    every = [(name, n) for name, count in sorted(hits.items()) for n in range(1, count + 1)]
    for number, kill in enumerate(random.Random(f"{seed} {point}").sample(every, 5)):
        store, ledger = templates.copy("three", "held")
        log = tmp_path / f"log{number}"
        pid = begin(forks, store, log, "vshard_resume", f"moving.{point}")
        note(ledger, Ran(0, heard(log)))
        died = forks.run("table_put", store, kill=dict([kill]))
        note(ledger, died)
        assert died.killed, f"{kill}: {died}"
        late = wake(forks, pid, log, ledger)
        assert late.exit in (0, 20), f"writer killed at {kill}: {late}"
        done(forks, store, ledger, "table_put")
        done(forks, store, ledger, "vshard_resume")
        require(store, ledger, "there")
        templates.discard(store)


# --- what is not there


def test_a_target_whose_directory_is_gone_is_refused_and_nothing_is_begun(templates: Templates) -> None:
    store, ledger = templates.copy("three", "table")
    shutil.move(store / "domains" / "d", store / "d.away")
    with client.open(store) as opened:
        with pytest.raises((DomainUnavailable, NoQuorum)) as refused:
            opened.vshards.migrate(TABLE, [MOVED], to=["d"], domain="a")
        assert refused.value.exit_code in (12, 21), refused.value
        assert situation_of(opened.session, TABLE, MOVED).state == "idle"
        opened.tables.put(TABLE, KEYS[MOVED][0], "x", domain="b")
    shutil.move(store / "d.away", store / "domains" / "d")
    with client.open(store) as opened:
        version = opened.tables.put(TABLE, KEYS[MOVED][0], "y", domain="b").version
        ledger.accounts.put(KEYS[MOVED][0], "y", version)
        (moved,) = opened.vshards.migrate(TABLE, [MOVED], to=["d"], domain="a", budget_us=60_000_000)
        assert moved.state == "completed"
    require(store, ledger, "there")
