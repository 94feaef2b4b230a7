"""Two operators at one vshard: what one of them decided long ago does no harm to what the other does now."""

from __future__ import annotations

from pathlib import Path

import pytest

from grafctl.errors import GenerationConflict
from grafctl.store.operations.moving.migrating import migrate
from grafctl.store.operations.moving.situation import look, situation_of
from grafctl.store.operations.moving.work import Work
from grafctl.store.resources.moving import Place
from grafctl.store.vshards import vshard_of
from store.world import world

HERE, THERE = "aws/us-east-1/us-east-1a", "gcp/us-central1"
TABLE = "accounts"
N = vshard_of(b"order-1", 4)


def test_who_slept_since_a_migration_that_was_cancelled_drops_no_copy_of_the_next(tmp_path: Path) -> None:
    with world(tmp_path / "store", [HERE, THERE], "memory") as here:
        store = here.store
        store.tables.create(TABLE, replicas=[f"one={HERE}"], allow=["aws", "gcp"], vshards=4)
        store.tables.put(TABLE, b"order-1", b"created", domain=HERE)
        here.observe(THERE)

        def begun() -> dict[str, str]:
            store.vshards.migrate(TABLE, [N], to=[THERE], domain=HERE, hold_cutover=True)
            found = situation_of(store.session, TABLE, N).migration
            assert found is not None
            return found

        first = begun()
        store.vshards.cancel(TABLE, [N], domain=HERE)
        second = begun()
        slept = Work(store.session, Place(TABLE, N, first["id"]), TABLE, first, None)
        with pytest.raises(GenerationConflict):
            migrate(slept)
        copy = look(store.session.resource(second["to"]), second["to"], N)
        assert copy.moving is not None and copy.moving["id"] == second["id"]
        assert copy.row is not None and copy.row["records"] == 1
        (moved,) = store.vshards.cutover(TABLE, [N], domain=HERE)
        assert moved.state == "completed"
        assert store.tables.get(TABLE, b"order-1", domain=THERE).value == b"created"
