"""Every command that changes something says on Ctrl-C and SIGTERM what became of it, and typed again it tells the rest.

Real processes: each stops itself at a named step of what it does, gets its signal there, and goes on.
"""

from __future__ import annotations

import json
import os
import signal
from itertools import cycle
from pathlib import Path

import pytest
from conftest import Runner

from cli.test_help import DESTRUCTIVE, LEAVES, WITHOUT_DRY_RUN, named

COMMIT = "driver.commit.after:1"
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
# In an order in which one store can live through them: a line without a step only prepares the next. After the step is
# what the same line says when it is typed again, that nothing changed or a refusal with a code.
STORY: list[tuple[str, str, int | str]] = [
    ("init ./store -d aws -d gcp", COMMIT, "unchanged"),
    ("lease acquire l --bytes 4KiB --owner me --term 1h -d aws", COMMIT, "unchanged"),
    ("lease renew l --token 1 -d aws", COMMIT, 0),
    ("edge create l --slots 4 --token 1 -d aws", COMMIT, "unchanged"),
    ("edge push l x -d aws", "edge.slot:1", 0),
    ("edge pop l --max 9 -d aws", "edge.head:1", 0),
    ("lease acquire m --bytes 4KiB --owner me --term 1h -d aws", "", ""),
    ("edge create m --slots 4 --token 5 -d aws", "", ""),
    ("edge relocate m --token 5 -d aws", "append.committed:1", "unchanged"),
    ("lease release l --token 1 -d aws", "append.after:1", "unchanged"),
    ("lease revoke l --yes", COMMIT, "unchanged"),
    ("edge remove l --yes", COMMIT, 10),
    ("lease forget l --yes", COMMIT, 10),
    ("domain add azure", COMMIT, "unchanged"),
    ("domain add spare", "driver.create.rename:1", "unchanged"),
    ("authority add watch --public-key watch.pub", COMMIT, "unchanged"),
    ("health observe azure healthy --authority watch --key-file watch.key", COMMIT, 0),
    ("queue create q --schema s --replica a=aws --replica g=gcp --allow aws --allow gcp", COMMIT, "unchanged"),
    ("topic create t --schema s --log shared --replica a=aws --replica g=gcp --allow aws", COMMIT, "unchanged"),
    ("topic create u --schema s --log shared --allow aws", COMMIT, "unchanged"),
    ("schema add s.v1 schema.json", COMMIT, "unchanged"),
    ("idem create i --replica a=aws --replica g=gcp --allow aws --retain-age 1ms", COMMIT, "unchanged"),
    ("idem reserve i one --stage s --payload x -d aws", COMMIT, 22),
    ("idem complete i one --stage s --token 1 --result y -d aws", COMMIT, "unchanged"),
    ("idem reserve i two --stage s --payload x -d aws", "append.after:1", 22),
    ("idem release i two --stage s --token 3 -d aws", "append.committed:1", "unchanged"),
    ("idem expire i -d aws", COMMIT, "unchanged"),
    ("table create k --replica a=aws --replica g=gcp --allow aws --vshards 2", COMMIT, "unchanged"),
    ("table put k one 1 -d aws", COMMIT, "unchanged"),
    ("table delete k one -d aws", "append.after:1", "unchanged"),
    ("consumer create q g --allow aws --max-deliveries 1", COMMIT, "unchanged"),
    ("consumer pause q g", COMMIT, "unchanged"),
    ("consumer resume q g", "append.after:1", "unchanged"),
    ("placement set q --allow aws --allow gcp --allow azure", COMMIT, "unchanged"),
    ("policy set q --ack all", "start.after:1", "unchanged"),
    ("fence q --epoch 2", "append.before:1", "unchanged"),
    ("publish q zero -d aws", "", ""),
    ("publish q one -d aws", "", ""),
    ("poll q --group g -d aws", "", ""),
    ("ack q 0 --group g -d aws", COMMIT, "unchanged"),
    ("nack q 1 --group g -d aws", "append.committed:1", "unchanged"),
    ("dead redrive q g 1 --yes", "append.after:1", "unchanged"),
    ("consumer seek q g --to latest --yes", COMMIT, "unchanged"),
    *(
        (line.format(name=kind[0] * 3, kind=kind), step, again)
        for kind in ("queue", "topic")
        for line, step, again in (
            ("{kind} create {name} --schema s --replica a=aws --replica g=gcp --allow aws --retain-count 0", "", ""),
            ("consumer create {name} g --allow aws", "", ""),
            ("publish {name} zero -d aws", "", ""),
            ("poll {name} --group g -d aws", "", ""),
            ("ack {name} 0 --group g -d aws", "", ""),
            ("{kind} trim {name}", COMMIT, "unchanged"),
        )
    ),
    ("table create w --replica a=aws --replica g=gcp --allow aws --allow azure --vshards 4", "", ""),
    ("vshard migrate w 0 --to azure --hold-cutover -d aws --write-pause-budget 9s", "", ""),
    ("vshard throttle w 0 --rate 1MB/s -d aws", COMMIT, "unchanged"),
    ("locator set q --generation 2 --add z=azure", COMMIT, "unchanged"),
    ("catch-up q -d azure", "", ""),
    ("consumer shift q g --as h --allow azure --proof @proof.json", COMMIT, "unchanged"),
    ("policy set q --ack majority", "", ""),
    ("domain fail gcp", "", ""),
    ("publish q two -d aws", "", ""),
    ("domain restore gcp", COMMIT, "unchanged"),
    ("apply declared.toml", COMMIT, "unchanged"),
    ("plan planned.toml --out store.plan", "", ""),
    ("apply store.plan", "apply.before:1", "unchanged"),
    *(
        (line.format(name=name), "", "")
        for name in ("old", "new")
        for line in (
            "queue create {name} --schema s --replica a=aws --allow aws",
            "consumer create {name} g --allow aws",
            "publish {name} x --id one -d aws",
        )
    ),
    ("consumer attach b --source old --target new --group g --window 0s", "switching.created:1", "unchanged"),
    ("consumer switch b --to target -d aws", "", ""),
    ("consumer lock b --yes -d aws", COMMIT, "unchanged"),
    ("consumer detach b --yes", "switching.detaching:1", 10),
    ("domain remove spare --yes", COMMIT, 10),
    ("authority revoke watch --yes", COMMIT, "unchanged"),
]
# These are below, have tests of their own, or have no step to stop at: `domain fail` makes one file, `keygen` two.
ELSEWHERE = {
    "publish",
    "pipeline run",
    "table load",
    "catch-up",
    "backup",
    "restore",
    "domain fail",
    "domain repair",
    "authority keygen",
    *(f"consumer {verb}" for verb in ("switch", "rollback", "compare", "soak", "wave")),
    *(f"vshard {verb}" for verb in ("migrate", "resume", "cutover", "reverse", "cancel", "retire")),
}


