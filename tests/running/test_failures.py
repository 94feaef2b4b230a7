"""What can go wrong while a pipeline runs, each with real processes: what is lost, doubled or half done is nothing.

At the end of each story the warehouse holds what the generator says (`settled`), whatever died on the way.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import order_feeds
import pytest
from faults.steps import bytes_of
from store.world import World, changed_keys, open_store, without_log

import grafctl
from grafctl.store.driver.lmdb import LmdbDriver
from running.plant import AWS, AZURE, FILE, GCP, Plant, Role, expect, fail, restore, running, wait_until

Feeds = tuple[Path, dict[str, Any]]
Fresh = Callable[[Plant], Plant]


# --- what comes in


def test_an_event_that_comes_again_keeps_its_offset(ingested: Plant, feeds: Feeds, fresh: Fresh) -> None:
    plant = fresh(ingested)
    before = plant.records("raw-orders")["raw-orders"]
    assert len(before) == feeds[1]["rows"] < sum(feeds[1]["lines"].values())
    for name, domain in zip(order_feeds.FILES, (GCP, AWS), strict=True):  # all of both files again, the other way round
        plant.finish("ingest", domain, source=feeds[0] / name)
    assert plant.records("raw-orders")["raw-orders"] == before
    for record in random.Random(1).sample(before, 5):
        said = plant.command(
            "publish", "raw-orders", record.payload.decode(), "--id", record.id, "-d", GCP, "--json"
        ).json
        assert (said["replayed"], said["offset"]) == (True, record.offset)


def forged(feeds: Feeds, target: Path, at: int) -> bytes:
    """Writes the first 50 events with another amount in one of them, and returns that line."""
    lines = (feeds[0] / order_feeds.FILES[0]).read_bytes().splitlines()[:50]
    event = json.loads(lines[at])
    lines[at] = json.dumps({**event, "total_price": "0.01"}, separators=(",", ":")).encode()
    target.write_bytes(b"\n".join(lines) + b"\n")
    return lines[at]


def test_the_same_id_with_another_payload_is_a_dead_letter(ingested: Plant, feeds: Feeds, fresh: Fresh) -> None:
    plant = fresh(ingested)
    before = plant.records("raw-orders")
    line = forged(feeds, plant.folder / "forged.jsonl", 20)
    plant.finish("ingest", AWS, source=plant.folder / "forged.jsonl")
    found = plant.records("raw-orders", "refused-orders")
    assert found["raw-orders"] == before["raw-orders"]
    (dead,) = found["refused-orders"]
    assert dead.payload == line, "what was refused is kept as it came"
    settled(plant, feeds)


def test_the_same_id_with_another_payload_stops_an_ingest_that_is_to_stop(
    empty: Plant, feeds: Feeds, fresh: Fresh
) -> None:
    plant = fresh(empty)
    text = (plant.folder / FILE).read_text()
    (plant.folder / FILE).write_text(text.replace('dead_letter = "refused-orders"\n', 'on_error = "stop"\n'))
    first = feeds[0] / order_feeds.FILES[0]
    (plant.folder / "fifty.jsonl").write_bytes(b"".join(first.read_bytes().splitlines(keepends=True)[:50]))
    plant.finish("ingest", AWS, source=plant.folder / "fifty.jsonl")
    before = plant.records("raw-orders", "refused-orders")
    forged(feeds, plant.folder / "forged.jsonl", 20)
    process = plant.start("ingest", GCP, source=plant.folder / "forged.jsonl")
    assert process.wait(60) == 16, plant.said("ingest")
    assert plant.records("raw-orders", "refused-orders") == before
    assert "0.01" not in plant.said("ingest"), "an error shows hashes, and no payload"


def test_an_ingest_where_nobody_may_publish_is_refused_and_writes_nothing(
    empty: Plant, feeds: Feeds, fresh: Fresh
) -> None:
    plant = fresh(empty)
    source = feeds[0] / order_feeds.FILES[0]

    def refused() -> None:
        process = plant.start("ingest", AZURE, source=source)
        assert process.wait(60) == 11, plant.said("ingest")

    driver = LmdbDriver()
    with open_store(plant.store, driver) as store:
        world = World(plant.store, driver, store)
        audit = store.session.audit
        before = world.dump()
        refused()
        assert not changed_keys(without_log(before, audit.id), without_log(world.dump(), audit.id))
        audit.settle()
        refusal = world.audit_records()[-1]
        assert (refusal["domain"], refusal["code"]) == (AZURE, "domain_unavailable"), refusal
    before_again = bytes_of(plant.store)
    refused()  # within a minute the same refusal is not written down again
    assert bytes_of(plant.store) == before_again
    assert plant.records("raw-orders", "refused-orders") == {"raw-orders": [], "refused-orders": []}


# --- who dies


POINTS = [
    ("stage.leased", 1),
    ("stage.leased", 7),
    ("append.before", 3),
    ("append.after", 4),
    ("append.committed", 4),
    ("copy.before", 6),
    ("copy.after", 7),
    ("driver.commit.before", 8),
    ("driver.commit.after", 9),
    ("step.appended", 2),
    ("stage.committed", 3),
]


@pytest.mark.parametrize(("point", "hit"), POINTS, ids=lambda item: str(item))
def test_a_transformer_that_dies_goes_on_in_the_other_domain(
    ingested: Plant, feeds: Feeds, fresh: Fresh, point: str, hit: int
) -> None:
    plant = fresh(ingested)
    start, other = (AWS, GCP) if hit % 2 else (GCP, AWS)
    died(plant, "normalise", start, f"{point}:{hit}")
    settled(plant, feeds, other)


@pytest.mark.parametrize("point", ["sink.committed:1", "sink.committed:2", "append.before:2", "append.committed:3"])
def test_a_sink_that_dies_between_row_and_acknowledgement_writes_no_second_row(
    normalised: Plant, feeds: Feeds, fresh: Fresh, point: str
) -> None:
    plant = fresh(normalised)
    died(plant, "warehouse", AWS, point)
    if point != "append.committed:3":
        rows = plant.rows("warehouse.db", "SELECT count(*) FROM orders")[0][0]
        assert rows > floor(plant), "there are rows that nobody has acknowledged"
    settled(plant, feeds, GCP)


def died(plant: Plant, stage: str, domain: str, kill: str) -> None:
    """Runs a stage that dies at a point."""
    process = plant.start(stage, domain, "--until-idle", kill=kill)
    assert process.wait(60) == -9, f"it was not killed at {kill}: {plant.said(stage)}"


def floor(plant: Plant) -> int:
    with grafctl.open(plant.store) as store:
        return int(store.consumers.show("orders", "warehouse").body["ack_floor"])


# --- which domain is away


def test_a_domain_that_fails_in_the_middle_is_worked_around_and_comes_back(
    empty: Plant, feeds: Feeds, fresh: Fresh
) -> None:
    story(fresh(empty), feeds, kills=False)


def test_kills_and_a_failed_domain_together(empty: Plant, feeds: Feeds, fresh: Fresh) -> None:
    story(fresh(empty), feeds, kills=True)


def test_stages_wait_while_too_many_domains_are_away_and_lose_nothing(empty: Plant, feeds: Feeds, fresh: Fresh) -> None:
    plant = fresh(empty)
    one, other = (feeds[0] / name for name in order_feeds.FILES)
    roles = [Role(plant, "ingest", (AWS,), one), Role(plant, "ingest", (GCP,), other)]
    roles += [Role(plant, "normalise", (AWS,)), Role(plant, "warehouse", (AWS,))]
    with grafctl.open(plant.store) as store, running(roles):

        def progress() -> tuple[int, int]:
            raw, orders = store.queues.show("raw-orders").body, store.topics.show("orders").body
            return raw["next_offset"], orders["next_offset"]

        rows = feeds[1]["rows"]
        wait_until(roles, lambda: progress()[0] >= rows / 3, progress)
        for domain in (GCP, AZURE):
            store.domains.fail(domain)
        wait_until(roles, lambda: all(role.is_waiting() for role in roles[:2]), progress)
        assert all(role.process is not None and role.process.poll() is None for role in roles), "waiting is no end"
        for domain in (GCP, AZURE):
            store.domains.restore(domain)
        wait_until(roles, lambda: progress() == (rows, rows) and roles[0].is_done and roles[1].is_done, progress)
        for role in roles[2:]:
            role.stop()
    settled(plant, feeds)


def story(plant: Plant, feeds: Feeds, *, kills: bool) -> None:
    """Runs all stages; fails a domain when a third is ingested, and restores it when all is; kills in between."""
    one, other = (feeds[0] / name for name in order_feeds.FILES)
    roles = [
        Role(plant, "ingest", (AWS, GCP), one),
        Role(plant, "ingest", (GCP, AWS), other),
        Role(plant, "normalise", (GCP, AWS)),
        Role(plant, "warehouse", (GCP, AWS)),
    ]
    with grafctl.open(plant.store) as store, running(roles):

        def progress() -> tuple[int, int]:
            raw, orders = store.queues.show("raw-orders").body, store.topics.show("orders").body
            return raw["next_offset"], orders["next_offset"]

        rows = feeds[1]["rows"]
        wait_until(roles, lambda: progress()[0] >= rows / 3, progress)
        fail(store, GCP, roles)
        if kills:
            for role in roles:
                role.move()
        wait_until(roles, lambda: progress()[0] == rows, progress)
        if kills:
            roles[2].move()
        restore(store, GCP, roles)
        wait_until(roles, lambda: progress()[1] == rows, progress)
        if kills:
            roles[3].move()
        wait_until(roles, lambda: roles[0].is_done and roles[1].is_done, progress)
        for role in roles[2:]:
            role.stop()
    settled(plant, feeds)


def settled(plant: Plant, feeds: Feeds, domain: str = AWS) -> None:
    """Finishes what is left, and compares the warehouse with what the generator says."""
    plant.finish("normalise warehouse", domain)
    expect(plant, feeds[1])
