"""A small pipeline on a store of two drivers, for tests of running: orders in, cleaned, and rows of SQLite out."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.world import World, world

from grafctl.pipeline import declaring
from grafctl.pipeline.model import Pipeline
from grafctl.pipeline.running import Ran, Run, Until
from grafctl.store.operations.verify import verify

PLACES = """
[pipeline]
name = "shop"

[[domain]]
name = "aws"
[[domain]]
name = "gcp"
[[domain]]
name = "azure"

[[log]]
name = "shop"
[log.replicas]
a = "aws"
g = "gcp"
z = "azure"
"""
FILE = (
    PLACES
    + """
[[queue]]
name = "raw"
log = "shop"
allow = ["aws", "gcp"]

[[topic]]
name = "clean"
{clean_log}
allow = ["aws", "gcp"]

[[queue]]
name = "aside"
log = "shop"
allow = ["aws", "gcp"]

[[idem]]
name = "effects"
log = "shop"
allow = ["aws", "gcp"]

[[source]]
name = "orders"
kind = "jsonl"
path = "orders.jsonl"
id = "id"

[[stage]]
name = "take"
kind = "ingest"
source = "orders"
output = "raw"
allow = ["aws", "gcp"]
batch = 7
{take}

[[stage]]
name = "tidy"
kind = "transform"
input = "raw"
output = "clean"
effects = "effects"
allow = ["aws", "gcp"]
batch = 5
{tidy}
[[stage.step]]
op = "filter"
when = "status != 'test'"
[[stage.step]]
op = "cast"
fields = {{ total = "decimal:2" }}
{steps}

[[stage]]
name = "load"
kind = "sink"
input = "clean"
sink = "rows"
allow = ["aws", "gcp"]
batch = 4
{load}

[[sink]]
name = "rows"
kind = "sqlite"
path = "rows.db"
table = "orders"
key = "'shop://' + id"
columns = {{ id = "id", total = "total" }}
types = {{ total = "integer" }}
"""
)
SHARED, OWN = 'log = "shop"', 'replicas = { a = "aws", g = "gcp", z = "azure" }'


@dataclass
class Shop:
    """The store, the folder of the file, and the file as it is declared now."""

    world: World
    folder: Path
    texts: dict[str, str]
    form: str = FILE

    @property
    def pipeline(self) -> Pipeline:
        (self.folder / "shop.toml").write_text(self.form.format(**self.texts))
        return declaring.read(self.folder / "shop.toml")

    def orders(self, *orders: dict[str, Any] | str) -> None:
        """Writes the file that the source reads."""
        lines = [order if isinstance(order, str) else json.dumps(order) for order in orders]
        (self.folder / "orders.jsonl").write_text("".join(f"{line}\n" for line in lines))

    def run(self, *stages: str, domain: str = "aws", until: Until = Until.IDLE) -> Ran:
        return Run(self.world.store, self.pipeline, domain, stages=stages, until=until, timeout_s=60).run()

    def rows(self) -> dict[str, int]:
        """Returns the rows of the warehouse; a row that is there twice fails."""
        if not (self.folder / "rows.db").exists():
            return {}
        with sqlite3.connect(self.folder / "rows.db") as connection:
            if not connection.execute("select 1 from sqlite_master where name = 'orders'").fetchall():
                return {}  # it is being made
            found = connection.execute("select id, total from orders").fetchall()
        assert len(found) == len(dict(found)), "a row is there twice"
        return dict(found)

    def records(self, resource: str) -> list[Any]:
        shown = self.world.store.peek(resource, domain="gcp", max=10_000)
        return list(shown.body["records"])

    def is_whole(self) -> bool:
        return not list(verify(self.world.store.session))


def create(store: World, pipeline: Pipeline) -> None:
    """Creates the resources and groups that the file declares."""
    made, begun = store.store, set[str]()
    for item in pipeline.declaration.resources:
        log = item.log and pipeline.declaration.logs[item.log]
        own = [] if item.log in begun else [log] if log else [item]
        begun.add(item.log or "")
        replicas = [f"{one['id']}={one['domain']}" for holder in own for one in holder.replicas]
        noun: Any = {"queue": made.queues, "topic": made.topics, "idem": made.idem}[item.kind]
        noun.create(item.name, log=item.log, replicas=replicas, allow=item.placement.allow)
    for item in pipeline.declaration.resources:
        for group in item.groups:
            made.consumers.create(item.name, group.name, allow=group.placement.allow, semantics=group.semantics)


@contextmanager
def shop(folder: Path, driver: str, *, shared: bool = True, **texts: str) -> Iterator[Shop]:
    """Yields a shop whose resources are there; `texts` are put into the tables of the stages."""
    fields = {"take": "", "tidy": "", "steps": "", "load": "", "clean_log": SHARED if shared else OWN}
    with world(folder / "store", ("aws", "gcp", "azure"), driver) as made:
        found = Shop(made, folder, fields | texts)
        create(made, found.pipeline)
        yield found


def orders(numbers: Sequence[int], **more: Any) -> list[dict[str, Any]]:
    return [{"id": f"o{number}", "status": "new", "total": f"{number}.{number % 100:02}", **more} for number in numbers]


def rows_of(numbers: Sequence[int]) -> dict[str, int]:
    """Returns the rows that such orders come to, worked out without the pipeline."""
    return {f"o{number}": number * 100 + number % 100 for number in numbers}


def counts_of(ran: Any) -> dict[str, dict[str, int]]:
    """Returns what each stage of a run counted."""
    return {row["stage"]: {name: row[name] for name in row if name not in ("stage", "kind")} for row in ran.stages}
