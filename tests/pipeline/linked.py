"""A small declared pipeline whose stages are linked by edges, and the same with a topic at any of those places."""

from __future__ import annotations

EDGES = """\
[pipeline]
name = "flow"
[[domain]]
name = "aws/a"
[[domain]]
name = "gcp"
[[log]]
name = "main"
replicas = { a = "aws/a", g = "gcp" }
[[queue]]
name = "bad"
log = "main"
allow = ["aws", "gcp"]
[[source]]
name = "file"
kind = "jsonl"
path = "in.jsonl"
id = "number"
[[sink]]
name = "rows"
kind = "sqlite"
path = "rows.db"
table = "rows"
key = "_id"
columns = { id = "_id" }
[[edge]]
name = "raw"
log = "main"
allow = ["aws"]
[[edge]]
name = "clean"
log = "main"
allow = ["aws"]
[[stage]]
name = "take"
kind = "ingest"
source = "file"
output = "raw"
allow = ["aws"]
[[stage]]
name = "tidy"
kind = "transform"
input = "raw"
output = "clean"
allow = ["aws"]
[[stage.step]]
op = "filter"
when = "total > 0"
[[stage]]
name = "keep"
kind = "sink"
input = "clean"
sink = "rows"
allow = ["aws"]
"""


def changed(old: str, new: str, text: str = EDGES) -> str:
    """Returns the file with a piece of it replaced, which is there once."""
    assert text.count(old) == 1, old
    return text.replace(old, new)
