"""Open ends of an edge: records without a look at the control log, and each loss met for sure and helped once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from store.world import World, world

from grafctl import threads
from grafctl.edges import segment
from grafctl.edges.answers import Taken
from grafctl.edges.ring_bytes import SLOTS_AT
from grafctl.errors import Corrupt, DomainUnavailable, Fenced, GenerationConflict, GrafctlError, NotFound, Usage
from grafctl.nouns import edge_end
from grafctl.nouns.edge_handles import EdgeReader, EdgeWriter
from grafctl.store.records import CTRL, encode_json
from grafctl.store.replica.state import State
from grafctl.store.requests import Context, Decision

AWS, GCP, TERM_MS = "aws", "gcp", 1_000_000
LEASE: dict[str, Any] = {"domain": AWS, "bytes": 4096, "owner": "me", "term_ms": TERM_MS}


class Ends(NamedTuple):
    """A store with both ends of an edge of four slots open."""

    world: World
    writer: EdgeWriter
    reader: EdgeReader


@pytest.fixture(params=["memory", "lmdb"])
def ends(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    monkeypatch.setattr(edge_end, "LOOK_S", 10**6)  # nothing here is found out by looking now and then
    with world(tmp_path / "store", [AWS, GCP, "azure"], request.param) as here:
        here.store.leases.acquire("e", **LEASE)
        here.store.edges.create("e", token=1, slots=4, domain=AWS)
        with here.store.edges.writer("e", domain=AWS) as writer, here.store.edges.reader("e", domain=AWS) as reader:
            yield Ends(here, writer, reader)


def payloads(taken: Taken) -> list[bytes]:
    return [record.payload for record in taken.records]


def refused(kind: type[GrafctlError], call: Callable[[], object], state: str | None, *, recoverable: bool) -> Any:
    with pytest.raises(kind) as error:
        call()
    assert type(error.value) is kind and error.value.fields.get("state") == state, error.value.as_json()
    assert error.value.fields["recoverable"] is recoverable and "audit" in error.value.fields
    return error.value


class Forged(NamedTuple):
    """An entry that puts any row where an edge is."""

    row: Any

    def decide(self, state: State, context: Context) -> Decision:
        return Decision(None, encode_json({"do": "edge", "name": "e", "row": self.row}), kind=CTRL)


def row_of(here: World) -> dict[str, Any]:
    from grafctl.store.checked import checked
    from grafctl.store.resources.edges import handoff_of

    return checked(here.store.session.control, lambda state: handoff_of(state, "e"))._asdict()


def reads_of(here: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns a list that grows with every look at the control log."""
    looks: list[str] = []
    log = here.store.session.control
    view = log.view

    def counted(*args: Any) -> Any:
        looks.append("look")
        return view(*args)

    monkeypatch.setattr(log, "view", counted)
    return looks


