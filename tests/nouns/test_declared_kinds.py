"""Declared stores with every kind of resource, and logs that several share: made, compared, planned and led away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grafctl import client
from grafctl.errors import GenerationConflict, SchemaMismatch

FILE = """
[[domain]]
name = "aws"
[[domain]]
name = "gcp"
[[schema]]
id = "event.v1"
file = "event.json"
[[log]]
name = "shared"
ack = "all"
replicas = { a = "aws", g = "gcp" }
[[queue]]
name = "raw"
log = "shared"
allow = ["aws"]
[[queue.group]]
name = "clean"
allow = ["gcp"]
start = "latest"
[[topic]]
name = "events"
log = "shared"
schema = "event.v1"
allow = ["aws"]
retain_count = 100
discard = "oldest"
[[topic.group]]
name = "returns"
allow = ["aws"]
filter = "type:returned"
start = 2020-01-01T00:00:00Z
[[idem]]
name = "effects"
log = "shared"
allow = ["gcp"]
retain_age = "7d"
[[idem]]
name = "alone"
allow = ["aws"]
replicas = { x = "gcp" }
[[table]]
name = "accounts"
log = "shared"
allow = ["aws"]
[[table]]
name = "small"
allow = ["aws"]
replicas = { x = "gcp" }
vshards = 4
"""
ACTIONS = [
    "add the schema event.v1",
    "begin the log shared",
    "create the queue raw",
    "create the group clean of raw",
    "create the topic events",
    "create the group returns of events",
    "create the idempotency store effects",
    "create the idempotency store alone",
    "create the table accounts",
    "create the table small",
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "store.toml"
    path.write_text(FILE)
    (tmp_path / "event.json").write_text('{"type": "object", "required": ["kind"]}')
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    client.create(tmp_path / "store", {"aws": None, "gcp": None})
    return tmp_path / "store"


def test_every_kind_is_made_as_declared(directory: Path, file: Path) -> None:
    with client.open(directory) as store:
        assert store.apply(file, dry_run=True).actions == ACTIONS
        assert store.apply(file).actions == ACTIONS
        assert not store.apply(file).changed and store.drift(file).count == 0
        raw, events = store.queues.show("raw").body, store.topics.show("events").body
        assert raw["log"] == events["log"] == "shared" and raw["ack"] == events["ack"] == "all"
        assert (events["retain_count"], events["discard"]) == (100, "oldest")
        group = store.consumers.show("events", "returns").body
        assert (group["filter"], group["start"]) == ("type:returned", 0)
        assert store.idem.show("effects").body["retain_age_ms"] == 7 * 86_400_000
        assert [item["resource"] for item in store.idem.list().items] == ["alone", "effects"]
        assert [item["vshards"] for item in store.tables.list().items] == [1024, 4]
        assert store.tables.show("accounts").body["log"] == "shared"
        logs = {name: record["log"] for name, record in store.session.resources().items()}
        assert logs["raw"] == logs["events"] == logs["effects"] != logs["alone"]


def test_the_file_is_the_same_as_the_commands(directory: Path, file: Path) -> None:
    placed: dict[str, Any] = {"log": "shared", "allow": ["aws"]}
    with client.open(directory) as store:
        store.queues.create("raw", replicas=["a=aws", "g=gcp"], ack="all", **placed)
        store.consumers.create("raw", "clean", allow=["gcp"], start="latest")
        topic: dict[str, Any] = {"retain_count": 100, "discard": "oldest", "schema": "event.v1", **placed}
        store.schemas.add_file("event.v1", file.with_name("event.json"))
        store.topics.create("events", **topic)
        assert store.apply(file).actions == ACTIONS[5:]
        assert not store.topics.create("events", **topic).changed


def test_a_log_that_another_resource_began_is_joined(directory: Path, file: Path) -> None:
    with client.open(directory) as store:
        store.queues.create("other", replicas=["a=aws", "g=gcp"], ack="all", log="shared")
        assert store.apply(file).actions == [ACTIONS[0], *ACTIONS[2:]]
        assert [item["name"] for item in store.plan(file).undeclared] == ["other"]


def test_what_differs_of_a_log_is_told_once_and_led_back_by_its_first_resource(directory: Path, file: Path) -> None:
    with client.open(directory) as store:
        store.apply(file)
        store.policy.set("events", ack="majority")
        (difference,) = store.plan(file).differences
        assert (difference["kind"], difference["name"], difference["field"]) == ("log", "shared", "ack")
        assert (difference["before"], difference["after"], difference["line"]) == ("majority", "all", 11)
        assert difference["command"] == "grafctl policy set raw --ack all" and "refused" not in difference
        assert not store.apply(file).changed
        store.policy.set("raw", ack="all")
        file.write_text(FILE.replace('g = "gcp" }\n[[queue]]', 'h = "gcp" }\n[[queue]]'))
        with pytest.raises(GenerationConflict, match="log shared is there already, and was begun with other replicas"):
            store.apply(file)


DIFFERENT = [
    ('name = "events"\nlog = "shared"', 'name = "events"\nreplicas.z = "aws"', "another log"),
    ("retain_count = 100", "retain_count = 101", "another retain_count"),
    ('discard = "oldest"', 'discard = "finished"', "another discard"),
    ('"type:returned"', '"type:sold"', "another filter"),
    ("2020-01-01", "2021-01-01", "another start"),
    ('retain_age = "7d"', 'retain_age = "8d"', "another retain_age_ms"),
    ('log = "shared"\nallow = ["gcp"]', 'log = "shared"\nallow = ["aws"]', "another placement"),
    ('[[topic]]\nname = "events"', '[[queue]]\nname = "x"\nlog = "shared"\n[[topic]]\nname = "alone"', "another kind"),
]


@pytest.mark.parametrize(("old", "new", "sentence"), DIFFERENT, ids=[item[2] for item in DIFFERENT])
def test_what_is_there_and_different_is_refused_and_shown(
    directory: Path, file: Path, old: str, new: str, sentence: str
) -> None:
    text = FILE.replace('[[idem]]\nname = "alone"\nallow = ["aws"]\nreplicas = { x = "gcp" }\n', "")
    with client.open(directory) as store:
        store.apply(file)
        assert FILE.count(old) == 1
        file.write_text((text if "kind" in sentence else FILE).replace(old, new))
        planned = store.plan(file)
        assert planned.refused is not None and sentence in planned.refused
        with pytest.raises(GenerationConflict, match=sentence):
            store.apply(file)
        assert any(item["finding"] == "different" for item in store.drift(file).findings)


MOVES: dict[str, tuple[Callable[[client.Store], Any], str]] = {
    "policy": (lambda store: store.policy.set("first", ack="majority"), "log shared has another policy"),
    "placement": (lambda store: store.placement.set("first", allow=["gcp"]), "queue first has another placement"),
    "joined": (lambda store: store.idem.create("effects", log="shared"), "idem effects was absent and is there"),
}


@pytest.mark.parametrize("what", MOVES)
def test_a_plan_relies_on_the_log_that_it_adds_to(directory: Path, file: Path, what: str) -> None:
    begun = '[[queue]]\nname = "first"\nlog = "shared"\n'
    file.write_text(FILE[: FILE.index("[[queue]]")] + begun)
    move, sentence = MOVES[what]
    with client.open(directory) as store:
        store.apply(file)
        file.write_text(FILE + begun)
        plan = file.with_name("saved.plan")
        assert [item["name"] for item in store.plan(file, out=plan).actions][:2] == ["raw", "clean"]
        move(store)
        with pytest.raises(GenerationConflict, match=sentence):
            store.apply(plan)
        assert "raw" not in store.session.resources()


def test_a_log_that_appeared_refuses_the_plan_that_would_begin_it(directory: Path, file: Path) -> None:
    plan = file.with_name("saved.plan")
    with client.open(directory) as store:
        store.plan(file, out=plan)
        store.queues.create("other", replicas=["a=aws", "g=gcp"], ack="all", log="shared")
        with pytest.raises(GenerationConflict, match="log shared was absent and is there"):
            store.apply(plan)
        store.plan(file, out=plan)
        assert store.apply(plan).actions == [ACTIONS[0], *ACTIONS[2:]]
        assert not store.apply(plan).changed


def test_a_schema_is_bound_once_and_checks_what_is_published(directory: Path, file: Path) -> None:
    document, plan = file.with_name("event.json"), file.with_name("saved.plan")
    with client.open(directory) as store:
        store.plan(file, out=plan)
        document.write_text('{"type": "array"}')
        with pytest.raises(GenerationConflict, match="A key or a schema"):
            store.apply(plan)
        assert store.schemas.list().items == []
        store.apply(file)
        with pytest.raises(SchemaMismatch):
            store.publish("events", "{}", domain="aws")
        document.write_text('{ "type" : "array" }')  # the same document
        assert not store.apply(file).changed
        document.write_text('{"type": "object"}')
        with pytest.raises(GenerationConflict, match=r"Schema event\.v1 is there already, with another document"):
            store.apply(file)
        (finding,) = store.drift(file).findings
        assert (finding["kind"], finding["field"], finding["line"]) == ("schema", "file", 6)
        store.schemas.add("other", "{}")
        document.write_text('{"type": "array"}')
        assert [item["kind"] for item in store.plan(file).undeclared] == ["schema"]


def test_a_schema_that_moved_refuses_the_plan(directory: Path, file: Path) -> None:
    plan = file.with_name("saved.plan")
    with client.open(directory) as store:
        store.plan(file, out=plan)
        store.schemas.add("event.v1", "{}")
        with pytest.raises(GenerationConflict, match=r"schema event\.v1 was absent and is there"):
            store.apply(plan)
        assert store.session.resources() == {}


def test_the_stages_of_a_pipeline_are_groups_of_their_inputs(directory: Path, file: Path) -> None:
    file.write_text(
        FILE
        + """
