"""The migration of one vshard, from wherever it stands to its end.

Promises
- Every step is found again from what the logs hold: the same call goes on where another one died.
- A migration ends. Where writers outrun the catch-up for too long they are throttled, or it is given up; where no pause
  would fit the budget for too long, that is said with exit code 20. The copy is kept both times.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from grafctl import clock
from grafctl.errors import Corrupt, GrafctlError, PauseBudgetExceeded, ProofRequired, Timeout
from grafctl.store.driver.kill import point
from grafctl.store.moving_rules import BASE_COPY, WAL_CATCHUP, Sample, Verdict, estimate_us, lag_of, may_cut_over
from grafctl.store.operations.moving.copying import copy_base
from grafctl.store.operations.moving.cutting_over import Cut, cut_over
from grafctl.store.operations.moving.ending import drop, note_failure
from grafctl.store.operations.moving.proof import prove, read_back
from grafctl.store.operations.moving.replaying import Collected, collect, covering, replay
from grafctl.store.operations.moving.situation import look
from grafctl.store.operations.moving.work import Work
from grafctl.store.resources.moving import Amend, Place, Unseal
from grafctl.store.resources.receiving import Receive
from grafctl.store.resources.table import MOVED, READY, RECEIVING, SEALED

MEASURED = 3  # commits at the source before the first estimate
IDLE_S = 0.002


class Moved(NamedTuple):
    """How far a call brought a migration."""

    state: str
    cut: Cut | None = None
    lag: int | None = None
    estimate_us: int | None = None


def migrate(work: Work, *, hold_cutover: bool = False) -> Moved:
    """Brings a migration that was begun to its flip, or with `hold_cutover` to where it could be flipped."""
    try:
        _unseal(work)
        moving = _received(work)
        work.applied = moving["applied"]
        if not moving["copied"]:
            work.enter(BASE_COPY, bytes=moving["bytes"], total=work.record["bytes"])
            copy_base(work, moving)
            work.target_us.clear()  # of entries that are much larger than what a pause has to wait for
        work.enter(WAL_CATCHUP)
        while len(work.source_us) < MEASURED:
            work.beat()
        _catch_up(work, is_proven=False)
        prove(work)
        seen, lag, estimate = _catch_up(work, is_proven=True)
        if hold_cutover:
            return Moved(WAL_CATCHUP, None, lag, estimate)
        cut = cut_over(work, seen)
        return Moved(work.ended(), cut, lag, estimate)
    except (ProofRequired, Corrupt) as error:
        if isinstance(error, ProofRequired) or "domain" not in error.fields:
            note_failure(work.source, work.place, error)
        raise


def _unseal(work: Work) -> None:
    """Lifts the seal of an operator who died in the pause, once its budget is over."""
    began_s = clock.monotonic_s()
    while (row := work.source_row()) is not None and row["state"] == SEALED:
        waited_us = int((clock.monotonic_s() - began_s) * 1e6)
        if not work.source.append(Unseal(work.place, row["token"], waited_us)).answer:
            clock.sleep(0.01)


def _received(work: Work) -> dict[str, Any]:
    """Returns the record of the target, after what a dead migration left there is gone; raises for divergence."""
    here = look(work.target, work.target_part, work.place.vshard)
    is_left = here.moving is not None and here.moving["id"] != work.place.migration
    if is_left and here.moving is not None and here.row is not None and here.row["state"] in (RECEIVING, READY):
        work.beat()  # refused where this is not the source's migration any more: then the copy may be that of another
        drop(work.target, Place(work.place.table, work.place.vshard, here.moving["id"]))
    if here.row is not None and here.row["state"] == MOVED and not work.record["reverse"]:
        # A retire that died half-way left it: the owner has no way back to it, or this migration had not begun.
        drop(work.target, work.place, here.row["token"])
    _, moving = work.at_target(Receive(work.place, work.source_part, work.record)).answer
    point("moving.received")
    with covering(work.source, moving["applied"]) as committed:
        lag_of(moving["applied"], committed.upto, what=work.what)
    found: dict[str, Any] = moving
    return found


def _catch_up(work: Work, *, is_proven: bool) -> tuple[Collected, int, int | None]:
    """Replays until the copy may be proven, or once it is, until a cut-over may begin; returns what is to be replayed
    then, the lag, and the pause that is estimated."""
    limit_us = int(work.record["patience_ms"]) * 1000
    refused_s: float | None = None
    while True:
        found = collect(work.source, work.place.vshard, work.applied)
        lag = len(found.writes) + (work.limits.max_lag + 1 if found.has_more else 0)
        _sample(work, lag)
        if not is_proven and not found.has_more:
            return found, lag, None
        estimate = estimate_us(lag, work.pace, work.source_us, work.target_us, work.read_back_us)
        reason = may_cut_over(WAL_CATCHUP, lag, estimate, work.limits)
        verdict = work.convergence.verdict(work.record["policy"], limit_us)
        rates = {"applied_per_s": verdict.replay_rate, "written_per_s": verdict.write_rate}
        work.tell("progress", state=WAL_CATCHUP, lag=lag, estimate_us=estimate, waits_for=reason, **rates)
        work.check_stop()
        if reason is None:
            return found, lag, estimate
        _act(work, verdict)
        if lag <= work.limits.max_lag and estimate is not None:
            refused_s = refused_s or clock.monotonic_s()
            if (clock.monotonic_s() - refused_s) * 1e6 >= limit_us:
                raise _never_fits(work, estimate, reason)
        else:
            refused_s = None
        replay(work, found)
        if is_proven:
            read_back(work, found)
        work.beat_at_times()
        if not found.writes:
            work.beat()
            clock.sleep(IDLE_S)


def _sample(work: Work, lag: int) -> None:
    """Notes how far both sides are; of a batch that was full nobody knows how much is behind it."""
    last = work.convergence.samples[-1:]
    tail = max(work.replayed + lag, last[0].tail if last else 0)
    sample = Sample(work.replayed, tail, int(clock.monotonic_s() * 1e6))
    work.convergence = work.convergence.seen(sample, what=work.what)


def _act(work: Work, verdict: Verdict) -> None:
    """Carries out the policy where the catch-up got nowhere for too long."""
    if verdict.action == "throttle":
        limit = max(1, int(verdict.throttle_to or 1))
        work.tell("throttle", limit=limit, sentence=verdict.sentence)
        work.source.append(Amend(work.place, {"throttled": limit}, limit))
        work.convergence = work.convergence.with_throttle()
    elif verdict.action is not None:
        raise Timeout(
            f"{work.what}: {verdict.sentence}",
            hint=f"Run `grafctl vshard resume {work.place.table} {work.place.vshard} --policy throttle`.",
            resource=work.place.table,
            vshard=work.place.vshard,
            replay_rate=verdict.replay_rate,
            write_rate=verdict.write_rate,
        )


def _never_fits(work: Work, estimate: int, reason: str) -> GrafctlError:
    return PauseBudgetExceeded(
        f"{work.what}: {reason}",
        hint=f"Run `grafctl vshard resume {work.place.table} {work.place.vshard}` with a larger --write-pause-budget.",
        resource=work.place.table,
        vshard=work.place.vshard,
        estimate_us=estimate,
        budget_us=work.limits.budget_us,
    )
