"""Commands against a real store: what they print, what they acknowledge, and what a closed pipe or a signal leaves."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Runner
from typer.testing import CliRunner

from grafctl import client
from grafctl.cli import app
from grafctl.store.blocks import Outgoing

AWS, GCP = "aws/us-east-1/us-east-1a", "gcp/us-central1"


class Store:
    """A store with a queue `q` in two domains and a group `g`, and a way to run commands on it inside this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.env = {"GRAFCTL_STORE": str(path), "GRAFCTL_DOMAIN": GCP, "TERM": "dumb"}

    def __call__(self, *words: str, code: int = 0, input: bytes | None = None) -> str:
        result = CliRunner().invoke(app, list(words), env=self.env, input=input)
        assert result.exit_code == code, result.output
        self.err = result.stderr
        return result.stdout

    def json(self, *words: str, code: int = 0, input: bytes | None = None) -> Any:
        out = self(*words, "--json", code=code, input=input)
        return json.loads(out if code == 0 else self.err.splitlines()[-1])

    def floor(self) -> int:
        found = self.json("consumer", "show", "q", "g")["ack_floor"]
        assert isinstance(found, int)
        return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store")
    made("init", "--domain", AWS, "--domain", GCP)
    made("queue", "create", "q", "--schema", "s.v1", "--replica", f"a={AWS}", "--replica", f"b={GCP}", "--allow", "gcp")
    made("consumer", "create", "q", "g", "--allow", "gcp")
    return made


def test_one_record_comes_back_with_what_went_with_it(store: Store) -> None:
    assert store("publish", "q", "a\tb", "--id", "1", "--key", "k", "--header", "h=v=w").startswith(
        "offset 0 (durable in"
    )
    assert store("publish", "q", "").startswith("offset 1 ")
    (store.path.parent / "file").write_bytes(b"\xff\x00")
    store("publish", "q", f"@{store.path.parent}/file")
    assert store("peek", "q") == "0\t1\ta\\tb\n1\t-\t\n2\t-\t\\xff\\x00\n"
    lines = [json.loads(line) for line in store("peek", "q", "-o", "jsonl").splitlines()]
    assert lines == [
        {"offset": 0, "id": "1", "key": "k", "payload": "a\tb", "headers": {"h": "v=w"}},
        {"offset": 1, "payload": ""},
        {"offset": 2, "payload_base64": "/wA="},
    ]
    assert store.json("peek", "q", "--offset", "1", "--max", "1")["records"] == lines[1:2]


def test_a_stream_of_lines_is_published_in_order(store: Store) -> None:
    done = store.json("publish", "q", "-", input=b"one\ntwo\r\n\nfour")
    assert (done["offset"], done["count"]) == (0, 4)
    assert [json.loads(line)["payload"] for line in store("peek", "q", "-o", "jsonl").splitlines()] == [
        *("one", "two\r", "", "four")
    ]
    assert store.json("publish", "q", "-", input=b"") == {"v": 1, "ok": True, "count": 0, "batches": 0}


def test_poll_and_publish_are_a_round_trip(store: Store) -> None:
    records = '{"payload":"a","id":"1","key":"k","headers":{"h":"é"}}\n{"payload_base64":"/w=="}\n{"payload":""}\n'
    store("publish", "q", "-", "--input", "jsonl", input=records.encode())
    polled = store("poll", "q", "--group", "g", "-o", "jsonl")
    again = store.json("publish", "q", "-", "--input", "jsonl", input=polled.encode())
    assert (again["offset"], again["count"]) == (0, 3)
    twice = [json.loads(line) for line in store("peek", "q", "-o", "jsonl").splitlines()]
    assert [line.get("payload", line.get("payload_base64")) for line in twice] == ["a", "/w==", "", "/w==", ""]


