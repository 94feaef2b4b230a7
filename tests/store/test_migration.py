"""Provider migration through the Python API: the whole way, both ways back, and what each kind of replica may do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from grafctl.errors import DomainUnavailable, GenerationConflict, NoQuorum, NotFound, Usage
from store.world import World, changed_keys, world

AWS, GCP, AZURE = "aws/us-east-1/us-east-1a", "gcp/us-central1", "azure/eastus"
Q, WORKERS, MOVED = "migration-orders", "active-workers", "azure-workers"


@pytest.fixture(params=["memory", "lmdb"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A queue of two records in two providers, with one group, and a third provider that was observed as healthy."""
    with world(tmp_path / "store", [AWS, GCP, AZURE], request.param) as here:
        store = here.store
        store.queues.create(Q, replicas=[f"orders-aws-a={AWS}", f"orders-gcp-central={GCP}"], allow=["aws", "gcp"])
        store.consumers.create(Q, WORKERS, allow=["aws", "gcp"], semantics="effectively-once")
        store.publish(Q, b"created", id="order-1", domain=AWS)
        store.publish(Q, b"paid", id="order-2", domain=GCP)
        here.observe(AZURE)
        yield here


def add_azure(here: World, role: str = "") -> None:
    generation = here.store.locator.show(Q).body["generation"]
    suffix = f":{role}" if role else ""
    here.store.locator.set(Q, generation=generation + 1, add=[f"orders-azure={AZURE}{suffix}"])


def remove(here: World, replica: str) -> None:
    generation = here.store.locator.show(Q).body["generation"]
    here.store.locator.set(Q, generation=generation + 1, remove=[replica])


def migrate(here: World, *, start: str | None = None) -> str:
    """Adds azure, catches up and shifts; returns the proof's id."""
    add_azure(here)
    proof = here.store.catch_up(Q, domain=AZURE).proof
    here.store.consumers.shift(Q, WORKERS, as_=MOVED, allow=[AZURE], proof=proof, start=start)
    return proof


def payloads(here: World, group: str, domain: str, count: int = 100) -> list[bytes]:
    return [record.payload for record in here.store.poll(Q, group, domain=domain, max=count).records]


def drain(here: World, group: str, domain: str) -> list[int]:
    """Polls and acks until nothing comes; returns the offsets in the order of their coming."""
    got: list[int] = []
    while True:
        delivery = here.store.poll(Q, group, domain=domain, max=3)
        if not delivery.records:
            return got
        offsets = [record.offset for record in delivery.records]
        here.store.ack(Q, group, offsets, domain=domain, lease=delivery.lease)
        got += offsets


def findings(here: World) -> list[str]:
    return [f"{finding.where}: {finding.problem}" for finding in here.store.verify()]


def states(here: World) -> dict[str, tuple[str, str]]:
    replicas = here.store.locator.show(Q).body["replicas"]
    return {item["domain"]: (item["role"], item["state"]) for item in replicas}


# --- the whole way


def test_the_whole_migration(made: World) -> None:
    store = made.store
    original = store.consumers.show(Q, WORKERS).as_json()
    placement = store.placement.show(Q).as_json()
    with pytest.raises(DomainUnavailable) as refused:
        store.poll(Q, WORKERS, domain=AZURE)
    assert (refused.value.exit_code, refused.value.reason) == (11, "not_in_placement")
    with pytest.raises(GenerationConflict):
        store.locator.set(Q, generation=1, add=[f"orders-azure={AZURE}"])
    change = store.locator.set(Q, generation=2, add=[f"orders-azure={AZURE}"])
    assert change.changed and change.before == {"generation": 1}
    assert states(made)[AZURE] == ("voter", "catching_up")
    again = store.locator.set(Q, generation=2, add=[f"orders-azure={AZURE}"])
    assert not again.changed and again.after == change.after
    proof = store.catch_up(Q, domain=AZURE)
    assert (proof.count, proof.through, proof.match, proof.promoted, proof.changed) == (2, 1, True, True, True)
    assert proof.source_digest == proof.target_digest and proof.generation == 2 and proof.domain == AZURE
    assert states(made)[AZURE] == ("voter", "ready")
    shift = store.consumers.shift(Q, WORKERS, as_=MOVED, allow=[AZURE], proof=proof.proof)
    assert (shift.lineage, shift.start, shift.original, shift.changed) == (WORKERS, 0, {"unchanged": True}, True)
    assert payloads(made, MOVED, AZURE) == [b"created", b"paid"]
    with pytest.raises(DomainUnavailable):
        store.poll(Q, WORKERS, domain=AZURE)
    assert store.consumers.show(Q, WORKERS).as_json() == original
    assert store.placement.show(Q).as_json() == placement
    assert findings(made) == []


