"""A term that ends in the middle of somebody's work: who was at it goes on in the next, and nobody sees an error."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import grafctl.client as client
from faults.deeds import QUEUE
from faults.forks import Forks, heard
from faults.steps import away, work
from faults.stores import CHUNKS, Templates, publish
from faults.verdict import verdict
from grafctl.store import replicate
from grafctl.store.operations import proving
from grafctl.store.rules import Config, Member, Rules


def test_a_catch_up_goes_on_in_the_next_term(templates: Templates, forks: Forks, tmp_path: Path) -> None:
    """The learner has a part of the log; meanwhile the primary goes away, another one leads, and the log grows."""
    store, ledger = templates.copy("three", "adding")
    log = tmp_path / "log"
    pid = forks.start("catch_up", store, log, stop={"learn.after": 2}, patch=CHUNKS)
    forks.stopped(pid)
    with away(store, "a"), client.open(store) as opened:
        work(opened, ledger, "b", "in the next term")
    os.kill(pid, signal.SIGCONT)
    assert forks.ended(pid, wait=True) == 0
    assert "error" not in heard(log)[-2] and heard(log)[-1] == {"done": True}, heard(log)
    with client.open(store) as opened:
        work(opened, ledger, "d", "where it has caught up")
    verdict(store, ledger)


def test_a_proof_goes_on_in_the_next_term(
    templates: Templates, forks: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The election is over when the last entries are to be copied, with the old primary's lock held."""
    store, ledger = templates.copy("three", "adding")
    original, is_done = replicate.copy, False

    def after_an_election(*given: Any) -> int:
        nonlocal is_done
        if not is_done:
            is_done = True
            with client.open(store) as other:
                place = other.session.cluster.place("a").path
                other.domains.fail("a")
                publish(other, ledger, "b", [("in the next term", None)])
                log = other.session.resource(QUEUE)
                lead = log.settle()
                original(log.cluster, log.id, log.apply, lead, "d", max(lead.tails.values()))
                other.session.cluster.driver.restore(place)
        return original(*given)

    monkeypatch.setattr(proving, "copy", after_an_election)
    with client.open(store) as opened:
        assert opened.catch_up(QUEUE, domain="d").match and is_done
        work(opened, ledger, "d", "where it has caught up")
    verdict(store, ledger)


class CertifiesNothing(Rules):
    """What two backups do that complete a quorum at the same moment: neither knows of the other."""

    def committed_up_to(self, configs: Sequence[Config], tails: Mapping[Member, int], known: int) -> int:
        return known


def test_a_backup_has_what_was_acknowledged_before_a_term_that_began_and_is_not_committed(
    templates: Templates, forks: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No replica has noted the last record as committed, and one alone has the START of the next term."""
    store, ledger = templates.copy("three", "base")
    with client.open(store) as opened, monkeypatch.context() as patch:
        patch.setattr(replicate, "RULES", CertifiesNothing())
        publish(opened, ledger, "a", [("acknowledged", None)])
    with client.open(store) as opened:
        opened.domains.fail("a")
        assert forks.run("publish", store, kill={"start.after": 1}, payload="never there", domain="b").killed
        opened.session.cluster.driver.restore(opened.session.cluster.place("a").path)
        opened.backup(tmp_path / "backup")
    client.restore(tmp_path / "backup", tmp_path / "restored")
    with client.open(tmp_path / "restored") as restored:
        payloads = [record.payload for record in restored.peek(QUEUE, domain="b").body["records"]]
    assert payloads[-1] == b"acknowledged"
    verdict(store, ledger)
