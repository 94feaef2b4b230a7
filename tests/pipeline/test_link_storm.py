"""A chain of four stages in storms: stages die, edges lose segments and leases, one at a time and two at once.

At the end the sink's rows are exact, and at any time nothing counts as worked on that is not committed.
`GRAFCTL_STORMS` says how many storms there are of each kind.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from grafctl.pipeline.running import Run
from grafctl.pipeline.stages.behind_edges import EdgeInput
from grafctl.store.checked import checked
from grafctl.store.resources.chains import chained
from pipeline.link_storm import Storm
from pipeline.links import EDGES, GROUP, STAGES, TO_TOPIC, links
from pipeline.shop import Shop, orders, rows_of

STORMS = int(os.environ.get("GRAFCTL_STORMS", "3"))
COUNT, DEEDS = 120, 25
SEEDS = range(STORMS)
RING = 'slots = 9\nbytes = "8KiB"'  # so that they are full as often as empty
PARTS = """field = "parts"
[[stage.step]]
op = "set"
fields = { id = "id + '/' + text(parts)" }"""


@pytest.mark.parametrize("number", SEEDS)
def test_orders_of_a_file_are_in_the_rows_once(tmp_path: Path, seed: int, number: int) -> None:
    with links(tmp_path, enrich="explode", enrich_step=PARTS, ring=RING) as shop:
        given = [order | {"parts": list(range(at % 4))} for at, order in enumerate(orders(range(COUNT)))]
        for at in range(0, COUNT, 10):
            given.insert(at, {"id": f"t{at}", "status": "test", "total": "1", "parts": [7]})
        given.append({"id": "last", "status": "test", "total": "1", "parts": [7]})
        wanted = {f"{order['id']}/{part}" for order in given if order["status"] != "test" for part in order["parts"]}
        shop.orders(*given)
        storm = Storm(shop, random.Random(seed * 1000 + number))

        def nothing_is_said_too_early() -> None:
            row = storm.row()
            due = [order for order in given[: row.next if row else 0] if order["status"] != "test"]
            ids = {f"{order['id']}/{part}" for order in due for part in order["parts"]}
            assert ids <= set(shop.rows()), "the checkpoint is ahead of the rows"

        def is_done() -> bool:
            row = storm.row()
            return row is not None and row.is_done

        storm.until(is_done, deeds=DEEDS, check=nothing_is_said_too_early)
        storm.close()
        assert set(shop.rows()) == wanted and storm.deeds >= DEEDS
        assert shop.is_whole()


@pytest.mark.parametrize("number", SEEDS)
def test_records_of_a_group_are_finished_when_their_rows_are_there(tmp_path: Path, seed: int, number: int) -> None:
    with links(tmp_path, first=GROUP, ring=RING) as shop:
        publish(shop, [*orders(range(COUNT)), {"id": "last", "status": "test", "total": "1"}])
        storm = Storm(shop, random.Random(seed * 1000 + number))

        def finished() -> set[str]:
            floor = shop.world.store.consumers.show("given", "take").body["ack_floor"]
            return {f"o{at}" for at in range(floor)} - {f"o{COUNT}"}

        def nothing_is_finished_too_early() -> None:
            assert finished() <= set(shop.rows()), "a record is finished without its row"

        def is_done() -> bool:
            return bool(shop.world.store.consumers.show("given", "take").body["ack_floor"] == COUNT + 1)

        storm.until(is_done, deeds=DEEDS, check=nothing_is_finished_too_early)
        storm.close()
        assert shop.rows() == rows_of(range(COUNT))


@pytest.mark.parametrize("number", SEEDS)
def test_a_chain_that_ends_in_a_topic_publishes_each_record_once(tmp_path: Path, seed: int, number: int) -> None:
    with links(tmp_path, last=TO_TOPIC, ring=RING) as shop:
        shop.orders(*orders(range(COUNT)))
        storm = Storm(shop, random.Random(seed * 1000 + number))

        def is_done() -> bool:
            row = storm.row()
            return row is not None and row.is_done

        storm.until(is_done, deeds=DEEDS)
        storm.close()
        ids = [record.id for record in shop.records("out")]
        assert len(ids) == len(set(ids)) == COUNT


@pytest.mark.parametrize("is_group", [True, False], ids=["group", "file"])
@pytest.mark.parametrize("by_hand", [False, True], ids=["", "by hand"])
def test_the_last_stage_dies_between_finishing_and_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_group: bool, by_hand: bool
) -> None:
    """Nothing more comes on the edge then: who is that stage next has to find out what was finished there."""
    how: dict[str, Any] = {"first": GROUP} if is_group else {}
    with links(tmp_path, **how) as shop:
        if is_group:
            publish(shop, orders(range(5)))
        else:
            shop.orders(*orders(range(5)))
        run = Run(shop.world.store, shop.pipeline, "aws")
        stages: dict[str, Any] = {stage.name: run.make(stage) for stage in shop.pipeline.stages}
        monkeypatch.setattr(EdgeInput, "_write", lambda self: False)
        for _ in range(50):
            for name in STAGES:
                stages[name].step()
        assert shop.rows() == rows_of(range(5)) and not stages["take"].is_finished()
        stages["load"]._input.work.close()  # nothing else of it is given back
        monkeypatch.undo()
        if by_hand:
            shop.world.store.edges.push("rich", b"hello", domain="aws")
            shop.world.store.edges.pop("rich", domain="aws")
        stages["load"] = run.make(shop.pipeline.stages[-1])
        for _ in range(50):
            for name in STAGES:
                stages[name].step()
        row = checked(shop.world.store.session.control, lambda state: chained(state, "shop/take", EDGES)).row
        assert row is not None and (by_hand or row.next == 5), "what is popped by hand is lost to the chain"
        for stage in stages.values():
            stage.leave()


def publish(shop: Shop, given: list[dict[str, Any]]) -> None:
    for order in given:
        shop.world.store.publish("given", json.dumps(order), id=order["id"], domain="gcp")
