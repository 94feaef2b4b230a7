"""Open ends of an edge and its lease: renewed when that is due, and met wherever and by whomever it is ended."""

from __future__ import annotations

from typing import Any

import pytest

from grafctl.edges import segment
from grafctl.edges.answers import Taken
from grafctl.errors import Fenced, GenerationConflict, GrafctlError
from nouns.edge_ends import AWS, GCP, LEASE, TERM_MS, Ends, payloads, reads_of, refused, row_of


def test_a_replaced_segment_is_met_by_both_at_once(ends: Ends) -> None:
    ends.writer.push("a")
    with ends.world.reopened() as other:
        token = (other.edges.relocate("e", token=1, domain=AWS).after or {})["token"]
    assert ends.reader.pop() == Taken([], 2)
    error = refused(Fenced, lambda: ends.writer.push("b"), "fenced", recoverable=False)
    assert error.fields["current"] == token and ends.writer.generation == 1
    refused(Fenced, ends.writer.keep, "fenced", recoverable=False)
    assert ends.reader.pop() == Taken([], 2)


def test_a_writer_that_finishes_a_relocation_clears_up_after_who_died_over_it(ends: Ends) -> None:
    with ends.world.reopened() as other:
        place = other.session.cluster.place(AWS).where
        other.leases.acquire("e", **LEASE, replace=1)
        with segment.allocated(place, "e.dead", 4096):  # as it is left where the clearing up did not come
            pass
        with other.edges.writer("e", domain=AWS) as writer:
            assert writer.generation == 2 and len(segment.of_lease(place, "e")) == 1


def test_a_revoked_lease_is_used_up_to_the_end_of_its_grace(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    with ends.world.reopened() as other:
        other.leases.revoke("e", grace_ms=500_000)
    looks = reads_of(ends.world, monkeypatch)
    ends.world.advance(400_000)
    for body in ("a", "b"):
        assert ends.writer.push(body).pushed == 1
    assert payloads(ends.reader.pop()) == [b"a"]
    assert looks != [], "the notice made them look, long before the deadline that they knew"
    ends.world.advance(100_000)
    for call in (lambda: ends.writer.push("c"), ends.reader.pop):
        refused(Fenced, call, "revoked", recoverable=False)


@pytest.mark.parametrize("whose", ["writer", "reader"])
def test_a_revoke_without_grace_ends_the_next_operation(ends: Ends, whose: str) -> None:
    ends.writer.push("a")
    with ends.world.reopened() as other:
        other.leases.revoke("e", grace_ms=0)
    refused(Fenced, getattr(ends, whose).pop if whose == "reader" else ends.writer.keep, "revoked", recoverable=False)


def test_who_died_while_ending_a_lease_leaves_handles_that_ask_each_time(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ends.world.reopened() as other:
        row = dict(zip(("domain", "segment", "bytes", "token"), _place_of(ends), strict=True))
        ring = other.leases._begun(row)
        assert ring is not None
        ring.close()
        looks = reads_of(ends.world, monkeypatch)
        for number in range(3):
            assert ends.writer.push("a").pushed == 1
            assert len(looks) == number + 1
        other.leases.revoke("e", grace_ms=0)
        refused(Fenced, lambda: ends.writer.push("a"), "revoked", recoverable=False)


def _place_of(ends: Ends) -> tuple[Any, ...]:
    row = row_of(ends.world)
    return row["domain"], row["segment"], row["bytes"], row["token"]


def test_a_refused_or_a_tried_end_of_a_lease_costs_one_look_at_most(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ends.world.store
    store.leases.release("e", token=1, domain=AWS, dry_run=True)
    looks = reads_of(ends.world, monkeypatch)
    ends.writer.push("a")
    assert looks == []
    with pytest.raises(Fenced):
        store.leases.release("e", token=9, domain=AWS)
    looks.clear()
    for _ in range(3):
        ends.reader.take()
    ends.writer.push("b")
    assert len(looks) <= 3, "each end looked once, and the reader found no other handoff"


def test_the_writer_renews_when_that_is_due_and_only_then(ends: Ends) -> None:
    def until_ms() -> int:
        return int(ends.world.store.leases.list().items[0]["until_ms"])

    first, due_ms = until_ms(), ends.world.store.leases.list().items[0]["due_ms"]
    ends.world.advance(due_ms - (first - TERM_MS) - 10_000)
    ends.writer.push("a")
    assert until_ms() == first
    ends.world.advance(20_000)
    ends.writer.keep()
    assert until_ms() > first
    ends.world.advance(first - due_ms)
    assert payloads(ends.reader.pop()) == [b"a"], "the reader finds the later deadline where it knew an earlier one"
    for _ in range(10):
        ends.world.advance(TERM_MS // 5)
        ends.writer.push("b")
        assert payloads(ends.reader.pop()) == [b"b"]
    assert ends.writer.generation == 1


def test_without_a_quorum_a_lease_counts_up_to_its_deadline(ends: Ends) -> None:
    domains = ends.world.store.domains
    assert ends.writer.push("a").pushed == 1 and ends.reader.pop().records
    for domain in (GCP, "azure"):
        domains.fail(domain)
    ends.writer._look_s = ends.reader._look_s = 0.0
    assert ends.writer.push("b").pushed == 1 and payloads(ends.reader.pop()) == [b"b"]
    ends.world.advance(TERM_MS)
    for call in (lambda: ends.writer.push("c"), ends.reader.pop):
        with pytest.raises(GrafctlError):
            call()
    for domain in (GCP, "azure"):
        domains.restore(domain)
    refused(GenerationConflict, lambda: ends.writer.push("c"), "expired", recoverable=True)
    assert ends.writer.push("c").generation == 2


def test_opening_a_writer_finishes_what_another_began(ends: Ends) -> None:
    store = ends.world.store
    token = (store.leases.acquire("e", **LEASE, replace=1).after or {})["token"]
    error = refused(GenerationConflict, ends.reader.pop, "disconnected", recoverable=True)
    assert "not published yet" in error.message
    ends.world.advance(TERM_MS)
    token = (store.leases.acquire("e", **LEASE, replace=token).after or {})["token"]
    with pytest.raises(Fenced):
        store.edges.writer("e", domain=AWS, token=1)
    refused(Fenced, lambda: ends.writer.push("a"), "fenced", recoverable=False)
    with store.edges.writer("e", domain=AWS) as writer:
        assert (writer.token, writer.generation) == (token, 3)
        assert writer.push("a").pushed == 1 and payloads(ends.reader.pop()) == [b"a"]
    ends.world.advance(TERM_MS)
    with store.edges.writer("e", domain=AWS, token=token) as writer:
        assert writer.generation == 4 and writer.push("b").pushed == 1


def test_a_writer_goes_on_with_the_relocation_that_it_could_not_publish(ends: Ends) -> None:
    store = ends.world.store
    ends.world.advance(TERM_MS)
    store.leases.acquire("e", **LEASE, replace=1)
    error = refused(GenerationConflict, lambda: ends.writer.push("a"), "disconnected", recoverable=True)
    assert error.fields["generation"] == ends.writer.generation == 2
    assert ends.writer.push("a").generation == 2


def test_who_took_the_name_over_fences_the_writer(ends: Ends) -> None:
    ends.world.advance(TERM_MS)
    ends.world.store.leases.acquire("e", **LEASE | {"owner": "you"})
    for _ in range(2):
        refused(Fenced, lambda: ends.writer.push("a"), "fenced", recoverable=False)
