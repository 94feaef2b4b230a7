"""Looking at replicas while others write: a sound one is never taken for an old copy that was put back."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from store.world import world

DOMAINS = ("a", "b", "c")
LOOKS = 1500


@pytest.mark.parametrize("driver", ["memory", "lmdb"])
def test_a_replica_that_moves_on_between_two_looks_is_no_old_copy(tmp_path: Path, driver: str) -> None:
    with world(tmp_path, DOMAINS, driver) as place:
        place.store.queues.create("q", replicas=[f"{name}={name}" for name in DOMAINS], allow=list(DOMAINS))
        is_over = threading.Event()

        def write() -> None:
            while not is_over.is_set():
                place.store.publish("q", "x", domain="a")

        writers = [threading.Thread(target=write) for _ in range(2)]
        for writer in writers:
            writer.start()
        try:
            log = place.store.session.resource("q")
            errors = [str(error) for _ in range(LOOKS) for error in log.observe().errors.values()]
        finally:
            is_over.set()
            for writer in writers:
                writer.join()
        assert not errors, errors[0]
