"""Who looks at a log again and again is told what a first look would tell, whatever happened in between."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from grafctl.errors import GrafctlError
from grafctl.store.committed import open_committed
from grafctl.store.driver.memory import MemoryDriver
from grafctl.store.log import Log
from store.test_snapshots import told
from store.world import DRIVERS, World, world

DOMAINS = ("a", "b", "c", "d")


def begin(place: World) -> Log:
    """Makes a queue in three domains, and returns its log as a process knows it that has looked already."""
    place.store.queues.create("q", replicas=["ra=a", "rb=b", "rc=c"], allow=list(DOMAINS))
    place.store.publish("q", "one", domain="a")
    log = place.store.session.resource("q")
    for _ in range(2):
        with log.view():
            pass
    return log


def compare(place: World, log: Log) -> None:
    """Compares one more look with the first look of another process, wherever both prefer to read."""
    with place.reopened() as other:
        for prefer in (None, *DOMAINS):
            fresh = other.session.resource("q")
            with log.view(prefer) as ours, fresh.view(prefer) as theirs:
                assert told(ours) == told(theirs), prefer


def add_a_voter(place: World) -> None:
    place.observe("d")
    place.store.locator.set("q", generation=2, add=["rd=d"])


def elect_another(place: World) -> None:
    place.store.domains.fail("a")
    place.store.publish("q", "two", domain="b")
    place.store.domains.restore("a")


CHANGES: dict[str, Callable[[World], object]] = {
    "a publish": lambda place: place.store.publish("q", "two", domain="b"),
    "a domain is away": lambda place: place.store.domains.fail("b"),
    "another primary": elect_another,
    "a voter more": add_a_voter,
    "a voter less": lambda place: place.store.locator.set("q", generation=2, remove=["ra"]),
}


@pytest.mark.parametrize("driver", sorted(DRIVERS))
@pytest.mark.parametrize("change", CHANGES)
def test_it_tells_what_a_first_look_tells(tmp_path: Path, driver: str, change: str) -> None:
    with world(tmp_path, DOMAINS, driver) as place:
        log = begin(place)
        compare(place, log)
        with place.reopened() as other:
            CHANGES[change](World(place.directory, place.driver, other))
        compare(place, log)


def test_an_older_copy_that_was_put_back_is_not_believed(tmp_path: Path) -> None:
    """Also where this process has seen exactly that copy before."""
    with world(tmp_path, DOMAINS) as place:
        log = begin(place)
        assert isinstance(place.driver, MemoryDriver)
        domain = place.driver.domains[os.path.abspath(place.store.session.cluster.place("a").path)]
        older = domain.snapshot
        with place.reopened() as other:
            for number in range(3):
                other.publish("q", str(number), domain="a")
        domain.snapshot = older
        with log.view() as committed:
            assert committed.domain in "bc" and "an older copy was put back" in committed.found.errors["a"].why


def test_a_look_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with world(tmp_path, DOMAINS) as place:
        log = begin(place)
        for domain in DOMAINS:
            place.store.domains.fail(domain)
        with pytest.raises(GrafctlError, match="No replica of the log answers"), log.view():
            pass
        for domain in DOMAINS:
            place.store.domains.restore(domain)
        compare(place, log)


def test_the_other_way_to_look_shows_the_same(tmp_path: Path) -> None:
    """A look of which something is unusual takes that way, and nobody is to notice."""
    with world(tmp_path, DOMAINS) as place, ExitStack() as stack:
        log = begin(place)
        slow = open_committed(stack, log.cluster, log.id, log.observe(), "b")
        with log.view("b") as committed:
            assert told(slow) == told(committed)
