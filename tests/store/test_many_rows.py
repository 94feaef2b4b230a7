"""Many rows in one entry: those that are new are not looked up one by one, and those that are there are counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from grafctl.store.operations.tables import Item
from store.world import World, world

DOMAINS = ("a", "b", "c")
FEW, MANY = 5, 100


def a_table(place: World) -> None:
    place.store.tables.create("t", replicas=[f"{name}={name}" for name in DOMAINS], allow=["**"], vshards=1)


def key(number: int) -> bytes:
    return b"key-%04d" % number


def put(place: World, numbers: Sequence[int], value: bytes | None) -> None:
    place.store.tables.put_many("t", [Item(key(number), value) for number in numbers], domain="a")


# How the second batch lies beside the first, whose keys are 100, 102, … 298.
BESIDE = {
    "behind": range(300, 300 + MANY),
    "before": range(MANY),
    "between": range(101, 301, 2),
    "over": range(100, 300, 2),
    "over the last": range(298, 298 + MANY),
    "over the first": range(1, 101),
    "backwards": range(400, 300, -1),
    "a few": range(298, 298 + FEW),
}


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("value", [b"second", None])
def test_a_batch_is_counted_wherever_its_keys_lie(tmp_path: Path, beside: str, value: bytes | None) -> None:
    with world(tmp_path, DOMAINS) as place:
        a_table(place)
        put(place, range(100, 300, 2), b"first")
        put(place, BESIDE[beside], value)
        expected = {key(number): b"first" for number in range(100, 300, 2)}
        for number in BESIDE[beside]:
            expected.pop(key(number), None)
            expected |= {} if value is None else {key(number): value}
        assert {row.key: row.value for row in place.store.tables.scan("t", domain="a")} == expected
        counted = place.store.tables.count("t").body
        assert counted["count"] == len(expected)
        assert counted["bytes"] == sum(len(name) + len(text) for name, text in expected.items())
        assert not list(place.store.verify())


def test_a_vshard_is_copied_and_caught_up_in_large_batches(tmp_path: Path) -> None:
    with world(tmp_path, ("a", "b")) as place:
        place.store.tables.create("t", replicas=["ra=a"], allow=["**"], vshards=1)
        for domain in "ab":
            place.observe(domain)
        put(place, range(MANY), b"first")
        vshards = place.store.vshards
        vshards.migrate("t", [0], to=["b"], domain="a", hold_cutover=True)
        put(place, range(50, 50 + MANY), b"second")
        put(place, range(FEW), None)
        (moved,) = vshards.resume("t", [0], domain="a", budget_us=10_000_000)
        assert (moved.state, moved.records) == ("completed", 50 + MANY - FEW)
        assert not list(place.store.verify())
