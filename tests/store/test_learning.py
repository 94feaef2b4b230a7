"""A new domain's copy of a long log: read and checked on both sides while it is made, by one call at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import Corrupt, DomainUnavailable, GrafctlError, ProofRequired
from grafctl.store import keys, learn
from grafctl.store.driver.contract import Identity
from grafctl.store.operations import catch_up, proving
from grafctl.store.operations.repair import FORGOTTEN
from grafctl.store.reading import BlockRef
from grafctl.store.records import (
    HeadRow,
    decode_entry,
    decode_row,
    encode_head,
    encode_json,
    encode_row,
    make_entry,
    parse_json,
)
from grafctl.store.replica.replica import Replica
from grafctl.store.resources.queue import Publish
from grafctl.store.resources.together import Together
from grafctl.store.rules import EMPTY_HEAD
from store.world import World, world

AWS, GCP, AZURE = "aws/us-east-1", "gcp/us-central1", "azure/eastus"
Q = "orders"
BATCHES = 8
PER_BATCH = 5


@pytest.fixture(params=["memory", "lmdb"])
def made(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A queue of several chunks in two domains, and a third that its locator names."""
    monkeypatch.setattr(learn, "CHUNK_BYTES", 4_000)  # two or three of the entries below
    with world(tmp_path / "store", [AWS, GCP, AZURE], request.param) as here:
        here.observe(AZURE)
        here.store.queues.create(Q, replicas=[f"a={AWS}", f"g={GCP}"], allow=["**"])
        for number in range(BATCHES):
            here.store.publish_batch(Q, [bytes([number]) * 300] * PER_BATCH, domain=AWS)
        here.store.locator.set(Q, generation=2, add=[f"z={AZURE}"])
        yield here


def flip(here: World, domain: str, batch: int) -> None:
    """Changes a bit in the last record of a batch where it rests."""
    log = here.log_id(Q)
    cluster = here.store.session.cluster
    place = cluster.place(domain)
    environment = here.driver.open(place.path, Identity(cluster.store, domain, place.incarnation))
    try:
        with environment.write(wait_s=5) as target:
            for key, raw in list(target.scan(*keys.entries(log, 0, keys.U64_MAX))):
                if raw.endswith(bytes([batch]) * 300):
                    target.put(key, raw[:-1] + bytes([raw[-1] ^ 16]))
    finally:
        environment.close()


def replace(here: World, domain: str, batch: int) -> None:
    """Puts an entry where a batch rests that is right in itself and follows another one."""
    log = here.log_id(Q)
    cluster = here.store.session.cluster
    with cluster.environment(domain).write(wait_s=5) as target:
        for key, raw in list(target.scan(*keys.entries(log, 0, keys.U64_MAX))):
            if raw.endswith(bytes([batch]) * 300):
                entry = decode_entry(raw, "entry")
                other, _ = make_entry(
                    b"another chain".ljust(32), entry.kind, entry.term, entry.stamped_ms, entry.operation, entry.meta,
                    entry.block, entry.block_digest,
                )  # fmt: skip
                target.put(key, other)


def state(here: World) -> str:
    replicas = here.store.locator.show(Q).body["replicas"]
    return str(next(item["state"] for item in replicas if item["domain"] == AZURE))


def absolve(here: World) -> None:
    """Lets domains in which damage was found be read again."""
    for domain in here.store.session.cluster.domains:
        (here.store.session.cluster.place(domain).path / "env" / "DAMAGED").unlink(missing_ok=True)


class Seen:
    """What a catch-up says of its progress, and what happens at one of its steps."""

    def __init__(self, step: str, number: int, action: Any) -> None:
        self.steps: list[str] = []
        self._step, self._number, self._action = step, number, action

    def __call__(self, step: str, done: int, total: int) -> None:
        self.steps.append(step)
        if step == self._step and self.steps.count(step) == self._number:
            self._action()


def test_a_log_of_many_bytes_is_learnt_in_chunks(made: World) -> None:
    seen = Seen("entries", 0, None)
    proof = made.store.catch_up(Q, domain=AZURE, progress=seen)
    assert seen.steps.count("entries") > 3
    assert (proof.count, proof.match, proof.source_digest) == (BATCHES * PER_BATCH, True, proof.target_digest)
    assert proof.proof == made.store.catch_up(Q, domain=AZURE).proof, "read anew, the same content"
    assert [record.payload[0] for record in made.store.peek(Q, domain=AZURE, max=100).body["records"]] == [
        number for number in range(BATCHES) for _ in range(PER_BATCH)
    ]
    assert list(made.store.verify()) == []


