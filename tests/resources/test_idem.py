"""Idempotency stores: one completion for a key of a stage, whoever comes, in whatever order."""

from __future__ import annotations

import json
from typing import Any

import pytest

from grafctl.errors import Busy, DomainUnavailable, Fenced, IdempotencyConflict, NotFound, Usage
from grafctl.store import keys
from grafctl.store.fingerprints import fingerprint_of
from grafctl.store.requests import Context, Request
from grafctl.store.resources.effects import Complete, Completed, Effect, Recorded, RecordEffects, split_effect
from grafctl.store.resources.idem import Asker, Expire, Expired, Release, Reserve, Reserved, stage_counts
from resources.rows import AWS, CONFIG, GCP, Q, Rows, S, a_queue, an_idem

STAGE, KEY, LEASE_MS, DAY_MS = "charge", "order-1", 1_000, 86_400_000
ASKER = Asker(S, AWS)


def reserve(rows: Rows, payload: bytes = b"42", key: str = KEY, stage: str = STAGE, asker: Asker = ASKER) -> Reserved:
    answer: Reserved = rows.run(Reserve(asker, stage, key, fingerprint_of(stage, key, payload), LEASE_MS))
    return answer


def complete(rows: Rows, token: int, result: bytes = b"paid", key: str = KEY, asker: Asker = ASKER) -> Completed:
    answer: Completed = rows.run(Complete(asker, STAGE, key, token, result))
    return answer


def release(rows: Rows, token: int, key: str = KEY) -> bool:
    return bool(rows.run(Release(ASKER, STAGE, key, token)))


def record(rows: Rows, *pairs: tuple[str, bytes], stage: str = STAGE, **more: Any) -> Recorded:
    effects = [Effect(key, fingerprint_of(stage, key, payload), b"done " + payload) for key, payload in pairs]
    answer: Recorded = rows.run(RecordEffects(S, stage, effects, AWS, **more))
    return answer


def expire(rows: Rows, older_than_ms: int | None = None, **more: Any) -> Expired:
    answer: Expired = rows.run(Expire(ASKER, older_than_ms, **more))
    return answer


def results(rows: Rows) -> dict[str | None, bytes]:
    return {key: split_effect(payload)[1] for _, payload, key in rows.records()}


def counts(rows: Rows, stage: str = STAGE) -> tuple[int, int]:
    found = stage_counts(rows, stage)
    return found["completed"], found["reserved"]


def taken(rows: Rows, payload: bytes = b"42") -> int:
    token = reserve(rows, payload).token
    assert token is not None
    return token


# --- reserve and complete


def test_a_key_is_reserved_once_and_its_result_kept() -> None:
    rows = an_idem()
    first = reserve(rows)
    assert first == Reserved(1, 1_000 + LEASE_MS, None) and counts(rows) == (0, 1)
    assert complete(rows, 1) == (True, 0) and results(rows) == {KEY: b"paid"} and counts(rows) == (1, 0)
    assert not list(rows.scan(keys.reservations()))


def test_the_same_work_again_gets_the_first_result_and_writes_nothing() -> None:
    rows = an_idem()
    complete(rows, taken(rows))
    before = dict(rows.rows), len(rows.entries)
    assert reserve(rows) == Reserved(None, None, 0)
    assert reserve(rows, asker=Asker(S, GCP)) == Reserved(None, None, 0)
    assert complete(rows, 1) == (False, 0)
    assert (rows.rows, len(rows.entries)) == before


def test_another_payload_fails_closed_when_completed_and_when_only_reserved() -> None:
    rows = an_idem()
    token = taken(rows)
    for how in ("reserved", "completed"):
        with pytest.raises(IdempotencyConflict, match=f"is {how} with another payload") as caught:
            reserve(rows, b"43")
        fields = caught.value.fields
        assert fields["stored"] == fingerprint_of(STAGE, KEY, b"42")[:16].hex()
        assert fields["offered"] == fingerprint_of(STAGE, KEY, b"43")[:16].hex()
        assert "42" not in caught.value.message and "43" not in caught.value.message
        if how == "reserved":
            complete(rows, token)


