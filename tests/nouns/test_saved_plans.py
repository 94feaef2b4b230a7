"""Saved plans: what one relies on, that it is done once, that whatever moved refuses it, and files that are none."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grafctl import client
from grafctl.declare.reading import digest_of
from grafctl.errors import GenerationConflict, InvalidConfig, NotFound, Usage
from grafctl.nouns import comparing, saved_plans
from grafctl.store.records import encode_json
from nouns.plans import ALL, FILE, MISSING, named, other_key, saved

# --- a saved plan


def test_a_saved_plan_is_done_once(store: client.Store, file: Path) -> None:
    plan = saved(store, file)
    assert stat.S_IMODE(plan.stat().st_mode) == 0o600
    body = json.loads(plan.read_bytes())
    assert body["store"] == store.session.cluster.store and body["text"] == ALL
    assert body["relies_on"]["queue orders"].keys() == {
        *("kind", "log", "generation", "epoch", "placement", "policy", "definition"),
    }
    assert body["relies_on"]["queue later"] is None and body["relies_on"]["authority watch"]["state"] == "trusted"
    file.write_text("not any more")
    assert store.apply(plan, dry_run=True).actions == MISSING
    assert store.apply(plan).actions == MISSING
    again = store.apply(plan)
    assert (again.changed, again.actions) == (False, [])


def test_work_does_not_make_a_plan_stale(store: client.Store, file: Path) -> None:
    plan = saved(store, file)
    store.publish("orders", "x", domain="aws")
    store.poll("orders", "first", domain="aws")
    store.ack("orders", "first", [0], domain="aws")
    store.domains.fail("gcp")
    store.domains.restore("gcp")
    assert store.apply(plan).actions == MISSING
    store.poll("later", "third", domain="gcp")
    assert not store.apply(plan).changed


MOVES: dict[str, tuple[Callable[[client.Store], Any], str]] = {
    "placement": (lambda store: store.placement.set("orders", allow=["gcp"]), "queue orders has another placement"),
    "policy": (lambda store: store.policy.set("orders", ack="majority"), "queue orders has another policy"),
    "epoch": (lambda store: store.fence("orders", epoch=2), "queue orders has another epoch"),
    "generation": (lambda store: _migrate(store), "queue orders has another generation"),
    "group placement": (
        lambda store: store.placement.set("orders", group="first", allow=["gcp"]),
        "group first of orders has another placement",
    ),
    "group epoch": (
        lambda store: store.fence("orders", epoch=2, group="first"),
        "group first of orders has another epoch",
    ),
    "group there": (
        lambda store: store.consumers.create("orders", "second", allow=["gcp"]),
        "group second of orders was absent and is there",
    ),
    "queue there": (
        lambda store: store.queues.create("later", replicas=["l=gcp"]),
        "queue later was absent and is there",
    ),
    "authority": (lambda store: store.authorities.revoke("watch"), "authority watch has another state"),
}


def _migrate(store: client.Store) -> None:
    store.domains.add("azure")
    store.health.observe(
        "azure", "healthy", authority="watch", key_file=store.session.cluster.directory.parent / "watch.key"
    )
    store.locator.set("orders", generation=2, add=["z=azure"])


@pytest.mark.parametrize("what", MOVES)
def test_whatever_moved_refuses_the_plan_and_nothing_is_made(store: client.Store, file: Path, what: str) -> None:
    plan = saved(store, file)
    move, sentence = MOVES[what]
    move(store)
    before = [store.queues.list(), store.consumers.list("orders")]
    for dry_run in (True, False):
        with pytest.raises(GenerationConflict) as caught:
            store.apply(plan, dry_run=dry_run)
        assert sentence in caught.value.message and caught.value.fields["audit"] is not None
        assert sentence in " ".join(caught.value.fields["moved"])
    assert [store.queues.list(), store.consumers.list("orders")] == before


AFTER: dict[str, tuple[Callable[[client.Store], Any], str]] = {
    **{name: MOVES[name] for name in ("placement", "policy", "epoch", "generation", "group epoch", "authority")},
    "made placement": (
        lambda store: store.placement.set("later", allow=["gcp"]),
        "queue later has another placement",
    ),
    "made group": (
        lambda store: store.placement.set("later", group="third", allow=["aws"]),
        "group third of later has another placement",
    ),
}


@pytest.mark.parametrize("what", AFTER)
def test_a_plan_that_was_done_is_refused_once_something_moved(store: client.Store, file: Path, what: str) -> None:
    plan = saved(store, file)
    store.apply(plan)
    move, sentence = AFTER[what]
    move(store)
    with pytest.raises(GenerationConflict) as caught:
        store.apply(plan)
    assert sentence in caught.value.message


def test_what_a_plan_made_and_somebody_removed_is_not_made_again(store: client.Store, file: Path) -> None:
    """A plan that is done makes nothing, also where the store is as it was when the plan was made."""
    file.write_text('[[domain]]\nname = "spare"\n' + FILE)
    plan = saved(store, file)
    store.apply(plan)
    store.domains.remove("spare")
    with pytest.raises(GenerationConflict, match="domain spare is gone"):
        store.apply(plan)
    assert [item["domain"] for item in store.domains.list().items] == ["aws", "gcp"]


def test_a_plan_is_of_one_store(store: client.Store, file: Path, tmp_path: Path) -> None:
    plan = saved(store, file)
    client.create(tmp_path / "other", {"aws": None, "gcp": None})
    with client.open(tmp_path / "other") as other:
        with pytest.raises(GenerationConflict, match="and this store is"):
            other.apply(plan)
        assert other.queues.list().items == []
    with pytest.raises(NotFound):
        client.apply(tmp_path / "none", plan)
    assert not (tmp_path / "none").exists()


def test_something_that_moves_between_two_steps_stops_the_plan(
    store: client.Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = saved(store, file)
    monkeypatch.setattr(comparing, "point", lambda name: _fence_later(store, name))
    with pytest.raises(GenerationConflict, match="queue later has another epoch"):
        store.apply(plan)
    assert store.consumers.list("later").items == []
    monkeypatch.undo()
    with pytest.raises(GenerationConflict, match="queue later has another epoch"):
        store.apply(plan)


def _fence_later(store: client.Store, name: str) -> None:
    if name == "apply.made" and "later" in store.session.resources():
        store.fence("later", epoch=7)


# --- a store that is not there yet


def test_a_plan_makes_a_store_and_knows_it_again(tmp_path: Path, file: Path) -> None:
    directory, plan = tmp_path / "new", tmp_path / "new.plan"
    planned = client.plan(directory, file, out=plan)
    assert planned.identity is None and named(planned)[0] == f"make the store {directory}"
    assert not directory.exists()
    dry = client.apply(directory, plan, dry_run=True)
    assert not directory.exists()
    change = client.apply(directory, plan)
    assert change.actions == dry.actions and change.actions is not None
    assert change.actions[-1] == "create the topic events"
    assert not client.apply(directory, plan).changed
    client.create(tmp_path / "other", {"aws": None, "gcp": None})
    with pytest.raises(GenerationConflict, match="made where there was no store"):
        client.apply(tmp_path / "other", plan)


def test_a_plan_for_no_store_is_stale_once_there_is_one(tmp_path: Path, file: Path) -> None:
    plan = tmp_path / "new.plan"
    client.plan(tmp_path / "new", file, out=plan)
    client.apply(tmp_path / "new", file)
    with pytest.raises(GenerationConflict, match="made where there was no store"):
        client.apply(tmp_path / "new", plan)


def test_two_directories_get_two_identities(tmp_path: Path, file: Path) -> None:
    plan = tmp_path / "new.plan"
    client.plan(tmp_path / "one", file, out=plan)
    for name in ("one", "two"):
        assert client.apply(tmp_path / name, plan).changed
    identities = set()
    for name in ("one", "two"):
        with client.open(tmp_path / name) as opened:
            identities.add(opened.session.cluster.store)
    assert len(identities) == 2


# --- where it is written


def test_a_plan_is_never_written_over_something_else(store: client.Store, file: Path, tmp_path: Path) -> None:
    plan = saved(store, file)
    store.plan(file, out=plan)  # over an older one
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for path in (file, tmp_path / "folder", tmp_path / "pipe", tmp_path / "dangling"):
        with pytest.raises(Usage, match="is there already, and it is no plan"):
            store.plan(file, out=path)
    assert file.read_text() == ALL and not (tmp_path / "nowhere").exists()
    with pytest.raises(Usage, match="cannot be written"):
        store.plan(file, out=tmp_path / "absent" / "plan")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_plan_that_apply_would_refuse_is_shown_and_not_saved(store: client.Store, file: Path) -> None:
    file.write_text(ALL.replace('schema = "order.v1"', 'schema = "order.v2"'))
    shown = store.plan(file)
    assert shown.refused == "The queue orders is there already with another schema." and shown.differences[0]["refused"]
    with pytest.raises(GenerationConflict, match="another schema"):
        store.plan(file, out=file.with_name("saved.plan"))
    assert not file.with_name("saved.plan").exists()
    with pytest.raises(GenerationConflict, match="another schema"):
        store.apply(file)


# --- files that are no plan


def test_another_key_under_the_same_name_makes_a_plan_stale(store: client.Store, file: Path) -> None:
    plan = saved(store, file)
    other_key(file)
    os.replace(file.with_name("other.pub"), file.with_name("watch.pub"))
    with pytest.raises(GenerationConflict, match="A key or a schema"):
        store.apply(plan)
    file.with_name("watch.pub").unlink()
    with pytest.raises(InvalidConfig) as caught:
        store.apply(plan)
    assert "There is no file" in caught.value.problems[0][1] and caught.value.file == str(plan)


Body = dict[str, Any]
TAMPERED: dict[str, Callable[[Body], Any]] = {
    "store": lambda body: body.update(store="st_other"),
    "text": lambda body: body.update(text=body["text"].replace("second", "other")),
    "fact": lambda body: body["relies_on"]["queue orders"].update(epoch=2),
    "absent": lambda body: body["relies_on"].pop("queue later"),
    "more": lambda body: body.update(colour="red"),
    "less": lambda body: body.pop("made_ms"),
    "type": lambda body: body.update(actions="none"),
    "id": lambda body: body.update(plan="pln_" + "0" * 20),
    "version": lambda body: body.update(version=True),
}


def rewritten(plan: Path, change: Callable[[Body], Any], *, signed: bool) -> Path:
    body = json.loads(plan.read_bytes())
    change(body)
    if signed:
        del body["digest"]
        body["digest"] = digest_of(encode_json(body))
    path = plan.with_name("tampered.plan")
    path.write_text(json.dumps(body))
    return path


@pytest.mark.parametrize("what", TAMPERED)
def test_a_plan_that_was_edited_is_refused(store: client.Store, file: Path, what: str) -> None:
    plan = rewritten(saved(store, file), TAMPERED[what], signed=False)
    with pytest.raises(InvalidConfig) as caught:
        store.apply(plan)
    assert "was changed after it was made" in caught.value.problems[0][1]
    assert [item["resource"] for item in store.queues.list().items] == ["orders"]


FORGED: dict[str, tuple[Callable[[Body], Any], type[Exception]]] = {
    "facts": (lambda body: body["relies_on"]["queue orders"].update(epoch=2), GenerationConflict),
    "absent": (lambda body: body["relies_on"].pop("queue later"), GenerationConflict),
    "more facts": (lambda body: body["relies_on"].update({"queue x": None}), GenerationConflict),
    "store": (lambda body: body.update(store="st_\x1b[31m"), GenerationConflict),
    "fact of text": (lambda body: body["relies_on"].update({"queue orders": "x"}), InvalidConfig),
    "many facts": (
        lambda body: body["relies_on"]["queue orders"].update({str(n): n for n in range(99)}),
        InvalidConfig,
    ),
    "long fact": (lambda body: body["relies_on"]["queue orders"].update({"x" * 99: 1}), InvalidConfig),
    "id": (lambda body: body.update(plan="pln_../../../../../../x"), InvalidConfig),
    "long id": (lambda body: body.update(plan="pln_" + "0" * 9999), InvalidConfig),
    "other text": (lambda body: body.update(text=""), InvalidConfig),
    "folder": (lambda body: body.update(folder="\0"), InvalidConfig),
    "long folder": (lambda body: body.update(folder="x" * 9999), InvalidConfig),
    "surrogate": (lambda body: body.update(text="\udcff"), InvalidConfig),
    "newer": (lambda body: body.update(version=2), InvalidConfig),
    "foreign": (lambda body: body.update(format="terraform"), InvalidConfig),
    "action": (lambda body: body.update(actions=[1]), InvalidConfig),
    "bad text": (
        lambda body: body.update(text="[[domain]]", file_digest=digest_of(b"[[domain]]"), contents={}),
        InvalidConfig,
    ),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_plan_with_a_digest_of_its_own_is_looked_at_too(store: client.Store, file: Path, what: str) -> None:
    change, error = FORGED[what]
    try:
        plan = rewritten(saved(store, file), change, signed=True)
    except UnicodeEncodeError:  # no digest can be made of it
        plan = rewritten(saved(store, file), change, signed=False)
    with pytest.raises(error):
        store.apply(plan)
    assert [item["resource"] for item in store.queues.list().items] == ["orders"]


HOSTILE = [
    b"{", b"{}", b'{"format": "grafctl plan"}', b"{" * 100_000, b'{"a":' * 100_000, b"{\xff}", b'{"a": 1e999}',
    b'{"format": ' + b"9" * 5000 + b"}", b"{}" + b" " * (saved_plans.FILE_BYTES_MAX), b'{"a": "\\ud800"}', b"{]",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_any_text_in_braces_is_a_plan_or_refused(store: client.Store, tmp_path: Path, text: bytes) -> None:
    plan = tmp_path / "hostile.plan"
    plan.write_bytes(text)
    with pytest.raises(InvalidConfig) as caught:
        store.apply(plan)
    assert len(caught.value.problems) == 1 and caught.value.problems[0][0] == 1
