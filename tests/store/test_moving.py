"""A vshard on its way, step by step, in one process: what each verb does to the logs, and what writers meet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import (
    Busy,
    DomainUnavailable,
    GenerationConflict,
    GrafctlError,
    NotFound,
    PauseBudgetExceeded,
    ProofRequired,
    Timeout,
    Usage,
)
from grafctl.nouns.parts import Parts
from grafctl.results import Migrated
from grafctl.store import vshard_keys
from grafctl.store.operations.moving import replaying
from grafctl.store.operations.moving.situation import look
from grafctl.store.operations.tables import Item
from grafctl.store.resources.moving import ForgetWayBack, Place, Seal, Unseal
from grafctl.store.resources.receiving import Copy
from grafctl.store.resources.table import Caller
from grafctl.store.table_block import Write
from store.world import World, world

HOME, AWAY = ("aws", "gcp", "azure"), ("azure", "hetzner", "oci")
DOMAINS = (*HOME, *AWAY[1:])
WIDE = 60_000_000  # a budget that no slow machine passes
TABLE, PART, MOVING = "accounts", "accounts.part-1", 2


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "s", DOMAINS) as made:
        for domain in DOMAINS:
            made.observe(domain)
        replicas = [f"{domain}-1={domain}" for domain in HOME]
        made.store.tables.create(TABLE, replicas=replicas, allow=DOMAINS, vshards=4)
        fill(made, 200)
        yield made


def fill(ours: World, count: int, value: str = "v", start: int = 0) -> None:
    items = [Item(b"key-%d" % number, f"{value}-{number}".encode()) for number in range(start, start + count)]
    ours.store.tables.put_many(TABLE, items, domain="aws")


def content(ours: World, domain: str = "aws") -> dict[bytes, tuple[bytes, int]]:
    return {row.key: (row.value, row.version) for row in ours.store.tables.scan(TABLE, domain=domain)}


def key_in(vshard: int, like: str = "extra") -> str:
    """Returns a key of a vshard that `fill` does not write."""
    from grafctl.store.vshards import vshard_of

    return next(name for n in range(1000) if vshard_of((name := f"{like}-{n}").encode(), 4) == vshard)


def move(ours: World, **how: Any) -> Migrated:
    (done,) = ours.store.vshards.migrate(TABLE, [MOVING], to=AWAY, domain="aws", **({"budget_us": WIDE} | how))
    return done


def rows_in(ours: World, part: str, vshard: int = MOVING) -> int:
    with ours.store.session.state(part) as state:
        return sum(1 for _ in state.scan(vshard_keys.table_rows(vshard)))


def row_in(ours: World, part: str) -> dict[str, Any] | None:
    return look(ours.store.session.resource(part), part, MOVING).row


def test_a_vshard_is_moved_with_its_rows_and_versions(ours: World) -> None:
    before = content(ours)
    seen: list[str] = []
    done = move(ours, watch=lambda told: seen.append(told["state"]) if told["event"] == "state" else None)
    assert (done.state, done.owner, done.part, done.generation) == ("completed", sorted(AWAY), PART, 2)
    assert done.way_back == "open"
    assert seen == ["base_copy", "wal_catchup", "cutover"]
    assert content(ours, "oci") == before
    assert done.records == rows_in(ours, PART) == rows_in(ours, TABLE)
    assert done.proof is not None and done.proof["domains"] == sorted(AWAY)
    again = move(ours)
    assert not again.changed and again.generation == 2
    assert not list(ours.store.verify())


def test_another_process_with_an_old_route_is_sent_on(ours: World) -> None:
    with ours.reopened() as other:
        key = key_in(MOVING)
        first = other.tables.put(TABLE, key, "before", domain="gcp")
        move(ours)
        assert other.tables.get(TABLE, key, domain="gcp").value == b"before"
        second = other.tables.put(TABLE, key, "after", domain="gcp", expect=first.version)
        assert second.version > first.version and set(second.acked_by) <= set(AWAY)
        assert ours.store.tables.get(TABLE, key, domain="aws").value == b"after"


def test_what_is_written_between_a_held_copy_and_its_cut_over_is_there(
    ours: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of the catch-up are full in between, so that nobody knows how much is behind them."""
    monkeypatch.setattr(replaying, "BATCH_WRITES", 7)
    held = move(ours, hold_cutover=True)
    assert (held.state, held.owner) == ("wal_catchup", sorted(HOME))
    fill(ours, 300, "w", 100)
    for number in range(0, 50, 3):
        ours.store.tables.delete(TABLE, f"key-{number}", domain="aws")
    before = content(ours)
    (done,) = ours.store.vshards.cutover(TABLE, [MOVING], domain="aws")
    assert done.state == "completed" and content(ours) == before
    assert done.records == rows_in(ours, PART)


