"""`plan`, `apply PLAN` and `drift` as processes: what they print, exit codes, and plans that are killed on the way.

A kill is a SIGKILL of the real command at a named step of what it does; the same command is then typed again.
"""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Ended, Runner

BASE = """\
[[domain]]
name = "aws"
[[domain]]
name = "gcp"
[[queue]]
name = "orders"
allow = ["aws"]
replicas = { a = "aws", g = "gcp" }
"""
MORE = """\
[[queue.group]]
name = "first"
allow = ["aws"]
[[domain]]
name = "azure"
[[log]]
name = "shared"
replicas = { e = "azure", g = "gcp" }
[[topic]]
name = "events"
log = "shared"
[[topic.group]]
name = "second"
allow = ["azure"]
filter = "key:eu-"
[[idem]]
name = "effects"
log = "shared"
allow = ["gcp"]
"""
ACTIONS = [
    *("add the domain azure", "begin the log shared", "create the group first of orders", "create the topic events"),
    *("create the group second of events", "create the idempotency store effects"),
]


@pytest.fixture
def cwd(run: Runner) -> Path:
    """A directory with a store made of `base.toml`, and `more.toml`, which declares more."""
    (run.cwd / "base.toml").write_text(BASE)
    (run.cwd / "more.toml").write_text(BASE + MORE)
    run("apply", "base.toml", store="store")
    return run.cwd


def shown(run: Runner, store: str = "store") -> Any:
    """Returns everything that a file can declare, as the store shows it, without what is drawn."""
    looks = (
        "domain list",
        "authority list",
        "queue list",
        "topic list",
        "consumer list orders",
        "consumer list events",
    )
    body = [run(*look.split(), "--json", store=store, check=None) for look in looks]
    return [_without_drawn(json.loads(ended.out)) if ended.code == 0 else ended.code for ended in body]


def _without_drawn(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_drawn(item) for name, item in value.items() if name not in ("incarnation", "path")}
    return [_without_drawn(item) for item in value] if isinstance(value, list) else value


def test_a_plan_is_shown_saved_and_done_once(run: Runner, cwd: Path) -> None:
    text = run("plan", "more.toml", store="store").out
    assert "  + group first of orders  (more.toml:9)\n      placement: allow aws (pl_" in text
    assert "6 to create. Nothing that is there is changed or deleted." in text
    run("plan", "more.toml", "--exit-code", store="store", check=3)
    body = run("plan", "more.toml", "--out", "p", "--json", store="store").json
    assert [item["action"] for item in body["actions"]] == ACTIONS and body["out"] == "p"
    assert stat.S_IMODE((cwd / "p").stat().st_mode) == 0o600
    (cwd / "more.toml").unlink()
    assert run("apply", "p", "--dry-run", "--json", store="store").json["actions"] == ACTIONS
    first = run("apply", "p", "--json", store="store").json
    assert (first["actions"], first["after"]["plan"]) == (ACTIONS, body["plan"])
    again = run("apply", "p", "--json", store="store").json
    assert (again["changed"], again["actions"]) == (False, [])


def test_the_umask_opens_no_plan(run: Runner, cwd: Path) -> None:
    before = os.umask(0)
    try:
        run("plan", "more.toml", "--out", "p", store="store")
    finally:
        os.umask(before)
    assert stat.S_IMODE((cwd / "p").stat().st_mode) == 0o600


def test_exit_codes(run: Runner, cwd: Path) -> None:
    run("plan", "base.toml", "--exit-code", store="store")
    run("drift", "base.toml", "--exit-code", store="store")
    changes = run("plan", "more.toml", "--exit-code", "--json", store="store", check=3)
    assert (changes.error["code"], changes.error["count"], changes.json["changes"]) == ("changes", 6, True)
    drifted = run("drift", "more.toml", "--exit-code", "--json", store="store", check=3)
    assert (drifted.error["code"], drifted.json["count"]) == ("mismatch", 6)
    run("queue", "create", "spare", "--schema", "s", "--replica", "s=aws", store="store")
    run("plan", "base.toml", "--exit-code", store="store")  # what is not declared is no change
    assert (
        run("drift", "base.toml", "--exit-code", store="store", check=3).out
        == "base.toml: queue spare is not declared\n"
    )
    run("drift", "base.toml", store="none", check=10)
    assert "identity" not in run("plan", "base.toml", "--exit-code", "--json", store="none", check=3).json
    assert not (cwd / "none").exists()
    for command in ("plan", "drift", "apply"):
        run(command, "none.toml", store="store", check=2)
        run(command, store="store", check=2)
    run("plan", "more.toml", "--out", "more.toml", store="store", check=2)
    assert (cwd / "more.toml").read_text() == BASE + MORE
    run("plan", "more.toml", "--out", "", store="store", check=2)
    run("plan", "p", store="store", check=2)


def test_a_plan_is_no_declared_file(run: Runner, cwd: Path) -> None:
    run("plan", "more.toml", "--out", "p", store="store")
    assert "not TOML" in run("plan", "p", store="store", check=78).err
    assert "not TOML" in run("drift", "p", store="store", check=78).err


