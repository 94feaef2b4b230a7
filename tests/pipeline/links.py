"""A small pipeline whose stages are linked by edges, on a store of two drivers: orders in, cleaned, rows of SQLite out.

Any of the edges may be a topic instead: that is the same file with another word in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.world import world

from pipeline.shop import PLACES, Shop, create

FILE = (
    PLACES
    + """
[[queue]]
name = "given"
log = "shop"
allow = ["aws", "gcp"]
[[topic]]
name = "out"
log = "shop"
allow = ["aws", "gcp"]
[[queue]]
name = "aside"
log = "shop"
allow = ["aws", "gcp"]

[[{raw}]]
name = "raw"
log = "shop"
allow = ["aws"]
{ring}
[[{clean}]]
name = "clean"
log = "shop"
allow = ["aws"]
{ring}{ring_of_clean}
[[{rich}]]
name = "rich"
log = "shop"
allow = ["aws"]
{ring}
{more}

[[source]]
name = "orders"
kind = "jsonl"
path = "orders.jsonl"
id = "id"

{first}
output = "raw"
allow = ["aws"]
batch = 7
{take}

[[stage]]
name = "tidy"
kind = "transform"
input = "raw"
output = "clean"
allow = ["aws"]
batch = 5
{tidy}
[[stage.step]]
op = "filter"
when = "status != 'test'"
[[stage.step]]
op = "cast"
fields = {{ total = "decimal:2" }}

[[stage]]
name = "enrich"
kind = "transform"
input = "clean"
output = "rich"
allow = ["aws"]
batch = 6
[[stage.step]]
op = "{enrich}"
{enrich_step}

{last}

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
SOURCE = '[[stage]]\nname = "take"\nkind = "ingest"\nsource = "orders"'
GROUP = '[[stage]]\nname = "take"\nkind = "transform"\ninput = "given"'
TO_ROWS = '[[stage]]\nname = "load"\nkind = "sink"\ninput = "rich"\nsink = "rows"\nallow = ["aws"]\nbatch = 4\n{load}'
TO_TOPIC = (
    '[[stage]]\nname = "load"\nkind = "transform"\ninput = "rich"\noutput = "out"\nallow = ["aws"]\nbatch = 4\n{load}'
)
EDGES = ("raw", "clean", "rich")
STAGES = ("take", "tidy", "enrich", "load")


@contextmanager
def links(folder: Path, driver: str = "memory", *, topics: tuple[str, ...] = (), **texts: str) -> Iterator[Shop]:
    """Yields a shop whose stages are linked by edges, but for those that are to be topics."""
    fields = {name: "topic" if name in topics else "edge" for name in EDGES}
    fields |= {
        "first": SOURCE,
        "last": TO_ROWS,
        "take": "",
        "tidy": "",
        "load": "",
        "more": "",
        "ring": "",
        "ring_of_clean": "",
    }
    fields |= {"enrich": "set", "enrich_step": 'fields = { large = "total > 1000" }'} | texts
    fields["last"] = fields["last"].format(load=fields["load"])
    with world(folder / "store", ("aws", "gcp", "azure"), driver) as made:
        found = Shop(made, folder, fields, FILE)
        create(made, found.pipeline)
        yield found
