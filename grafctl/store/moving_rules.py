"""The rules of a vshard's migration: which state may follow which, when a cut-over may begin, how long it would pause
the writers, and whether the catch-up gets anywhere.

Promises
- A state changes as `NEXT` says (`NEXT_BACK` on the way back) or not at all.
- `may_cut_over` lets nobody begin a pause that by what was measured does not fit its budget; what fits exactly may.
- A target that is ahead of its source, or holds more than there is to copy, is `Corrupt`: it was written by somebody
  else, and no repetition makes that good.
- `Convergence` ends: within each span of `limit_us` the lag halves, or the policy is carried out, and the writers are
  throttled `THROTTLES_MAX` times at most before the catch-up is given up.

When it fails: nothing here can; there is no I/O, no clock and no randomness.
"""

from __future__ import annotations

from grafctl.errors import Busy, Corrupt, GenerationConflict, GrafctlError, Internal, Usage
from grafctl.typed import Mapping, NamedTuple, Sequence

IDLE = "idle"
BASE_COPY = "base_copy"
WAL_CATCHUP = "wal_catchup"
CUTOVER = "cutover"
COMPLETED = "completed"
FAILED = "failed"
CANCELLED = "cancelled"
REVERSED = "reversed"
STATES = (IDLE, BASE_COPY, WAL_CATCHUP, CUTOVER, COMPLETED, FAILED, CANCELLED, REVERSED)
UNDER_WAY = frozenset({BASE_COPY, WAL_CATCHUP, CUTOVER, FAILED})  # a failed one still holds a copy, and may go on

# From `cutover` back to `wal_catchup` leads the end of the budget; from `completed` to `idle`, `vshard retire`. A
# failed migration is resumed where its copy stands, and fails again where its cause is still there.
NEXT: Mapping[str, frozenset[str]] = {
    IDLE: frozenset({BASE_COPY}),
    BASE_COPY: frozenset({WAL_CATCHUP, FAILED, CANCELLED}),
    WAL_CATCHUP: frozenset({CUTOVER, FAILED, CANCELLED}),
    CUTOVER: frozenset({COMPLETED, WAL_CATCHUP, FAILED, CANCELLED}),
    FAILED: frozenset({BASE_COPY, WAL_CATCHUP, CANCELLED}),
    COMPLETED: frozenset({IDLE}),
    CANCELLED: frozenset({BASE_COPY, IDLE}),
    REVERSED: frozenset({IDLE}),
}
# The way back needs no base copy. A way back that is cancelled leaves the vshard where it is: moved, and completed.
NEXT_BACK: Mapping[str, frozenset[str]] = {
    COMPLETED: frozenset({WAL_CATCHUP}),
    WAL_CATCHUP: frozenset({CUTOVER, FAILED, COMPLETED}),
    CUTOVER: frozenset({REVERSED, WAL_CATCHUP, FAILED, COMPLETED}),
    FAILED: frozenset({WAL_CATCHUP, COMPLETED}),
}

POLICIES = ("give-up", "throttle")
INTEGER_MAX = 2**63 - 1
WINDOW = 32  # samples and commit times that are looked at: enough for a rate, few enough to follow a change
SAMPLES_MIN = 3  # two may be one slow commit apart
SURE_OF_PERCENT = 90  # of recent commits took no longer: a pause in vain costs more than a later one
COMMITS_AT_SOURCE = 2  # seal and flip
COMMITS_AT_TARGET = 1  # the entry that drains the rest and makes it ready
THROTTLES_MAX = 3
MICROSECONDS = 1_000_000


class Limits(NamedTuple):
    """What an operator allows a cut-over; waiting for a lock and pausing the writers are two things."""

    max_lag: int = 10  # records of the vshard
    budget_us: int = 50_000
    lock_wait_us: int = 50_000


def checked_limits(limits: Limits) -> Limits:
    """Returns the limits, each a whole number of 0 or more, or refuses them."""
    for name, value in (
        ("--max-lag", limits.max_lag),
        ("--write-pause-budget", limits.budget_us),
        ("--lock-wait", limits.lock_wait_us),
    ):
        if type(value) is not int or not 0 <= value <= INTEGER_MAX:  # True is an int, and no number of records
            raise Usage(f"{name} takes a whole number from 0 on that 63 bits hold.")
    return limits


# --- states