def test_records_pass_in_order_without_a_look_at_the_control_log(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    ends.reader.take()
    looks = reads_of(ends.world, monkeypatch)
    assert [tuple(ends.writer.push(body)) for body in ("a", b"\xff\0", "")] == [
        (1, offset, False, 1) for offset in range(3)
    ]
    assert tuple(ends.writer.push("d")) == (0, None, True, 1)
    taken = ends.reader.take(2)
    assert payloads(taken) == payloads(ends.reader.take(2)) == [b"a", b"\xff\0"] and taken.generation == 1
    assert ends.reader.finish(taken) and payloads(ends.reader.pop(9)) == [b""]
    assert ends.reader.pop() == Taken([], 1) and not ends.reader.finish(Taken([], 1))
    assert tuple(ends.writer.push_batch(["1", "2", "3", "4"])) == (3, 3, True, 1)
    with pytest.raises(GenerationConflict, match="finished by somebody else"):
        ends.reader.finish(taken)
    assert looks == []


def lose(ends: Ends, how: str) -> None:
    here = ends.world
    (file,) = Path(here.store.session.cluster.place(AWS).where, segment.FOLDER).iterdir()
    if how == "expired":
        here.advance(TERM_MS)
    elif how == "released":
        here.store.leases.release("e", token=1, domain=AWS)
    elif how == "gone":
        file.unlink()
    elif how == "cut":
        os.truncate(file, 100)
    elif how == "torn":
        raw = bytearray(file.read_bytes())
        raw[520] ^= 1
        file.write_bytes(raw)


@pytest.mark.parametrize("how", ["expired", "released", "gone", "cut", "torn"])
def test_the_push_that_meets_a_loss_raises_and_the_next_one_is_in_a_new_segment(ends: Ends, how: str) -> None:
    ends.writer.push_batch(["a", "b"])
    taken = ends.reader.take()
    lose(ends, how)
    state = how if how in ("expired", "released") else "disconnected"
    for _ in range(2):  # the reader waits, and harms nothing
        assert "Take again" in refused(GenerationConflict, ends.reader.pop, state, recoverable=True).hint
    error = refused(GenerationConflict, lambda: ends.writer.push("c"), state, recoverable=True)
    assert error.fields["generation"] == ends.writer.generation == 2 and "push again" in error.hint
    with pytest.raises(GenerationConflict, match="of generation 1, and the edge at 2"):
        ends.reader.finish(taken)
    assert ends.reader.pop() == Taken([], 2), "the new segment is empty: the push that failed is not in it"
    for body in ("a", "b", "c"):
        assert ends.writer.push(body).generation == 2
    told = ends.world.store.edges.status("e").items[0]["counts"]
    assert (told["relocations"], told["rebinds"], told["generation_changes"], told["pushed"]) == (1, 1, 1, 5)
    again = ends.reader.pop(9)
    assert (payloads(again), again.generation) == ([b"a", b"b", b"c"], 2)
    assert len(list(Path(ends.world.store.session.cluster.place(AWS).where, segment.FOLDER).iterdir())) == 1


def test_the_same_loss_is_audited_once(ends: Ends) -> None:
    lose(ends, "gone")
    errors = [refused(GenerationConflict, ends.reader.pop, "disconnected", recoverable=True) for _ in range(5)]
    assert len({error.fields["audit"] for error in errors}) == 1
    told = [record for record in ends.world.audit_records() if record["op"] == "edge pop"]
    assert len(told) == 1 and told[0]["lease"] == "e"


def test_a_replaced_segment_is_met_by_both_at_once(ends: Ends) -> None:
    ends.writer.push("a")
    with ends.world.reopened() as other:
        token = (other.edges.relocate("e", token=1, domain=AWS).after or {})["token"]
    assert ends.reader.pop() == Taken([], 2)
    error = refused(Fenced, lambda: ends.writer.push("b"), "fenced", recoverable=False)
    assert error.fields["current"] == token and ends.writer.generation == 1
    refused(Fenced, ends.writer.keep, "fenced", recoverable=False)
    assert ends.reader.pop() == Taken([], 2)


def test_a_revoked_lease_is_used_up_to_the_end_of_its_grace(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    with ends.world.reopened() as other:
        other.leases.revoke("e", grace_ms=500_000)
    looks = reads_of(ends.world, monkeypatch)
    ends.world.advance(400_000)
    for body in ("a", "b"):
        assert ends.writer.push(body).pushed == 1
    assert payloads(ends.reader.pop()) == [b"a"]
    assert looks != [], "the notice made them look, long before the deadline that they knew"
    ends.world.advance(100_000)
    for call in (lambda: ends.writer.push("c"), ends.reader.pop):
        refused(Fenced, call, "revoked", recoverable=False)


@pytest.mark.parametrize("whose", ["writer", "reader"])
def test_a_revoke_without_grace_ends_the_next_operation(ends: Ends, whose: str) -> None:
    ends.writer.push("a")
    with ends.world.reopened() as other:
        other.leases.revoke("e", grace_ms=0)
    refused(Fenced, getattr(ends, whose).pop if whose == "reader" else ends.writer.keep, "revoked", recoverable=False)


def test_who_died_while_ending_a_lease_leaves_handles_that_ask_each_time(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ends.world.reopened() as other:
        row = dict(zip(("domain", "segment", "bytes", "token"), _place_of(ends), strict=True))
        ring = other.leases._begun(row)
        assert ring is not None
        ring.close()
        looks = reads_of(ends.world, monkeypatch)
        for number in range(3):
            assert ends.writer.push("a").pushed == 1
            assert len(looks) == number + 1
        other.leases.revoke("e", grace_ms=0)
        refused(Fenced, lambda: ends.writer.push("a"), "revoked", recoverable=False)


def _place_of(ends: Ends) -> tuple[Any, ...]:
    row = row_of(ends.world)
    return row["domain"], row["segment"], row["bytes"], row["token"]


def test_a_refused_or_a_tried_end_of_a_lease_costs_one_look_at_most(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ends.world.store
    store.leases.release("e", token=1, domain=AWS, dry_run=True)
    looks = reads_of(ends.world, monkeypatch)
    ends.writer.push("a")
    assert looks == []
    with pytest.raises(Fenced):
        store.leases.release("e", token=9, domain=AWS)
    looks.clear()
    for _ in range(3):
        ends.reader.take()
    ends.writer.push("b")
    assert len(looks) <= 3, "each end looked once, and the reader found no other handoff"


def test_the_writer_renews_when_that_is_due_and_only_then(ends: Ends) -> None:
    def until_ms() -> int:
        return int(ends.world.store.leases.list().items[0]["until_ms"])

    first, due_ms = until_ms(), ends.world.store.leases.list().items[0]["due_ms"]
    ends.world.advance(due_ms - (first - TERM_MS) - 10_000)
    ends.writer.push("a")
    assert until_ms() == first
    ends.world.advance(20_000)
    ends.writer.keep()
    assert until_ms() > first
    ends.world.advance(first - due_ms)
    assert payloads(ends.reader.pop()) == [b"a"], "the reader finds the later deadline where it knew an earlier one"
    for _ in range(10):
        ends.world.advance(TERM_MS // 5)
        ends.writer.push("b")
        assert payloads(ends.reader.pop()) == [b"b"]
    assert ends.writer.generation == 1


def test_an_older_generation_another_place_and_a_corrupt_record_are_errors(ends: Ends) -> None:
    store = ends.world.store
    with ends.world.reopened() as other:
        other.edges.relocate("e", token=1, domain=AWS)
    assert ends.reader.pop().generation == 2
    good = row_of(ends.world)
    for row, kind in (
        (good | {"generation": 1, "token": 1}, GenerationConflict),
        (good | {"segment": "e.other"}, GenerationConflict),
        (good | {"slots": "4"}, Corrupt),
        (None, NotFound),
        ([], Corrupt),
    ):
        store.session.control.append(Forged(row))
        ends.reader._must_look = True
        for _ in range(2):
            with pytest.raises(kind) as error:
                ends.reader.pop()
            assert type(error.value) is kind
    store.session.control.append(Forged(good))
    assert ends.reader.pop() == Taken([], 2), "and where the record is there again, so is the reader"


def test_the_gate_is_asked_when_an_end_is_opened_and_now_and_then(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    edges = ends.world.store.edges
    calls: list[Callable[[], object]]
    calls = [lambda: edges.writer("e", domain=GCP), lambda: edges.reader("e", domain="mars")]
    for call in calls:
        with pytest.raises(DomainUnavailable) as error:
            call()
        assert error.value.exit_code == 11
    calls = [lambda: edges.writer("absent", domain=AWS), lambda: edges.reader("absent", domain=AWS)]
    for call in calls:
        with pytest.raises(NotFound):
            call()
    ends.world.observe(AWS, "unhealthy")
    ends.writer._look_s = ends.reader._look_s = 0.0
    calls = [lambda: ends.writer.push("a"), ends.reader.pop]
    for call in calls:
        with pytest.raises(DomainUnavailable):
            call()
    ends.world.observe(AWS)
    assert ends.writer.push("a").pushed == 1
    ends.world.store.domains.fail(AWS)
    ends.writer._look_s = 0.0
    with pytest.raises(DomainUnavailable) as refusal:
        ends.writer.push("a")
    assert refusal.value.fields["reason"] == "unreachable" and ends.writer.generation == 1
    ends.world.store.domains.restore(AWS)
    assert ends.writer.push("a").pushed == 1


def test_without_a_quorum_a_lease_counts_up_to_its_deadline(ends: Ends) -> None:
    domains = ends.world.store.domains
    assert ends.writer.push("a").pushed == 1 and ends.reader.pop().records
    for domain in (GCP, "azure"):
        domains.fail(domain)
    ends.writer._look_s = ends.reader._look_s = 0.0
    assert ends.writer.push("b").pushed == 1 and payloads(ends.reader.pop()) == [b"b"]
    ends.world.advance(TERM_MS)
    for call in (lambda: ends.writer.push("c"), ends.reader.pop):
        with pytest.raises(GrafctlError):
            call()
    for domain in (GCP, "azure"):
        domains.restore(domain)
    refused(GenerationConflict, lambda: ends.writer.push("c"), "expired", recoverable=True)
    assert ends.writer.push("c").generation == 2


def test_opening_a_writer_finishes_what_another_began(ends: Ends) -> None:
    store = ends.world.store
    token = (store.leases.acquire("e", **LEASE, replace=1).after or {})["token"]
    error = refused(GenerationConflict, ends.reader.pop, "disconnected", recoverable=True)
    assert "not published yet" in error.message
    ends.world.advance(TERM_MS)
    token = (store.leases.acquire("e", **LEASE, replace=token).after or {})["token"]
    with pytest.raises(Fenced):
        store.edges.writer("e", domain=AWS, token=1)
    refused(Fenced, lambda: ends.writer.push("a"), "fenced", recoverable=False)
    with store.edges.writer("e", domain=AWS) as writer:
        assert (writer.token, writer.generation) == (token, 3)
        assert writer.push("a").pushed == 1 and payloads(ends.reader.pop()) == [b"a"]
    ends.world.advance(TERM_MS)
    with store.edges.writer("e", domain=AWS, token=token) as writer:
        assert writer.generation == 4 and writer.push("b").pushed == 1


def test_a_writer_goes_on_with_the_relocation_that_it_could_not_publish(ends: Ends) -> None:
    store = ends.world.store
    ends.world.advance(TERM_MS)
    store.leases.acquire("e", **LEASE, replace=1)
    error = refused(GenerationConflict, lambda: ends.writer.push("a"), "disconnected", recoverable=True)
    assert error.fields["generation"] == ends.writer.generation == 2
    assert ends.writer.push("a").generation == 2


def test_who_took_the_name_over_fences_the_writer(ends: Ends) -> None:
    ends.world.advance(TERM_MS)
    ends.world.store.leases.acquire("e", **LEASE | {"owner": "you"})
    for _ in range(2):
        refused(Fenced, lambda: ends.writer.push("a"), "fenced", recoverable=False)


@pytest.mark.parametrize("body", [5, None, bytearray(b"x"), [b"x"], 1.5])
def test_what_is_no_record_is_refused(ends: Ends, body: Any) -> None:
    for call in (lambda: ends.writer.push(body), lambda: ends.writer.push_batch([b"a", body])):
        with pytest.raises(Usage, match="is bytes or text"):
            call()
    assert ends.reader.pop().records == []


def test_other_misuse_is_one_sentence(ends: Ends) -> None:
    edges = ends.world.store.edges
    calls: list[Callable[[], object]] = [
        lambda: ends.writer.push(b"x" * (ends.writer.payload_bytes_max + 1)),
        lambda: ends.writer.push_batch(b"abc"),  # type: ignore[arg-type]
        lambda: ends.writer.push_batch("abc"),
        *(lambda most=most: ends.reader.take(most) for most in (0, -1, 10_001, True, "1", 1.0, None)),
        lambda: ends.reader.finish([b"a"]),  # type: ignore[arg-type]
        *(lambda token=token: edges.writer("e", domain=AWS, token=token) for token in (0, -1, "1", True)),
        lambda: edges.writer("no name", domain=AWS),
        lambda: edges.reader("e", domain="A B"),
    ]
    for call in calls:
        with pytest.raises(Usage) as error:
            call()
        assert error.value.message.endswith(".") and "\n" not in error.value.message
    assert ends.writer.push(b"x" * ends.writer.payload_bytes_max).pushed == 1
    for end in ends[1:]:
        end.close()
        end.close()
    for call in (lambda: ends.writer.push("a"), ends.reader.take):
        with pytest.raises(Usage, match="was closed"):
            call()


def test_a_fork_does_not_share_an_end(ends: Ends) -> None:
    child = os.fork()
    if not child:
        try:
            ends.writer.push("a")
        except Usage:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert ends.reader.take().records == []


def test_threads_take_turns_at_one_end(tmp_path: Path) -> None:
    with world(tmp_path / "store", [AWS], "memory") as here:
        here.store.leases.acquire("e", **LEASE | {"bytes": SLOTS_AT + 1024 * 64})
        here.store.edges.create("e", token=1, slots=1024, domain=AWS)
        writer = here.store.edges.writer("e", domain=AWS)

        def push(name: str) -> None:
            for number in range(100):
                writer.push(f"{name}{number}")

        running = [threads.start(partial(push, name)) for name in "abcde"]
        for thread in running:
            thread.join()
        found = payloads(here.store.edges.reader("e", domain=AWS).pop(1000))
        for name in "abcde":
            own = [body for body in found if body.startswith(name.encode())]
            assert own == [f"{name}{n}".encode() for n in range(100)]