def test_a_conflicting_id_is_reported_with_its_line_and_the_rest_is_published(store: Store) -> None:
    store("publish", "q", "old", "--id", "1")
    lines = b'{"payload":"a","id":"2"}\n{"payload":"SECRET","id":"1"}\n{"payload":"old","id":"1"}\n{"payload":"b"}\n'
    error = store.json("publish", "q", "-", "--input", "jsonl", code=16, input=lines)
    assert (error["code"], error["refused"], error["conflicts"][0]["line"]) == ("idempotency_conflict", 1, 2)
    assert store.err.count("\n") == 1 and "SECRET" not in store.err
    assert store("peek", "q", "--offset", "1") == "1\t2\ta\n2\t-\tb\n"
    store("publish", "q", "-", "--input", "jsonl", code=16, input=lines)
    assert "stdin:2: id 1 was used before" in store.err and "SECRET" not in store.err
    assert store.json("publish", "q", "new", "--id", "1", code=16)["code"] == "idempotency_conflict"
    assert "already published" in store("publish", "q", "old", "--id", "1")


def test_a_conflict_that_comes_alone_does_not_end_the_stream(store: Store) -> None:
    store("publish", "q", "old", "--id", "1")
    with client.open(store.path) as opened:
        batches = [[Outgoing(b"a", "2")], [Outgoing(b"new", "1")], [Outgoing(b"b", "3")]]
        acks = list(opened.publish_stream("q", batches, domain=GCP))
    assert [(ack.count, bool(ack.conflicts)) for ack in acks] == [(1, False), (0, True), (1, False)]
    assert store("peek", "q", "--offset", "1") == "1\t2\ta\n2\t3\tb\n"


def test_atomic_publishes_nothing_when_one_is_refused(store: Store) -> None:
    store("publish", "q", "old", "--id", "1")
    lines = b'{"payload":"a","id":"2"}\n{"payload":"new","id":"1"}\n'
    assert store.json("publish", "q", "-", "--input", "jsonl", "--atomic", code=16, input=lines)["exit"] == 16
    assert store("peek", "q") == "0\t1\told\n"


def test_a_bad_line_is_named_and_what_stood_before_it_stays(store: Store) -> None:
    out = store("publish", "q", "-", "--input", "jsonl", code=2, input=b'{"payload":"a"}\n{"payload":"b"}\nbad\n')
    assert out.startswith("2 records, offsets 0 to 1") and "Line 3 " in store.err
    assert store("peek", "q") == "0\t-\ta\n1\t-\tb\n"


def test_standard_input_that_cannot_be_read_is_a_usage_error(store: Store, run: Runner) -> None:
    with open(os.devnull, "wb") as unreadable:
        command = run.start("publish", "q", "-", env=store.env, stdin=unreadable)
        out, err = command.communicate(timeout=60)
    assert (command.returncode, out) == (2, b"")
    assert err.startswith(b"error: Standard input cannot be read: ")


def test_a_dry_run_writes_nothing(store: Store) -> None:
    assert store("publish", "q", "x", "--dry-run") == "would be offset 0\n"
    assert store.json("publish", "q", "-", "--dry-run", input=b"a\nb\n")["count"] == 2
    would = store.json("publish", "q", "-", "--dry-run", input=b"a\n" * 20_001)
    assert (would["offset"], would["count"]) == (0, 20_001), "more than one batch"
    assert store("peek", "q") == ""
    assert "Would change" in store("consumer", "create", "q", "other", "--allow", "aws", "--dry-run")
    assert [group["group"] for group in store.json("consumer", "list", "q")["groups"]] == ["g"]


# --- poll


def test_poll_leases_and_ack_finishes(store: Store) -> None:
    store("publish", "q", "-", input=b"a\nb\nc\n")
    assert store("poll", "q", "--group", "g", "--max", "2") == "0\t-\ta\n1\t-\tb\n"
    assert store("poll", "q", "--group", "g") == "2\t-\tc\n"
    assert store("poll", "q", "--group", "g") == ""
    assert store.floor() == 0
    assert store("ack", "q", "0-1", "--group", "g") == "2 changed, 0 already so; ack floor 2\n"
    assert store("ack", "q", "1", "--group", "g") == "0 changed, 1 already so; ack floor 2\n"
    assert store.json("nack", "q", "2", "--group", "g")["changed"] is True
    assert store("poll", "q", "--group", "g") == "2\t-\tc\n"


