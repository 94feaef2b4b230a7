"""Schemas in a store: bound once, and what does not conform is refused before anything is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl import clock
from grafctl.errors import DomainUnavailable, GenerationConflict, NotFound, SchemaMismatch, Usage
from grafctl.store import keys
from grafctl.store.blocks import Outgoing
from grafctl.store.session import LOOK_S
from store.world import World, changed_keys, without_log, world

AWS, GCP, Q, T, ID = "aws", "gcp", "orders", "events", "order.v1"
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "maximum": 9}}}
FIT, WRONG = b'{"n":1}', b'{"n":"SECRET"}'


@pytest.fixture(params=["memory", "lmdb"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "store", [AWS, GCP], request.param) as here:
        here.store.queues.create(Q, replicas=["a=aws", "g=gcp"], schema=ID, log="l", allow=["aws"])
        here.store.topics.create(T, schema=ID, log="l", allow=["aws"])
        yield here


def add(here: World, document: Any = SCHEMA, schema_id: str = ID) -> bool:
    return here.store.schemas.add(schema_id, json.dumps(document)).changed


def test_an_id_is_bound_once(made: World) -> None:
    assert made.store.schemas.add(ID, json.dumps(SCHEMA), dry_run=True).changed and not made.store.schemas.list().items
    assert add(made) and not add(made)
    assert not made.store.schemas.add(ID, json.dumps(SCHEMA, indent=3)).changed, "the same value is the same document"
    with pytest.raises(GenerationConflict, match="another document"):
        add(made, {"type": "array"})
    shown = made.store.schemas.show(ID).fields()
    assert shown["document"] == SCHEMA and shown["digest"].startswith("sha256:")
    assert [item["schema"] for item in made.store.schemas.list().items] == [ID]
    with pytest.raises(NotFound):
        made.store.schemas.show("absent")
    for name, document in (("no/name", SCHEMA), ("x", {"$ref": "file:///etc/passwd"}), ("x", {"nope": 1})):
        with pytest.raises(Usage):
            add(made, document, name)
    with pytest.raises(Usage, match="cannot be read"):
        made.store.schemas.add_file("x", "/absent/file")


@pytest.mark.parametrize("resource", [Q, T])
def test_what_does_not_conform_is_refused_and_nothing_written(made: World, resource: str) -> None:
    add(made)
    before = without_log(made.dump(), keys.AUDIT_LOG)
    with pytest.raises(SchemaMismatch) as caught:
        made.store.publish(resource, WRONG, id="one", domain=AWS)
    (told,) = caught.value.fields["mismatches"]
    assert (told["path"], told["rule"], told["id"]) == ("/n", "it must be of type integer", "one")
    assert "SECRET" not in json.dumps(caught.value.as_json())
    for payload in (b"", b"text", b'{"n":10}', b"\xff"):
        with pytest.raises(SchemaMismatch):
            made.store.publish(resource, payload, domain=AWS)
    with pytest.raises(SchemaMismatch) as caught:
        made.store.publish_batch(resource, [FIT, WRONG, FIT], domain=AWS, atomic=True)
    assert [item["place"] for item in caught.value.fields["mismatches"]] == [1]
    with pytest.raises(DomainUnavailable, match="may not publish"):
        made.store.publish(resource, WRONG, domain=GCP)
    with pytest.raises(SchemaMismatch):
        made.store.publish(resource, WRONG, domain=AWS, dry_run=True)
    assert changed_keys(before, without_log(made.dump(), keys.AUDIT_LOG)) == []
    assert made.store.publish(resource, FIT, domain=AWS).offset == 0


def test_of_a_batch_what_conforms_is_published(made: World) -> None:
    add(made)
    batch = [Outgoing(FIT, "a", line=1), Outgoing(WRONG, "b", line=2), Outgoing(FIT, "c", line=3)]
    ack = made.store.publish_batch(Q, batch, domain=AWS)
    assert (ack.offset, ack.count) == (0, 2)
    assert [(item["place"], item["line"], item["id"]) for item in ack.mismatches or ()] == [(1, 2, "b")]
    again = made.store.publish_batch(Q, batch, domain=AWS)
    assert again.replayed and len(again.mismatches or ()) == 1
    none = made.store.publish_batch(Q, [WRONG, WRONG], domain=AWS)
    assert (none.count, none.acked_by, len(none.mismatches or ())) == (0, [], 2)
    acks = list(made.store.publish_stream(Q, [[WRONG], [FIT], [WRONG, FIT]], domain=AWS, in_flight=3))
    assert [(ack.count, len(ack.mismatches or ())) for ack in acks] == [(0, 1), (1, 0), (1, 1)]
    assert [record.payload for record in made.store.peek(Q, domain=AWS).body["records"]] == [FIT] * 4


def test_a_schema_that_is_not_bound_checks_nothing_until_it_is(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert made.store.publish(Q, WRONG, domain=AWS).offset == 0
    with made.reopened() as other:
        other.schemas.add(ID, json.dumps(SCHEMA))
    with made.reopened() as third, pytest.raises(SchemaMismatch):
        third.publish(Q, WRONG, domain=AWS)
    later_s = clock.monotonic_s() + LOOK_S
    monkeypatch.setattr(clock, "monotonic_s", lambda: later_s)
    with pytest.raises(SchemaMismatch):
        made.store.publish(Q, WRONG, domain=AWS)
    assert made.store.peek(Q, domain=AWS).body["records"][0].payload == WRONG, "what was there before stays"


def test_a_resource_without_a_schema_takes_anything(made: World) -> None:
    add(made)
    made.store.queues.create("any", log="l", allow=["aws"])
    assert made.store.publish("any", WRONG, domain=AWS).offset == 0
