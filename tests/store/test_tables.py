"""A table in a whole store: proofs of its copies, verify, backup and restore, and what its log keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl import client
from grafctl.errors import DomainUnavailable, GenerationConflict, ProofRequired
from grafctl.making import restore
from grafctl.store import keys, vshard_keys
from grafctl.store.keys import U64
from grafctl.store.operations.tables import Item
from grafctl.store.records import decode_row, encode_row
from grafctl.store.vshards import vshard_of
from store.world import World, world

AWS, GCP, AZURE = "aws/us-east-1", "gcp/us-central1", "azure/eastus"
T, VSHARDS, KEY = "accounts", 4, b"key-7"


@pytest.fixture(params=["memory", "lmdb"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "store", [AWS, GCP, AZURE], request.param) as here:
        here.observe(AZURE)
        here.store.tables.create(T, replicas=[f"a={AWS}", f"g={GCP}"], allow=["**"], vshards=VSHARDS)
        put(here, range(50))
        yield here


def put(here: World, numbers: range, value: str = "v") -> None:
    items = [Item(b"key-%d" % number, f"{value}{number}".encode()) for number in numbers]
    here.store.tables.put_many(T, items, domain=AWS)


def content(here: World, domain: str = AWS) -> dict[bytes, tuple[bytes, int]]:
    return {row.key: (row.value, row.version) for row in here.store.tables.scan(T, domain=domain)}


def rewrite(here: World, domain: str, row: bytes, change: Callable[[bytes], bytes | None]) -> None:
    """Changes a row's body behind the store's back; its checksum is right."""
    key = keys.state(here.log_id(T), row)
    with here.store.session.cluster.environment(domain).write(wait_s=1) as batch:
        body = change(decode_row(batch.get(key) or b"", "row", key))
        if body is None:
            batch.delete(key)
        else:
            batch.put(key, encode_row(body, key))


# --- proofs


def test_a_proof_covers_every_key(made: World) -> None:
    made.store.locator.set(T, generation=2, add=[f"z={AZURE}"])
    proof = made.store.catch_up(T, domain=AZURE)
    assert (proof.count, proof.through, proof.match, proof.promoted) == (50, 49, True, True)
    assert proof.covers == ["keys", "vshards", "migrations"]
    assert made.store.catch_up(T, domain=AZURE).proof == proof.proof
    made.store.domains.fail(AWS)
    assert len(content(made, AZURE)) == 50


VERSION_OF: dict[str, Callable[[bytes], bytes | None]] = {
    "value": lambda body: body[:-1] + b"x",
    "version": lambda body: U64.pack(U64.unpack_from(body)[0] - 1) + body[8:],
    "longer": lambda body: body + b"x",
    "gone": lambda body: None,
}


@pytest.mark.parametrize("what", VERSION_OF)
def test_a_wrong_byte_of_a_row_fails_the_proof(made: World, what: str) -> None:
    made.store.locator.set(T, generation=2, add=[f"z={AZURE}"])
    made.store.catch_up(T, domain=AZURE)
    rewrite(made, AZURE, vshard_keys.table_row(vshard_of(KEY, VSHARDS), KEY), VERSION_OF[what])
    with pytest.raises(ProofRequired, match="keys differ"):
        made.store.catch_up(T, domain=AZURE)


def test_a_wrong_byte_of_a_vshard_or_a_checksum_fails_the_proof(made: World) -> None:
    made.store.locator.set(T, generation=2, add=[f"z={AZURE}"])
    made.store.catch_up(T, domain=AZURE)
    rewrite(made, AZURE, vshard_keys.vshard(1), lambda body: body.replace(b'"generation":1', b'"generation":2'))
    with pytest.raises(ProofRequired, match="vshards differ"):
        made.store.catch_up(T, domain=AZURE)
    key = keys.state(made.log_id(T), vshard_keys.table_row(vshard_of(KEY, VSHARDS), KEY))
    with made.store.session.cluster.environment(AZURE).write(wait_s=1) as batch:
        raw = batch.get(key) or b""
        batch.put(key, raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(ProofRequired):
        made.store.catch_up(T, domain=AZURE)


def test_an_empty_table_proves_nothing(made: World) -> None:
    made.store.tables.create("empty", replicas=[f"a={AWS}", f"g={GCP}"], allow=["**"])
    made.store.locator.set("empty", generation=2, add=[f"z={AZURE}"])
    with pytest.raises(ProofRequired, match="holds no key"):
        made.store.catch_up("empty", domain=AZURE)
    assert made.store.catch_up("empty", domain=AZURE, allow_empty=True).promoted


# --- verify


def test_verify_finds_what_is_wrong_in_every_domain_alike(made: World) -> None:
    assert list(made.store.verify()) == []
    for domain in (AWS, GCP):
        rewrite(made, domain, vshard_keys.vshard(1), lambda body: body.replace(b'"records":', b'"records":9'))
    found = [finding for finding in made.store.verify() if "vshard 1 holds" in finding.problem]
    assert {(finding.resource, finding.domain) for finding in found} == {(T, AWS), (T, GCP)}


@pytest.mark.parametrize("made", ["memory"], indirect=True)  # the other marks the domain as damaged
def test_verify_finds_a_vshard_that_nobody_owns(made: World) -> None:
    for domain in (AWS, GCP):
        made.observe(domain)
    made.store.tables.put(T, KEY, "x", domain=AWS)
    number = vshard_of(KEY, VSHARDS)
    made.store.vshards.migrate(T, [number], to=[AZURE], domain=AWS, budget_us=60_000_000)
    assert list(made.store.verify()) == []
    log = made.store.session.resource(f"{T}.part-1").id
    key = keys.state(log, vshard_keys.vshard(number))
    with made.store.session.cluster.environment(AZURE).write(wait_s=1) as batch:
        body = decode_row(batch.get(key) or b"", "row", key)
        other = body.replace(b'"state":"open"', b'"state":"moved","to":"accounts","token":1')
        batch.put(key, encode_row(other, key))
    problems = [finding.problem for finding in made.store.verify()]
    assert f"vshard {number} is owned by none of its logs" in problems


def test_status_counts_the_keys_of_each_log(made: World) -> None:
    (shown,) = made.store.status().fields()["resources"]
    assert (shown["kind"], shown["records"]) == ("table", 50)
    assert shown["bytes"] == made.store.tables.count(T).body["bytes"]


# --- backup, restore, locators


@pytest.mark.parametrize("made", ["lmdb"], indirect=True)  # because a restored store is one of files
def test_a_table_goes_through_a_backup_with_its_versions(made: World, tmp_path: Path) -> None:
    made.store.tables.delete(T, KEY, domain=AWS)
    before = content(made)
    saved = made.store.backup(tmp_path / "one")
    restore(saved.file, tmp_path / "two")
    with client.open(tmp_path / "two") as again:
        rows = {row.key: (row.value, row.version) for row in again.tables.scan(T, domain=AWS)}
        assert rows == before and list(again.verify()) == []
        assert again.tables.put(T, KEY, "new", domain=AWS, expect=0).changed


def test_who_is_not_in_the_placement_any_more_is_refused(made: World) -> None:
    made.store.placement.set(T, allow=["aws"])
    refusals: list[Callable[[], Any]] = [
        lambda: made.store.tables.put(T, "k", "v", domain=GCP),
        lambda: made.store.tables.get(T, "k", domain=GCP),
        lambda: made.store.tables.delete(T, "k", domain=GCP),
        lambda: list(made.store.tables.scan(T, domain=GCP)),
    ]
    before = len(made.audit_records())
    for refused in refusals:
        with pytest.raises(DomainUnavailable, match="does not allow it"):
            refused()
    assert [record["op"] for record in made.audit_records()[before:]] == ["put", "get", "delete", "scan"]
    with pytest.raises(GenerationConflict):  # no refusal to be audited
        made.store.tables.put(T, KEY, "v", domain=AWS, expect=7)
    assert len(made.audit_records()) == before + 4