def test_auto_ack_finishes_what_was_written(store: Store) -> None:
    store("publish", "q", "-", input=b"".join(b"%d\n" % number for number in range(2500)))
    assert len(store("poll", "q", "--group", "g", "--max", "2300", "--ack", "auto").splitlines()) == 2300
    assert store.floor() == 2300
    done = store.json("poll", "q", "--group", "g", "--max", "5000", "--ack", "auto")
    assert len(done["records"]) == 200 and store.floor() == 2500


def test_an_empty_poll_can_be_an_exit_code(store: Store) -> None:
    assert store("poll", "q", "--group", "g") == ""
    assert store.json("poll", "q", "--group", "g")["records"] == []
    assert store("poll", "q", "--group", "g", "--fail-empty", code=4) == ""
    assert store.err.startswith("error: Nothing was delivered.")


def test_what_a_closed_pipe_did_not_take_is_not_acknowledged(store: Store, run: Runner) -> None:
    payload = b"x" * 1000
    store("publish", "q", "-", input=b"".join(b"%s\n" % payload for _ in range(4000)))
    command = run.start("poll", "q", "--group", "g", "--max", "4000", "--ack", "auto", env=store.env)
    assert command.stdout is not None
    first = command.stdout.read(100_000)
    command.stdout.close()
    assert command.stderr is not None and command.stderr.read() == b""
    assert command.wait(60) == 141
    assert first.startswith(b"0\t-\txxx")
    assert store.floor() in (0, 1000)  # the chunk that broke is not acknowledged, nor what comes after it


def test_follow_streams_until_it_is_interrupted(store: Store, run: Runner) -> None:
    command = run.start("poll", "q", "--group", "g", "--follow", "--ack", "auto", "-o", "jsonl", env=store.env)
    assert command.stdout is not None
    for number in range(3):
        store("publish", "q", str(number))
        assert json.loads(command.stdout.readline())["payload"] == str(number)
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=60)
    assert (command.returncode, out, json.loads(err)["code"]) == (130, b"", "interrupted")
    assert store.floor() >= 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_stream_says_what_was_acknowledged(
    store: Store, run: Runner, number: signal.Signals, code: int
) -> None:
    command = run.start("publish", "q", "-", env=store.env)
    reading = run.start("poll", "q", "--group", "g", "--follow", "-o", "jsonl", env=store.env)
    assert command.stdin is not None and reading.stdout is not None
    command.stdin.write(b"one\ntwo\n")
    command.stdin.flush()
    assert [json.loads(reading.stdout.readline())["offset"] for _ in range(2)] == [0, 1]
    while "S" not in Path(f"/proc/{command.pid}/stat").read_text().split()[2]:
        pass
    command.send_signal(number)
    assert command.wait(60) == code
    out, err = command.communicate()
    assert out.startswith(b"2 records, offsets 0 to 1 ") and err.startswith(b"error: ")
    reading.kill()
    reading.communicate()


# --- the others


def test_a_poll_that_is_killed_has_finished_what_it_wrote_and_nothing_else(store: Store, run: Runner) -> None:
    store("publish", "q", "-", "--quiet", input=b"".join(b"%0200d\n" % number for number in range(2500)))
    process = run.start("poll", "q", "--group", "g", "--max", 2500, "-o", "jsonl", "--ack", "auto", env=store.env)
    assert process.stdout is not None
    try:
        first = [json.loads(process.stdout.readline())["offset"] for _ in range(1000)]
        for _ in range(2000):  # it goes with the next lease, whose records do not fit into the pipe
            if store.floor():
                break
        assert (first, store.floor()) == (list(range(1000)), 1000)
    finally:
        process.kill()
        process.communicate()
    assert store.floor() == 1000
    later = store.env | {"GRAFCTL_CLOCK_OFFSET_MS": "60000"}
    again = run("poll", "q", "--group", "g", "--max", 2500, "-o", "jsonl", "--ack", "auto", env=later).out.splitlines()
    assert [json.loads(line)["offset"] for line in again] == list(range(1000, 2500))
    assert [json.loads(line)["delivery"] for line in again] == [2] * 1500 and store.floor() == 2500


