"""Declared logs, topics, idempotency stores, tables and schemas: what they mean, and what is wrong with bad ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from declared_store import FOLDER, parse, problems

from grafctl.declare import store as declare
from grafctl.errors import InvalidConfig, NotFound

ROOT = Path(__file__).resolve().parents[2]

MIXED = """\
[[domain]]
name = "aws"
[[domain]]
name = "gcp"
[[schema]]
id = "order.v1"
file = "order.json"
[[log]]
name = "orders"
ack = "all"
replicas = { a = "aws", g = "gcp" }
[[queue]]
name = "raw"
log = "orders"
schema = "order.v1"
allow = ["aws"]
[[topic]]
name = "events"
log = "orders"
retain_count = 1000
discard = "oldest"
[[topic.group]]
name = "returns"
allow = ["gcp"]
filter = "type:order.returned"
start = 2026-11-22T01:00:00+01:00
[[idem]]
name = "effects"
log = "orders"
allow = ["gcp"]
retain_age = "7d"
[[idem]]
name = "other"
replicas.a = "aws"
[[table]]
name = "accounts"
log = "orders"
allow = ["gcp"]
[[table]]
name = "small"
replicas.a = "aws"
vshards = 4
"""


def test_resources_of_every_kind_share_a_log() -> None:
    found = parse(MIXED)
    assert found.schemas == {"order.v1": FOLDER / "order.json"} and list(found.logs) == ["orders"]
    raw, events, effects, other, accounts, small = found.resources
    assert [item.kind for item in found.resources] == ["queue", "topic", "idem", "idem", "table", "table"]
    assert (accounts.log, accounts.vshards, small.vshards, raw.vshards) == ("orders", 1024, 4, None)
    assert raw.log == events.log == effects.log == "orders" and other.log is None
    for item in (raw, events, effects):
        assert (item.ack, [replica["id"] for replica in item.replicas]) == ("all", ["a", "g"])
    assert (events.retain_count, events.discard, raw.discard) == (1000, "oldest", "finished")
    assert (effects.retain_age_ms, other.ack, other.schema) == (7 * 86_400_000, "majority", None)
    group = events.group("returns")
    assert group is not None and events.group("none") is None and found.resource("effects") is effects
    assert (group.filter, group.start) == ("type:order.returned", "2026-11-22T00:00:00.000Z")
    assert (raw.lines[""], raw.lines["schema"], group.lines[""], group.lines["filter"]) == (12, 15, 22, 25)
    assert found.lines["domain", "gcp"] == 3 and found.lines["schema", "order.v1"] == 5


MIXED_BAD = [
    ('ack = "all"', 'ack = "most"', 10, "ack is 'majority'"),
    ('schema = "order.v1"', "ack = 2", 15, "is in a log, which says what ack is"),
    ('schema = "order.v1"', 'replicas.a = "aws"', 15, "is in a log, which says what replicas is"),
    ('name = "raw"\nlog = "orders"', 'name = "raw"\nlog = "order"', 14, "log 'order', which no [[log]] declares"),
    ('name = "raw"\nlog = "orders"', 'name = "raw"\nlog = 3', 14, "the name of a [[log]], not a number"),
    ('name = "events"', 'name = "raw"', 18, "There is a queue of this name"),
    ('name = "effects"', 'name = "events"', 28, "There is a topic of this name"),
    ("[[queue]]", '[[log]]\nname = "idle"\nreplicas.a = "aws"\n[[queue]]', 12, "No resource is in log 'idle'"),
    ('name = "orders"\nack', 'name = "orders"\nallow = ["aws"]\nack', 10, "log 'orders' has no key 'allow'"),
    ("retain_count = 1000", "retain_count = 0", 20, "from 1 on"),
    ('discard = "oldest"', 'discard = "newest"', 21, "'newest' is not finished or oldest"),
    ('schema = "order.v1"', "retain_count = 3", 15, "no key 'retain_count'"),
    ('retain_age = "7d"', 'schema = "x"', 31, "idem 'effects' has no key 'schema'"),
    ('"type:order.returned"', '"header:x"', 25, "'header:x' is no filter"),
    ('"type:order.returned"', '"key:"', 25, "'key:' is no filter"),
    ("2026-11-22T01:00:00+01:00", "2026-11-22T01:00:00", 26, "says no zone"),
    ("2026-11-22T01:00:00+01:00", "0001-01-01T00:00:00+23:00", 26, "not in the calendar"),
    ("2026-11-22T01:00:00+01:00", "2026-11-22", 26, "not a date or time"),
    ('id = "order.v1"', 'name = "order.v1"', 5, "[[schema]] has no id"),
    ("[[log]]", '[[schema]]\nid = "order.v1"\nfile = "b"\n[[log]]', 9, "another schema 'order.v1'"),
    ("[[topic]]", '[[queue.group]]\nname = "g"\nallow = ["aws"]\nfilter = "all"\n[[topic]]', 20, "groups of a topic"),
    ('allow = ["gcp"]\nretain_age', 'allow = ["azure"]\nretain_age', 30, "No declared domain may reserve in idem"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line", "sentence"), MIXED_BAD)
def test_a_bad_file_of_every_kind(old: str, new: str, line: int, sentence: str) -> None:
    assert MIXED.count(old) == 1, old
    found = problems(MIXED.replace(old, new))
    assert any(number == line and sentence in told for number, told in found), found
    assert len(found) == 1 or "[[schema]] has no id" in sentence, found


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"[]", "no JSON object"),
        (b"{", "is no JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"[" * 60_000, "nested too deeply"),
        (b" " * ((1 << 20) + 1), "at most 64 KiB"),
        (b'{"type": "nonsense"}', "is none of null"),
    ],
)
def test_a_file_that_holds_no_schema(tmp_path: Path, body: bytes, sentence: str) -> None:
    file = tmp_path / "store.toml"
    file.write_text('[[domain]]\nname = "aws"\n[[schema]]\nid = "s"\nfile = "s.json"\n')
    with pytest.raises(InvalidConfig) as caught:
        declare.read(file)
    assert caught.value.problems[0][0] == 5 and "cannot be read" in caught.value.problems[0][1]
    (tmp_path / "s.json").write_bytes(body)
    with pytest.raises(InvalidConfig) as caught:
        declare.read(file)
    assert caught.value.problems[0][0] == 5 and sentence in caught.value.problems[0][1]
    (tmp_path / "s.json").write_bytes(b'{"type": "object"}')
    assert declare.read(file).schemas == {"s": tmp_path / "s.json"}


def test_a_file_that_never_ends_makes_nobody_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "s.json")
    file = tmp_path / "store.toml"
    for path in (tmp_path / "s.json", Path("/dev/zero")):
        file.write_text(f'[[domain]]\nname = "aws"\n[[schema]]\nid = "s"\nfile = "{path}"\n')
        with pytest.raises(InvalidConfig) as caught:
            declare.read(file)
        assert "it is not a file" in caught.value.problems[0][1]
    with pytest.raises(NotFound, match="not a file"):
        declare.read(tmp_path / "s.json")
