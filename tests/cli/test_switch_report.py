"""A consumer on its way to a new engine, at the command line: what the comparison, the soak and the report say, and
that a kill in the middle of a comparison changes nothing."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from conftest import Ended, Runner

AT = ("-d", "aws")
MADE = ("--schema", "order.v1", "--replica", "a=aws", "--replica", "g=gcp", "--allow", "aws")
TIED = ("--source", "old", "--target", "new", "--group", "billing")
COUNT = 1_100
BUG = (7, 1_000)  # orders of which the new engine writes a wrong amount


@pytest.fixture
def on(run: Runner) -> Runner:
    """A store with two outputs of orders, and a consumer that is tied to both."""
    run("init", "store", "-d", "aws", "-d", "gcp")
    for name in ("old", "new"):
        run("queue", "create", name, *MADE, store="store")
        run("consumer", "create", name, "billing", "--allow", "aws", store="store")
    for name, more in (("old", 0.0), ("new", 0.004)):
        lines = (json.dumps({"payload": order(number, more, name == "new")}) for number in range(COUNT))
        run("publish", name, "-", "--input", "jsonl", "-q", *AT, store="store", input="\n".join(lines))
    ways = ("--match", "json:order", "--field", "order", "--field", "amount~0.01", "--max-redeliveries", "1")
    run("consumer", "attach", "billing", *TIED, *ways, store="store")
    return run


def order(number: int, more: float, is_new: bool) -> str:
    wrong = 5 if is_new and number in BUG else 0
    return json.dumps({"order": number, "amount": round(number + more + wrong, 3), "by": "new" if is_new else "old"})


def consumer(run: Runner, verb: str, *words: object, check: int | None = 0, **more: Any) -> Ended:
    return run("consumer", verb, "billing", *words, store="store", check=check, **more)


def compared(run: Runner) -> dict[str, Any]:
    found: dict[str, Any] = consumer(run, "report", "--json").json["compared"]
    return {name: found[name] for name in ("matched", "different", "missing", "extra", "waiting", "mismatches")}


def test_the_records_that_the_bug_made_are_named_and_a_regression_takes_the_consumer_back(on: Runner) -> None:
    assert "were not compared yet" in consumer(on, "report").out
    differ = {"matched": COUNT - 2, "different": 2, "missing": 0, "extra": 0, "waiting": 0, "mismatches": 2}
    for point in ("comparing.fed:2", "comparing.kept:1"):  # nothing is kept yet, and all is
        env = {"GRAFCTL_KILL_AT": point}
        assert consumer(on, "compare", *AT, "-q", check=None, env=env).code == -signal.SIGKILL
    assert compared(on) == differ
    said = consumer(on, "switch", "--to", "target", *AT, "--json", check=19)
    assert (said.error["mismatches"], said.error["switch"]) == (2, "billing")
    assert compared(on) == differ

    told = consumer(on, "report")
    assert "Switch billing is shadow: group billing of old is the consumer's (generation" in told.out
    assert f"{COUNT - 2:,} matched, 2 different. 2 mismatches." in told.out
    found = [row.split() for row in told.out.splitlines() if row.split()[:1] == ["different"]]
    assert [row[1:] for row in found] == [
        ["7", "7", "7", "amount", "7", "12.004"],
        ["1000", "1000", "1000", "amount", "1000", "1005.004"],
    ]
    body = consumer(on, "report", "--json").json
    assert [(sample["match_key"], sample["field"]) for sample in body["samples"]] == [(str(n), "amount") for n in BUG]

    consumer(on, "switch", "--to", "target", "--compare-from", "now", *AT)
    assert "0 deliveries were not the first; at most 1 may be." in consumer(on, "soak", *AT).out
    for _ in range(2):
        given = on("poll", "old", "--group", "billing", "--max", 2, "--json", *AT, store="store").json
        assert given["resource"] == "new"
        offsets = [record["offset"] for record in given["records"]]
        on("nack", "new", *offsets, "--group", "billing", *AT, store="store")
    said = consumer(on, "soak", *AT, "--json", check=19)
    sentence = "2 deliveries were not the first; more than 1 is a regression."
    assert said.error["message"] == f"The consumer of switch billing was taken back to old: {sentence}"
    assert (said.error["reason"], said.error["state"]) == ("regression", "rolled_back")
    told = consumer(on, "report")
    assert "Switch billing is rolled_back: group billing of old" in told.out
    assert f"regression: {sentence}" in told.out
    again = on("poll", "old", "--group", "billing", "--max", 1, "--json", *AT, store="store").json
    assert (again["resource"], again["records"][0]["offset"]) == ("old", 0)