def interrupted(run: Runner, line: str, step: str, *numbers: int, is_json: bool = True) -> tuple[int, str, str]:
    """Runs a command that stops itself at a step and gets signals there; returns how it ended and what it said."""
    words = [*line.split(), *(["--json"] if is_json else [])]
    started = run.start(*words, store="store", env={"GRAFCTL_STOP_AT": step})
    os.waitid(os.P_PID, started.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    for number in numbers:
        started.send_signal(number)
    started.send_signal(signal.SIGCONT)
    out, said = started.communicate(timeout=60)
    return started.returncode, out.decode(), said.decode()


@pytest.fixture
def here(run: Runner) -> Path:
    run("authority", "keygen", "watch")
    names = ("aws", "gcp", "azure", "spare", "fifth")
    declared = "".join(f'[[domain]]\nname = "{name}"\n' for name in names)
    (run.cwd / "schema.json").write_text('{"type":"object"}')
    (run.cwd / "declared.toml").write_text(declared)
    (run.cwd / "planned.toml").write_text(f'{declared}[[queue]]\nname = "planned"\nreplicas.p = "aws"\n')
    return run.cwd


def test_the_story_has_every_command_that_changes_something() -> None:
    changing = {named(leaf) for leaf in LEAVES} - WITHOUT_DRY_RUN | DESTRUCTIVE
    told = {name for name in changing for line, step, _ in STORY if step and line.startswith(f"{name} ")}
    assert changing - told == ELSEWHERE & changing


def test_each_change_that_is_interrupted_is_done_and_says_so(run: Runner, here: Path) -> None:
    number = cycle(CODES)
    for line, step, again in STORY:
        if not step:
            (here / "proof.json").write_text(run(*line.split(), "--json", store="store").out)
            continue
        sent = next(number)
        code, out, said = interrupted(run, line, step, sent)
        assert code == CODES[sent], f"{line}: {said}"
        assert (json.loads(said)["outcome"], json.loads(said)["notes"]) == ("done", ["It is done."]), line
        assert json.loads(out)["ok"] is True, line
        ended = run(*line.split(), "--json", store="store", check=again if isinstance(again, int) else 0)
        assert again != "unchanged" or ended.json["changed"] is False, f"{line} typed again: {ended}"
    assert run("verify", "--json", "--exit-code", store="store").code == 0


def test_whoever_insists_is_told_which_command_tells(run: Runner, store: Path) -> None:
    code, out, said = interrupted(run, "fence q --epoch 2", "append.after:1", *CODES, is_json=False)
    assert code in CODES.values() and not out
    assert "Whether it is done is unknown. Run the same command again:" in said
    assert run("fence", "q", "--epoch", "2", "--json", store="store").json["changed"] in (True, False)
    assert run("queue", "show", "q", "--json", store="store").json["epoch"] == 2


def test_without_a_quorum_nobody_knows(run: Runner, store: Path) -> None:
    started = run.start(
        "fence", "q", "--epoch", "2", "--json", store="store", env={"GRAFCTL_STOP_AT": "append.after:1"}
    )
    os.waitid(os.P_PID, started.pid, os.WSTOPPED | os.WNOWAIT)
    run("domain", "fail", "gcp", store="store")
    for number in (signal.SIGINT, signal.SIGCONT):
        started.send_signal(number)
    out, said = started.communicate(timeout=60)
    assert (started.returncode, out, json.loads(said)["outcome"]) == (130, b"", "unknown")
    assert "same command again" in json.loads(said)["notes"][-1]
    run("domain", "restore", "gcp", store="store")
    assert run("fence", "q", "--epoch", "2", store="store").code == 0


def test_an_interrupted_refusal_changes_nothing(run: Runner, store: Path) -> None:
    run("fence", "q", "--epoch", "5", store="store")
    code, out, said = interrupted(run, "fence q --epoch 2", "append.committed:1", signal.SIGINT)
    assert (code, out, json.loads(said)["outcome"]) == (130, "", "not_written")


def test_a_long_copy_is_left_at_once_and_goes_on(run: Runner, here: Path, store: Path) -> None:
    run("domain", "add", "azure", store="store")
    run("authority", "add", "watch", "--public-key", "watch.pub", store="store")
    run("health", "observe", "azure", "healthy", "--authority", "watch", "--key-file", "watch.key", store="store")
    run("publish", "q", "x", "-d", "aws", store="store")
    run("locator", "set", "q", "--generation", "2", "--add", "z=azure", store="store")
    code, _, said = interrupted(run, "catch-up q -d azure", "catch-up.copied:1", signal.SIGINT)
    assert (code, json.loads(said)["outcome"]) == (130, "unknown")
    assert "same command again" in json.loads(said)["notes"][0]
    assert run("catch-up", "q", "-d", "azure", "--json", store="store").json["promoted"] is True


@pytest.mark.parametrize(("step", "outcome"), [("backup.rows:1", "not_written"), ("backup.named:1", "done")])
def test_a_backup_is_whole_or_absent_and_says_which(run: Runner, store: Path, step: str, outcome: str) -> None:
    (run.cwd / "to").mkdir()
    code, _, said = interrupted(run, "backup to/one", step, signal.SIGTERM)
    assert (code, json.loads(said)["outcome"]) == (143, outcome)
    assert [path.name for path in (run.cwd / "to").iterdir()] == (["one"] if outcome == "done" else [])
    run("restore", "to/one", "--dry-run") if outcome == "done" else run("backup", "to/one", store="store")


@pytest.mark.parametrize("step", ["restore.recorded:1", "restore.filled:1", "restore.done:1"])
def test_a_restore_that_is_interrupted_goes_on(run: Runner, store: Path, step: str) -> None:
    run("backup", "one", store="store")
    code, _, said = interrupted(run, "restore one --store new", step, signal.SIGINT)
    assert (code, json.loads(said)["outcome"]) == (130, "unknown")
    assert run("restore", "one", "--store", "new", "--json").json["changed"] is not step.startswith("restore.done")
    assert run("verify", "--exit-code", store="new").code == 0


@pytest.mark.parametrize("step", ["repair.aside:1", "repair.created:1", "repair.learnt:2"])
def test_a_repair_that_is_interrupted_goes_on(run: Runner, store: Path, step: str) -> None:
    run("publish", "q", "x", "-d", "aws", store="store")
    (store / "domains" / "gcp" / "env" / "journal").unlink()
    asked = run("domain", "repair", "gcp", store="store", check=15)
    assert "--yes" in asked.err
    code, _, said = interrupted(run, "domain repair gcp --yes", step, signal.SIGINT)
    assert (code, json.loads(said)["outcome"]) == (130, "unknown")
    assert run("domain", "repair", "gcp", "--yes", "--json", store="store").json["changed"] is True
    assert run("publish", "q", "y", "-d", "aws", "--json", store="store").json["acked_by"] == ["aws", "gcp"]
    assert run("verify", "--exit-code", store="store").code == 0


STEPS_OF_A_SWITCH = ("closing", "draining", "closed", "carried", "flipped", "opened")


@pytest.mark.parametrize("verb", ["switch b --to target", "rollback b"])
@pytest.mark.parametrize("step", STEPS_OF_A_SWITCH)
def test_a_switch_that_is_interrupted_leaves_its_consumer_reading_and_goes_on(
    run: Runner, here: Path, step: str, verb: str
) -> None:
    run("init", "./store", "-d", "aws")
    for name in ("old", "new"):
        run("queue", "create", name, "--schema", "s", "--replica", "a=aws", "--allow", "aws", store="store")
        run("consumer", "create", name, "g", "--allow", "aws", store="store")
        run("publish", name, "x", "--id", "one", "-d", "aws", store="store")
    run("consumer", "attach", "b", "--source", "old", "--target", "new", "--group", "g", store="store")
    if verb.startswith("rollback"):
        run("consumer", "switch", "b", "--to", "target", "-d", "aws", store="store")
    code, _, said = interrupted(run, f"consumer {verb} -d aws", f"switching.{step}:1", signal.SIGINT)
    assert (code, json.loads(said)["outcome"]) == (130, "unknown")
    poll = run("poll", "old", "--group", "g", "-d", "aws", "--json", store="store").json
    assert [record["id"] for record in poll["records"]] == ["one"], "the consumer is not to wait"
    run("nack", poll["resource"], "0", "--group", "g", "-d", "aws", store="store")
    run("consumer", *verb.split(), "-d", "aws", store="store")
    shown = run("consumer", "status", "b", "--json", store="store").json
    assert (shown["state"], shown["side"]) == (
        ("soaking", "target") if verb.startswith("switch") else ("rolled_back", "source")
    )