def test_a_step_done_again_changes_nothing(made: World) -> None:
    proof = migrate(made)
    made.store.catch_up(Q, domain=AZURE)  # proves the new group too
    before = made.dump()
    again = made.store.locator.set(Q, generation=2, add=[f"orders-azure={AZURE}"])
    repeated = made.store.catch_up(Q, domain=AZURE)
    shift = made.store.consumers.shift(Q, WORKERS, as_=MOVED, allow=[AZURE], proof=repeated.proof)
    assert (again.changed, repeated.changed, shift.changed) == (False, False, False)
    assert made.store.catch_up(Q, domain=AZURE).as_json() == repeated.as_json()
    assert changed_keys(before, made.dump()) == []
    with pytest.raises(GenerationConflict):
        made.store.consumers.shift(Q, WORKERS, as_=MOVED, allow=[AZURE, "aws"], proof=proof)


def test_records_published_after_the_catch_up_arrive_too(made: World) -> None:
    migrate(made)
    ack = made.store.publish(Q, b"shipped", id="order-3", domain=GCP)
    assert ack.offset == 2 and set(ack.acked_by) <= {AWS, GCP, AZURE} and len(ack.acked_by) >= 2
    assert payloads(made, MOVED, AZURE) == [b"created", b"paid", b"shipped"]


def test_ids_are_known_in_the_new_provider(made: World) -> None:
    migrate(made)
    made.store.domains.fail(GCP)
    replay = made.store.publish(Q, b"created", id="order-1", domain=AWS)
    assert (replay.offset, replay.replayed) == (0, True)


# --- leaving a provider completely


def test_leaving_a_provider_completely(made: World) -> None:
    store = made.store
    migrate(made)
    store.ack(Q, MOVED, [r.offset for r in store.poll(Q, MOVED, domain=AZURE, max=1).records], domain=AZURE)
    remove(made, "orders-aws-a")
    assert set(states(made)) == {GCP, AZURE}
    assert store.domains.remove(AWS).changed
    assert [item["domain"] for item in store.domains.list().items] == [GCP, AZURE]
    with pytest.raises(DomainUnavailable) as refused:
        store.publish(Q, b"shipped", domain=AZURE)
    assert refused.value.reason == "not_in_placement"
    digest = store.placement.show(Q).body["digest"]
    store.placement.set(Q, allow=["gcp", "azure"], expect=digest)
    ack = store.publish(Q, b"shipped", id="order-3", domain=AZURE)
    assert (ack.offset, sorted(ack.acked_by)) == (2, [AZURE, GCP])
    assert drain(made, MOVED, AZURE) == [1, 2]
    assert drain(made, WORKERS, GCP) == []
    assert findings(made) == []


def test_the_last_domain_of_a_provider_cannot_be_removed_while_it_is_used(made: World) -> None:
    with pytest.raises(GenerationConflict, match="still holds replicas"):
        made.store.domains.remove(AWS)
    migrate(made)
    with pytest.raises(GenerationConflict, match="still holds replicas"):
        made.store.domains.remove(AWS)


def test_leaving_when_the_old_provider_is_gone(made: World) -> None:
    """The primary's provider is out: the others elect, remove it and go on."""
    migrate(made)
    made.store.domains.fail(AWS)
    with made.reopened() as store:
        store.locator.set(Q, generation=3, remove=["orders-aws-a"])
        store.placement.set(Q, allow=["gcp", "azure"])
        assert sorted(store.publish(Q, b"shipped", domain=AZURE).acked_by) == [AZURE, GCP]
        polled = store.poll(Q, MOVED, domain=AZURE)
        assert [record.payload for record in polled.records] == [b"created", b"paid", b"shipped"]


# --- abandoning


@pytest.mark.parametrize("caught_up", [False, True])
def test_abandoning_before_the_shift(made: World, caught_up: bool) -> None:
    original = made.store.consumers.show(Q, WORKERS).as_json()
    add_azure(made)
    if caught_up:
        made.store.catch_up(Q, domain=AZURE)
    remove(made, "orders-azure")
    assert states(made) == {AWS: ("voter", "ready"), GCP: ("voter", "ready")}
    assert made.store.consumers.show(Q, WORKERS).as_json() == original
    assert sorted(made.store.publish(Q, b"shipped", domain=AWS).acked_by) == [AWS, GCP]
    assert drain(made, WORKERS, AWS) == [0, 1, 2]
    made.store.domains.remove(AZURE)
    assert findings(made) == []


