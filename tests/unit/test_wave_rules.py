"""The rules of waves: the order of any consumers, and who may begin, wherever each of them stands."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl.store.wave_rules import (
    BLOCKED,
    HIGH,
    IN_FLIGHT,
    LOCKED,
    LOW,
    MEDIUM,
    RISKS,
    SOAKED,
    STANDINGS,
    STUCK,
    WAITING,
    WENT_BACK,
    Member,
    Stops,
    is_high,
    next_of,
    ordered,
)

VALUES = st.one_of(st.none(), st.integers(0, 9).map(float), st.floats(0, 1e9))
MEMBERS = st.lists(
    st.builds(Member, st.text("abc", min_size=1, max_size=3), st.sampled_from("xyz"), st.sampled_from(RISKS), VALUES),
    unique_by=lambda member: member.name,
    max_size=12,
)
LIMITS = st.one_of(st.none(), st.integers(0, 9).map(float))


def names(*members: Member, high_value: float | None = None) -> list[str]:
    return [place.member.name for place in ordered(members, high_value)]


def rank(member: Member, high_value: float | None) -> int:
    return RISKS.index(member.risk) + len(RISKS) * is_high(member, high_value)


# --- the order


@given(MEMBERS, LIMITS, st.randoms(use_true_random=False))
def test_the_order_is_of_everyone_once_and_not_of_the_file(
    members: list[Member], high_value: float | None, dice: random.Random
) -> None:
    found = ordered(members, high_value)
    assert sorted(place.member for place in found) == sorted(members)
    mixed = dice.sample(members, len(members))
    assert ordered(mixed, high_value) == found


@given(MEMBERS, LIMITS)
def test_low_risk_comes_first_and_high_value_last(members: list[Member], high_value: float | None) -> None:
    ranks = [rank(place.member, high_value) for place in ordered(members, high_value)]
    assert ranks == sorted(ranks)


@given(MEMBERS, LIMITS)
def test_every_shape_of_a_risk_is_represented_before_the_second_of_any(
    members: list[Member], high_value: float | None
) -> None:
    seen: set[str] = set()
    found = [place.member for place in ordered(members, high_value)]
    for at, member in enumerate(found):
        tier = [other for other in found if rank(other, high_value) == rank(member, high_value)]
        if member.shape in seen:
            assert {other.shape for other in tier} <= seen, (member, found)
        seen.add(member.shape)
        own = [other.value for other in tier if other.shape == member.shape]
        later = [other.value for other in found[at:] if other in tier and other.shape == member.shape]
        assert len(later) < len(own) or member.value == _least(own)


def _least(values: list[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return min(numbers) if numbers else None


@given(MEMBERS, LIMITS)
def test_values_never_fall_among_those_that_represent_and_among_the_others(
    members: list[Member], high_value: float | None
) -> None:
    runs: dict[tuple[int, bool], list[float]] = {}
    for place in ordered(members, high_value):
        value = float("inf") if place.member.value is None else place.member.value
        is_first = f"the first of shape {place.member.shape}" in place.reason
        runs.setdefault((rank(place.member, high_value), is_first), []).append(value)
    assert all(values == sorted(values) for values in runs.values())


@given(MEMBERS, LIMITS)
def test_each_place_has_its_reason(members: list[Member], high_value: float | None) -> None:
    firsts: dict[str, str] = {}
    for place in ordered(members, high_value):
        name, shape, risk, _ = place.member
        assert f"{risk} risk" in place.reason
        assert place.reason.startswith("last, because") == is_high(place.member, high_value)
        who = f"the first of shape {shape}" if shape not in firsts else f"{firsts[shape]} went first for {shape}"
        assert place.reason.endswith(who)
        firsts.setdefault(shape, name)


def test_equals_of_different_shapes_take_turns() -> None:
    members = [Member(f"{shape}{number}", shape, LOW, 0.0) for shape in "xy" for number in (1, 2, 3)]
    assert names(*members) == ["x1", "y1", "x2", "y2", "x3", "y3"]


def test_a_number_is_high_only_from_the_declared_one_on() -> None:
    rich, poor = Member("rich", "x", LOW, 1e12), Member("poor", "y", HIGH, 1.0)
    assert names(rich, poor) == ["rich", "poor"]
    assert names(rich, poor, high_value=1e12) == ["poor", "rich"]
    assert names(rich._replace(value=None), poor) == ["poor", "rich"]


def test_a_shape_of_high_risk_alone_is_represented_by_its_least_valuable() -> None:
    members = [Member("b", "y", HIGH, 5.0), Member("a", "y", HIGH, 7.0), Member("c", "x", MEDIUM, 9.0)]
    assert names(*members) == ["c", "b", "a"]


# --- who may begin

ORDER = [Member(name, shape, LOW, 0.0) for name, shape in (("a", "x"), ("b", "y"), ("c", "x"), ("d", "y"))]


def stands(text: str) -> dict[str, str]:
    by_letter = {standing[0]: standing for standing in (WAITING, IN_FLIGHT, LOCKED, BLOCKED, SOAKED)} | {"r": WENT_BACK}
    return {member.name: by_letter[letter] for member, letter in zip(ORDER, text, strict=True)}


@pytest.mark.parametrize(
    ("standing", "at_once", "begin", "held", "is_over"),
    [
        ("wwww", 1, "a", "", False),
        ("wwww", 3, "abc", "", False),
        ("iwww", 1, "", "", False),
        ("iwww", 2, "b", "", False),
        ("lwww", 1, "b", "", False),
        ("bwww", 1, "b", "", False),  # one that is blocked takes no place
        ("rwww", 1, "b", "c", False),  # nobody else of its shape is begun
        ("rrww", 2, "", "cd", True),
        ("riww", 1, "", "c", False),
        ("llll", 1, "", "", True),
        ("lbrl", 1, "", "", True),
        ("swww", 2, "b", "", False),  # one that a person is to lock keeps its place
        ("siww", 2, "", "", False),
        ("slww", 1, "", "cd", True),
    ],
)
def test_who_begins(standing: str, at_once: int, begin: str, held: str, is_over: bool) -> None:
    found = next_of(ORDER, stands(standing), at_once, Stops())
    assert ("".join(found.begin), "".join(found.held), found.is_over) == (begin, held, is_over)
    assert found.halted is None


def test_a_shape_that_went_back_is_named_and_may_be_left_out_of_the_rules() -> None:
    assert next_of(ORDER, stands("rwww"), 1, Stops()).held == {"c": "a of the same shape went back"}
    assert next_of(ORDER, stands("rwww"), 2, Stops(same_shape=False)).begin == ("b", "c")


def test_who_waits_for_a_person_says_so() -> None:
    assert next_of(ORDER, stands("sswl"), 2, Stops()).held == {
        "c": "there is no place before somebody locks or brings back a, b"
    }


def test_a_halted_wave_begins_nobody_and_waits_for_those_in_flight() -> None:
    found = next_of(ORDER, stands("riww"), 4, Stops(after_rollbacks=1))
    assert found.begin == () and set(found.held) == {"c", "d"} and not found.is_over
    assert found.halted == "a went back, and 1 is enough"
    assert found.held["d"] == "the wave is halted: a went back, and 1 is enough"
    assert next_of(ORDER, stands("rlww"), 4, Stops(after_rollbacks=1)).is_over
    assert next_of(ORDER, stands("bbww"), 4, Stops(after_blocked=2)).halted == (
        "a, b did not pass the comparison, and 2 are enough"
    )
    assert next_of(ORDER, stands("brww"), 4, Stops(after_blocked=2, after_rollbacks=2)).halted is None


STANDS = st.lists(st.sampled_from(STANDINGS), min_size=12, max_size=12)
STOPS = st.builds(
    Stops, st.one_of(st.none(), st.integers(1, 4)), st.one_of(st.none(), st.integers(1, 4)), st.booleans()
)


@given(MEMBERS, STANDS, st.integers(1, 4), STOPS)
def test_a_wave_never_has_more_in_flight_and_never_stands_still(
    members: list[Member], stand: list[str], at_once: int, stops: Stops
) -> None:
    order = [place.member for place in ordered(members)]
    standings = {member.name: standing for member, standing in zip(order, stand, strict=False)}
    found = next_of(order, standings, at_once, stops)
    in_flight = list(standings.values()).count(IN_FLIGHT)
    places = in_flight + sum(standing in (SOAKED, STUCK) for standing in standings.values())
    assert not found.begin or places + len(found.begin) <= at_once
    assert all(standings[name] == WAITING for name in (*found.begin, *found.held))
    assert not set(found.begin) & set(found.held)
    assert found.is_over == (not in_flight and not found.begin)
    assert not (found.halted and found.begin)
    waiting = [member.name for member in order if standings[member.name] == WAITING and member.name not in found.held]
    assert list(found.begin) == waiting[: len(found.begin)], "somebody was passed over"
    assert not found.is_over or not waiting, "somebody waits for ever"