[pipeline]
name = "p"
[[stage]]
name = "load"
kind = "transform"
input = "raw"
output = "events"
effects = "effects"
allow = ["gcp"]
[[stage.step]]
op = "drop"
fields = ["secret"]
"""
    )
    file.write_text(
        file.read_text().replace('schema = "event.v1"\nallow = ["aws"]', 'schema = "event.v1"\nallow = ["gcp"]')
    )
    with client.open(directory) as store:
        assert "create the group load of raw" in (store.apply(file).actions or [])
        assert store.consumers.show("raw", "load").body["placement"] == {"allow": ["gcp"]}
        store.placement.set("raw", group="load", allow=["aws"])
        (finding,) = store.drift(file).findings
        assert finding["command"].startswith("grafctl placement set raw --group load --allow gcp --expect pl_")
        lines = file.read_text().splitlines()
        assert lines[finding["line"] - 1] == 'allow = ["gcp"]' and finding["line"] > lines.index("[[stage]]")


def test_a_table_with_another_number_of_vshards_is_another_table(directory: Path, file: Path) -> None:
    with client.open(directory) as store:
        store.apply(file)
        store.tables.put("small", "k", "v", domain="aws")
        file.write_text(FILE.replace("vshards = 4", "vshards = 8"))
        (item,) = store.plan(file).as_json()["differences"]
        assert (item["kind"], item["field"], item["before"], item["after"]) == ("table", "vshards", 4, 8)
        with pytest.raises(GenerationConflict, match="table small is there already with another vshards"):
            store.apply(file)


def test_the_parts_of_a_table_are_nobodys_to_declare(directory: Path, file: Path) -> None:
    from grafctl.nouns.parts import Parts

    with client.open(directory) as store:
        store.apply(file)
        assert Parts(store.session).make("accounts", ["gcp"]) == "accounts.part-1"
        assert store.drift(file).count == 0
        assert store.plan(file).as_json()["undeclared"] == []
