"""The rules of a soak: each at its limit and one beyond it, with the sentence that an operator reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from grafctl.store.switch_health import ATTEMPTS_MIN, Numbers, Verdict, begun, broken, judged

BASE = Numbers(lag=5, finished=100, redelivered=7, dead=2, mismatches=0)
NOW = 1_000_000

AT_AND_BEYOND: list[tuple[dict[str, Any], dict[str, int], dict[str, int], str]] = [
    ({"max_lag": 10}, {"lag": 10}, {"lag": 11}, "11 records are not finished yet; more than 10 is a regression."),
    (
        {"max_redeliveries": 1},
        {"redelivered": 8},
        {"redelivered": 9},
        "2 deliveries were not the first; more than 1 is a regression.",
    ),
    ({"max_dead_letters": 0}, {"dead": 2}, {"dead": 3}, "1 record is a dead letter now; more than 0 is a regression."),
    (
        {"max_error_rate": 0.1},
        {"finished": 109, "redelivered": 8},
        {"finished": 109, "redelivered": 8, "dead": 3},
        "2 of 11 attempts failed, 18.18 %; more than 10 % is a regression.",
    ),
    ({}, {}, {"mismatches": 1}, "1 mismatch of the two outputs since it was switched; more than 0 is a regression."),
    (
        {"max_mismatches": 1},
        {"mismatches": 1},
        {"mismatches": 2},
        "2 mismatches of the two outputs since it was switched; more than 1 is a regression.",
    ),
]


@pytest.mark.parametrize(("rules", "at", "beyond", "sentence"), AT_AND_BEYOND)
def test_a_limit_may_be_reached_and_not_passed(
    rules: dict[str, Any], at: dict[str, int], beyond: dict[str, int], sentence: str
) -> None:
    soak = begun(BASE, NOW)
    _, fine = judged(rules, soak, BASE._replace(**at), NOW + 1)
    assert fine and not broken(fine)
    (found,) = broken(judged(rules, soak, BASE._replace(**beyond), NOW + 1)[1])
    assert found.sentence == sentence and found.number > found.limit


def test_it_is_idle_only_while_there_is_something_to_do_and_nothing_is_finished() -> None:
    rules = {"max_idle_ms": 100}
    soak = begun(BASE, NOW)
    soak, checks = judged(rules, soak, BASE, NOW + 100)
    assert not broken(checks)
    (found,) = broken(judged(rules, soak, BASE, NOW + 101)[1])
    assert found.sentence == (
        "Nothing was finished for 101 ms while 5 records are waiting; more than 100 ms is a regression."
    )
    soak, checks = judged(rules, soak, BASE._replace(lag=0), NOW + 10_000)
    assert checks[0].sentence == "Nothing was finished for 0 ms and none is waiting; at most 100 ms may be."
    assert not broken(judged(rules, soak, BASE, NOW + 10_100)[1])
    assert broken(judged(rules, soak, BASE, NOW + 10_101)[1])


@pytest.mark.parametrize("looks", [(), (150,), (150, 300, 499)])
@pytest.mark.parametrize(("field", "other"), [("finished_ms", "waiting_ms"), ("waiting_ms", "finished_ms")])
def test_how_long_it_is_idle_does_not_depend_on_who_looked_before(
    looks: tuple[int, ...], field: str, other: str
) -> None:
    """It counts from the last ack or, where nothing had been waiting, from when the first record came that waits."""
    soak, limit = begun(BASE, NOW), {"max_idle_ms": 100}
    for at in looks:
        soak, _ = judged(limit, soak, BASE, NOW + at)
    numbers = BASE._replace(finished=101, **{field: NOW + 500, other: NOW + 20})
    assert judged(limit, soak, numbers, NOW + 600)[0]["numbers"]["idle_ms"] == 100
    (found,) = broken(judged(limit, soak, numbers, NOW + 601)[1])
    assert found.number == 101
    assert judged(limit, soak, numbers, NOW + 400)[0]["numbers"]["idle_ms"] == 0, "the log's clock is ahead"


def test_few_attempts_are_no_rate() -> None:
    rules, soak = {"max_error_rate": 0}, begun(BASE, NOW)
    few = BASE._replace(redelivered=BASE.redelivered + ATTEMPTS_MIN - 1)
    _, checks = judged(rules, soak, few, NOW)
    assert not broken(checks) and "9 of 9 attempts failed, too few to judge" in checks[0].sentence
    assert broken(judged(rules, soak, few._replace(finished=101), NOW)[1])


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (Verdict(3, "p99 is 4 s"), "The health command ended with 3: p99 is 4 s"),
        (Verdict(1, ""), "The health command ended with 1."),
        (Verdict(None, ""), "The health command did not end in time."),
        (Verdict(0, "fine"), None),
    ],
)
def test_a_command_has_its_say(verdict: Verdict, sentence: str | None) -> None:
    _, checks = judged({"health_command": "check"}, begun(BASE, NOW), BASE, NOW, verdict)
    assert [check.sentence for check in broken(checks)] == ([] if sentence is None else [sentence])


def test_what_is_kept_is_json_and_a_redrive_is_no_merit() -> None:
    rules = {"max_dead_letters": 0, "max_lag": 1_000_000_000}
    soak, checks = judged(rules, begun(BASE, NOW), BASE._replace(dead=0), NOW)
    assert json.loads(json.dumps(soak)) == soak and soak["numbers"]["dead"] == 0 and not broken(checks)
    assert [check["rule"] for check in soak["checks"]] == ["max_lag", "max_dead_letters", "max_mismatches"]
    assert json.loads(json.dumps(begun(BASE, NOW)))["base"]["redelivered"] == 7