def check_move(before: str, after: str, *, what: str, back: bool = False) -> None:
    """Refuses a change of state that no table has; `what` names the vshard, and `back` means the way back."""
    table = NEXT_BACK if back else NEXT
    if before not in STATES or after not in STATES:
        raise Internal(f"A migration of {what} cannot go from {before} to {after}: there is no such state.")
    if after not in table.get(before, ()):
        raise _refusal(before, after, what, back=back)


def _refusal(before: str, after: str, what: str, *, back: bool) -> GrafctlError:
    """Returns why a migration cannot go on like this, and what would help."""
    if before in UNDER_WAY and after == BASE_COPY:
        return Busy(
            f"A migration of {what} is under way, in {before}.",
            hint="Run `grafctl vshard resume` to finish it or `grafctl vshard cancel` to undo it.",
            state=before,
        )
    if after == BASE_COPY:
        return GenerationConflict(
            f"{what} was moved and has a way back, so it is not moved on.",
            hint="Run `grafctl vshard retire` to give up the way back, or `grafctl vshard reverse` to take it.",
            state=before,
        )
    if before in (IDLE, CANCELLED, REVERSED):
        way = "way back" if back else "migration under way"
        message = f"{what} has no {way}: its state is {before}."
    elif after == CANCELLED:
        message = f"The migration of {what} was completed, so there is nothing left to cancel."
    elif after == CUTOVER:
        message = f"{what} is cut over from {WAL_CATCHUP} only, and is in {before}."
    else:
        direction = " on the way back" if back else ""
        message = f"A migration of {what} cannot go from {before} to {after}{direction}."
    return GenerationConflict(message, hint="Run `grafctl vshard status`.", state=before)


# --- how far it is


class Progress(NamedTuple):
    """How much of the base copy is done, in bytes; made by `progress` alone."""

    copied: int
    total: int

    @property
    def is_done(self) -> bool:
        return self.copied == self.total


def progress(copied: int, total: int, *, what: str = "the vshard") -> Progress:
    """Returns the progress, or refuses bytes that there were not to copy.

    `total` is what the rows held when the migration began. Rows written since come with the log, and are not copied or
    counted here; so what is copied never passes it, however the vshard grows, and may stay below it where rows went.
    """
    if copied < 0 or total < 0:
        raise Internal(f"{copied} of {total} bytes of {what} cannot be copied.")
    if copied > total:
        raise Corrupt(f"The copy of {what} holds {copied} bytes, and there were {total} to copy: it is not a copy.")
    return Progress(copied, total)


def lag_of(applied: int, tail: int, *, what: str = "the vshard") -> int:
    """Returns how many records of the source the target has not applied; a target that is ahead has diverged."""
    if applied > tail:
        raise Corrupt(
            f"The target of {what} is ahead of its source: it applied {applied}, and the source ends at {tail}.",
            hint="Run `grafctl vshard cancel`; the source is still the one that counts.",
        )
    return tail - applied


# --- the cut-over


def may_cut_over(state: str, lag: int, estimate_us: int | None, limits: Limits) -> str | None:
    """Returns why the cut-over may not begin yet, as a sentence, or None; what is equal to a limit is within it."""
    if state != WAL_CATCHUP:
        return f"A cut-over begins from {WAL_CATCHUP} only, and this migration is in {state}."
    if lag < 0:
        return "The target is ahead of its source, so it is no copy."
    if lag > limits.max_lag:
        return f"{lag} records are not applied at the target, and {limits.max_lag} may be left for the cut-over."
    if estimate_us is None:
        return "How long writers would be paused is not known before a few records were applied."
    if estimate_us > limits.budget_us:
        return f"Writers would be paused for about {estimate_us} us, and the budget is {limits.budget_us} us."
    return None


class Pace(NamedTuple):
    """How many records the target applied lately, and how long that took: whole numbers, so that nothing is rounded."""

    records: int
    took_us: int


