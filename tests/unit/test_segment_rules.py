"""The rules of leases on segments, against tables that are written out, and the edges of each time."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.errors import Fenced, GenerationConflict, Internal, Usage
from grafctl.store import segment_rules as rules

MOVES = {
    ("held", "released"),
    ("held", "expired"),
    ("held", "disconnected"),
    ("held", "revoking"),
    ("held", "fenced"),
    ("disconnected", "held"),
    ("disconnected", "released"),
    ("disconnected", "expired"),
    ("disconnected", "revoking"),
    ("disconnected", "fenced"),
    ("expired", "released"),
    ("expired", "revoked"),
    ("expired", "fenced"),
    ("released", "revoked"),
    ("released", "fenced"),
    ("revoking", "revoked"),
}


def a_row(**fields: Any) -> dict[str, Any]:
    return {"state": "held", "token": 7, "until_ms": 1_000, "term_ms": 400, "gone_ms": None} | fields


def test_a_state_follows_another_only_as_the_table_says() -> None:
    for before, after in product(rules.STATES, repeat=2):
        if (before, after) in MOVES:
            rules.check_move(before, after, what="x")
        else:
            with pytest.raises(Internal, match=f"from {before} to {after}"):
                rules.check_move(before, after, what="x")
    with pytest.raises(Internal):
        rules.check_move("held", "lent", what="x")


@pytest.mark.parametrize(
    ("fields", "now_ms", "asked", "state"),
    [
        ({}, 999, {}, "held"),
        ({}, 1_000, {}, "expired"),
        ({}, 999, {"is_there": False}, "disconnected"),
        ({}, 1_000, {"is_there": False}, "expired"),
        ({}, 999, {"token": 7}, "held"),
        ({}, 999, {"token": 6}, "fenced"),
        ({}, 999, {"token": 8}, "fenced"),
        ({"state": "revoking", "gone_ms": 900}, 899, {}, "revoking"),
        ({"state": "revoking", "gone_ms": 900}, 900, {}, "revoked"),
        ({"state": "revoking", "gone_ms": 2_000}, 999, {}, "revoking"),
        ({"state": "revoking", "gone_ms": 2_000}, 1_000, {}, "revoked"),
        ({"state": "revoking", "gone_ms": 900}, 1, {"is_there": False}, "revoked"),
        ({"state": "revoked", "gone_ms": 900}, 1, {}, "revoked"),
        ({"state": "released"}, 1, {"is_there": False}, "released"),
        ({"state": "released"}, 1, {"token": 6}, "fenced"),
    ],
)
def test_a_state_is_judged_by_deadlines_token_and_segment(
    fields: dict[str, Any], now_ms: int, asked: dict[str, Any], state: str
) -> None:
    assert rules.judged(a_row(**fields), now_ms, **asked) == state


def test_only_some_states_are_kept_and_every_other_is_judged() -> None:
    assert {"held", "released", "revoking", "revoked"} == rules.STORED
    assert {"held", "revoking"} == rules.USABLE
    assert {"released", "expired", "disconnected"} == rules.RECOVERABLE


@given(st.integers(0, 2**63), st.integers(rules.TERM_MS_MIN, rules.TERM_MS_MAX))
def test_a_renewal_is_due_at_three_quarters_or_up_to_a_twentieth_earlier(token: int, term_ms: int) -> None:
    row = a_row(token=token, term_ms=term_ms, until_ms=term_ms)
    assert term_ms * 70 // 100 <= rules.due_ms(row) <= term_ms * 75 // 100
    assert rules.due_ms(row) == rules.due_ms(dict(row))


def test_holders_who_began_together_do_not_renew_together() -> None:
    due = {rules.due_ms(a_row(token=token, term_ms=100_000, until_ms=100_000)) for token in range(100)}
    assert len(due) > 90 and max(due) - min(due) > 4_000


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**6), st.none() | st.integers(0, 10**6))
def test_a_renewal_never_shortens_nor_passes_the_grace(now_ms: int, until_ms: int, term_ms: int, gone: Any) -> None:
    row = a_row(until_ms=until_ms, term_ms=term_ms, gone_ms=gone)
    found = rules.renewed_until_ms(row, now_ms)
    assert found >= until_ms
    assert found in (until_ms, now_ms + term_ms, gone)
    assert gone is None or found <= max(gone, until_ms)


@pytest.mark.parametrize(
    ("state", "kind", "recoverable"),
    [
        ("released", GenerationConflict, True),
        ("expired", GenerationConflict, True),
        ("disconnected", GenerationConflict, True),
        ("revoking", Fenced, False),
        ("revoked", Fenced, False),
        ("fenced", Fenced, False),
    ],
)
def test_a_refusal_says_whether_relocation_helps(state: str, kind: type[Exception], recoverable: bool) -> None:
    error = rules.refusal("parsed", state, token=3, current=7)
    assert type(error) is kind
    assert (error.fields["state"], error.fields["recoverable"]) == (state, recoverable)
    assert ("A new lease helps" in str(error.hint)) is recoverable
    assert ("A new lease does not help" in str(error.hint)) is not recoverable
    assert "grafctl " in str(error.hint)


@pytest.mark.parametrize("size", [-1, 0, 4095, 2**36 + 1, 2**63, True, 4096.0, "4096"])
def test_a_size_is_in_its_range(size: Any) -> None:
    with pytest.raises((Usage, ValueError)):
        rules.check_bytes(size)


def test_what_is_asked_for_is_checked_at_both_ends() -> None:
    assert [rules.check_bytes(size) for size in (4096, 2**36)] == [4096, 2**36]
    assert [rules.check_term(term) for term in (100, 7 * 86_400_000)] == [100, 604_800_000]
    assert [rules.check_grace(grace) for grace in (0, 7 * 86_400_000)] == [0, 604_800_000]
    for check, values in ((rules.check_term, (99, 604_800_001, True)), (rules.check_grace, (-1, 604_800_001, True))):
        for value in values:
            with pytest.raises(Usage):
                check(value)
    assert rules.check_kind("block") == "block" and rules.check_owner("é" * 256)
    for owner in ("", "a" * 257, "a\nb", "\x1b[31m", "\udcff"):
        with pytest.raises(Usage):
            rules.check_owner(owner)
    with pytest.raises(Usage, match="no kind of segment"):
        rules.check_kind("disk")