def test_blocks_that_were_read_on_the_way_are_not_read_again(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    whole = proving._digest

    def noted(side: proving.Side, ref: BlockRef) -> bytes:
        read.append(side.domain)
        return whole(side, ref)

    monkeypatch.setattr(proving, "_digest", noted)
    made.store.catch_up(Q, domain=AZURE)
    assert read == []
    made.store.publish_batch(Q, [b"later"], domain=AWS)
    made.store.catch_up(Q, domain=AZURE)  # nothing was learnt this time
    assert sorted(read) == sorted([AWS, AZURE] * (BATCHES + 1))


def test_an_entry_that_many_share_is_proven_where_it_was_learnt(made: World) -> None:
    """Its meta is longer than that of others."""
    shared = Together([Publish(Q, [b"%d" % number], AWS) for number in range(999)])
    shared.prepare()
    made.store.session.resource(Q).append(shared)
    proof = made.store.catch_up(Q, domain=AZURE)
    assert proof.match and proof.count == BATCHES * PER_BATCH + 999


def test_what_was_read_in_an_earlier_incarnation_is_read_again(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    whole, learnt = proving._digest, learn.learn

    def noted(side: proving.Side, ref: BlockRef) -> bytes:
        read.append(side.domain)
        return whole(side, ref)

    def remade(*args: Any, **options: Any) -> list[learn.Checked]:
        """As if the new domain had been made anew right after the copy."""
        found = learnt(*args, **options)
        return [item._replace(incarnation="inc_old") if item.domain == AZURE else item for item in found]

    monkeypatch.setattr(proving, "_digest", noted)
    monkeypatch.setattr(catch_up, "learn", remade)
    assert made.store.catch_up(Q, domain=AZURE).match
    assert read == [AZURE] * BATCHES


@pytest.mark.parametrize("is_read_anew", [False, True])
def test_a_row_that_claims_more_records_than_its_block_holds_is_found(made: World, is_read_anew: bool) -> None:
    log = made.log_id(Q)
    if is_read_anew:
        made.store.catch_up(Q, domain=AZURE)
    for domain in (AWS, GCP, AZURE) if is_read_anew else (AWS, GCP):
        with made.store.session.cluster.environment(domain).write(wait_s=5) as target:
            key = keys.state(log, keys.block(PER_BATCH))
            row = parse_json(decode_row(target.get(key) or b"", "row", key))
            target.put(key, encode_row(encode_json(row | {"count": PER_BATCH + 1}), key))
    with pytest.raises(Corrupt, match="does not hold the block"):
        made.store.catch_up(Q, domain=AZURE)


@pytest.mark.parametrize("batch", [0, 4, BATCHES - 1])
def test_a_wrong_byte_in_the_source_is_not_copied(made: World, batch: int) -> None:
    for domain in (AWS, GCP):
        flip(made, domain, batch)
    with pytest.raises(GrafctlError):
        made.store.catch_up(Q, domain=AZURE)
    absolve(made)
    assert state(made) == "catching_up"
    absolve(made)
    wrong = bytes([batch]) * 299 + bytes([batch ^ 16])
    assert not any(raw.endswith(wrong) for raw in made.dump()[AZURE].values())


def test_an_entry_of_another_log_in_the_source_is_not_copied(made: World) -> None:
    for domain in (AWS, GCP):
        replace(made, domain, 4)
    with pytest.raises(GrafctlError, match="does not follow"):
        made.store.catch_up(Q, domain=AZURE)
    assert state(made) == "catching_up"


@pytest.mark.parametrize("number", [1, 2])
def test_a_chunk_that_was_written_wrongly_is_found(made: World, number: int) -> None:
    """Changed as soon as it is committed, as a disk would that lies; the copy that is at hand has the right bytes."""
    broken: list[int] = []

    def lie() -> None:
        rows = made.dump()[AZURE]
        log = made.log_id(Q)
        last = max(raw[-1] for key, raw in rows.items() if key[:9] == keys.entry(log, 0)[:9] and len(raw) > 1500)
        broken.append(last)
        flip(made, AZURE, last)

    with pytest.raises(ProofRequired) as refused:
        made.store.catch_up(Q, domain=AZURE, progress=Seen("entries", number, lie))
    assert refused.value.fields["first_difference"] == broken[0] * PER_BATCH
    assert state(made) == "catching_up"


def test_a_row_that_was_written_wrongly_is_found(made: World) -> None:
    def lie() -> None:
        cluster = made.store.session.cluster
        log = made.log_id(Q)
        with cluster.environment(AZURE).write(wait_s=5) as target:
            target.delete(keys.state(log, keys.block(PER_BATCH)))

    with pytest.raises(ProofRequired):
        made.store.catch_up(Q, domain=AZURE, progress=Seen("state", 1, lie))
    assert state(made) == "catching_up"


def test_an_interrupted_copy_goes_on_where_it_was(made: World) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.store.catch_up(Q, domain=AZURE, progress=Seen("entries", 2, interrupt))
    seen = Seen("entries", 0, None)
    assert made.store.catch_up(Q, domain=AZURE, progress=seen).match
    whole = Seen("entries", 0, None)
    made.store.locator.set(Q, generation=3, remove=["z"])
    made.store.domains.remove(AZURE)
    made.store.domains.add("azure/westus")
    made.observe("azure/westus")
    made.store.locator.set(Q, generation=4, add=["y=azure/westus"])
    assert made.store.catch_up(Q, domain="azure/westus", progress=whole).match
    assert seen.steps.count("entries") == whole.steps.count("entries") - 2


def test_two_catch_ups_of_one_domain_do_not_undo_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second would finish and vote, and the first then take its replica back to where itself was."""
    monkeypatch.setattr(learn, "CHUNK_BYTES", 4_000)
    with world(tmp_path / "store", [AWS, GCP, AZURE], "lmdb") as here:
        here.observe(AZURE)
        here.store.queues.create(Q, replicas=[f"a={AWS}", f"g={GCP}"], allow=["**"])
        for number in range(BATCHES):
            here.store.publish_batch(Q, [bytes([number]) * 300] * PER_BATCH, domain=AWS)
        here.store.locator.set(Q, generation=2, add=[f"z={AZURE}"])
        second: list[Any] = []

        def another() -> None:
            with here.reopened() as other:
                try:
                    other.catch_up(Q, domain=AZURE)
                    second.append("done")
                    other.publish(Q, b"acknowledged", domain=AWS)
                except DomainUnavailable as error:
                    second.append(error)

        proof = here.store.catch_up(Q, domain=AZURE, progress=Seen("entries", 2, another))
        assert proof.match and list(here.store.verify()) == []
        assert isinstance(second[0], DomainUnavailable) and "another catch-up" in second[0].message
        assert second[0].reason == "unreachable" and not list(here.directory.rglob("learn-*"))
        assert here.store.catch_up(Q, domain=AZURE).match


def test_what_somebody_else_has_finished_meanwhile_is_left_alone(made: World) -> None:
    log = made.store.session.resource(Q)
    made.store.catch_up(Q, domain=AZURE)
    made.store.publish(Q, b"acknowledged", domain=AWS)
    before = made.dump()
    assert learn.learn(log, AZURE) == []  # as one would that had looked before that
    assert made.dump() == before


def entries_at(here: World, domain: str) -> list[int]:
    log = here.log_id(Q)
    with here.store.session.cluster.environment(domain).read() as view:
        return [keys.parse_index(key) for key, _ in view.scan(*keys.entries(log, 0, keys.U64_MAX))]


def test_what_is_to_be_forgotten_is_wiped_again_where_a_copy_died_before_its_first_entry(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was an error that the next call took the mark of the dead one for a copy, and kept what it had not wiped."""
    made.store.catch_up(Q, domain=AZURE)
    log = made.store.session.resource(Q)
    right = entries_at(made, AWS)
    with log.cluster.environment(AZURE).write(wait_s=5) as target:
        last = target.get(keys.entry(log.id, right[-1]))
        assert last is not None
        for index in range(right[-1] + 1, right[-1] + 4):  # a tail of its own, which `domain repair` makes it forget
            target.put(keys.entry(log.id, index), last)
        head = EMPTY_HEAD._replace(promised=Replica(target, log.id, AZURE).row.head.promised, learning=True)
        target.put(keys.head(log.id), encode_head(HeadRow(head, 0, FORGOTTEN, FORGOTTEN)))

    def dies(name: str) -> None:
        if name == "learn.after":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(learn, "point", dies)
        learn.learn(log, AZURE)
    assert len(entries_at(made, AZURE)) == len(right) + 3, "it is marked, and nothing was wiped yet"
    learn.learn(log, AZURE)
    assert entries_at(made, AZURE) == right
    assert list(made.store.verify()) == []