def test_a_way_back_brings_what_was_written_since(ours: World) -> None:
    move(ours)
    fill(ours, 150, "since", 100)
    ours.store.tables.delete(TABLE, "key-1", domain="aws")
    before = content(ours)
    (back,) = ours.store.vshards.reverse(TABLE, [MOVING], domain="aws", budget_us=WIDE)
    assert (back.state, back.part, back.generation) == ("reversed", TABLE, 3)
    assert content(ours) == before and not list(ours.store.verify())
    (again,) = ours.store.vshards.retire(TABLE, [MOVING], domain="aws")
    assert again.state == "idle" and rows_in(ours, PART) == 0 and content(ours) == before
    assert move(ours).generation == 4, "and it may be moved there once more"
    assert content(ours) == before


def test_a_way_back_that_is_not_open_is_said_before_the_way_forward_is_taken(ours: World) -> None:
    ours.advance(1000)
    ours.observe("gcp", "unhealthy")
    done = move(ours)
    assert done.state == "completed" and done.way_back is not None and "gcp was observed as unhealthy" in done.way_back
    with pytest.raises(DomainUnavailable, match="gcp was observed as unhealthy"):
        ours.store.vshards.reverse(TABLE, [MOVING], domain="aws")
    assert ours.store.vshards.show(TABLE, MOVING).body["state"] == "completed"


def test_a_retired_copy_is_gone_and_there_is_no_way_back(ours: World) -> None:
    move(ours)
    with pytest.raises(GenerationConflict, match="still has its old copy"):
        ours.store.vshards.migrate(TABLE, [MOVING], to=["gcp", "oci"], domain="aws")
    ours.store.vshards.retire(TABLE, [MOVING], domain="aws")
    assert rows_in(ours, TABLE) == 0 and rows_in(ours, PART) > 0
    assert (row_in(ours, TABLE) or {})["state"] == "retired"
    with pytest.raises(GenerationConflict, match="no way back"):
        ours.store.vshards.reverse(TABLE, [MOVING], domain="aws")
    (again,) = ours.store.vshards.retire(TABLE, [MOVING], domain="aws")
    assert not again.changed


def test_what_a_retire_left_that_died_half_way_is_no_obstacle(ours: World) -> None:
    move(ours)
    before = content(ours)
    caller = Caller(TABLE, "aws")
    ours.store.session.resource(PART).append(ForgetWayBack(Place(TABLE, MOVING, ""), caller))
    assert rows_in(ours, TABLE) > 0
    (done,) = ours.store.vshards.migrate(TABLE, [MOVING], to=HOME, domain="aws", budget_us=WIDE)
    assert (done.state, done.part) == ("completed", TABLE) and content(ours) == before
    (last,) = ours.store.vshards.retire(TABLE, [MOVING], domain="aws")
    assert last.changed and rows_in(ours, PART) == 0 and content(ours) == before


@pytest.mark.parametrize("hold", [True, False])
def test_a_cancelled_migration_leaves_nothing(ours: World, hold: bool) -> None:
    before = content(ours)
    if hold:
        move(ours, hold_cutover=True)
    else:
        with pytest.raises(PauseBudgetExceeded):
            move(ours, budget_us=0, patience_ms=1)
    (done,) = ours.store.vshards.cancel(TABLE, [MOVING], domain="aws")
    assert done.state == "cancelled" and content(ours) == before
    assert rows_in(ours, PART) == 0 and row_in(ours, PART) is None
    assert not ours.store.vshards.status(TABLE).items
    (again,) = ours.store.vshards.cancel(TABLE, [MOVING], domain="aws")
    assert not again.changed
    assert move(ours).state == "completed" and content(ours) == before


