"""Retention lets go of what every lineage has finished, and of nothing that may still be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from grafctl.store import elect as electing
from grafctl.store.operations.retention import trim
from store.world import World, world

VOTERS = ("a", "b", "c")


def finish(place: World, group: str, count: int) -> None:
    """Lets a group finish the first records."""
    given = place.store.poll("q", group, domain="a", max=count)
    place.store.ack("q", group, [record.offset for record in given.records], domain="a", lease=given.lease)


@pytest.mark.parametrize("finished", [(1, 4), (4, 1), (2, 2)])
def test_what_the_slowest_group_has_not_finished_is_kept_in_every_domain(
    tmp_path: Path, finished: tuple[int, int]
) -> None:
    with world(tmp_path, VOTERS) as place:
        replicas = [f"r{name}={name}" for name in VOTERS]
        place.store.queues.create("q", replicas=replicas, allow=["**"], retain_bytes=1)
        for group in ("g", "h"):
            place.store.consumers.create("q", group, allow=["**"])
        for number in range(6):
            place.store.publish("q", f"record {number}", domain="a")
        for group, count in zip(("g", "h"), finished, strict=True):
            finish(place, group, count)
        log = place.store.session.resource("q")
        # Entries go only up to the START of the term, so that what retention allows shows after another one.
        electing.elect(log.cluster, log.id, log.apply, log.observe())
        with place.reopened() as store:
            store.publish("q", "record 6", domain="a")
            other = store.session.resource("q")
            other.settle()
            least = min(finished)
            assert trim(store.session, "q").first <= least
            kept = [f"record {number}" for number in range(least, 7)]
            for name in VOTERS:
                shown = store.peek("q", domain=name, offset=least, max=100)
                assert [record["payload"] for record in shown.as_json()["records"]] == kept, name
