"""Idempotency stores among real processes: many at once for one key, and holders that are killed at each step."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from conftest import Runner

from grafctl.clock import OFFSET_VARIABLE

DOMAINS, RACERS = ("aws", "gcp"), 8
LATER = {OFFSET_VARIABLE: "60000"}  # every lease of 30 s is over
STEPS = ["append.before:1", "append.after:1", "driver.commit.after:1", "append.committed:1"]


@pytest.fixture
def store(run: Runner) -> Runner:
    run("init", "store", "-d", "aws", "-d", "gcp")
    run("idem", "create", "c", "--replica", "a=aws", "--replica", "g=gcp", "--allow", "**", store="store")
    return run


def reserving(domain: str, payload: str = "42") -> list[str]:
    return ["idem", "reserve", "c", "k", "--stage", "s", "--payload", payload, "-d", domain, "--json"]


def completing(token: int, result: str, domain: str = "aws") -> list[str]:
    return ["idem", "complete", "c", "k", "--stage", "s", "--token", str(token), "--result", result, "-d", domain]


def test_of_many_at_once_one_gets_the_key(store: Runner) -> None:
    racers = [store.start(*reserving(DOMAINS[number % 2]), store="store") for number in range(RACERS)]
    ended = [(racer.communicate(timeout=120)[0], racer.returncode) for racer in racers]
    assert Counter(code for _, code in ended) == {0: 1, 22: RACERS - 1}
    (won,) = [json.loads(out) for out, code in ended if code == 0]
    assert store("idem", "show", "c", "k", "--stage", "s", "--json", store="store").json["token"] == won["token"]
    finishers = [store.start(*completing(won["token"], f"r{number}"), store="store") for number in range(RACERS)]
    codes = Counter((finisher.communicate(timeout=120), finisher.returncode)[1] for finisher in finishers)
    assert codes == {0: 1, 16: RACERS - 1}, "the first result stands"
    assert store("verify", "--exit-code", store="store").code == 0


@pytest.mark.parametrize("step", STEPS)
def test_a_holder_that_is_killed_is_followed_by_another(store: Runner, step: str) -> None:
    store(*reserving("aws"), store="store", env={"GRAFCTL_KILL_AT": step}, check=-9)
    tried = store(*reserving("gcp"), store="store", check=None)  # what was appended before the kill is committed now
    assert tried.code in (0, 22) and (tried.code == 22) == (step != STEPS[0])
    store(*reserving("gcp", "43"), store="store", check=16)
    held = store("idem", "show", "c", "k", "--stage", "s", "--json", store="store").json
    taken = store(*reserving("gcp"), store="store", env=LATER).json
    assert taken["taken_over"] and taken["state"] == "reserved"
    store(*completing(held["token"], "late"), store="store", env=LATER, check=14)
    store(*completing(taken["token"], "done"), store="store", env=LATER | {"GRAFCTL_KILL_AT": step}, check=-9)
    store(*completing(taken["token"], "done"), store="store", env=LATER)
    again = store(*reserving("aws"), store="store", env=LATER).json
    assert (again["state"], again["result"]) == ("completed", "done")
    assert store("verify", "--exit-code", store="store").code == 0
