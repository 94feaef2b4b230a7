"""Content proofs: what they are bound to, what they find, and what they refuse to prove."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import DomainUnavailable, ProofRequired
from grafctl.store import keys
from grafctl.store.records import ENTRY_HEADER_BYTES, decode_entry, decode_row, encode_row
from grafctl.store.resources.ids import RECORD_BYTES
from store.world import World, changed_keys, without_log, world

AWS, GCP, AZURE, ORACLE = "aws/us-east-1", "gcp/us-central1", "azure/eastus", "oracle/phx"
Q, OTHER, G = "orders", "invoices", "workers"
SHIFTED = "moved"


@pytest.fixture(params=["memory", "lmdb"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Two queues of a few records in two domains, and replicas of both that are ready in azure and oracle."""
    with world(tmp_path / "store", [AWS, GCP, AZURE, ORACLE], request.param) as here:
        for domain in (AZURE, ORACLE):
            here.observe(domain)
        for queue in (Q, OTHER):
            here.store.queues.create(queue, replicas=[f"a={AWS}", f"g={GCP}"], allow=["**"])
            here.store.consumers.create(queue, G, allow=["aws", "gcp"])
            for number in range(3):
                here.store.publish(queue, f"record {number}".encode() * 50, id=f"id-{number}", domain=AWS)
            here.store.locator.set(queue, generation=2, add=[f"z={AZURE}", f"o={ORACLE}"])
            for domain in (AZURE, ORACLE):
                here.store.catch_up(queue, domain=domain)
        yield here


def shift(here: World, proof: str, *, queue: str = Q, allow: str = AZURE) -> Any:
    return here.store.consumers.shift(queue, G, as_=SHIFTED, allow=[allow], proof=proof)


def refuses(here: World, proof: str, match: str, **where: Any) -> ProofRequired:
    """Asserts that a shift with this proof is refused and changes nothing but the audit."""
    before = without_log(here.dump(), keys.AUDIT_LOG)
    with pytest.raises(ProofRequired, match=match) as refused:
        shift(here, proof, **where)
    assert changed_keys(before, without_log(here.dump(), keys.AUDIT_LOG)) == []
    assert refused.value.exit_code == 19
    return refused.value


# --- what a proof is bound to


def test_a_proof_holds_while_nothing_it_is_bound_to_changes(made: World) -> None:
    proof = made.store.catch_up(Q, domain=AZURE).proof
    made.store.publish(Q, b"later", domain=AWS)
    made.store.poll(Q, G, domain=AWS, max=1)
    made.store.placement.set(Q, allow=["aws", "gcp"])
    assert shift(made, proof).changed


def test_an_older_generation_is_refused(made: World) -> None:
    proof = made.store.catch_up(Q, domain=AZURE).proof
    made.store.locator.set(Q, generation=3, remove=["o"])
    refuses(made, proof, "generation 2; 3 is in force")
    assert shift(made, made.store.catch_up(Q, domain=AZURE).proof).changed


def test_another_resource_is_refused(made: World) -> None:
    proof = made.store.catch_up(OTHER, domain=AZURE).proof
    refuses(made, proof, "There is no proof")


def test_another_domain_is_refused(made: World) -> None:
    proof = made.store.catch_up(Q, domain=ORACLE).proof
    refuses(made, proof, f"The proof is of {ORACLE}")


def test_another_epoch_is_refused(made: World) -> None:
    proof = made.store.catch_up(Q, domain=AZURE).proof
    made.store.fence(Q, epoch=2)
    refuses(made, proof, "epoch 1; 2 is in force")
    renewed = made.store.catch_up(Q, domain=AZURE)
    assert renewed.epoch == 2 and shift(made, renewed.proof).changed


def test_an_environment_made_anew_is_refused(made: World) -> None:
    proof = made.store.catch_up(Q, domain=AZURE).proof
    cluster = made.store.session.cluster
    cluster.add(AZURE, cluster.place(AZURE)._replace(incarnation="inc_another"))
    cluster._open.pop(AZURE).close()
    with pytest.raises((ProofRequired, DomainUnavailable)):
        shift(made, proof)


def test_a_domain_that_was_removed_since_is_refused(made: World) -> None:
    proof = made.store.catch_up(Q, domain=AZURE).proof
    made.store.locator.set(Q, generation=3, remove=["z"])
    with pytest.raises(DomainUnavailable) as refused:
        shift(made, proof)
    assert refused.value.reason == "not_in_locator"
    refuses(made, proof, "generation 2", allow="**")


@pytest.mark.parametrize("name", ["none", "", "prf_", "prf_000000000000000000000000", "x" * 1000])
def test_a_proof_that_is_none_is_refused(made: World, name: str) -> None:
    refuses(made, name, "proof")


# --- a proof in a file


def proof_file(here: World, change: Callable[[dict[str, Any]], Any]) -> str:
    body = json.loads(json.dumps(here.store.catch_up(Q, domain=AZURE).as_json()))
    path = here.directory / "proof.json"
    path.write_text(json.dumps(change(body) or body))
    return f"@{path}"


