"""A small pipeline and its store for the kill sweep: what comes in, what its stages do to it, and what must be there.

Each try of a deed here lives an hour after the one before, so that no lease of one that died has to be waited for.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grafctl.client as client
from faults.tracing import TRIES
from grafctl import clock
from grafctl.pipeline import declaring
from grafctl.pipeline.running import Run, Until

Say = Callable[..., None]
HOUR_MS = 3_600_000
RAW, CLEAN, EFFECTS, LOG = "raw", "clean", "effects", "etl"
TAKE, TIDY, LOAD = "take", "tidy", "load"
ORDERS = {"o1": 11, "o2": 22, "o3": 33}
DOCUMENT = '{"type": "object", "required": ["id"]}'
PLACED = 'allow = ["a", "b"]'
FILE = f"""
[pipeline]
name = "etl"
{"".join(f'[[domain]]{chr(10)}name = "{name}"{chr(10)}' for name in "abcd")}
[[log]]
name = "{LOG}"
replicas = {{ a = "a", b = "b" }}
[[queue]]
name = "{RAW}"
log = "{LOG}"
{PLACED}
[[topic]]
name = "{CLEAN}"
log = "{LOG}"
{PLACED}
[[idem]]
name = "{EFFECTS}"
log = "{LOG}"
{PLACED}
[[source]]
name = "orders"
kind = "jsonl"
path = "orders.jsonl"
id = "id"
[[stage]]
name = "{TAKE}"
kind = "ingest"
source = "orders"
output = "{RAW}"
{PLACED}
[[stage]]
name = "{TIDY}"
kind = "transform"
input = "{RAW}"
output = "{CLEAN}"
effects = "{EFFECTS}"
batch = 2
{PLACED}
[[stage.step]]
op = "set"
fields = {{ twice = "2 * total" }}
[[stage]]
name = "{LOAD}"
kind = "sink"
input = "{CLEAN}"
sink = "rows"
{PLACED}
[[sink]]
name = "rows"
kind = "sqlite"
path = "rows.db"
table = "orders"
key = "'etl://' + id"
columns = {{ id = "id", twice = "twice" }}
types = {{ twice = "integer" }}
"""


def make(store: Path, replicas: list[str], min_payload: int | None) -> None:
    """Three resources in one log, two orders that came in and one that is to come, and a key of each state."""
    (store / "etl.toml").write_text(FILE)
    lines = [json.dumps({"id": name, "total": total}) for name, total in ORDERS.items()]
    (store / "orders.jsonl").write_text("".join(f"{line}\n" for line in lines))
    allow = ["a", "b", "c", "d"]
    with client.open(store) as opened:
        opened.queues.create(RAW, log=LOG, replicas=replicas, min_payload=min_payload, allow=allow)
        opened.topics.create(CLEAN, log=LOG, allow=allow)
        opened.idem.create(EFFECTS, log=LOG, allow=allow)
        opened.consumers.create(RAW, TIDY, allow=["a", "b"], semantics="effectively-once")
        opened.consumers.create(CLEAN, LOAD, allow=["a", "b"], semantics="effectively-once")
        for name, line in list(zip(ORDERS, lines, strict=True))[:2]:
            opened.publish(RAW, line, id=name, domain="a")
        with opened.idem.once(EFFECTS, "old", stage="by-hand", domain="a", payload="old"):
            pass
        held = opened.idem.reserve(EFFECTS, "held", stage="by-hand", domain="a", payload="held", lease_ms=30 * HOUR_MS)
        (store / "token").write_text(str(held.token))


def _an_hour_later(store: Path) -> None:
    with (store / TRIES).open("a") as tries:
        tries.write(".")
        os.environ[clock.OFFSET_VARIABLE] = str(tries.tell() * HOUR_MS)


def pipeline_run(store: Path, say: Say, stages: list[str]) -> None:
    """Runs stages one after the other; says whether any of them did something that was not done before."""
    _an_hour_later(store)
    changed = 0
    with client.open(store) as opened:
        for stage in stages:
            pipeline = declaring.read(store / "etl.toml")
            (row,) = Run(opened, pipeline, "a", stages=[stage], until=Until.ONCE, visibility_ms=60_000).run().stages
            assert not row["refused"], row
            changed += row["written"]
        say(changed=changed > 0)
        _is_there_once(opened, store, stages)


def _is_there_once(opened: client.Store, store: Path, stages: list[str]) -> None:
    """Raises where a record is finished that has no output, or an output is there twice."""
    names = list(ORDERS) if TAKE in stages else list(ORDERS)[:2]
    found = [record.id for record in opened.peek(CLEAN, domain="a", max=100).body["records"]]
    assert found == [f"{TIDY}:{name}" for name in names], found
    effects = [item["key"] for item in opened.idem.keys(EFFECTS, stage=TIDY).items]
    assert effects == names, effects
    if LOAD in stages:
        with sqlite3.connect(store / "rows.db") as connection:
            rows = connection.execute("select id, twice from orders order by id").fetchall()
        assert rows == [(name, 2 * ORDERS[name]) for name in names], rows


def _declared(store: Path) -> Path:
    """Writes the declared file beside the store: a fault of the store's files is none of the caller's own."""
    file = store.with_name(f"{store.name}.toml")
    file.write_text(FILE)
    return file


def apply(store: Path, say: Say) -> None:
    """Makes what a file declares that is not there."""
    say(changed=client.apply(store, _declared(store)).changed)


def apply_plan(store: Path, say: Say) -> None:
    """Makes what a plan says, which the first try saves: it holds where the store is then."""
    file = _declared(store)
    if not (store / "store.plan").exists():
        client.plan(store, file, out=store / "store.plan")
    say(changed=client.apply(store, store / "store.plan").changed)


def topic_create(store: Path, say: Say) -> None:
    with client.open(store) as opened:
        say(changed=opened.topics.create("more", log=LOG, allow=["a", "b"], retain_count=10).changed)


def schema_add(store: Path, say: Say) -> None:
    with client.open(store) as opened:
        say(changed=opened.schemas.add("order", DOCUMENT).changed)


def idem_work(store: Path, say: Say) -> None:
    """Reserves a key and completes it; once it is done, the first result comes."""
    _an_hour_later(store)
    with client.open(store) as opened:
        found = opened.idem.reserve(EFFECTS, "new", stage="by-hand", domain="b", payload="x", lease_ms=60_000)
        if found.token is not None:
            opened.idem.complete(EFFECTS, "new", stage="by-hand", token=found.token, domain="b", result="done")
        say(changed=found.token is not None)


def idem_release(store: Path, say: Say) -> None:
    token = int((store / "token").read_text())
    with client.open(store) as opened:
        say(changed=opened.idem.release(EFFECTS, "held", stage="by-hand", token=token, domain="b").changed)


def idem_expire(store: Path, say: Say) -> None:
    _an_hour_later(store)
    with client.open(store) as opened:
        say(changed=opened.idem.expire(EFFECTS, domain="b", older_than_ms=1000).changed)


DEEDS: dict[str, Any] = {
    "pipeline_run": pipeline_run,
    "apply": apply,
    "apply_plan": apply_plan,
    "topic_create": topic_create,
    "schema_add": schema_add,
    "idem_work": idem_work,
    "idem_release": idem_release,
    "idem_expire": idem_expire,
}
