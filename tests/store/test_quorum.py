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


def test_what_is_said_where_a_witness_votes_and_a_payload_is_missing(tmp_path: Path) -> None:
    with world(tmp_path, ("a", "b", "w")) as place:
        place.store.queues.create("q", replicas=["ra=a", "rb=b", "rw=w:witness"], allow=["**"])
        shown = place.store.policy.show("q").body
        assert (shown["payload_copies"], shown["domains_that_may_be_away"]) == (2, 0)
        place.store.domains.fail("b")
        with place.reopened() as other, pytest.raises(NoQuorum) as caught:
            other.publish("q", "x", domain="a")
        said = "Only 1 of 2 voters that keep payloads answers and 2 must; b (failed by a drill, until it is restored)"
        assert caught.value.message.startswith(said)
        place.store.domains.restore("b")
        place.store.policy.set("q", ack="majority", min_payload=1)
        assert place.store.policy.show("q").body["domains_that_may_be_away"] == 1
        place.store.domains.fail("b")
        assert place.store.publish("q", "x", domain="a").payload_copies == 1
