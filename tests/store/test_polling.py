"""Polls of an open store: one entry that finishes and leases, what is asked at every poll, and blocks that are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from grafctl.errors import Busy, Corrupt, DomainUnavailable, Fenced, NoQuorum, NotFound
from grafctl.store import keys
from grafctl.store.records import decode_entry
from grafctl.store.replica.replica import Replica
from store.world import World, world

Q, G, AWS, GCP = "orders", "billing", "aws", "gcp"
OTHER = "ordres"  # as long as the other one, so that their blocks differ in nothing but their bytes


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "store", [AWS, GCP]) as made:
        for name in (Q, OTHER):
            made.store.queues.create(name, replicas=[f"a={AWS}", f"g={GCP}"], allow=[AWS, GCP])
            made.store.consumers.create(name, G, allow=[AWS, GCP])
            made.store.publish_batch(name, [f"{name} {number}".encode() for number in range(10)], domain=AWS)
        yield made


def tail(here: World) -> int:
    with here.store.session.cluster.environment(AWS).read() as view:
        return Replica(view, here.log_id(Q), AWS).row.head.tail


def offsets(here: World, count: int = 3, domain: str = AWS, **how: object) -> tuple[list[int], int | None]:
    given = here.store.poll(Q, G, domain=domain, max=count, **how)  # type: ignore[arg-type]
    return [record.offset for record in given.records], given.lease


def floor(here: World) -> int:
    found: int = here.store.consumers.show(Q, G).body["ack_floor"]
    return found


# --- finishing


def test_finishing_and_leasing_is_one_entry(here: World) -> None:
    done, lease = offsets(here)
    before = tail(here)
    given = here.store.poll(Q, G, domain=AWS, max=3, finish=done, lease=lease)
    assert [record.payload for record in given.records] == [b"orders 3", b"orders 4", b"orders 5"]
    assert (given.finished, given.ack_floor, floor(here)) == (3, 3, 3)
    assert tail(here) == before + 1
    assert here.store.poll(Q, G, domain=AWS, max=1).finished is None
    assert not list(here.store.verify())


def test_what_was_finished_is_told_though_the_poll_waited_for_records(here: World) -> None:
    done, lease = offsets(here, 10)
    given = here.store.poll(Q, G, domain=AWS, finish=done, lease=lease, wait_s=0.05)
    assert (given.records, given.finished, floor(here)) == ([], 10, 10)
    given = here.store.poll(Q, G, domain=AWS, finish=iter(done), wait_s=0.0)
    assert given.finished == 0, "once and for all"


def test_a_lease_that_is_over_is_refused_and_nothing_is_leased(here: World) -> None:
    old, lease = offsets(here, visibility_ms=100)
    here.advance(101)
    again, _ = offsets(here)
    assert again == old
    for call in (
        lambda: here.store.ack(Q, G, old, domain=AWS, lease=lease),
        lambda: here.store.poll(Q, G, domain=AWS, finish=old, lease=lease),
    ):
        with pytest.raises(Fenced, match="does not hold offset 0 and 2 more") as refused:
            call()
        assert refused.value.fields["audit"]
    assert floor(here) == 0
    assert offsets(here)[0] == [3, 4, 5]


def test_where_the_poll_is_refused_nothing_is_finished_and_an_ack_still_may(here: World) -> None:
    done, lease = offsets(here)
    here.store.consumers.pause(Q, G)
    with pytest.raises(Busy):
        here.store.poll(Q, G, domain=AWS, finish=done, lease=lease)
    here.store.consumers.resume(Q, G)
    here.observe(AWS, "unhealthy")
    with pytest.raises(DomainUnavailable) as refused:
        here.store.poll(Q, G, domain=AWS, finish=done, lease=lease)
    assert (refused.value.reason, floor(here)) == ("unhealthy", 0)
    assert here.store.ack(Q, G, done, domain=AWS, lease=lease).count == 3


def test_without_a_quorum_nothing_is_finished(here: World) -> None:
    done, lease = offsets(here)
    here.store.domains.fail(GCP)
    with pytest.raises(NoQuorum):
        here.store.poll(Q, G, domain=AWS, finish=done, lease=lease)
    here.store.domains.restore(GCP)
    assert floor(here) == 0
    assert here.store.poll(Q, G, domain=AWS, max=3, finish=done, lease=lease).finished == 3


# --- what is asked at every poll


def test_an_observation_that_another_process_made_counts_at_the_next_poll(here: World) -> None:
    assert offsets(here)[0] == [0, 1, 2]
    with here.reopened() as other:
        assert other.poll(Q, G, domain=GCP, max=1).records
        for status in ("unhealthy", "healthy", "unhealthy"):
            here.observe(GCP, status)
            if status == "healthy":
                assert other.poll(Q, G, domain=GCP, max=1).records
                continue
            with pytest.raises(DomainUnavailable) as refused:
                other.poll(Q, G, domain=GCP, max=1)
            assert refused.value.reason == "unhealthy"
            assert other.session.health() == {GCP: status}


def test_a_placement_comes_before_health_and_health_before_reach(here: World) -> None:
    offsets(here)
    here.observe(GCP, "unhealthy")
    here.store.domains.fail(GCP)
    with pytest.raises(DomainUnavailable) as refused:
        here.store.poll(Q, G, domain=GCP)
    assert refused.value.reason == "unhealthy"
    here.store.domains.restore(GCP)
    here.store.placement.set(Q, group=G, allow=[AWS])
    with pytest.raises(DomainUnavailable) as refused:
        here.store.poll(Q, G, domain=GCP)
    assert (refused.value.reason, refused.value.exit_code) == ("not_in_placement", 11)
    here.store.domains.fail(AWS)
    with pytest.raises(DomainUnavailable) as refused:
        here.store.poll(Q, G, domain=GCP)
    assert refused.value.reason == "not_in_placement", "what holds for ever is said though there is no quorum"
    here.store.domains.restore(AWS)
    with pytest.raises(NotFound):
        here.store.poll(Q, "nobody", domain=AWS)


def test_an_old_epoch_is_said_before_the_quorum_that_is_lacking(here: World) -> None:
    done, lease = offsets(here)
    here.store.fence(Q, group=G, epoch=2)
    here.store.domains.fail(GCP)
    with pytest.raises(Fenced):
        here.store.poll(Q, G, domain=AWS, epoch=1, finish=done, lease=lease)
    with pytest.raises(NoQuorum):
        here.store.poll(Q, G, domain=AWS, epoch=2, finish=done, lease=lease)
    here.store.domains.restore(GCP)


# --- blocks


def damage(here: World, domain: str) -> None:
    """Changes the last byte of the records of the queue in one domain."""
    with here.store.session.cluster.environment(domain).write(wait_s=1) as batch:
        for key, raw in list(batch.scan(*keys.entries(here.log_id(Q), 0, keys.U64_MAX))):
            if decode_entry(raw, "entry").block:
                batch.put(key, raw[:-1] + bytes([raw[-1] ^ 1]))


def test_a_block_is_checked_when_it_is_read_and_never_delivered_wrong(here: World) -> None:
    damage(here, GCP)
    with pytest.raises(Corrupt, match="fails its digest") as refused:
        offsets(here, domain=GCP)
    assert refused.value.fields["domain"] == GCP
    with pytest.raises(Corrupt):
        here.store.peek(Q, domain=GCP)
    assert [record.payload for record in here.store.poll(Q, G, domain=AWS, max=1).records] == [b"orders 0"]


def test_a_block_that_is_kept_is_not_taken_for_another_one_of_the_same_offsets(here: World) -> None:
    for _ in range(2):
        for name in (Q, OTHER):
            for at in range(2):
                shown = here.store.peek(name, domain=AWS, offset=at, max=2)
                expected = [f"{name} {at}".encode(), f"{name} {at + 1}".encode()]
                assert [record.payload for record in shown.body["records"]] == expected


@pytest.mark.parametrize("keep", [True, False])
def test_records_in_pieces_of_blocks(here: World, keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given out are ranges that begin and end inside blocks, one or many, with their deliveries."""
    if not keep:
        monkeypatch.setattr("grafctl.store.reading.HELD_BYTES_MAX", -1)
    for number in (10, 11, 12):
        here.store.publish_batch(Q, [f"orders {number}".encode()] if number < 12 else [b"orders 12"] * 5, domain=GCP)
    payloads = [b"orders %d" % number for number in range(12)] + [b"orders 12"] * 5
    _, lease = offsets(here, 17)
    here.store.nack(Q, G, [0, 3, 4, 9, 10, 12, 16], domain=AWS, lease=lease)
    given = here.store.poll(Q, G, domain=GCP, max=100).records
    assert [(item.offset, item.payload, item.delivery) for item in given] == [
        (offset, payloads[offset], 2) for offset in (0, 3, 4, 9, 10, 12, 16)
    ]
    assert given[0].id is None and given[0].headers is None
    shown = here.store.peek(Q, domain=AWS, offset=5, max=10).body["records"]
    assert [(item.offset, item.payload) for item in shown] == list(enumerate(payloads))[5:15]