def estimate_us(
    lag: int, pace: Pace | None, source_us: Sequence[int], target_us: Sequence[int], read_back_us: int = 0
) -> int | None:
    """Returns how long a cut-over would pause the writers, or None where too little was measured.

    `source_us` and `target_us` are how long the last replicated commits took there, oldest first, and `read_back_us`
    how long the proof of the drained records takes.
    """
    if not source_us or not target_us or (lag > 0 and (pace is None or pace.records <= 0)):
        return None
    replay_us = -(-lag * pace.took_us // pace.records) if pace is not None and lag > 0 else 0
    commits_us = COMMITS_AT_SOURCE * usual_us(source_us) + COMMITS_AT_TARGET * usual_us(target_us)
    return commits_us + replay_us + read_back_us


def usual_us(times_us: Sequence[int]) -> int:
    """Returns a time that nine of ten recent commits did not pass."""
    recent = sorted(times_us[-WINDOW:])
    return recent[-(-len(recent) * SURE_OF_PERCENT // 100) - 1]


# --- whether it gets anywhere


class Sample(NamedTuple):
    """How far the source and the target were at one moment of the monotonic clock, in records of the vshard."""

    applied: int
    tail: int
    at_us: int

    @property
    def lag(self) -> int:
        return self.tail - self.applied


class Verdict(NamedTuple):
    """What the samples say, and what follows from it."""

    outcome: str  # caught_up, catching_up, outrun or unknown
    replay_rate: float | None  # records a second; None before enough was seen
    write_rate: float | None
    action: str | None  # a policy that is to be carried out now
    sentence: str

    @property
    def throttle_to(self) -> float | None:
        """Returns how many records a second writers may write from now on, where they are to be throttled."""
        return self.replay_rate / 2 if self.action == "throttle" and self.replay_rate else None


class Convergence(NamedTuple):
    """A window of samples, and since when the lag has neither halved nor been small enough for a cut-over."""

    max_lag: int = Limits().max_lag
    samples: tuple[Sample, ...] = ()
    mark: Sample | None = None
    throttled: int = 0

    def seen(self, sample: Sample, *, what: str = "the vshard") -> Convergence:
        """Returns this with one more sample; one that goes back is refused, and so is a target ahead of its source."""
        lag_of(sample.applied, sample.tail, what=what)
        last = self.samples[-1] if self.samples else sample
        if sample.applied < last.applied or sample.tail < last.tail or sample.at_us < last.at_us:
            raise Corrupt(f"The migration of {what} went back from {tuple(last)} to {tuple(sample)}.")
        is_better = self.mark is None or sample.lag <= self.max_lag or sample.lag * 2 <= self.mark.lag
        samples = (*self.samples, sample)[-WINDOW:]
        return self._replace(samples=samples, mark=sample if is_better else self.mark)

    def with_throttle(self) -> Convergence:
        """Returns this for writers that are slower from the last sample on, with a new span to catch up in."""
        last = self.samples[-1:]
        return self._replace(samples=last, mark=last[0] if last else None, throttled=self.throttled + 1)

    def verdict(self, policy: str, limit_us: int) -> Verdict:
        """Returns whether the catch-up outruns the writers, and what is to be done where it did not for too long."""
        if policy not in POLICIES:
            raise Usage(f"--policy takes {POLICIES[0]} or {POLICIES[1]}.")
        if not self.samples or self.mark is None:
            return Verdict("unknown", None, None, None, "Nothing was measured yet.")
        last, rates = self.samples[-1], self._rates()
        replay, write = rates or (None, None)
        if last.lag <= self.max_lag:
            return Verdict("caught_up", replay, write, None, f"{last.lag} records are not applied yet.")
        late = last.at_us - self.mark.at_us >= limit_us
        if rates is None:
            outcome, words = "unknown", f"{last.lag} records are not applied yet, and no rate is known"
        else:
            outcome = "catching_up" if rates[0] > rates[1] else "outrun"
            relation = "outruns the writers" if outcome == "catching_up" else "does not outrun the writers"
            words = f"The catch-up {relation}: {rates[0]:.0f} records/s are applied, {rates[1]:.0f} records/s written"
        action, end = self._action(policy, replay, late=late), ""
        if action is not None:
            took = f"{(last.at_us - self.mark.at_us) / MICROSECONDS:g} s"
            end = f"; the lag went from {self.mark.lag} to {last.lag} in {took}, so the policy {action} is carried out"
        return Verdict(outcome, replay, write, action, f"{words}{end}.")

    def _action(self, policy: str, replay: float | None, *, late: bool) -> str | None:
        """Returns the policy where it is due; nobody is throttled for a target that applies nothing."""
        if not late:
            return None
        return "throttle" if policy == "throttle" and self.throttled < THROTTLES_MAX and replay else "give-up"

    def _rates(self) -> tuple[float, float] | None:
        """Returns the records a second that were applied and written, once the samples are enough to say it."""
        first, last = self.samples[0], self.samples[-1]
        span_us = last.at_us - first.at_us
        if len(self.samples) < SAMPLES_MIN or span_us <= 0:
            return None
        seconds = span_us / MICROSECONDS
        return (last.applied - first.applied) / seconds, (last.tail - first.tail) / seconds
