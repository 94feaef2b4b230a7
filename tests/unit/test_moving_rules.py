"""The rules of a vshard's migration, against tables that are written out, and the edges of each limit."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.errors import Busy, Corrupt, GenerationConflict, GrafctlError, Internal, Usage
from grafctl.store import moving_rules as rules
from grafctl.store.moving_rules import Convergence, Limits, Pace, Sample

WHAT = "accounts/42"

FORTH = {
    ("idle", "base_copy"),
    ("base_copy", "wal_catchup"),
    ("base_copy", "failed"),
    ("base_copy", "cancelled"),
    ("wal_catchup", "cutover"),
    ("wal_catchup", "failed"),
    ("wal_catchup", "cancelled"),
    ("cutover", "completed"),
    ("cutover", "wal_catchup"),
    ("cutover", "failed"),
    ("cutover", "cancelled"),
    ("failed", "base_copy"),
    ("failed", "wal_catchup"),
    ("failed", "cancelled"),
    ("completed", "idle"),
    ("cancelled", "base_copy"),
    ("cancelled", "idle"),
    ("reversed", "idle"),
}
BACK = {
    ("completed", "wal_catchup"),
    ("wal_catchup", "cutover"),
    ("wal_catchup", "failed"),
    ("wal_catchup", "completed"),
    ("cutover", "reversed"),
    ("cutover", "wal_catchup"),
    ("cutover", "failed"),
    ("cutover", "completed"),
    ("failed", "wal_catchup"),
    ("failed", "completed"),
}


# --- states


@pytest.mark.parametrize("back", [False, True], ids=["forth", "back"])
def test_a_state_follows_another_only_as_the_table_says(back: bool) -> None:
    allowed = BACK if back else FORTH
    for before, after in product(rules.STATES, repeat=2):
        if (before, after) in allowed:
            rules.check_move(before, after, what=WHAT, back=back)
            continue
        with pytest.raises((GenerationConflict, Busy)) as refused:
            rules.check_move(before, after, what=WHAT, back=back)
        message, hint = refused.value.message, refused.value.hint
        assert WHAT in message and before in message + str(refused.value.fields), message
        assert message.endswith(".") and hint is not None and hint.startswith("Run `grafctl vshard ")


@pytest.mark.parametrize(("before", "after"), [("open", "base_copy"), ("idle", ""), ("", "")])
def test_a_word_that_is_no_state_is_our_own_mistake(before: str, after: str) -> None:
    with pytest.raises(Internal):
        rules.check_move(before, after, what=WHAT)


@pytest.mark.parametrize(
    ("before", "after", "back", "error", "words"),
    [
        ("wal_catchup", "base_copy", False, Busy, "A migration of accounts/42 is under way, in wal_catchup."),
        ("completed", "base_copy", False, GenerationConflict, "was moved and has a way back"),
        ("idle", "wal_catchup", True, GenerationConflict, "accounts/42 has no way back: its state is idle."),
        ("idle", "cancelled", False, GenerationConflict, "accounts/42 has no migration under way"),
        ("completed", "cancelled", False, GenerationConflict, "was completed, so there is nothing left to cancel"),
        ("base_copy", "cutover", False, GenerationConflict, "cut over from wal_catchup only, and is in base_copy"),
        ("completed", "idle", True, GenerationConflict, "cannot go from completed to idle on the way back"),
    ],
)
def test_a_refusal_says_what_is_so(before: str, after: str, back: bool, error: type[GrafctlError], words: str) -> None:
    with pytest.raises(error) as refused:
        rules.check_move(before, after, what=WHAT, back=back)
    assert words in refused.value.message


def test_every_state_has_a_way_on() -> None:
    assert set(rules.NEXT) == set(rules.STATES)
    assert set().union(*rules.NEXT.values(), *rules.NEXT_BACK.values()) == set(rules.STATES)


# --- limits


def test_the_limits_nobody_chose() -> None:
    assert Limits() == (10, 50_000, 50_000)
    assert rules.checked_limits(Limits(0, 0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("place", range(3), ids=["--max-lag", "--write-pause-budget", "--lock-wait"])
@pytest.mark.parametrize("value", [-1, 2**63, 1.5, float("nan"), True, "10", None])
def test_a_limit_is_a_whole_number_from_0_on(place: int, value: object) -> None:
    fields: list[object] = [10, 50_000, 50_000]
    fields[place] = value
    with pytest.raises(Usage, match=["--max-lag", "--write-pause-budget", "--lock-wait"][place]):
        rules.checked_limits(Limits(*fields))  # type: ignore[arg-type]  # a caller of the library may pass anything


# --- the published cases of this state machine


def test_a_base_copy_at_100_of_a_source_at_200_is_not_ready() -> None:
    lag = rules.lag_of(100, 200)
    assert lag == 100
    for state in ("base_copy", "wal_catchup"):
        assert rules.may_cut_over(state, lag, 1, Limits()) is not None


def test_195_of_200_is_ready() -> None:
    assert rules.may_cut_over("wal_catchup", rules.lag_of(195, 200), 1, Limits()) is None


@pytest.mark.parametrize(("pause_us", "is_accepted"), [(500, True), (1000, True), (1001, False), (2000, False)])
def test_a_pause_is_accepted_up_to_its_budget_of_1000_us(pause_us: int, is_accepted: bool) -> None:
    reason = rules.may_cut_over("wal_catchup", 5, pause_us, Limits(budget_us=1000))
    assert (reason is None) == is_accepted
    assert is_accepted or reason == f"Writers would be paused for about {pause_us} us, and the budget is 1000 us."


@pytest.mark.parametrize("copied", [0, 10, 95, 100])
def test_bytes_up_to_the_total_are_progress(copied: int) -> None:
    assert rules.progress(copied, 100) == (copied, 100)
    assert rules.progress(copied, 100).is_done == (copied == 100)


def test_101_of_100_bytes_are_refused() -> None:
    with pytest.raises(Corrupt, match=r"accounts/42 holds 101 bytes, and there were 100"):
        rules.progress(101, 100, what=WHAT)


@pytest.mark.parametrize("state", [state for state in rules.STATES if state != "wal_catchup"])
def test_a_cut_over_from_any_other_state_is_refused(state: str) -> None:
    reason = rules.may_cut_over(state, 0, 0, Limits())
    assert reason == f"A cut-over begins from wal_catchup only, and this migration is in {state}."


# --- the cut-over


@pytest.mark.parametrize(("lag", "is_accepted"), [(-1, False), (0, True), (10, True), (11, False)])
def test_a_lag_is_accepted_up_to_its_limit(lag: int, is_accepted: bool) -> None:
    assert (rules.may_cut_over("wal_catchup", lag, 1, Limits()) is None) == is_accepted


def test_what_was_never_measured_is_no_reason_to_begin() -> None:
    assert "is not known" in str(rules.may_cut_over("wal_catchup", 0, None, Limits()))


def test_nothing_fits_a_budget_of_0() -> None:
    assert rules.may_cut_over("wal_catchup", 0, rules.estimate_us(0, None, [1], [1]), Limits(budget_us=0)) is not None


@pytest.mark.parametrize(("copied", "total"), [(-1, 5), (0, -1), (-2, -1)])
def test_less_than_no_bytes_are_our_own_mistake(copied: int, total: int) -> None:
    with pytest.raises(Internal):
        rules.progress(copied, total)


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_target_ahead_of_its_source_has_diverged(applied: int, tail: int) -> None:
    if applied <= tail:
        assert rules.lag_of(applied, tail) == tail - applied
        return
    with pytest.raises(Corrupt, match="ahead of its source") as refused:
        rules.lag_of(applied, tail, what=WHAT)
    assert WHAT in refused.value.message


# --- the estimate


@pytest.mark.parametrize(
    ("lag", "pace", "source_us", "target_us", "read_back_us", "expected"),
    [
        (0, None, [100], [70], 0, 270),  # seal, drain and flip, and nothing to replay
        (5, Pace(1000, 1_000_000), [100], [70], 0, 5270),
        (5, Pace(1000, 1_000_000), [100], [70], 30, 5300),
        (1, Pace(3, 10), [0], [0], 0, 4),  # rounded up: a budget is not passed by a part of a microsecond
        (5, None, [100], [70], 0, None),
        (5, Pace(0, 1_000_000), [100], [70], 0, None),  # applied nothing, so the pause would never end
        (0, Pace(0, 1_000_000), [100], [70], 0, 270),
        (0, None, [], [70], 0, None),
        (0, None, [100], [], 0, None),
        (0, None, [100] * 9 + [900], [70], 0, 270),  # one of ten may be slower
        (0, None, [100] * 8 + [900] * 2, [70], 0, 1870),
        (0, None, [900] * 40 + [100] * 32, [70], 0, 270),  # what was long ago does not count
    ],
)
def test_the_estimate_is_three_commits_and_the_rest_to_replay(
    lag: int, pace: Pace | None, source_us: list[int], target_us: list[int], read_back_us: int, expected: int | None
) -> None:
    assert rules.estimate_us(lag, pace, source_us, target_us, read_back_us) == expected


TIMES = st.lists(st.integers(0, 10**9), min_size=1, max_size=50)


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 10**9), TIMES, TIMES, st.integers(1, 10**6))
def test_more_to_do_is_never_estimated_as_less(
    lag: int, records: int, took_us: int, source_us: list[int], target_us: list[int], more: int
) -> None:
    pace = Pace(records, took_us)
    base = rules.estimate_us(lag, pace, source_us, target_us)
    assert base is not None and base >= 2 * min(source_us) + min(target_us)
    for other in (
        rules.estimate_us(lag + more, pace, source_us, target_us),
        rules.estimate_us(lag, pace, [time + more for time in source_us], target_us),
        rules.estimate_us(lag, pace, source_us, [time + more for time in target_us]),
        rules.estimate_us(lag, Pace(records, took_us + more), source_us, target_us),
    ):
        assert other is not None and other >= base


@given(TIMES)
def test_nine_of_ten_recent_commits_took_no_longer(times_us: list[int]) -> None:
    recent = times_us[-rules.WINDOW :]
    usual = rules.usual_us(times_us)
    assert usual in recent
    assert sum(time <= usual for time in recent) * 10 >= 9 * len(recent)


# --- whether it gets anywhere

SECOND = 1_000_000


def watched(*samples: tuple[int, int], step_us: int = SECOND, max_lag: int = 10) -> Convergence:
    """Returns what was seen when (applied, tail) was so, once a second."""
    found = Convergence(max_lag)
    for place, (applied, tail) in enumerate(samples):
        found = found.seen(Sample(applied, tail, place * step_us), what=WHAT)
    return found


def test_a_catch_up_that_outruns_the_writers() -> None:
    verdict = watched((0, 1000), (200, 1050), (400, 1100)).verdict("give-up", 60 * SECOND)
    assert verdict[:4] == ("catching_up", 200.0, 50.0, None)
    assert verdict.sentence == "The catch-up outruns the writers: 200 records/s are applied, 50 records/s written."


def test_a_catch_up_that_is_outrun_gives_up_after_its_limit_and_not_before() -> None:
    steps = [(50 * second, 1000 + 80 * second) for second in range(31)]
    assert watched(*steps[:-1]).verdict("give-up", 30 * SECOND)[:4] == ("outrun", 50.0, 80.0, None)
    verdict = watched(*steps).verdict("give-up", 30 * SECOND)
    assert verdict[:4] == ("outrun", 50.0, 80.0, "give-up")
    assert verdict.throttle_to is None
    assert verdict.sentence == (
        "The catch-up does not outrun the writers: 50 records/s are applied, 80 records/s written; "
        "the lag went from 1000 to 1900 in 30 s, so the policy give-up is carried out."
    )


def test_as_fast_as_the_writers_is_not_fast_enough() -> None:
    verdict = watched((0, 1000), (50, 1050), (100, 1100)).verdict("give-up", 60 * SECOND)
    assert verdict[:4] == ("outrun", 50.0, 50.0, None)


def test_writers_are_throttled_below_the_replay_and_no_more_than_three_times() -> None:
    found = Convergence()
    actions: list[str | None] = []
    for second in range(100):
        found = found.seen(Sample(100 * second, 1000 + 200 * second, second * SECOND))
        verdict = found.verdict("throttle", 10 * SECOND)
        if verdict.action == "throttle":
            assert verdict.throttle_to == 50.0
            found = found.with_throttle()
        actions += [verdict.action] if verdict.action else []
        if verdict.action == "give-up":
            break
    assert actions == ["throttle"] * rules.THROTTLES_MAX + ["give-up"]


def test_nobody_is_throttled_for_a_target_that_applies_nothing() -> None:
    assert watched(*[(0, 100)] * 11).verdict("throttle", 10 * SECOND).action == "give-up"


def test_nothing_is_said_before_enough_was_seen() -> None:
    assert Convergence().verdict("give-up", SECOND)[:4] == ("unknown", None, None, None)
    assert watched((0, 100), (1, 100)).verdict("give-up", 60 * SECOND)[:4] == ("unknown", None, None, None)
    same_moment = watched(*[(0, 100)] * 5, step_us=0)
    assert same_moment.verdict("give-up", 60 * SECOND).outcome == "unknown"
    assert watched((0, 100), (1, 100)).verdict("give-up", SECOND).action == "give-up", "not known for ever, either"


def test_a_small_lag_is_caught_up_and_begins_a_new_span() -> None:
    waiting = [(10 * second, 10 * second + 9) for second in range(100)]
    assert watched(*waiting).verdict("give-up", 30 * SECOND).outcome == "caught_up"
    burst = watched(*waiting, (995, 2000)).verdict("give-up", 30 * SECOND)
    assert burst.action is None, "a burst after a long wait has the whole limit to be caught up in"


def test_it_is_measured_anew_after_a_throttle() -> None:
    found = watched((0, 100), (10, 200), (20, 300)).with_throttle()
    assert found.verdict("throttle", 60 * SECOND).outcome == "unknown"
    assert Convergence().with_throttle().samples == ()


@pytest.mark.parametrize("sample", [(4, 10, 9), (5, 9, 9), (5, 10, 8), (11, 10, 9)])
def test_what_goes_back_or_is_ahead_has_diverged(sample: tuple[int, int, int]) -> None:
    found = Convergence().seen(Sample(5, 10, 9))
    with pytest.raises(Corrupt, match=WHAT):
        found.seen(Sample(*sample), what=WHAT)


def test_a_policy_that_there_is_not() -> None:
    with pytest.raises(Usage, match="--policy"):
        watched((0, 1)).verdict("for-ever", SECOND)


STEPS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=60)


@given(STEPS, st.integers(0, 10**4), st.sampled_from(rules.POLICIES))
def test_no_catch_up_goes_on_for_ever(steps: list[tuple[int, int]], behind: int, policy: str) -> None:
    """However writers and replay go, it ends, or it catches up, within as many spans as the lag can be halved."""
    found, span, applied, tail = Convergence(), 5, 0, behind
    alone = 0  # seconds since a cut-over was possible or the policy was carried out
    for second in range(400):
        more, written = steps[second % len(steps)]
        tail += written
        applied = min(tail, applied + more)
        found = found.seen(Sample(applied, tail, second * SECOND))
        verdict = found.verdict(policy, span * SECOND)
        alone += 1
        if verdict.action == "give-up":
            return
        if verdict.action == "throttle":
            found, alone = found.with_throttle(), 0
        if verdict.outcome == "caught_up":
            alone = 0
        assert alone <= span * (behind + 50 * 400).bit_length()


def test_the_window_is_bounded() -> None:
    assert len(watched(*[(place, place) for place in range(200)]).samples) == rules.WINDOW
