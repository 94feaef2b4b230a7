"""Callers who wait for one log at the same time share an entry, and each is answered as if it had come alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import DomainUnavailable, GrafctlError, IdempotencyConflict, NoQuorum, Timeout
from grafctl.store import keys
from grafctl.store.blocks import Outgoing
from grafctl.store.driver.faults import COMMIT_AFTER, Fault, FaultDriver, Kind
from grafctl.store.log import Log
from grafctl.store.records import decode_entry
from grafctl.store.requests import Attempt, Outcome
from grafctl.store.resources.queue import Publish
from grafctl.store.resources.together import Together
from store.world import World, open_store, world


@pytest.fixture(params=["memory", "lmdb"])
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    with world(tmp_path / "store", ("a", "b"), request.param) as made:
        made.store.queues.create("orders", replicas=["ra=a", "rb=b"], allow=["a", "b"], compression="none")
        made.store.publish("orders", b"first", domain="a")
        yield made


class Caller(threading.Thread):
    """One publisher, with what it was answered."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.answer: Any = None
        self.error: BaseException | None = None
        self._call = call
        self.start()

    def run(self) -> None:
        try:
            self.answer = self._call()
        except BaseException as error:
            self.error = error

    def ended(self) -> Caller:
        self.join(30)
        assert not self.is_alive()
        return self


@contextmanager
def busy(made: World, calls: list[Callable[[], Any]]) -> Iterator[list[Caller]]:
    """Holds the primary's lock until the first call leads and all others wait, in their order; then lets them go."""
    callers: list[Caller] = []
    group = None
    with made.store.session.cluster.environment("a").write(wait_s=5):
        for number, call in enumerate(calls):
            callers.append(Caller(call))
            while group is None or not group._is_led or len(group._waiting) < number:
                group = made.store.session.publishers.get("orders")
                assert callers[-1].error is None, callers[-1].error
    yield [caller.ended() for caller in callers]


def publisher(made: World, payload: bytes, record_id: str | None = None, **more: Any) -> Callable[[], Any]:
    asked = {"domain": "a", "id": record_id} | more
    return lambda: made.store.publish("orders", payload, **asked)


def shown(made: World) -> list[tuple[int, bytes, str | None]]:
    records = made.store.peek("orders", domain="b", max=10_000).body["records"]
    return [(record.offset, record.payload, record.id) for record in records]


def parts(made: World) -> list[list[int]]:
    """Returns how many records each caller brought, for each entry that several share."""
    log = made.store.session.resource("orders")
    with log.view() as committed:
        rows = committed.view.scan(*keys.entries(log.id, 0, committed.upto))
        requests = [decode_entry(raw, "entry").request for _, raw in rows]
    return [request["parts"] for request in requests if "parts" in request]


def test_who_waits_shares_one_entry(shop: World) -> None:
    with busy(shop, [publisher(shop, b"%d" % number) for number in range(6)]) as callers:
        assert [caller.answer.offset for caller in callers] == [1, 2, 3, 4, 5, 6]
        assert {caller.answer.count for caller in callers} == {1}
        assert all(caller.answer.acked_by == ["a", "b"] for caller in callers)
    assert parts(shop) == [[1, 1, 1, 1, 1]]
    assert shown(shop) == [(0, b"first", None), *((n + 1, b"%d" % n, None) for n in range(6))]


def test_each_is_answered_as_if_it_had_come_alone(shop: World) -> None:
    batch = [Outgoing(b"y"), Outgoing(b"x", "twice"), Outgoing(b"z", "own")]
    calls: list[Callable[[], Any]] = [
        publisher(shop, b"leads"),
        publisher(shop, b"x", "twice"),
        publisher(shop, b"x", "twice"),
        publisher(shop, b"other", "twice"),
        lambda: shop.store.publish_batch("orders", batch, domain="a"),
        lambda: shop.store.publish_batch(
            "orders", [Outgoing(b"new", "n"), Outgoing(b"?", "own")], domain="a", atomic=True
        ),
        publisher(shop, b"new", "n"),
        publisher(shop, b"plain"),
    ]
    with busy(shop, calls) as callers:
        answers = [caller.answer for caller in callers]
        assert [answer and (answer.offset, answer.count, answer.replayed) for answer in answers] == [
            (1, 1, False), (2, 1, False), (2, 1, True), None, (3, 3, False), None, (5, 1, False), (6, 1, False),
        ]  # fmt: skip
        assert answers[4].offsets == [3, 2, 4]
        for place in (3, 5):
            error = callers[place].error
            assert isinstance(error, IdempotencyConflict) and "was published with another payload" in error.message
    assert parts(shop) == [[1, 0, 0, 2, 0, 1, 1]]
    again = shop.store.publish("orders", b"x", domain="a", id="twice")
    assert (again.offset, again.replayed) == (2, True)
    assert [payload for _, payload, _ in shown(shop)] == [b"first", b"leads", b"x", b"y", b"z", b"new", b"plain"]


