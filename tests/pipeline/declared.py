"""A small declared pipeline, and ways to spoil it: each with a mark at the line where the problem has to be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from grafctl.errors import InvalidConfig
from grafctl.pipeline import declaring
from grafctl.pipeline.model import Pipeline

FILE, FOLDER = Path("flow.toml"), Path("/folder")
MARK = "#!"

GOOD = """\
[pipeline]
name = "flow"
[[domain]]
name = "aws/a"
[[domain]]
name = "gcp"
[[domain]]
name = "azure"
[[log]]
name = "main"
replicas = { a = "aws/a", g = "gcp", z = "azure:witness" }
min_payload = 1
[[queue]]
name = "raw"
log = "main"
allow = ["aws", "gcp"]
[[topic]]
name = "clean"
log = "main"
allow = ["aws", "gcp"]
[[queue]]
name = "bad"
log = "main"
allow = ["aws", "gcp"]
[[idem]]
name = "seen"
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
[[stage]]
name = "take"
kind = "ingest"
source = "file"
output = "raw"
dead_letter = "bad"
allow = ["aws", "gcp"]
[[stage]]
name = "tidy"
kind = "transform"
input = "raw"
outputs = ["clean", "bad"]
effects = "seen"
allow = ["aws", "gcp"]
[[stage.step]]
op = "filter"
when = "total > 0"
[[stage]]
name = "keep"
kind = "sink"
input = "clean"
filter = "key:acme/"
sink = "rows"
allow = ["aws"]
[[test]]
name = "positive"
stage = "tidy"
input = [{ value = { total = 1 }, id = "1" }]
expect = [{ value = { total = 1 }, to = "clean" }]
"""


def parse(text: str | bytes) -> Pipeline:
    return declaring.parse(text.encode() if isinstance(text, str) else text, FILE, FOLDER)


def problems(text: str | bytes) -> list[tuple[int, str]]:
    """Returns what is wrong with a text, of which something is."""
    with pytest.raises(InvalidConfig) as caught:
        parse(text)
    assert caught.value.exit_code == 78 and caught.value.file == str(FILE)
    return caught.value.problems


def spoilt(old: str, new: str) -> str:
    """Returns the good file with a piece of it replaced, which is there once."""
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def marked(text: str) -> list[int]:
    """Returns the lines that bear the mark."""
    return [at for at, line in enumerate(text.split("\n"), 1) if MARK in line]