def test_a_refusal_is_one_object_with_its_fields(store: Store) -> None:
    error = store.json("publish", "q", "x", "-d", "azure/eastus", code=11)
    assert {"v": 1, "ok": False, "code": "domain_unavailable", "exit": 11, "retryable": False}.items() <= error.items()
    assert error["reason"] == "not_in_placement" and error["resource"] == "q" and error["hint"]
    assert store.json("poll", "q", "--group", "missing", code=10)["code"] == "not_found"
    assert store.json("publish", "q", "x", "--epoch", "0", code=14)["code"] == "fenced"


def test_can_answers_and_exits_when_it_is_asked_to(store: Store) -> None:
    assert store("can", "publish", "q").startswith("allowed: publish q")
    assert store("can", "publish", "q", "-d", AWS).startswith("refused: publish q")
    store("can", "publish", "q", "-d", AWS, "--exit-code", code=11)
    assert store.json("can", "poll", "q", "--group", "g", "-d", AWS)["allowed"] is False


@pytest.mark.parametrize(
    "words",
    [
        ("consumer", "seek", "q", "g", "--to", "earliest"),
        ("domain", "remove", "azure"),
        ("locator", "set", "q", "--generation", "2", "--remove", "b"),
        ("authority", "revoke", "a"),
        ("dead", "redrive", "q", "g", "--all"),
    ],
)
def test_a_destructive_act_needs_yes_without_a_terminal(store: Store, words: tuple[str, ...]) -> None:
    error = store.json(*words, code=15)
    assert error["code"] == "confirmation_required" and "--yes" in error["hint"]
    assert CliRunner().invoke(app, [*words, "--yes"], env=store.env).exit_code != 15


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"YES\n", 0), (b"n\n", 15), (b"\n", 15), (b"\x04", 15)])
def test_a_terminal_is_asked_on_stderr(store: Store, run: Runner, answer: bytes, code: int) -> None:
    store("domain", "add", "azure/eastus")
    leader, follower = pty.openpty()
    environment = run.environment(env={**store.env})
    command = subprocess.Popen(
        [*_grafctl(), "domain", "remove", "azure/eastus"],
        stdin=follower,
        stdout=subprocess.PIPE,
        stderr=follower,
        env=environment,
    )
    os.close(follower)
    asked = b""
    while b"[y/N]" not in asked:
        asked += os.read(leader, 1000)
    os.write(leader, answer)
    out, _ = command.communicate(timeout=60)
    os.close(leader)
    assert command.returncode == code, asked
    assert (b"azure" in out) == (code == 0)


def _grafctl() -> list[str]:
    return [sys.executable, "-m", "grafctl"]


