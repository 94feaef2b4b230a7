"""A log is begun once: also where its creator died, or its first domain was made anew; and anew where all is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType

import pytest

from grafctl.errors import ConfirmationRequired, DomainUnavailable, GrafctlError, NoQuorum
from grafctl.nouns import repairs
from grafctl.store import beginning, learn
from grafctl.store.session import Session
from store.world import World, world


@pytest.fixture
def place(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, "abcde", "lmdb") as made:
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


@contextmanager
def die_at(monkeypatch: pytest.MonkeyPatch, module: ModuleType, at: str | None) -> Iterator[None]:
    """Ends the block like a kill at this point, where one is given."""

    def dying(name: str) -> None:
        if name == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as dies:
        dies.setattr(module, "point", dying)
        with pytest.raises(KeyboardInterrupt) if at else nullcontext():
            yield


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


def has_begun_anew(place: World, replicas: set[str]) -> None:
    """Raises unless the queue is empty, closed until a placement is set, and then like any other."""
    with place.reopened() as store:
        assert store.queues.show("q").body["records"] == 0
        with pytest.raises(DomainUnavailable):
            store.publish("q", "y", domain="a")
        store.placement.set("q", allow=["**"])
        assert store.publish("q", "y", domain="a").offset == 0
        lead = store.session.resource("q").settle()
        assert {voter.member for voter in lead.config.voters} == {store.session.members()[name] for name in replicas}
        assert list(store.verify()) == []
        for domain in "abcde":
            assert not store.domains.repair(domain).changed


@pytest.mark.parametrize("begun", [True, False])
def test_a_log_whose_only_replica_is_lost_is_named_and_begins_anew(
    place: World, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    if begun:
        place.store.queues.create("q", replicas=["ra=a"], allow=["**"])
        place.store.publish("q", "x", domain="a")
    else:
        register_only(place, monkeypatch, "ra=a")
    place.store.queues.create("other", replicas=["rb=b"], allow=["**"])
    lose(place, "a")
    with place.reopened() as store:
        members = store.session.members()
        with pytest.raises(ConfirmationRequired, match="q: no replica of it is left") as refused:
            store.domains.repair("a", lost=True)
        assert "--accept-loss q." in str(refused.value.hint) and store.session.members() == members
        done = store.domains.repair("a", lost=True, accept_loss=["q"])
        assert "give up q: all of it" in (done.actions or [])
        assert [item["lost"] for item in store.audit.tail().items if item["op"] == "domain repair"] == [
            ["q: all of it"]
        ]
    has_begun_anew(place, {"a"})


def test_a_log_that_is_lost_with_two_domains_begins_anew_after_the_second(place: World) -> None:
    place.store.queues.create("q", replicas=["ra=a", "rb=b"], allow=["**"])
    place.store.publish("q", "x", domain="a")
    for domain in "ab":
        (place.store.session.cluster.place(domain).path / "env" / "journal").unlink()
    with place.reopened() as store:
        with pytest.raises(NoQuorum, match="a is made anew; q cannot go on before b") as waits:
            store.domains.repair("a", accept_loss=["q"])
        assert "domain repair b" in str(waits.value.hint)
        with pytest.raises(NoQuorum, match="q may have begun in a"):
            store.publish("q", "y", domain="c")
        assert [finding.where for finding in store.verify() if finding.resource == "q"] == ["q"]
        assert store.domains.show("a").body["resources"] == ["q"]
        assert [row["name"] for row in store.status().body["resources"] if "may have begun" in row["trouble"]] == ["q"]
        with pytest.raises(ConfirmationRequired):
            store.domains.repair("b")
        assert store.domains.repair("b", accept_loss=["q"]).changed
    has_begun_anew(place, {"a", "b"})


def test_a_log_that_moved_and_is_lost_begins_anew_where_it_was_registered(place: World) -> None:
    place.store.queues.create("q", replicas=["ra=a"], allow=["**"])
    place.store.publish("q", "x", domain="a")
    move(place, "a", "b")
    for domain in "ab":
        lose(place, domain)
        with place.reopened() as store:
            if domain == "b":
                with pytest.raises(ConfirmationRequired, match="q: no replica of it is left"):
                    store.domains.repair(domain, lost=True)
            store.domains.repair(domain, lost=True, accept_loss=["q"] if domain == "b" else [])
    has_begun_anew(place, {"a"})


@pytest.mark.parametrize("at", ["repair.registered", "repair.created"])
def test_a_repair_that_gives_up_all_of_a_log_goes_on(place: World, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    place.store.queues.create("q", replicas=["ra=a"], allow=["**"])
    lose(place, "a")

    with place.reopened() as store, die_at(monkeypatch, repairs, at):
        store.domains.repair("a", lost=True, accept_loss=["q"])
    with place.reopened() as store:
        assert store.domains.repair("a", lost=True, accept_loss=["q"]).changed
    has_begun_anew(place, {"a"})


@pytest.mark.parametrize("at", ["repair.cleared", "repair.begun", None])
def test_what_was_learnt_of_a_lost_log_is_cleared_away_before_it_begins_anew(
    place: World, monkeypatch: pytest.MonkeyPatch, at: str | None
) -> None:
    """The log moved away from its first domain and is on its way back when the other one is lost."""
    monkeypatch.setattr(learn, "CHUNK_ROWS", 2)
    place.store.queues.create("q", replicas=["ra=a"], allow=["**"], retain_bytes=1)
    place.store.consumers.create("q", "g", allow=["**"])
    place.store.publish("q", "x", domain="a")
    move(place, "a", "b")
    place.let_entries_go("q", "g", domain="b", terms=2)
    place.observe("a")
    place.store.locator.set("q", generation=4, add=["ra=a"])

    def interrupt(step: str, done: int, total: int) -> None:
        if step == "state":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.store.catch_up("q", domain="a", progress=interrupt)
    lose(place, "b")
    with place.reopened() as store:
        with pytest.raises(NoQuorum):
            store.publish("q", "y", domain="a")
        with pytest.raises(ConfirmationRequired, match="q: no replica of it is left"):
            store.domains.repair("b", lost=True)
        with die_at(monkeypatch, beginning, at):
            store.domains.repair("b", lost=True, accept_loss=["q"])
    with place.reopened() as store:
        if at == "repair.cleared":
            with pytest.raises(NoQuorum, match="q may have begun in a") as refused:
                store.publish("q", "y", domain="a")
            assert "domain repair a" in str(refused.value.hint)
            assert store.domains.repair("a", accept_loss=["q"]).changed
    has_begun_anew(place, {"a"})
