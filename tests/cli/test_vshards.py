"""`vshard`: what its commands print and refuse, what a failed cut-over leaves, and what is shown meanwhile."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import Ended, Runner

from cli.test_completion import complete
from grafctl import clock, render, render_moving_text
from grafctl.errors import PauseBudgetExceeded
from grafctl.render_moving import Moving
from grafctl.render_moving_text import OnItsWay, screen_lines, size_text, time_text
from grafctl.results import Migrated

WIDE = ("--write-pause-budget", "30s", "--lock-wait", "30s", "-q")


@pytest.fixture
def store(run: Runner) -> Path:
    run("init", "store", *(word for name in ("aws", "gcp", "azure", "oci") for word in ("-d", name)))
    run("authority", "keygen", "watch")
    run("authority", "add", "watch", "--public-key", "watch.pub", store="store")
    run("health", "observe", "azure", "healthy", "--authority", "watch", "--key-file", "watch.key", store="store")
    places = "--replica a=aws --replica g=gcp --allow aws --allow gcp --allow azure --vshards 4"
    run("table", "create", "t", *places.split(), store="store")
    rows = "".join(json.dumps({"key": f"k{key}", "value": f"value {key}"}) + "\n" for key in range(400))
    run("table", "load", "t", "-", "-d", "aws", store="store", input=rows)
    return run.cwd / "store"


def vshard(run: Runner, verb: str, *words: object, check: int = 0, **more: Any) -> Ended:
    return run("vshard", verb, "t", *words, "-d", "aws", store="store", check=check, **more)


def state_of(run: Runner, number: int) -> str:
    return str(run("vshard", "show", "t", number, "--json", store="store").json["state"])


# --- a life


def test_a_vshard_goes_there_and_back_and_says_so(run: Runner, store: Path) -> None:
    said = vshard(run, "plan", "0", "--to", "azure,gcp").out
    assert "Would move vshard 0 of t from aws, gcp to azure, gcp" in said and "way back: open" in said
    assert len(run("table", "list", "--json", store="store").json["tables"]) == 1
    said = vshard(run, "migrate", "0", "--to", "azure", "--to", "gcp", *WIDE).out
    assert said.startswith("vshard 0 of t is in azure, gcp now (generation 2): ") and " of at most 30 s\n" in said
    assert "vshard reverse brings back what was moved" in said
    again = vshard(run, "migrate", "0", "--to", "gcp,azure", *WIDE).out
    assert again == "vshard 0 of t is already in azure, gcp (generation 2)\n"
    listed = run("vshard", "list", "t", store="store").out.splitlines()
    assert [line.split()[:2] for line in listed[1:3]] == [["0", "t.part-1"], ["1", "t"]]
    assert vshard(run, "reverse", "0", *WIDE).out.startswith("vshard 0 of t is in aws, gcp now (generation 3)")
    assert vshard(run, "retire", "0", "--yes").out == "vshard 0 of t: its old copy is deleted; it stays in aws, gcp\n"
    assert run("vshard", "status", "t", store="store").out.startswith("No vshard of t is being moved")
    assert run("table", "count", "t", "--json", store="store").json["count"] == 400


def test_one_vshard_is_an_object_and_several_are_a_list(run: Runner, store: Path) -> None:
    one = vshard(run, "migrate", "2", "--to", "azure", "--json", *WIDE).json
    contract = "v ok table vshard state bytes records lag_at_cutover pause_us lock_wait_us budget_us generation owner"
    assert set(contract.split()) <= one.keys() and (one["state"], one["owner"]) == ("completed", ["azure"])
    several = vshard(run, "migrate", "2-3", "--to", "azure", "--json", *WIDE).json["migrations"]
    assert [(item["vshard"], item["changed"]) for item in several] == [(2, False), (3, True)]
    assert vshard(run, "resume", "--json").json["migrations"] == []


def test_jsonl_prints_states_as_they_come_and_then_the_answer(run: Runner, store: Path) -> None:
    lines = vshard(run, "migrate", "1", "--to", "azure", "-o", "jsonl", *WIDE).jsonl
    assert all((line["v"], line["ok"], line["vshard"]) == (1, True, 1) for line in lines)
    assert [line["event"] for line in lines[:-1]] == ["begun", "state", "state", "proof", "state"]
    states = [line["state"] for line in lines if line.get("event") == "state"]
    assert states == ["base_copy", "wal_catchup", "cutover"]
    assert "event" not in lines[-1] and lines[-1]["state"] == "completed"


def test_one_that_fails_does_not_stop_the_others(run: Runner, store: Path) -> None:
    vshard(run, "migrate", "0", "--to", "azure", *WIDE)
    ended = vshard(run, "migrate", "0-2", "--to", "gcp", "--json", *WIDE, check=13)
    body = ended.json
    assert [item["vshard"] for item in body["migrations"]] == [1, 2]
    assert [(item["vshard"], item["code"], item["exit"]) for item in body["failed"]] == [(0, "generation_conflict", 13)]
    assert (ended.error["moved"], ended.error["failed"]) == ([1, 2], [0])
    said = vshard(run, "migrate", "0,3", "--to", "gcp", *WIDE, check=13)
    assert "1 of 2 vshards changed, 1 failed" in said.out
    assert said.err.count("vshard 0 of t still has its old copy") == 2  # as it came, and at the end


# --- limits


def test_a_budget_that_nothing_fits_leaves_it_caught_up(run: Runner, store: Path) -> None:
    limits = ("--write-pause-budget", "1us", "--patience", "10ms")
    ended = vshard(run, "migrate", "0", "--to", "azure", *limits, "--json", check=20)
    assert (ended.error["code"], ended.error["budget_us"], ended.error["retryable"]) == (
        "pause_budget_exceeded", 1, True,
    )  # fmt: skip
    assert state_of(run, 0) == "wal_catchup"
    vshard(run, "resume", "0", "-q", check=20)  # with the limits that it began with
    shown = run("vshard", "show", "t", "0", store="store").out
    assert "budget_us:    1\n" in shown and "state:        wal_catchup\n" in shown
    vshard(run, "cancel", "0")
    vshard(run, "migrate", "0", "--to", "azure", *limits, "-q", check=20)
    assert vshard(run, "resume", "0", *WIDE, "--json").json["state"] == "completed"


def test_the_copy_keeps_to_its_rate_and_is_let_go_by_another_command(run: Runner, store: Path) -> None:
    slow = "vshard migrate t 1 --to azure --rate 1 -d aws"
    moving = run.start(*slow.split(), *WIDE, store="store")
    while state_of(run, 1) == "idle":
        assert moving.poll() is None
    assert state_of(run, 1) in ("base_copy", "wal_catchup") and moving.poll() is None
    change = run("vshard", "throttle", "t", "1", "--rate", "0", "-d", "aws", "--json", store="store").json
    assert (change["before"]["rate"], change["after"].get("rate")) == (1, None)
    _, said = moving.communicate(timeout=60)  # at its rate it would take minutes
    assert moving.returncode == 0, said


def test_a_held_cutover_waits_for_its_command(run: Runner, store: Path) -> None:
    said = vshard(run, "migrate", "3", "--to", "azure", "--hold-cutover", *WIDE).out
    assert "vshard 3 of t is ready to be cut over to azure: lag 0" in said
    assert "grafctl vshard cutover t 3" in said and state_of(run, 3) == "wal_catchup"
    status = run("status", "--json", store="store").json
    assert [(item["table"], item["vshard"], item["state"], item["to"]) for item in status["vshards"]] == [
        ("t", 3, "wal_catchup", ["azure"])
    ]
    assert {item["name"]: item.get("moving") for item in status["resources"]} == {"t": 1, "t.part-1": 1}
    assert "wal_catchup" in run("status", store="store").out
    assert vshard(run, "cutover", "3", "--json", *WIDE).json["state"] == "completed"
    assert run("status", "--json", store="store").json["vshards"] == []


# --- refusals


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (11, "0 --to oci"),
        (11, "0 --to nowhere"),
        (11, "0 --to azure,oci"),
        (12, "0 --to gcp,azure"),
        (2, "0 --to"),
        (2, "0 --to azure,"),
        (2, "0 --to ,"),
        (2, "0 --to azure,azure"),
        (2, "0 --to azure --to azure"),
        (2, "0 --to AZURE"),
        (2, "0 --to a/b/c/d"),
        (2, "4 --to azure"),
        (2, "65536 --to azure"),
        (2, "99999999999999999999 --to azure"),
        (2, "x --to azure"),
        (2, "3-1 --to azure"),
        (2, "1,,2 --to azure"),
        (2, "1- --to azure"),
        (2, "\u0661 --to azure"),
        (2, "0"),
        *(
            (2, f"0 --to azure {flag} {value}")
            for flag, values in {
                "--write-pause-budget": ("50", "-1ms", "1e3ms", "ms", "99999999999999999d"),
                "--lock-wait": ("5", "x"),
                "--max-lag": ("-1", "1.5", "9223372036854775808"),
                "--rate": ("0", "20MB/h", "-1", "fast", "20 MB/s"),
                "--policy": ("stop", "THROTTLE"),
                "--patience": ("1", "-1s"),
                "--at-once": ("0", "65", "two"),
                "--epoch": ("-1", "x"),
            }.items()
            for value in values
        ),
    ],
)
def test_what_is_refused_makes_nothing(refusing: Runner, code: int, words: str) -> None:
    before = refusing("status", "--json", store="store").json["resources"]
    ended = refusing("vshard", "migrate", "t", *words.split(" "), "-d", "aws", store="store", check=code)
    assert ended.out == "" and ended.err.startswith("error: ") and ended.err.count("\n") <= 2
    assert refusing("status", "--json", store="store").json["resources"] == before


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """One store for all that is refused: `gcp` is unhealthy there."""
    run = Runner(tmp_path_factory.mktemp("refusing"))
    run("init", "store", *(word for name in ("aws", "gcp", "azure", "oci") for word in ("-d", name)))
    run("authority", "keygen", "watch")
    run("authority", "add", "watch", "--public-key", "watch.pub", store="store")
    for domain, status in (("azure", "healthy"), ("gcp", "unhealthy")):
        sign = ("--authority", "watch", "--key-file", "watch.key")
        run("health", "observe", domain, status, *sign, store="store")
    places = "--replica a=aws --allow aws --allow gcp --allow azure --vshards 4"
    run("table", "create", "t", *places.split(), store="store")
    return run


def test_words_that_no_shell_gives_are_refused(refusing: Runner) -> None:
    for word in ("", "\x1b[2J", "1\n2", "0x1", "1_0", "+1", " 1 2", "9" * 100_000, "0," * 30_000):
        ended = refusing("vshard", "migrate", "t", word, "--to", "azure", "-d", "aws", store="store", check=2)
        assert "\x1b" not in ended.err and len(ended.err) < 600


def test_every_verb_needs_a_domain_and_a_table(refusing: Runner) -> None:
    for verb in ("plan", "migrate", "resume", "cutover", "throttle", "reverse", "cancel", "retire"):
        more = {
            "plan": ["--to", "azure"],
            "migrate": ["--to", "azure"],
            "throttle": ["--writes", "1"],
            "retire": ["--yes"],
        }
        words = ("vshard", verb, "t", "0", *more.get(verb, []))
        assert "GRAFCTL_DOMAIN" in refusing(*words, store="store", check=2).err
        refusing("vshard", verb, "absent", *words[3:], "-d", "aws", store="store", check=10)
        refusing(*words, "-d", "oci", store="store", check=11)


def test_names_are_completed(refusing: Runner) -> None:
    assert complete(refusing, "vshard", "re") == ["resume", "reverse", "retire"]
    assert complete(refusing, "vshard", "show", "", store="store") == ["t"]
    assert complete(refusing, "vshard", "show", "t", "", store="store") == []
    assert complete(refusing, "vshard", "migrate", "t", "0", "--policy", "", store="store") == ["give-up", "throttle"]
    assert "azure" in complete(refusing, "vshard", "migrate", "t", "0", "--to", "", store="store")


def test_whoever_reads_no_more_stops_it(run: Runner, store: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    words = "vshard migrate t 0-3 --to azure -o jsonl -d aws"
    moving = run.start(*words.split(), *WIDE, store="store", stdout=write)
    os.close(write)
    _, said = moving.communicate(timeout=60)
    assert (moving.returncode, said) == (141, b"")
    assert vshard(run, "resume", *WIDE, "--json").json["migrations"] != []
    assert run("table", "count", "t", "--json", store="store").json["count"] == 400


def test_what_is_away_hides_nothing_of_the_others(run: Runner, store: Path) -> None:
    vshard(run, "migrate", "0", "--to", "azure", *WIDE)
    run("domain", "fail", "azure", store="store")
    ended = vshard(run, "plan", "1", "--to", "azure", "--json", check=12)
    assert (ended.error["reason"], ended.error["domain"]) == ("unreachable", "azure")
    assert vshard(run, "plan", "1", "--to", "gcp", "--json").json["way_back"] == "open"
    first, *rest = run("vshard", "list", "t", "--json", store="store").json["vshards"]
    assert (first["owner"], "azure" in first["trouble"]) == (["azure"], True)
    assert [item["owner"] for item in rest] == [["aws", "gcp"]] * 3
    assert "azure" in run("vshard", "list", "t", store="store").out
    assert vshard(run, "migrate", "1", "--to", "gcp", *WIDE, "--json").json["state"] == "completed"
    assert vshard(run, "reverse", "0", check=21).out == ""


def test_a_part_is_not_named(run: Runner, store: Path) -> None:
    vshard(run, "migrate", "0", "--to", "azure", *WIDE)
    assert "`grafctl table show t`" in run("vshard", "list", "t.part-1", store="store", check=10).err


# --- what is shown meanwhile


def under_way(number: int, *events: dict[str, Any]) -> OnItsWay:
    item = OnItsWay(number, 0.0)
    for at, event in enumerate(events):
        item.take({"event": "progress", "table": "t", "vshard": number, **event}, float(at))
    return item


def test_a_screen_has_a_line_a_vshard_that_is_never_wider() -> None:
    copying = under_way(7, {"state": "base_copy", "bytes": 0, "total": 4 << 20}, {"bytes": 1 << 20, "total": 4 << 20})
    waits = "12 records are not applied at the target, and 10 may be left for the cut-over."
    follows = {"state": "wal_catchup", "lag": 12, "estimate_us": 1234, "applied_per_s": 9.6, "written_per_s": 3.2}
    items = {7: copying, 1001: under_way(1001, follows | {"waits_for": waits})}
    wide = screen_lines(items, (2, 1), 160, 20)
    assert wide == [
        "vshard    7  base_copy    1.0 MiB of 4.0 MiB  25%  1.0 MiB/s",
        "vshard 1001  wal_catchup  lag 12  10/s applied, 3/s written  pause about 1.234 ms",
        f"  waits: {waits}",
        "2 done, 1 failed",
    ]
    for width in (1, 20, 40, 80, 120):
        assert max(map(len, screen_lines(items, (2, 1), width, 20))) <= width
    many = {number: under_way(number, follows) for number in range(64)}
    assert len(screen_lines(many, (0, 0), 80, 10)) == 10
    assert screen_lines(many, (0, 0), 80, 10)[-2:] == ["and 56 lines more", "0 done"]


def test_sizes_and_times_have_the_unit_that_people_take() -> None:
    assert [size_text(count) for count in (0, 1023, 1024, 1536, 1 << 20, (1 << 30) - 1, 1 << 50)] == [
        "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 GiB", "1024.0 TiB",
    ]  # fmt: skip
    assert [time_text(us) for us in (0, 999, 1000, 12_345, 1_000_000)] == ["0 us", "999 us", "1 ms", "12.35 ms", "1 s"]


def test_nothing_is_written_while_a_vshard_is_paused(capfd: pytest.CaptureFixture[str]) -> None:
    with Moving("migrate", "t", True, "jsonl") as moving:
        for number, state in ((1, "cutover"), (2, "base_copy"), (2, "cutover")):
            moving({"event": "state", "table": "t", "vshard": number, "state": state})
        assert capfd.readouterr().out == ""
        moving({"event": "done", "vshard": 1, "answer": Migrated("t", 1, "completed", True, 1, 1, 2, ["a"], "t")})
        assert capfd.readouterr().out == ""
        moving({"event": "failed", "vshard": 2, "error": PauseBudgetExceeded("too long")})
        assert [json.loads(line).get("state") for line in capfd.readouterr().out.splitlines()] == [
            "cutover", "base_copy", "cutover", "completed", None,
        ]  # fmt: skip


def test_progress_is_told_after_a_second_and_never_when_quiet(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now_s = [0.0]
    monkeypatch.setattr(clock, "monotonic_s", lambda: now_s[0])
    monkeypatch.setattr(render, "draws_progress", lambda: False)
    event = {"event": "progress", "table": "t", "vshard": 5, "state": "base_copy", "bytes": 1024, "total": 2048}
    for quiet in (True, False):
        now_s[0] = 0.0
        with Moving("migrate", "t", False, "json", quiet=quiet) as moving:
            for now_s[0] in (0.5, 1.5, 3.0, 7.0):
                moving(event)
        expected = "vshard 5 of t: base_copy 1.0 KiB of 2.0 KiB, 50%"
        lines = capfd.readouterr().err.splitlines()
        assert [line.startswith(expected) for line in lines] == ([] if quiet else [True, True])


def test_a_hostile_reason_does_not_reach_the_terminal() -> None:
    rows = render_moving_text.status_blocks("t", [{"vshard": 1, "state": "failed", "owner": ["a"], "records": 1,
        "writes_per_s": 0.0, "migration": {"to": ["b"], "bytes": 0, "total": 1, "reason": "bad\x1b[2J"}}])  # fmt: skip
    assert "\x1b" not in str(rows[0].rows)
