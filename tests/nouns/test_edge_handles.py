"""Open ends of an edge: records without a look at the control log, and each loss met for sure and helped once."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from store.world import world

from grafctl import threads
from grafctl.edges import segment
from grafctl.edges.answers import Taken
from grafctl.edges.ring_bytes import SLOTS_AT
from grafctl.errors import Corrupt, DomainUnavailable, GenerationConflict, NotFound, Usage
from nouns.edge_ends import AWS, GCP, LEASE, TERM_MS, Ends, Forged, payloads, reads_of, refused, row_of


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
