"""The JSON that commands print, held still: the fields of every answer and their types, in `tests/golden/json/`.

One file a command: each line of `RUNBOOK` and `MORE` that runs it, with the shape of what it printed. A shape is the
document with the name of its type in place of every time, id, hash and number; a list is the set of its items'
shapes. So a field that is lost, renamed or of another type is a failure, and so is a new one until it is written
down.

To write the files anew after a change that was meant, and then read the difference:

    GRAFCTL_GOLDEN=write python -m pytest tests/cli/test_golden_json.py
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from test_runbook import RUNBOOK, steps_of
from typer.testing import CliRunner

from cli.golden_idem import IDEM
from cli.golden_leases import EDGES, LEASES
from cli.golden_links import LINKS, write_chain
from cli.golden_switched_stages import SWITCHED_STAGES
from cli.golden_switches import SWITCHES
from cli.golden_tables import TABLES
from cli.golden_vshards import VSHARDS
from cli.golden_waves import MADE, WAVES
from cli.tree import leaves
from grafctl import render_progress
from grafctl.cli import app
from grafctl.clock import OFFSET_VARIABLE

GOLDEN = ROOT / "tests" / "golden" / "json"
Q, AWS, GCP, AZURE = "migration-orders", "aws/us-east-1/us-east-1a", "gcp/us-central1", "azure/eastus"
WITHOUT_JSON = {"completion show", "completion install"}
ONE, TWO, BINARY = '{"payload":"a","id":"i-1"}\n', '{"payload":"b","id":"i-1"}\n', '{"payload_base64":"/w=="}\n'

GOOD = '{"event_id":"e","tenant":"a","order_key":1,"total_cents":1,"date":"2026-01-01","items":1}'
P = "examples/pipeline.toml"
ON, MAY = "--store ./running", "--allow aws --allow gcp"
COPIES = "--replica a=aws/us-east-1 --replica g=gcp/us-central1"
ORDER = '{"id":1,"tenant":"t","status":"paid","total":"12.30"}'
RUN = [
    (0, "init ./running -d aws/us-east-1 -d gcp/us-central1 -d azure/eastus", ""),
    (0, f"queue create raw-orders --schema s --log o {COPIES} {MAY} {ON}", ""),
    (0, f"topic create clean-orders --schema s --log o {MAY} {ON}", ""),
    (0, f"consumer create raw-orders clean {MAY} --semantics effectively-once {ON}", ""),
    (0, f"consumer create clean-orders load {MAY} --semantics effectively-once {ON}", ""),
    (0, f"pipeline run {P} {ON} -d aws/us-east-1 --stage clean --dry-run", ""),
    (11, f"pipeline run {P} {ON} -d azure/eastus --stage clean", ""),
    (10, f"pipeline run {P} {ON} -d aws/us-east-1 --stage absent", ""),
    (2, f"pipeline run {P} {ON} -d aws/us-east-1 --once --until-idle", ""),
    (0, f"publish raw-orders '{ORDER}' {ON} -d aws/us-east-1", ""),
    (0, f"publish raw-orders nothing {ON} -d aws/us-east-1", ""),
    (0, f"pipeline run {P} {ON} -d aws/us-east-1 --stage clean --stage load --until-idle", ""),
    (0, f"pipeline run {P} {ON} -d gcp/us-central1 --stage load --once", ""),
    (0, f"pipeline status {P} {ON}", ""),
    (0, f"pipeline tap {P} clean {ON} -d aws/us-east-1", ""),
    (0, f"pipeline tap {P} clean --input --max 1 {ON} -d gcp/us-central1", ""),
    (2, f"pipeline tap {P} take --input {ON} -d aws/us-east-1", ""),
    (10, f"pipeline tap {P} absent {ON} -d aws/us-east-1", ""),
]
W = "checked"
SCHEMAS = [
    (0, "schema add order.v1 examples/order.v1.schema.json --dry-run", ""),
    (0, "schema add order.v1 examples/order.v1.schema.json", ""),
    (0, "schema add order.v1 examples/order.v1.schema.json", ""),
    (13, "schema add order.v1 empty.json", ""),
    (2, "schema add other.v1 wrong.toml", ""),
    (2, "schema add other.v1 absent.json", ""),
    (0, "schema list", ""),
    (0, "schema show order.v1", ""),
    (10, "schema show absent", ""),
    (0, f"queue create {W} --schema order.v1 --replica w={AWS} --allow aws", ""),
    (17, f"publish {W} x -d {AWS}", ""),
    (17, f"publish {W} - -d {AWS}", f"{{}}\n{GOOD}\n"),
    (17, f"publish {W} - -d {AWS} --atomic", f"{{}}\n{GOOD}\n"),
    (17, f"publish {W} - -d {AWS} -o jsonl --input jsonl", ONE + TWO),
    (11, f"publish {W} x -d {GCP}", ""),
]

# What the runbook does not show: exit code, command line, standard input. It goes on in the same store.
MORE = [
    (0, f"publish {Q} created --id order-1 -d {AWS}", ""),
    (16, f"publish {Q} other --id order-1 -d {AWS}", ""),
    (16, f"publish {Q} - --input jsonl -d {AWS}", ONE + BINARY + TWO),
    (0, f"publish {Q} - --input jsonl -d {AWS} -o jsonl", '{"payload":"c","id":"i-2","key":"k","headers":{"h":"v"}}\n'),
    (0, f"publish {Q} - -d {AWS}", ""),
    (0, f"publish {Q} x -d {AWS} --dry-run", ""),
    (17, f"publish {Q} x -d {AWS} --schema other.v1", ""),
    (0, f"peek {Q} -d {GCP}", ""),
    (0, f"peek {Q} -d {GCP} -o jsonl", ""),
    (0, f"poll {Q} --group active-workers -d {GCP} --max 1", ""),
    (0, f"poll {Q} --group active-workers -d {GCP} --max 3 -o jsonl", ""),
    (0, f"ack {Q} 2 --group active-workers -d {GCP}", ""),
    (0, f"nack {Q} 3 --group active-workers -d {GCP}", ""),
    (14, f"ack {Q} 3 --group active-workers -d {GCP}", ""),
    (0, f"poll {Q} --group azure-workers -d {AZURE}", ""),
    (4, f"poll {Q} --group azure-workers -d {AZURE} --max 10 --fail-empty", ""),
    (0, f"can poll {Q} --group active-workers -d {GCP}", ""),
    (0, f"can poll {Q} --group active-workers -d {AZURE}", ""),
    (0, f"consumer create {Q} poor --allow gcp --max-deliveries 1", ""),
    (13, f"consumer create {Q} poor --allow aws", ""),
    (0, f"poll {Q} --group poor -d {GCP} --max 2", ""),
    (0, f"nack {Q} 0 1 --group poor -d {GCP}", ""),
    (0, f"dead list {Q} poor", ""),
    (0, f"dead redrive {Q} poor 0", ""),
    (0, f"consumer list {Q}", ""),
    (0, f"consumer pause {Q} poor", ""),
    (22, f"poll {Q} --group poor -d {GCP}", ""),
    (0, f"consumer resume {Q} poor", ""),
    (0, f"consumer seek {Q} poor --to latest --yes", ""),
    (0, "queue list", ""),
    (0, f"queue show {Q}", ""),
    (10, "queue show absent", ""),
    (0, "queue create other --schema s.v1 --replica o=gcp/us-central1 --allow gcp --dry-run", ""),
    (0, f"topic create events --schema s.v1 --replica e={AWS} --allow aws", ""),
    (13, f"topic create {Q} --schema migration-work.v1 --replica e={AWS}", ""),
    (0, f"topic create few --schema s.v1 --replica f={AWS} --allow aws --retain-count 1 --discard oldest", ""),
    (0, 'consumer create events paid --allow aws --filter "expr:total > 5" --start 2h', ""),
    (2, f"consumer create {Q} paid --allow aws --filter all", ""),
    (2, "consumer create events wrong --allow aws --filter regex:a", ""),
    (2, "consumer create events wrong --allow aws --start yesterday", ""),
    (0, "consumer create few slow --allow aws", ""),
    (0, f"publish few - -d {AWS}", "a\nb\n"),
    (0, f"publish few c -d {AWS}", ""),
    (0, f"publish few d -d {AWS}", ""),
    (0, f"poll few --group slow -d {AWS}", ""),
    (0, f"publish events - -d {AWS}", '{"total":7}\n{"total":5}\n'),
    (0, "consumer show events paid", ""),
    (0, "consumer show few slow", ""),
    (0, "topic list", ""),
    (0, "topic show events", ""),
    (0, "topic show few", ""),
    (0, "topic trim few --dry-run", ""),
    (0, "topic trim few", ""),
    (0, f"queue trim {Q}", ""),
    (10, f"topic trim {Q}", ""),
    (10, f"topic show {Q}", ""),
    (10, "queue show events", ""),
    *IDEM,
    *SCHEMAS,
    *TABLES,
    *VSHARDS,
    (0, f"placement show {Q}", ""),
    (0, f"placement show {Q} --group poor", ""),
    (0, f"placement set {Q} --allow aws --allow gcp --allow azure", ""),
    (0, f"policy show {Q}", ""),
    (0, f"policy set {Q} --ack all", ""),
    (0, f"fence {Q} --epoch 2", ""),
    (0, f"fence {Q} --group poor --epoch 2 --dry-run", ""),
    (14, f"publish {Q} x -d {AWS} --epoch 1", ""),
    (0, f"locator show {Q}", ""),
    (0, f"locator history {Q}", ""),
    (0, f"catch-up {Q} -d {AZURE} --dry-run", ""),
    (0, "domain list", ""),
    (0, f"domain show {GCP}", ""),
    (0, f"domain fail {GCP}", ""),
    (12, f"poll {Q} --group active-workers -d {GCP}", ""),
    (21, f"publish {Q} x -d {AWS}", ""),
    (0, "status", ""),
    (0, "verify", ""),
    (3, "verify --exit-code", ""),
    (12, f"domain repair {GCP} --yes", ""),
    (0, f"domain restore {GCP}", ""),
    (0, f"domain repair {GCP}", ""),
    (0, f"domain repair {GCP} --accept-loss {Q}", ""),
    (0, f"domain repair {GCP} --dry-run", ""),
    (13, f"domain remove {AZURE} --yes", ""),
    (0, "domain add spare/a", ""),
    (0, "domain remove spare/a --yes", ""),
    (0, "authority list", ""),
    (0, "health list", ""),
    (0, "authority revoke scheduler-a --yes", ""),
    (18, f"health observe {AZURE} unhealthy --authority scheduler-a --key-file scheduler-a.key", ""),
    (15, "authority revoke scheduler-b", ""),
    (0, "status", ""),
    (0, "verify", ""),
    (0, "doctor", ""),
    (0, "backup one --dry-run", ""),
    (0, "backup one", ""),
    (13, "backup one", ""),
    (2, "backup absent/one", ""),
    (0, "restore one --dry-run --store ./restored", ""),
    (0, "restore one --store ./restored", ""),
    (0, "restore one --store ./restored", ""),
    (13, "restore one --store ./store", ""),
    (2, "restore wrong.toml --store ./other", ""),
    (2, "restore one", ""),
    (0, "audit tail --count 3", ""),
    (0, "audit verify", ""),
    (0, "audit explain 0", ""),
    (0, "apply examples/provider-migration.toml --dry-run --store ./declared", ""),
    (78, "apply wrong.toml", ""),
    (0, "pipeline validate examples/webhooks.toml", ""),
    (78, "pipeline validate wrong.toml", ""),
    (0, "pipeline validate examples/pipeline.toml --live", ""),
    (3, "pipeline validate examples/pipeline.toml --live --exit-code", ""),
    (0, "pipeline test examples/pipeline.toml", ""),
    (3, "pipeline test failing.toml", ""),
    (10, "pipeline test examples/pipeline.toml --test absent", ""),
    (0, "pipeline plan examples/pipeline.toml", ""),
    (0, "pipeline plan examples/pipeline.toml -d aws/us-east-1", ""),
    (0, "pipeline plan examples/pipeline.toml --store ./declared", ""),
    (10, "pipeline plan examples/pipeline.toml -d aws/us-west-1", ""),
    (0, "pipeline graph examples/mirrored-etl.toml", ""),
    (0, "pipeline graph examples/pipeline.toml --format dot", ""),
    (0, "plan examples/provider-migration.toml --store ./declared", ""),
    (0, "plan more.toml --out store.plan", ""),
    (3, "plan more.toml --exit-code", ""),
    (78, "plan wrong.toml", ""),
    (0, "drift more.toml", ""),
    (3, "drift more.toml --exit-code", ""),
    (0, "apply store.plan", ""),
    (0, "apply store.plan", ""),
    (0, f"fence {Q} --epoch 3", ""),
    (13, "apply store.plan", ""),
    (10, "drift more.toml --store ./declared", ""),
    *RUN,
    *LEASES,
    *EDGES,
    *WAVES,
    *SWITCHES,
    *SWITCHED_STAGES,
    *LINKS,
    (0, "explain 11", ""),
    (2, "explain 999", ""),
    (2, "publish", ""),
]

# What the contract promises to the scripts of other people: these fields, at least, under these names.
CONTRACT = {
    "publish": "v ok resource offset count generation acked_by replayed",
    "poll": "v ok resource group records ack_floor",
    "locator set": "v ok resource changed before after",
    "catch-up": "v ok proof resource domain generation epoch through count source_digest target_digest match covers "
    "promoted",
    "consumer shift": "v ok resource from group lineage placement start proof original",
}
CONTRACT_REPLICA, CONTRACT_RECORD = {"id", "domain", "role", "state"}, {"offset", "id", "payload", "delivery"}
CONTRACT_ERROR = "v ok code exit retryable message hint"
CONTRACT_REFUSAL = f"{CONTRACT_ERROR} reason resource group domain allowed audit"

Shape = Any


def shape(value: Any) -> Shape:
    """Returns a document with types in place of values; a list is the set of what its items look like."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        found = {json.dumps(shape(item)): shape(item) for item in value}
        return [found[text] for text in sorted(found)]
    return "null" if value is None else type(value).__name__


