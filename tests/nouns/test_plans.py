"""Plans and drift: what is missing, what differs and what leads back, what nobody declared, each with its line."""

from __future__ import annotations

from pathlib import Path

from grafctl import client
from grafctl.declare.reading import digest_of
from nouns.plans import ALL, FILE, MISSING, named, other_key


def test_a_plan_says_what_apply_does_and_changes_nothing(store: client.Store, file: Path) -> None:
    first = store.plan(file)
    assert first.changes and named(first) == MISSING
    assert (first.differences, first.undeclared, first.refused) == ([], [], None)
    assert first.identity == store.session.cluster.store and first.file_digest == digest_of(file.read_bytes())
    later = first.actions[1]
    assert (later["kind"], later["name"], later["line"]) == ("queue", "later", 22)
    assert later["after"]["replicas"] == [{"id": "l", "domain": "gcp", "role": "voter"}]
    assert store.apply(file).actions == MISSING
    again = store.plan(file)
    assert (again.changes, again.actions) == (False, [])


def test_what_differs_has_before_after_and_the_command_that_leads_there(store: client.Store, file: Path) -> None:
    store.apply(file)
    store.placement.set("orders", allow=["aws", "gcp"])
    store.policy.set("orders", ack="majority")
    store.domains.add("azure")
    store.authorities.add("other", other_key(file))
    store.queues.create("spare", replicas=["s=aws"])
    store.consumers.create("orders", "fourth", allow=["aws"])
    found = store.plan(file)
    assert found.changes and found.actions == [] and found.refused is None
    placement, policy = sorted(found.differences, key=lambda item: item["field"], reverse=True)
    digest = store.placement.show("orders").body["digest"]
    assert placement["before"] == {"allow": ["aws", "gcp"], "digest": digest}
    assert placement["after"]["allow"] == ["aws"] and placement["line"] == 13
    assert placement["command"] == f"grafctl placement set orders --allow aws --expect {digest}"
    assert (policy["before"], policy["after"], policy["line"]) == ("majority", "all", 12)
    assert policy["command"] == "grafctl policy set orders --ack all"
    assert [(item["kind"], item["name"], item.get("resource")) for item in found.undeclared] == [
        ("domain", "azure", None),
        ("authority", "other", None),
        ("group", "fourth", "orders"),
        ("queue", "spare", None),
    ]
    for item in found.differences:
        _type(store, item["command"])
    assert not store.plan(file).changes


def _type(store: client.Store, command: str) -> None:
    """Types a command that a plan named."""
    from typer.testing import CliRunner

    from grafctl.cli import app

    store.close()
    ended = CliRunner().invoke(app, [*command.split()[1:], "--store", str(store.session.cluster.directory)])
    assert ended.exit_code == 0, ended.output


def test_a_migration_is_shown_with_its_next_command(store: client.Store, file: Path) -> None:
    store.apply(file)
    file.write_text('[[domain]]\nname = "azure"\n' + FILE.replace('g = "gcp"', 'z = "azure"'))
    difference = next(item for item in store.plan(file).differences if item["field"] == "replicas")
    assert difference["command"] == "grafctl locator set orders --generation 2 --add z=azure:voter"
    assert [item["id"] for item in difference["before"]] == ["a", "g"]
    file.write_text(ALL.replace('{ a = "aws", g = "gcp" }', '{ a = "aws" }').replace('["gcp"]', '["**"]'))
    difference = next(item for item in store.plan(file).differences if item["field"] == "replicas")
    assert difference["command"] == "grafctl locator set orders --generation 2 --remove g"


def test_drift_tells_each_difference_with_its_line(store: client.Store, file: Path) -> None:
    store.placement.set("orders", group="first", allow=["gcp"])
    store.queues.create("spare", replicas=["s=aws"])
    found = store.drift(file)
    assert [(item["finding"], item["name"], item.get("line")) for item in found.findings] == [
        ("different", "first", 17),
        ("missing", "second", 19),
        ("missing", "later", 22),
        ("missing", "third", 25),
        ("undeclared", "spare", None),
    ]
    assert found.count == 5 and "--group first --allow aws --expect pl_" in found.findings[0]["message"]
    assert found.findings[-1]["message"] == "queue spare is not declared"
