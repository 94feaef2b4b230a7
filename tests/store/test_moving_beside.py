"""Two operators at one vshard: what one of them decided long ago does no harm to what the other does now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl.client import Store
from grafctl.errors import GenerationConflict
from grafctl.store.operations.moving.migrating import migrate
from grafctl.store.operations.moving.situation import look, situation_of
from grafctl.store.operations.moving.work import Work
from grafctl.store.resources.moving import CANCELLING, COPYING, FAILED, Abandon, Amend, Place
from grafctl.store.vshards import vshard_of
from store.world import world

HERE, THERE = "aws/us-east-1/us-east-1a", "gcp/us-central1"
TABLE = "accounts"
N = vshard_of(b"order-1", 4)


def held(store: Store) -> dict[str, Any]:
    """Returns the record of a migration whose copy is there and whose cut-over is held."""
    store.vshards.migrate(TABLE, [N], to=[THERE], domain=HERE, hold_cutover=True)
    found = situation_of(store.session, TABLE, N).migration
    assert found is not None
    return found


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Store]:
    with world(tmp_path / "store", [HERE, THERE], "memory") as here:
        here.store.tables.create(TABLE, replicas=[f"one={HERE}"], allow=["aws", "gcp"], vshards=4)
        here.store.tables.put(TABLE, b"order-1", b"created", domain=HERE)
        here.observe(THERE)
        yield here.store


def test_who_slept_since_a_migration_that_was_cancelled_drops_no_copy_of_the_next(ours: Store) -> None:
    first = held(ours)
    ours.vshards.cancel(TABLE, [N], domain=HERE)
    second = held(ours)
    slept = Work(ours.session, Place(TABLE, N, first["id"]), TABLE, first, None)
    with pytest.raises(GenerationConflict):
        migrate(slept)
    copy = look(ours.session.resource(second["to"]), second["to"], N)
    assert copy.moving is not None and copy.moving["id"] == second["id"]
    assert copy.row is not None and copy.row["records"] == 1
    (moved,) = ours.vshards.cutover(TABLE, [N], domain=HERE)
    assert moved.state == "completed"
    assert ours.tables.get(TABLE, b"order-1", domain=THERE).value == b"created"


def test_a_migration_that_is_being_cancelled_is_brought_back_by_nobody(ours: Store) -> None:
    """Not by an operator who changes its limits, and not by one whose migration failed meanwhile."""
    record = held(ours)
    place, source = Place(TABLE, N, record["id"]), ours.session.resource(TABLE)
    source.append(Abandon(place, CANCELLING))  # another operator, who goes no further
    with pytest.raises(GenerationConflict, match="is being cancelled"):
        source.append(Amend(place, {"state": COPYING, "max_lag": 1}))
    source.append(Abandon(place, FAILED, "its copy was altered"))
    with pytest.raises(GenerationConflict, match="is being cancelled"):
        ours.vshards.resume(TABLE, [N], domain=HERE, max_lag=1)
    found = situation_of(ours.session, TABLE, N)
    assert found.state == "cancelled" and found.migration == record | {"state": CANCELLING}
    (ended,) = ours.vshards.cancel(TABLE, [N], domain=HERE)
    assert ended.state == "cancelled" and situation_of(ours.session, TABLE, N).state == "idle"
