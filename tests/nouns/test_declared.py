"""`apply`: what it makes, what it leaves alone, and what it refuses before anything is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl import client
from grafctl.errors import GenerationConflict, InvalidConfig, NotFound, StoreFull, Usage
from grafctl.nouns import creating
from grafctl.nouns.declared import apply_file
from grafctl.nouns.queues import Queues
from grafctl.store import files

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "provider-migration.toml"
AWS, GCP = "aws/us-east-1/us-east-1a", "gcp/us-central1"
EXAMPLE_ACTIONS = ["create the queue migration-orders", "create the group active-workers of migration-orders"]

FILE = """
[[domain]]
name = "aws"
[[domain]]
name = "gcp"
path = "disk/gcp"
[[authority]]
name = "scheduler-a"
public_key = "scheduler-a.pub"
[[queue]]
name = "orders"
schema = "order.v1"
ack = 2
allow = ["aws"]
retain_age = "7d"
retain_bytes = "10GB"
compression = "zstd"
replicas = { a = "aws", g = "gcp" }
[[queue.group]]
name = "first"
allow = ["aws"]
[[queue.group]]
name = "second"
allow = ["gcp"]
semantics = "at-most-once"
start = "latest"
max_deliveries = 5
[[queue]]
name = "other"
replicas = { o = "gcp" }
"""
ACTIONS = [
    "trust the authority scheduler-a",
    "create the queue orders",
    "create the group first of orders",
    "create the group second of orders",
    "create the queue other",
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    client.keygen("scheduler-a", tmp_path)
    path = tmp_path / "store.toml"
    path.write_text(FILE)
    return path


@pytest.fixture
def store(tmp_path: Path, file: Path) -> Iterator[client.Store]:
    client.create(tmp_path / "store", {"aws": None})
    with client.open(tmp_path / "store") as opened:
        yield opened


def shown(store: client.Store) -> dict[str, Any]:
    """Returns everything that a file can declare, as the store shows it."""
    queues = store.queues.list().items
    return {
        "domains": store.domains.list().items,
        "authorities": store.authorities.list().items,
        "queues": queues,
        "groups": [store.consumers.list(item["resource"]).items for item in queues],
    }


def test_apply_makes_what_is_missing_in_order(store: client.Store, file: Path, tmp_path: Path) -> None:
    change = store.apply(file)
    assert change.changed and change.actions == ["add the domain gcp", *ACTIONS]
    found = shown(store)
    assert [(item["domain"], item["state"]) for item in found["domains"]] == [
        ("aws", "available"),
        ("gcp", "available"),
    ]
    assert found["domains"][1]["path"] == str(tmp_path / "disk" / "gcp")
    assert [item["authority"] for item in found["authorities"]] == ["scheduler-a"]
    orders, other = found["queues"]
    assert (orders["resource"], orders["schema"], orders["ack"]) == ("orders", "order.v1", "2")
    assert (orders["retain_age_ms"], orders["retain_bytes"]) == (604_800_000, 10**10)
    assert (orders["compression"], other["compression"]) == ("zstd", "none")
    assert [(item["id"], item["domain"]) for item in orders["replicas"]] == [("a", "aws"), ("g", "gcp")]
    assert other["placement"] == {"allow": []}
    first, second = found["groups"][0]
    assert (first["group"], first["placement"], first["semantics"]) == ("first", {"allow": ["aws"]}, "at-least-once")
    assert (second["semantics"], second["max_deliveries"]) == ("at-most-once", 5)


def test_apply_twice_changes_nothing(store: client.Store, file: Path) -> None:
    store.apply(file)
    before = shown(store)
    again = store.apply(file)
    assert (again.changed, again.actions) == (False, [])
    assert shown(store) == before


def test_a_dry_run_says_the_same_and_makes_nothing(store: client.Store, file: Path) -> None:
    before = shown(store)
    change = store.apply(file, dry_run=True)
    assert shown(store) == before
    assert (change.changed, change.dry_run) == (True, True)
    assert change.actions == store.apply(file).actions
    assert not store.apply(file, dry_run=True).changed


def test_apply_makes_only_what_is_missing(store: client.Store, file: Path) -> None:
    store.apply(file)
    file.write_text(
        FILE.replace(
            '[[queue]]\nname = "other"', '[[queue.group]]\nname = "third"\nallow = ["aws"]\n[[queue]]\nname = "new"'
        )
    )
    assert store.apply(file).actions == ["create the group third of orders", "create the queue new"]


DIFFERENT = [
    ('schema = "order.v1"', 'schema = "order.v2"', "schema"),
    ('allow = ["aws"]\nretain', 'allow = ["gcp"]\nretain', "placement"),
    ('a = "aws"', 'b = "aws"', "replicas"),
    ("ack = 2", 'ack = "all"', "ack"),
    ('"7d"', '"8d"', "retain_age_ms"),
    ('name = "first"\nallow = ["aws"]', 'name = "first"\nallow = ["gcp"]', "placement"),
    ('"at-most-once"', '"at-least-once"', "semantics"),
    ("max_deliveries = 5", "", "max_deliveries"),
    ('path = "disk/gcp"', 'path = "disk/other"', "is there already"),
    ('[[domain]]\nname = "gcp"', '[[domain]]\nname = "azure"\n[[domain]]\nname = "gcp"', ""),
]


@pytest.mark.parametrize(("old", "new", "word"), DIFFERENT[:-1])
def test_what_is_there_and_different_is_refused_first(
    store: client.Store, file: Path, old: str, new: str, word: str
) -> None:
    store.apply(file)
    before = shown(store)
    assert FILE.count(old) == 1
    added = '[[domain]]\nname = "azure"\n' + FILE.replace(old, new) + '[[queue]]\nname = "x"\nreplicas.a = "azure"\n'
    file.write_text(added)
    for dry_run in (True, False):
        with pytest.raises(GenerationConflict) as caught:
            store.apply(file, dry_run=dry_run)
        assert word in caught.value.message and caught.value.fields["audit"] is not None
    assert shown(store) == before
    old_azure, new_azure, _ = DIFFERENT[-1]
    file.write_text(FILE.replace(old_azure, new_azure))
    assert store.apply(file).actions == ["add the domain azure"]


def test_another_key_for_an_authority_is_refused(store: client.Store, file: Path, tmp_path: Path) -> None:
    store.apply(file)
    (tmp_path / "keys").mkdir()
    client.keygen("scheduler-a", tmp_path / "keys")
    file.write_text(FILE.replace('"scheduler-a.pub"', '"keys/scheduler-a.pub"'))
    with pytest.raises(GenerationConflict, match="another key"):
        store.apply(file)


def test_a_queue_on_a_domain_that_is_yet_to_come_is_another_queue(store: client.Store, file: Path) -> None:
    store.apply(file)
    text = FILE.replace('g = "gcp" }', 'g = "azure" }').replace(
        'name = "second"\nallow = ["gcp"]', 'name = "second"\nallow = ["aws"]'
    )
    file.write_text('[[domain]]\nname = "azure"\n' + text)
    with pytest.raises(GenerationConflict, match="another replicas"):
        store.apply(file)
    assert [item["domain"] for item in store.domains.list().items] == ["aws", "gcp"]


def test_a_wrong_file_is_told_before_the_store_is_asked(store: client.Store, file: Path) -> None:
    file.write_text(FILE.replace("ack = 2", "ack = 3"))
    before = shown(store)
    with pytest.raises(InvalidConfig) as caught:
        store.apply(file)
    assert caught.value.problems == [(13, "queue 'orders': ack 3 cannot hold with 2 voters; take 2 to 2.")]
    assert shown(store) == before


def test_what_the_operator_changed_since_is_not_led_back(store: client.Store, file: Path, tmp_path: Path) -> None:
    """A migration changes the locator: the file that created the queue stays good, and so is one that follows it."""
    store.apply(file)
    store.domains.add("azure")
    store.health.observe("azure", "healthy", authority="scheduler-a", key_file=tmp_path / "scheduler-a.key")
    store.locator.set("orders", generation=2, add=["z=azure"])
    assert not store.apply(file).changed
    file.write_text('[[domain]]\nname = "azure"\n' + FILE.replace('g = "gcp" }', 'g = "gcp", z = "azure" }'))
    assert not store.apply(file).changed
    assert store.locator.show("orders").body["generation"] == 2


def test_what_a_crash_left_is_made_by_the_next_call(
    store: client.Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Queues.create

    def dies(self: Queues, name: str, **more: Any) -> Any:
        if name == "other" and not more.get("dry_run"):
            raise StoreFull("There is no room.")
        return create(self, name, **more)

    monkeypatch.setattr(Queues, "create", dies)
    with pytest.raises(StoreFull):
        store.apply(file)
    monkeypatch.undo()
    assert store.apply(file).actions == ["create the queue other"]


def test_a_domain_that_was_added_by_half_is_finished(
    store: client.Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from grafctl.nouns.domains import Domains

    monkeypatch.setattr(Domains, "_join", lambda self, log_id, name: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.apply(file)
    monkeypatch.undo()
    with client.open(store.session.cluster.directory) as other:
        assert other.apply(file).actions == ["add the domain gcp", *ACTIONS]
        assert not other.apply(file).changed


# --- a store that is not there yet


def test_the_example_makes_a_store(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    dry = apply_file(directory, EXAMPLE, dry_run=True)
    assert not directory.exists() and dry.dry_run
    change = apply_file(directory, EXAMPLE)
    assert change.actions == dry.actions
    assert change.actions == [
        f"create {directory}/store.toml",
        f"create the environment of {AWS}",
        f"create the environment of {GCP}",
        *EXAMPLE_ACTIONS,
    ]
    again = apply_file(directory, EXAMPLE)
    assert (again.changed, again.actions) == (False, [])
    with client.open(directory) as store:
        ack = store.publish("migration-orders", "created", id="order-1", domain=AWS)
        assert (ack.offset, ack.acked_by) == (0, [AWS, GCP])
        delivery = store.poll("migration-orders", "active-workers", domain=GCP)
        assert [record.id for record in delivery.records] == ["order-1"]


def test_the_example_is_the_same_as_the_commands(tmp_path: Path) -> None:
    """The file after the runbook's first three commands changes nothing, and they after the file."""
    client.create(tmp_path / "store", {AWS: None, GCP: None})
    with client.open(tmp_path / "store") as store:
        replicas = [f"orders-aws-a={AWS}", f"orders-gcp-central={GCP}"]
        queue: dict[str, Any] = {"schema": "migration-work.v1", "replicas": replicas, "allow": ["aws", "gcp"]}
        group: dict[str, Any] = {"allow": ["aws", "gcp"], "semantics": "effectively-once"}
        store.queues.create("migration-orders", **queue)
        store.consumers.create("migration-orders", "active-workers", **group)
        assert not store.apply(EXAMPLE).changed
        apply_file(tmp_path / "other", EXAMPLE)
    with client.open(tmp_path / "other") as store:
        assert not store.queues.create("migration-orders", **queue).changed
        assert not store.consumers.create("migration-orders", "active-workers", **group).changed


