"""The runbook of the contract, word for word: typed as separate commands, and as the script in `examples/`.

`RUNBOOK` is the text of the contract, copied by hand. The script must hold exactly these commands, in this order, and
both ways of running them must end in the codes and the JSON fields that the contract gives.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import ROOT, Ended, Runner

import grafctl

SCRIPT = ROOT / "examples" / "provider-migration.sh"
QUEUE, AWS, GCP, AZURE = "migration-orders", "aws/us-east-1/us-east-1a", "gcp/us-central1", "azure/eastus"

RUNBOOK = r"""
export GRAFCTL_STORE=./store
grafctl init --domain aws/us-east-1/us-east-1a --domain gcp/us-central1
grafctl queue create migration-orders --schema migration-work.v1 \
  --replica orders-aws-a=aws/us-east-1/us-east-1a --replica orders-gcp-central=gcp/us-central1 --allow aws --allow gcp
grafctl consumer create migration-orders active-workers --allow aws --allow gcp --semantics effectively-once
grafctl publish migration-orders created --id order-1 -d aws/us-east-1/us-east-1a
grafctl publish migration-orders paid    --id order-2 -d gcp/us-central1
grafctl domain add azure/eastus
grafctl poll migration-orders --group active-workers -d azure/eastus            # exit 11, not_in_placement
grafctl locator set migration-orders --generation 1 --add orders-azure-eastus=azure/eastus   # exit 13, nothing changed
grafctl locator set migration-orders --generation 2 --add orders-azure-eastus=azure/eastus   # exit 12, never observed
grafctl authority keygen scheduler-a                                            # scheduler-a.key, scheduler-a.pub
grafctl authority add scheduler-a --public-key scheduler-a.pub
grafctl health observe azure/eastus healthy --authority scheduler-a --key-file scheduler-a.key
grafctl locator set migration-orders --generation 2 --add orders-azure-eastus=azure/eastus
grafctl consumer shift migration-orders active-workers --as azure-workers --allow azure/eastus --proof none   # exit 19
grafctl catch-up migration-orders -d azure/eastus --json > proof.json           # count 2, match true, promoted to voter
grafctl consumer shift migration-orders active-workers --as azure-workers --allow azure/eastus --proof @proof.json
grafctl poll migration-orders --group azure-workers -d azure/eastus --max 10    # both records
grafctl poll migration-orders --group active-workers -d azure/eastus            # still exit 11
grafctl consumer show migration-orders active-workers --json                    # same placement, same cursor as before
"""


@dataclass(frozen=True)
class Step:
    """One command of a runbook: its words, the file that takes its output, and the code it must end with."""

    words: tuple[str, ...]
    into: str | None
    code: int


def steps_of(text: str) -> list[Step]:
    """Returns the commands of a runbook or of a script; codes come from `# exit N` or from `|| [ $? -eq N ]`."""
    steps = []
    for line in text.replace("\\\n", " ").splitlines():
        line = line.strip()
        if not line.startswith("grafctl "):
            continue
        code = re.search(r"# (?:still )?exit (\d+)|\|\| \[ \$\? -eq (\d+) \]$", line)
        command = re.split(r"\s(?:#|\|\|)\s", line)[0]
        words = shlex.split(command)[1:]
        into = words[-1] if ">" in words else None
        words = words[: words.index(">")] if into else words
        steps.append(Step(tuple(words), into, int(code[1] or code[2]) if code else 0))
    return steps


def part(body: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a document that the contract names; more may be there."""
    return {name: value for name, value in body.items() if name in wanted}


def body_of(run: Runner, *words: str) -> Any:
    return run(*words, "--json", store="./store").json


def test_the_script_holds_the_commands_of_the_contract() -> None:
    assert len(steps_of(RUNBOOK)) == 19
    assert steps_of(SCRIPT.read_text()) == steps_of(RUNBOOK)


def test_the_script_says_what_each_step_shows() -> None:
    lines = SCRIPT.read_text().splitlines()
    assert "set -eu" in lines and "export GRAFCTL_STORE=./store" in lines
    for number, line in enumerate(lines):
        if line.startswith("grafctl ") and not lines[number - 1].startswith(("grafctl ", "fi")):
            assert lines[number - 1].startswith("# "), line


# --- the commands, one by one