def test_abandoning_after_the_shift_needs_a_place_for_the_new_group(made: World) -> None:
    store = made.store
    migrate(made)
    first = store.poll(Q, MOVED, domain=AZURE, max=1)
    store.ack(Q, MOVED, [0], domain=AZURE, lease=first.lease)
    held = store.poll(Q, MOVED, domain=AZURE, max=1)
    with pytest.raises(DomainUnavailable, match=MOVED) as refused:
        remove(made, "orders-azure")
    assert (refused.value.reason, refused.value.fields["group"]) == ("not_in_locator", MOVED)
    store.placement.set(Q, group=MOVED, allow=["aws"])
    remove(made, "orders-azure")
    assert payloads(made, WORKERS, AWS) == []  # 0 is final, 1 is still leased in the other group
    store.ack(Q, MOVED, [1], domain=AWS, lease=held.lease)
    store.publish(Q, b"shipped", domain=AWS)
    assert drain(made, WORKERS, AWS) == [2]
    assert findings(made) == []


def test_a_second_try_after_abandoning(made: World) -> None:
    """The abandoned copy is behind and of an older generation; the second catch-up begins where it can."""
    add_azure(made)
    old = made.store.catch_up(Q, domain=AZURE).proof
    remove(made, "orders-azure")
    for number in range(5):
        made.store.publish(Q, f"later {number}".encode(), domain=AWS)
    add_azure(made)
    assert states(made)[AZURE] == ("voter", "catching_up")
    proof = made.store.catch_up(Q, domain=AZURE)
    assert (proof.count, proof.generation, proof.proof != old) == (7, 4, True)
    made.store.consumers.shift(Q, WORKERS, as_=MOVED, allow=[AZURE], proof=proof.proof)
    assert drain(made, MOVED, AZURE) == list(range(7))
    assert findings(made) == []


# --- who may be removed


def test_removing_what_a_group_needs_is_refused_by_name(made: World) -> None:
    store = made.store
    store.consumers.create(Q, "only-gcp", allow=["gcp"])
    with pytest.raises(DomainUnavailable, match="only-gcp") as refused:
        remove(made, "orders-gcp-central")
    assert (refused.value.exit_code, refused.value.fields["group"]) == (11, "only-gcp")
    store.placement.set(Q, group="only-gcp", allow=["gcp", "aws"])
    remove(made, "orders-gcp-central")
    assert set(states(made)) == {AWS}


def test_a_group_that_has_no_replica_already_does_not_block(made: World) -> None:
    """Only a group that loses its last replica by this request stands in its way."""
    made.store.consumers.create(Q, "later", allow=["oracle"])
    add_azure(made)
    remove(made, "orders-azure")
    assert set(states(made)) == {AWS, GCP}


def test_removing_below_the_quorum_is_refused(made: World) -> None:
    made.store.policy.set(Q, ack="2")
    before = made.dump()
    with pytest.raises(NoQuorum) as refused:
        remove(made, "orders-aws-a")
    assert refused.value.exit_code == 21 and refused.value.fields["outcome"] == "not_written"
    assert changed_keys(before, made.dump()) == []
    add_azure(made)
    with pytest.raises(NoQuorum):  # a replica that is catching up does not count
        remove(made, "orders-aws-a")
    made.store.catch_up(Q, domain=AZURE)
    remove(made, "orders-aws-a")
    assert set(states(made)) == {GCP, AZURE}


def test_a_removed_replica_can_be_named_again_in_the_same_generation(made: World) -> None:
    made.store.locator.set(Q, generation=2, remove=["orders-gcp-central"], add=[f"orders-gcp-central={AZURE}"])
    assert states(made) == {AWS: ("voter", "ready"), AZURE: ("voter", "catching_up")}
    with pytest.raises(NotFound):
        made.store.locator.set(Q, generation=3, remove=["orders-gcp"])


# --- learner and witness


def test_a_learner_copies_and_does_not_vote(made: World) -> None:
    store = made.store
    add_azure(made, "learner")
    proof = store.catch_up(Q, domain=AZURE)
    assert (proof.match, proof.promoted, proof.count) == (True, False, 2)
    assert states(made)[AZURE] == ("learner", "copied")
    assert AZURE not in store.publish(Q, b"shipped", domain=AWS).acked_by
    store.placement.set(Q, group=WORKERS, allow=["aws", "gcp", "azure"])
    with pytest.raises(DomainUnavailable) as refused:
        store.poll(Q, WORKERS, domain=AZURE)
    assert refused.value.reason == "not_caught_up"
    with pytest.raises(DomainUnavailable) as shifted:
        store.consumers.shift(Q, WORKERS, as_=MOVED, allow=[AZURE], proof=proof.proof)
    assert shifted.value.reason == "not_in_locator"
    assert store.catch_up(Q, domain=AZURE).count == 3  # it goes on copying when asked