def test_the_json_of_a_catch_up_is_a_proof(made: World) -> None:
    assert shift(made, proof_file(made, lambda body: None)).changed


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("resource", OTHER),
        ("domain", ORACLE),
        ("generation", 3),
        ("epoch", 0),
        ("through", 1),
        ("count", 4),
        ("source_digest", "sha256:00"),
        ("target_digest", "sha256:00"),
        ("match", False),
        ("covers", ["records"]),
        ("incarnation", "inc_another"),
        ("source", AZURE),
    ],
)
def test_an_edited_proof_is_refused(made: World, field: str, value: Any) -> None:
    refused = refuses(made, proof_file(made, lambda body: body.update({field: value})), "not what the store recorded")
    assert field in refused.message


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '"prf"', "{", "\xff", '{"proof": 7}', '{"proof": null}'])
def test_a_file_that_is_no_proof_is_refused(made: World, text: str) -> None:
    path = made.directory / "proof.json"
    path.write_bytes(text.encode("latin-1"))
    refuses(made, f"@{path}", "proof|catch-up")


# --- damage in the target


def rewrite(here: World, domain: str, key: bytes, change: Callable[[bytes], bytes]) -> None:
    """Changes one value of a domain behind the store's back."""
    with here.store.session.cluster.environment(domain).write(wait_s=1) as batch:
        old = batch.get(key)
        assert old is not None
        batch.put(key, change(old))


def entry_of(here: World, offset: int) -> bytes:
    """Returns the key of the entry that holds a record."""
    log = here.log_id(Q)
    for key, raw in here.dump()[AWS].items():
        if key[:9] != b"\x20" + log:
            continue
        request = decode_entry(raw, "entry").request
        if request.get("do") == "publish" and request["first"] == offset:
            return key
    raise AssertionError(offset)


def flip(raw: bytes, at: int, bit: int = 0) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]


