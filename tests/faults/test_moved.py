"""A term that ends in the middle of somebody's work: who was at it goes on in the next, and nobody sees an error."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import grafctl.client as client
from faults.forks import Forks, heard
from faults.steps import away, work
from faults.stores import CHUNKS, Templates
from faults.verdict import verdict


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
