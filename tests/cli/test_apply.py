"""`apply FILE` as a process: it makes the store too, finishes what is there, and refuses a wrong file whole."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from conftest import Runner

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "provider-migration.toml"
AWS, GCP = "aws/us-east-1/us-east-1a", "gcp/us-central1"
ACTIONS = ["create the queue migration-orders", "create the group active-workers of migration-orders"]
WRONG = """[[domain]]
name = "aws"
colour = "red"
[[queue]]
name = "q"
ack = "most"
replicas = { a = "aws", g = "gcp" }
retain_age = "7 days"
"""


def test_apply_makes_the_store_and_again_changes_nothing(run: Runner) -> None:
    would = run("apply", EXAMPLE, "--dry-run", "--json", store="store").json
    assert would["changed"] and not (run.cwd / "store").exists()
    first = run("apply", EXAMPLE, "--json", store="store").json
    assert first["changed"] and first["actions"] == would["actions"]
    environments = [f"create the environment of {name}" for name in (AWS, GCP)]
    assert first["actions"][1:] == [*environments, *ACTIONS]
    assert [item["domain"] for item in run("domain", "list", "--json", store="store").json["domains"]] == [AWS, GCP]
    run("publish", "migration-orders", "created", "-d", AWS, store="store")
    before = (run.cwd / "store" / "store.toml").read_bytes()
    again = run("apply", EXAMPLE, "--json", store="store").json
    assert (again["changed"], again["actions"]) == (False, [])
    assert (run.cwd / "store" / "store.toml").read_bytes() == before
    polled = run("poll", "migration-orders", "-g", "active-workers", "-d", GCP, "--json", store="store").json
    assert [record["payload"] for record in polled["records"]] == ["created"]


def test_apply_finishes_a_store_that_init_made(run: Runner) -> None:
    run("init", "store", "--domain", AWS, "--domain", GCP)
    assert run("apply", EXAMPLE, "--json", store="store").json["actions"] == ACTIONS


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_wrong_file_is_refused_with_every_problem_and_makes_no_store(run: Runner, options: tuple[str, ...]) -> None:
    (run.cwd / "wrong.toml").write_text(WRONG)
    ended = run("apply", "wrong.toml", *options, store="store", check=78)
    lines = [line.split(":")[1] for line in ended.err.splitlines() if line.startswith("wrong.toml:")]
    assert lines == ["3", "6", "7", "8"], ended
    problems = run("apply", "wrong.toml", "--json", *options, store="store", check=78).error["problems"]
    assert [str(problem["line"]) for problem in problems] == lines
    assert not (run.cwd / "store").exists()


@pytest.mark.parametrize(
    "step", ["driver.create.rename:1", *(f"driver.commit.after:{number}" for number in range(1, 6))]
)
def test_apply_that_is_killed_while_it_makes_the_store_goes_on(run: Runner, step: str) -> None:
    killed = run("apply", EXAMPLE, store="store", env={"GRAFCTL_KILL_AT": step}, check=None)
    assert killed.code == -signal.SIGKILL
    assert run("apply", EXAMPLE, "--json", store="store").json["actions"][-2:] == ACTIONS
    assert run("apply", EXAMPLE, "--json", store="store").json["changed"] is False
    assert run("verify", "--exit-code", store="store").code == 0
