"""Subscriptions of open stores, over both drivers: filters judged outside the lock, and retention by policy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl import client
from grafctl.errors import Corrupt, DomainUnavailable, NoQuorum, Usage
from grafctl.store import elect as electing
from grafctl.store import filters, keys
from grafctl.store.blocks import Outgoing
from grafctl.store.operations import filtering
from grafctl.store.records import decode_entry, encode_json, encode_row
from grafctl.store.replica.replica import Writer
from grafctl.store.resources.applying import apply_entry
from store.world import DRIVERS, World, world

T, AWS, GCP = "events", "aws", "gcp"
PLACE: dict[str, Any] = {"replicas": [f"a={AWS}", f"g={GCP}"], "allow": [AWS, GCP]}


@pytest.fixture(params=sorted(DRIVERS))
def here(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    with world(tmp_path / "store", [AWS, GCP], request.param) as made:
        yield made


def events(start: int, stop: int) -> list[Outgoing]:
    """Returns events whose totals are their offsets; every seventh is a refund, and one is no JSON."""
    return [
        Outgoing(b"no JSON" if at == 13 else json.dumps({"total": at}).encode(), f"id-{at}", f"customer-{at % 5}")
        if at % 7
        else Outgoing(json.dumps({"total": at}).encode(), f"id-{at}", None, {"type": "refund.made"})
        for at in range(start, stop)
    ]


def a_topic(here: World, count: int = 50, batch: int = 10, **fields: Any) -> None:
    here.store.topics.create(T, **PLACE, **fields)
    for start in range(0, count, batch):
        here.store.publish_batch(T, events(start, min(count, start + batch)), domain=AWS)


def subscribe(here: World, name: str, filter: str | None = None, **fields: Any) -> None:
    here.store.consumers.create(T, name, allow=[AWS, GCP], filter=filter, **fields)


def drained(store: client.Store, name: str, domain: str = AWS, count: int = 7) -> list[int]:
    """Polls and acks until nothing comes; returns the offsets in the order they came."""
    found: list[int] = []
    while given := store.poll(T, name, domain=domain, max=count):
        found += [record.offset for record in given.records]
        if not given.records:
            return found
        store.ack(T, name, [record.offset for record in given.records], domain=domain, lease=given.lease)
    return found


FILTERS: list[tuple[str, str, list[int]]] = [
    ("all", "all", list(range(50))),
    ("key", "key:customer-3", [at for at in range(50) if at % 5 == 3 and at % 7]),
    ("type", "type:refund", [at for at in range(50) if at % 7 == 0]),
    ("few", "expr:total == 41", [13, 41]),
    ("none", "key:nobody", []),
]


@pytest.mark.parametrize(("name", "text", "expected"), FILTERS, ids=[row[0] for row in FILTERS])
def test_a_subscription_is_given_what_its_filter_wants(
    here: World, name: str, text: str, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filtering, "JUDGED_RECORDS", 10)
    a_topic(here)
    subscribe(here, name, text)
    subscribe(here, "everything")
    assert drained(here.store, name) == expected
    shown = here.store.consumers.show(T, name).body
    assert (shown["cursor"], shown["ack_floor"], shown["filter"]) == (50, 50, text)
    told = next(item for item in here.store.topics.show(T).body["subscriptions"] if item["name"] == name)
    assert (told["lag"], told.get("skipped", 0)) == (0, 50 - len(expected))
    assert not list(here.store.verify())


def test_one_poll_goes_the_whole_way_to_what_is_wanted(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filtering, "JUDGED_RECORDS", 10)
    a_topic(here)
    subscribe(here, "few", "expr:total == 41 and _id != ''", start="14")
    given = here.store.poll(T, "few", domain=GCP)
    assert [record.offset for record in given.records] == [41]
    assert here.store.consumers.show(T, "few").body["ack_floor"] == 41


def test_nothing_is_judged_twice(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []

    def matched(text: str, first: int, columns: Any) -> Any:
        judged.extend(range(first, first + len(columns.payloads)))
        return found(text, first, columns)

    found = filters.matched
    monkeypatch.setattr(filters, "matched", matched)
    a_topic(here)
    subscribe(here, "s", "key:customer-3")
    drained(here.store, "s", count=1)
    assert judged == list(range(50))


def test_what_was_published_after_the_look_is_neither_lost_nor_left_out(here: World) -> None:
    a_topic(here, 10)
    subscribe(here, "s", "key:customer-3")
    assert [record.offset for record in here.store.poll(T, "s", domain=AWS, max=1).records] == [3]
    here.store.publish_batch(T, events(10, 20), domain=GCP)
    with here.reopened() as other:
        assert [record.offset for record in other.poll(T, "s", domain=GCP, max=1).records] == [8]
    here.store.publish_batch(T, events(20, 30), domain=GCP)
    assert [record.offset for record in here.store.poll(T, "s", domain=AWS).records] == [13, 18, 23]


def test_what_was_judged_under_another_primary_is_judged_again(here: World) -> None:
    a_topic(here)
    subscribe(here, "s", "key:customer-3")
    assert here.store.poll(T, "s", domain=AWS, max=1).records[0].offset == 3
    log = here.store.session.resource(T)
    electing.elect(log.cluster, log.id, log.apply, log.observe())
    assert drained(here.store, "s", count=1) == [at for at in range(4, 50) if at % 5 == 3 and at % 7]


def test_a_seek_gives_again_what_is_wanted(here: World) -> None:
    a_topic(here)
    subscribe(here, "s", "type:refund")
    wanted = [at for at in range(50) if at % 7 == 0]
    assert drained(here.store, "s") == wanted
    here.store.consumers.seek(T, "s", "20")
    assert drained(here.store, "s", GCP) == [at for at in wanted if at >= 20]
    with here.reopened() as other:
        other.consumers.seek(T, "s", "earliest")
    assert drained(here.store, "s") == wanted


def test_finishing_with_a_poll_that_goes_on_over_much_is_told_once(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filtering, "JUDGED_RECORDS", 10)
    a_topic(here)
    subscribe(here, "s", "expr:total == 2 or total == 45")
    first = here.store.poll(T, "s", domain=AWS)
    assert [record.offset for record in first.records] == [2]
    given = here.store.poll(T, "s", domain=AWS, finish=[2], lease=first.lease)
    assert ([record.offset for record in given.records], given.finished) == ([13], 1)
    given = here.store.poll(T, "s", domain=AWS, finish=[13], lease=given.lease)
    assert ([record.offset for record in given.records], given.finished, given.ack_floor) == ([45], 1, 45)


def test_a_subscriber_that_stops_goes_on_elsewhere_from_the_floor(here: World) -> None:
    a_topic(here)
    subscribe(here, "s", "key:customer-3")
    given = here.store.poll(T, "s", domain=AWS, max=4, visibility_ms=1_000)
    offsets = [record.offset for record in given.records]
    here.store.ack(T, "s", offsets[:2], domain=AWS, lease=given.lease)
    with here.reopened() as other:
        first = other.poll(T, "s", domain=GCP, max=1)
        assert first.records[0].offset > offsets[-1], "what is leased is withheld"
        other.nack(T, "s", [first.records[0].offset], domain=GCP, counted=False)
        here.advance(1_001)
        assert drained(other, "s", GCP)[:2] == offsets[2:]
        assert other.consumers.show(T, "s").body["ack_floor"] == 50


def test_a_group_that_moves_keeps_its_filter(here: World) -> None:
    a_topic(here)
    subscribe(here, "s", "type:refund")
    drained(here.store, "s", count=2)
    proof = here.store.catch_up(T, domain=GCP)
    here.store.consumers.shift(T, "s", as_="moved", allow=[GCP], proof=proof.proof)
    assert here.store.consumers.show(T, "moved").body["filter"] == "type:refund"
    here.store.publish_batch(T, events(50, 60), domain=AWS)
    assert drained(here.store, "moved", GCP) == [56]


def test_a_wrong_byte_is_met_before_anything_is_judged_by_it(here: World) -> None:
    a_topic(here)
    subscribe(here, "s", "key:customer-3")
    with here.store.session.cluster.environment(GCP).write(wait_s=1) as batch:
        for key, raw in list(batch.scan(*keys.entries(here.log_id(T), 0, keys.U64_MAX))):
            if decode_entry(raw, "entry").block:
                batch.put(key, raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(Corrupt) as refused:
        here.store.poll(T, "s", domain=GCP)
    assert refused.value.fields["domain"] == GCP
    assert here.store.consumers.show(T, "s").body["cursor"] == 0


def test_who_may_not_poll_any_more_is_told_so(here: World) -> None:
    a_topic(here)
    subscribe(here, "s", "key:customer-3")
    here.store.poll(T, "s", domain=GCP, max=1)
    here.store.placement.set(T, group="s", allow=[AWS])
    with pytest.raises(DomainUnavailable) as refused:
        here.store.poll(T, "s", domain=GCP, max=1)
    assert refused.value.reason == "not_in_placement"
    here.store.placement.set(T, group="s", allow=[AWS, GCP])
    here.store.domains.fail(GCP)
    with pytest.raises(DomainUnavailable) as refused:
        here.store.poll(T, "s", domain=GCP, max=50)
    assert refused.value.reason == "unreachable"
    with pytest.raises(NoQuorum):
        here.store.poll(T, "s", domain=AWS, max=50)
    here.store.domains.restore(GCP)
    assert here.store.poll(T, "s", domain=GCP, max=50).records


# --- retention


def test_a_durable_subscription_keeps_what_it_has_not_finished(here: World) -> None:
    a_topic(here, 20, 1, retain_count=5)
    assert here.store.topics.show(T).body["first_offset"] == 15, "nobody had subscribed"
    subscribe(here, "s", "type:refund")
    for at in range(20, 40):
        here.store.publish_batch(T, events(at, at + 1), domain=AWS)
    assert here.store.topics.show(T).body["first_offset"] == 15
    drained(here.store, "s")
    assert here.store.topics.trim(T, dry_run=True).after == {"first_offset": 35}
    assert here.store.topics.trim(T).changed and not here.store.topics.trim(T).changed
    assert here.store.topics.show(T).body["first_offset"] == 35


def test_a_loss_by_policy_is_told_everywhere(here: World) -> None:
    here.store.topics.create(T, **PLACE, retain_count=5, discard="oldest")
    subscribe(here, "s")
    for at in range(20):
        here.store.publish_batch(T, events(at, at + 1), domain=AWS)
    loss = {"records": 15, "first": 0, "last": 14}
    assert here.store.topics.show(T).body["subscriptions"][0]["lost"] == loss
    assert here.store.consumers.show(T, "s").body["lost"] == loss
    given = here.store.poll(T, "s", domain=AWS)
    assert given.lost == loss and [record.offset for record in given.records] == list(range(15, 20))
    noted = [record for record in here.audit_records() if record["op"] == "discard"]
    assert [record["lost"]["records"] for record in noted] == [1, 2, 4, 8], "each time that it has doubled"
    assert noted[-1]["group"] == "s" and noted[-1]["resource"] == T
    assert any("lost 15 records" in finding.problem for finding in here.store.doctor())
    here.store.consumers.seek(T, "s", "latest")
    assert not [finding for finding in here.store.doctor() if "lost 15" in finding.problem], "an operator has seen it"
    assert not list(here.store.verify())


def test_verify_finds_what_was_taken_without_a_word(here: World) -> None:
    a_topic(here, 20, 1, retain_count=5)
    subscribe(here, "s", start="15")
    with here.store.session.cluster.environment(GCP).write(wait_s=1) as batch:
        writer = Writer(batch, here.log_id(T), GCP, apply_entry)
        row = writer.state.get_json(keys.lineage("s"))
        key = keys.state(here.log_id(T), keys.lineage("s"))
        batch.put(key, encode_row(encode_json(row | {"floor": 12}), key))
    problems = [finding.problem for finding in here.store.verify() if finding.domain == GCP]
    assert "lineage s has not finished what is no longer kept" in problems


def test_what_is_no_policy_is_refused(here: World) -> None:
    with pytest.raises(Usage, match="--discard is one of finished, oldest"):
        here.store.topics.create(T, **PLACE, discard="newest")
    with pytest.raises(Usage, match="0 or more"):
        here.store.topics.create(T, **PLACE, retain_count=-1)


def test_age_alone_lets_go_of_what_nobody_waits_for(here: World) -> None:
    a_topic(here, 10, retain_age_ms=1_000)
    here.advance(2_000)
    assert here.store.topics.trim(T).after == {"first_offset": 10}
    subscribe(here, "s", start="1h")
    assert here.store.consumers.show(T, "s").body["cursor"] == 10
