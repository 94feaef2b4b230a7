"""Domains that fail, disks that fill up, and views that lag, in each phase of a migration, over the memory driver.

What must hold each time: no acknowledged write is lost, writers of the vshard go on wherever its owner has a quorum,
and once the fault is gone `resume` finishes or `cancel` undoes everything.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl import client, clock
from grafctl.errors import Corrupt, GrafctlError, NoQuorum, PauseBudgetExceeded, StoreFull, Timeout
from grafctl.store import keys, vshard_keys
from grafctl.store.operations.moving import replaying
from grafctl.store.records import decode_entry
from grafctl.store.resources.moving import Place, Seal, Unseal
from store.moving import AWAY, HOME, KEYS, MOVING, PART, PHASES, TABLE, WIDE, Moves, a_table


@pytest.fixture
def moves(tmp_path: Path) -> Iterator[Moves]:
    with a_table(tmp_path, HOME, AWAY) as moves:
        yield moves


def hurried(opened: client.Store) -> None:
    """Lets nobody wait for what is known not to come."""
    opened.session.cluster.lock_wait_s = 0.05


# --- the target


@pytest.mark.parametrize("phase", PHASES)
def test_a_target_domain_that_fails_delays_nobody(moves: Moves, phase: str) -> None:
    done = moves.migrate(watch=moves.in_phase(phase, lambda: moves.fail("do")))
    assert done.state == "completed"
    moves.put(KEYS[0], "after")
    moves.restore("do")
    moves.require_all()


@pytest.mark.parametrize("ending", ["resume", "cancel"])
@pytest.mark.parametrize("phase", PHASES)
def test_without_a_quorum_at_the_target_writers_go_on_at_the_source(moves: Moves, phase: str, ending: str) -> None:
    with pytest.raises(NoQuorum) as lost:
        moves.migrate(watch=moves.in_phase(phase, lambda: moves.fail("do", "oci")))
    assert lost.value.exit_code == 21
    is_flipped = phase == "flipped"
    if is_flipped:  # it is the target's now, and only who has two domains can say what is in it
        with pytest.raises((NoQuorum, Timeout)):
            moves.put(KEYS[0], "nowhere", timeout_s=0.2)
    else:
        moves.put(KEYS[0], "meanwhile", timeout_s=5)
    moves.restore("do", "oci")
    if ending == "resume" or is_flipped:
        moves.finish()
    else:
        moves.writer.vshards.cancel(TABLE, [MOVING], domain="aws")
        assert moves.state() == "idle" and moves.rows_in(PART) == 0
    moves.put(KEYS[1], "after")
    moves.require_all()


@pytest.mark.parametrize("phase", PHASES)
def test_a_full_disk_at_the_target_stops_no_writer(moves: Moves, phase: str) -> None:
    with pytest.raises((StoreFull, NoQuorum, PauseBudgetExceeded)):
        moves.migrate(watch=moves.in_phase(phase, lambda: moves.full.update(AWAY)), budget_us=2_000_000)
    moves.put(KEYS[0], "meanwhile")
    assert moves.state() in ("base_copy", "wal_catchup", "cutover", "completed")
    moves.full.clear()
    moves.finish()
    moves.require_all()


# --- the source


@pytest.mark.parametrize("phase", PHASES)
def test_a_primary_of_the_source_that_fails_is_replaced(moves: Moves, phase: str) -> None:
    done = moves.migrate(watch=moves.in_phase(phase, lambda: moves.fail("aws")))
    assert done.state == "completed"
    moves.restore("aws")
    moves.put(KEYS[0], "after")
    moves.require_all()


@pytest.mark.parametrize("phase", PHASES[:-1])
def test_without_a_quorum_at_the_source_nothing_is_given_away(moves: Moves, phase: str) -> None:
    hurried(moves.operator)
    with pytest.raises(GrafctlError) as lost:
        moves.migrate(watch=moves.in_phase(phase, lambda: moves.fail("aws", "gcp")))
    assert lost.value.exit_code == 21, lost.value
    moves.restore("aws", "gcp")
    moves.ours.advance(WIDE)
    moves.put(KEYS[0], "after")
    assert moves.state() in ("base_copy", "wal_catchup")
    moves.finish()
    moves.require_all()


# --- what was drained, and what was seen of it


def test_more_than_a_batch_between_the_last_look_and_the_seal_is_drained(
    moves: Moves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "BATCH_WRITES", 3)

    def write() -> None:
        for key in KEYS[:10]:
            moves.put(key, "at the last moment")

    assert moves.migrate(watch=moves.in_phase("ready", write)).state == "completed"
    moves.require_all()


def test_a_view_that_lags_in_the_pause_loses_no_write(tmp_path: Path) -> None:
    """Two of five were away while a key was written, and two others are in the pause: who is left knows of the write,
    and not that it is committed."""
    with a_table(tmp_path, ("aws", "b", "c", "d", "e"), ("oci",)) as moves:

        def write() -> None:
            moves.fail("d", "e")
            moves.put(KEYS[0], "last")

        def swap() -> None:
            with moves.writer.session.resource(TABLE).view() as committed:
                behind = [d for d in "bc" if committed.found.sights[d].head.commit < committed.upto]
            assert behind, "every domain knows what is committed, so this shows nothing"
            moves.fail("aws", *({"b", "c"} - set(behind[:1])))
            moves.restore("d", "e")

        watches = [moves.in_phase("ready", write), moves.in_phase("cutover", swap)]

        def watch(event: dict[str, Any]) -> None:
            for each in watches:
                each(event)

        assert moves.migrate(watch=watch).state == "completed"
        moves.restore("aws", "b", "c")
        moves.require_all()


def test_a_target_that_is_ahead_of_its_source_has_diverged(moves: Moves) -> None:
    moves.migrate(hold_cutover=True)

    class Ahead:
        """A migration's record as a stranger might leave it."""

        def decide(self, state: Any, context: Any) -> Any:
            from grafctl.store.resources.moving import Place, change

            row = vshard_keys.migration(MOVING)
            record = state.get_json(row) | {"applied": 1_000_000}
            return change("ahead", Place(TABLE, MOVING, record["id"]), True, moving=record)

    moves.writer.session.resource(PART).append(Ahead())  # type: ignore[arg-type]
    with pytest.raises(Corrupt, match="is ahead of its source") as diverged:
        moves.migrate()
    assert diverged.value.exit_code == 25 and moves.state() == "failed"
    with pytest.raises(Corrupt):
        moves.writer.vshards.resume(TABLE, [MOVING], domain="aws")
    moves.writer.vshards.cancel(TABLE, [MOVING], domain="aws")
    assert moves.state() == "idle" and moves.rows_in(PART) == 0
    assert moves.migrate().state == "completed"
    moves.require_all()


