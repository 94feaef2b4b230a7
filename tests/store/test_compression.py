"""Queues whose records rest compressed: every reader sees the same records, and another domain the same bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from grafctl.errors import GenerationConflict, IdempotencyConflict, Usage
from grafctl.store import blocks, keys
from grafctl.store.blocks import Outgoing
from grafctl.store.records import decode_entry
from store.world import World, world

AWS, GCP, AZURE = "aws/us-east-1", "gcp/us-central1", "azure/eastus"
Q, G = "orders", "workers"
REPLICAS = [f"a={AWS}", f"g={GCP}"]
BATCH = [json.dumps({"order": number, "status": "created"}).encode() for number in range(100)]
WITH_IDS = [Outgoing(b"paid " * 20, f"order-{number}", "key", {"h": "v"}) for number in range(50)]
NOISE = [random.Random(number).randbytes(500) for number in range(3)]


@pytest.fixture(params=["memory", "lmdb"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "store", [AWS, GCP, AZURE], request.param) as here:
        here.store.queues.create(Q, replicas=REPLICAS, allow=["**"], compression="zstd")
        here.store.consumers.create(Q, G, allow=["aws", "gcp", "azure"], max_deliveries=1)
        yield here


def fill(here: World) -> list[bytes]:
    """Publishes blocks that rest compressed and some that do not; returns all payloads."""
    here.store.publish_batch(Q, BATCH, domain=AWS)
    here.store.publish_batch(Q, NOISE, domain=AWS)
    here.store.publish_batch(Q, WITH_IDS, domain=GCP)
    here.store.session.compressions[Q] = blocks.NONE  # as a process that knows better, or worse, would
    here.store.publish_batch(Q, BATCH, domain=AWS)
    return [*BATCH, *NOISE, *(record.payload for record in WITH_IDS), *BATCH]


def flags(here: World) -> list[int]:
    """Returns the flags of every block of the queue."""
    log = here.store.session.resource(Q)
    with log.view() as committed:
        rows = committed.view.scan(*keys.entries(log.id, 0, committed.upto))
        return [entry.block[1] for _, raw in rows if (entry := decode_entry(raw, "entry")).block]


def test_blocks_of_both_kinds_stand_in_one_queue(made: World) -> None:
    payloads = fill(made)
    assert flags(made) == [blocks.COMPRESSED, 0, blocks.COMPRESSED | 7, 0]
    seen = made.store.peek(Q, domain=GCP, max=1000).body["records"]
    assert [record.payload for record in seen] == payloads
    assert [record.id for record in seen[103:153]] == [record.id for record in WITH_IDS]
    assert (seen[103].key, seen[103].headers) == ("key", {"h": "v"})
    polled = made.store.poll(Q, G, domain=AWS, max=1000)
    assert [record.payload for record in polled.records] == payloads
    assert list(made.store.verify()) == []


def test_another_process_reads_and_writes_it_compressed(made: World) -> None:
    with made.reopened() as other:
        other.publish_batch(Q, BATCH, domain=AWS)
        list(other.publish_stream(Q, [BATCH, BATCH], domain=AWS))
    assert flags(made) == [blocks.COMPRESSED] * 3
    assert made.store.queues.show(Q).body["bytes"] < sum(map(len, BATCH))


def test_ids_of_compressed_blocks_are_known(made: World) -> None:
    fill(made)
    assert made.store.publish_batch(Q, WITH_IDS, domain=AWS).replayed
    some_new = [*WITH_IDS, *(record._replace(id=f"new-{record.id}") for record in WITH_IDS)]
    assert made.store.publish_batch(Q, some_new, domain=AWS).offsets is not None
    with pytest.raises(IdempotencyConflict):
        made.store.publish(Q, b"other", id="order-7", domain=AWS)
    assert flags(made)[-1] & blocks.COMPRESSED


def test_a_dead_letter_of_a_compressed_block_is_read_and_comes_again(made: World) -> None:
    fill(made)
    polled = made.store.poll(Q, G, domain=AWS, max=1)
    made.store.nack(Q, G, [0], domain=AWS, lease=polled.lease)
    assert made.store.poll(Q, G, domain=AWS, max=1).records[0].offset == 1
    (dead,) = made.store.dead.list(Q, G).items
    assert dead["offset"] == 0
    made.store.dead.redrive(Q, G)
    again = made.store.poll(Q, G, domain=AWS, max=1000)
    assert BATCH[0] in [record.payload for record in again.records]


def test_a_new_domain_proves_the_same_bytes(made: World) -> None:
    payloads = fill(made)
    made.observe(AZURE)
    made.store.locator.set(Q, generation=2, add=[f"z={AZURE}"])
    proof = made.store.catch_up(Q, domain=AZURE)
    assert (proof.match, proof.count, proof.source_digest) == (True, len(payloads), proof.target_digest)
    assert [record.payload for record in made.store.peek(Q, domain=AZURE, max=1000).body["records"]] == payloads
    log = made.store.session.resource(Q)
    rows = made.dump()
    entries = {
        domain: {key: raw for key, raw in rows[domain].items() if key[:9] == keys.entry(log.id, 0)[:9]}
        for domain in (AWS, AZURE)
    }
    assert len(entries[AZURE]) > 4 and entries[AZURE].items() <= entries[AWS].items()


def test_the_choice_is_shown_and_holds(made: World) -> None:
    assert made.store.queues.show(Q).body["compression"] == "zstd"
    made.store.queues.create("plain", replicas=REPLICAS, allow=["**"])
    assert made.store.queues.show("plain").body["compression"] == "none"
    made.store.publish_batch("plain", BATCH, domain=AWS)
    assert made.store.queues.show("plain").body["bytes"] > sum(map(len, BATCH))
    assert not made.store.queues.create(Q, replicas=REPLICAS, allow=["**"], compression="zstd").changed
    with pytest.raises(GenerationConflict):
        made.store.queues.create(Q, replicas=REPLICAS, allow=["**"])


@pytest.mark.parametrize("name", ["", "ZSTD", "zlib", "gzip", "\x1b[31m"])
def test_an_unknown_compression_is_refused(made: World, name: str) -> None:
    with pytest.raises(Usage, match="is no compression") as refused:
        made.store.queues.create("other", replicas=REPLICAS, compression=name)
    assert refused.value.exit_code == 2 and refused.value.hint == "Take none or zstd."
    assert "\x1b" not in refused.value.message
    assert [item["resource"] for item in made.store.queues.list().items] == [Q]
