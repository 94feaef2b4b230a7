"""A declared store that was made, and then declared to have more: what the tests of plans begin with."""

from __future__ import annotations

from pathlib import Path

from grafctl import client
from grafctl.results import Plan

FILE = """
[[domain]]
name = "aws"
[[domain]]
name = "gcp"
[[authority]]
name = "watch"
public_key = "watch.pub"
[[queue]]
name = "orders"
schema = "order.v1"
ack = "all"
allow = ["aws"]
replicas = { a = "aws", g = "gcp" }
[[queue.group]]
name = "first"
allow = ["aws"]
[[topic]]
name = "events"
replicas = { e = "aws" }
"""
MORE = """
[[queue.group]]
name = "second"
allow = ["gcp"]
[[queue]]
name = "later"
replicas = { l = "gcp" }
[[queue.group]]
name = "third"
allow = ["gcp"]
"""
ALL = FILE.replace("[[topic]]", MORE + "[[topic]]")
MISSING = ["create the group second of orders", "create the queue later", "create the group third of later"]


def saved(store: client.Store, file: Path) -> Path:
    out = file.with_name("saved.plan")
    store.plan(file, out=out)
    return out


def named(plan: Plan) -> list[str]:
    return [item["action"] for item in plan.actions]


def other_key(file: Path) -> Path:
    client.keygen("other", file.parent)
    return file.with_name("other.pub")
