"""In the steady state every operation is one durable commit in each domain: one flush, of the journal or by LMDB."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from grafctl import client
from grafctl.errors import Usage

DOMAINS = ("aws", "azure", "gcp")


@pytest.fixture(params=[2, 3])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[client.Store]:
    domains = DOMAINS[: request.param]
    client.create(tmp_path / "store", dict.fromkeys(domains))
    with client.open(tmp_path / "store") as opened:
        opened.queues.create("orders", replicas=[f"r{d}={d}" for d in domains], allow=list(domains))
        opened.consumers.create("orders", "billing", allow=list(domains))
        opened.publish("orders", b"first", domain="aws")
        opened.ack("orders", "billing", polled(opened), domain="aws")
        yield opened


def polled(store: client.Store) -> list[int]:
    return [record.offset for record in store.poll("orders", "billing", domain="aws").records]


class Counted:
    """How many commits each domain has had, and how many of them LMDB has made."""

    def __init__(self, store: client.Store) -> None:
        self._handles = {d: store.session.cluster.environment(d).handle() for d in store.session.cluster.domains}  # type: ignore[attr-defined]
        self._before = self._now()

    def _now(self) -> dict[str, tuple[int, int]]:
        found = {}
        for domain, handle in self._handles.items():
            found[domain] = (handle.journal.overlay.number, handle.env.info()["last_txnid"])
        return found

    def since(self) -> set[tuple[int, int]]:
        """Returns (commits, LMDB's commits) since the last call; one pair where all domains had as many."""
        before, self._before = self._before, self._now()
        return {
            (now[0] - then[0], now[1] - then[1])
            for now, then in zip(self._before.values(), before.values(), strict=True)
        }


def test_an_operation_is_one_commit_in_each_domain(store: client.Store) -> None:
    counted = Counted(store)
    store.publish("orders", b"second", domain="aws")
    assert counted.since() == {(1, 0)}
    offsets = polled(store)
    assert counted.since() == {(1, 0)}
    store.ack("orders", "billing", offsets, domain="aws")
    assert counted.since() == {(1, 0)}
    store.publish_batch("orders", [b"small"] * 100, domain="aws")
    assert counted.since() == {(1, 0)}
    store.publish_batch("orders", [b"x" * 1024] * 1000, domain="aws")
    assert counted.since() == {(1, 1)}
    assert polled(store) and counted.since() == {(1, 0)}
    with pytest.raises(Usage):
        store.ack("orders", "billing", [10_000], domain="aws")
    assert counted.since() == {(0, 0)}


def test_a_publish_is_one_write_and_one_flush_of_each_journal_and_no_other(
    store: client.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles = [store.session.cluster.environment(d).handle() for d in store.session.cluster.domains]  # type: ignore[attr-defined]
    writes: Counter[int] = Counter()
    flushes: Counter[int] = Counter()
    pwrite, fdatasync = os.pwrite, os.fdatasync

    def counting(fd: int, data: bytes, offset: int) -> int:
        writes[fd] += 1
        return pwrite(fd, data, offset)

    def flushing(fd: int) -> None:
        flushes[fd] += 1
        fdatasync(fd)

    monkeypatch.setattr(os, "pwrite", counting)
    monkeypatch.setattr(os, "fdatasync", flushing)
    monkeypatch.setattr(os, "fsync", lambda fd: pytest.fail(f"{fd} was flushed"))
    for _ in range(10):
        store.publish("orders", b"x" * 1024, domain="aws")
    assert [writes[handle.journal_fd] for handle in handles] == [10] * len(handles)
    assert flushes == {handle.journal_fd: 10 for handle in handles}
    assert set(writes) == {fd for handle in handles for fd in (handle.journal_fd, handle.fd)}
