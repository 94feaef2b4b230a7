"""Stages of a pipeline at a switch, for kills: the store with both outputs, the deed of a stage, and what must hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.shop import Shop
from pipeline.switched import APART, FILE, OLD, TEXTS, flip, ids, once, rows, tie, write

import grafctl.client as client
from grafctl.pipeline import declaring
from grafctl.pipeline.running import Run, Until
from grafctl.store.operations.switching.work import look, row_of, side_of
from grafctl.store.resources.switched import finished_of

Say = Callable[..., None]
TIDY, LOAD = "tidy", "load"
ORDERS = 14  # in the end; the stage has done some of them before, and some are at one output alone
FORMS: dict[str, tuple[str, dict[str, str]]] = {
    "one log": (TIDY, {"tidy": 'effects = "effects"'}),
    "several logs": (TIDY, {**APART, "tidy": 'effects = "effects"'}),
    "rows": (LOAD, {}),
}


def make(folder: Path, form: str, side: str) -> None:
    """Makes both outputs and a stage that has done some of its work; its switch is at this side."""
    stage, texts = FORMS[form]
    folder.mkdir()
    (folder / "shop.toml").write_text(FILE.format(**TEXTS | texts))
    client.apply(folder / "store", folder / "shop.toml")
    with client.open(folder / "store") as opened:
        tie(opened, stage)
        write(opened, range(6))
        run(opened, folder, stage)
        write(opened, range(6, 10), OLD)
        if side == "target":
            run(opened, folder, stage)
            opened.switches.switch(stage, "target", domain="aws", drain_ms=0, compare_from="now")
        write(opened, range(6, ORDERS))


def run(opened: client.Store, folder: Path, stage: str) -> int:
    """Does what is there now; returns how many records that were."""
    pipeline = declaring.read(folder / "shop.toml")
    return int(Run(opened, pipeline, "aws", stages=[stage], until=Until.ONCE).run().stages[0]["read"])


def run_stage(store: Path, say: Say, stage: str) -> None:
    """The deed: one process of a stage."""
    with client.open(store) as opened:
        say(read=run(opened, store.parent, stage))


def turn(opened: client.Store, stage: str, side: str) -> None:
    flip(opened, stage, side)
    row = row_of(opened.session, stage)
    assert row["side"] == side and row["phase"] is None


def wrong(folder: Path, form: str, opened: client.Store) -> list[str]:
    """Returns what does not hold once the stage is back at the source and nothing is left to do."""
    stage = FORMS[form][0]
    found = []
    seen = Seen(folder, opened)
    if stage == TIDY and seen.outputs() != once(range(ORDERS)):
        found.append(f"the outputs are {sorted(seen.outputs().items())}")
    if stage == LOAD and seen.rows() != rows(range(ORDERS)):
        found.append(f"the rows are {seen.rows()}")
    here = look(side_of(opened.session, stage, row_of(opened.session, stage), "source"))
    if finished_of(here.lineage) != [[0, ORDERS]] or here.lineage.dead or here.lineage.leased:
        found.append(f"finished is {finished_of(here.lineage)}, dead {here.lineage.dead}")
    found += [f"verify: {finding.where}: {finding.problem}" for finding in opened.verify()]
    return found


class Seen:
    """What came of the orders in a store that is no world."""

    def __init__(self, folder: Path, opened: client.Store) -> None:
        self.folder, self._opened = folder, opened

    def records(self, resource: str) -> list[Any]:
        return list(self._opened.peek(resource, domain="aws", max=10_000).body["records"])

    def outputs(self) -> Counter[str]:
        shop: Any = self
        return ids(shop)

    def rows(self) -> dict[str, int]:
        shop: Any = self
        return Shop.rows(shop)
