"""The feeds of the example pipelines are what they claim to be: repeatable, large, and counted apart from the lines."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import order_feeds
import pytest
import switchover_engines as engines
import tpch
import webhook_feed

SCALE, EVENTS = 0.002, 2_000


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tpch")


@pytest.fixture(scope="module")
def orders(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[list[bytes]], dict[str, Any]]:
    """The lines of both files, and what is expected of them."""
    folder = tmp_path_factory.mktemp("orders")
    told = order_feeds.write(folder, SCALE, cache)
    assert json.loads((folder / "orders.expected.json").read_text()) == told
    return [(folder / name).read_bytes().splitlines() for name in order_feeds.FILES], told


@pytest.fixture(scope="module")
def webhooks(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[bytes], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("webhooks")
    told = webhook_feed.write(folder, EVENTS)
    assert json.loads((folder / webhook_feed.EXPECTED).read_text()) == told
    return (folder / webhook_feed.NAME).read_bytes().splitlines(), told


def test_one_order_of_a_hundred_comes_twice_with_the_same_bytes(
    orders: tuple[list[list[bytes]], dict[str, Any]],
) -> None:
    files, told = orders
    assert told["rows"] == 3000
    assert told["lines"] == dict(zip(order_feeds.FILES, map(len, files), strict=True))
    times = Counter(line for file in files for line in file)
    assert len(times) == 3000
    assert Counter(times.values()) == {1: 2970, 2: 30}
    ids = {json.loads(line)["event"] for line in times}
    assert ids == {f"order-{json.loads(line)['order_key']}" for line in times} and len(ids) == 3000
    # Some come again where they came from, and some in the other domain.
    both = [line for line in times if line in set(files[0]) and line in set(files[1])]
    assert 5 <= len(both) <= 25


def test_the_events_add_up_to_what_the_tables_say(orders: tuple[list[list[bytes]], dict[str, Any]]) -> None:
    files, told = orders
    events = [json.loads(line) for line in {line for file in files for line in file}]
    tenants: dict[str, list[int]] = {}
    for event in events:
        sums = tenants.setdefault(event["tenant"], [0, 0])
        sums[0] += 1
        sums[1] += tpch.cents(event["total_price"])
    assert tenants == told["tenants"] and len(tenants) > 20
    assert told["total_cents"] == sum(tpch.cents(event["total_price"]) for event in events)
    assert all(event["tenant"] == order_feeds.slug(event["customer"]["nation"]) for event in events)


def test_the_same_seed_makes_the_same_orders_and_another_one_others(cache: Path) -> None:
    first, same, other = ([*order_feeds.lines(SCALE, cache, seed)] for seed in (1, 1, 2))
    assert first == same and first != other
    assert {line.text for line in first} == {line.text for line in other}


def test_a_webhook_feed_counts_what_is_in_it(webhooks: tuple[list[bytes], dict[str, Any]]) -> None:
    lines, told = webhooks
    assert len(lines) == told["lines"] == EVENTS + told["again"] + told["cut"]
    events: dict[str, Any] = {}
    cut = 0
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            cut += 1
            continue
        assert events.setdefault(event["delivery"], event) == event
    assert cut == told["cut"] == EVENTS // webhook_feed.CUT_OF_EACH
    assert len(events) == told["deliveries"] == EVENTS
    types = Counter(event["type"] for event in events.values())
    assert types == told["types"] and set(types) == set(webhook_feed.TYPES)
    assert sum(told["routes"].values()) == EVENTS
    assert told["routes"]["review"] == types["pull_request"] + types["pull_request_review"]
    pushes = [event["body"] for event in events.values() if event["type"] == "push"]
    branches = [push for push in pushes if push["ref"].startswith("refs/heads/")]
    assert 0 < told["branch_pushes"] == len(branches) < len(pushes)
    assert told["branch_commits"] == sum(len(push["commits"]) for push in branches)
    addresses = {commit["author"]["email"] for push in branches for commit in push["commits"]}
    assert told["branch_emails"] == len(addresses)
    pulls = [event["body"] for event in events.values() if event["type"] == "pull_request"]
    assert told["merged"] == sum(pull["pull_request"]["merged"] for pull in pulls)


def depth(value: Any) -> int:
    if isinstance(value, dict | list):
        inside = value.values() if isinstance(value, dict) else value
        return 1 + max(map(depth, inside), default=0)
    return 0


def test_webhooks_are_large_and_nested(webhooks: tuple[list[bytes], dict[str, Any]]) -> None:
    lines, _ = webhooks
    whole = sorted(len(line) for line in lines)
    assert whole[len(whole) // 2] > 6_000 and whole[-1] > 20_000 and whole[-1] < 30_000
    deepest = max(depth(json.loads(line)) for line in lines if b'"type":"pull_request"' in line and line[-1:] == b"}")
    assert deepest >= 6


@pytest.mark.parametrize("seed", [1, 7])
def test_the_same_seed_makes_the_same_webhooks(seed: int) -> None:
    first, same = ([*webhook_feed.Feed(200, seed).lines()] for _ in range(2))
    assert first == same != [*webhook_feed.Feed(200, seed + 1).lines()]


def test_the_new_engine_differs_from_the_old_one_where_its_bug_is_and_nowhere_else(cache: Path) -> None:
    some = engines.orders(0.001, cache)
    hit, dates = set(engines.hit(some)), [order["date"] for order in some]
    assert dates == sorted(dates) and len(some) == 1500 and 0 < len(hit) < 300
    first = min(order["date"] for order in some if engines.key_of(order) in hit)
    assert first >= "1992-10", "until then nobody can see the bug"
    for order in some:
        old, new = engines.old(order), engines.new(order)
        assert old["shipments"] == new["shipments"]
        wrong = {shape for shape in old.keys() | new.keys() if not is_near(old.get(shape), new.get(shape))}
        assert wrong == ({"refunds"} if engines.key_of(order) in hit else set())


def is_near(one: bytes | None, other: bytes | None) -> bool:
    """Returns whether two records say the same, amounts to a cent."""
    if one is None or other is None:
        return one is other
    mine, theirs = json.loads(one), json.loads(other)
    return abs(mine.pop("amount", 0) - theirs.pop("amount", 0)) <= 0.01 and bool(mine == theirs)


def test_the_commands_write_their_files(tmp_path: Path, cache: Path) -> None:
    for script, words, said in (
        (order_feeds, ("--scale", "0.001", "--cache", cache), r"1,500 orders of 2\d tenants, and 15 of them twice\n"),
        (webhook_feed, ("--events", 100), r"100 deliveries of \d+ types, 1 MB; \d come twice and 0 are cut off\n"),
    ):
        command = [sys.executable, str(script.__file__), str(tmp_path / "feeds"), *map(str, words)]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        assert re.fullmatch(said, ended.stdout)
    names = {path.name for path in (tmp_path / "feeds").iterdir()}
    assert names == {*order_feeds.FILES, "orders.expected.json", webhook_feed.NAME, webhook_feed.EXPECTED}
