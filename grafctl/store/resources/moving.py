"""Moving a vshard from one log of its table to another: what each log decides about it.

Row `M` of the source says that the vshard is being moved, where to, and from which entry on the log is needed for that;
row `M` of the target says how far the copy is, in the same entry as what was copied. The source decides: it *seals* the
vshard, so that it takes no writes for a moment, and *flips* it, which is the commit point. The token of a seal is the
index of its entry, so whatever was prepared for an earlier seal is told from what belongs to this one.

Promises
- A flip happens under the seal it names, within that seal's budget, or not at all. What the caller's own clock says is
  asked inside the transaction, and the stamped time as well, for a caller that slept.
- Before the flip anybody may lift a seal whose budget is over; after it nobody can.
- Copying and replaying go on exactly where the last entry of that kind ended, so two operators cannot interleave.
- Versions decide between a row that was copied and an entry that is replayed over it (a fuzzy copy).
"""

from __future__ import annotations

from grafctl import clock
from grafctl.errors import Busy, GenerationConflict, PauseBudgetExceeded
from grafctl.store import vshard_keys
from grafctl.store.authority import MIGRATE
from grafctl.store.records import CTRL, DATA, Entry, encode_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.store.resources.queue import queue_row
from grafctl.store.resources.table import (
    MOVED,
    OPEN,
    SEALED,
    Caller,
    Counts,
    VshardRow,
    counts_of,
    vshard_row,
)
from grafctl.typed import Any, Mapping, NamedTuple

IN_PAUSE = ("seal", "unseal", "flip", "beat")
COPYING, FAILED, CANCELLING = "copying", "failed", "cancelling"
_KEEP: Any = object()


class Place(NamedTuple):
    """One vshard of one table, and the migration that is spoken of."""

    table: str
    vshard: int
    migration: str


def change(
    how: str, place: Place, answer: Any, row: VshardRow | None = _KEEP, moving: Any = _KEEP, back: Any = _KEEP
) -> Decision:
    """Returns the entry that sets rows of a vshard: each to a value, or to nothing where it is None."""
    meta: dict[str, Any] = {"do": "vshard", "how": how, "vs": place.vshard}
    meta |= {name: value for name, value in (("row", row), ("m", moving), ("y", back)) if value is not _KEEP}
    # One of kind CTRL costs another commit in each domain, and that is too long for a pause.
    return Decision(answer, encode_json(meta), kind=DATA if how in IN_PAUSE else CTRL)


def apply_vshard(state: State, entry: Entry, index: int) -> Writes:
    request = entry.request
    number = request["vs"]
    places = {"row": vshard_keys.vshard(number), "m": vshard_keys.migration(number), "y": vshard_keys.way_back(number)}
    return [
        (key, None) if request[name] is None else json_write(key, request[name])
        for name, key in places.items()
        if name in request
    ]


def row_of(state: State, place: Place) -> VshardRow:
    row = vshard_row(state, queue_row(state, place.table), place.vshard)
    if row is None:
        raise conflict(place, "is not in this log")
    return row


def moving_of(state: State, place: Place) -> dict[str, Any]:
    """Returns the record of this migration; raises the refusal where there is none, or another one."""
    there: dict[str, Any] | None = state.get_json(vshard_keys.migration(place.vshard))
    if there is None or there["id"] != place.migration:
        raise conflict(place, "is not being moved by this migration any more")
    return there


def conflict(place: Place, what: str) -> GenerationConflict:
    return GenerationConflict(
        f"vshard {place.vshard} of {place.table} {what}.",
        hint=f"Run `grafctl vshard status {place.table} {place.vshard}`.",
        resource=place.table,
        vshard=place.vshard,
    )


def busy(place: Place, what: str) -> Busy:
    return Busy(
        f"vshard {place.vshard} of {place.table} {what}.",
        hint=f"Run `grafctl vshard status {place.table} {place.vshard}`.",
        resource=place.table,
        vshard=place.vshard,
    )


# --- at the source


