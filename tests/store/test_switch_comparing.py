"""The comparison of a switch's two outputs in a store: from where it stopped, through the gate, and what it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import Busy, DomainUnavailable, GenerationConflict, ProofRequired, Usage
from grafctl.store.blocks import Outgoing
from grafctl.store.operations.switching import comparing_records
from grafctl.store.operations.switching.compared import Compared
from grafctl.store.operations.switching.comparing import compare, comparer_of
from grafctl.store.operations.switching.work import row_of
from grafctl.store.switch_compare import OPEN_MAX
from store.world import World, world

AWS, GCP, AZURE = "aws", "gcp", "azure"
OLD, NEW, GRACE_MS = "old", "new", 60_000
DOMAINS: dict[str, Any] = {"replicas": [f"a={AWS}", f"g={GCP}"], "allow": [AWS, GCP]}


@pytest.fixture(params=["memory", "lmdb"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "store", [AWS, GCP, AZURE], request.param) as here:
        yield here


def attached(
    here: World, *, kind: str = "queues", filter: str | None = None, new: dict[str, Any] | None = None, **how: Any
) -> None:
    """Two outputs with a group each, tied by the switch `s`."""
    for output, more in ((OLD, {}), (NEW, new or {})):
        getattr(here.store, kind).create(output, **DOMAINS, **more)
        here.store.consumers.create(output, "g", allow=[AWS], filter=filter)
    here.store.switches.attach("s", source=OLD, target=NEW, group="g", **how)


def publish(here: World, output: str, *ids: str, payload: str = "x", **more: Any) -> None:
    for id in ids:
        here.store.publish(output, payload, id=id, domain=AWS, **more)


def compared(here: World, **how: Any) -> Compared:
    session = here.store.session
    return compare(session, "s", row_of(session, "s"), AWS, **how)


def counts(found: Compared) -> dict[str, int]:
    return {kind: count for kind, count in found.shadow["counts"].items() if count}


def test_it_goes_on_where_it_stopped_and_keeps_what_it_found(made: World) -> None:
    attached(made)
    publish(made, OLD, "a", "b", "c")
    publish(made, NEW, "b", "a", "z")
    publish(made, NEW, "c", payload="y")
    found = compared(made)
    assert counts(found) == {"matched": 2, "different": 1, "waiting": 1} and found.mismatches == 1
    made.advance(GRACE_MS)
    assert counts(compared(made)) == {"matched": 2, "different": 1, "extra": 1}
    publish(made, OLD, "z")
    found = compared(made)
    assert counts(found) == {"matched": 3, "different": 1}
    row = row_of(made.store.session, "s")
    assert row["state"] == "shadow" and row["shadow"] == found.shadow and row["shadow"]["mismatches"] == 1
    (sample,) = row["shadow"]["samples"]
    assert (sample["match_key"], sample["source"], sample["target"], sample["field"]) == ("c", 2, 3, "payload")
    assert (sample["source_value"], sample["target_value"]) == ("x", "y")


def test_what_was_found_is_forgiven_on_request_alone(made: World) -> None:
    attached(made)
    publish(made, OLD, "a", "b")
    publish(made, NEW, "a", payload="y")
    made.advance(GRACE_MS)
    assert compared(made).mismatches == 2
    found = compared(made, compare_from="now")
    assert found.mismatches == 0 and found.shadow["forgiven_ms"] and found.shadow["samples"] == []
    publish(made, OLD, "c")
    publish(made, NEW, "c", "b")
    assert counts(compared(made)) == {"matched": 2} and compared(made).mismatches == 0
    found = compared(made, compare_from="start")
    assert counts(found) == {"matched": 2, "different": 1} and "forgiven_ms" not in found.shadow
    with pytest.raises(Usage, match="not where a comparison can begin"):
        compared(made, compare_from="earliest")


def test_a_filter_leaves_out_what_the_group_does_not_want(made: World) -> None:
    attached(made, kind="topics", filter="key:eu", match="key")
    for number in range(5):
        made.store.publish(OLD, "x", key=f"eu{number}" if number % 2 else f"us{number}", domain=AWS)
    for number in (1, 3):
        made.store.publish(NEW, "x", key=f"eu{number}", domain=AWS)
    found = compared(made)
    assert counts(found) == {"matched": 2} and found.shadow["left_out"] == 3


def test_repeats_and_records_without_a_match_key_are_mismatches_also_after_a_pause(made: World) -> None:
    attached(made, match="json:n", fields=["total~0.01"])
    for payload in ('{"n":1,"total":1}', '{"n":2,"total":2}'):
        made.store.publish(OLD, payload, domain=AWS)
    for payload in ('{"n":1,"total":1.005}', '{"n":2,"total":2.02}', "no JSON"):
        made.store.publish(NEW, payload, domain=AWS)
    assert counts(compared(made)) == {"matched": 1, "different": 1, "unmatched": 1}
    made.store.publish(OLD, '{"n":1.0}', domain=AWS)
    found = compared(made)
    assert counts(found) == {"matched": 1, "different": 1, "unmatched": 1, "repeated": 1}
    assert {sample["kind"] for sample in found.shadow["samples"]} == {"different", "unmatched", "repeated"}


def test_what_retention_took_is_said_and_is_no_mismatch_of_the_other_side(made: World) -> None:
    attached(made, kind="topics", new={"retain_age_ms": 5 * GRACE_MS, "discard": "oldest"})
    publish(made, OLD, "a", "b")
    publish(made, NEW, "a", "b")
    made.advance(10 * GRACE_MS)
    publish(made, OLD, "c")
    publish(made, NEW, "c")
    made.store.topics.trim(NEW)
    made.advance(GRACE_MS)
    found = compared(made)
    assert counts(found) == {"matched": 1} and found.mismatches == 0
    assert found.shadow["without"] == 4, "two that are gone, and their counterparts"


def test_who_may_not_read_is_refused_and_keeps_nothing(made: World) -> None:
    attached(made)
    session = made.store.session
    before = row_of(session, "s")
    for domain in (GCP, AZURE, "nowhere"):
        with pytest.raises(DomainUnavailable):
            compare(session, "s", before, domain)
    assert row_of(session, "s") == before


def test_it_is_no_proof_that_nothing_differs_while_nothing_has_its_counterpart(made: World) -> None:
    attached(made)
    publish(made, OLD, "a")
    assert (compared(made).mismatches, counts(compared(made))) == (None, {"waiting": 1})
    with pytest.raises(ProofRequired, match="have no record in common yet"):
        made.store.switches.switch("s", "target", domain=AWS)
    publish(made, NEW, "a")
    assert compared(made).mismatches == 0


def test_an_older_generation_keeps_nothing(made: World) -> None:
    attached(made)
    session = made.store.session
    row = row_of(session, "s")
    with pytest.raises(GenerationConflict, match="generation"):
        compare(session, "s", row | {"generation": row["generation"] - 1}, AWS)
    assert row_of(session, "s") == row


def test_outputs_that_drift_apart_are_never_proved(tmp_path: Path) -> None:
    with world(tmp_path / "store", [AWS, GCP], "memory") as here:
        attached(here)
        for start in range(0, OPEN_MAX + 2, 1001):
            records = [Outgoing(b"x", str(number)) for number in range(start, start + 1001)]
            here.store.publish_batch(OLD, records, domain=AWS)
        publish(here, NEW, "0")
        found = compared(here)
        assert (found.mismatches, found.full) == (None, "source")
        assert counts(found) == {"matched": 1, "waiting": OPEN_MAX}
        with pytest.raises(Busy, match="The source of switch s is too far ahead"):
            here.store.switches.switch("s", "target", domain=AWS)
        publish(here, NEW, "1", "2", "3", "4", "5", "6", "7", "8", "9", "10")
        found = compared(here)
        assert found.full is None and found.mismatches == 0 and found.shadow["counts"]["matched"] == 11


def test_a_comparison_that_is_kept_at_every_batch_comes_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing_records, "SAVE_S", 0.0)
    monkeypatch.setattr(comparing_records, "BATCH_RECORDS", 3)
    with world(tmp_path / "store", [AWS, GCP], "memory") as here:
        attached(here, match="key")
        for number in range(40):
            here.store.publish(OLD, str(number // 2), key=str(number % 37), domain=AWS)
            here.store.publish(NEW, str(number // 2), key=str((number + 3) % 37), domain=AWS)
        session = here.store.session
        told: list[tuple[str, int, int]] = []
        once = comparer_of(session, "s", row_of(session, "s"), AWS, tell=lambda *now: told.append(now)).run()
        assert told[-1] == ("comparing", 80, 80) and len(told) > 20
        again = compared(here, compare_from="start")
        assert again.shadow["counts"] == once.shadow["counts"] and once.shadow["counts"]["repeated"] == 6


def test_what_another_operator_forgives_meanwhile_is_not_taken_back(made: World) -> None:
    attached(made)
    publish(made, OLD, "a", "b")
    publish(made, NEW, "a")
    publish(made, NEW, "b", payload="y")
    session = made.store.session
    following = comparer_of(session, "s", row_of(session, "s"), AWS)
    assert following.run().mismatches == 1
    assert compared(made, compare_from="now").mismatches == 0
    publish(made, OLD, "c")
    publish(made, NEW, "c")
    found = following.run()
    assert found.mismatches == 0 and set(counts(found)) == {"matched"}
    assert row_of(session, "s")["shadow"] == found.shadow