def test_another_payload_is_a_conflict_also_when_the_lease_is_over() -> None:
    rows = an_idem()
    taken(rows)
    rows.now_ms += 10 * LEASE_MS
    with pytest.raises(IdempotencyConflict):
        reserve(rows, b"43")


def test_who_comes_while_the_lease_lives_is_told_when_it_ends() -> None:
    rows = an_idem()
    reserve(rows)
    rows.now_ms += LEASE_MS - 1
    with pytest.raises(Busy, match="for another 1 ms") as caught:
        reserve(rows, asker=Asker(S, GCP))
    assert caught.value.fields["until_ms"] == 1_000 + LEASE_MS


def test_a_reservation_whose_lease_is_over_is_taken_over_and_the_old_token_is_fenced() -> None:
    rows = an_idem()
    old = taken(rows)
    rows.now_ms += LEASE_MS
    new = reserve(rows, asker=Asker(S, GCP))
    assert new.taken_over and new.token == 2 and counts(rows) == (0, 1)
    with pytest.raises(Fenced, match="not reserved under token 1"):
        complete(rows, old)
    with pytest.raises(Fenced):
        release(rows, old)
    assert complete(rows, 2).changed
    with pytest.raises(Fenced, match="completed already, not under token 1"):
        complete(rows, old)


def test_an_owner_whose_lease_is_over_may_complete_while_nobody_took_over() -> None:
    rows = an_idem()
    token = taken(rows)
    rows.now_ms += 5 * LEASE_MS
    assert complete(rows, token).changed


def test_the_first_result_stands() -> None:
    rows = an_idem()
    token = taken(rows)
    complete(rows, token, b"paid")
    with pytest.raises(IdempotencyConflict, match="another result") as caught:
        complete(rows, token, b"refunded")
    assert caught.value.fields["stored"] != caught.value.fields["offered"] and len(caught.value.fields["stored"]) == 32
    assert results(rows) == {KEY: b"paid"}


def test_nobody_completes_what_is_not_reserved() -> None:
    with pytest.raises(Fenced):
        complete(an_idem(), 1)


@pytest.mark.parametrize("result", [b"", b"\xff\x00", b"x" * (64 << 10)])
def test_any_bytes_are_a_result(result: bytes) -> None:
    rows = an_idem()
    complete(rows, taken(rows), result)
    assert results(rows) == {KEY: result}


def test_stages_have_keys_of_their_own() -> None:
    rows = an_idem()
    one, two = reserve(rows, b"a", stage="one"), reserve(rows, b"b", stage="two")
    assert (one.token, two.token) == (1, 2)
    assert fingerprint_of("ab", "c", b"") != fingerprint_of("a", "bc", b"") != fingerprint_of("a", "b", b"c")


# --- giving back


def test_what_is_given_back_is_free_at_once_for_any_payload() -> None:
    rows = an_idem()
    assert release(rows, taken(rows)) and counts(rows) == (0, 0) and not list(rows.scan(keys.idem_keys()))
    assert not release(rows, 1), "again changes nothing"
    assert reserve(rows, b"43").token == 3


def test_what_is_completed_is_not_given_back() -> None:
    rows = an_idem()
    complete(rows, taken(rows))
    with pytest.raises(Fenced, match="is completed"):
        release(rows, 1)


# --- many at once


def test_many_keys_are_one_entry_and_replayed_ones_are_left_as_they_are() -> None:
    rows = an_idem()
    assert record(rows, ("a", b"1"), ("b", b"2")) == (0, range(2), []) and len(rows.entries) == 2
    assert record(rows, ("b", b"2"), ("c", b"3"), ("a", b"1")) == (2, [1], [0, 2])
    assert record(rows, ("c", b"3")) == (3, (), [0]) and len(rows.entries) == 3
    assert results(rows) == {"a": b"done 1", "b": b"done 2", "c": b"done 3"} and counts(rows) == (3, 0)
    assert reserve(rows, b"3", "c").number == 2


