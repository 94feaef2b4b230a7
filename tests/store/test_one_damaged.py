"""One domain whose bytes changed: the log names it, goes on without it, and is served from the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import GrafctlError, NoQuorum
from grafctl.store import keys
from grafctl.store.driver.contract import Batch
from grafctl.store.driver.faults import flip
from grafctl.store.driver.memory import MemoryDriver
from grafctl.store.records import encode_head, encode_seen
from grafctl.store.replica.replica import Replica
from grafctl.store.requests import operation_name, operation_of
from grafctl.store.resources.queue import Publish
from grafctl.store.resources.together import Together
from grafctl.store.rules import Seen
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


def test_a_promise_of_an_old_copy_does_not_keep_the_log_from_rest(tmp_path: Path) -> None:
    """A copy to it ends at the promise, and a look at all does not count what it says."""
    with world(tmp_path, VOTERS) as place:
        place.store.queues.create("q", replicas=[f"r{name}={name}" for name in VOTERS], allow=["**"])
        place.store.publish("q", "before", domain="a")
        log, cluster = place.log_id("q"), place.store.session.cluster
        with cluster.environment("b").write(wait_s=1) as batch:
            row = Replica(batch, log, "b").row
            batch.put(keys.head(log), encode_head(row._replace(head=row.head._replace(promised=(99, 1)))))
        seen = Seen(cluster.member("b")[1], (99, 1), row.head.acc, row.head.tail + 1, row.head.commit)
        for peer in ("a", "c"):
            with cluster.environment(peer).write(wait_s=1) as batch:
                batch.put(keys.seen(log, "b"), encode_seen(seen))
        with open_store(tmp_path, place.driver) as store:
            assert "b" in store.session.resource("q").observe().errors
            assert store.publish("q", "after", domain="a").offset == 1
            assert store.session.resource("q").settle(deadline_s=3).primary in "ac"


# --- operation keys: who tries again must not publish twice, whatever became of the key in the primary

OPERATION_AT = 36  # in an entry, behind version, kind, flags, sizes, stamp and term


def rewrite(place: World, domain: str, change: Callable[[Batch, bytes, int], None], at: int) -> None:
    """Changes rows of a log where they rest."""
    with place.store.session.cluster.environment(domain).write(wait_s=5) as batch:
        change(batch, place.log_id("q"), at)


def flip_key(batch: Batch, log: bytes, at: int) -> None:
    raw = batch.get(keys.entry(log, at))
    assert raw is not None
    batch.put(keys.entry(log, at), flip(raw, 8 * OPERATION_AT + 77))


def lose(batch: Batch, log: bytes, at: int) -> None:
    assert batch.delete(keys.entry(log, at))


def cut_off(batch: Batch, log: bytes, at: int) -> None:
    batch.put(keys.entry(log, at), (batch.get(keys.entry(log, at)) or b"")[:150])


def put_another(batch: Batch, log: bytes, at: int) -> None:
    """Every checksum of that entry fits, but it stood elsewhere."""
    batch.put(keys.entry(log, at), batch.get(keys.entry(log, at - 1)) or b"")


@pytest.mark.parametrize("driver", ["memory", "lmdb"])
@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("change", [flip_key, lose, cut_off, put_another])
def test_a_damaged_operation_key_publishes_nothing_twice(
    tmp_path: Path, change: Callable[[Batch, bytes, int], None], is_last: bool, driver: str
) -> None:
    with world(tmp_path, VOTERS, driver) as place:
        place.store.queues.create("q", replicas=[f"r{name}={name}" for name in VOTERS], allow=["**"])
        place.store.publish("q", "before", domain="a")
        with place.store.session.resource("q").view() as committed:
            hint = committed.upto
        place.store.publish("q", "once", domain="a")
        with place.store.session.cluster.environment("a").read() as view:
            name = operation_name(hint, Replica(view, place.log_id("q"), "a").entry(hint).operation)
        if not is_last:
            place.store.publish("q", "after", domain="a")
        rewrite(place, "a", change, hint)
        with open_store(tmp_path, place.driver) as store:
            again = store.publish("q", "once", domain="b", operation=name)
            assert (again.offset, again.replayed) == (1, True)
            assert driver == "memory" or "a" not in again.acked_by
            payloads = [record.payload for record in store.peek("q", domain="b").body["records"]]
            assert payloads == [b"before", b"once", b"after"][: 2 if is_last else 3]


def test_a_damaged_operation_key_of_two_voters_leaves_the_outcome_unknown(tmp_path: Path) -> None:
    with world(tmp_path, ("a", "b")) as place:
        place.store.queues.create("q", replicas=["ra=a", "rb=b"], allow=["**"])
        with place.store.session.resource("q").view() as committed:
            hint = committed.upto
        place.store.publish("q", "once", domain="a")
        with place.store.session.cluster.environment("a").read() as view:
            name = operation_name(hint, Replica(view, place.log_id("q"), "a").entry(hint).operation)
        rewrite(place, "a", flip_key, hint)
        with open_store(tmp_path, place.driver) as store, pytest.raises(NoQuorum) as caught:
            store.publish("q", "once", domain="b", operation=name)
        assert (caught.value.fields["outcome"], caught.value.fields["operation"]) == ("unknown", name)
        rewrite(place, "a", flip_key, hint)
        with open_store(tmp_path, place.driver) as store:
            again = store.publish("q", "once", domain="b", operation=name)
            assert (again.offset, again.replayed) == (0, True)
            assert len(store.peek("q", domain="b").body["records"]) == 1


def test_an_operation_is_found_behind_entries_that_many_share(tmp_path: Path) -> None:
    """Their meta is longer than what is read of an entry at first."""
    with world(tmp_path, VOTERS) as place:
        place.store.queues.create("q", replicas=[f"r{name}={name}" for name in VOTERS], allow=["**"])
        together = Together([Publish("q", [b"%d" % number], "a") for number in range(999)])
        together.prepare()
        log = place.store.session.resource("q")
        first = log.append(together)
        last = log.append(Publish("q", [b"last"], "a"))
        for sought, payload, offset in (
            (operation_of(first.operation, 998), "998", 998),
            (last.operation, "last", 999),
        ):
            again = place.store.publish("q", payload, domain="a", operation=operation_name(0, sought))
            assert (again.offset, again.replayed) == (offset, True)


def test_a_primary_that_went_back_within_its_term_decides_nothing(tmp_path: Path) -> None:
    """The process that led it knows how far it was, whatever the others remember."""
    with world(tmp_path, VOTERS) as place:
        place.store.queues.create("q", replicas=[f"r{name}={name}" for name in VOTERS], allow=["**"])
        place.store.publish("q", "zero", domain="a")
        assert isinstance(place.driver, MemoryDriver)
        there = place.driver.domains[str(place.store.session.cluster.place("a").path)]
        old = there.snapshot
        place.store.publish("q", "one", domain="a", id="once")
        assert place.store.session.resource("q").is_leading
        there.snapshot = old
        assert place.store.publish("q", "one", domain="a", id="once").offset == 1
        assert place.store.publish("q", "two", domain="b").offset == 2
        shown = place.store.peek("q", domain="b").body["records"]
        assert [record.payload for record in shown] == [b"zero", b"one", b"two"]


def test_a_tail_of_an_older_term_is_no_damage(tmp_path: Path) -> None:
    """What a primary had alone when it went away is as long as what is committed since, and not the same."""
    with world(tmp_path, VOTERS) as place:
        place.store.queues.create("q", replicas=[f"r{name}={name}" for name in VOTERS], allow=["**"])
        with place.with_full_disks() as (store, full):
            store.publish("q", "before", domain="a")
            full |= {"b", "c"}
            for _ in range(3):
                with pytest.raises(NoQuorum):
                    store.publish("q", "alone in a", domain="a")
        place.store.domains.fail("a")
        with place.reopened() as store:
            store.publish("q", "after", domain="b")
        place.driver.restore(place.store.session.cluster.place("a").path)  # and nobody brings it up yet
        with place.reopened() as store:
            found = store.session.resource("q").observe()
            assert found.sights["a"].head.acc < found.sights["b"].head.acc
            assert found.sights["a"].head.tail >= found.sights["b"].head.tail
            assert list(store.verify()) == []


def test_a_backup_is_brought_up_from_another_domain_where_the_primary_is_damaged(tmp_path: Path) -> None:
    with world(tmp_path, VOTERS) as place:
        place.store.queues.create("q", replicas=[f"r{name}={name}" for name in VOTERS], allow=["**"])
        place.store.publish("q", "before", domain="a")
        place.store.domains.fail("c")
        place.store.publish("q", "without c", domain="a")
        damage(place, "a", *WHAT["its entries"](place.log_id("q")))
        place.driver.restore(place.store.session.cluster.place("c").path)
        with place.reopened() as store:
            log = store.session.resource("q")
            assert log.settle().primary == "b"
            sights = log.observe().sights
            assert sights["c"].head.tail == sights["b"].head.tail