def test_a_flipped_migration_is_not_cancelled(ours: World) -> None:
    move(ours)
    with pytest.raises(GenerationConflict, match="was flipped"):
        ours.store.vshards.cancel(TABLE, [MOVING], domain="aws")


def test_a_budget_that_no_pause_fits_ends_with_20_and_a_larger_one_finishes(ours: World) -> None:
    with pytest.raises(PauseBudgetExceeded, match="and the budget is 0 us"):
        move(ours, budget_us=0, patience_ms=1)
    assert ours.store.vshards.show(TABLE, MOVING).body["state"] == "wal_catchup"
    assert (row_in(ours, TABLE) or {})["state"] == "open"
    (done,) = ours.store.vshards.resume(TABLE, domain="aws", budget_us=WIDE)
    assert done.state == "completed"


def test_a_seal_stops_writers_of_its_vshard_alone_until_its_budget_is_over(ours: World) -> None:
    move(ours, hold_cutover=True)
    source = ours.store.session.resource(TABLE)
    record = ours.store.vshards.show(TABLE, MOVING).body["migration"]
    token = source.append(Seal(Place(TABLE, MOVING, record["id"]), 60_000_000)).answer
    with pytest.raises(Timeout, match="was sealed until the deadline"):
        ours.store.tables.put(TABLE, key_in(MOVING), "x", domain="aws", timeout_s=0.1)
    assert ours.store.tables.put(TABLE, key_in(1), "x", domain="aws").changed
    assert ours.store.tables.get_many(TABLE, [key_in(MOVING).encode()], domain="aws") == [None], "reads go on"
    assert not source.append(Unseal(Place(TABLE, MOVING, ""), token, 59_999_999)).answer, "its time is not over"
    assert not source.append(Unseal(Place(TABLE, MOVING, ""), token + 1)).answer, "another seal"
    ours.advance(60_001)
    assert ours.store.tables.put(TABLE, key_in(MOVING), "x", domain="aws", timeout_s=5).changed


def test_a_copy_that_somebody_altered_is_found_and_can_be_cancelled(ours: World) -> None:
    move(ours, hold_cutover=True)
    record = ours.store.vshards.show(TABLE, MOVING).body["migration"]
    target = ours.store.session.resource(PART)
    with ours.store.session.state(PART) as state:
        row, body = next(iter(state.scan(vshard_keys.table_rows(MOVING))))
    wrong = Write(MOVING, vshard_keys.key_of(row), b"another", int.from_bytes(body[:8], "big") + 1000)
    alter(target, Copy.of(Place(TABLE, MOVING, record["id"]), record_cursor(ours), [wrong], "ff", True))
    with pytest.raises(ProofRequired, match="is not what its source has"):
        ours.store.vshards.resume(TABLE, [MOVING], domain="aws", budget_us=WIDE)
    shown = ours.store.vshards.show(TABLE, MOVING).body
    assert shown["state"] == "failed" and "is not what its source has" in shown["migration"]["reason"]
    before = content(ours)
    ours.store.vshards.cancel(TABLE, [MOVING], domain="aws")
    assert content(ours) == before and move(ours).state == "completed"


def record_cursor(ours: World) -> str:
    found = look(ours.store.session.resource(PART), PART, MOVING).moving
    return str((found or {})["cursor"])


def alter(target: Any, copy: Copy) -> None:
    """Appends a copy though the base copy is done, as a bug or a stranger might."""

    class Behind:
        def decide(self, state: Any, context: Any) -> Any:
            from grafctl.store.records import encode_json
            from grafctl.store.requests import Decision

            meta = {"do": "copy", "vs": MOVING, "cursor": copy.following, "done": True}
            return Decision(True, encode_json(meta), copy.block, copy.block_digest)

    target.append(Behind())