def test_conflicts_refuse_all_and_name_their_places() -> None:
    rows = an_idem()
    record(rows, ("a", b"1"), ("b", b"2"))
    with pytest.raises(IdempotencyConflict) as caught:
        record(rows, ("new", b"9"), ("a", b"x"), ("b", b"2"), ("b", b"y"))
    assert caught.value.fields["places"] == [1, 3] and len(rows.entries) == 2
    with pytest.raises(IdempotencyConflict) as caught:
        record(rows, ("new", b"9"), ("new", b"9"), ("new", b"8"))
    assert caught.value.fields["places"] == [2]
    assert record(rows, ("new", b"9"), ("new", b"9")) == (2, [0], [1]), "twice in one request is once"


def test_the_same_keys_in_two_stages_do_not_meet_though_their_blocks_are_equal() -> None:
    rows = an_idem()
    effects = [Effect("a", bytes(32)), Effect("b", bytes(32))]
    for stage in ("one", "two"):
        assert rows.run(RecordEffects(S, stage, effects, AWS)).new == range(2)
    for stage in ("one", "two"):
        assert rows.run(RecordEffects(S, stage, effects, AWS)).replayed == [0, 1]
    assert counts(rows, "one") == counts(rows, "two") == (2, 0)


def test_many_at_once_respect_reservations() -> None:
    rows = an_idem()
    token = taken(rows)
    with pytest.raises(Busy):
        record(rows, ("other", b"1"), (KEY, b"42"))
    with pytest.raises(IdempotencyConflict) as caught:
        record(rows, ("other", b"1"), (KEY, b"43"))
    assert caught.value.fields["places"] == [1]
    rows.now_ms += LEASE_MS
    assert record(rows, ("other", b"1"), (KEY, b"42")).new == range(2) and counts(rows) == (2, 0)
    with pytest.raises(Fenced):
        complete(rows, token)


def test_thousands_of_keys_are_found_again_one_by_one_and_all_at_once() -> None:
    rows = an_idem()
    pairs = [(f"key-{number}", b"%d" % number) for number in range(3_000)]
    for at in range(0, len(pairs), 500):
        record(rows, *pairs[at : at + 500])
    assert record(rows, *pairs).replayed == list(range(3_000))
    assert reserve(rows, b"1234", "key-1234").number == 1234
    with pytest.raises(IdempotencyConflict):
        reserve(rows, b"1", "key-1234")


BAD = [
    ([], "1 to"),
    ([Effect("", bytes(32))], "place 0 is empty"),
    ([Effect("a" * 1025, bytes(32))], "longer than"),
    ([Effect("a", bytes(31))], "31 bytes, not 32"),
    ([Effect("ok", bytes(32)), Effect("a", bytes(32), b"x" * (65 << 10))], "place 1"),
]


@pytest.mark.parametrize(("effects", "why"), BAD)
def test_what_cannot_be_kept_is_refused_before_anything_is_looked_at(effects: list[Effect], why: str) -> None:
    with pytest.raises(Usage, match=why):
        RecordEffects(S, STAGE, effects, AWS).check()


# --- letting go


def test_nothing_expires_unless_a_retention_is_declared() -> None:
    rows = an_idem()
    record(rows, ("a", b"1"))
    rows.now_ms += 1_000 * DAY_MS
    with pytest.raises(Usage, match="declares no retention"):
        expire(rows)
    assert expire(rows, DAY_MS) == (1, 0, None)


def test_what_is_older_than_the_retention_expires_and_may_be_done_again() -> None:
    rows = an_idem(retain_age_ms=DAY_MS)
    record(rows, ("old", b"1"), ("older", b"2"))
    rows.now_ms += DAY_MS // 2
    record(rows, ("young", b"3"))
    rows.now_ms += DAY_MS // 2
    with pytest.raises(Usage, match="is less"):
        expire(rows, DAY_MS - 1)
    assert expire(rows) == (2, 0, None) and counts(rows) == (1, 0)
    assert expire(rows) == (0, 0, None), "again changes nothing"
    assert record(rows, ("young", b"3")).replayed == [0]
    assert record(rows, ("old", b"another")).new == range(1), "its first payload is forgotten"
    assert record(rows, ("old", b"another"), ("old", b"another")).replayed == [0, 1]
    with pytest.raises(IdempotencyConflict):
        record(rows, ("old", b"1"))


