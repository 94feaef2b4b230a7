"""What was acknowledged is never denied: with a voter away it is known, or it is said that nobody can know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from grafctl import client
from grafctl.errors import DomainUnavailable, GrafctlError, NoQuorum, NotFound
from store.world import World, world

VOTERS = {"two": ("a", "b"), "three": ("a", "b", "c")}


def begin(place: World, domains: tuple[str, ...]) -> None:
    place.store.queues.create("q", replicas=[f"r{name}={name}" for name in domains], allow=list(domains))
    place.store.consumers.create("q", "first", allow=list(domains))
    place.store.publish("q", "x", domain="a")


def asked_afresh(place: World, ask: Callable[[client.Store], object]) -> GrafctlError | None:
    """Returns what another process is told."""
    with place.reopened() as other:
        try:
            ask(other)
        except GrafctlError as error:
            return error
    return None


@pytest.mark.parametrize("away", ["a", "b"])
def test_a_group_that_was_just_created_is_not_denied(tmp_path: Path, away: str) -> None:
    with world(tmp_path, VOTERS["two"]) as place:
        begin(place, VOTERS["two"])
        left = "b" if away == "a" else "a"
        place.store.consumers.create("q", "late", allow=["a", "b"])
        place.store.domains.fail(away)
        for ask in (
            lambda store: store.poll("q", "late", domain=left),
            lambda store: store.ack("q", "late", [0], domain=left),
            lambda store: store.consumers.show("q", "late"),
        ):
            error = asked_afresh(place, ask)
            assert error is None or isinstance(error, NoQuorum), error


@pytest.mark.parametrize("away", ["a", "b"])
def test_a_placement_that_was_just_widened_is_not_denied(tmp_path: Path, away: str) -> None:
    with world(tmp_path, ("a", "b", "c")) as place:
        begin(place, VOTERS["two"])
        place.store.placement.set("q", allow=["a", "b", "c"])
        place.store.domains.fail(away)
        error = asked_afresh(place, lambda store: store.publish("q", "y", domain="c"))
        assert isinstance(error, NoQuorum), error


@pytest.mark.parametrize("voters", VOTERS)
def test_what_never_was_is_still_denied_with_a_voter_away(tmp_path: Path, voters: str) -> None:
    with world(tmp_path, (*VOTERS[voters], "d")) as place:
        begin(place, VOTERS[voters])
        place.store.domains.fail("a")
        assert isinstance(asked_afresh(place, lambda store: store.poll("q", "nobody", domain="b")), NotFound)
        error = asked_afresh(place, lambda store: store.publish("q", "y", domain="d"))
        assert isinstance(error, DomainUnavailable), error


def test_where_most_voters_are_away_nothing_is_denied(tmp_path: Path) -> None:
    with world(tmp_path, VOTERS["three"]) as place:
        begin(place, VOTERS["three"])
        for domain in "ab":
            place.store.domains.fail(domain)
        assert isinstance(asked_afresh(place, lambda store: store.poll("q", "nobody", domain="c")), NoQuorum)


@pytest.mark.parametrize("driver", ["memory", "lmdb"])
@pytest.mark.parametrize("away", ["a", "b"])
def test_what_an_operator_has_set_up_is_shown_with_a_voter_away(tmp_path: Path, away: str, driver: str) -> None:
    with world(tmp_path, ("a", "b", "c"), driver) as place:
        begin(place, VOTERS["two"])
        place.store.consumers.create("q", "late", allow=["a"])
        place.store.domains.fail(away)
        with place.reopened() as other:
            assert [queue["resource"] for queue in other.queues.list().items] == ["q"]
            assert [group["group"] for group in other.consumers.list("q").items] == ["first", "late"]
            assert [resource["name"] for resource in other.status().body["resources"]] == ["q"]
