"""No publish is answered before its whole quorum is durable, whichever copy is the one that is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from grafctl.errors import DomainUnavailable, NoQuorum
from grafctl.store.driver.faults import COMMIT_AFTER, COMMIT_BEFORE, READ_BEGIN, WRITE_BEGIN, Fault, FaultDriver, Kind
from store.world import open_store, world

VOTERS = ("a", "b", "c")


@pytest.mark.parametrize(("ack", "full"), [("all", {"b"}), ("all", {"c"}), ("majority", {"b", "c"})])
def test_a_copy_that_is_missing_is_never_counted(tmp_path: Path, ack: str, full: set[str]) -> None:
    with world(tmp_path, VOTERS) as place:
        place.store.queues.create("q", replicas=[f"r{name}={name}" for name in VOTERS], ack=ack, allow=["**"])
        with place.with_full_disks() as (store, away):
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


@pytest.mark.parametrize("record_id", [None, "x"])
def test_an_election_that_cannot_be_held_does_not_make_a_publish_unwritten(
    tmp_path: Path, record_id: str | None
) -> None:
    """The first try is in the log of its primary; the second loses that one, and too few are left to elect another."""
    commits: dict[str, int] | None = None

    def plan(domain: str, step: str, count: int) -> Fault | None:
        if commits is None or step != COMMIT_BEFORE:
            return None
        commits[domain] = commits.get(domain, 0) + 1
        return Fault(Kind.OUTCOME_UNKNOWN) if (domain, commits[domain]) in (("b", 1), ("a", 2)) else None

    with world(tmp_path, ("a", "b")) as place:
        place.store.queues.create("q", replicas=["ra=a", "rb=b"], allow=["**"])
        with open_store(tmp_path, FaultDriver(place.driver, plan)) as store:
            store.publish("q", "before", domain="a")
            commits = {}
            with pytest.raises(NoQuorum) as caught:
                store.publish("q", "once", domain="a", id=record_id)
            assert commits == {"a": 2, "b": 1}
            assert caught.value.fields["outcome"] == "unknown"
            again = store.publish("q", "once", domain="a", id=record_id, operation=caught.value.fields["operation"])
            assert again.offset == 1
        assert [record.payload for record in place.store.peek("q", domain="b").body["records"]] == [b"before", b"once"]


def test_a_wait_for_what_others_wrote_is_not_a_write_of_ones_own(tmp_path: Path) -> None:
    with world(tmp_path, VOTERS) as place:
        place.store.queues.create("q", replicas=[f"r{name}={name}" for name in VOTERS], allow=["**"])
        with place.with_full_disks() as (store, full):
            store.publish("q", "there", domain="a", id="x")
            full |= {"b", "c"}
            with pytest.raises(NoQuorum) as unknown:
                store.publish("q", "alone in a", domain="a")
            assert unknown.value.fields["outcome"] == "unknown" and "operation" in unknown.value.fields
            with pytest.raises(NoQuorum) as waited:  # for the entry before it; its own record is there
                store.publish("q", "there", domain="a", id="x")
            assert waited.value.fields["outcome"] == "not_written" and "operation" not in waited.value.fields
            with pytest.raises(NoQuorum) as settled:
                store.session.resource("q").settle()
            assert settled.value.fields["outcome"] == "not_written" and "operation" not in settled.value.fields


def test_a_change_of_voters_whose_others_go_away_half_way_may_be_written(tmp_path: Path) -> None:
    commits: list[str] | None = None

    def plan(domain: str, step: str, count: int) -> Fault | None:
        if commits is None:
            return None
        if step == COMMIT_AFTER:
            commits.append(domain)
        is_started = commits.count("a") == 2  # its promise, then the START
        return Fault(Kind.UNREACHABLE) if is_started and domain != "a" and step in (READ_BEGIN, WRITE_BEGIN) else None

    with world(tmp_path, (*VOTERS, "d", "e", "f", "g")) as place:  # so that the store's own logs do not need b and c
        place.store.queues.create("q", replicas=[f"r{name}={name}" for name in VOTERS], allow=["**"])
        with open_store(tmp_path, FaultDriver(place.driver, plan)) as store:
            store.session.resource("q").settle()
            commits = []
            with pytest.raises(NoQuorum) as caught:
                store.locator.set("q", generation=2, remove=["rc"])
            assert caught.value.fields["outcome"] == "unknown" and "operation" not in caught.value.fields
        assert place.store.locator.set("q", generation=2, remove=["rc"]).after is not None


def test_what_may_be_written_is_not_refused_for_ever(tmp_path: Path) -> None:
    """A publish is in the log and nobody knows; that its domain is forbidden since does not say what became of it."""
    with world(tmp_path, VOTERS) as place:
        place.store.queues.create("q", replicas=[f"r{name}={name}" for name in VOTERS], ack="all", allow=["**"])
        with place.with_full_disks() as (store, full):
            store.publish("q", "before", domain="a")
            full.add("c")
            with pytest.raises(NoQuorum) as unknown:
                store.publish("q", "once", domain="a")
            full.clear()
            place.store.placement.set("q", allow=["b"])
            place.store.domains.fail("c")
            with pytest.raises(NoQuorum) as again:
                store.publish("q", "once", domain="a", operation=unknown.value.fields["operation"])
            assert again.value.fields["outcome"] == "unknown" and "operation" in again.value.fields
            with pytest.raises(DomainUnavailable):  # of what was surely not written the refusal is said
                store.publish("q", "never", domain="a")
        assert [record.payload for record in place.store.peek("q", domain="b").body["records"]] == [b"before", b"once"]
