"""Topics: made, listed and shown as a kind of their own, in names that they share with queues."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import grafctl
from grafctl.errors import GenerationConflict, NotFound, Usage

AWS, GCP = "aws/us-east-1", "gcp/us-central1"
PLACE: dict[str, Any] = {"replicas": [f"a={AWS}", f"g={GCP}"], "allow": ["aws", "gcp"]}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[grafctl.Store]:
    grafctl.create(tmp_path / "store", {AWS: None, GCP: None})
    with grafctl.open(tmp_path / "store") as opened:
        yield opened


def test_a_topic_is_published_to_and_read_like_a_queue(store: grafctl.Store) -> None:
    assert store.topics.create("events", **PLACE).changed
    assert not store.topics.create("events", **PLACE).changed
    store.consumers.create("events", "audit", allow=["gcp"])
    store.publish("events", "made", domain=AWS, id="one")
    assert [record.payload for record in store.poll("events", "audit", domain=GCP).records] == [b"made"]
    assert store.status().body["resources"][0]["kind"] == "topic"


def test_each_noun_knows_its_own_kind_only(store: grafctl.Store) -> None:
    store.topics.create("events", **PLACE)
    store.queues.create("orders", **PLACE)
    assert [item["resource"] for item in store.topics.list().items] == ["events"]
    assert [item["resource"] for item in store.queues.list().items] == ["orders"]
    with pytest.raises(NotFound, match="events is a topic, not a queue") as found:
        store.queues.show("events")
    assert found.value.hint == "Run `grafctl topic show events`."
    with pytest.raises(NotFound, match="orders is a queue, not a topic"):
        store.topics.show("orders")


def test_a_name_is_of_one_kind(store: grafctl.Store) -> None:
    store.queues.create("orders", **PLACE)
    with pytest.raises(GenerationConflict, match="orders is there already, as a queue"):
        store.topics.create("orders", **PLACE)
    with pytest.raises(GenerationConflict, match="as a queue"):
        store.topics.create("orders", **PLACE, dry_run=True)
    assert [item["resource"] for item in store.queues.list().items] == ["orders"]


def test_what_is_wrong_is_said_of_a_topic(store: grafctl.Store) -> None:
    with pytest.raises(Usage, match="A topic needs at least one --replica"):
        store.topics.create("events", replicas=[])
    with pytest.raises(Usage, match="A topic begins with voters"):
        store.topics.create("events", replicas=[f"a={AWS}", f"g={GCP}:learner"])
    assert store.topics.list().items == []