@pytest.mark.parametrize("offset", [0, 1, 2])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_flipped_bit_in_a_record_of_the_target_fails_the_proof(made: World, offset: int, place: str) -> None:
    def change(raw: bytes) -> bytes:
        start = ENTRY_HEADER_BYTES + int.from_bytes(raw[4:8], "big")
        at = {"first": start, "middle": (start + len(raw)) // 2, "last": len(raw) - 1}[place]
        return flip(raw, at, bit=offset)

    rewrite(made, AZURE, entry_of(made, offset), change)
    with pytest.raises(ProofRequired) as refused:
        made.store.catch_up(Q, domain=AZURE)
    assert refused.value.exit_code == 19
    assert refused.value.fields["first_difference"] == offset
    assert f"first differing offset is {offset}" in refused.value.message
    assert any(AZURE in finding.where for finding in made.store.verify())


@pytest.mark.parametrize("at", [0, 1, 20, 60, 100, ENTRY_HEADER_BYTES - 1, ENTRY_HEADER_BYTES + 3])
def test_a_flipped_bit_in_the_header_of_an_entry_fails_the_proof(made: World, at: int) -> None:
    rewrite(made, AZURE, entry_of(made, 1), lambda raw: flip(raw, at))
    with pytest.raises(ProofRequired) as refused:
        made.store.catch_up(Q, domain=AZURE)
    assert refused.value.fields["first_difference"] == 1


@pytest.mark.parametrize(
    "row",
    [keys.queue(), keys.group(G), keys.lineage(G), keys.block(1)],
    ids=["queue", "group", "lineage", "block"],
)
def test_a_flipped_bit_in_a_state_row_of_the_target_fails_the_proof(made: World, row: bytes) -> None:
    rewrite(made, AZURE, keys.state(made.log_id(Q), row), lambda raw: flip(raw, len(raw) - 1))
    with pytest.raises(ProofRequired) as refused:
        made.store.catch_up(Q, domain=AZURE)
    if row == keys.block(1):
        assert refused.value.fields["first_difference"] == 1


@pytest.mark.parametrize(
    ("row", "old", "new", "part"),
    [
        (keys.group(G), b'"cursor":0', b'"cursor":1', "groups"),
        (keys.lineage(G), b'"floor":0', b'"floor":1', "finalised"),
    ],
)
def test_a_row_with_another_content_and_a_good_checksum_fails_the_proof(
    made: World, row: bytes, old: bytes, new: bytes, part: str
) -> None:
    key = keys.state(made.log_id(Q), row)

    def change(raw: bytes) -> bytes:
        body = decode_row(raw, "row", key)
        assert old in body
        return encode_row(body.replace(old, new), key)

    rewrite(made, AZURE, key, change)
    with pytest.raises(ProofRequired, match=part):
        made.store.catch_up(Q, domain=AZURE)


@pytest.mark.parametrize("more", [True, False])
def test_an_idempotency_record_that_one_side_alone_has_fails_the_proof(made: World, more: bool) -> None:
    state = keys.state(made.log_id(Q), b"")
    with made.store.session.cluster.environment(AZURE).write(wait_s=1) as batch:
        ((key, raw),) = batch.scan(*(state + bound for bound in keys.ids()))
        body = decode_row(raw, "ids", key)
        assert len(body) == 3 * RECORD_BYTES
        batch.put(key, encode_row(body + bytes(RECORD_BYTES) if more else body[RECORD_BYTES:], key))
    with pytest.raises(ProofRequired, match="idempotency"):
        made.store.catch_up(Q, domain=AZURE)


def test_a_missing_entry_fails_the_proof(made: World) -> None:
    with made.store.session.cluster.environment(AZURE).write(wait_s=1) as batch:
        batch.delete(entry_of(made, 1))
    with pytest.raises(ProofRequired) as refused:
        made.store.catch_up(Q, domain=AZURE)
    assert refused.value.fields["first_difference"] == 1


def test_a_failed_proof_is_no_proof_and_an_earlier_one_still_is(made: World) -> None:
    """A failed catch-up records nothing; an operator who had a proof decides with `verify` in hand."""
    rewrite(made, AZURE, entry_of(made, 2), lambda raw: flip(raw, len(raw) - 1))
    before = without_log(made.dump(), keys.AUDIT_LOG)
    for _ in range(2):
        with pytest.raises(ProofRequired):
            made.store.catch_up(Q, domain=AZURE)
    assert changed_keys(before, without_log(made.dump(), keys.AUDIT_LOG)) == []
    assert made.audit_records()[-1]["outcome"] == "refused"


@pytest.mark.parametrize("made", ["lmdb"], indirect=True)  # because a domain is added through files
def test_a_damaged_copy_comes_back_by_removing_the_replica_and_the_domain(made: World) -> None:
    rewrite(made, AZURE, entry_of(made, 2), lambda raw: flip(raw, len(raw) - 1))
    for queue in (Q, OTHER):
        made.store.locator.set(queue, generation=3, remove=["z"])
    made.store.domains.remove(AZURE)
    made.store.domains.add(AZURE)
    made.observe(AZURE)
    made.store.locator.set(Q, generation=4, add=[f"z={AZURE}"])
    assert made.store.catch_up(Q, domain=AZURE).match
    assert [f.problem for f in made.store.verify()] == []


# --- vacuous proofs


def test_an_empty_queue_needs_allow_empty(made: World) -> None:
    made.store.queues.create("empty", replicas=[f"a={AWS}", f"g={GCP}"], allow=["**"])
    made.store.consumers.create("empty", G, allow=["aws"])
    made.store.locator.set("empty", generation=2, add=[f"z={AZURE}"])
    with pytest.raises(ProofRequired, match="holds no record") as refused:
        made.store.catch_up("empty", domain=AZURE)
    assert "--allow-empty" in str(refused.value.hint)
    state = {item["domain"]: item["state"] for item in made.store.locator.show("empty").body["replicas"]}
    assert state[AZURE] == "catching_up"
    proof = made.store.catch_up("empty", domain=AZURE, allow_empty=True)
    assert (proof.count, proof.through, proof.promoted) == (0, -1, True)
    assert made.store.catch_up("empty", domain=AZURE, allow_empty=True).proof == proof.proof
    assert shift(made, proof.proof, queue="empty").changed


def test_the_proof_of_a_trimmed_queue_begins_at_its_floor(made: World) -> None:
    made.store.queues.create("short", replicas=[f"a={AWS}", f"g={GCP}"], allow=["**"], retain_bytes=200)
    made.store.consumers.create("short", G, allow=["aws"])
    for number in range(10):
        made.store.publish("short", bytes([number]) * 100, domain=AWS)
        polled = made.store.poll("short", G, domain=AWS)
        made.store.ack("short", G, [record.offset for record in polled.records], domain=AWS)
    made.store.locator.set("short", generation=2, add=[f"z={AZURE}"])
    proof = made.store.catch_up("short", domain=AZURE)
    shown = made.store.queues.show("short").body
    assert shown["first_offset"] > 0
    assert (proof.first_offset, proof.through, proof.count) == (shown["first_offset"], 9, 10 - shown["first_offset"])
    kept = made.store.peek("short", domain=AZURE).body["records"]
    assert [record.offset for record in kept] == list(range(shown["first_offset"], 10))


def test_a_group_begins_where_its_lineage_has_finished(made: World) -> None:
    token = made.store.poll(Q, G, domain=AWS, max=2).lease
    made.store.ack(Q, G, [0, 1], domain=AWS, lease=token)
    moved = shift(made, made.store.catch_up(Q, domain=AZURE).proof)
    assert moved.as_json()["start"] == 2
    with made.reopened() as other:
        shown = other.consumers.show(Q, SHIFTED).as_json()
        assert (shown["cursor"], shown["ack_floor"]) == (2, 2)
        assert [record.offset for record in other.poll(Q, SHIFTED, domain=AZURE).records] == [2]
