"""What is left of leases and edges that are over: it goes with the next change, or when an operator says so."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from store.world import World, changed_keys, without_log, world

from grafctl.edges import counts, segment
from grafctl.errors import Busy, Fenced, GenerationConflict, NotFound, Usage
from grafctl.store import keys

AWS, GCP, TERM_MS, GRACE_MS = "aws", "gcp", 1_000_000, 500_000
ASKED: dict[str, Any] = {"domain": AWS, "bytes": 4096, "owner": "me", "term_ms": TERM_MS}


@pytest.fixture(params=["memory", "lmdb"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "store", [AWS, GCP, "azure"], request.param) as here:
        here.store.leases.acquire("e", **ASKED)
        here.store.edges.create("e", token=1, slots=4, domain=AWS)
        here.store.leases.acquire("other", **ASKED)
        here.store.leases.acquire("elsewhere", **ASKED | {"domain": GCP})
        yield here


def files_in(here: World, domain: str = AWS, folder: str = segment.FOLDER) -> list[str]:
    where = Path(here.store.session.cluster.place(domain).where, folder)
    return sorted(name.partition(".")[0] for name in os.listdir(where)) if where.is_dir() else []


def token_of(here: World, name: str) -> int:
    return next(int(item["token"]) for item in here.store.leases.list().items if item["lease"] == name)


CHANGES: dict[str, Callable[[World], object]] = {
    "acquire": lambda here: here.store.leases.acquire("new", **ASKED),
    "renew": lambda here: here.store.leases.renew("other", token=token_of(here, "other"), domain=AWS),
    "release": lambda here: here.store.leases.release("other", token=token_of(here, "other"), domain=AWS),
    "revoke": lambda here: here.store.leases.revoke("other", grace_ms=GRACE_MS),
    "the same revoke": lambda here: here.store.leases.revoke("e", grace_ms=GRACE_MS),
}
NO_CHANGES: dict[str, Callable[[World], object]] = {
    "list": lambda here: here.store.leases.list(),
    "dry run": lambda here: here.store.leases.acquire("new", **ASKED, dry_run=True),
    "another domain": lambda here: here.store.leases.acquire("far", **ASKED | {"domain": GCP}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_segment_goes_with_the_first_change_after_its_grace(made: World, change: str) -> None:
    made.store.leases.revoke("e", grace_ms=GRACE_MS)
    made.store.leases.renew("other", token=token_of(made, "other"), domain=AWS)
    assert files_in(made) == ["e", "other"], "it is used up to the end of its grace"
    assert made.store.edges.push("e", "a", domain=AWS).body["count"] == 1
    made.advance(GRACE_MS)
    for nothing in NO_CHANGES.values():
        nothing(made)
    assert files_in(made) == ["e", "other"]
    CHANGES[change](made)
    assert "e" not in files_in(made) and files_in(made, GCP) == ["elsewhere", "far"]


def test_what_has_only_expired_keeps_its_segment(made: World) -> None:
    made.advance(TERM_MS)
    made.store.leases.acquire("new", **ASKED)
    assert files_in(made) == ["e", "new", "other"]


OVER: dict[str, Callable[[World], object]] = {
    "released": lambda here: here.store.leases.release("e", token=1, domain=AWS),
    "expired": lambda here: here.advance(TERM_MS),
    "revoked": lambda here: here.store.leases.revoke("e", grace_ms=0),
}


@pytest.mark.parametrize("how", OVER)
def test_an_edge_and_its_lease_are_forgotten_when_they_are_over(made: World, how: str) -> None:
    edges, leases = made.store.edges, made.store.leases
    with edges.writer("e", domain=AWS) as writer:
        writer.push("a")
    assert files_in(made, AWS, counts.FOLDER) == ["e"]
    OVER[how](made)
    before = made.dump()
    assert edges.remove("e", dry_run=True).dry_run
    with pytest.raises(GenerationConflict, match="edge e is in the segment"):
        leases.forget("e", dry_run=True)
    assert changed_keys(without_log(before, keys.AUDIT_LOG), without_log(made.dump(), keys.AUDIT_LOG)) == []
    removed = edges.remove("e")
    assert removed.changed and (removed.before or {})["generation"] == 1 and files_in(made, AWS, counts.FOLDER) == []
    assert edges.status().items == []
    before = made.dump()
    assert leases.forget("e", dry_run=True).changed and changed_keys(before, made.dump()) == []
    forgotten = leases.forget("e")
    assert (forgotten.before or {})["state"] == how and "e" not in files_in(made)
    assert "e" not in [item["lease"] for item in leases.list().items]
    for again in (edges.remove, leases.forget):
        with pytest.raises(NotFound):
            again("e")
    told = [record["op"] for record in made.audit_records() if record["outcome"] == "changed"]
    assert told[-2:] == ["edge remove", "lease forget"]
    token = (leases.acquire("e", **ASKED).after or {})["token"]
    edges.create("e", token=token, slots=4, domain=AWS)
    assert edges.pop("e", domain=AWS).body["empty"] is True and token > 1


def test_what_is_in_use_is_not_forgotten(made: World) -> None:
    made.store.edges.push("e", "a", domain=AWS)
    for grace in (False, True):
        if grace:
            made.store.leases.revoke("e", grace_ms=GRACE_MS)
        before = made.dump()
        for call in (made.store.edges.remove, made.store.leases.forget):
            for dry_run in (True, False):
                with pytest.raises(Busy) as refused:
                    call("e", dry_run=dry_run)
                assert refused.value.exit_code == 22
        assert changed_keys(before, made.dump()) == []
    assert made.store.edges.pop("e", domain=AWS).body["empty"] is False


def test_a_handle_that_is_open_does_not_follow_to_a_name_that_began_anew(made: World) -> None:
    edges, leases = made.store.edges, made.store.leases
    with edges.writer("e", domain=AWS) as writer, edges.reader("e", domain=AWS) as reader:
        writer.push("old")
        leases.release("e", token=1, domain=AWS)
        edges.remove("e")
        for call in (writer.keep, reader.pop):
            with pytest.raises(NotFound):
                call()
        leases.forget("e")
        token = (leases.acquire("e", **ASKED | {"owner": "you"}).after or {})["token"]
        edges.create("e", token=token, slots=4, domain=AWS)
        for call in (writer.keep, reader.pop):
            with pytest.raises((GenerationConflict, Fenced)):
                call()


def test_names_that_cannot_be_are_refused(made: World) -> None:
    for call in (made.store.edges.remove, made.store.leases.forget):
        for name in ("", "a b", "x" * 1000, "../e"):
            with pytest.raises(Usage):
                call(name)
        with pytest.raises(NotFound):
            call("absent")
