"""Turning a consumer from one side to the other: close, carry, flip, open.

| step | where | what it does |
|---|---|---|
| carry | other side | most of what the open side has finished, while it is still open |
| closing | control log | says that it is closing and until when; one switch at a time |
| drain | open side | no new leases; acks go on until nothing is leased, or the time is over |
| close | open side | its leases are over; what it has finished is frozen |
| carry | other side | the rest, and what is owed |
| flip | control log | the commit point: the next generation, with side, state and both cursors |
| open | other side | by whoever comes first, the operator or a poll |
| soak | control log | the window runs |

Of two tables nothing is delivered, so there is only the flip, and the soak.

Promises
- Each step is asked for again by the same command, by another operator, or where it is theirs by polls: whoever dies
  here leaves nobody waiting for longer than the closing's deadline.
- Before the flip every error gives the closing up, and the consumer goes on where it was. After it, it goes forward.
"""

from __future__ import annotations

from grafctl import clock
from grafctl.errors import GenerationConflict, GrafctlError
from grafctl.store.driver.kill import point
from grafctl.store.intervals import size
from grafctl.store.operations.switching.carrying import carry
from grafctl.store.operations.switching.compared import Tell
from grafctl.store.operations.switching.tables import flip_tables
from grafctl.store.operations.switching.work import Side, cursors_of, look, numbers_at, row_of, side_of
from grafctl.store.resources.carrying import lags
from grafctl.store.resources.switched import CloseGroup, DrainGroup, OpenGroup
from grafctl.store.resources.switches import BeginClosing, Flip, StartSoak, Switched
from grafctl.store.session import Session
from grafctl.store.switch_health import begun
from grafctl.store.switch_rules import OWED_MAX, SWITCHED, TARGET, is_closing, is_of_tables
from grafctl.typed import Any, Mapping

CARRY_MS = 30_000  # how long a closing may take beside its drain, before anybody gives it up
GIVE_UP_S = 3.0
_PAUSE_S = 0.02


def turn(
    session: Session,
    name: str,
    row: dict[str, Any],
    to: str,
    *,
    drain_ms: int,
    why: str,
    wave: Mapping[str, Any] | None = None,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Brings a switch to its other side, or goes on with that; returns its row then. `tell` hears of what is waited
    for."""
    if is_of_tables(row):
        soak = _begun(session, name, row, to)
        return open_side(session, name, flip_tables(session, name, row, to, why=why, wave=wave, soak=soak))
    if not is_closing(row, to):
        if carry(session, name, row) > OWED_MAX:
            raise lags(name, OWED_MAX + 1)
        point("switching.carried_ahead")
    until_ms = clock.now_ms() + drain_ms + CARRY_MS
    row = session.control.append(BeginClosing(name, row["generation"], to, until_ms, wave)).answer.row
    point("switching.closing")
    try:
        flipped = _flip(session, name, row, to, drain_ms, why, tell)
    except BaseException as error:
        after = _given_up(session, name, row, to, error)
        if after is None:
            raise
        flipped = after
    point("switching.flipped")
    return open_side(session, name, flipped)


def _flip(
    session: Session, name: str, row: dict[str, Any], to: str, drain_ms: int, why: str, tell: Tell | None
) -> dict[str, Any]:
    """Closes the open side, carries the rest, and flips; returns the row then."""
    side = side_of(session, name, row, row["side"])
    generation = row["generation"]

    def beat() -> None:
        session.control.append(BeginClosing(name, generation, to, clock.now_ms() + CARRY_MS))

    _drain(side, row, drain_ms, tell)
    outcome = side.log.append(CloseGroup(*side.place, generation))
    point("switching.closed")
    beat()
    carry(session, name, row, is_final=True, least=outcome.tail, beat=beat)
    point("switching.carried")
    flip = Flip(name, generation, to, why, cursors_of(session, name, row), soak=_begun(session, name, row, to))
    answer: Switched = session.control.append(flip).answer
    return answer.row


def _begun(session: Session, name: str, row: Mapping[str, Any], to: str) -> dict[str, Any]:
    """Returns the numbers that a soak counts from: those of the target, while nobody reads there yet."""
    if to != TARGET:
        return {}
    return begun(numbers_at(session, name, row, 0), clock.now_ms())


def _drain(side: Side, row: Mapping[str, Any], drain_ms: int, tell: Tell | None) -> None:
    """Hands out no new leases, and waits until those that are out are over or the time is."""
    side.log.append(DrainGroup(*side.place, row["generation"], row["phase"]["until_ms"]))
    point("switching.draining")
    until_ms = row["phase"]["since_ms"] + drain_ms
    until_s = clock.monotonic_s() + drain_ms / 1000  # where the clock went back, the closing began in time to come
    total = 0
    while (now_ms := clock.now_ms()) < until_ms and clock.monotonic_s() < until_s:
        here = look(side)
        if all(lease["until"] <= now_ms for _, lease in here.leases):
            return
        leased = size(here.lineage.leased)
        total = max(total, leased)
        if tell is not None:
            tell("waiting for what is leased", total - leased, total)
        clock.sleep(min(_PAUSE_S, (until_ms - now_ms) / 1000))


def _given_up(session: Session, name: str, row: dict[str, Any], to: str, error: BaseException) -> dict[str, Any] | None:
    """Gives a closing up after an error, and never hides it; returns the row where somebody else has flipped it."""
    try:
        now = row_of(session, name)
        if now["generation"] == row["generation"]:
            why = error.message if isinstance(error, GrafctlError) else "interrupted"
            flip = Flip(name, row["generation"], row["side"], f"given up: {why}")
            now = session.control.append(flip, deadline_s=GIVE_UP_S).answer.row
            open_side(session, name, now)
            return None
        if isinstance(error, GenerationConflict) and now["side"] == to and now["generation"] == row["generation"] + 1:
            return now
        if now["side"] != to:
            open_side(session, name, now)
    except GrafctlError:
        pass  # its time ends, and then whoever polls gives it up
    return None


def open_side(session: Session, name: str, row: dict[str, Any]) -> dict[str, Any]:
    """Opens the side that a committed row says is the open one, and lets the window run; returns the row then."""
    if not is_of_tables(row):
        side = side_of(session, name, row, row["side"])
        side.log.append(OpenGroup(*side.place, row["generation"]))
    point("switching.opened")
    if row["state"] != SWITCHED:
        return row
    answer: Switched = session.control.append(StartSoak(name, row["generation"])).answer
    point("switching.soaking")
    return answer.row