def test_what_came_back_after_it_expired_is_found_though_the_index_knows_both() -> None:
    rows = an_idem(retain_age_ms=DAY_MS)
    pairs = [(f"key-{number}", b"%d" % number) for number in range(700)]
    for generation in (b"a", b"b", b"c"):
        now = [(key, payload + generation) for key, payload in pairs]
        assert record(rows, *now).new == range(700)
        assert record(rows, *now).replayed == list(range(700))
        number = reserve(rows, b"699" + generation, "key-699").number
        assert number is not None and number % 700 == 699
        rows.now_ms += DAY_MS
        assert expire(rows).completed == 700
    assert rows.queue["bytes"] == 0 and not rows.records()


def test_a_live_reservation_never_expires_and_an_abandoned_one_does() -> None:
    rows = an_idem(retain_age_ms=DAY_MS)
    token = taken(rows)
    rows.now_ms += LEASE_MS + DAY_MS - 1
    assert expire(rows) == (0, 0, None)
    rows.now_ms += 1
    assert expire(rows) == (0, 1, None) and not list(rows.scan(keys.idem_keys()))
    with pytest.raises(Fenced):
        complete(rows, token)
    rows.run(Reserve(ASKER, STAGE, KEY, bytes(32), 10 * DAY_MS))
    rows.now_ms += 9 * DAY_MS
    assert expire(rows) == (0, 0, None)


def test_an_expiry_goes_step_by_step() -> None:
    rows = an_idem(retain_age_ms=1)
    for number in range(1_100):
        rows.run(RecordEffects(S, STAGE, [Effect(f"key-{number}", bytes(32))], AWS))
        rows.run(Reserve(ASKER, STAGE, f"held-{number}", bytes(32), 1))
    rows.now_ms += DAY_MS
    dry = Expire(ASKER, None, steps=None).decide(rows, Context(0, rows.now_ms, CONFIG))
    assert dry.answer == (1_100, 1_100, None)
    first = expire(rows)
    assert first.after is not None
    second = expire(rows, after=first.after)
    assert second.after is None
    steps = [first[:2], second[:2]]
    assert steps == [(1_000, 1_000), (100, 100)] and counts(rows) == (0, 0)


# --- the gate


def test_placement_and_epoch_are_asked_first() -> None:
    rows = an_idem(allow=["aws"], epoch=3)
    stranger, late = Asker(S, GCP), Asker(S, AWS, 2)
    for asker, refusal in (
        (stranger, DomainUnavailable),
        (Asker(S, AWS, None, False), DomainUnavailable),
        (late, Fenced),
    ):
        requests: list[Request] = [
            Reserve(asker, STAGE, KEY, bytes(32), 1),
            Complete(asker, STAGE, KEY, 1, b""),
            Release(asker, STAGE, KEY, 1),
            Expire(asker, 1),
            RecordEffects(S, STAGE, [Effect("a", bytes(32))], asker.domain, asker.epoch, asker.known),
        ]
        for request in requests:
            with pytest.raises(refusal):
                rows.run(request)
    assert len(rows.entries) == 1


def test_each_kind_refuses_what_belongs_to_the_other() -> None:
    with pytest.raises(Usage, match="orders is a queue"):
        reserve(a_queue(), asker=Asker(Q, AWS))
    rows = an_idem()
    for ask in (lambda: rows.publish(b"x"), lambda: rows.poll("workers"), lambda: rows.group("workers")):
        with pytest.raises(Usage, match="is an idempotency store"):
            ask()
    with pytest.raises(NotFound, match="no idempotency store"):
        reserve(Rows())


def test_no_payload_and_no_result_is_in_an_entry_s_meta() -> None:
    rows = an_idem()
    token = reserve(rows, b"secret payload").token
    complete(rows, token or 0, b"secret result")
    assert not [entry for entry in rows.entries if b"secret" in entry.meta]
    assert json.loads(next(body for _, body in rows.scan(keys.blocks(0))))["stage"] == STAGE
