"""COPY, PROMISE and START one by one, on replicas that were brought into a state by hand: each guard stands for itself.

What whole operations come to is tested elsewhere; there another guard often stands behind the one that is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import Damaged, NoQuorum
from grafctl.store import elect as electing
from grafctl.store import keys, records
from grafctl.store.driver.faults import COMMIT_BEFORE, Fault, FaultDriver, Kind
from grafctl.store.log import Log
from grafctl.store.observe import Lead
from grafctl.store.replica.replica import Replica, SafetyAlarm
from grafctl.store.replicate import Moved, NeedsLearning, copy
from store.world import World, open_store, world

VOTERS = ("a", "b", "c")


@contextmanager
def three(tmp_path: Path) -> Iterator[tuple[World, Log]]:
    """Yields a store with one queue in three domains, led from a, and its log."""
    with world(tmp_path, VOTERS) as place:
        place.store.queues.create("q", replicas=[f"r{name}={name}" for name in VOTERS], allow=["**"])
        place.store.publish("q", "first", domain="a", id="first")
        yield place, place.store.session.resource("q")


def replica_of(log: Log, domain: str) -> Any:
    with log.cluster.environment(domain).read() as view:
        return Replica(view, log.id, domain).row


def lead_of(log: Log) -> Lead:
    lead = log.observe().lead()
    assert lead is not None
    return lead


def put_head(log: Log, domain: str, row: records.HeadRow) -> None:
    with log.cluster.environment(domain).write(wait_s=1) as batch:
        batch.put(keys.head(log.id), records.encode_head(row))


def states(place: World, log: Log) -> dict[str, dict[bytes, bytes]]:
    """Returns the state tables of the log in each domain."""
    start, stop = keys.states(log.id)
    return {
        domain: {key: value for key, value in rows.items() if start <= key < stop}
        for domain, rows in place.dump().items()
    }


def append_alone(tmp_path: Path, place: World, primary: str) -> None:
    """Publishes a record that only the primary gets; nobody is told that it is there."""

    def plan(domain: str, step: str, count: int) -> Fault | None:
        return Fault(Kind.FULL) if domain != primary and step == COMMIT_BEFORE and place.store is not None else None

    with open_store(tmp_path, FaultDriver(place.driver, plan)) as store, pytest.raises(NoQuorum):
        store.publish("q", "alone", domain=primary, id="alone")


def diverge(tmp_path: Path, place: World, log: Log) -> str:
    """Leaves an entry at the primary alone, then has another term begin without it; returns the domain left behind."""
    primary = lead_of(log).primary
    append_alone(tmp_path, place, primary)
    place.driver.fail(log.cluster.place(primary).path)
    other = next(name for name in VOTERS if name != primary)
    with place.reopened() as store:
        store.publish("q", "other", domain=other, id="other")
    place.driver.restore(log.cluster.place(primary).path)
    return primary


def test_a_tail_that_is_cut_leaves_no_trace_in_the_tables(tmp_path: Path) -> None:
    with three(tmp_path) as (place, log):
        behind = diverge(tmp_path, place, log)
        log.settle()
        found = states(place, log)
        assert found[behind] == found["b" if behind != "b" else "c"]
        assert len({len(rows) for rows in found.values()}) == 1


def test_a_replica_of_an_old_term_is_not_counted_for_its_length(tmp_path: Path) -> None:
    with three(tmp_path) as (place, log):
        behind = diverge(tmp_path, place, log)
        lead = lead_of(log)
        assert replica_of(log, behind).head.acc != lead.term
        upto = replica_of(log, behind).head.tail
        assert copy(log.cluster, log.id, log.apply, lead, behind, upto) >= upto
        assert replica_of(log, behind).head.acc == lead.term
        assert replica_of(log, behind).chain != b"" and states(place, log)[behind].keys()


def test_a_promise_is_durable_before_the_term_begins(tmp_path: Path) -> None:
    with three(tmp_path) as (_, log):
        lead = electing.elect(log.cluster, log.id, log.apply, log.observe())
        assert [replica_of(log, name).head.promised for name in VOTERS] == [lead.term] * 3


def test_a_learner_promises_no_log(tmp_path: Path) -> None:
    with three(tmp_path) as (_, log):
        row = replica_of(log, "c")
        put_head(log, "c", row._replace(head=row.head._replace(learning=True)))
        given = electing._promise(log.cluster, log.id, log.apply, "c", (99, 1), reserved=False)
        assert (given.acc, given.tail) == ((0, 0), 0)


def test_a_learner_is_not_counted(tmp_path: Path) -> None:
    with three(tmp_path) as (_, log):
        row, lead = replica_of(log, "c"), lead_of(log)
        put_head(log, "c", row._replace(head=row.head._replace(learning=True)))
        with pytest.raises(NeedsLearning):
            copy(log.cluster, log.id, log.apply, lead, "c", row.head.tail)


def test_a_copy_takes_nothing_from_a_primary_that_has_another_term(tmp_path: Path) -> None:
    with three(tmp_path) as (place, log):
        old = lead_of(log)
        away = next(name for name in VOTERS if name != old.primary)
        place.driver.fail(log.cluster.place(away).path)
        with place.reopened() as store:
            other = store.session.resource("q")
            lead = electing.elect(other.cluster, other.id, other.apply, other.observe())
            for name in VOTERS:
                if name not in (away, lead.primary):
                    copy(other.cluster, other.id, other.apply, lead, name, max(lead.tails.values()))
        place.driver.restore(log.cluster.place(away).path)
        assert replica_of(log, old.primary).head.acc == lead.term != old.term
        before = place.dump()[away]
        with pytest.raises(Moved):
            copy(log.cluster, log.id, log.apply, old, away, replica_of(log, away).head.tail + 1)
        assert place.dump()[away] == before


def test_an_entry_that_does_not_follow_the_one_before_it_is_not_copied(tmp_path: Path) -> None:
    with three(tmp_path) as (place, log):
        lead = lead_of(log)
        away = next(name for name in VOTERS if name != lead.primary)
        place.driver.fail(log.cluster.place(away).path)
        with place.reopened() as store:
            store.publish("q", "second", domain=lead.primary)
        place.driver.restore(log.cluster.place(away).path)
        at = replica_of(log, away).head.tail
        with log.cluster.environment(lead.primary).write(wait_s=1) as batch:
            entry = Replica(batch, log.id, lead.primary).entry(at)
            raw, _ = records.make_entry(
                b"x" * 32, entry.kind, entry.term, entry.stamped_ms, entry.operation, entry.meta, entry.block,
                entry.block_digest,
            )  # fmt: skip
            batch.put(keys.entry(log.id, at), raw)
        before = place.dump()[away]
        with pytest.raises(Damaged) as caught:
            copy(log.cluster, log.id, log.apply, lead, away, at + 1)
        assert caught.value.domain == lead.primary
        assert place.dump()[away] == before


def test_an_entry_is_not_laid_on_a_log_that_it_does_not_follow(tmp_path: Path) -> None:
    with three(tmp_path) as (place, log):
        other = next(name for name in VOTERS if name != lead_of(log).primary)
        row = replica_of(log, other)
        put_head(log, other, row._replace(chain=b"x" * 32))
        before = place.dump()[other]
        try:
            place.store.publish("q", "second", domain="a")
        except Exception as error:
            assert "old copy" in str(error), error
        after = place.dump()[other]
        assert after.get(keys.entry(log.id, row.head.tail)) == before.get(keys.entry(log.id, row.head.tail))


def test_what_the_term_itself_wrote_is_never_cut(tmp_path: Path) -> None:
    with three(tmp_path) as (place, log):
        place.store.publish("q", "second", domain="a")
        lead = lead_of(log)
        other = next(name for name in VOTERS if name != lead.primary)
        row = replica_of(log, other)
        put_head(log, other, row._replace(head=row.head._replace(commit=row.head.start), chain=b"x" * 32))
        with pytest.raises(SafetyAlarm):
            copy(log.cluster, log.id, log.apply, lead, other, row.head.tail + 1)


def test_the_copy_that_completes_the_quorum_knows_it(tmp_path: Path) -> None:
    with three(tmp_path) as (place, log):
        place.store.publish("q", "second", domain="a")
        tail = replica_of(log, lead_of(log).primary).head.tail
        assert tail in {replica_of(log, name).head.commit for name in VOTERS if name != lead_of(log).primary}


def test_a_replica_that_a_peer_has_seen_further_is_not_counted(tmp_path: Path) -> None:
    with three(tmp_path) as (place, log):
        other = next(name for name in VOTERS if name != lead_of(log).primary)
        old = replica_of(log, other)
        for number in range(3):  # with each of them the primary notes how far the others were
            place.store.publish("q", f"more {number}", domain="a")
        assert other in log.observe().sights
        put_head(log, other, old)
        with place.reopened() as store:
            found = store.session.resource("q").observe()
            assert other not in found.sights and "older copy" in str(found.errors[other])