# --- waiting


class Clock:
    """Time that passes by waiting alone, and notes how much of it there was."""

    def __init__(self) -> None:
        self.slept_s, self._began_s = 0.0, time.time()
        self.then: Callable[[], Any] | None = None  # what happens when somebody has waited for a while

    def now_ms(self) -> int:
        return int((self._began_s + self.slept_s) * 1000)

    def monotonic_s(self) -> float:
        return self.slept_s

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds
        if self.slept_s > 0.2 and self.then is not None:
            act, self.then = self.then, None
            act()

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)


def test_who_waits_for_a_seal_waits_no_longer_than_it_lasts(moves: Moves) -> None:
    moves.migrate(hold_cutover=True)
    source = moves.writer.session.resource(TABLE)
    record = moves.writer.vshards.show(TABLE, MOVING).body["migration"]
    place, ours = Place(TABLE, MOVING, record["id"]), Clock()
    before = clock.stand_in(ours)
    try:
        token = source.append(Seal(place, 1_000_000)).answer
        ours.then = lambda: source.append(Unseal(place, token))
        moves.put(KEYS[0], "when it was lifted")
        assert 0.2 <= ours.slept_s < 0.3
        began_s = ours.slept_s
        source.append(Seal(place, 1_000_000))
        moves.put(KEYS[0], "after its budget")
        assert 1 <= ours.slept_s - began_s < 1.1
        source.append(Seal(place, 1_000_000))
        ours.slept_s += 2  # and days may have passed
        began_s = ours.slept_s
        moves.put(KEYS[0], "long after its budget")
        assert ours.slept_s - began_s < 0.1
    finally:
        clock.stand_in(before)
    moves.finish()
    moves.require_all()


# --- writers that are quicker than the catch-up


class Outrunning:
    """A writer who writes more between two looks than may be left for a cut-over, until it is throttled."""

    def __init__(self, moves: Moves) -> None:
        self._moves, self._round = moves, 0
        self.throttled: list[dict[str, Any]] = []

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "throttle":
            self.throttled.append(event)
        elif not self.throttled and (event["event"] == "proof" or "estimate_us" in event or "waits_for" in event):
            self._round += 1
            for key in KEYS[:12]:
                self._moves.put(key, f"round {self._round}", timeout_s=60)


def test_a_catch_up_that_is_outrun_gives_up_with_both_rates_and_keeps_its_copy(moves: Moves) -> None:
    with pytest.raises(Timeout) as given_up:
        moves.migrate(watch=Outrunning(moves), patience_ms=100)
    error = given_up.value
    assert error.exit_code == 24
    assert error.fields["replay_rate"] > 0 and error.fields["write_rate"] >= error.fields["replay_rate"] * 0.9
    assert moves.state() == "wal_catchup"
    moves.finish()
    moves.require_all()


def test_writers_that_outrun_a_catch_up_are_throttled_until_it_is_done(moves: Moves) -> None:
    outrunning = Outrunning(moves)
    done = moves.migrate(watch=outrunning, patience_ms=100, policy="throttle")
    assert done.state == "completed" and outrunning.throttled[0]["limit"] >= 1
    assert moves.writer.vshards.show(TABLE, MOVING).body["limit_per_s"] is None, "at the target nobody is"
    moves.require_all()


@pytest.mark.parametrize("budget_us", [0, 1])
def test_a_budget_that_no_commit_fits_seals_nothing(moves: Moves, budget_us: int) -> None:
    with pytest.raises(PauseBudgetExceeded) as over:
        moves.migrate(budget_us=budget_us, patience_ms=50)
    assert over.value.exit_code == 20 and moves.state() == "wal_catchup"
    with moves.home.view() as committed:
        entries = committed.view.scan(*keys.entries(moves.home.id, 0, committed.upto))
        how = [decode_entry(raw, "entry").request.get("how") for _, raw in entries]
    assert "begin" in how and "seal" not in how, "no writer has waited"
    moves.finish()
    moves.require_all()