def test_a_refusal_of_one_is_not_that_of_others(shop: World) -> None:
    calls = [publisher(shop, b"leads"), publisher(shop, b"1"), publisher(shop, b"2", domain="c"), publisher(shop, b"3")]
    with pytest.raises(DomainUnavailable):
        shop.store.publish("orders", b"no", domain="c")
    with busy(shop, calls) as callers:
        assert [caller.answer and caller.answer.offset for caller in callers] == [1, 2, None, 3]
        assert isinstance(callers[2].error, DomainUnavailable)
    group = shop.store.session.publishers["orders"]
    assert not group._waiting and not group._is_led


def test_the_gate_is_passed_in_the_transaction(shop: World) -> None:
    """What was allowed when they began to wait is not enough."""
    together = Together([Publish("orders", [payload], "a") for payload in (b"1", b"2")])
    together.prepare()
    digest = shop.store.placement.show("orders").body["digest"]
    shop.store.placement.set("orders", allow=["b"], expect=digest)
    with pytest.raises(DomainUnavailable):
        shop.store.session.resource("orders").append(together)
    assert len(shown(shop)) == 1


def test_a_caller_that_waited_too_long_leaves_nothing(shop: World) -> None:
    with shop.store.session.cluster.environment("a").write(wait_s=5):
        leader = Caller(publisher(shop, b"leads"))
        group = None
        while group is None or not group._is_led:
            group = shop.store.session.publishers.get("orders")
        waiting = Caller(publisher(shop, b"impatient", timeout_s=0.05)).ended()
        assert isinstance(waiting.error, Timeout) and waiting.error.fields["outcome"] == "not_written"
    assert leader.ended().answer.offset == 1
    assert [payload for _, payload, _ in shown(shop)] == [b"first", b"leads"]
    assert shop.store.publish("orders", b"next", domain="a").offset == 2


def test_an_unknown_outcome_has_a_key_of_its_own_for_each(tmp_path: Path) -> None:
    """The backup goes away when the primary has the entry; each caller's key finds its own part, once."""
    cut: list[str] = []

    def plan(domain: str, step: str, count: int) -> Fault | None:
        if domain == "a" and step == COMMIT_AFTER and cut:
            path = made.store.session.cluster.place("b").path
            return Fault(Kind.DELAY, delay=lambda: driver.fail(path))
        return None

    with world(tmp_path / "store", ("a", "b")) as made:
        driver = FaultDriver(made.driver, plan)
        made.store.queues.create("orders", replicas=["ra=a", "rb=b"], allow=["a", "b"])
        with open_store(made.directory, driver) as store:
            made.store = store
            store.publish("orders", b"first", domain="a")
            payloads = [b"%d" % number for number in range(5)]
            cut.append("b")
            with busy(made, [publisher(made, payload) for payload in payloads]) as callers:
                errors = [caller.error for caller in callers]
            cut.clear()
            driver.restore(made.store.session.cluster.place("b").path)
            names = set()
            for payload, error in zip(payloads, errors, strict=True):
                assert isinstance(error, (NoQuorum, Timeout)), error
                assert error.fields["outcome"] in ("unknown", "not_written")
                if error.fields["outcome"] == "unknown":
                    names.add(error.fields["operation"])
                for _ in range(2):
                    retried = store.publish("orders", payload, domain="a", operation=error.fields.get("operation"))
                    if "operation" not in error.fields:
                        break
                assert (
                    store.peek("orders", domain="b", offset=retried.offset, max=1).body["records"][0].payload == payload
                )
            assert len(names) == sum(
                error.fields["outcome"] == "unknown" for error in errors if isinstance(error, GrafctlError)
            )
            assert sorted(payload for _, payload, _ in shown(made)) == sorted([b"first", *payloads])


def test_many_threads_lose_and_repeat_nothing(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[int, bytes] = {}
    real = Log._try

    def slow(log: Log, attempt: Attempt) -> Outcome:
        time.sleep(0.0005)  # as a disk does: in memory nobody would have to wait for another
        return real(log, attempt)

    monkeypatch.setattr(Log, "_try", slow)

    def work(worker: int) -> None:
        for number in range(30):
            payload = b"%d-%d" % (worker, number)
            record_id = payload.decode() if number % 3 else None
            found[shop.store.publish("orders", payload, domain="a", id=record_id).offset] = payload

    callers = [Caller(lambda worker=worker: work(worker)) for worker in range(16)]  # type: ignore[misc]
    for caller in callers:
        assert caller.ended().error is None, caller.error
    assert len(found) == 16 * 30
    assert {offset: payload for offset, payload, _ in shown(shop) if offset} == found
    assert parts(shop)
