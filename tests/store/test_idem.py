"""Idempotency stores in a whole store: on both drivers, across processes' views, through proofs, outages and expiry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import (
    Busy,
    DomainUnavailable,
    Fenced,
    GenerationConflict,
    GrafctlError,
    IdempotencyConflict,
    NoQuorum,
    NotFound,
    ProofRequired,
    Usage,
)
from grafctl.store import keys
from grafctl.store.blocks import Outgoing
from grafctl.store.fingerprints import fingerprint_of
from grafctl.store.log import Log
from grafctl.store.records import decode_row, encode_row
from grafctl.store.resources.effects import Effect, RecordEffects
from grafctl.store.resources.queue import Publish
from grafctl.store.resources.several import Several
from store.world import World, changed_keys, without_log, world

AWS, GCP, AZURE = "aws/us-east-1", "gcp/us-central1", "azure/eastus"
C, STAGE, KEY, DAY_MS = "charges", "charge", "order-1", 86_400_000


@pytest.fixture(params=["memory", "lmdb"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "store", [AWS, GCP, AZURE], request.param) as here:
        here.store.idem.create(C, replicas=[f"a={AWS}", f"g={GCP}"], allow=["aws", "gcp"], retain_age_ms=DAY_MS)
        yield here


def effects(count: int, start: int = 0) -> list[Effect]:
    names = [f"key-{number}" for number in range(start, start + count)]
    return [Effect(name, fingerprint_of(STAGE, name, b"in"), name.encode()) for name in names]


def test_the_work_under_a_key_is_done_once_by_whoever_comes(made: World) -> None:
    idem = made.store.idem
    held = idem.reserve(C, KEY, stage=STAGE, domain=AWS, payload=b"42")
    assert held.state == "reserved" and not held.replayed and held.token is not None
    with made.reopened() as other:
        with pytest.raises(Busy):
            other.idem.reserve(C, KEY, stage=STAGE, domain=GCP, payload="42")
        assert idem.complete(C, KEY, stage=STAGE, token=held.token, domain=AWS, result="paid").changed
        again = other.idem.reserve(C, KEY, stage=STAGE, domain=GCP, payload="42")
        assert (again.state, again.replayed, again.result, again.token) == ("completed", True, b"paid", None)
        print_ = fingerprint_of(STAGE, KEY, b"42")
        assert other.idem.reserve(C, KEY, stage=STAGE, domain=GCP, fingerprint=print_).replayed
    assert not idem.complete(C, KEY, stage=STAGE, token=held.token, domain=GCP, result=b"paid").changed


def test_what_is_shown_and_listed(made: World) -> None:
    idem = made.store.idem
    held = idem.reserve(C, KEY, stage=STAGE, domain=AWS, payload=b"42")
    idem.record(C, "other", effects(3), domain=GCP)
    shown = idem.show(C).fields()
    assert (shown["kind"], shown["completed"], shown["reserved"]) == ("idem", 3, 1)
    assert shown["stages"] == [
        {"stage": STAGE, "completed": 0, "reserved": 1},
        {"stage": "other", "completed": 3, "reserved": 0},
    ]
    key = idem.key(C, KEY, stage=STAGE).fields()
    assert (key["state"], key["token"], key["domain"], key["live"]) == ("reserved", held.token, AWS, True)
    done = idem.key(C, "key-1", stage="other").fields()
    assert (done["state"], done["domain"], done["result"]) == ("completed", GCP, "key-1")
    with pytest.raises(NotFound, match="Nothing is kept"):
        idem.key(C, KEY, stage="other")
    assert [item["key"] for item in idem.keys(C).items] == [KEY, "key-0", "key-1", "key-2"]
    assert [item["key"] for item in idem.keys(C, stage="other", max=2).items] == ["key-0", "key-1"]
    assert idem.keys(C, max=1).items == idem.keys(C, stage=STAGE).items
    assert [item["resource"] for item in idem.list().items] == [C] and not made.store.queues.list().items
    assert made.store.status().fields()["resources"][0]["kind"] == "idem"


def test_refusals_write_nothing_but_the_audit(made: World) -> None:
    idem = made.store.idem
    token = idem.reserve(C, KEY, stage=STAGE, domain=AWS, payload=b"42").token or 0
    made.store.queues.create("orders", replicas=[f"a={AWS}", f"g={GCP}"], allow=["**"])
    before = without_log(made.dump(), keys.AUDIT_LOG)
    at: dict[str, Any] = {"stage": STAGE, "domain": GCP}
    asks: list[tuple[type[GrafctlError], Callable[[], object]]] = [
        (DomainUnavailable, lambda: idem.reserve(C, "k", stage=STAGE, domain=AZURE, payload=b"")),
        (DomainUnavailable, lambda: idem.complete(C, KEY, stage=STAGE, domain=AZURE, token=token)),
        (DomainUnavailable, lambda: idem.release(C, KEY, stage=STAGE, domain=AZURE, token=token)),
        (DomainUnavailable, lambda: idem.expire(C, domain=AZURE)),
        (DomainUnavailable, lambda: idem.record(C, STAGE, effects(1), domain="nobody/knows")),
        (IdempotencyConflict, lambda: idem.reserve(C, KEY, payload=b"43", **at)),
        (IdempotencyConflict, lambda: idem.record(C, STAGE, [Effect(KEY, bytes(32))], domain=GCP)),
        (Busy, lambda: idem.reserve(C, KEY, payload=b"42", **at)),
        (Fenced, lambda: idem.complete(C, KEY, token=token + 1, **at)),
        (Fenced, lambda: idem.release(C, KEY, token=token + 1, **at)),
        (Fenced, lambda: idem.reserve(C, "k", payload=b"", epoch=0, **at)),
        (Usage, lambda: idem.expire(C, domain=GCP, older_than_ms=DAY_MS - 1)),
        (Usage, lambda: idem.expire(C, domain=GCP, older_than_ms=0)),
        (Usage, lambda: idem.reserve("orders", KEY, payload=b"42", **at)),
        (Usage, lambda: made.store.publish(C, b"x", domain=GCP)),
        (Usage, lambda: made.store.poll(C, "g", domain=GCP)),
        (Usage, lambda: made.store.peek(C, domain=GCP)),
        (Usage, lambda: made.store.consumers.create(C, "g", allow=["aws"])),
        (Usage, lambda: idem.reserve(C, "", payload=b"42", **at)),
        (Usage, lambda: idem.reserve(C, "k" * 1025, payload=b"42", **at)),
        (Usage, lambda: idem.reserve(C, "\ud800", payload=b"42", **at)),
        (Usage, lambda: idem.reserve(C, "k", payload=b"42", stage="no/stage", domain=GCP)),
        (Usage, lambda: idem.reserve(C, "k", **at)),
        (Usage, lambda: idem.reserve(C, "k", fingerprint=b"short", **at)),
        (Usage, lambda: idem.reserve(C, "k", payload=b"", lease_ms=0, **at)),
        (Usage, lambda: idem.complete(C, KEY, token=token, result=b"x" * ((64 << 10) + 1), **at)),
        (GenerationConflict, lambda: idem.create(C, replicas=[f"a={AWS}"], allow=["aws"])),
        (NotFound, lambda: idem.show("orders")),
        (NotFound, lambda: made.store.queues.show(C)),
        (NotFound, lambda: idem.reserve("absent", "k", payload=b"", **at)),
    ]
    for refusal, ask in asks:
        with pytest.raises(refusal) as caught:
            ask()
        assert type(caught.value) is refusal, caught.value
    assert changed_keys(before, without_log(made.dump(), keys.AUDIT_LOG)) == []


def test_dry_runs_say_what_would_be_and_write_nothing(made: World) -> None:
    idem = made.store.idem
    token = idem.reserve(C, "held", stage=STAGE, domain=AWS, payload=b"").token or 0
    idem.record(C, STAGE, effects(2), domain=GCP)
    made.advance(2 * DAY_MS)
    before = made.dump()
    at: dict[str, Any] = {"stage": STAGE, "domain": GCP, "dry_run": True}
    assert idem.reserve(C, KEY, payload=b"42", **at).token is None
    assert idem.complete(C, "held", token=token, **at).changed
    assert idem.release(C, "held", token=token, **at).changed
    gone = idem.expire(C, domain=GCP, dry_run=True)
    assert gone.after == {"expired": {"completed": 2, "reservations": 1}} and gone.dry_run
    assert idem.create("more", replicas=[f"a={AWS}"], dry_run=True).changed
    assert changed_keys(before, made.dump()) == []


def test_expired_results_leave_every_domain(made: World) -> None:
    idem = made.store.idem
    log = made.log_id(C)
    idem.record(C, STAGE, effects(100), domain=AWS)
    made.advance(DAY_MS)
    idem.record(C, STAGE, effects(1, 1_000), domain=AWS)
    made.store.policy.set(C, ack="all")  # another term: entries of the last one are kept for those who must compare
    assert idem.expire(C, domain=GCP).after == {"expired": {"completed": 100, "reservations": 0}}
    assert not idem.expire(C, domain=GCP).changed
    for domain, rows in made.dump().items():
        held = [value for key, value in rows.items() if key.startswith(b"\x20" + log) and b"key-99" in value]
        assert not held, domain
    assert not idem.reserve(C, "key-99", stage=STAGE, domain=GCP, payload=b"other").replayed
    assert not list(made.store.verify())
    assert made.audit_records()[-1]["op"] == "idem expire"


def test_a_new_domain_learns_reservations_and_results_and_proves_both(made: World) -> None:
    idem = made.store.idem
    idem.record(C, STAGE, effects(500), domain=AWS)
    held = idem.reserve(C, KEY, stage=STAGE, domain=AWS, payload=b"42")
    made.observe(AZURE)
    made.store.locator.set(C, generation=2, add=[f"z={AZURE}"])
    assert made.store.catch_up(C, domain=AZURE).match
    made.store.placement.set(C, allow=["azure", "gcp"])
    assert idem.complete(C, KEY, stage=STAGE, token=held.token or 0, domain=AZURE, result=b"done").changed
    made.store.domains.fail(AWS)
    assert idem.reserve(C, "key-499", stage=STAGE, domain=AZURE, payload=b"in").result == b"key-499"
    made.store.domains.restore(AWS)


@pytest.mark.parametrize("table", ["reservation", "stage"])
def test_a_proof_finds_a_reservation_or_a_count_that_differs(made: World, table: str) -> None:
    made.store.idem.reserve(C, KEY, stage=STAGE, domain=AWS, payload=b"42")
    made.store.idem.record(C, "other", effects(1), domain=AWS)
    made.observe(AZURE)
    made.store.locator.set(C, generation=2, add=[f"z={AZURE}"])
    made.store.catch_up(C, domain=AZURE)
    span = {"reservation": keys.reservations(), "stage": keys.stages()}[table]
    change_row(made, AZURE, span)
    with pytest.raises(ProofRequired, match="idempotency"):
        made.store.catch_up(C, domain=AZURE)


def change_row(here: World, domain: str, span: tuple[bytes, bytes]) -> None:
    """Changes a row in one domain, and makes its checksum fit."""
    log = here.log_id(C)
    with here.store.session.cluster.environment(domain).write(wait_s=5.0) as batch:
        key, raw = next(iter(batch.scan(keys.state(log, span[0]), keys.state(log, span[1]))))
        body = decode_row(raw, "row", key)
        batch.put(key, encode_row(body.replace(b'reserved":1', b'reserved":2').replace(b'"token":', b'"tokex":'), key))


def test_verify_counts_stages(made: World) -> None:
    made.store.idem.reserve(C, KEY, stage=STAGE, domain=AWS, payload=b"42")
    assert not list(made.store.verify())
    change_row(made, GCP, keys.stages())
    assert any("stage charge holds" in finding.problem for finding in made.store.verify())


def test_nothing_is_reserved_without_a_quorum_and_nothing_forgotten_after_it(made: World) -> None:
    idem = made.store.idem
    made.store.domains.fail(GCP)
    with pytest.raises(NoQuorum):
        idem.reserve(C, KEY, stage=STAGE, domain=AWS, payload=b"42")
    made.store.domains.restore(GCP)
    found = idem.reserve(C, KEY, stage=STAGE, domain=AWS, payload=b"42")
    assert found.state == "reserved"


def test_once_does_it_once_and_gives_back_what_failed(made: World) -> None:
    idem, done = made.store.idem, []
    at: dict[str, Any] = {"stage": STAGE, "domain": AWS, "payload": b"42"}
    with pytest.raises(ZeroDivisionError), idem.once(C, KEY, **at):
        raise ZeroDivisionError
    for _ in range(3):
        with idem.once(C, KEY, **at) as once:
            if not once.done:
                done.append(KEY)
                once.result = b"paid"
            assert once.result == b"paid"
    assert done == [KEY]


def test_errors_and_audit_hold_no_payload(made: World) -> None:
    idem = made.store.idem
    idem.reserve(C, KEY, stage=STAGE, domain=AWS, payload=b"SECRET-1", lease_ms=1)
    told = []
    asks: tuple[Callable[[], object], ...] = (
        lambda: idem.reserve(C, KEY, stage=STAGE, domain=AWS, payload=b"SECRET-2"),
        lambda: idem.reserve(C, KEY, stage=STAGE, domain=AZURE, payload=b"SECRET-3"),
        lambda: idem.complete(C, KEY, stage=STAGE, domain=AWS, token=99, result=b"SECRET-4"),
        lambda: idem.record(C, STAGE, [Effect(KEY, bytes(32), b"SECRET-5")], domain=AWS),
    )
    for ask in asks:
        with pytest.raises(GrafctlError) as caught:
            ask()
        told.append(str(caught.value.as_json()))
    assert "SECRET" not in f"{told}{made.audit_records()}"


def test_what_is_recorded_and_published_in_one_log_is_one_entry(made: World) -> None:
    store = made.store
    store.queues.create("raw", replicas=[f"a={AWS}", f"g={GCP}"], log="etl", allow=["**"])
    store.idem.create("effects", log="etl", allow=["**"])
    own = store.session.resource("raw")
    whole = Log(own.cluster, own.id, own.hint, own.apply)

    def step(print_: bytes, *names: str) -> list[Any]:
        request = RecordEffects("effects", STAGE, [Effect(name, print_, b"of " + name.encode()) for name in names], AWS)
        publish = Publish("raw", [Outgoing(name.encode(), name) for name in names], AWS, atomic=True)
        request.prepare()
        publish.prepare()
        answers: list[Any] = whole.append(Several([(2, request), (1, publish), (2, request)])).answer
        return answers

    recorded, published, again = step(bytes(32), "one", "two")
    assert (list(recorded.new), published.records, again.replayed) == ([0, 1], 2, [0, 1])
    tail = whole.settle().known
    assert [answer.replayed for answer in step(bytes(32), "two", "one")][:2] == [[0, 1], True]
    with pytest.raises(IdempotencyConflict) as caught:
        step(b"\1" * 32, "three", "two")
    assert caught.value.fields["places"] == [1] and whole.settle().known == tail
    for domain in (AWS, GCP):
        with made.reopened() as other:
            found = other.idem.reserve("effects", "two", stage=STAGE, domain=domain, fingerprint=bytes(32))
            assert found.result == b"of two"
    assert store.idem.show("effects").fields()["log"] == "etl" and not list(store.verify())
