"""Several resources in one log: each is as if it were alone, and what is asked of several at once is one entry."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import (
    DomainUnavailable,
    Fenced,
    GenerationConflict,
    IdempotencyConflict,
    NotFound,
    ProofRequired,
    Usage,
)
from grafctl.store import elect as electing
from grafctl.store import keys
from grafctl.store.blocks import Outgoing
from grafctl.store.log import Log
from grafctl.store.operations.retention import sweep
from grafctl.store.operations.stepping import Change, step
from grafctl.store.operations.verify import verify
from grafctl.store.records import encode_json, encode_row, parse_json, row_body
from grafctl.store.resources import ids
from grafctl.store.resources.burying import Bury
from grafctl.store.resources.carried import Create
from grafctl.store.resources.group import Caller, Finalise, Lease
from grafctl.store.resources.queue import Publish, queue_row
from grafctl.store.resources.several import Part, Several
from store.world import World, world

DOMAINS = ("aws", "gcp", "azure")
REPLICAS = tuple(f"{domain[:2]}={domain}" for domain in DOMAINS)


@pytest.fixture(params=["memory", "lmdb"])
def etl(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "store", DOMAINS, request.param) as made:
        made.store.queues.create("raw", replicas=REPLICAS, log="etl", allow=DOMAINS)
        made.store.topics.create("clean", log="etl", allow=DOMAINS)
        made.store.queues.create("other", replicas=REPLICAS, allow=DOMAINS)
        for resource in ("raw", "clean", "other"):
            made.store.consumers.create(resource, "readers", allow=DOMAINS)
        yield made


def _whole(etl: World, resource: str = "raw") -> Log:
    """Returns the log of a resource, for requests that name several of its resources."""
    own = etl.store.session.resource(resource)
    return Log(own.cluster, own.id, own.hint, own.apply)


def _step(etl: World, token: int | None, offsets: list[int], *outputs: Outgoing, **fields: Any) -> list[Any]:
    """Finishes records of `raw` and publishes others to `clean`, in one entry."""
    publish = Publish("clean", list(outputs), "aws", atomic=True)
    publish.prepare()
    ranges = [[offset, offset + 1] for offset in offsets]
    parts: list[Part] = [(1, Finalise(Caller("raw", "readers", "aws"), ranges, token, all_held=True)), (2, publish)]
    answers: list[Any] = _whole(etl).append(Several(parts)).answer
    return answers


def test_resources_of_one_log_have_offsets_ids_and_groups_of_their_own(etl: World) -> None:
    store = etl.store
    assert store.session.resource("raw").id == store.session.resource("clean").id
    assert store.session.resource("raw").id != store.session.resource("other").id
    assert store.publish("raw", "a", id="1", domain="aws").offset == 0
    assert store.publish("clean", "b", id="1", domain="aws").offset == 0, "the same id is another record's here"
    assert store.publish("clean", "c", id="2", domain="gcp").offset == 1
    assert store.publish("clean", "b", id="1", domain="gcp").replayed
    with pytest.raises(IdempotencyConflict):
        store.publish("clean", "other", id="1", domain="gcp")
    for domain in DOMAINS:
        assert [r.payload for r in store.peek("raw", domain=domain).body["records"]] == [b"a"]
    delivery = store.poll("clean", "readers", domain="gcp")
    assert [(record.offset, record.payload) for record in delivery.records] == [(0, b"b"), (1, b"c")]
    store.ack("clean", "readers", [0, 1], domain="gcp", lease=delivery.lease)
    assert store.poll("raw", "readers", domain="gcp").records[0].payload == b"a"
    assert not list(verify(store.session))


def test_one_entry_finishes_and_publishes_in_every_domain_or_does_nothing(etl: World) -> None:
    store = etl.store
    store.publish_batch("raw", [Outgoing(b"x", "1"), Outgoing(b"y", "2")], domain="aws")
    delivery = store.poll("raw", "readers", domain="aws")
    tail = _whole(etl).settle().tails
    settled, published = _step(etl, delivery.lease, [0, 1], Outgoing(b"X", "r1"), Outgoing(b"Y", "r2", "k"))
    assert (settled.changed, published.first, published.records) == (2, 0, 2)
    assert {
        after - before for before, after in zip(tail.values(), _whole(etl).settle().tails.values(), strict=True)
    } == {1}
    for domain in DOMAINS:
        records = store.peek("clean", domain=domain).body["records"]
        assert [(record.id, record.payload, record.key) for record in records] == [
            ("r1", b"X", None),
            ("r2", b"Y", "k"),
        ]
    assert not list(verify(store.session))

    before = etl.dump()
    with pytest.raises(Fenced):
        _step(etl, delivery.lease, [0], Outgoing(b"Z", "r3"))
    store.publish("raw", "z", id="3", domain="aws")
    delivery = store.poll("raw", "readers", domain="aws")
    after = etl.dump()
    with pytest.raises(IdempotencyConflict):
        _step(etl, delivery.lease, [2], Outgoing(b"another", "r1"))
    assert etl.dump() == after != before, "what is refused in part is refused in all"
    assert store.consumers.show("raw", "readers").body["ack_floor"] == 2


def test_a_later_part_sees_what_an_earlier_one_changed(etl: World) -> None:
    store = etl.store
    store.publish_batch("raw", [b"a", b"b", b"c"], domain="aws")
    caller = Caller("raw", "readers", "aws")
    token = store.poll("raw", "readers", domain="aws", max=1).lease
    finish, more = Finalise(caller, [[0, 1]], token), Lease(caller, 10, 60_000)
    publishes = [Publish("clean", [Outgoing(body, str(place))], "aws") for place, body in enumerate((b"1", b"2"))]
    for publish in publishes:
        publish.prepare()
    parts: list[Part] = [(1, finish), (2, publishes[0]), (1, more), (2, publishes[1])]
    done, one, leased, two = _whole(etl).append(Several(parts)).answer
    assert (done.ack_floor, one.first, leased.grants, two.first) == (1, 0, [[1, 3, 1]], 1)
    assert [r.payload for r in store.peek("clean", domain="azure").body["records"]] == [b"1", b"2"]
    assert not list(verify(store.session))


def test_a_backup_that_was_away_comes_to_the_same_state_by_the_entries_alone(etl: World) -> None:
    store = etl.store
    store.domains.fail("azure")
    publishes = [
        Publish(name, [Outgoing(b"%d" % place, str(place))], "aws") for place, name in enumerate(("raw", "clean"))
    ]
    for publish in publishes:
        publish.prepare()
    _whole(etl).append(Several([(1, publishes[0]), (2, publishes[1])]))
    ids._recent.clear()  # as in another process, which has only what is in the entry
    store.domains.restore("azure")
    _whole(etl).settle()
    store.publish("raw", "x", domain="aws")
    assert not list(verify(store.session))
    heads = {sight.row.state_sum for sight in _whole(etl).observe().sights.values()}
    assert len(heads) == 1, "the same rows in each domain"
    for domain in DOMAINS:
        assert [r.id for r in store.peek("clean", domain=domain).body["records"]] == ["1"]


def test_a_resource_joins_a_log_once_and_only_one_that_is_there(etl: World) -> None:
    queues = etl.store.queues
    assert not queues.create("raw", replicas=REPLICAS, log="etl", allow=DOMAINS).changed
    assert not etl.store.topics.create("clean", log="etl", allow=DOMAINS).changed
    assert queues.show("raw").body["log"] == etl.store.topics.show("clean").body["log"] == "etl"
    with pytest.raises(GenerationConflict, match="there already, with replicas"):
        queues.create("third", replicas=REPLICAS, log="etl")
    with pytest.raises(NotFound, match="no log elt"):
        queues.create("third", log="elt")
    with pytest.raises(Usage, match="its own rule"):
        queues.create("third", log="etl", ack="all")
    with pytest.raises(Usage, match="at least one --replica"):
        queues.create("third")
    with pytest.raises(GenerationConflict, match="as a topic"):
        queues.create("clean", log="etl", allow=DOMAINS)
    assert queues.create("third", log="etl", dry_run=True).actions == [
        "register third",
        "create it in the log etl",
    ]
    assert queues.create("third", log="etl", allow=DOMAINS).changed
    assert etl.store.publish("third", "x", domain="azure").offset == 0


def test_a_resource_whose_creator_died_is_finished_by_who_opens_it(etl: World) -> None:
    from grafctl.store.resources.control import Register

    joining = etl.store.queues._joining({"name": "late", "kind": "queue", "log": "etl", "schema": None} | {
        "allow": [*DOMAINS], "deny": [], "retain_age_ms": None, "retain_bytes": None, "compression": "none"
    })  # fmt: skip
    assert etl.store.session.control.append(Register("late", joining)).answer[0]
    with etl.reopened() as other:
        assert other.publish("late", "x", domain="aws").offset == 0
    assert etl.store.publish("late", "y", domain="gcp").offset == 1


def test_a_number_that_another_name_has_is_neither_read_nor_written(etl: World) -> None:
    log = etl.store.session.resource("raw")
    row = etl.store.queues._joining({"name": "forgotten", "kind": "queue", "log": "etl"})["row"]
    forgotten = Log(log.cluster, log.id, log.hint, log.apply, 3)
    forgotten.append(Create("forgotten", row))  # and what the control log knew of it was given up
    with pytest.raises(GenerationConflict, match="a place in its log that forgotten has"):
        etl.store.queues.create("fresh", log="etl", allow=DOMAINS)
    with pytest.raises(GenerationConflict, match="a place in its log that forgotten has"):
        etl.store.publish("fresh", "x", domain="aws")
    with forgotten.view() as committed:
        assert queue_row(committed.state, "forgotten")["next"] == 0
    assert etl.store.queues.create("fresher", log="etl", allow=DOMAINS).changed
    assert etl.store.publish("fresher", "x", domain="aws").offset == 0


def test_all_resources_of_a_log_that_was_lost_are_named_and_closed(tmp_path: Path) -> None:
    with world(tmp_path / "store", DOMAINS, "lmdb") as made:
        made.store.queues.create("raw", replicas=["aw=aws"], log="etl", allow=DOMAINS)
        made.store.topics.create("clean", log="etl", allow=DOMAINS)
        made.store.placement.set("clean", allow=["gcp"])
        made.store.publish("clean", "x", domain="gcp")
        shutil.rmtree(made.store.session.cluster.place("aws").path)
        with made.reopened() as store:
            done = store.domains.repair("aws", lost=True, accept_loss=["raw"])
            assert "give up raw, clean: all of it" in (done.actions or [])
        with made.reopened() as store:
            for resource in ("raw", "clean"):
                with pytest.raises(DomainUnavailable, match="no allow line covers it"):
                    store.publish(resource, "y", domain="aws")
            made.advance(1)
            store.queues.create("later", log="etl", allow=DOMAINS)
            assert store.publish("later", "z", domain="aws").offset == 0, "what is created since is open"
            store.placement.set("clean", allow=["gcp"])
            assert store.publish("clean", "y", domain="gcp").offset == 0
            assert not list(verify(store.session))


def test_one_entry_is_never_larger_than_a_value_may_be(etl: World) -> None:
    parts: list[Part] = []
    for resource, number in (("raw", 1), ("clean", 2)):
        publish = Publish(resource, [Outgoing(bytes(8 << 20))] * 4, "aws")
        publish.prepare()
        parts.append((number, publish))
    before = etl.dump()
    with pytest.raises(Usage, match="bytes of records; at most"):
        _whole(etl).append(Several(parts))
    assert etl.dump() == before


def test_a_log_keeps_what_any_of_its_resources_retains(etl: World) -> None:
    store = etl.store
    store.queues.create("short", log="etl", retain_bytes=1, allow=DOMAINS)
    store.consumers.create("short", "readers", allow=DOMAINS)
    store.publish("clean", "kept", domain="aws")
    for _ in range(3):
        store.publish("short", "gone", domain="aws")
        delivery = store.poll("short", "readers", domain="aws")
        store.ack("short", "readers", [record.offset for record in delivery.records], domain="aws")
    log = store.session.resource("short")
    electing.elect(log.cluster, log.id, log.apply, log.observe())  # entries go only up to the START of the term
    store.publish("short", "last", domain="aws")
    sweep(log)
    assert [sight.head.floor > 0 for sight in log.observe().sights.values()] == [True] * len(DOMAINS)
    assert store.queues.show("short").body["first_offset"] == 3
    assert [r.payload for r in store.peek("clean", domain="gcp").body["records"]] == [b"kept"]
    assert not list(verify(store.session))


def test_a_catch_up_of_one_resource_proves_and_brings_all_of_the_log(etl: World) -> None:
    store = etl.store
    store.publish_batch("raw", [Outgoing(b"x", "1")], domain="aws")
    token = store.poll("raw", "readers", domain="aws").lease
    _step(etl, token, [0], Outgoing(b"X", "r1"), Outgoing(b"Y", "r2"))
    store.domains.add("oracle")
    etl.observe("oracle")
    store.locator.set("clean", generation=2, add=["or=oracle"])
    assert store.locator.show("raw").body["generation"] == 2
    proof = store.catch_up("clean", domain="oracle")
    assert (proof.count, proof.match, proof.promoted) == (2, True, True)
    store.placement.set("raw", allow=[*DOMAINS, "oracle"])
    assert [r.payload for r in store.peek("raw", domain="oracle").body["records"]] == [b"x"]
    with pytest.raises(ProofRequired):
        store.consumers.shift("raw", "readers", as_="there", allow=["oracle"], proof=proof.proof)
    store.consumers.shift("clean", "readers", as_="there", allow=["oracle"], proof=proof.proof)
    assert [r.payload for r in store.poll("clean", "there", domain="oracle").records] == [b"X", b"Y"]
    assert not list(verify(store.session))


def test_a_copy_of_which_another_resource_differs_is_not_proven(etl: World) -> None:
    store = etl.store
    store.publish("raw", "x", domain="aws")
    store.publish("clean", "y", domain="aws")
    store.domains.add("oracle")
    etl.observe("oracle")
    store.locator.set("clean", generation=2, add=["or=oracle:learner"])
    assert store.catch_up("clean", domain="oracle").match
    key = keys.state(etl.log_id("raw"), keys.lineage("readers"))
    with store.session.cluster.writing("oracle") as batch:
        row = parse_json(row_body(batch.get(key) or b"", key) or b"")
        batch.put(key, encode_row(encode_json({**row, "floor": 1}), key))
    with pytest.raises(ProofRequired, match="The copy of raw in oracle is not the one in aws: finalised differ"):
        store.catch_up("clean", domain="oracle")


def test_only_who_holds_a_record_buries_it_and_it_comes_again_by_a_redrive(etl: World) -> None:
    store, log = etl.store, etl.store.session.resource("raw")
    store.publish_batch("raw", [b"a", b"b", b"c"], domain="aws")
    caller, token = Caller("raw", "readers", "aws"), store.poll("raw", "readers", domain="aws", max=2).lease
    assert token is not None
    assert log.append(Bury(caller, [(0, "r" * 600)], token)).answer == 1
    (letter,) = store.dead.list("raw", "readers").items
    assert (letter["offset"], letter["deliveries"], letter["reason"]) == (0, 1, "r" * 500)
    for offset, held in ((0, token), (1, token + 1), (2, token)):
        with pytest.raises(Fenced):
            log.append(Bury(caller, [(offset, "not held")], held))
    with pytest.raises(Usage):
        log.append(Bury(caller, [], token))
    assert not list(verify(store.session))
    etl.advance(3_600_000)
    assert [record.offset for record in store.poll("raw", "readers", domain="gcp").records] == [1, 2]
    assert store.dead.redrive("raw", "readers").changed
    assert [record.offset for record in store.poll("raw", "readers", domain="gcp").records] == [0]


def test_the_log_of_the_last_change_comes_last_and_not_after_a_refusal(etl: World) -> None:
    store = etl.store
    store.publish("raw", "x", domain="aws")
    store.publish("other", "first", id="1", domain="aws")
    token = store.poll("raw", "readers", domain="aws").lease
    changes = [
        Change("clean", Publish("clean", [Outgoing(b"X", "1")], "aws", atomic=True)),
        Change("other", Publish("other", [Outgoing(b"another", "1")], "aws", atomic=True)),
        Change("raw", Finalise(Caller("raw", "readers", "aws"), [[0, 1]], token, all_held=True)),
    ]
    before = etl.dump()
    with pytest.raises(IdempotencyConflict):
        step(store.session, changes)
    assert etl.dump() == before, "what finishes the input is not there before what came of it"
    assert [answer is None for answer in step(store.session, [changes[0], changes[2]])] == [False, False]


def test_placement_and_epoch_are_each_resources_own_and_the_policy_is_the_logs(etl: World) -> None:
    store = etl.store
    store.fence("clean", epoch=5)
    assert store.publish("raw", "x", domain="aws", epoch=1).offset == 0
    with pytest.raises(Fenced):
        store.publish("clean", "x", domain="aws", epoch=1)
    store.policy.set("clean", ack="all")
    assert store.policy.show("raw").body["ack"] == store.queues.show("raw").body["ack"] == "all"
    assert store.topics.show("clean").body["ack"] == "all"


def test_an_operation_key_of_one_resource_is_not_taken_for_anothers(etl: World) -> None:
    session = etl.store.session
    request = Publish("raw", [Outgoing(b"x")], "aws")
    request.prepare()
    operation = b"0123456789abcd\0\0"
    session.resource("raw").append(request, operation=operation, hint=0)
    other = Publish("clean", [Outgoing(b"x")], "aws")
    other.prepare()
    with pytest.raises(IdempotencyConflict, match="did not publish these"):
        session.resource("clean").append(other, operation=operation, hint=0)
