"""Both ends of an edge in processes of their own, which are killed at every step of a push, a pop and a relocation."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import grafctl
from grafctl.client import Store
from grafctl.edges import segment
from nouns.edge_client import client

LEASE: dict[str, Any] = {"domain": "aws", "bytes": 8192, "owner": "me", "term_ms": 3_600_000}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    grafctl.create(tmp_path / "store", {"aws": None, "gcp": None})
    with grafctl.open(tmp_path / "store") as opened:
        opened.leases.acquire("e", **LEASE)
        opened.edges.create("e", token=1, slots=8, domain="aws")
        yield opened


def place(store: Store) -> Path:
    return store.session.cluster.directory


def popped(store: Store) -> list[bytes]:
    with store.edges.reader("e", domain="aws") as reader:
        return [record.payload for record in reader.pop(100).records]


@pytest.mark.parametrize("step", ["edge.slot:3", "edge.tail:3"])
def test_a_writer_killed_in_a_push_left_it_whole_or_not_at_all(store: Store, step: str) -> None:
    told = []
    with client(place(store), "writer", GRAFCTL_KILL_AT=step) as writer:
        assert writer.answer() == {"open": 1}
        for body in "abc":
            if writer.ask(f"push {body}") is not None:
                told.append(body.encode())
        assert writer.process.wait() == -signal.SIGKILL
    assert told == [b"a", b"b"]
    found = popped(store)
    assert found == ([*told, b"c"] if "tail" in step else told), "the tail decides, and nothing is torn"
    with client(place(store), "writer") as writer:
        assert writer.answer() == {"open": 1}, "the lease is in force, so the edge goes on in the same segment"
        assert (writer.ask("push c") or {})["offset"] == len(found)
    assert popped(store) == [b"c"]


@pytest.mark.parametrize("step", ["edge.taken:1", "edge.head:1"])
def test_what_a_killed_reader_took_comes_again_unless_it_was_finished(store: Store, step: str) -> None:
    with store.edges.writer("e", domain="aws") as writer:
        writer.push_batch(["a", "b"])
    with client(place(store), "reader", GRAFCTL_KILL_AT=step) as reader:
        assert reader.answer() == {"open": 1} and reader.ask("pop 1") is None
        assert reader.process.wait() == -signal.SIGKILL
    assert popped(store) == ([b"b"] if "head" in step else [b"a", b"b"])


STEPS = ("segment.allocated:1", *(f"append.{step}:{hit}" for step in ("before", "after", "committed") for hit in "12"))


@pytest.mark.parametrize("step", STEPS)
def test_a_writer_killed_in_a_relocation_is_followed_by_one_that_finishes_it(store: Store, step: str) -> None:
    with client(place(store), "reader") as reader:
        assert reader.answer() == {"open": 1}
        with client(place(store), "writer", GRAFCTL_KILL_AT=step) as writer:
            assert writer.answer() == {"open": 1} and (writer.ask("push lost") or {})["pushed"] == 1
            (file,) = Path(store.session.cluster.place("aws").where, segment.FOLDER).iterdir()
            file.unlink()
            assert writer.ask("push lost") is None, "it dies while it relocates"
            assert writer.process.wait() == -signal.SIGKILL
        waits = reader.ask("pop 9") or {}
        assert waits.get("recoverable") is True or waits == {"payloads": [], "generation": 2}
        with client(place(store), "writer") as writer:
            assert writer.answer() == {"open": 2}, "one generation later, however often it was begun"
            assert (writer.ask("push again") or {})["generation"] == 2
            assert reader.ask("pop 9") == {"payloads": ["again"], "generation": 2}
    assert len(list(Path(store.session.cluster.place("aws").where, segment.FOLDER).iterdir())) == 1


def test_a_writer_that_another_process_replaced_pushes_nothing_any_more(store: Store) -> None:
    with client(place(store), "writer") as first, client(place(store), "reader") as reader:
        assert first.answer() == reader.answer() == {"open": 1}
        assert (first.ask("push a") or {})["pushed"] == 1
        store.edges.relocate("e", token=1, domain="aws")
        for _ in range(2):
            refused = first.ask("push b") or {}
            assert (refused["code"], refused["state"], refused["recoverable"]) == ("fenced", "fenced", False)
        with client(place(store), "writer") as second:
            assert second.answer() == {"open": 2} and (second.ask("push c") or {})["generation"] == 2
            assert reader.ask("pop 9") == {"payloads": ["c"], "generation": 2}


@pytest.mark.parametrize("grace_ms", [0, 3_000_000])
def test_a_revoke_by_another_process_is_met_by_the_next_operation(store: Store, grace_ms: int) -> None:
    with client(place(store), "writer") as writer, client(place(store), "reader") as reader:
        assert writer.answer() == reader.answer() == {"open": 1}
        assert (writer.ask("push a") or {})["pushed"] == 1
        store.leases.revoke("e", grace_ms=grace_ms)
        pushed, taken = writer.ask("push b") or {}, reader.ask("pop 9") or {}
        if grace_ms:
            assert pushed["pushed"] == 1 and taken["payloads"] == ["a", "b"]
        else:
            assert {pushed.get("state"), taken.get("state")} == {"revoked"}
