"""Topics on the command line: what a subscriber sees, what is said of a loss, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grafctl.cli import app

AWS, GCP = "aws/us-east-1", "gcp/us-central1"
FILE = f"""
[[domain]]
name = "{AWS}"
[[domain]]
name = "{GCP}"
[[topic]]
name = "events"
replicas = {{ a = "{AWS}", g = "{GCP}" }}
allow = ["aws", "gcp"]
retain_count = 2
discard = "oldest"
[[topic.group]]
name = "large"
allow = ["gcp"]
filter = "expr:total > 5"
"""


class Here:
    """A store that was made of a file, and a way to run commands on it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "store.toml"
        self.environment = {"GRAFCTL_STORE": str(folder / "store"), "GRAFCTL_DOMAIN": GCP}
        self.file.write_text(FILE)
        self("apply", str(self.file))

    def __call__(self, *words: str, code: int = 0, input: str | None = None) -> str:
        ended = CliRunner().invoke(app, list(words), env=self.environment, input=input)
        assert ended.exit_code == code, ended.output
        self.err = ended.stderr
        return ended.stdout


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def test_a_declared_topic_has_its_policy_and_its_subscription_its_filter(here: Here) -> None:
    shown = json.loads(here("topic", "show", "events", "--json"))
    assert (shown["retain_count"], shown["discard"]) == (2, "oldest")
    assert [(item["name"], item["filter"]) for item in shown["subscriptions"]] == [("large", "expr:total > 5")]
    assert "Nothing to change" in here("apply", str(here.file))
    assert "No differences" in here("drift", str(here.file))
    here.file.write_text(FILE.replace("total > 5", "total > 6"))
    here("apply", str(here.file), code=13)
    here.file.write_text(FILE.replace("total > 5", "total >"))
    here("apply", str(here.file), code=78)
    assert f"{here.file}:15: " in here.err


def test_a_subscriber_is_given_what_it_wants(here: Here) -> None:
    here("publish", "events", "-", input='{"total":9}\n{"total":1}\nno JSON\n')
    taken = here("poll", "events", "--group", "large", "-o", "jsonl", "--ack", "auto")
    assert [json.loads(line)["offset"] for line in taken.splitlines()] == [0, 2]
    assert here("poll", "events", "--group", "large", "--fail-empty", code=4) == ""


def test_a_loss_is_said_to_whoever_polls(here: Here) -> None:
    for total in range(6, 11):
        here("publish", "events", f'{{"total":{total}}}')
    assert here("poll", "events", "--group", "large").split()[0] == "3"
    warning = "warning: retention let go of 3 records, between the offsets 0 and 2, before large had finished them.\n"
    assert here.err == warning
    here("poll", "events", "--group", "large", "-o", "jsonl")
    assert here.err == warning
    assert json.loads(here("poll", "events", "--group", "large", "--json"))["lost"]["records"] == 3 and not here.err
    assert "lost 3 records" in here("status") and "lost 3 records" in here("doctor")
    assert "Changed events/large" in here("consumer", "seek", "events", "large", "--to", "3", "--yes")
    here("poll", "events", "--group", "large")
    assert "lost" not in here("topic", "show", "events") and not here.err


WRONG = [
    ("consumer create events x --filter regex:a", "is no filter"),
    ("consumer create events x --filter key:", "a prefix is missing"),
    ("consumer create events x --filter expr:1+1", "always a number"),
    ("consumer create events x --filter expr:open(1)", "expression"),
    (f"consumer create events x --filter key:{'k' * 5000}", "at most 4096 characters"),
    ("consumer create events x --start yesterday", "is no start"),
    ("consumer create events x --start 2026-01-31", "is no start"),
    ("consumer create events x --start 2026-01-31T12:00:00", "is no start"),
    ("consumer create events x --start 9999-12-31T00:00:00Z", "lies ahead"),
    ("consumer create events x --start -1", "is no start"),
    ("consumer create events x --start 9999999999999999d", "is no start"),
    ("consumer seek events large --to soon --yes", "is no start"),
    ("topic create t --schema s --replica a=aws/us-east-1 --retain-count -1", "no whole number"),
    ("topic create t --schema s --replica a=aws/us-east-1 --discard newest", "not one of"),
    ("topic create t --schema s", "needs at least one --replica"),
]


@pytest.mark.parametrize(("line", "said"), WRONG, ids=[line[:60] for line, _ in WRONG])
def test_what_is_wrong_is_one_sentence_and_changes_nothing(here: Here, line: str, said: str) -> None:
    before = here("consumer", "list", "events", "--json") + here("topic", "list", "--json")
    here(*line.split(), code=2)
    assert said in here.err and len(here.err) < 500
    assert here("consumer", "list", "events", "--json") + here("topic", "list", "--json") == before
