"""The cut-over: seal the source, drain and prove the rest, flip. What writers see of it is the pause.

| step | where | what it does |
|---|---|---|
| seal | source | writes to the vshard wait from here on, reads and other vshards go on |
| drain | target | the last entries, and with them the copy is ready for this seal's token |
| proof | both | what was drained is read back in each domain; the counts of both logs are equal |
| flip | source | the commit point: refused where the seal was lifted or its budget is over |
| route | control log | whoever comes later goes to the target at once |
| open | target | where no writer did it: the first to come with a claim opens it with what it writes |

Promises
- Before the flip every error lifts the seal, and so does any writer once the budget is over: the source goes on.
- After the flip it only goes forward. Where nobody knows whether it happened, it is asked for again: the same token
  flips once.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from grafctl import clock
from grafctl.errors import GrafctlError, NoQuorum, PauseBudgetExceeded, ProofRequired, StoreFull, Timeout
from grafctl.store.driver.kill import point
from grafctl.store.moving_rules import CUTOVER
from grafctl.store.operations.moving.proof import read_back
from grafctl.store.operations.moving.replaying import Collected, collect, replay
from grafctl.store.operations.moving.work import Work
from grafctl.store.resources.moving import Flip, Seal, Unseal
from grafctl.store.resources.receiving import Open
from grafctl.store.resources.routes import SetRoute
from grafctl.store.resources.table import SEALED

UNSURE_S = 30.0  # how long to ask again for a flip of which nobody knows


class Cut(NamedTuple):
    """What a cut-over took: waiting for the lock, and the pause, from the seal until the target takes writes; in
    microseconds."""

    lock_wait_us: int
    pause_us: int
    lag: int  # records that were drained inside the pause


def cut_over(work: Work, seen: Collected) -> Cut:
    """Moves a vshard that is caught up but for what was `seen` last; raises `PauseBudgetExceeded` or what failed, with
    the source writable again."""
    called_s = clock.monotonic_s()
    seal = Seal(work.place, work.limits.budget_us)
    token: int | None = None
    try:
        token = work.at_source(seal, lock_wait_s=work.limits.lock_wait_us / 1e6).answer
        assert token is not None
        lock_wait_us = int((seal.begun_s - called_s) * 1e6)
        point("moving.sealed")
        work.enter(CUTOVER)
        until_s = seal.begun_s + work.limits.budget_us / 1e6
        drained = _drained(work, seal, seen, token, until_s)
        _flip(work, token, until_s, drained)
    except BaseException as error:
        _lift(work, token, error)
        raise
    pause_us = int((clock.monotonic_s() - seal.begun_s) * 1e6)
    point("moving.flipped")
    set_route(work)  # first: meanwhile the writers who have waited open it with what they write
    open_target(work, token)
    return Cut(lock_wait_us, pause_us, len(drained.writes))


def _drained(work: Work, seal: Seal, seen: Collected, token: int, until_s: float) -> Collected:
    """Does what `_drain` does; what ran out of time there has passed the budget. (`Busy` is a quicker operator.)"""
    try:
        return _drain(work, seal, seen, token, until_s)
    except Timeout as error:
        raise _exceeded(work, until_s - work.limits.budget_us / 1e6) from error


def _drain(work: Work, seal: Seal, seen: Collected, token: int, until_s: float) -> Collected:
    """Brings what was written up to the seal to the target, and proves it."""
    rest = collect(work.source, work.place.vshard, seen.stop, token + 1)
    found = Collected(seen.start, rest.stop, seen.writes + rest.writes, rest.has_more)
    _check(work, until_s)
    while found.has_more:  # somebody wrote very much while this waited for the lock
        replay(work, found, None, until_s - clock.monotonic_s())
        read_back(work, found)
        _check(work, until_s)
        found = collect(work.source, work.place.vshard, work.applied, token + 1)
    replay(work, found, token, until_s - clock.monotonic_s())
    point("moving.drained")
    try:
        read_back(work, found, seal.counts)
    except ProofRequired as error:
        row = work.source_row()
        if row is not None and row.get("token") != token:  # writers have gone on, so there was nothing to compare
            raise _exceeded(work, until_s - work.limits.budget_us / 1e6) from error
        raise
    _check(work, until_s)
    return found


def _check(work: Work, until_s: float) -> None:
    if clock.monotonic_s() > until_s:
        raise _exceeded(work, until_s - work.limits.budget_us / 1e6)


def _exceeded(work: Work, begun_s: float) -> PauseBudgetExceeded:
    took_us = int((clock.monotonic_s() - begun_s) * 1e6)
    return PauseBudgetExceeded(
        f"The pause of {work.what} took {took_us} us before its commit point, and its budget is "
        f"{work.limits.budget_us} us; writers go on at the source.",
        hint=f"Run `grafctl vshard resume {work.place.table} {work.place.vshard}`, with a larger budget perhaps.",
        resource=work.place.table,
        vshard=work.place.vshard,
        pause_us=took_us,
        budget_us=work.limits.budget_us,
    )


def _flip(work: Work, token: int, until_s: float, drained: Collected) -> None:
    """Gives the vshard away; asks again where nobody knows whether that happened."""
    proof = {**(work.proof or {}), "drained": len(drained.writes)}
    request = Flip(work.place, token, until_s, proof)
    begun_s = clock.monotonic_s()
    while True:
        try:
            left_s = max(until_s - clock.monotonic_s(), 0.05)
            work.at_source(request, deadline_s=left_s)
            return
        except (NoQuorum, Timeout, StoreFull) as error:
            if error.fields.get("outcome") != "unknown" or clock.monotonic_s() - begun_s > UNSURE_S:
                if isinstance(error, Timeout) and error.fields.get("outcome") != "unknown":
                    raise _exceeded(work, until_s - work.limits.budget_us / 1e6) from error
                raise
            # It may be there. Asked with the same token it is answered, done in time, or refused for good.
            clock.sleep(0.05)


def _lift(work: Work, token: int | None, error: BaseException) -> None:
    """Lifts the seal, if there is one, and never hides why."""
    try:
        if token is None and isinstance(error, GrafctlError) and error.fields.get("outcome") != "unknown":
            return
        row = work.source_row()
        if row is not None and row["state"] == SEALED and (token is None or row["token"] == token):
            work.source.append(Unseal(work.place, row["token"]))
    except GrafctlError:
        pass  # its budget ends, and then whoever writes lifts it


def open_target(work: Work, token: int) -> None:
    """Opens the copy of a vshard that was given away under this token."""
    work.at_target(Open(work.place, token))
    point("moving.opened")


def set_route(work: Work) -> None:
    """Says in the control log where the vshard is now; where that cannot be, its old log says so to whoever comes."""
    place = work.place
    with suppress(NoQuorum, Timeout, StoreFull):
        work.session.control.append(SetRoute(place.table, place.vshard, work.target_part, work.generation))
    point("moving.routed")