@pytest.fixture
def typed(run: Runner) -> dict[tuple[str, ...], list[Ended]]:
    """Types the runbook, each command with `--json` added, and returns what every command answered."""
    answers: dict[tuple[str, ...], list[Ended]] = {}
    for step in steps_of(RUNBOOK):
        words = step.words if "--json" in step.words else (*step.words, "--json")
        ended = run(*words, store="./store", check=step.code)
        if step.into:
            (run.cwd / step.into).write_text(ended.out)
        answers.setdefault(step.words, []).append(ended)
        if step.words[:2] == ("consumer", "create"):
            answers[("before",)] = [run("consumer", "show", QUEUE, "active-workers", "--json", store="./store")]
        if step.code:
            assert ended.out == ""
            assert ended.error["exit"] == step.code and ended.error["ok"] is False and ended.error["v"] == 1
        else:
            assert ended.err == ""
            assert ended.json["ok"] is True and ended.json["v"] == 1 and ended.out.count("\n") == 1
    return answers


def test_every_command_answers_as_the_contract_says(typed: dict[tuple[str, ...], list[Ended]]) -> None:
    by = {" ".join(words): ended for words, ended in typed.items()}

    publish = by["publish migration-orders paid --id order-2 -d gcp/us-central1"][0].json
    assert publish == {
        **{"v": 1, "ok": True, "resource": QUEUE, "offset": 1, "count": 1, "generation": 1},
        **{"acked_by": [AWS, GCP], "replayed": False},
    }

    refused = by["poll migration-orders --group active-workers -d azure/eastus"]
    for ended in refused:
        wanted = {
            **{"code": "domain_unavailable", "reason": "not_in_placement", "retryable": False, "resource": QUEUE},
            **{"group": "active-workers", "domain": AZURE, "allowed": ["aws/**", "gcp/**"]},
        }
        assert wanted == part(ended.error, wanted)
        assert ended.error["message"] and ended.error["hint"] and isinstance(ended.error["audit"], int)
    assert len(refused) == 2

    early = by["locator set migration-orders --generation 1 --add orders-azure-eastus=azure/eastus"][0].error
    assert early["code"] == "generation_conflict"

    sick, added = by["locator set migration-orders --generation 2 --add orders-azure-eastus=azure/eastus"]
    assert (sick.error["code"], sick.error["reason"]) == ("domain_unavailable", "unhealthy")
    assert sick.error["retryable"] is True
    assert added.json["changed"] is True
    assert added.json["before"] == {"generation": 1}
    assert added.json["after"]["generation"] == 2
    new = added.json["after"]["replicas"][-1]
    expected = {"id": "orders-azure-eastus", "domain": AZURE, "role": "voter", "state": "catching_up"}
    assert expected == part(new, expected)


def test_the_proof_and_the_shift_are_as_the_contract_says(typed: dict[tuple[str, ...], list[Ended]]) -> None:
    by = {" ".join(words): ended for words, ended in typed.items()}
    shift = "consumer shift migration-orders active-workers --as azure-workers --allow azure/eastus --proof "
    assert by[shift + "none"][0].error["code"] == "proof_required"

    proof = by["catch-up migration-orders -d azure/eastus --json"][0].json
    wanted = {
        **{"resource": QUEUE, "domain": AZURE, "generation": 2, "epoch": 1, "through": 1, "count": 2, "match": True},
        **{"covers": ["records", "groups", "finalised", "idempotency"], "promoted": True},
    }
    assert wanted == part(proof, wanted)
    assert proof["proof"].startswith("prf_") and proof["source_digest"] == proof["target_digest"] != ""

    shifted = by[shift + "@proof.json"][0].json
    wanted = {
        **{"resource": QUEUE, "from": "active-workers", "group": "azure-workers", "lineage": "active-workers"},
        **{"placement": {"allow": [AZURE]}, "start": 0, "proof": proof["proof"], "original": {"unchanged": True}},
    }
    assert wanted == part(shifted, wanted)

    polled = by["poll migration-orders --group azure-workers -d azure/eastus --max 10"][0].json
    assert (polled["resource"], polled["group"], polled["ack_floor"]) == (QUEUE, "azure-workers", 0)
    assert polled["records"] == [
        {"offset": 0, "id": "order-1", "payload": "created", "delivery": 1},
        {"offset": 1, "id": "order-2", "payload": "paid", "delivery": 1},
    ]

    after = by["consumer show migration-orders active-workers --json"][0].json
    assert after == typed[("before",)][0].json
    assert after["placement"] == {"allow": ["aws", "gcp"]}
    assert after["cursor"] == 0 and after["semantics"] == "effectively-once"


