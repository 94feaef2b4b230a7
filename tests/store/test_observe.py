"""Looking at replicas while others write or copy: a sound one is never taken for an old copy that was put back."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from grafctl.store import learn
from store.world import World, world

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


def remembered_and_left_behind(place: World) -> None:
    """Takes a replica out that its peers remember, and lets go of the entries that it would need to come back."""
    place.store.queues.create("q", replicas=[f"r{name}={name}" for name in DOMAINS], allow=["**"], retain_bytes=1)
    place.store.consumers.create("q", "g", allow=["**"])
    for _ in range(3):
        place.store.publish("q", "x", domain="a")
    place.store.locator.set("q", generation=2, remove=["rc"])
    place.let_entries_go("q", "g", domain="a", terms=3)
    place.observe("c")
    place.store.locator.set("q", generation=3, add=["rc=c"])


@pytest.mark.parametrize("driver", ["memory", "lmdb"])
@pytest.mark.parametrize("at", ["entries", "state"])
def test_a_replica_whose_learning_was_cut_short_is_no_old_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str, at: str
) -> None:
    """Its peers remember it under the same incarnation, and further than learning has come again."""
    monkeypatch.setattr(learn, "CHUNK_ROWS", 2)

    def interrupt(step: str, done: int, total: int) -> None:
        if step == at:
            raise KeyboardInterrupt

    with world(tmp_path, DOMAINS, driver) as place:
        remembered_and_left_behind(place)
        with pytest.raises(KeyboardInterrupt):
            place.store.catch_up("q", domain="c", progress=interrupt)
        with place.reopened() as store:
            found = store.session.resource("q").observe()
            assert found.sights["c"].head.learning and not found.errors, found.errors
            assert [finding.problem for finding in store.verify()] == ["its catch-up was cut short"]
            assert not store.domains.repair("c").changed
            assert store.publish("q", "z", domain="b").offset == 6
            assert store.catch_up("q", domain="c").promoted
            assert list(store.verify()) == []
