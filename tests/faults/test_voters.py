"""Voters that came later or were taken out: a learner that caught up counts, one that was removed does not."""

from __future__ import annotations

import pytest

import grafctl.client as client
from faults.deeds import GROUP, QUEUE
from faults.steps import away, refuses_and_leaves_all_as_it_was, work
from faults.stores import Templates
from faults.verdict import verdict
from grafctl.errors import DomainUnavailable


@pytest.mark.parametrize("out", ["a", "d"])
def test_a_learner_that_caught_up_is_a_voter_like_the_others(templates: Templates, out: str) -> None:
    store, ledger = templates.copy("two", "caught")
    left = [domain for domain in "abd" if domain != out]
    with away(store, out), client.open(store) as opened:
        for domain in left:
            work(opened, ledger, domain, f"from {domain} without {out}")
        verdict(store, ledger, away=frozenset(out))
    with client.open(store) as opened:
        work(opened, ledger, out, f"from {out} again")
    verdict(store, ledger)


def test_a_learner_counts_nowhere_before_it_has_caught_up(templates: Templates) -> None:
    store, ledger = templates.copy("two", "halfway")
    with away(store, "b"):
        refuses_and_leaves_all_as_it_was(store, "a")
    with away(store, "d"), client.open(store) as opened:
        work(opened, ledger, "b", "a learner that is away holds nobody up")
    with client.open(store) as opened:
        assert opened.catch_up(QUEUE, domain="d").match
        work(opened, ledger, "d", "from d")
    verdict(store, ledger)


@pytest.mark.parametrize("removed", ["a", "c"])
def test_a_removed_voter_holds_nobody_up_and_replaces_nobody(templates: Templates, removed: str) -> None:
    store, ledger = templates.copy("three", "base")
    left = [domain for domain in "abc" if domain != removed]
    with client.open(store) as opened:
        opened.locator.set(QUEUE, generation=2, remove=[f"r{removed}"])
    with away(store, removed), client.open(store) as opened:
        for domain in left:
            work(opened, ledger, domain, f"from {domain} without {removed}")
    with client.open(store) as opened, pytest.raises(DomainUnavailable) as refused:
        opened.poll(QUEUE, GROUP, domain=removed)
    assert refused.value.reason == "not_in_locator"
    with away(store, left[0]):  # of two voters one is gone; the removed one has its log still, and no vote
        refuses_and_leaves_all_as_it_was(store, left[1])
    verdict(store, ledger)
