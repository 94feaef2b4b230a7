"""A table in a whole store: proofs of its copies, verify, backup and restore, and what its log keeps."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl import client
from grafctl.errors import DomainUnavailable, Fenced, GenerationConflict, GrafctlError, ProofRequired, Usage
from grafctl.making import restore
from grafctl.nouns.queues import parse_placement
from grafctl.store import keys, vshard_keys
from grafctl.store.keys import U64
from grafctl.store.operations.tables import Item
from grafctl.store.records import decode_row, encode_row
from grafctl.store.resources import table_check
from grafctl.store.resources.membership import Fence, SetPlacement
from grafctl.store.vshards import vshard_of
from store.world import World, world

AWS, GCP, AZURE = "aws/us-east-1", "gcp/us-central1", "azure/eastus"
T, PART, VSHARDS, KEY = "accounts", "accounts.part-1", 4, b"key-7"


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


# --- a table and its parts


@pytest.fixture
def parted(made: World) -> World:
    """The same table, with the vshard of `KEY` in a part in azure."""
    for domain in (AWS, GCP):
        made.observe(domain)
    vshards = [vshard_of(KEY, VSHARDS)]
    made.store.vshards.migrate(T, vshards, to=[AZURE], domain=AWS, budget_us=60_000_000)
    return made


def test_a_placement_and_an_epoch_are_of_all_parts(parted: World) -> None:
    store = parted.store
    before = store.placement.show(T).body["digest"]
    assert store.placement.set(T, allow=["aws", "azure"], expect=before, dry_run=True).changed
    assert store.placement.show(PART).body["digest"] == before
    assert store.placement.set(T, allow=["aws", "azure"], expect=before).changed
    assert not store.placement.set(T, allow=["aws", "azure"], expect=before).changed
    assert store.fence(T, epoch=3).changed and not store.fence(T, epoch=3).changed
    for name in (T, PART):
        assert store.placement.show(name).body["placement"] == {"allow": ["aws", "azure"]}
        assert store.placement.show(name).body["epoch"] == 3
    for key in (KEY, next(b"%d" % n for n in range(99) if vshard_of(b"%d" % n, VSHARDS) != vshard_of(KEY, VSHARDS))):
        with pytest.raises(DomainUnavailable):
            store.tables.put(T, key, "x", domain=GCP)
        with pytest.raises(Fenced):
            store.tables.put(T, key, "x", domain=AWS, epoch=2)
        assert store.tables.put(T, key, "x", domain=AWS, epoch=3).changed
    assert list(store.verify()) == []


def test_what_one_log_refuses_or_cannot_do_changes_no_other_and_goes_on_later(parted: World) -> None:
    store = parted.store
    digest = store.placement.show(T).body["digest"]
    with pytest.raises(GenerationConflict):
        store.placement.set(T, allow=["aws"], expect="pl_other")
    store.domains.fail(AZURE)
    for change in (lambda: store.placement.set(T, allow=["aws"], expect=digest), lambda: store.fence(T, epoch=2)):
        with pytest.raises(GrafctlError) as refused:
            change()
        assert refused.value.exit_code == 21
    store.domains.restore(AZURE)
    assert store.placement.show(T).body["digest"] == store.placement.show(PART).body["digest"] == digest
    store.session.resource(PART).append(SetPlacement(PART, None, parse_placement(["aws"], []), None))
    store.session.resource(PART).append(Fence(PART, None, 2))
    problems = [finding.problem for finding in store.verify()]  # as if the command had died behind the part
    assert len(problems) == 2 and all("was cut short" in problem for problem in problems)
    assert store.placement.set(T, allow=["aws"], expect=digest).changed and store.fence(T, epoch=2).changed
    assert list(store.verify()) == []


def test_a_part_has_no_placement_or_epoch_of_its_own(parted: World) -> None:
    for refused in (
        lambda: parted.store.placement.set(PART, allow=["aws"]),
        lambda: parted.store.fence(PART, epoch=9),
    ):
        with pytest.raises(Usage, match="part of the table accounts"):
            refused()
    assert parted.store.policy.set(PART, ack="all").changed


@pytest.mark.parametrize("made", ["lmdb"], indirect=True)  # because a domain is lost with its files
@pytest.mark.parametrize("lost", [GCP, AZURE])
def test_a_domain_that_is_lost_comes_back_with_its_keys(made: World, lost: str) -> None:
    store = made.store
    made.observe(AWS)
    made.observe(GCP)
    store.locator.set(T, generation=2, add=[f"z={AZURE}"])
    store.catch_up(T, domain=AZURE)
    number = vshard_of(KEY, VSHARDS)
    store.vshards.migrate(T, [number], to=[GCP, AZURE], domain=AWS, budget_us=60_000_000)
    put(made, range(20), "later")
    before = content(made)
    place = store.session.cluster.place(lost).path
    store.session.cluster._open.pop(lost).close()
    shutil.rmtree(place)
    assert store.domains.repair(lost, lost=True).changed
    assert content(made) == before and list(store.verify()) == []
    with pytest.raises(GenerationConflict):  # its replicas of the table and of its part are there
        store.domains.remove(lost)
    store.domains.fail(AWS)
    with store.session.state(T) as state:  # the home's two other voters have all of it
        assert list(table_check.problems(state)) == []