def test_a_learner_becomes_a_voter(made: World) -> None:
    add_azure(made, "learner")
    made.store.catch_up(Q, domain=AZURE)
    made.store.locator.set(Q, generation=3, remove=["orders-azure"], add=[f"orders-azure={AZURE}"])
    assert states(made)[AZURE] == ("voter", "catching_up")
    assert made.store.catch_up(Q, domain=AZURE).promoted
    made.store.domains.fail(GCP)
    assert sorted(made.store.publish(Q, b"shipped", domain=AWS).acked_by) == sorted([AWS, AZURE])


def test_a_witness_votes_and_keeps_no_payload(made: World) -> None:
    store = made.store
    add_azure(made, "witness")
    admitted = store.catch_up(Q, domain=AZURE)
    assert (admitted.covers, admitted.promoted, admitted.changed) == (["entries"], True, True)
    assert store.catch_up(Q, domain=AZURE).changed is False
    store.policy.set(Q, ack="majority", min_payload=1)
    store.domains.fail(GCP)
    ack = store.publish(Q, b"a payload that travels", domain=AWS)
    assert (sorted(ack.acked_by), ack.payload_copies) == (sorted([AWS, AZURE]), 1)
    rows = made.dump()[AZURE]
    log = made.log_id(Q)
    assert not any(b"a payload that travels" in value for key, value in rows.items() if key[1:9] == log)
    store.placement.set(Q, group=WORKERS, allow=["aws", "azure"])
    with pytest.raises(DomainUnavailable) as refused:
        store.poll(Q, WORKERS, domain=AZURE)
    assert refused.value.reason == "not_in_locator"
    store.domains.restore(GCP)
    assert [record.payload for record in store.peek(Q, domain=GCP, offset=2).body["records"]] == [
        b"a payload that travels"
    ]
    assert findings(made) == []


def test_a_queue_of_two_voters_and_a_witness(made: World) -> None:
    store = made.store
    replicas = [f"a={AWS}", f"g={GCP}", f"w={AZURE}:witness"]
    store.queues.create("witnessed", replicas=replicas, allow=["**"], min_payload=1)
    store.publish("witnessed", b"x", domain=AWS)
    store.domains.fail(AWS)
    with made.reopened() as other:
        ack = other.publish("witnessed", b"y", domain=GCP)
        assert sorted(ack.acked_by) == sorted([GCP, AZURE]) and ack.payload_copies == 1
    with pytest.raises(Usage):
        store.queues.create("only", replicas=[f"w={AZURE}:witness"], allow=["**"])


# --- catch-up that leaves a group


def test_catch_up_with_a_group_leaves_one_that_has_read_everything(made: World) -> None:
    add_azure(made)
    made.store.catch_up(Q, domain=AZURE, group="reader")
    shown = made.store.consumers.show(Q, "reader").body
    assert (shown["cursor"], shown["ack_floor"], shown["placement"]) == (2, 2, {"allow": [AZURE]})
    assert made.store.consumers.show(Q, WORKERS).body["ack_floor"] == 0
    assert payloads(made, "reader", AZURE) == []
    made.store.publish(Q, b"shipped", domain=AWS)
    assert payloads(made, "reader", AZURE) == [b"shipped"]


def test_catch_up_with_a_group_can_be_done_again(made: World) -> None:
    add_azure(made)
    for _ in range(2):  # the second time proves the group that the first one left
        made.store.catch_up(Q, domain=AZURE, group="reader")
    before = made.dump()
    again = made.store.catch_up(Q, domain=AZURE, group="reader")
    assert (again.count, again.changed) == (2, False)
    assert made.store.consumers.show(Q, "reader").body["cursor"] == 2
    assert changed_keys(before, made.dump()) == []


def test_catch_up_without_a_group_leaves_none_and_consumes_nothing(made: World) -> None:
    made.store.poll(Q, WORKERS, domain=AWS, max=1)
    add_azure(made)
    groups = made.store.consumers.list(Q).items
    shown = made.store.status().body["resources"][0]["groups"]
    for _ in range(2):
        made.store.catch_up(Q, domain=AZURE)
        assert made.store.consumers.list(Q).items == groups
        assert made.store.status().body["resources"][0]["groups"] == shown