@pytest.mark.parametrize("cut", [1, 100, -2, -200])
def test_a_plan_that_was_cut_or_changed_is_refused_whole(run: Runner, cwd: Path, cut: int) -> None:
    run("plan", "more.toml", "--out", "p", store="store")
    text = (cwd / "p").read_bytes()
    (cwd / "p").write_bytes(text[:cut])
    ended = run("apply", "p", store="store", check=78)
    assert "p:" in ended.err and "This is no plan: it is not one JSON object" in ended.err
    (cwd / "p").write_bytes(text.replace(b'name = \\"second\\"', b'name = \\"sec0nd\\"'))
    assert "was changed after it was made" in run("apply", "p", store="store", check=78).err
    assert run("drift", "more.toml", "--json", store="store").json["count"] == 6


def test_what_moved_refuses_the_plan_with_what_it_was(run: Runner, cwd: Path) -> None:
    run("plan", "more.toml", "--out", "p", store="store")
    run("placement", "set", "orders", "--allow", "gcp", store="store")
    ended = run("apply", "p", "--json", store="store", check=13)
    assert ended.error["moved"] == ["queue orders has another placement"] and "grafctl plan" in ended.error["hint"]
    assert run("audit", "explain", str(ended.error["audit"]), "--json", store="store").json["op"] == "apply"
    assert [item["domain"] for item in run("domain", "list", "--json", store="store").json["domains"]] == ["aws", "gcp"]


# --- kills


def killed(run: Runner, step: str, plan: str = "p", store: str = "store") -> bool:
    """Applies a plan in a process that is killed at a step; returns whether it came that far."""
    ended: Ended = run("apply", plan, store=store, env={"GRAFCTL_KILL_AT": step}, check=None)
    assert ended.code in (0, -signal.SIGKILL), ended
    return ended.code != 0


STEPS = [f"apply.{name}:{number}" for name in ("before", "made") for number in (1, 2, 3, 4, 5)]
STEPS += ["plan.begun:1", "plan.done:1", *(f"driver.commit.after:{number}" for number in range(1, 30, 4))]


@pytest.fixture(scope="module")
def as_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What `apply FILE` makes, which is what a plan has to come to."""
    run = Runner(tmp_path_factory.mktemp("as_file"))
    (run.cwd / "more.toml").write_text(BASE + MORE)
    run("apply", "more.toml", store="store")
    yield shown(run)


@pytest.mark.parametrize("step", STEPS)
def test_a_plan_that_is_killed_goes_on(run: Runner, cwd: Path, as_file: Any, step: str) -> None:
    run("plan", "more.toml", "--out", "p", store="store")
    was_killed = killed(run, step)
    assert was_killed or step.startswith("driver.commit")
    left = run("apply", "p", "--json", store="store").json
    assert left["changed"] is bool(left["actions"])
    assert run("apply", "p", "--json", store="store").json["changed"] is False
    assert shown(run) == as_file
    assert run("verify", "--exit-code", store="store").code == 0


@pytest.mark.parametrize("step", ["plan.begun:1", "apply.made:3"])
def test_a_plan_that_was_killed_is_refused_once_something_moved(run: Runner, cwd: Path, step: str) -> None:
    run("plan", "more.toml", "--out", "p", store="store")
    assert killed(run, step)
    run("fence", "orders", "--epoch", "9", store="store")
    assert run("apply", "p", "--json", store="store", check=13).error["moved"] == ["queue orders has another epoch"]
    # What is left of it is in a new plan.
    run("plan", "more.toml", "--out", "q", store="store")
    assert run("apply", "q", "--json", store="store").json["actions"] == ACTIONS[4 if "made" in step else 0 :]


NEW = [f"driver.commit.after:{number}" for number in (1, 2, 5, 9, 14)]
NEW += ["driver.create.rename:1", "driver.create.rename:2", "plan.begun:1", "apply.made:2", "plan.done:1"]


@pytest.mark.parametrize("step", NEW)
def test_a_plan_that_makes_a_store_and_is_killed_goes_on(run: Runner, as_file: Any, step: str) -> None:
    (run.cwd / "more.toml").write_text(BASE + MORE)
    run("plan", "more.toml", "--out", "p", store="new")
    assert killed(run, step, store="new")
    assert run("apply", "p", store="new").code == 0
    assert run("apply", "p", "--json", store="new").json["changed"] is False
    assert _sorted(shown(run, "new")) == _sorted(as_file)
    run("init", "other", "--domain", "aws", "--domain", "gcp", "--domain", "azure")
    run("apply", "p", store="other", check=13)


def _sorted(looks: Any) -> str:
    return json.dumps(looks, sort_keys=True)


def test_two_who_apply_one_plan_at_once_make_it_once(run: Runner, cwd: Path, as_file: Any) -> None:
    run("plan", "more.toml", "--out", "p", store="store")
    started = [run.start("apply", "p", "--json", store="store") for _ in range(3)]
    ended = [(*process.communicate(timeout=60), process.returncode) for process in started]
    assert all(code == 0 for *_, code in ended), ended
    assert run("apply", "p", "--json", store="store").json["changed"] is False
    assert shown(run) == as_file
