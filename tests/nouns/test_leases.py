"""Leases on segments in a store: the gate, the files, and what a death between the two leaves behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Runner
from store.world import World, changed_keys, without_log, world

from grafctl.edges import segment
from grafctl.errors import Busy, DomainUnavailable, Fenced, GenerationConflict, NotFound, StoreFull, Usage
from grafctl.store import keys

AWS, GCP, TERM_MS = "aws", "gcp", 1_000_000  # so long that no slow machine lives through it
ASKED: dict[str, Any] = {"domain": AWS, "bytes": 4096, "owner": "me", "term_ms": TERM_MS}


@pytest.fixture(params=["memory", "lmdb"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "store", [AWS, GCP, "azure"], request.param) as here:
        yield here


def files_in(here: World, domain: str = AWS) -> list[str]:
    folder = Path(here.store.session.cluster.place(domain).where, segment.FOLDER)
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def state_of(here: World, name: str = "s") -> str:
    return {item["lease"]: str(item["state"]) for item in here.store.leases.list().items}[name]


def after(change: Any) -> dict[str, Any]:
    found: dict[str, Any] = change.after
    return found


def test_a_life_of_a_lease(made: World) -> None:
    first = made.store.leases.acquire("s", **ASKED)
    assert first.changed and after(first)["token"] == 1
    (file,) = files_in(made)
    assert file.startswith("s.") and segment.is_there(made.store.session.cluster.place(AWS).where, file, 4096)
    assert not made.store.leases.acquire("s", **ASKED).changed and files_in(made) == [file]
    made.advance(TERM_MS * 8 // 10)
    assert made.store.leases.renew("s", token=1, domain=AWS, if_due=True).changed
    made.advance(TERM_MS * 8 // 10)
    assert state_of(made) == "held"
    made.advance(TERM_MS * 2 // 10)
    assert state_of(made) == "expired"
    with pytest.raises(GenerationConflict, match="expired"):
        made.store.leases.renew("s", token=1, domain=AWS)
    taken = made.store.leases.acquire("s", **ASKED | {"owner": "you"})
    assert (after(taken)["generation"], taken.before) == (2, {"generation": 1, "token": 1})
    assert len(files_in(made)) == 1 and files_in(made) != [file]
    token = after(taken)["token"]
    assert made.store.leases.release("s", token=token, domain=AWS).changed and files_in(made) == []
    assert not made.store.leases.release("s", token=token, domain=AWS).changed
    told = [(record["outcome"], record["op"]) for record in made.audit_records()]
    assert told == [
        ("changed", "lease acquire"),
        ("refused", "lease renew"),
        ("changed", "lease acquire"),
        ("changed", "lease release"),
    ]


def test_a_segment_that_is_lost_is_disconnected_and_replaced(made: World) -> None:
    made.store.leases.acquire("s", **ASKED)
    where = made.store.session.cluster.place(AWS).where
    path = Path(segment.path_of(where, files_in(made)[0]))
    path.write_bytes(b"short")
    assert state_of(made) == "disconnected"
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert state_of(made) == "disconnected"
    path.unlink()
    assert not made.store.leases.acquire("s", **ASKED).changed and files_in(made) == [], "never made again as new"
    moved = made.store.leases.acquire("s", **ASKED | {"domain": GCP}, replace=1)
    assert moved.changed and state_of(made) == "held" and len(files_in(made, GCP)) == 1
    with pytest.raises(DomainUnavailable, match="in gcp"):
        made.store.leases.renew("s", token=1, domain=AWS)
    with pytest.raises(Fenced):
        made.store.leases.renew("s", token=1, domain=GCP)


def test_a_move_to_another_domain_leaves_no_file_behind(made: World) -> None:
    made.store.leases.acquire("s", **ASKED)
    made.store.leases.acquire("s.t", **ASKED)
    made.store.leases.acquire("s", **ASKED | {"domain": GCP}, replace=1)
    assert [file.rpartition(".")[0] for file in files_in(made)] == ["s.t"] and len(files_in(made, GCP)) == 1


@pytest.mark.parametrize("domain", [AWS, GCP])
def test_who_asks_again_clears_up_after_the_dead_and_not_after_who_is_making_one(made: World, domain: str) -> None:
    made.store.leases.acquire("s", **ASKED)
    place = made.store.session.cluster.place(domain).where
    before = files_in(made, domain)
    with segment.allocated(place, "s.dead", 4096), segment.allocated(place, "t.other", 4096):
        pass
    with segment.allocated(place, "s.making", 4096):
        assert not made.store.leases.acquire("s", **ASKED).changed
        assert files_in(made, domain) == sorted([*before, "s.making", "t.other"])
    assert not made.store.leases.acquire("s", **ASKED, dry_run=True).changed and "s.making" in files_in(made, domain)
    assert not made.store.leases.acquire("s", **ASKED).changed
    assert files_in(made, domain) == sorted([*before, "t.other"])


def test_who_clears_up_late_leaves_the_segment_that_is_in_force_by_then(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.store.leases.acquire("s", **ASKED)
    of_lease, quick = segment.of_lease, iter([lambda: made.store.leases.acquire("s", **ASKED, replace=1)])

    def late(place: str, lease: str) -> list[str]:
        for step in quick:
            assert step().changed  # between the answer and the look at the files
        return of_lease(place, lease)

    monkeypatch.setattr(segment, "of_lease", late)
    assert not made.store.leases.acquire("s", **ASKED).changed
    assert (state_of(made), len(files_in(made))) == ("held", 1)


def test_what_cannot_be_cleared_up_keeps_nobody_from_the_lease(made: World) -> None:
    made.store.leases.acquire("s", **ASKED)
    with segment.allocated(made.store.session.cluster.place(AWS).where, "s.dead", 4096):
        pass
    for domain in (GCP, "azure"):
        made.store.domains.fail(domain)
    assert not made.store.leases.acquire("s", **ASKED).changed and "s.dead" in files_in(made)
    for domain in (GCP, "azure"):
        made.store.domains.restore(domain)
    assert not made.store.leases.acquire("s", **ASKED).changed and len(files_in(made)) == 1


def test_the_gate_comes_first_and_nothing_is_left_of_a_refusal(made: World) -> None:
    made.observe(GCP, "unhealthy")
    made.store.domains.fail("azure")
    made.store.leases.acquire("s", **ASKED)
    before = without_log(made.dump(), keys.AUDIT_LOG)
    for domain, code, reason in (
        ("mars", 11, "not_in_placement"),
        (GCP, 12, "unhealthy"),
        ("azure", 12, "unreachable"),
    ):
        with pytest.raises(DomainUnavailable) as refused:
            made.store.leases.acquire("t", **ASKED | {"domain": domain})
        assert (refused.value.exit_code, refused.value.reason) == (code, reason) and "audit" in refused.value.fields
    for call in (made.store.leases.renew, made.store.leases.release):
        with pytest.raises(DomainUnavailable, match="its segment is in aws") as refused:
            call("s", token=1, domain=GCP)
        assert refused.value.exit_code == 11
    with pytest.raises(Busy):
        made.store.leases.acquire("s", **ASKED | {"owner": "you"})
    for name in ("s/t", "", "../s", "s" * 129):
        with pytest.raises(Usage):
            made.store.leases.acquire(name, **ASKED)
    with pytest.raises(NotFound):
        made.store.leases.revoke("absent")
    assert changed_keys(before, without_log(made.dump(), keys.AUDIT_LOG)) == []
    assert (len(files_in(made)), files_in(made, GCP), files_in(made, "azure")) == (1, [], [])


def test_an_unhealthy_domain_renews_nothing_but_takes_back(made: World) -> None:
    made.store.leases.acquire("s", **ASKED)
    made.observe(AWS, "unhealthy")
    with pytest.raises(DomainUnavailable) as refused:
        made.store.leases.renew("s", token=1, domain=AWS)
    assert refused.value.exit_code == 12
    assert made.store.leases.release("s", token=1, domain=AWS).changed


def test_a_dry_run_says_the_same_and_writes_nothing(made: World) -> None:
    before = made.dump()
    tried = made.store.leases.acquire("s", **ASKED, dry_run=True)
    assert tried.changed and tried.dry_run and after(tried)["state"] == "held"
    assert changed_keys(before, made.dump()) == [] and files_in(made) == []
    made.store.leases.acquire("s", **ASKED)
    before, files = made.dump(), files_in(made)
    made.advance(TERM_MS * 9 // 10)
    assert made.store.leases.renew("s", token=1, domain=AWS, dry_run=True).changed
    assert made.store.leases.release("s", token=1, domain=AWS, dry_run=True).changed
    assert after(made.store.leases.revoke("s", grace_ms=0, dry_run=True))["state"] == "revoked"
    assert changed_keys(before, made.dump()) == [] and files_in(made) == files


def test_a_revoked_segment_is_removed_when_nobody_may_use_it(made: World) -> None:
    made.store.leases.acquire("s", **ASKED)
    assert after(made.store.leases.revoke("s", grace_ms=TERM_MS // 2))["state"] == "revoking"
    assert len(files_in(made)) == 1 and made.store.leases.renew("s", token=1, domain=AWS).changed is False
    made.advance(TERM_MS // 2)
    with pytest.raises(Fenced, match="was revoked"):
        made.store.leases.renew("s", token=1, domain=AWS)
    assert made.store.leases.revoke("s", grace_ms=TERM_MS // 2).changed is False and files_in(made) == []


def test_who_comes_second_leaves_no_file(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fallocate = os.posix_fallocate
    quick = iter([lambda: made.store.leases.acquire("s", **ASKED | {"owner": "quick", "domain": GCP})])

    def late(handle: int, start: int, size: int) -> None:
        for step in quick:
            step()  # between the first look and the append
        fallocate(handle, start, size)

    monkeypatch.setattr(os, "posix_fallocate", late)
    with pytest.raises(Busy):
        made.store.leases.acquire("s", **ASKED)
    assert (state_of(made), files_in(made), len(files_in(made, GCP))) == ("held", [], 1)


def test_a_disk_without_room_grants_nothing(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, start: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreFull):
        made.store.leases.acquire("s", **ASKED)
    assert made.store.leases.list().items == [] and files_in(made) == []


@pytest.mark.parametrize("step", ["segment.allocated:1", "append.before:1", "append.after:1", "append.committed:1"])
def test_a_holder_that_is_killed_while_it_acquires_asks_again(run: Runner, step: str) -> None:
    run("init", "store", "--domain", "aws", "--domain", "gcp")
    words = ["lease", "acquire", "s", "--bytes", "4KiB", "--owner", "me", "-d", "aws", "--json"]
    run(*words, store="store", env={"GRAFCTL_KILL_AT": step}, check=-9)
    lease = run(*words, store="store").json["after"]
    assert (lease["state"], lease["generation"], lease["token"]) == ("held", 1, 1)
    left = list((run.cwd / "store" / "domains" / "aws" / "segments").iterdir())
    assert [file.stat().st_size for file in left] == [4096], "what was made for nobody is cleared away"
    assert run("verify", "--exit-code", store="store").code == 0
