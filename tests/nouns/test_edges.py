"""Edges in a store: the gate before each operation, full and empty as answers, and a lease that is over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Runner
from resources.rows import Rows
from store.world import World, changed_keys, without_log, world

from grafctl.edges import segment
from grafctl.errors import Corrupt, DomainUnavailable, Fenced, GenerationConflict, GrafctlError, NotFound, Usage
from grafctl.results import Record
from grafctl.store import keys, segment_keys
from grafctl.store.records import encode_json
from grafctl.store.resources.edges import Handoff, PublishEdge

AWS, GCP, TERM_MS = "aws", "gcp", 1_000_000  # so long that no slow machine lives through it
LEASE: dict[str, Any] = {"domain": AWS, "bytes": 4096, "owner": "me", "term_ms": TERM_MS}


@pytest.fixture(params=["memory", "lmdb"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "store", [AWS, GCP, "azure"], request.param) as here:
        here.store.leases.acquire("e", **LEASE)
        here.store.edges.create("e", token=1, slots=4, domain=AWS)
        yield here


def payloads(shown: Any) -> list[bytes]:
    return [record.payload for record in shown.body["records"]]


def file_of(here: World) -> Path:
    (file,) = Path(here.store.session.cluster.place(AWS).where, segment.FOLDER).iterdir()
    return file


def test_records_come_out_in_the_order_in_which_they_went_in(made: World) -> None:
    edges = made.store.edges
    assert [edges.push("e", payload, domain=AWS).body["offset"] for payload in ("a", b"\xff\0", "")] == [0, 1, 2]
    full = edges.push("e", "d", domain=AWS).body
    assert (full["count"], full["full"], full["used"], full["capacity"]) == (0, True, 3, 3), "one slot stays free"
    assert edges.take("e", domain=AWS, max=9).body["records"][0] == Record(0, b"a")
    assert payloads(edges.pop("e", domain=AWS)) == [b"a"] and payloads(edges.pop("e", domain=AWS, max=9)) == [
        b"\xff\0",
        b"",
    ]
    empty = edges.pop("e", domain=AWS)
    assert (empty.body["empty"], empty.body["records"], empty.body["head"]) == (True, [], 3)
    several = edges.push_batch("e", ["1", "2", "3", "4", "5"], domain=AWS).body
    assert (several["count"], several["full"], several["offset"]) == (3, True, 3)
    (told,) = edges.status("e").items
    assert (told["state"], told["used"], told["generation"]) == ("held", 3, 1)


def test_what_was_taken_and_not_finished_comes_again_and_is_finished_once(made: World) -> None:
    edges = made.store.edges
    edges.push_batch("e", ["a", "b", "c"], domain=AWS)
    taken, again = (edges.take("e", domain=AWS, max=2) for _ in range(2))
    assert payloads(taken) == payloads(again) == [b"a", b"b"]
    assert edges.finish("e", taken, domain=AWS)
    with pytest.raises(GenerationConflict, match="finished by somebody else"):
        edges.finish("e", again, domain=AWS)
    assert payloads(edges.pop("e", domain=AWS, max=9)) == [b"c"]
    assert edges.finish("e", edges.take("e", domain=AWS), domain=AWS) is False


def test_making_it_again_changes_nothing(made: World) -> None:
    made.store.edges.push("e", "a", domain=AWS)
    before = made.dump()
    assert made.store.edges.create("e", token=1, slots=4, domain=AWS).changed is False
    assert changed_keys(before, made.dump()) == []
    with pytest.raises(GenerationConflict, match="with 4 slots"):
        made.store.edges.create("e", token=1, slots=5, domain=AWS)
    assert payloads(made.store.edges.pop("e", domain=AWS)) == [b"a"]


def test_an_edge_that_its_maker_died_in_is_made_by_the_same_command(run: Runner) -> None:
    run("init", "store", "--domain", "aws", "--domain", "gcp")
    run("lease", "acquire", "e", "--bytes", "4KiB", "--owner", "me", "--term", "1h", "-d", "aws", store="store")
    words = ["edge", "create", "e", "--slots", "4", "--token", "1", "-d", "aws", "--json"]
    for step in ("append.before:1", "append.after:1", "append.committed:1"):
        run(*words, store="store", env={"GRAFCTL_KILL_AT": step}, check=-9)
    run(*words, store="store")
    assert run("edge", "push", "e", "a", "-d", "aws", "--json", store="store").json["offset"] == 0
    run("edge", "pop", "e", "-d", "aws", store="store", env={"GRAFCTL_KILL_AT": "edge.taken:1"}, check=-9)
    shown = run(
        "edge", "pop", "e", "-d", "aws", "--json", store="store", env={"GRAFCTL_KILL_AT": "edge.head:1"}, check=-9
    )
    assert shown.json["records"] == [{"offset": 0, "payload": "a"}]
    assert run("edge", "pop", "e", "-d", "aws", "--json", store="store").json["empty"] is True


def refusal_of(here: World, kind: type[GrafctlError], **caller: Any) -> GrafctlError:
    """Returns how both ends are refused, in the same words but for what they were about to do."""
    found = []
    for call in (lambda: here.store.edges.push("e", "x", **caller), lambda: here.store.edges.pop("e", **caller)):
        with pytest.raises(kind) as refused:
            call()
        assert "audit" in refused.value.fields
        found.append(refused.value)
    assert found[0].as_json().keys() == found[1].as_json().keys() and type(found[0]) is type(found[1])
    return found[0]


def test_the_gate_comes_first_in_its_order(made: World) -> None:
    made.store.edges.push("e", "a", domain=AWS)
    made.observe(AWS, "unhealthy")
    before = without_log(made.dump(), keys.AUDIT_LOG)
    with pytest.raises(NotFound):
        made.store.edges.push("absent", "x", domain="mars")
    for domain in ("mars", GCP):
        refused = refusal_of(made, DomainUnavailable, domain=domain, token=9)
        assert (refused.exit_code, refused.fields["reason"]) == (11, "not_in_placement")
    assert refusal_of(made, Fenced, domain=AWS, token=9).fields["recoverable"] is False
    assert refusal_of(made, DomainUnavailable, domain=AWS).exit_code == 12
    assert changed_keys(before, without_log(made.dump(), keys.AUDIT_LOG)) == []
    made.observe(AWS)
    made.store.domains.fail(AWS)
    assert refusal_of(made, DomainUnavailable, domain=AWS).fields["reason"] == "unreachable"
    made.store.domains.restore(AWS)
    assert payloads(made.store.edges.pop("e", domain=AWS, token=1)) == [b"a"]


def test_a_lease_that_is_over_ends_the_edge_and_a_new_one_helps(made: World) -> None:
    edges = made.store.edges
    edges.push("e", "a", domain=AWS)
    made.advance(TERM_MS)
    refused = refusal_of(made, GenerationConflict, domain=AWS)
    assert (refused.fields["state"], refused.fields["recoverable"]) == ("expired", True)
    assert edges.status().items[0]["state"] == "expired"
    token = (made.store.leases.acquire("e", **LEASE | {"owner": "you"}).after or {})["token"]
    refused = refusal_of(made, Fenced, domain=AWS)
    assert (refused.fields["state"], refused.fields["current"]) == ("fenced", token)
    with pytest.raises(Fenced):
        edges.create("e", token=1, slots=4, domain=AWS)
    assert edges.create("e", token=token, slots=8, domain=AWS).changed
    assert refusal_of(made, Fenced, domain=AWS, token=1).fields["current"] == token
    assert edges.push("e", "b", domain=AWS, token=token).body["generation"] == 2
    assert payloads(edges.pop("e", domain=AWS, max=9)) == [b"b"], "nothing of the old segment is in the new one"


@pytest.mark.parametrize("how", ["expired", "gone", "whole"])
def test_an_edge_is_relocated_by_who_had_its_lease(made: World, how: str) -> None:
    edges = made.store.edges
    edges.push("e", "a", domain=AWS)
    if how == "gone":
        file_of(made).unlink()
    made.advance(TERM_MS if how == "expired" else 0)
    before = made.dump()
    tried = edges.relocate("e", token=1, domain=GCP, dry_run=True)
    assert tried.changed and (tried.after or {})["generation"] == 2 and changed_keys(before, made.dump()) == []
    moved = edges.relocate("e", token=1, domain=GCP)
    after = moved.after or {}
    assert (moved.changed, after["generation"], after["domain"], after["slots"]) == (True, 2, GCP, 4)
    assert moved.before == {"generation": 1, "token": 1, "domain": AWS}
    again = edges.relocate("e", token=1, domain=GCP)
    assert (again.changed, again.after) == (False, after)
    assert refusal_of(made, Fenced, domain=GCP, token=1).fields["recoverable"] is False
    assert edges.push("e", "a", domain=GCP).body["generation"] == 2, "the push that failed is made again"
    assert payloads(edges.pop("e", domain=GCP, max=9)) == [b"a"]
    with pytest.raises(Fenced):
        edges.relocate("e", token=9, domain=GCP)
    made.store.leases.revoke("e", grace_ms=0)
    with pytest.raises(Fenced, match="was revoked"):
        edges.relocate("e", token=after["token"], domain=GCP)


@pytest.mark.parametrize("step", ["segment.allocated:1", "append.after:1", "append.committed:1", "append.before:2"])
def test_a_relocation_that_was_killed_is_finished_by_the_same_command(run: Runner, step: str) -> None:
    run("init", "store", "--domain", "aws", "--domain", "gcp")
    run("lease", "acquire", "e", "--bytes", "4KiB", "--owner", "me", "--term", "1h", "-d", "aws", store="store")
    run("edge", "create", "e", "--slots", "4", "--token", "1", "-d", "aws", store="store")
    run("edge", "push", "e", "old", "-d", "aws", store="store")
    words = ["edge", "relocate", "e", "--token", "1", "-d", "gcp", "--json"]
    run(*words, store="store", env={"GRAFCTL_KILL_AT": step}, check=-9)
    assert run(*words, store="store").json["after"]["generation"] == 2
    assert run("edge", "pop", "e", "-d", "gcp", "--json", store="store").json["empty"] is True
    assert run("edge", "push", "e", "old", "-d", "gcp", "--json", store="store").json["generation"] == 2
    run("edge", "push", "e", "x", "-d", "aws", store="store", check=11)


def test_a_revoked_lease_is_used_in_its_grace_and_no_longer(made: World) -> None:
    made.store.leases.revoke("e", grace_ms=TERM_MS // 2)
    assert made.store.edges.push("e", "a", domain=AWS).body["count"] == 1
    made.advance(TERM_MS // 2)
    refused = refusal_of(made, Fenced, domain=AWS)
    assert (refused.fields["state"], refused.fields["recoverable"]) == ("revoked", False)


@pytest.mark.parametrize("how", ["torn", "cut", "gone"])
def test_a_lost_segment_is_said_to_be_lost_to_both_ends(made: World, how: str) -> None:
    made.store.edges.push("e", "a", domain=AWS)
    file = file_of(made)
    if how == "gone":
        file.unlink()
    else:
        raw = bytearray(file.read_bytes())
        raw[2048 + 16] ^= 1  # the first record
        file.write_bytes(raw if how == "torn" else raw[:-1])
    if how == "torn":
        with pytest.raises(GenerationConflict, match="the checksum of slot 0 is wrong"):
            made.store.edges.pop("e", domain=AWS)
    refused = refusal_of(made, GenerationConflict, domain=AWS)
    assert (refused.fields["state"], refused.fields["recoverable"]) == ("disconnected", True)
    assert "--replace 1" in str(refused.hint)
    assert made.store.edges.status().items[0]["state"] == "disconnected"


def test_what_cannot_be_asked_for_is_refused(made: World) -> None:
    with pytest.raises(Usage, match="at most"):
        made.store.edges.push("e", b"x" * 497, domain=AWS)
    assert made.store.edges.push("e", b"x" * 496, domain=AWS).body["count"] == 1
    for most in (0, -1, 10_001):
        with pytest.raises(Usage):
            made.store.edges.take("e", domain=AWS, max=most)
    for slots in (0, 1, 10**9):
        with pytest.raises(Usage):
            made.store.edges.create("e", token=1, slots=slots, domain=AWS)
    with pytest.raises(NotFound, match="no lease"):
        made.store.edges.create("absent", token=1, slots=4, domain=AWS)
    with pytest.raises(NotFound, match="no edge"):
        made.store.edges.status("absent")


def test_a_dry_run_writes_nothing(made: World) -> None:
    made.store.edges.push("e", "a", domain=AWS)
    made.store.leases.acquire("f", **LEASE)
    before, file = made.dump(), file_of_edge(made, "e").read_bytes()
    tried = made.store.edges.push_batch("e", ["x"] * 9, domain=AWS, dry_run=True).body
    assert (tried["count"], tried["full"], tried["offset"]) == (2, True, 1)
    assert made.store.edges.create("f", token=3, slots=4, domain=AWS, dry_run=True).changed
    assert changed_keys(before, made.dump()) == [] and file_of_edge(made, "e").read_bytes() == file
    assert not file_of_edge(made, "f").read_bytes().strip(b"\0")


def file_of_edge(here: World, name: str) -> Path:
    folder = Path(here.store.session.cluster.place(AWS).where, segment.FOLDER)
    return next(file for file in folder.iterdir() if file.name.startswith(f"{name}."))


def test_an_edge_gives_no_resource_another_generation(made: World) -> None:
    made.store.queues.create("q", replicas=["a=aws", "g=gcp"], schema="s", allow=["aws"])
    log = made.log_id("q")
    before = {domain: {key: row for key, row in rows.items() if log in key} for domain, rows in made.dump().items()}
    made.store.edges.push("e", "a", domain=AWS)
    made.store.edges.pop("e", domain=AWS)
    made.store.leases.acquire("e", **LEASE, replace=1)
    after = {domain: {key: row for key, row in rows.items() if log in key} for domain, rows in made.dump().items()}
    assert changed_keys(before, after) == []


GOOD = {"generation": 1, "token": 2, "domain": "aws", "segment": "e.1", "kind": "memory", "bytes": 4096, "slots": 4}


@pytest.mark.parametrize(
    "row",
    [
        None,
        [],
        "x",
        {},
        GOOD,
        GOOD | {"slot_bytes": "512"},
        GOOD | {"slot_bytes": True},
        GOOD | {"slot_bytes": 512, "more": 1},
    ],
)
def test_a_row_that_says_no_place_is_an_error_and_never_a_guess(row: Any) -> None:
    with pytest.raises(Corrupt):
        Handoff.of(row, "e")
    assert Handoff.of(GOOD | {"slot_bytes": 512}, "e").slot_bytes == 512


def test_an_older_generation_is_never_published() -> None:
    rows = Rows()
    rows.start()
    lease = {"generation": 2, "token": 1, "domain": "aws", "segment": "e.2", "kind": "memory", "bytes": 4096}
    lease |= {"state": "held", "until_ms": 10**9, "gone_ms": None}
    rows.rows[segment_keys.segment_lease("e")] = encode_json(lease)
    rows.rows[segment_keys.edge("e")] = encode_json(GOOD | {"generation": 3, "slot_bytes": 512})
    with pytest.raises(GenerationConflict, match="at generation 3"):
        rows.run(PublishEdge("e", 1, 4, 512))