def test_names_of_the_store_are_completed(store: Store, run: Runner) -> None:
    def complete(*words: str) -> list[str]:
        line = ("grafctl", *words)
        env = {"_GRAFCTL_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(line), "COMP_CWORD": str(len(line) - 1)}
        return run(env=store.env | env).out.split()

    assert complete("publish", "") == ["q"]
    assert complete("poll", "q", "--group", "") == ["g"]
    assert complete("consumer", "show", "q", "") == ["g"]
    assert complete("domain", "show", "") == [AWS, GCP]
    assert complete("publish", "q", "x", "-d", "g") == [GCP]


def test_catch_up_tells_its_phases_and_then_the_proof(store: Store) -> None:
    store("publish", "q", "-", input=b"a\nb\n")
    store("domain", "add", "azure/eastus")
    keys = store.path.parent
    store("authority", "keygen", "a", "--directory", str(keys))
    store("authority", "add", "a", "--public-key", f"{keys}/a.pub")
    store("health", "observe", "azure/eastus", "healthy", "--authority", "a", "--key-file", f"{keys}/a.key")
    store("locator", "set", "q", "--generation", "2", "--add", "c=azure/eastus")
    *phases, proof = map(json.loads, store("catch-up", "q", "-d", "azure/eastus", "-o", "jsonl").splitlines())
    assert phases and all({"phase", "done", "total", "domain"} <= phase.keys() for phase in phases)
    assert len({phase["phase"] for phase in phases}) == len(phases)
    assert (proof["count"], proof["match"], proof["promoted"]) == (2, True, True)
    (keys / "proof.json").write_text(json.dumps(store.json("catch-up", "q", "-d", "azure/eastus")))
    shift = ("consumer", "shift", "q", "g", "--as", "n", "--allow", "azure", "--proof")
    assert store(*shift, f"@{keys}/proof.json").startswith("Group n made")
    assert store.json(*shift, proof["proof"])["changed"] is False
    assert store.json(*shift, "none", code=19)["code"] == "proof_required"


def test_status_shows_everything_and_watches(store: Store, run: Runner) -> None:
    body = store.json("status")
    assert {"domains", "resources"} <= body.keys()
    text = store("status")
    assert GCP in text and "RESOURCE" in text and "\x1b" not in text
    command = run.start("status", "--watch", "-o", "jsonl", env=store.env)
    assert command.stdout is not None
    for _ in range(2):
        assert json.loads(command.stdout.readline())["ok"] is True
    command.send_signal(signal.SIGINT)
    assert command.wait(60) == 130


def test_a_store_without_faults_has_no_findings(store: Store) -> None:
    assert store("verify", "--exit-code") == "No problems found.\n"
    assert store.json("verify") == {"v": 1, "ok": True, "findings": [], "count": 0}
    store("domain", "fail", GCP)
    found = store.json("verify")
    assert found["count"] > 0
    store("verify", "--exit-code", code=3)
    assert store.json("verify", "--exit-code", code=3)["code"] == "mismatch"


def test_audit_is_a_line_a_record_and_all_of_one(store: Store) -> None:
    store("publish", "q", "x", "-d", "azure/eastus", code=11)
    assert "not_in_placement" in store("audit", "tail").splitlines()[-1]
    number = store.json("audit", "tail", "--count", "1")["records"][0]["audit"]
    assert store.json("audit", "explain", str(number))["op"] == "publish"
    assert store.json("audit", "verify", "--exit-code")["holds"] is True
    assert "--count takes 1 to 1,000,000" in store.json("audit", "tail", "--count", "1000001", code=2)["message"]


def test_a_declared_store_is_made_once_and_a_wrong_file_is_refused_whole(store: Store) -> None:
    file = store.path.parent / "store.toml"
    file.write_text('[[domain]]\nname = "azure/eastus"\n')
    assert store.json("apply", str(file), "--dry-run")["changed"] is True
    assert store.json("apply", str(file))["changed"] is True
    assert store.json("apply", str(file))["changed"] is False
    file.write_text('[[domain]]\nname = "no domain"\n\n[[queue]]\nname = "a/b"\n')
    problems = store.json("apply", str(file), code=78)["problems"]
    assert {problem["line"] for problem in problems} >= {2, 5}
    store("apply", str(file), code=78)
    assert f"{file}:2: " in store.err and f"{file}:5: " in store.err


LOOKS = f"""
domain list; domain show {GCP}; queue list; queue show q; consumer list q; consumer show q g; dead list q g
placement show q; placement show q --group g; policy show q; locator show q; locator history q
authority list; health list; audit tail; audit verify; status; doctor
"""


@pytest.mark.parametrize("looked", [part.strip() for part in LOOKS.replace("\n", ";").split(";") if part.strip()])
def test_everything_that_looks_answers_in_every_form(store: Store, looked: str) -> None:
    words = looked.split()
    assert store(*words).strip()
    body = store.json(*words)
    assert body["v"] == 1 and body["ok"] is True
    lines = store(*words, "-o", "jsonl").strip()
    assert lines or words in (["doctor"], ["verify"])  # which have nothing to say of a sound store
