"""A group that reads a table through a switch, at the command line: what it is given, and what the status shows."""

from __future__ import annotations

import json

import pytest
from conftest import Ended, Runner

AT = ("-d", "aws")


@pytest.fixture
def on(run: Runner) -> Runner:
    """A store with two tables, and a group that reads them through a switch whose window is over at once."""
    run("init", "store", "-d", "aws", "-d", "gcp")
    for name in ("old", "new"):
        run("table", "create", name, "--replica", "a=aws", "--replica", "g=gcp", "--allow", "aws", "--vshards", 4,
            store="store")  # fmt: skip
        rows = [json.dumps({"key": f"k{number}", "value": "x"}) for number in range(3)]
        run("table", "load", name, "-", "-q", *AT, store="store", input="\n".join(rows))
    run("consumer", "attach", "s", "--source", "old", "--target", "new", "--group", "reports", "--window", "0",
        store="store")  # fmt: skip
    return run


def read(run: Runner, verb: str, *words: object, check: int = 0) -> Ended:
    return run("table", verb, "old", *words, *AT, "--group", "reports", store="store", check=check)


def test_what_is_read_says_of_which_table_it_is(on: Runner) -> None:
    assert read(on, "get", "k1").out == "k1\t1\tx\n"
    assert read(on, "get", "k1", "--json").json["resource"] == "old"
    on("consumer", "switch", "s", "--to", "target", *AT, store="store")
    assert read(on, "get", "k1", "--json").json["resource"] == "new"
    for verb in ("scan", "get"):
        words = ("k0", "k1", "k2") if verb == "get" else ()
        lines = [json.loads(line) for line in read(on, verb, *words, "-o", "jsonl").out.splitlines()]
        assert [line["resource"] for line in lines] == ["new"] * 3
        assert list(lines[0]) == ["key", "value", "version", "vshard", "resource"]
    assert read(on, "get", "k1", "--raw").out == "x"
    assert read(on, "export").out.count("\n") == 3
    assert read(on, "export", "rows.csv").out == "3 rows of new in rows.csv\n"
    told = read(on, "export", "rows.csv", "--json").json
    assert (told["table"], told["resource"], told["rows"]) == ("old", "new", 3)
    unrouted = on("table", "scan", "old", *AT, "-o", "jsonl", store="store").out
    assert "resource" not in unrouted, "who names no group reads what he names"


def test_the_status_fits_a_terminal_and_says_who_reads_what(on: Runner) -> None:
    before = on("consumer", "status", store="store").out.splitlines()
    assert before[0].split() == ["SWITCH", "STATE", "READS", "GENERATION", "WINDOW", "LEFT"]
    assert before[1].split()[:5] == ["s", "source", "reports", "of", "old"]
    on("consumer", "switch", "s", "--to", "target", *AT, store="store")
    (after,) = on("consumer", "status", store="store").out.splitlines()[1:]
    assert after.split()[:5] == ["s", "soaking", "reports", "of", "new"] and after.endswith("0 ms")
    shown = on("consumer", "status", "s", store="store").out
    assert "see `consumer report`" in shown and "target  " in shown and "writes 3" in shown
    assert not [line for line in shown.splitlines() if len(line) > 110]
    on("consumer", "lock", "s", "--yes", *AT, store="store")
    assert on("consumer", "status", store="store").out.splitlines()[1].split()[-1] == "-", "no window is left to pass"


def test_what_nobody_knows_since_when_it_differs_is_told_as_such(on: Runner) -> None:
    on("table", "put", "new", "k1", "wrong", *AT, store="store")
    found = on("consumer", "compare", "s", "--exit-code", *AT, store="store", check=3)
    assert "1 waiting. That is not all.\nOf those that wait 1 differ" in found.out
    assert "may differ, and are not proved equal yet" in found.err
    refused = on("consumer", "switch", "s", "--to", "target", "--json", *AT, store="store", check=22)
    told = json.loads(refused.err)
    assert (told["undated"], told["grace_ms"], told["retryable"]) == (1, 60_000, True)


def test_a_key_that_is_not_there_and_a_group_that_is_no_name(on: Runner) -> None:
    assert "What group reports reads of old has no key 'nothing'" in read(on, "get", "nothing", check=10).err
    for group in ("", "a/b", "x" * 300, "\x1b[31m"):
        ended = on("table", "get", "old", "k1", *AT, "--group", group, store="store", check=2)
        assert "group" in ended.err.lower() and "\x1b[31m" not in ended.err


def test_the_choices_of_an_option_that_is_missing_are_a_sentence(on: Runner) -> None:
    ended = on("consumer", "switch", "s", *AT, store="store", check=2)
    assert "Missing option '--to'. Choose from: target, source\n" in ended.err


def test_after_detach_at_the_target_it_is_told_what_to_read(on: Runner) -> None:
    on("consumer", "switch", "s", "--to", "target", *AT, store="store")
    on("consumer", "lock", "s", "--yes", *AT, store="store")
    on("consumer", "detach", "s", "--yes", store="store")
    for verb, words in (("get", ("k1",)), ("scan", ()), ("export", ())):
        refused = read(on, verb, *words, check=14)
        assert "moved to new" in refused.err and "Read new instead" in refused.err and not refused.out
    assert on("consumer", "status", store="store").out == "No switches.\n"
