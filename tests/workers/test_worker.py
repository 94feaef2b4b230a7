"""The worker in one process: what it acks and what it gives back."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

import grafctl
from grafctl.errors import DomainUnavailable, Fenced, NotFound, Usage
from grafctl.results import Record
from workers.conftest import GROUP, HERE, QUEUE, THERE, floor, make, publish, rest, worker


def test_asking_for_the_next_record_acks_the_one_before(store: grafctl.Store) -> None:
    with worker(store) as records:
        for number, record in enumerate(records):
            assert (record.offset, record.payload) == (number, b"order %d" % number)
            assert floor(store) == number
    assert floor(store) == records.acked == 6
    assert rest(store) == []


def test_acks_can_share_a_commit(store: grafctl.Store) -> None:
    seen = []
    with worker(store, ack_every=4) as records:
        for _ in records:
            seen.append(floor(store))
    # The first lease is of one record and the next of two, and what is finished is acked at the end of a lease.
    assert seen == [0, 1, 1, 3, 3, 3]
    assert floor(store) == 6


def test_an_exception_gives_back_the_record_and_everything_that_was_not_begun(store: grafctl.Store) -> None:
    with pytest.raises(ZeroDivisionError):
        with worker(store) as records:
            for record in records:
                records._asked = 100  # so that the second lease is of all that is left
                if record.offset == 2:
                    raise ZeroDivisionError
    assert (records.acked, records.given_back, records.lost) == (2, 4, 0)
    # Only the one that was begun has had a delivery.
    assert rest(store) == [(2, 2), (3, 1), (4, 1), (5, 1)]


def test_what_was_never_begun_does_not_become_a_dead_letter(tmp_path: Path) -> None:
    with grafctl.open(make(tmp_path, count=3, max_deliveries=1)) as store:
        for _ in range(3):
            with worker(store) as records:
                records._asked = 100
                records.ack()
                for _ in records:
                    records.stop()
                    break
            assert records.given_back >= 1
    with grafctl.open(tmp_path / "store") as store:
        # Each of the three broke off in the middle of another record, and that one alone was given up.
        dead = [item["offset"] for item in store.dead.list(QUEUE, GROUP).items]
        assert dead == [0, 1, 2]


def test_a_break_does_not_ack_and_ack_before_it_does(store: grafctl.Store) -> None:
    with worker(store) as records:
        for _ in records:
            break
    assert floor(store) == 0
    with worker(store) as records:
        for _ in records:
            records.ack()
            break
    assert floor(store) == 1


def test_nack_gives_one_record_back_for_later(store: grafctl.Store) -> None:
    with worker(store) as records:
        offsets = []
        for record in records:
            offsets.append(record.offset)
            if record.offset == 1:
                records.nack(delay_ms=60_000)
    assert offsets == [0, 1, 2, 3, 4, 5]
    assert (floor(store), records.acked, records.given_back) == (1, 5, 1)


def test_run_tries_a_record_again_and_goes_on_with_the_others(store: grafctl.Store) -> None:
    seen: list[int] = []

    def work(record: Record) -> None:
        seen.append(record.offset)
        if record.offset == 2 and record.delivery == 1:
            raise OSError("the card reader is out")

    worker(store, idle_s=0.3).run(work, retry_ms=50)
    assert sorted(seen) == [0, 1, 2, 2, 3, 4, 5]
    assert floor(store) == 6


def test_run_may_stop_at_the_first_exception(store: grafctl.Store) -> None:
    def work(record: Record) -> None:
        if record.offset == 1:
            raise OSError("the card reader is out")

    with pytest.raises(OSError, match="card reader"):
        worker(store).run(work, keep_going=False)
    assert rest(store)[0] == (1, 2)


def test_at_most_once_takes_one_by_one_and_begins_all_it_took(tmp_path: Path) -> None:
    with grafctl.open(make(tmp_path, count=4, semantics="at-most-once")) as store:
        with worker(store) as records:
            taken = []
            for record in records:
                taken.append(record.offset)
                assert floor(store) == record.offset + 1  # final before the work
                if record.offset == 1:
                    records.stop()
        assert taken == [0, 1]
        assert rest(store) == [(2, 1), (3, 1)]


def test_a_worker_is_a_block_and_is_used_once(store: grafctl.Store) -> None:
    records = worker(store)
    with pytest.raises(Usage, match="inside its `with` block"):
        next(records)
    with records:
        pass
    with pytest.raises(Usage, match="used once"):
        records.__enter__()
    with pytest.raises(Usage):
        worker(store, batch=0)


def test_a_refusal_ends_the_loop(store: grafctl.Store) -> None:
    with pytest.raises(NotFound):
        grafctl.Worker(store, QUEUE, "nobody", domain=HERE).run(print)
    store.consumers.create(QUEUE, "there", allow=[THERE])
    with pytest.raises(DomainUnavailable) as refused:
        grafctl.Worker(store, QUEUE, "there", domain=HERE).run(print)
    assert refused.value.exit_code == 11


def test_an_old_epoch_ends_the_loop_before_anything_is_acked(store: grafctl.Store) -> None:
    with pytest.raises(Fenced) as fenced:
        with worker(store, epoch=1) as records:
            for record in records:
                if record.offset == 2:
                    store.fence(QUEUE, group=GROUP, epoch=2)
    assert fenced.value.fields["current"] == 2
    assert records.acked == floor(store) == 2


def test_a_paused_group_is_waited_for(store: grafctl.Store) -> None:
    store.consumers.pause(QUEUE, GROUP)
    resumed = threading.Timer(0.4, lambda: store.consumers.resume(QUEUE, GROUP))
    resumed.start()
    with worker(store) as records:
        assert len(list(records)) == 6
    resumed.join()


def entries(store: grafctl.Store) -> int:
    with store.session.resource(QUEUE).view() as committed:
        return committed.upto


def test_the_end_of_a_batch_and_the_next_lease_are_one_entry(store: grafctl.Store) -> None:
    before = entries(store)
    with worker(store, batch=1) as records:
        assert [record.offset for record in records] == list(range(6))
    assert entries(store) == before + 7  # the first lease, five of a record and the next lease, the last record
    assert (records.acked, floor(store)) == (6, 6)


def test_a_group_that_is_paused_at_the_end_of_a_batch_still_finishes_it(store: grafctl.Store) -> None:
    floors: list[int] = []

    def resume() -> None:
        until = time.monotonic() + 20
        while floor(store) < 3 and time.monotonic() < until:
            time.sleep(0.02)
        floors.append(floor(store))
        store.consumers.resume(QUEUE, GROUP)

    resumed = threading.Thread(target=resume)
    with worker(store, batch=1) as records:
        for record in records:
            if record.offset == 2:
                store.consumers.pause(QUEUE, GROUP)
                resumed.start()
    resumed.join()
    assert floors == [3] and (records.acked, floor(store)) == (6, 6)


def test_a_lease_that_was_lost_at_the_end_of_a_batch_is_not_finished(
    store: grafctl.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "renew", lambda *_, **__: None)
    with worker(store, batch=1, visibility_ms=100) as records:
        assert next(records).offset == 0
        time.sleep(0.15)
        assert rest(store, max=1) == [(0, 2)]  # somebody else has it now
        assert next(records).offset == 1
        assert (records.lost, records.acked, floor(store)) == (1, 0, 0)


def test_slow_work_keeps_its_lease(store: grafctl.Store) -> None:
    with worker(store, visibility_ms=600) as records:
        records._asked = 3
        assert next(records).offset == 0
        until = time.monotonic() + 2.0
        while time.monotonic() < until:  # more than three times the visibility
            assert [offset for offset, _ in rest(store, max=3, visibility_ms=1)] in ([3, 4, 5], [])
            time.sleep(0.05)
        assert next(records).offset == 1
        assert records.lost == 0
    assert floor(store) == 1


def test_a_lost_lease_ends_its_records_here(store: grafctl.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "renew", lambda *_, **__: None)
    with worker(store, visibility_ms=300, idle_s=2.0) as records:
        records._asked = 6
        assert next(records).offset == 0
        time.sleep(0.5)
        assert [offset for offset, _ in rest(store, max=2)] == [0, 1]  # somebody else has them now
        monkeypatch.undo()
        seen = [(record.offset, record.delivery) for record in records]
    assert records.lost == 6
    assert sorted(seen) == [(2, 2), (3, 2), (4, 2), (5, 2)]
    assert floor(store) == 0


def test_a_batch_is_about_what_is_worked_on_in_a_second(store: grafctl.Store, path: Path) -> None:
    publish(path, 60)
    sizes = []
    with worker(store, batch=16) as records:
        for record in records:
            sizes.append(records._asked)
            if record.offset > 60:
                time.sleep(0.6)
                if record.offset == 63:
                    break
    assert max(sizes) == 16
    assert sizes[0] == 1
