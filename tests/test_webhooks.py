"""The pipeline of webhooks, with real processes: filters, routes, hashed addresses, two kinds of sinks, a kill."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import webhook_feed
from running.plant import AWS, GCP, VISIBILITY, Plant, make_plant

import grafctl

FILE = "webhooks.toml"
QUEUES = ("code", "review", "planning", "builds", "other")
EVENTS = 4_000


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plant, dict[str, Any]]:
    """A plant through which all deliveries have gone, and what is expected; one process was killed on the way."""
    folder = tmp_path_factory.mktemp("webhooks")
    told = webhook_feed.write(folder / "feeds", EVENTS)
    plant = make_plant(folder, FILE)
    words = ("pipeline", "run", FILE, "--quiet", "--visibility", VISIBILITY, "-d")
    killed = plant.run.start(*words, AWS, store=plant.store, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with grafctl.open(plant.store) as store:
        while store.topics.show("webhooks").body["next_offset"] < EVENTS // 3:
            assert killed.poll() is None
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
    for domain in (GCP, AWS, GCP):  # what may run in one of them alone gets its turn, and what that leaves to others
        plant.command(*words, domain, "--until-idle", timeout=300)
    return plant, told


def test_every_delivery_is_taken_once_and_what_was_cut_off_is_kept_with_the_reason(
    done: tuple[Plant, dict[str, Any]],
) -> None:
    plant, told = done
    found = plant.records("webhooks", "undeliverable")
    assert len(found["webhooks"]) == told["deliveries"]
    assert len({record.id for record in found["webhooks"]}) == told["deliveries"]
    lines = (plant.folder / "feeds" / webhook_feed.NAME).read_text().splitlines()
    cut = [line for line in lines if not line.endswith("}}")]
    assert (
        sorted(record.payload.decode() for record in found["undeliverable"]) == sorted(cut) and len(cut) == told["cut"]
    )


def test_every_delivery_goes_where_its_type_says(done: tuple[Plant, dict[str, Any]]) -> None:
    plant, told = done
    routed = plant.records(*QUEUES)
    assert {name: len(records) for name, records in routed.items()} == told["routes"]
    for name, records in routed.items():
        for record in records:
            assert webhook_feed.TYPES[json.loads(record.payload)["type"]][1] == name
    types = Counter(json.loads(record.payload)["type"] for records in routed.values() for record in records)
    assert types == told["types"]


def test_commits_are_written_once_each_without_addresses(done: tuple[Plant, dict[str, Any]]) -> None:
    plant, told = done
    text = (plant.folder / "commits.jsonl").read_text()
    commits = [json.loads(line) for line in text.splitlines()]
    assert len(commits) == told["branch_commits"] == len(plant.records("commits")["commits"])
    assert len({commit["sha"] for commit in commits}) == len(commits)
    assert "@" not in text
    assert len({commit["author"] for commit in commits}) == told["branch_emails"]


def test_subscriptions_take_what_their_filters_say(done: tuple[Plant, dict[str, Any]]) -> None:
    plant, told = done
    types = told["types"]
    rows = plant.rows("webhooks.db", "SELECT type, count(*), sum(merged) FROM pull_requests GROUP BY type")
    found = {name: (count, merged) for name, count, merged in rows}
    assert found == {
        "pull_request": (types["pull_request"], told["merged"]),
        "pull_request_review": (types["pull_request_review"], 0),
    }
    ((count, distinct),) = plant.rows("webhooks.db", "SELECT count(*), count(DISTINCT delivery) FROM pull_requests")
    assert count == distinct
    assert plant.rows("webhooks.db", "SELECT count(*) FROM failed_builds") == [(told["failed_builds"],)]


def test_the_store_is_sound(done: tuple[Plant, dict[str, Any]], tmp_path: Path) -> None:
    with grafctl.open(done[0].store) as store:
        assert not list(store.verify())
