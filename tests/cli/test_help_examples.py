"""Every example of the help is typed, in one life of a store, and does what it says.

`STORY` names each command once, in an order in which it finds what it needs; between them stand the few commands that
prepare what no example makes. Examples that only look are as good in a later place.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import ROOT
from typer.testing import CliRunner

from cli.tree import Leaf, leaves
from grafctl.cli import app
from grafctl.clock import OFFSET_VARIABLE

Q, AWS, GCP = "migration-orders", "aws/us-east-1/us-east-1a", "gcp/us-central1"
DURABLE, MOVED_ON = "durable in", "+10 s"

# The command whose example is typed, or a whole command line that prepares the next; and a part of what it must print.
STORY = [
    ("authority keygen", "scheduler-a.key"),
    ("init", "create the environment"),
    ("lease acquire", "token:      1"),
    ("lease renew", "Nothing to change"),
    ("lease list", "parser@host-1"),
    ("edge create", "publish it as edge parsed"),
    ("edge push", "offset:     0"),
    ("edge status", "CAPACITY"),
    ("edge pop", '{"order":1}'),
    ("lease revoke", "Would change"),
    ("lease release", "released"),
    ("edge relocate", "generation:        2"),
    ("grafctl lease revoke parsed --grace 0 --yes", "revoked"),
    ("edge remove", "remove the edge parsed"),
    ("lease forget", "forget the lease parsed"),
    ("queue create", Q),
    ("queue list", Q),
    ("queue show", "migration-work.v1"),
    ("topic create", "order-events"),
    ("topic list", "order-events"),
    ("topic show", "order-event.v1"),
    ("topic trim", "Nothing would change in order-events"),
    ("idem create", "charges"),
    ("idem reserve", "token:"),
    (f"grafctl idem reserve charges order-2 --stage charge --payload x -d {GCP}", "token:       2"),
    ("idem release", "absent"),
    ("idem list", "order-1"),
    ("idem complete", "completed"),
    ("idem show", "paid"),
    ("idem expire", "completed 0"),
    ("table create", "accounts"),
    ("table list", "accounts"),
    ("table show", "1024"),
    ("table put", DURABLE),
    ("table get", '{"balance":100}'),
    (f"grafctl table put accounts bob 0 -d {AWS}", "version 1 in vshard"),
    (f"grafctl table put accounts bob 1 --expect 1 -d {AWS}", "version 2 in vshard"),
    ("table delete", "deleted from vshard"),
    ("table scan", "alice"),
    ("table count", "count: 1"),
    ("table load", "3 rows: 3 written, 0 there already"),
    ("table export", "3 rows of accounts in accounts.jsonl"),
    ("vshard plan", "way back: open"),
    ("vshard migrate", "4 of 4 vshards changed"),
    ("vshard list", "accounts.part-1"),
    ("vshard show", "completed"),
    ("vshard status", "completed"),
    ("vshard reverse", f"is in {AWS}, {GCP} now (generation 3)"),
    ("vshard retire", "its old copy is deleted"),
    (f"grafctl vshard migrate accounts 4-6 --to {AWS} --hold-cutover --write-pause-budget 9s -d {GCP}", "is ready"),
    ("vshard throttle", "20000000"),
    ("vshard cutover", f"is in {AWS} now (generation 2)"),
    ("vshard cancel", "its migration is cancelled"),
    ("vshard resume", "1 of 1 vshards changed"),
    ("schema add", "sha256:"),
    ("schema list", "order.v1"),
    ("schema show", "A normalised order"),
    ("consumer create", "active-workers"),
    (f"grafctl queue create new-orders --schema s --replica n={AWS} --allow aws", "new-orders"),
    ("grafctl consumer create new-orders billing --allow aws", "billing"),
    (f"grafctl consumer create {Q} billing --allow aws", "billing"),
    ("consumer attach", "route the polls of group billing"),
    ("consumer status", "migration-orders"),
    ("consumer compare", "Compared by id at "),
    ("consumer report", "is shadow: group billing of migration-orders"),
    ("consumer switch", "soaking"),
    ("consumer soak", "is soaking: group billing of new-orders"),
    ("consumer rollback", "rolled_back"),
    ("consumer detach", "Would change"),
    ("grafctl consumer detach billing --yes", "Changed"),
    (f"grafctl consumer attach billing --source {Q} --target new-orders --group billing --window 0", "billing"),
    (f"grafctl consumer switch billing --to target -d {AWS}", "soaking"),
    ("consumer lock", "Would change"),
    (f"grafctl consumer rollback billing -d {AWS}", "rolled_back"),
    ("grafctl consumer detach billing --yes", "Changed"),
    ("publish", "offset 0"),
    (f"grafctl publish {Q} paid -d {GCP}", "offset 1"),
    ("poll", "created"),
    ("nack", "1 "),
    (MOVED_ON, ""),
    (f"grafctl poll {Q} --group active-workers -d {GCP} --json", '"offset":1,"payload":"paid","delivery":2'),
    ("ack", "2 "),
    (f"grafctl consumer show {Q} active-workers --json", '"ack_floor":2'),
    ("peek", "created"),
    ("can", "allowed"),
    ("consumer list", "active-workers"),
    ("consumer show", '"semantics":"effectively-once"'),
    ("consumer pause", "active-workers"),
    ("consumer resume", "active-workers"),
    ("consumer seek", "active-workers"),
    ("consumer plan", "low risk, value 5; the first of shape points"),
    ("dead list", "No dead"),
    ("dead redrive", "redriven: 0"),
    ("domain add", "azure/eastus"),
    ("domain list", "azure/eastus"),
    ("domain show", GCP),
    ("domain remove", "azure/eastus"),
    ("authority add", "scheduler-a"),
    ("authority list", "scheduler-a"),
    ("health observe", "healthy"),
    ("health list", "healthy"),
    ("locator set", "catching_up"),
    ("catch-up", '"match":true'),
    ("locator show", "ready"),
    ("locator history", "2"),
    ("consumer shift", "azure-workers"),
    ("domain fail", GCP),
    ("domain restore", GCP),
    ("domain repair", f"Nothing would change in {GCP}"),
    ("placement show", "aws"),
    ("placement set", "azure/eastus"),
    ("policy show", "majority"),
    ("policy set", "all"),
    ("fence", "2"),
    ("queue trim", "Nothing to change"),
    ("plan", "Saved to store.plan"),
    ("apply", "Nothing would change"),
    ("drift", "not declared"),
    ("pipeline validate", "take, clean, load"),
    ("pipeline test", "passed  cents"),
    ("pipeline plan", "allow gcp"),
    ("pipeline graph", "flowchart LR"),
    ("grafctl domain add aws/us-east-1", "aws/us-east-1"),
    ("grafctl apply examples/switchover.toml", "create the group points-reports of points-new"),
    ("consumer wave", "switch points-reports to points-reports of points-new"),
    ("grafctl queue create raw-orders --schema s --log o --replica a=aws/us-east-1 --allow aws", "raw-orders"),
    ("grafctl topic create clean-orders --schema s --log o --allow aws", "clean-orders"),
    ("grafctl consumer create raw-orders clean --allow aws", "clean"),
    ("grafctl consumer create clean-orders load --allow aws", "load"),
    ("pipeline run", "transform"),
    ("pipeline status", "clean-orders"),
    ("pipeline tap", ""),
    ("authority revoke", "scheduler-a"),
    ("status", Q),
    ("verify", "No problems found"),
    ("doctor", "on one disk"),
    ("backup", "sha256"),
    ("restore", "create"),
    ("audit tail", "clean-orders/load"),
    ("audit verify", "yes"),
    ("audit explain", "lease acquire"),
    ("explain", "domain_unavailable"),
    ("completion show", "grafctl"),
    ("completion install", "next shell"),
]
EXAMPLES: dict[str, Leaf] = {" ".join(leaf.words): leaf for leaf in leaves()}


def test_the_story_types_every_example_once() -> None:
    typed = [step for step, _ in STORY if step in EXAMPLES]
    assert sorted(typed) == sorted(EXAMPLES)


def words_of(text: str, home: Path) -> tuple[list[str], dict[str, str]]:
    """Returns what a shell would make of one line: its words, and the variables that stand before them."""
    words = shlex.split(text.replace("\\\n", " ").replace("$(mktemp -d)", str(home)), comments=True)
    variables = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    assert words.pop(0) == "grafctl" and not re.search(r"[$`|;&<>]", "".join(words)), text
    return words, variables


def test_every_example_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", "examples", ignore=shutil.ignore_patterns("__pycache__"))
    home = tmp_path / "home"
    home.mkdir()
    environment: dict[str, str | None] = {"GRAFCTL_STORE": "./store", "GRAFCTL_DOMAIN": None, "HOME": str(home)}
    for step, printed in STORY:
        if step == MOVED_ON:
            environment[OFFSET_VARIABLE] = "10000"
            continue
        text = EXAMPLES[step].examples if step in EXAMPLES else step
        words, variables = words_of(text, home)
        ended = CliRunner().invoke(app, words, env={**environment, **variables})
        assert ended.exit_code == 0, f"{text}\nended with {ended.exit_code}\n{ended.output}"
        assert printed in ended.stdout, f"{text}\nprinted\n{ended.output}"
        if step == "catch-up":
            Path("proof.json").write_text(ended.stdout)  # as the runbook does, and `consumer shift` reads it
