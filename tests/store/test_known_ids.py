"""The index of ids in a whole store: the same in every domain, exact from a domain that learned it, and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grafctl import Outgoing
from grafctl.errors import NoQuorum
from grafctl.store import keys
from grafctl.store.records import decode_row, encode_row
from grafctl.store.replica.replica import Draft, Writer
from grafctl.store.requests import Context
from grafctl.store.resources import id_filters
from grafctl.store.resources.id_filters import Filters
from grafctl.store.resources.ids import RECORD_BYTES
from grafctl.store.resources.queue import Publish
from store.world import World, world

AWS, GCP, AZURE = "aws/us-east-1", "gcp/us-east1", "azure/eastus"
Q = "orders"
BATCH, BATCHES = 300, 9


def records(start: int, stop: int) -> list[Outgoing]:
    return [Outgoing(b"payload %d" % number, f"id-{number}", line=number) for number in range(start, stop)]


@pytest.fixture(params=["memory", "lmdb"])
def here(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A queue with some thousand ids in two domains, in runs that were merged."""
    monkeypatch.setattr(id_filters, "FILTERS", Filters())
    with world(tmp_path / "store", [AWS, GCP, AZURE], request.param) as made:
        made.store.queues.create(Q, replicas=[f"a={AWS}", f"g={GCP}"], allow=["**"])
        for batch in range(BATCHES):
            made.store.publish_batch(Q, records(batch * BATCH, (batch + 1) * BATCH), domain=AWS)
        yield made


def index_rows(made: World, domain: str) -> dict[bytes, bytes]:
    start, stop = (keys.state(made.log_id(Q), bound) for bound in keys.ids())
    return {key: raw for key, raw in made.dump()[domain].items() if start <= key < stop}


def rewrite(made: World, domain: str, span: tuple[bytes, bytes], change: Callable[[bytes], bytes]) -> None:
    """Changes the first row of a range in one domain."""
    state = keys.state(made.log_id(Q), b"")
    with made.store.session.cluster.environment(domain).write(wait_s=1) as batch:
        key, raw = next(iter(batch.scan(state + span[0], state + span[1])))
        batch.put(key, change(raw))


def is_known(made: World, domain: str, *, stop: int = BATCH * BATCHES) -> bool:
    """Returns whether another process in this domain is told of each id that it was published before."""
    with made.reopened() as other:
        ack = other.publish_batch(Q, records(0, stop), domain=domain)
    return ack.replayed and (ack.offset, ack.count, ack.offsets) == (0, stop, None)


def test_every_domain_holds_the_same_index(here: World) -> None:
    rows = index_rows(here, AWS)
    assert rows == index_rows(here, GCP) and len(rows) > BATCHES
    assert is_known(here, AWS) and is_known(here, GCP)
    assert here.store.publish(Q, b"payload 5", id="id-5", domain=GCP).replayed


def test_a_domain_that_learned_the_index_answers_from_it(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    here.observe(AZURE)
    here.store.locator.set(Q, generation=2, add=[f"z={AZURE}"])
    assert here.store.catch_up(Q, domain=AZURE).match
    assert index_rows(here, AZURE) == index_rows(here, AWS)
    monkeypatch.setattr(id_filters, "FILTERS", Filters())
    here.store.domains.fail(AWS)
    assert is_known(here, AZURE)
    here.store.domains.restore(AWS)
    here.store.publish_batch(Q, records(BATCH * BATCHES, BATCH * BATCHES + 500), domain=AZURE)
    assert is_known(here, AWS, stop=BATCH * BATCHES + 500)
    assert [finding.problem for finding in here.store.verify()] == []


@pytest.mark.parametrize(
    "span", [keys.id_items_of(0, None), keys.id_filters_of(0), keys.id_records_from(0)], ids=["items", "filter", "ids"]
)
def test_a_flipped_bit_is_never_an_answer(
    here: World, span: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The damaged copy is left; one copy alone is no quorum."""
    first = min(int.from_bytes(key[13:21], "big") for key in index_rows(here, AWS) if key[11:13] == b"IR")
    if span == keys.id_filters_of(0):
        span = keys.id_filters_of(first)
    elif span != keys.id_records_from(0):
        span = keys.id_items_of(first)
    rewrite(here, AWS, span, lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]))
    monkeypatch.setattr(id_filters, "FILTERS", Filters())
    with here.reopened() as other, pytest.raises(NoQuorum):
        other.publish_batch(Q, records(0, BATCH * BATCHES), domain=AWS, timeout_s=5)
    assert any(finding.domain == AWS for finding in here.store.verify())


def test_verify_finds_an_index_that_has_lost_an_id_under_a_good_checksum(here: World) -> None:
    key = keys.state(here.log_id(Q), keys.id_records(0))
    rewrite(
        here,
        GCP,
        keys.id_records_from(0),
        lambda raw: encode_row(bytes(40) + decode_row(raw, "ids", key)[RECORD_BYTES:], key),
    )
    problems = [finding.problem for finding in here.store.verify() if finding.domain == GCP]
    assert any("records, or others than these" in problem for problem in problems), problems


def test_entries_that_are_cut_take_their_ids_with_them(here: World) -> None:
    """The pre-images of each entry give back the index as it was, byte by byte, merges and all."""
    log, environment = here.store.session.resource(Q), here.store.session.cluster.environment(AWS)
    before, count = index_rows(here, AWS), BATCH * BATCHES
    with environment.write(wait_s=1) as batch:
        tail = Writer(batch, log.id, AWS, log.apply).row.head.tail
    for number in range(6):
        with environment.write(wait_s=1) as batch:
            writer = Writer(batch, log.id, AWS, log.apply)
            request = Publish(Q, records(count + number * 500, count + number * 500 + 500), AWS)
            decision = request.decide(writer.state, Context(writer.row.head.tail, 1, writer.config()))
            assert decision.meta is not None and not decision.answer.replayed
            block = (decision.block, decision.block_digest)
            writer.append(Draft(decision.kind, writer.row.head.acc, 1, bytes(16), decision.meta, *block))
            writer.save()
    after = index_rows(here, AWS)
    assert not before.keys() <= after.keys(), "nothing was merged"
    with environment.write(wait_s=1) as batch:
        writer = Writer(batch, log.id, AWS, log.apply)
        writer.cut(tail)
        writer.save()
    assert index_rows(here, AWS) == before
    assert is_known(here, AWS)
    ack = here.store.publish_batch(Q, records(count + 250, count + 750), domain=AWS)
    assert (ack.replayed, ack.offset, ack.count) == (False, count, 500)