def test_a_store_that_was_made_by_half_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "store"
    monkeypatch.setattr(creating, "_begin_system_logs", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        apply_file(directory, EXAMPLE)
    monkeypatch.undo()
    assert apply_file(directory, EXAMPLE).actions == [
        f"create {directory}/store.toml",
        f"create the environment of {AWS}",
        f"create the environment of {GCP}",
        *EXAMPLE_ACTIONS,
    ]


def test_a_store_with_fewer_domains_gets_the_others(tmp_path: Path) -> None:
    client.create(tmp_path / "store", {AWS: None, "azure": None})
    change = apply_file(tmp_path / "store", EXAMPLE)
    assert change.actions == [f"add the domain {GCP}", *EXAMPLE_ACTIONS]


def test_a_wrong_file_makes_no_store(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text("[[domain]]\nname = 3\n")
    with pytest.raises(InvalidConfig):
        apply_file(tmp_path / "store", file)
    with pytest.raises(NotFound):
        apply_file(tmp_path / "store", tmp_path / "none.toml")
    assert not (tmp_path / "store").exists()


def test_a_store_of_another_driver_is_refused(tmp_path: Path) -> None:
    client.create(tmp_path / "store", {AWS: None})
    path = tmp_path / "store" / files.FILE_NAME
    path.write_text(path.read_text().replace('"lmdb"', '"postgres"'))
    with pytest.raises(Usage, match="driver postgres"):
        apply_file(tmp_path / "store", EXAMPLE)


def test_a_drill_does_not_disturb_what_is_there(tmp_path: Path, file: Path) -> None:
    file.write_text(FILE.partition("[[queue]]")[0] + "[[domain]]\nname = 'azure'\n")
    apply_file(tmp_path / "store", file)
    with client.open(tmp_path / "store") as store:
        store.domains.fail("gcp")
        assert not store.apply(file).changed
    assert not apply_file(tmp_path / "store", file).changed