class Begin(NamedTuple):
    """The request to begin a migration; `wishes` are the operator's limits, kept for whoever resumes."""

    caller: Caller
    place: Place
    to: str
    wishes: Mapping[str, Any]
    reverse: bool = False

    def decide(self, state: State, context: Context) -> Decision:
        self.caller.pass_gate(MIGRATE, state)
        row, place = row_of(state, self.place), self.place
        there = state.get_json(vshard_keys.migration(place.vshard))
        if there is not None:
            if there["to"] == self.to and there["state"] == COPYING and there["reverse"] == self.reverse:
                return Decision((False, there))
            what = "is being cancelled" if there["state"] == CANCELLING else f"is being moved to {there['to']}"
            raise busy(place, what)
        if row["state"] != OPEN:
            raise conflict(place, f"is {row['state']} here, so it is not to be moved from here")
        back = state.get_json(vshard_keys.way_back(place.vshard))
        if self.reverse and (back is None or back["to"] != self.to):
            raise conflict(place, "has no way back: its old copy was retired, or there never was one")
        if back is not None and not self.reverse:
            raise GenerationConflict(
                f"vshard {place.vshard} of {place.table} still has its old copy in {back['to']}.",
                hint=f"Run `grafctl vshard retire {place.table} {place.vshard}` first, or `grafctl vshard reverse`.",
                resource=place.table,
                vshard=place.vshard,
            )
        since = back["since"] if back is not None else context.at
        record = {"id": place.migration, "table": place.table, "to": self.to, "since": since, "state": COPYING}
        record |= {"began_ms": context.now_ms, "domain": self.caller.domain, "token": (back or {}).get("token")}
        record |= {"reverse": self.reverse}
        record |= {name: row[name] for name in ("generation", "seq", "records", "bytes")} | dict(self.wishes)
        return change("begin", place, (True, record), row, record)


class Beat(NamedTuple):
    """The request to say that an operator is at it, which also shows how long a commit takes here."""

    place: Place

    def decide(self, state: State, context: Context) -> Decision:
        moving = moving_of(state, self.place)
        if moving["state"] != COPYING:
            raise busy(self.place, f"has a migration that is {moving['state']}")
        return change("beat", self.place, moving, moving=moving | {"beat_ms": context.now_ms})


class Amend(NamedTuple):
    """The request to change what a migration is to keep to; the vshard's own limit is of writes a second."""

    place: Place
    wishes: Mapping[str, Any]
    limit: int | None = -1  # -1: as it is

    def decide(self, state: State, context: Context) -> Decision:
        row, moving = row_of(state, self.place), moving_of(state, self.place)
        if moving["state"] == CANCELLING:
            raise conflict(self.place, "is being cancelled")
        before = (dict(row), dict(moving))
        moving |= self.wishes
        if self.limit != -1:
            row = unthrottled(row) | ({"limit": self.limit} if self.limit else {})
        if (row, moving) == before:
            return Decision(False)
        return change("amend", self.place, True, row, moving)


