"""Leases on segments as entries of the control log: one holder at a time, whatever is asked for in whatever order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.errors import Busy, Fenced, GenerationConflict, GrafctlError, NotFound
from grafctl.store import segment_rules as rules
from grafctl.store.resources.segments import (
    AcquireSegment,
    Leased,
    ReleaseSegment,
    RenewSegment,
    RevokeSegment,
    lease_row,
)
from resources.rows import Rows

TERM = 1_000


def acquire(rows: Rows, owner: str = "me", segment: str = "s.1", **more: Any) -> Leased:
    fields: dict[str, Any] = {"domain": "aws", "kind": "memory", "bytes": 4096, "term_ms": TERM} | more
    leased: Leased = rows.run(AcquireSegment("s", owner=owner, segment=segment, **fields))
    assert leased.row == lease_row(rows, "s"), "the answer is not what was kept"
    return leased


@pytest.fixture
def rows() -> Rows:
    made = Rows()
    made.start()
    return made


def test_a_lease_is_granted_once_and_asked_for_again_it_is_the_same(rows: Rows) -> None:
    first = acquire(rows)
    assert (first.changed, first.row["generation"], first.row["token"]) == (True, 1, 1)
    again = acquire(rows, segment="s.2")
    assert (again.changed, again.row) == (False, first.row)
    with pytest.raises(GenerationConflict, match="another definition"):
        acquire(rows, bytes=8192)


def test_nobody_else_gets_it_before_the_deadline_and_anybody_at_it(rows: Rows) -> None:
    first = acquire(rows)
    rows.now_ms = first.row["until_ms"] - 1
    with pytest.raises(Busy) as refused:
        acquire(rows, "you")
    assert refused.value.fields["owner"] == "me"
    rows.now_ms += 1
    taken = acquire(rows, "you", "s.2", kind="block")
    assert (taken.changed, taken.row["generation"]) == (True, 2) and taken.row["token"] > first.row["token"]
    for late in (RenewSegment("s", 1), ReleaseSegment("s", 1)):
        with pytest.raises(Fenced) as fenced:
            rows.run(late)
        assert (fenced.value.fields["current"], fenced.value.fields["recoverable"]) == (taken.row["token"], False)


def test_a_lease_that_has_expired_is_not_renewed(rows: Rows) -> None:
    acquire(rows)
    rows.now_ms += TERM
    with pytest.raises(GenerationConflict) as refused:
        rows.run(RenewSegment("s", 1))
    assert (refused.value.fields["state"], refused.value.fields["recoverable"]) == ("expired", True)
    assert acquire(rows, segment="s.2").row["generation"] == 2, "its own holder takes it anew as well"


def test_a_renewal_that_is_not_due_changes_nothing(rows: Rows) -> None:
    row = acquire(rows).row
    rows.now_ms = rules.due_ms(row) - 1
    assert not rows.run(RenewSegment("s", 1, True)).changed
    rows.now_ms += 1
    renewed = rows.run(RenewSegment("s", 1, True))
    assert renewed.changed and renewed.row["until_ms"] == rows.now_ms + TERM
    rows.now_ms -= 500
    assert not rows.run(RenewSegment("s", 1)).changed, "a clock that went back shortens nothing"


def test_a_lost_segment_is_replaced_by_its_holder_only(rows: Rows) -> None:
    acquire(rows)
    with pytest.raises(Busy):
        acquire(rows, "you", "s.2", replace=1)
    moved = acquire(rows, segment="s.3", replace=1, domain="gcp", bytes=8192)
    assert (moved.changed, moved.row["generation"], moved.row["domain"]) == (True, 2, "gcp")
    again = acquire(rows, segment="s.4", replace=1, domain="gcp", bytes=8192)
    assert (again.changed, again.row) == (False, moved.row)
    with pytest.raises(Fenced):
        acquire(rows, segment="s.5", replace=1, domain="gcp", bytes=4096)
    with pytest.raises(NotFound):
        rows.run(AcquireSegment("t", "aws", "memory", 4096, "me", TERM, "t.1", 1))


def test_a_revoked_lease_is_used_up_to_the_end_of_its_grace(rows: Rows) -> None:
    acquire(rows)
    revoked = rows.run(RevokeSegment("s", 5 * TERM))
    gone_ms = revoked.row["gone_ms"]
    assert revoked.changed and not rows.run(RevokeSegment("s", 6 * TERM)).changed, "a grace is not made longer"
    for _ in range(7):
        rows.now_ms = min(rows.now_ms + TERM - 1, gone_ms - 1)
        assert rows.run(RenewSegment("s", 1)).row["until_ms"] <= gone_ms
    with pytest.raises(Fenced, match="being revoked"):
        acquire(rows, segment="s.2")
    rows.now_ms = gone_ms
    for late in (RenewSegment("s", 1), AcquireSegment("s", "aws", "memory", 4096, "you", TERM, "s.2")):
        with pytest.raises(Fenced) as refused:
            rows.run(late)
        assert (refused.value.fields["state"], refused.value.fields["recoverable"]) == ("revoked", False)
    assert not rows.run(ReleaseSegment("s", 1)).changed


@pytest.mark.parametrize("how", ["released", "expired", "in the grace", "at once"])
def test_a_name_that_was_revoked_is_never_leased_again(rows: Rows, how: str) -> None:
    acquire(rows)
    if how == "released":
        assert rows.run(ReleaseSegment("s", 1)).row["state"] == "released"
        assert not rows.run(ReleaseSegment("s", 1)).changed
    rows.now_ms += TERM if how == "expired" else 0
    rows.run(RevokeSegment("s", 0 if how == "at once" else 10))
    if how == "in the grace":
        assert rows.run(ReleaseSegment("s", 1)).row["state"] == "revoked", "what is given back early is over early"
    assert rules.judged(lease_row(rows, "s"), rows.now_ms) == "revoked"
    rows.now_ms += 10**9
    with pytest.raises(Fenced, match="was revoked"):
        acquire(rows, segment="s.2")


def test_a_lease_that_is_not_there_is_not_found(rows: Rows) -> None:
    for request in (RenewSegment("s", 1), ReleaseSegment("s", 1), RevokeSegment("s", 1)):
        with pytest.raises(NotFound):
            rows.run(request)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["acquire", "replace", "renew", "release", "revoke", "wait"]),
        st.sampled_from(["me", "you", "them"]),
        st.integers(0, 1_500),
    ),
    max_size=25,
)


@given(STEPS)
def test_never_do_two_hold_it_and_no_state_changes_against_the_table(steps: list[tuple[str, str, int]]) -> None:
    rows = Rows()
    rows.start()
    held: dict[str, int] = {}  # owner -> the token that it was given last
    seen: dict[int, str] = {}  # token -> the state that was seen last
    for what, owner, number in steps:
        token = held.get(owner, 0)
        request: Any = {
            "acquire": AcquireSegment("s", "aws", "memory", 4096, owner, TERM, f"s.{owner}"),
            "replace": AcquireSegment("s", "aws", "memory", 4096, owner, TERM, f"s.{owner}", token),
            "renew": RenewSegment("s", token),
            "release": ReleaseSegment("s", token),
            "revoke": RevokeSegment("s", number),
        }.get(what)
        rows.now_ms += number if what == "wait" else 0
        try:
            given = rows.run(request) if request is not None else None
        except (Busy, Fenced, GenerationConflict, NotFound) as refused:
            assert isinstance(refused, GrafctlError)
            given = None
        if given is not None and what in ("acquire", "replace"):
            assert given.row["owner"] == owner
            held[owner] = given.row["token"]
        try:
            row = lease_row(rows, "s")
        except NotFound:
            continue
        usable = [name for name, mine in held.items() if rules.judged(row, rows.now_ms, token=mine) in rules.USABLE]
        assert len(usable) <= 1 and all(name == row["owner"] for name in usable)
        assert row["token"] >= max(seen, default=0)
        for mine in {*seen, row["token"]}:
            after = rules.judged(row, rows.now_ms, token=mine)
            assert may_become(seen.get(mine, after), after), f"{seen[mine]} to {after} by {what}"
            seen[mine] = after


def may_become(before: str, after: str) -> bool:
    """Returns whether the table leads from one state to the other; several steps may lie between two looks."""
    found, frontier = {before}, {before}
    while frontier:
        frontier = {state for known in frontier for state in rules.NEXT[known]} - found
        found |= frontier
    return after in found