def test_the_files_are_there_and_the_store_is_sound(typed: dict[tuple[str, ...], list[Ended]], run: Runner) -> None:
    assert stat.S_IMODE((run.cwd / "scheduler-a.key").stat().st_mode) == 0o600
    assert (run.cwd / "scheduler-a.pub").is_file()
    replicas = body_of(run, "locator", "show", QUEUE)["replicas"]
    assert [(item["domain"], item["role"], item["state"]) for item in replicas] == [
        (domain, "voter", "ready") for domain in (AWS, GCP, AZURE)
    ]
    with grafctl.open(run.cwd / "store") as store:
        assert not list(store.verify())
    # The two refused changes of the locator changed nothing: it went from 1 to 2 at once.
    history = body_of(run, "locator", "history", QUEUE)["generations"]
    assert [item["generation"] for item in history][-1] == 2


# --- the script


@dataclass(frozen=True)
class Script:
    """Runs the script in a directory with a `grafctl` on PATH that writes down what it was asked and how it ended."""

    run: Runner

    def __call__(self) -> tuple[list[Step], subprocess.CompletedProcess[str]]:
        bin_, asked = self.run.cwd / "bin", self.run.cwd / "asked.jsonl"
        bin_.mkdir(exist_ok=True)
        asked.unlink(missing_ok=True)
        python = shlex.quote(sys.executable)
        wrapper = bin_ / "grafctl"
        note = (
            f"{python} -c 'import json, sys; print(json.dumps(sys.argv[1:]))' $code \"$@\" >> {shlex.quote(str(asked))}"
        )
        wrapper.write_text(f'#!/bin/sh\n{python} -m grafctl "$@"\ncode=$?\n{note}\nexit $code\n')
        wrapper.chmod(0o755)
        environment = self.run.environment()
        environment["PATH"] = f"{bin_}{os.pathsep}{environment['PATH']}"
        command = ["bash", str(SCRIPT)]
        ended = subprocess.run(command, cwd=self.run.cwd, env=environment, capture_output=True, text=True, timeout=120)
        steps = []
        for line in asked.read_text().splitlines():
            code, *words = json.loads(line)
            steps.append(Step(tuple(words), "proof.json" if words[0] == "catch-up" else None, int(code)))
        return steps, ended


def test_the_script_runs_and_runs_again(run: Runner) -> None:
    script = Script(run)
    steps, ended = script()
    assert ended.returncode == 0, ended.stderr
    assert steps == steps_of(RUNBOOK)
    proof = json.loads((run.cwd / "proof.json").read_text())
    assert (proof["count"], proof["match"], proof["promoted"]) == (2, True, True)
    shown = json.loads(ended.stdout.splitlines()[-1])
    assert (shown["placement"], shown["cursor"]) == ({"allow": ["aws", "gcp"]}, 0)
    assert {"created", "paid"} <= set(ended.stdout.split())

    key = (run.cwd / "scheduler-a.key").read_bytes()
    again, ended = script()
    assert ended.returncode == 0, ended.stderr
    # Of the refusals one is over, because generation 2 is in force by now; and the key is there already.
    expected = [
        Step(step.words, step.into, 0 if step.code == 12 else step.code)
        for step in steps_of(RUNBOOK)
        if step.words[:2] != ("authority", "keygen")
    ]
    assert again == expected
    assert (run.cwd / "scheduler-a.key").read_bytes() == key
    second = json.loads((run.cwd / "proof.json").read_text())
    assert (second["count"], second["match"]) == (2, True)
    assert body_of(run, "queue", "show", QUEUE)["next_offset"] == 2


def test_a_step_that_fails_otherwise_stops_the_script(run: Runner) -> None:
    (run.cwd / "store").write_text("in the way")
    steps, ended = Script(run)()
    assert ended.returncode not in (0, 1) and len(steps) == 1, ended.stderr


SETTING = ("init", "queue create", "consumer create", "domain add", "authority add", "locator set", "consumer shift")


def test_what_is_done_already_says_so(typed: dict[tuple[str, ...], list[Ended]], run: Runner) -> None:
    for step in steps_of(RUNBOOK):
        if step.code == 0 and " ".join(step.words).startswith(SETTING):
            assert body_of(run, *step.words)["changed"] is False, step.words
    assert body_of(run, "publish", QUEUE, "created", "--id", "order-1", "-d", AWS)["replayed"] is True
    assert run("authority", "keygen", "scheduler-a", store="./store", check=13).err
