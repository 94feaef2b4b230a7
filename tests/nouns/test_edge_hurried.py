"""A writer whose lease ends again and again before it can publish the segment that it has just been given."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from store.world import world

from grafctl import clock
from grafctl.errors import GenerationConflict

TERM_MS = 10_000


class Hurried:
    """A wall clock that is some way on with each look at it."""

    def __init__(self) -> None:
        self.at_ms, self.step_ms = clock.now_ms(), 0

    def now_ms(self) -> int:
        self.at_ms += self.step_ms
        return self.at_ms

    def monotonic_s(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)


@pytest.fixture
def hurried() -> Iterator[Hurried]:
    found = Hurried()
    before = clock.stand_in(found)
    yield found
    clock.stand_in(before)


@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_writer_is_not_fenced_by_leases_of_its_own(tmp_path: Path, hurried: Hurried, times: int) -> None:
    with world(tmp_path / "store", ["aws", "gcp", "azure"]) as here:
        here.store.leases.acquire("e", domain="aws", bytes=4096, owner="me", term_ms=TERM_MS)
        here.store.edges.create("e", token=1, slots=4, domain="aws")
        with here.store.edges.writer("e", domain="aws") as writer:
            hurried.step_ms = TERM_MS
            for _ in range(times):
                with pytest.raises(GenerationConflict) as error:
                    writer.push("a")
                assert error.value.fields["recoverable"] is True
            hurried.step_ms = 0
            with pytest.raises(GenerationConflict) as last:
                writer.push("a")
            assert last.value.fields["generation"] == writer.generation > 1
            assert writer.push("a").pushed == 1