REFUSED: list[tuple[dict[str, Any], type[GrafctlError]]] = [
    ({"to": []}, Usage),
    ({"to": ["Not A Domain"]}, Usage),
    ({"to": ["nowhere"]}, DomainUnavailable),
    ({"vshards": [4]}, Usage),
    ({"vshards": [-1]}, Usage),
    ({"table": "orders"}, NotFound),
    ({"domain": "nowhere"}, DomainUnavailable),
    ({"budget_us": -1}, Usage),
    ({"max_lag": 2**63}, Usage),
    ({"rate": 0}, Usage),
    ({"policy": "hope"}, Usage),
    ({"at_once": 0}, Usage),
]


@pytest.mark.parametrize(("wrong", "error"), REFUSED, ids=[next(iter(wrong)) for wrong, _ in REFUSED])
def test_what_cannot_be_done_is_refused_before_anything_is_made(
    ours: World, wrong: dict[str, Any], error: type[GrafctlError]
) -> None:
    asked: dict[str, Any] = {"table": TABLE, "vshards": [MOVING], "to": AWAY, "domain": "aws"} | wrong
    before = ours.store.session.resources()
    with pytest.raises(error):
        ours.store.vshards.migrate(asked.pop("table"), asked.pop("vshards"), **asked)
    assert ours.store.session.resources() == before and not ours.store.vshards.status(TABLE).items


def test_domains_that_are_not_allowed_or_not_healthy_are_refused(ours: World) -> None:
    ours.store.placement.set(TABLE, allow=["aws", "gcp", "azure", "oci"])
    with pytest.raises(DomainUnavailable) as denied:
        move(ours)
    assert (denied.value.fields["reason"], denied.value.exit_code) == ("not_in_placement", 11)
    ours.store.placement.set(TABLE, allow=list(DOMAINS))
    ours.advance(1000)
    ours.observe("oci", "unhealthy")
    with pytest.raises(DomainUnavailable) as sick:
        move(ours)
    assert (sick.value.fields["reason"], sick.value.exit_code) == ("unhealthy", 12)
    assert list(ours.store.session.resources()) == [TABLE]


def test_a_part_that_is_made_while_the_placement_is_set_has_the_new_one(
    ours: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Parts._record

    def meanwhile(parts: Parts, *asked: Any) -> dict[str, Any]:
        record = real(parts, *asked)
        ours.store.placement.set(TABLE, allow=[*DOMAINS], deny=["aws/eu"])
        ours.store.fence(TABLE, epoch=5)
        return record

    monkeypatch.setattr(Parts, "_record", meanwhile)
    assert move(ours).state == "completed"
    home, part = (ours.store.placement.show(name).body for name in (TABLE, PART))
    assert (part["digest"], part["epoch"]) == (home["digest"], home["epoch"]) and home["epoch"] == 5


def test_two_operators_share_one_migration(ours: World) -> None:
    move(ours, hold_cutover=True)
    with pytest.raises(Busy, match=r"is being moved to accounts\.part-1"):
        ours.store.vshards.migrate(TABLE, [MOVING], to=["gcp", "oci"], domain="aws")
    assert move(ours).state == "completed"


def test_several_are_moved_and_one_that_fails_does_not_stop_the_others(ours: World) -> None:
    before = content(ours)
    ours.store.vshards.migrate(TABLE, [1], to=["gcp", "oci"], domain="aws", hold_cutover=True, budget_us=WIDE)
    with pytest.raises(Busy) as failed:
        ours.store.vshards.migrate(TABLE, [0, 1, 2, 3], to=AWAY, domain="aws", at_once=3, budget_us=WIDE)
    assert failed.value.fields["moved"] == [0, 2, 3] and failed.value.fields["failed"] == [1]
    assert content(ours) == before
    owners = [item["part"] for item in ours.store.vshards.list(TABLE).items]
    assert owners == [PART.replace("1", "2"), TABLE, PART.replace("1", "2"), PART.replace("1", "2")]


def test_a_plan_says_what_would_be_done_and_makes_nothing(ours: World) -> None:
    before = ours.dump()
    (plan,) = ours.store.vshards.plan(TABLE, [MOVING], to=AWAY, domain="aws")
    assert plan.dry_run and plan.changed and plan.way_back == "open" and plan.actions is not None
    assert plan.actions[0] == "make a part of accounts in azure, hetzner, oci"
    assert ours.dump() == before
