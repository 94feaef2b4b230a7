"""The mirrored pipeline on 150,000 orders: killed at random moments, moved between domains, with a domain failed.

What is in the warehouse at the end is what the generator says: each order once, every tenant's total, the exact sum.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import order_feeds
from running.plant import AWS, FILE, GCP, SCHEMA, Plant, Role, expect, fail, make_plant, restore, running, wait_until

import grafctl
from grafctl.client import Store

SCALE = 0.1
KILLS = 2  # of each process
FAIL_AT, RESTORE_AT = 0.25, 0.6  # of the way, counted in records of all three places


def test_every_order_is_in_the_warehouse_once_after_kills_and_a_failed_domain(tmp_path: Path, seed: int) -> None:
    told = order_feeds.write(tmp_path / "feeds", SCALE)
    plant = make_plant(tmp_path / "plant", FILE, SCHEMA)
    one, other = (tmp_path / "feeds" / name for name in order_feeds.FILES)
    roles = [
        Role(plant, "ingest", (AWS, GCP), one),
        Role(plant, "ingest", (GCP, AWS), other),
        Role(plant, "normalise", (GCP, AWS)),
        Role(plant, "warehouse", (AWS, GCP)),
    ]
    with grafctl.open(plant.store) as store:

        def is_past(share: float) -> bool:
            return sum(progress()) >= share * 3 * told["rows"]

        def is_over() -> bool:
            return progress() == (told["rows"],) * 3 and roles[0].is_done and roles[1].is_done

        def progress() -> tuple[int, int, int]:
            raw, orders = store.queues.show("raw-orders").body, store.topics.show("orders").body
            return raw["next_offset"], orders["next_offset"], rows(plant)

        with running(roles):
            for share, deed in story(random.Random(seed), roles, store):
                wait_until(roles, partial(is_past, share), progress)
                deed()
            wait_until(roles, is_over, progress)
            for role in roles[2:]:
                role.stop()
    assert all(role.kills >= 1 for role in roles)
    expect(plant, told)


def story(dice: random.Random, roles: list[Role], store: Store) -> Iterator[tuple[float, Callable[[], object]]]:
    """Yields how far the work has to be for each deed, and the deed."""
    deeds: list[tuple[float, Callable[[], object]]] = [
        (FAIL_AT, lambda: fail(store, GCP, roles)),
        (RESTORE_AT, lambda: restore(store, GCP, roles)),
    ]
    for role in roles:
        # The files are read by half of the way, and a process that has ended cannot be killed.
        last = 0.3 if role.source else 0.95
        deeds += [(dice.uniform(0.03, last), role.move) for _ in range(KILLS)]
    yield from sorted(deeds, key=lambda deed: deed[0])


def rows(plant: Plant) -> int:
    if not (plant.folder / "warehouse.db").exists():
        return 0
    return int(plant.rows("warehouse.db", "SELECT count(*) FROM sqlite_master WHERE name = 'orders'")[0][0]) and int(
        plant.rows("warehouse.db", "SELECT count(*) FROM orders")[0][0]
    )
