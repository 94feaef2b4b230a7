"""A copy that is not what its source has, in ways that one check alone would find; and what a migration needs of its
logs, and what is kept for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import ProofRequired
from grafctl.store import elect as electing
from grafctl.store import vshard_keys
from grafctl.store.operations.moving import copying
from grafctl.store.operations.moving.situation import look
from grafctl.store.operations.retention import sweep
from grafctl.store.records import encode_json
from grafctl.store.requests import Decision
from grafctl.store.resources.moving import ForgetWayBack, Place
from grafctl.store.resources.receiving import Copy, Drop
from grafctl.store.resources.table import Caller
from grafctl.store.table_block import Write
from grafctl.store.vshards import vshard_of
from store.moving import AWAY, HOME, KEYS, MOVING, PART, TABLE, VSHARDS, WIDE, Moves, a_table

LAG = 12  # records: more than may be left for a cut-over


@pytest.fixture
def moves(tmp_path: Path) -> Iterator[Moves]:
    with a_table(tmp_path, HOME, AWAY) as moves:
        yield moves


def strange(moves: Moves, key: str, value: str, version: int) -> None:
    """Writes a row to the copy as a bug or a stranger might: it is whole in every domain, and no row of the source."""

    class Behind:
        def decide(self, state: Any, context: Any) -> Decision:
            write = Write(MOVING, key.encode(), value.encode(), version)
            record = state.get_json(vshard_keys.migration(MOVING))
            copy = Copy.of(Place(TABLE, MOVING, record["id"]), record["cursor"], [write], record["cursor"], True)
            meta = {"do": "copy", "vs": MOVING, "cursor": copy.following, "done": True}
            return Decision(True, encode_json(meta), copy.block, copy.block_digest)

    moves.writer.session.resource(PART).append(Behind())


def writes(moves: Moves) -> int:
    """Returns how many writes the vshard had."""
    return int(moves.writer.vshards.show(TABLE, MOVING).body["writes"])


def require_failed_and_cancelled(moves: Moves) -> None:
    assert moves.state() == "failed"
    moves.put(KEYS[3], "writers go on")
    moves.writer.vshards.cancel(TABLE, [MOVING], domain="aws")
    assert moves.state() == "idle" and moves.rows_in(PART) == 0
    assert moves.migrate().state == "completed"
    moves.require_all()


def test_a_record_of_the_base_copy_that_the_target_holds_otherwise_is_found(moves: Moves) -> None:
    """It has its length and no new version is counted, so only the digest of all rows tells."""
    before = moves.in_phase("wal_catchup", lambda: strange(moves, KEYS[0], "wrong", writes(moves)))
    with pytest.raises(ProofRequired):
        moves.migrate(watch=before)
    require_failed_and_cancelled(moves)


def test_a_drained_record_that_the_target_holds_otherwise_is_found(moves: Moves) -> None:
    """All counts are equal: only who reads this record back sees it."""

    def write() -> None:
        moves.put(KEYS[0], "right")
        moves.put(KEYS[1], "other")

    first = moves.in_phase("ready", write)
    second = moves.in_phase("cutover", lambda: strange(moves, KEYS[0], "wrong", writes(moves)))
    with pytest.raises(ProofRequired, match="is not what its source has") as found:
        moves.migrate(watch=lambda event: (first(event), second(event))[0])
    assert found.value.exit_code == 19
    require_failed_and_cancelled(moves)


def test_a_record_of_the_catch_up_that_the_target_holds_otherwise_is_found(moves: Moves) -> None:
    """It was replayed after the proof, and is not among what is drained."""

    def write() -> None:
        for number in range(LAG):
            moves.put(KEYS[number], f"right {number:02}")
        strange(moves, KEYS[0], "wrong 00", writes(moves))

    with pytest.raises(ProofRequired):
        moves.migrate(watch=moves.in_phase("proof", write))
    require_failed_and_cancelled(moves)


def test_a_record_that_the_source_does_not_have_is_found_in_the_pause(moves: Moves) -> None:
    """It came after the proof, and no record that is read back is wrong: only the counts tell."""
    extra = next(name for n in range(99) if vshard_of((name := f"x{n}").encode(), VSHARDS) == MOVING)
    with pytest.raises(ProofRequired):
        moves.migrate(watch=moves.in_phase("cutover", lambda: strange(moves, extra, "made up", 1)))
    require_failed_and_cancelled(moves)


# --- going on


def test_a_base_copy_goes_on_behind_its_last_row(moves: Moves, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "CHUNK_ROWS", 5)
    bytes_told: list[int] = []

    class Enough(Exception):
        pass

    def watch(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["state"] == "base_copy":
            bytes_told.append(event["bytes"])
            if len(bytes_told) == 2:
                raise Enough

    with pytest.raises(Enough):
        moves.migrate(watch=watch)
    assert moves.rows_in(PART) == 10
    (done,) = moves.writer.vshards.resume(TABLE, [MOVING], domain="aws", budget_us=WIDE, watch=watch)
    total = sum(len(key) + len("first") for key in KEYS)
    assert done.state == "completed" and bytes_told[2] > bytes_told[1] and bytes_told[-1] == total
    moves.require_all()


# --- what is kept for it


def let_go(moves: Moves, part: str) -> int:
    """Sweeps a log as far as it may be, behind new terms; returns its first entry."""
    log = moves.writer.session.resource(part)
    for number in range(3):
        electing.elect(log.cluster, log.id, log.apply, log.observe())
        moves.put(KEYS[number], f"in another term {number}")
    sweep(log)
    with log.view() as committed:
        return min(sight.head.floor for sight in committed.found.sights.values())


def test_entries_stay_for_a_migration_until_it_is_over(moves: Moves) -> None:
    moves.migrate(hold_cutover=True)
    record = look(moves.writer.session.resource(TABLE), TABLE, MOVING).moving or {}
    assert let_go(moves, TABLE) <= record["since"]
    moves.finish()
    moves.require_all()


def test_entries_stay_for_the_way_back_until_it_is_retired(moves: Moves) -> None:
    moves.migrate()
    back = look(moves.writer.session.resource(PART), PART, MOVING).back or {}
    assert let_go(moves, PART) <= back["since"]
    (done,) = moves.writer.vshards.reverse(TABLE, [MOVING], domain="aws", budget_us=WIDE)
    assert done.state == "reversed"
    moves.require_all()
    moves.writer.vshards.retire(TABLE, [MOVING], domain="aws")
    assert moves.migrate().state == "completed"
    moves.writer.vshards.retire(TABLE, [MOVING], domain="aws")
    assert let_go(moves, PART) > back["since"], "and no longer"
    moves.require_all()


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_retired_copy_answers_nobody_who_has_an_old_route(moves: Moves, is_whole: bool) -> None:
    with moves.ours.reopened() as other:
        assert other.tables.get(TABLE, KEYS[0], domain="aws").value == b"first"
        token = moves.migrate().changed and (look(moves.home, TABLE, MOVING).row or {})["token"]
        moves.put(KEYS[0], "since")
        if is_whole:
            moves.writer.vshards.retire(TABLE, [MOVING], domain="aws")
        else:  # it died in the middle
            moves.writer.session.resource(PART).append(ForgetWayBack(Place(TABLE, MOVING, ""), Caller(TABLE, "aws")))
            assert moves.home.append(Drop(Place(TABLE, MOVING, ""), len(KEYS) - 2, token)).answer
        assert 0 < moves.rows_in(TABLE) < len(KEYS) or is_whole
        for key, value in moves.known.items():
            assert other.tables.get(TABLE, key, domain="aws").value == value.encode()
    with moves.ours.reopened() as other:
        other.tables.get(TABLE, KEYS[0], domain="aws")
    moves.writer.vshards.retire(TABLE, [MOVING], domain="aws")
    assert moves.rows_in(TABLE) == 0 and moves.state() == "idle"
    moves.require_all()
