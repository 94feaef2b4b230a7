"""An append that is tried several times is answered by the try that stayed."""

from __future__ import annotations

from pathlib import Path

import pytest

from grafctl.store.log import Log
from grafctl.store.replica.replica import Writer
from grafctl.store.requests import Attempt, new_operation
from grafctl.store.resources.queue import Publish
from store.world import world


class Undone(Exception):
    """Ends a transaction without a commit, as an election elsewhere undoes one."""


def _publish(payload: bytes) -> Publish:
    request = Publish("q", [payload], "a")
    request.prepare()
    return request


def _try(log: Log, attempt: Attempt, *, after: int = 0, is_undone: bool = False) -> int:
    """Appends what the attempt decides behind so many records of others; returns the offset that it was told."""
    lead = log.settle()
    with log.cluster.writing(lead.primary) as batch:
        writer = Writer(batch, log.id, lead.primary, log.apply)
        config = writer.config()
        for _ in range(after):
            other = Attempt(_publish(b"other"), new_operation(), 0, 0.0)
            log._append(writer, lead, batch, log._decide(other, writer, lead, config))
        done = log._append(writer, lead, batch, log._decide(attempt, writer, lead, config))
        if is_undone:
            raise Undone
    return int(done.answer.first)


@pytest.mark.parametrize("driver", ["memory", "lmdb"])
def test_the_answer_is_that_of_the_entry_that_stayed(tmp_path: Path, driver: str) -> None:
    with world(tmp_path / "store", ("a", "b", "c"), driver) as made:
        made.store.queues.create("q", replicas=["a=a", "b=b", "c=c"], allow=["a"])
        log = made.store.session.resource("q")
        attempt = Attempt(_publish(b"ours"), new_operation(), 0, 0.0)
        first = _try(log, attempt)
        with pytest.raises(Undone):
            _try(log, attempt, after=3, is_undone=True)
        assert len(attempt.tried) == 2
        attempt.may_be_written = True
        lead = log.settle()
        with log.cluster.writing(lead.primary) as batch:
            found = log._find(attempt, Writer(batch, log.id, lead.primary, log.apply))
        assert found is not None and found.answer.first == first == 0, "not the try that was undone"
