"""One domain whose bytes changed: the log names it, goes on without it, and is served from the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import GrafctlError
from grafctl.store import keys
from grafctl.store.driver.faults import flip
from grafctl.store.driver.memory import MemoryDriver
from store.world import World, open_store, world

VOTERS = ("a", "b", "c")
Rows = Callable[[bytes], tuple[bytes, bytes]]


def damage(place: World, domain: str, start: bytes, stop: bytes) -> None:
    """Flips a bit in the middle of every value between two keys."""
    assert isinstance(place.driver, MemoryDriver)
    there = place.driver.domains[str(place.store.session.cluster.place(domain).path)]
    old = there.snapshot
    changed = {key: flip(value, 4 * len(value)) for key, value in old.values.items() if start <= key < stop}
    assert changed
    there.snapshot = type(old)(old.keys, {**old.values, **changed})


WHAT: dict[str, Callable[[Any], tuple[bytes, bytes]]] = {
    "the head of its log": lambda log: (keys.head(log), keys.head(log) + b"\0"),
    "its configuration": keys.configs,
    "its state": lambda log: (keys.state(log, b""), keys.state(log, b"\xff")),
    "its entries": lambda log: (keys.entry(log, 0), keys.entry(log, 1 << 40)),
}


@pytest.mark.parametrize("domain", VOTERS)
@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("log", ["the queue", "the control log", "the audit log"])
def test_two_of_three_serve_where_the_third_is_damaged(tmp_path: Path, log: str, what: str, domain: str) -> None:
    with world(tmp_path, VOTERS) as place:
        place.store.queues.create("q", replicas=[f"r{name}={name}" for name in VOTERS], allow=["**"])
        place.store.consumers.create("q", "g", allow=["**"])
        place.store.publish("q", "before", domain="a")
        ids = {"the queue": place.log_id("q"), "the control log": keys.CONTROL_LOG, "the audit log": keys.AUDIT_LOG}
        damage(place, domain, *WHAT[what](ids[log]))
        with open_store(tmp_path, place.driver) as store:
            assert store.publish("q", "after", domain="a").offset == 1
            store.fence("q", epoch=7)
            other = next(name for name in VOTERS if name != domain)
            given = store.poll("q", "g", domain=other).records
            assert [record.payload for record in given] == [b"before", b"after"]
            assert store.ack("q", "g", [0, 1], domain=other).count == 2
            if (log, what) != ("the audit log", "its state"):  # which the next note writes anew
                assert domain in {finding.domain for finding in store.verify()}
            chain = store.audit.verify().body
            assert set(chain["broken"] + chain["unread"]) <= {domain}
            with pytest.raises(GrafctlError):
                store.publish("absent", "x", domain="a")
