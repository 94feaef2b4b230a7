"""`examples/edges.toml` on 15,000 orders in four processes: each stage killed, also two at once and in the middle of a
step, and the lease of each edge expired; the warehouse is exact at the end.

`GRAFCTL_EDGE_ROUNDS` says how often: each round kills every stage three times or more, at other moments.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import order_feeds
import pytest
from running.linked import EDGE_BEHIND, QUESTION, STAGES, Linked, linked, plant_of, with_small_edges, with_topics
from running.plant import AWS, expect

ROUNDS = int(os.environ.get("GRAFCTL_EDGE_ROUNDS", "1"))
SCALE, SMALL_SCALE = 0.01, 0.002
ROWS_MAX = 400  # between two deeds, so that all of them befall work that is under way
POINTS = {
    "ingest": ("stage.read", "edge.slot", "edge.tail", "append.committed"),
    "parse": ("edge.taken", "edge.tail", "edge.head"),
    "enrich": ("edge.slot", "edge.head", "edge.taken"),
    "store": ("sink.committed", "append.committed", "edge.head", "edge.taken"),
}


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_every_order_is_in_the_warehouse_once(tmp_path: Path, seed: int, round_: int) -> None:
    dice = random.Random(seed * 1000 + round_)
    told = order_feeds.write(tmp_path / "plant" / "feeds", SCALE)
    plant = plant_of(tmp_path / "plant", with_small_edges)
    with linked(plant) as chain:
        for deed in deeds(chain, dice):
            chain.go_on(dice.randrange(1, ROWS_MAX))
            if chain.is_over:
                break
            deed()
        chain.wait_until(lambda: chain.is_over)
        chain.stop()
    assert all(chain.kills.values()), f"not every stage was killed: {chain.kills}"
    assert all(chain.expired.values()), f"not every lease has expired: {chain.expired}"
    expect(plant, told)


def deeds(chain: Linked, dice: random.Random) -> list[Callable[[], None]]:
    """Returns what is to befall a chain, in an order of dice."""
    found: list[Callable[[], None]] = [partial(chain.let_expire, stage) for stage in EDGE_BEHIND]
    for stage in STAGES:
        found.append(partial(chain.kill, stage))
        found.append(partial(chain.kill_at, stage, f"{dice.choice(POINTS[stage])}:{dice.randrange(1, 4)}"))
    found += [partial(chain.kill, *dice.sample(STAGES, 2)) for _ in range(2)]
    return dice.sample(found, len(found))


def test_topics_give_the_same_rows(tmp_path: Path) -> None:
    """Another word in the file, and the same rows."""
    found = []
    for name, change in (("edges", str), ("topics", with_topics)):
        told = order_feeds.write(tmp_path / name / "feeds", SMALL_SCALE)
        plant = plant_of(tmp_path / name, change)
        plant.finish(" ".join(STAGES), AWS)
        expect(plant, told)
        found.append(plant.rows("warehouse.db", QUESTION))
    assert found[0] == found[1]
