"""A pipeline whose stages read the output of an old engine, and a switch for each that brings it to that of a new one.

`tidy` makes records of records, in the log of what it reads or in another; `load` commits rows to SQLite. Both read
the same two outputs, each with a group of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from store.world import world

from grafctl import client
from grafctl.pipeline.running import Run, Until
from grafctl.pipeline.stages.work import Stage
from grafctl.store.blocks import Outgoing
from grafctl.store.operations.switching.work import look, row_of, side_of
from grafctl.store.resources.switched import finished_of
from pipeline.shop import OWN, PLACES, SHARED, Shop, create

OLD, NEW, STAGES = "old", "new", ("tidy", "load")
NOW: dict[str, Any] = {"domain": "aws", "drain_ms": 0}

FILE = (
    PLACES
    + """
[[queue]]
name = "old"
log = "shop"
allow = ["aws", "gcp"]
[[queue]]
name = "new"
{new_log}
allow = ["aws", "gcp"]
[[queue.group]]
name = "tidy"
allow = ["aws", "gcp"]
semantics = "effectively-once"
[[queue.group]]
name = "load"
allow = ["aws", "gcp"]
semantics = "effectively-once"
[[topic]]
name = "clean"
{clean_log}
allow = ["aws", "gcp"]
[[idem]]
name = "effects"
log = "shop"
allow = ["aws", "gcp"]

[[stage]]
name = "tidy"
kind = "transform"
input = "old"
output = "clean"
allow = ["aws", "gcp"]
batch = 4
{tidy}
[[stage.step]]
op = "set"
fields = {{ cents = "n * 100" }}
{steps}

[[stage]]
name = "load"
kind = "sink"
input = "old"
sink = "rows"
allow = ["aws", "gcp"]
batch = 4
{load}

[[sink]]
name = "rows"
{sink}
"""
)
ROWS = """kind = "sqlite"
path = "rows.db"
table = "orders"
key = "'shop://' + id"
columns = { id = "id", total = "n * 100" }
types = { total = "integer" }"""
TEXTS = {"new_log": SHARED, "clean_log": SHARED, "tidy": "", "steps": "", "load": "", "sink": ROWS}
APART = {"new_log": OWN, "clean_log": OWN}  # a step is no one entry then


@contextmanager
def switched(folder: Path, driver: str = "memory", *, attach: Sequence[str] = STAGES, **texts: Any) -> Iterator[Shop]:
    """Yields both outputs with the pipeline that reads them; of `attach` each has a switch of its name."""
    how = texts.pop("how", {})
    with world(folder / "store", ("aws", "gcp", "azure"), driver) as made:
        found = Shop(made, folder, TEXTS | texts, FILE)
        create(made, found.pipeline)
        for stage in attach:
            tie(made.store, stage, **how)
        yield found


def tie(store: client.Store, stage: str, **how: Any) -> None:
    store.switches.attach(stage, source=OLD, target=NEW, group=stage, **{"window_ms": 0} | how)


def write(store: client.Store, numbers: Iterable[int], *outputs: str, **more: Any) -> None:
    """Publishes these orders to outputs, to both where none is named."""
    records = [Outgoing(json.dumps({"id": f"o{n}", "n": n} | more).encode(), f"o{n}", f"k{n}") for n in numbers]
    for output in outputs or (OLD, NEW):
        store.publish_batch(output, records, domain="aws")


def flip(store: client.Store, stage: str, side: str) -> None:
    if side == "target":
        store.switches.switch(stage, "target", **NOW)
    else:
        store.switches.rollback(stage, **NOW)


class Hand:
    """One process's stage, which a test moves by hand."""

    def __init__(self, shop: Shop, stage: str, **how: Any) -> None:
        run = Run(shop.world.store, shop.pipeline, "aws", stages=[stage], until=Until.ONCE, **how)
        self.stage: Any = run.make(run._lanes[0].declared)

    def drain(self) -> Stage:
        """Steps until nothing is left."""
        while self.stage.step():
            pass
        return self.stage


def ids(shop: Shop) -> Counter[str]:
    """Returns how often each order is among the outputs of `tidy`."""
    return Counter(json.loads(record.payload)["id"] for record in shop.records("clean"))


def once(numbers: Iterable[int]) -> Counter[str]:
    return Counter(f"o{n}" for n in numbers)


def rows(numbers: Iterable[int]) -> dict[str, int]:
    return {f"o{n}": n * 100 for n in numbers}


def finished(store: client.Store, stage: str, side: str) -> list[list[int]]:
    row = row_of(store.session, stage)
    return finished_of(look(side_of(store.session, stage, row, side)).lineage)