class Seal:
    """The request to let a vshard take no more writes here; the answer is its token.

    `begun_s` is the moment of the caller's monotonic clock at which it had the lock: from then on writers wait.
    `counts` is what the source counts then; the row says where the vshard goes next, so that writers get ready for it.
    """

    def __init__(self, place: Place, budget_us: int) -> None:
        self.place, self.budget_us = place, budget_us
        self.begun_s = clock.monotonic_s()
        self.counts: Counts = (0, 0, 0)

    def decide(self, state: State, context: Context) -> Decision:
        self.begun_s = clock.monotonic_s()
        row, moving = row_of(state, self.place), moving_of(state, self.place)
        if moving["state"] != COPYING or row["state"] != OPEN:
            raise busy(self.place, f"is {row['state']}, and its migration {moving['state']}")
        until = context.now_ms + -(-self.budget_us // 1000)
        self.counts = counts_of(row)
        row |= {"state": SEALED, "token": context.at, "until": until, "budget": self.budget_us, "to": moving["to"]}
        return change("seal", self.place, context.at, row)


class Unseal(NamedTuple):
    """The request to let a vshard take writes here again; of a stranger only where the budget of the seal is over.

    `waited_us` is how long the caller has waited for it, by a clock that never goes back.
    """

    place: Place
    token: int
    waited_us: int | None = None  # None: the operator's own

    def decide(self, state: State, context: Context) -> Decision:
        row = row_of(state, self.place)
        if row["state"] != SEALED or row["token"] != self.token:
            return Decision(False)
        is_over = context.now_ms > row["until"]
        if self.waited_us is not None and not is_over and self.waited_us < row["budget"]:
            return Decision(False)
        return change("unseal", self.place, True, unsealed(row))


def unthrottled(row: VshardRow) -> VshardRow:
    """Returns the row of a vshard whose writes are not limited."""
    return {name: row[name] for name in row if name not in ("limit", "free")}


def unsealed(row: VshardRow) -> VshardRow:
    """Returns the row of a vshard that is sealed, or open already, as open."""
    return {name: row[name] for name in row if name not in ("token", "until", "budget", "to")} | {"state": OPEN}


class Flip(NamedTuple):
    """The request to give a sealed vshard away for good; `deadline_s` is on the caller's monotonic clock."""

    place: Place
    token: int
    deadline_s: float
    proof: Mapping[str, Any]

    def decide(self, state: State, context: Context) -> Decision:
        row = row_of(state, self.place)
        if row["state"] == MOVED and row["token"] == self.token:
            return Decision(row)
        moving = moving_of(state, self.place)
        if row["state"] != SEALED or row["token"] != self.token:
            raise self._over("was lifted by a writer")
        if clock.monotonic_s() > self.deadline_s or context.now_ms > row["until"]:
            raise self._over("is over")
        given = {name: row[name] for name in ("seq", "records", "bytes")}
        given |= {"state": MOVED, "to": moving["to"], "token": self.token, "generation": row["generation"] + 1}
        given |= {"id": moving["id"], "reverse": moving["reverse"], "ms": context.now_ms, "proof": dict(self.proof)}
        return change("flip", self.place, given, given, None, None)

    def _over(self, what: str) -> PauseBudgetExceeded:
        place = self.place
        return PauseBudgetExceeded(
            f"The pause of vshard {place.vshard} of {place.table} {what}; writers go on at the source.",
            hint=f"Run `grafctl vshard resume {place.table} {place.vshard}` to try again.",
            resource=place.table,
            vshard=place.vshard,
        )

    def recall(self, entry: Entry, place: int, state: State) -> VshardRow | None:
        found: VshardRow | None = entry.request.get("row")
        return found


class Abandon(NamedTuple):
    """The request to end a migration at its source: `failed` keeps its record with the reason, `cancelling` until the
    target is empty, and no state removes it."""

    place: Place
    state: str | None
    reason: str | None = None

    def decide(self, state: State, context: Context) -> Decision:
        row, moving = row_of(state, self.place), moving_of(state, self.place)
        if self.state is None:
            back = state.get_json(vshard_keys.way_back(self.place.vshard)) if moving["reverse"] else None
            kept = _KEEP if back is None else back | {"cancelled": moving["id"]}
            return change("abandoned", self.place, True, unthrottled(unsealed(row)), None, kept)
        if moving["state"] in (self.state, CANCELLING):  # no failure brings back what is being cancelled
            return Decision(moving)
        moving |= {"state": self.state} | ({"reason": self.reason} if self.reason else {})
        return change(self.state, self.place, moving, unsealed(row) if row["state"] == SEALED else row, moving)


class ForgetWayBack(NamedTuple):
    """The request to give up the way back of a vshard: no log is kept for it from then on."""

    place: Place
    caller: Caller

    def decide(self, state: State, context: Context) -> Decision:
        self.caller.pass_gate(MIGRATE, state)
        if state.get_json(vshard_keys.migration(self.place.vshard)) is not None:
            raise busy(self.place, "is being moved")
        back = state.get_json(vshard_keys.way_back(self.place.vshard))
        if back is None:
            return Decision(None)
        return change("no way back", self.place, back, back=None)
