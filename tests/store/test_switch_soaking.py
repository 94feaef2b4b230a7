"""The soak of a switched consumer: what it is judged by, and the way back by itself where a rule is broken."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl import clock
from grafctl.errors import Corrupt, DomainUnavailable, GenerationConflict, GrafctlError, NotFound, ProofRequired, Usage
from grafctl.results import Shown
from grafctl.store import keys, switch_keys
from grafctl.store.operations.switching.work import row_of
from grafctl.store.records import encode_row
from store.test_switch_comparing import AWS, AZURE, GCP, NEW, OLD, attached, publish
from store.world import World, world

WINDOW_MS = 600_000
IDS = [f"o{number}" for number in range(20)]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "store", [AWS, GCP], "memory") as here:
        yield here


def switched(here: World, **rules: Any) -> None:
    """A consumer at its target, with 20 records in both outputs."""
    attached(here, window_ms=WINDOW_MS, rules=rules)
    for output in (OLD, NEW):
        publish(here, output, *IDS)
    here.store.switches.switch("s", "target", domain=AWS)
    assert row_of(here.store.session, "s")["state"] == "soaking"


def soak(here: World, **how: Any) -> dict[str, Any]:
    return here.store.switches.soak("s", domain=AWS, **how).body


def taken_back(here: World) -> ProofRequired:
    """Judges a consumer that does not do well, and returns the error."""
    with pytest.raises(ProofRequired) as caught:
        soak(here)
    row = row_of(here.store.session, "s")
    assert (row["state"], row["side"]) == ("rolled_back", "source")
    assert row["flips"][-1]["why"].startswith("regression: ")
    error = caught.value
    assert (error.exit_code, error.fields["reason"], error.fields["state"]) == (19, "regression", "rolled_back")
    assert all(check["sentence"] in error.message for check in error.fields["broken"])
    return error


def rules_of(error: GrafctlError) -> list[str]:
    return [check["rule"] for check in error.fields["broken"]]


def test_what_differs_before_the_first_judgement_counts_too(made: World) -> None:
    switched(made)
    for output, payload in ((OLD, b"right"), (NEW, b"wrong")):
        made.store.publish(output, payload, id="late", domain=AWS)
    assert rules_of(taken_back(made)) == ["max_mismatches"]


def poll(here: World, count: int) -> Any:
    """Polls by the name that the consumer always had."""
    delivery = here.store.poll(OLD, "g", domain=AWS, max=count)
    assert (delivery.resource, len(delivery.records)) == (NEW, count)
    return delivery


def work(here: World, count: int) -> None:
    delivery = poll(here, count)
    here.store.ack(NEW, "g", [record.offset for record in delivery.records], domain=AWS)


def fail(here: World, count: int) -> None:
    delivery = poll(here, count)
    here.store.nack(NEW, "g", [record.offset for record in delivery.records], domain=AWS)


def test_what_is_delivered_again_before_the_first_judgement_counts_too(made: World) -> None:
    switched(made, max_redeliveries=2)
    for _ in range(4):
        made.store.nack(NEW, "g", [record.offset for record in poll(made, 1).records], domain=AWS)
    assert rules_of(taken_back(made)) == ["max_redeliveries"]


def test_what_is_finished_while_it_soaks_is_carried_back_by_each_judgement(made: World) -> None:
    switched(made)
    work(made, 5)
    soak(made)
    shown = made.store.switches.status("s")
    assert isinstance(shown, Shown)
    source = shown.body["source"]
    assert (source["ack_floor"], source["open"]) == (5, False)


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[World]:
    """A switched consumer whose source cannot commit without azure, which nothing else asks."""
    with world(tmp_path / "store", [AWS, GCP, AZURE], "memory") as here:
        for output, other in ((OLD, AZURE), (NEW, GCP)):
            here.store.queues.create(output, replicas=[f"a={AWS}", f"b={other}"], allow=[AWS])
            here.store.consumers.create(output, "g", allow=[AWS])
            publish(here, output, *IDS)
        here.store.switches.attach("s", source=OLD, target=NEW, group="g")
        here.store.switches.switch("s", "target", domain=AWS)
        work(here, 5)
        yield here


def source_floor(here: World) -> int:
    shown = here.store.switches.status("s")
    assert isinstance(shown, Shown)
    return int(shown.body["source"]["ack_floor"])


def test_what_cannot_be_carried_now_is_carried_by_the_next_judgement(apart: World) -> None:
    apart.store.domains.fail(AZURE)
    body = soak(apart)
    assert body["soak"]["healthy"] and body["soak"]["numbers"]["finished"] == 5
    apart.store.domains.restore(AZURE)
    assert source_floor(apart) == 0
    soak(apart)
    assert source_floor(apart) == 5


def test_damage_that_a_judgement_meets_is_told(apart: World) -> None:
    """It was an error that whatever kept finished work from being carried back was passed over."""
    key = keys.state(apart.log_id(OLD), switch_keys.carried("g"))
    for domain in (AWS, AZURE):
        with apart.store.session.cluster.environment(domain).write(wait_s=5) as batch:
            batch.put(key, encode_row(b"no JSON", key))
    before = row_of(apart.store.session, "s")["soak"]
    with pytest.raises(Corrupt, match="holds no JSON"):
        soak(apart)
    assert row_of(apart.store.session, "s")["soak"] == before


def test_one_that_does_well_is_left_where_it_is_and_locked_when_its_window_is_over(made: World) -> None:
    switched(made, max_lag=20, max_redeliveries=0, max_dead_letters=0, max_error_rate=0.0, max_idle_ms=WINDOW_MS)
    work(made, 5)
    body = soak(made)
    assert body["soak"]["healthy"] and body["state"] == "soaking" and 0 < body["window_left_ms"] <= WINDOW_MS
    assert body["soak"]["numbers"] == {
        "lag": 15,
        "finished": 5,  # since the flip
        "redelivered": 0,
        "dead": 0,
        "mismatches": 0,
        "idle_ms": body["soak"]["numbers"]["idle_ms"],
    }
    work(made, 15)
    made.advance(WINDOW_MS)
    body = soak(made, follow=True)
    assert body["window_left_ms"] == 0 and body["soak"]["numbers"]["finished"] == 20
    made.store.switches.lock("s", domain=AWS)
    assert row_of(made.store.session, "s")["state"] == "locked"
    with pytest.raises(GenerationConflict, match="is locked, and only one that is soaking is judged"):
        soak(made)


def test_redeliveries_take_it_back_and_what_was_finished_stays_so(made: World) -> None:
    switched(made, max_redeliveries=2)
    soak(made)
    work(made, 5)
    fail(made, 3)
    assert soak(made)["soak"]["healthy"], "they were not handed out again yet"
    fail(made, 3)
    error = taken_back(made)
    assert rules_of(error) == ["max_redeliveries"] and "3 deliveries were not the first" in error.message
    again = made.store.poll(OLD, "g", domain=AWS, max=100)
    assert again.resource == OLD and sorted(record.id or "" for record in again.records) == sorted(IDS[5:])


def test_a_new_mismatch_takes_it_back_and_blocks_the_next_try(made: World) -> None:
    switched(made)
    soak(made)
    publish(made, OLD, "late")
    publish(made, NEW, "late", payload="wrong")
    assert rules_of(taken_back(made)) == ["max_mismatches"]
    (sample,) = made.store.switches.report("s").body["samples"]
    assert (sample["match_key"], sample["source"], sample["target"]) == ("late", 20, 20)
    with pytest.raises(ProofRequired, match="differ"):
        made.store.switches.switch("s", "target", domain=AWS)
    made.store.switches.switch("s", "target", domain=AWS, compare_from="now")
    body = soak(made)
    assert body["state"] == "soaking" and body["window_left_ms"] > WINDOW_MS // 2, "the window begins anew"


def test_lag_and_idleness_take_it_back(made: World) -> None:
    switched(made, max_lag=20, max_idle_ms=1000)
    made.advance(2000)
    publish(made, OLD, "more")
    publish(made, NEW, "more")
    assert rules_of(taken_back(made)) == ["max_lag", "max_idle_ms"]


def idle_ms(here: World) -> int:
    found: int = soak(here)["soak"]["numbers"]["idle_ms"]
    return found


def test_idleness_counts_from_the_last_ack_whoever_looks_when(made: World) -> None:
    """It was an error that it counted from the judgement which saw the ack."""
    switched(made, max_idle_ms=WINDOW_MS)
    made.advance(50_000)
    work(made, 5)
    made.advance(100_000)
    assert 100_000 <= idle_ms(made) < 150_000
    work(made, 15)
    assert idle_ms(made) == 0, "nothing is left to do"
    made.advance(100_000)
    for output in (OLD, NEW):
        publish(made, output, "more")
    assert idle_ms(made) < 50_000, "it had nothing to do before that"
    made.advance(100_000)
    assert 100_000 <= idle_ms(made) < 150_000


def test_dead_letters_take_it_back(made: World) -> None:
    for output in (OLD, NEW):
        made.store.queues.create(output, replicas=[f"a={AWS}", f"g={GCP}"], allow=[AWS])
        made.store.consumers.create(output, "g", allow=[AWS], max_deliveries=1)
    made.store.switches.attach("s", source=OLD, target=NEW, group="g", rules={"max_dead_letters": 0})
    for output in (OLD, NEW):
        publish(made, output, *IDS)
    made.store.switches.switch("s", "target", domain=AWS)
    soak(made)
    fail(made, 1)
    assert "1 record is a dead letter now; more than 0 is a regression." in taken_back(made).message


def test_a_command_has_the_last_word(made: World, tmp_path: Path) -> None:
    script = tmp_path / "health.py"
    script.write_text("print('p99 is 20 ms')")
    switched(made, health_command=f"{sys.executable} {script}")
    (_, check) = soak(made)["soak"]["checks"]
    assert check["sentence"] == "The health command says that all is well: p99 is 20 ms"
    row = row_of(made.store.session, "s")
    script.write_text("raise SystemExit('p99 is 4 s')")
    assert not soak(made, dry_run=True)["soak"]["healthy"]
    assert row_of(made.store.session, "s") == row, "a trial keeps nothing"
    assert "The health command ended with 1: p99 is 4 s" in taken_back(made).message


def test_a_command_that_is_not_there_takes_nobody_back(made: World) -> None:
    switched(made, health_command="no-such-program-here")
    made.advance(WINDOW_MS)
    for verb in (made.store.switches.soak, made.store.switches.lock):
        with pytest.raises(Usage, match="there is no such program here"):
            verb("s", domain=AWS)
    assert row_of(made.store.session, "s")["state"] == "soaking"


def test_a_lock_judges_once_more(made: World) -> None:
    switched(made, max_lag=19)
    made.advance(WINDOW_MS)
    with pytest.raises(ProofRequired, match="20 records are not finished yet"):
        made.store.switches.lock("s", domain=AWS, dry_run=True)
    assert row_of(made.store.session, "s")["state"] == "soaking"
    with pytest.raises(ProofRequired, match="taken back to old: 20 records are not finished yet"):
        made.store.switches.lock("s", domain=AWS)
    assert row_of(made.store.session, "s")["state"] == "rolled_back"


class SleepingTellsTheTime:
    """A clock that goes on while one sleeps, by a quarter of the window at least."""

    def __init__(self, now_ms: int) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000

    def sleep(self, seconds: float) -> None:
        self.ms += max(int(1000 * seconds), WINDOW_MS // 4)

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)


def test_a_soak_that_is_followed_judges_until_the_window_is_over(made: World) -> None:
    switched(made)
    seen: list[int] = []
    before = clock.stand_in(SleepingTellsTheTime(row_of(made.store.session, "s")["soak_since_ms"]))
    try:
        body = soak(made, follow=True, watch=lambda found: seen.append(found["window_left_ms"]))
    finally:
        clock.stand_in(before)
    assert seen == [WINDOW_MS * left // 4 for left in (4, 3, 2, 1, 0)] and body["window_left_ms"] == 0


def test_a_clock_that_went_back_makes_no_drain_longer(made: World) -> None:
    """It was an error that a drain waited until its clock was where that of another operator had been."""
    now = SleepingTellsTheTime(10 * WINDOW_MS)
    before = clock.stand_in(now)
    try:
        switched(made)
        poll(made, 3)
        now.ms -= 5 * WINDOW_MS
        began_ms = now.ms
        made.store.switches.rollback("s", domain=AWS, drain_ms=1000)
        assert now.ms - began_ms <= WINDOW_MS // 4, "one sleep of this clock"
    finally:
        clock.stand_in(before)
    assert row_of(made.store.session, "s")["state"] == "rolled_back"


def test_who_may_not_judge_is_refused(made: World) -> None:
    switched(made)
    row = row_of(made.store.session, "s")
    with pytest.raises(DomainUnavailable):
        made.store.switches.soak("s", domain=GCP)
    with pytest.raises(NotFound):
        made.store.switches.soak("absent", domain=AWS)
    with pytest.raises(Usage):
        made.store.switches.soak("s", domain=AWS, drain_ms=-1)
    assert row_of(made.store.session, "s") == row
    made.store.switches.rollback("s", domain=AWS)
    with pytest.raises(GenerationConflict, match="is rolled_back"):
        soak(made)


def test_whoever_switches_hears_what_is_waited_for(made: World) -> None:
    attached(made, window_ms=WINDOW_MS, rules={})
    for output in (OLD, NEW):
        publish(made, output, *IDS)
    assert len(made.store.poll(OLD, "g", domain=AWS, max=3).records) == 3
    heard: list[tuple[str, int, int]] = []
    made.store.switches.switch("s", "target", domain=AWS, drain_ms=50, progress=lambda *told: heard.append(told))
    assert ("waiting for what is leased", 0, 3) in heard
