"""A row of the state that is missing, or stands under another key, is known without a peer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from grafctl.store import keys
from grafctl.store.checking import problems
from grafctl.store.driver.contract import Batch
from store.world import World, world

AWS, GCP = "aws/us-east-1", "gcp/us-central1"
Q = "orders"


@pytest.fixture(params=["memory", "lmdb"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "store", [AWS, GCP], request.param) as here:
        here.store.queues.create(Q, replicas=[f"a={AWS}", f"g={GCP}"], allow=["**"])
        for number in range(6):
            here.store.publish(Q, f"record {number}", domain=AWS, id=f"id {number}")
        yield here


def lose(batch: Batch, one: bytes, other: bytes) -> None:
    batch.delete(other)


def swap(batch: Batch, one: bytes, other: bytes) -> None:
    first, second = batch.get(one), batch.get(other)
    assert first is not None and second is not None
    batch.put(one, second)
    batch.put(other, first)


@pytest.mark.parametrize(("harm", "found"), [(lose, "state"), (swap, "checksum")])
def test_a_row_that_is_not_where_it_belongs_is_found_in_one_domain(made: World, harm: object, found: str) -> None:
    environment = made.store.session.cluster.environment(GCP)
    with environment.read() as view:
        assert list(problems(view, GCP)) == []
    log = made.log_id(Q)
    with environment.write(wait_s=1) as batch:
        rows = [key for key, _ in batch.scan(*keys.states(log)) if key[11:12] == b"B"]
        harm(batch, rows[1], rows[2])  # type: ignore[operator]
    with environment.read() as view:
        assert any(found in problem for problem in problems(view, GCP))
    assert {finding.domain for finding in made.store.verify()} == {GCP}
