"""A log is begun once: also where its creator died, or its first domain was made anew; and anew where all is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from grafctl.errors import GrafctlError
from grafctl.store.session import Session
from store.world import World, world


@pytest.fixture
def place(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, ("a", "b", "c"), "lmdb") as made:
        yield made


def lose(place: World, domain: str) -> None:
    shutil.rmtree(place.store.session.cluster.place(domain).path)


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def register_only(place: World, monkeypatch: pytest.MonkeyPatch, *replicas: str) -> None:
    """Leaves what a creator leaves that dies after the registration."""
    with monkeypatch.context() as dying, place.reopened() as other:
        dying.setattr(Session, "open_log", _die)
        with pytest.raises(KeyboardInterrupt):
            other.queues.create("q", replicas=list(replicas), allow=["**"])


def move(place: World, old: str, new: str) -> None:
    """Takes the only replica of the queue to another domain."""
    place.observe(new)
    place.store.locator.set("q", generation=2, add=[f"r{new}={new}"])
    place.store.catch_up("q", domain=new)
    place.store.locator.set("q", generation=3, remove=[f"r{old}"])


@pytest.mark.parametrize("lost", ["a", "b"])
def test_a_log_that_never_began_begins_with_the_present_incarnations(
    place: World, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    register_only(place, monkeypatch, "ra=a", "rb=b")
    lose(place, lost)
    with place.reopened() as store:
        assert store.domains.repair(lost, lost=True).changed
        assert store.publish("q", "x", domain="a").offset == 0
        assert not store.domains.repair(lost).changed
        assert list(store.verify()) == []
        lead = store.session.resource("q").settle()
        assert {voter.member for voter in lead.config.voters} == {store.session.members()[name] for name in "ab"}


def test_the_place_that_a_log_has_left_begins_nothing(place: World) -> None:
    """Its first domain was made anew after it had moved, and where it is now is away: it begins no second time."""
    place.store.queues.create("q", replicas=["ra=a"], allow=["**"])
    place.store.publish("q", "x", domain="a")
    move(place, "a", "b")
    lose(place, "a")
    with place.reopened() as store:
        store.domains.repair("a", lost=True)
        store.domains.fail("b")
    with place.reopened() as store:
        for domain in "ab":
            with pytest.raises(GrafctlError) as refused:
                store.publish("q", "y", domain=domain)
            assert refused.value.fields["outcome"] == "not_written"
        store.domains.restore("b")
    with place.reopened() as store:
        assert [record.payload for record in store.peek("q", domain="b").body["records"]] == [b"x"]
        assert store.publish("q", "y", domain="b").offset == 1
