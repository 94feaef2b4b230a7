"""No publish is answered before its whole quorum is durable, whichever copy is the one that is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from grafctl.errors import NoQuorum
from grafctl.store.driver.faults import COMMIT_BEFORE, Fault, FaultDriver, Kind
from store.world import open_store, world

VOTERS = ("a", "b", "c")


@pytest.mark.parametrize(("ack", "full"), [("all", {"b"}), ("all", {"c"}), ("majority", {"b", "c"})])
def test_a_copy_that_is_missing_is_never_counted(tmp_path: Path, ack: str, full: set[str]) -> None:
    away: set[str] = set()

    def plan(domain: str, step: str, count: int) -> Fault | None:
        return Fault(Kind.FULL) if domain in away and step == COMMIT_BEFORE else None

    with world(tmp_path, VOTERS) as place:
        place.store.queues.create("q", replicas=[f"r{name}={name}" for name in VOTERS], ack=ack, allow=["**"])
        with open_store(tmp_path, FaultDriver(place.driver, plan)) as store:
            store.publish("q", "before", domain="a")
            away |= full
            with pytest.raises(NoQuorum) as caught:
                store.publish("q", "without them", domain="a")
            assert caught.value.fields["outcome"] == "unknown"
            assert set(caught.value.fields["domains"]) == full
            away.clear()
            again = store.publish("q", "after", domain="a")
            assert set(again.acked_by) == set(VOTERS)