def documents(line: str, text: str) -> list[Any]:
    try:
        return [json.loads(item) for item in text.splitlines()]
    except ValueError:
        raise AssertionError(f"{line} printed what is not JSON:\n{text}") from None


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """Types the runbook and then `MORE`; yields what each command line printed: command -> line -> documents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("golden"))
        patch.delenv(OFFSET_VARIABLE, raising=False)
        patch.setattr(render_progress, "QUIET_S", 3600.0)  # a busy machine is no reason for lines that are no JSON
        shutil.copytree(ROOT / "examples", "examples", ignore=shutil.ignore_patterns("__pycache__"))
        write_chain(Path("examples/edges.toml"), Path("chain"))
        Path("empty.json").write_text("{}")
        Path("wrong.toml").write_text('[[queue]]\nname = "Q Q"\n[[domain]]\ncolour = "red"\n')
        Path("failing.toml").write_text(Path("examples/pipeline.toml").read_text().replace("total = 1230", "total = 1"))
        Path("wave.toml").write_text(MADE)
        more = "[[queue]]\nname = 'more'\nreplicas = { m = 'gcp/us-central1' }\n"
        Path("more.toml").write_text(Path("examples/provider-migration.toml").read_text() + more)
        found: dict[str, dict[str, Any]] = {}
        steps = [(step.code, shlex.join(step.words), "") for step in steps_of(RUNBOOK)]
        for code, line, given in steps + MORE:
            said = run(code, line, given)
            found.setdefault(command_of(line), {}).setdefault(f"{line} # {code}", said)
            if line.startswith("catch-up") and code == 0 and "--dry-run" not in line:
                Path("proof.json").write_text(json.dumps(said["stdout"][0]))
        yield found


def run(code: int, line: str, given: str) -> dict[str, list[Any]]:
    """Runs one command line that must end with `code`; returns the documents on both streams."""
    words = shlex.split(line)
    words += [] if {"--json", "-o"} & set(words) else ["--json"]
    environment = {"GRAFCTL_STORE": None if "--store" in words else "./store", "GRAFCTL_DOMAIN": None}
    ended = CliRunner().invoke(app, words, env=environment, input=given.encode())
    assert ended.exit_code == code, f"{line}\nended with {ended.exit_code}\n{ended.output}"
    # Before the error object, a stream of records may have told of single lines as it went.
    said = "\n".join(ended.stderr.splitlines()[-1:]) if code else ended.stderr
    streams = {"stdout": documents(line, ended.stdout), "stderr": documents(line, said)}
    for body in streams["stdout"] if line == "doctor" else []:  # the tests may run in memory, which it tells
        body["findings"] = [found for found in body["findings"] if "is in memory" not in found["problem"]]
    return {name: found for name, found in streams.items() if found}


def command_of(line: str) -> str:
    """Returns the words of a command line that name the command."""
    words = shlex.split(line)
    pair = " ".join(words[:2])
    return pair if pair in COMMANDS else words[0]


COMMANDS = {" ".join(leaf.words) for leaf in leaves()} - WITHOUT_JSON


def test_every_command_is_held_still(printed: dict[str, dict[str, Any]]) -> None:
    assert printed.keys() == COMMANDS
    for name, lines in printed.items():
        assert any(line.endswith("# 0") for line in lines), f"{name} is shown only as it refuses"
    assert {file.stem for file in GOLDEN.glob("*.json")} == {name.replace(" ", "-") for name in COMMANDS}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_fields_and_types_are_as_written_down(name: str, printed: dict[str, dict[str, Any]]) -> None:
    file = GOLDEN / f"{name.replace(' ', '-')}.json"
    found = {
        line: {stream: [shape(item) for item in said] for stream, said in streams.items()}
        for line, streams in printed[name].items()
    }
    if os.environ.get("GRAFCTL_GOLDEN") == "write":
        GOLDEN.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert found == json.loads(file.read_text(encoding="utf-8"))
    # The order of fields is part of what people read, and a comparison of dicts does not see it.
    assert json.dumps(found) == json.dumps(json.loads(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_the_fields_of_the_contract_are_there(name: str, printed: dict[str, dict[str, Any]]) -> None:
    for line, streams in printed[name].items():
        if line.endswith("# 0") and not {"--dry-run", "-o"} & set(line.split()):
            for body in streams["stdout"]:
                if "batches" not in body:  # the sum of a stream, which may have been empty
                    assert set(CONTRACT[name].split()) <= body.keys()


def test_every_document_has_a_version_and_says_whether_it_went_well(printed: dict[str, dict[str, Any]]) -> None:
    for lines in printed.values():
        for line, streams in lines.items():
            for body in streams.get("stdout", []) if "jsonl" not in line.split()[-3:] else []:
                assert (body["v"], body["ok"]) == (1, True), line
            if not line.endswith("# 0"):
                (*_, body) = streams["stderr"]
                assert set(CONTRACT_ERROR.split()) <= body.keys() | {"hint"}, line
                assert (body["v"], body["ok"], body["exit"]) == (1, False, int(line.split()[-1])), line


def test_a_refusal_says_all_that_the_contract_names(printed: dict[str, dict[str, Any]]) -> None:
    (body,) = printed["poll"][f"poll {Q} --group active-workers -d {AZURE} # 11"]["stderr"]
    assert set(CONTRACT_REFUSAL.split()) <= body.keys()
    (change,) = printed["locator set"][f"locator set {Q} --generation 2 --add orders-azure-eastus={AZURE} # 0"][
        "stdout"
    ]
    assert all(replica.keys() >= CONTRACT_REPLICA for replica in change["after"]["replicas"])
    (delivery,) = printed["poll"][f"poll {Q} --group azure-workers -d {AZURE} --max 10 # 0"]["stdout"]
    assert all(record.keys() >= CONTRACT_RECORD for record in delivery["records"])
