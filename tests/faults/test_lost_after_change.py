"""A removal or a promotion that was acknowledged holds, whichever domain is lost right after it."""

from __future__ import annotations

from typing import Any

import pytest

import grafctl.client as client
from faults.deeds import QUEUE
from faults.forks import Forks
from faults.steps import away, work
from faults.stores import Templates
from faults.verdict import verdict


def test_a_learner_that_caught_up_replaces_the_voter_that_counted_it(templates: Templates) -> None:
    store, ledger = templates.copy("two", "caught")
    with away(store, "b"), client.open(store) as opened:
        for domain in "ad":
            work(opened, ledger, domain, f"from {domain} without b")
        verdict(store, ledger, away=frozenset("b"))
    verdict(store, ledger)


@pytest.mark.parametrize(("removed", "left"), [("a", "b"), ("b", "a")])
def test_a_removed_voter_may_be_lost_at_once(templates: Templates, removed: str, left: str) -> None:
    """That the other is alone in force now must be known there, not only where it was counted."""
    store, ledger = templates.copy("two", "base")
    with client.open(store) as opened:
        opened.locator.set(QUEUE, generation=2, remove=[f"r{removed}"])
        opened.domains.fail(removed)
    with client.open(store) as opened:
        work(opened, ledger, left, f"without {removed}, for ever")
    verdict(store, ledger, away=frozenset(removed))


@pytest.mark.parametrize(("removed", "left"), [("a", "b"), ("b", "a")])
def test_a_removal_that_died_and_was_said_again_is_as_good(
    templates: Templates, forks: Forks, removed: str, left: str
) -> None:
    """Its first try dies when all is copied, so the second finds nothing to do but to make sure of it."""
    store, ledger = templates.copy("two", "base")
    remove: dict[str, Any] = {"generation": 2, "remove": [f"r{removed}"]}
    assert forks.run("locator", store, kill={"copy.after": 1}, **remove).killed
    ran = forks.run("locator", store, **remove)
    assert ran.exit == 0, ran
    with client.open(store) as opened:
        opened.domains.fail(removed)
    with client.open(store) as opened:
        work(opened, ledger, left, f"without {removed}, for ever")
    verdict(store, ledger, away=frozenset(removed))
