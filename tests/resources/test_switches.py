"""Switches as entries of the control log: the compare-and-set on a row, and what refuses whoever comes too late."""

from __future__ import annotations

from typing import Any

import pytest

from grafctl.errors import Busy, GenerationConflict, GrafctlError, NotFound, ProofRequired
from grafctl.store import switch_keys
from grafctl.store.resources.switches import (
    BeginClosing,
    BeginDetach,
    CreateSwitch,
    DropSwitch,
    EndAttach,
    Flip,
    Lock,
    NoteShadow,
    NoteSoak,
    StartSoak,
    Switched,
    switch_row,
)
from resources.rows import Rows

OLD, NEW = {"resource": "old", "group": "g"}, {"resource": "new", "group": "g"}
SAME = {"mismatches": 0}


def definition(**fields: Any) -> dict[str, Any]:
    made = {"source": OLD, "target": NEW, "match": "id", "compare": {"fields": []}, "rules": {}}
    return made | {"window_ms": 1_000, "risk": "low", "shape": None} | fields


def attach(rows: Rows, name: str = "s", **fields: Any) -> dict[str, Any]:
    rows.run(CreateSwitch(name, definition(**fields)))
    rows.run(EndAttach(name, generation(rows, name)))
    return switch_row(rows, name)


def generation(rows: Rows, name: str = "s") -> int:
    return int(switch_row(rows, name)["generation"])


def state(rows: Rows, name: str = "s") -> str:
    return str(switch_row(rows, name)["state"])


def closing(rows: Rows, name: str = "s", to: str = "target", **more: Any) -> Switched:
    answer: Switched = rows.run(BeginClosing(name, generation(rows, name), to, rows.now_ms + 100, **more))
    return answer


def switched(rows: Rows, name: str = "s") -> None:
    rows.run(NoteShadow(name, generation(rows, name), SAME, begins=True))
    closing(rows, name)
    rows.run(Flip(name, generation(rows, name), "target", "switch"))


@pytest.fixture
def rows() -> Rows:
    made = Rows()
    made.start()
    return made


def test_a_whole_life(rows: Rows) -> None:
    first = attach(rows)["generation"]
    assert state(rows) == "source"
    rows.run(NoteShadow("s", first, SAME))
    assert state(rows) == "shadow"
    closing(rows)
    cursors = {"source": {"floor": 7, "cursor": 9}, "target": {"floor": 0, "cursor": 0}}
    row = rows.run(Flip("s", first, "target", "switch", cursors)).row
    assert (row["generation"], row["side"], row["state"], row["phase"]) == (first + 1, "target", "switched", None)
    assert row["cursors"] == cursors and row["flips"][-1]["cursors"] == cursors and row["flipped_ms"] == rows.now_ms
    with pytest.raises(GenerationConflict):
        rows.run(Lock("s", first + 1))
    rows.run(StartSoak("s", first + 1))
    assert not rows.run(StartSoak("s", first + 1)).changed
    rows.now_ms += 999
    with pytest.raises(Busy) as early:
        rows.run(Lock("s", first + 1))
    assert early.value.fields["left_ms"] == 1 and state(rows) == "soaking"
    rows.now_ms += 1
    assert rows.run(Lock("s", first + 1)).changed and state(rows) == "locked"
    assert not rows.run(Lock("s", first + 1)).changed
    for late in (BeginClosing("s", first + 1, "source", 9_999), Flip("s", first + 1, "target", "x", rolls_back=True)):
        with pytest.raises(GenerationConflict, match="locked"):
            rows.run(late)


@pytest.mark.parametrize(
    "late",
    [
        BeginClosing("s", 1, "target", 5_000),
        Flip("s", 1, "target", "late"),
        Flip("s", 1, "source", "late", is_late=True),
        Flip("s", 1, "source", "late", rolls_back=True),
        StartSoak("s", 1),
        Lock("s", 1),
        NoteShadow("s", 1, SAME),
        NoteSoak("s", 1, {}),
        EndAttach("s", 1),
        BeginDetach("s", 1),
    ],
    ids=lambda late: type(late).__name__,
)
def test_whoever_comes_with_an_older_generation_changes_nothing(rows: Rows, late: Any) -> None:
    assert attach(rows)["generation"] == 1
    switched(rows)
    before = switch_row(rows, "s")
    with pytest.raises(GenerationConflict, match="generation 2"):
        rows.run(late)
    assert switch_row(rows, "s") == before


def test_a_name_that_is_attached_later_begins_above_every_generation_there_was(rows: Rows) -> None:
    attach(rows)
    switched(rows)
    closing(rows, to="source")
    rows.run(Flip("s", generation(rows), "source", "back"))
    last = generation(rows)
    rows.run(BeginDetach("s", last))
    assert rows.run(DropSwitch("s", last)) and not rows.run(DropSwitch("s", last))
    with pytest.raises(NotFound):
        switch_row(rows, "s")
    assert attach(rows)["generation"] > last


def test_a_late_detach_leaves_alone_what_was_attached_under_the_same_name(rows: Rows) -> None:
    old = attach(rows)["generation"]
    rows.run(BeginDetach("s", old))
    rows.run(DropSwitch("s", old))
    rows.run(CreateSwitch("s", definition()))
    at = generation(rows)
    for late in (EndAttach("s", old), BeginDetach("s", old)):
        with pytest.raises(GenerationConflict, match=f"generation {at}"):
            rows.run(late)
    rows.run(BeginDetach("s", at))
    assert not rows.run(DropSwitch("s", old)), "its groups are not free yet"
    assert generation(rows) == at


def test_nothing_rolls_back_what_is_half_attached_or_at_its_target(rows: Rows) -> None:
    rows.run(CreateSwitch("s", definition()))
    with pytest.raises(GenerationConflict, match="is attaching"):
        rows.run(Flip("s", generation(rows), "source", "x", rolls_back=True))
    rows.run(EndAttach("s", generation(rows)))
    switched(rows)
    with pytest.raises(GenerationConflict, match="at its target"):
        rows.run(Flip("s", generation(rows), "target", "x", rolls_back=True))
    closing(rows, to="source")
    rows.run(Flip("s", generation(rows), "source", "x"))
    rows.run(BeginDetach("s", generation(rows)))
    with pytest.raises(GenerationConflict):
        rows.run(Flip("s", generation(rows), "source", "x", rolls_back=True))


def test_nothing_flips_that_was_not_closed_for_it(rows: Rows) -> None:
    at = attach(rows)["generation"]
    rows.run(NoteShadow("s", at, SAME))
    with pytest.raises(GenerationConflict, match="not closing"):
        rows.run(Flip("s", at, "target", "x"))
    closing(rows)
    rows.run(Flip("s", at, "source", "given up"))
    assert state(rows) == "shadow" and generation(rows) == at + 1
    with pytest.raises(GenerationConflict, match="no closing"):
        rows.run(Flip("s", at + 1, "source", "given up"))


def test_a_closing_is_given_up_by_others_only_when_its_time_is_over(rows: Rows) -> None:
    at = attach(rows)["generation"]
    rows.run(NoteShadow("s", at, SAME))
    closing(rows)
    rows.now_ms += 100
    with pytest.raises(GenerationConflict):
        rows.run(Flip("s", at, "source", "late", is_late=True))
    longer = rows.run(BeginClosing("s", at, "target", rows.now_ms + 1))
    assert longer.changed and not rows.run(BeginClosing("s", at, "target", rows.now_ms + 1)).changed
    rows.now_ms += 2
    assert rows.run(Flip("s", at, "source", "late", is_late=True)).row["side"] == "source"
    with pytest.raises(GenerationConflict, match=f"generation {at + 1}"):
        rows.run(Flip("s", at, "target", "switch"))


def test_a_lock_in_the_middle_of_a_way_back_says_what_goes_on_with_that(rows: Rows) -> None:
    attach(rows)
    switched(rows)
    rows.run(StartSoak("s", generation(rows)))
    closing(rows, to="source")
    rows.now_ms += 1_000
    with pytest.raises(Busy, match="being taken back") as refused:
        rows.run(Lock("s", generation(rows)))
    assert "consumer rollback s" in (refused.value.hint or "")


def test_a_mismatch_or_no_comparison_blocks_the_closing(rows: Rows) -> None:
    at = attach(rows)["generation"]
    for shadow in ({}, {"mismatches": 1}):
        rows.run(NoteShadow("s", at, shadow))
        with pytest.raises(ProofRequired):
            closing(rows)
    rows.run(NoteShadow("s", at, SAME))
    closing(rows)


def test_a_switch_that_was_rolled_back_is_tried_again_by_a_new_comparison(rows: Rows) -> None:
    attach(rows)
    switched(rows)
    closing(rows, to="source")
    rows.run(Flip("s", generation(rows), "source", "lag 9 > 1"))
    assert state(rows) == "rolled_back" and switch_row(rows, "s")["soak_since_ms"] is None
    rows.run(NoteShadow("s", generation(rows), SAME))
    assert state(rows) == "rolled_back"
    with pytest.raises(GenerationConflict, match="rolled_back"):
        closing(rows)
    switched(rows)
    assert state(rows) == "switched"


def test_one_switch_is_in_flight_and_a_wave_has_room_for_some(rows: Rows) -> None:
    for name in "abc":
        place = {"resource": f"old-{name}", "group": "g"}, {"resource": f"new-{name}", "group": "g"}
        attach(rows, name, source=place[0], target=place[1])
        rows.run(NoteShadow(name, generation(rows, name), SAME))
    closing(rows, "a")
    with pytest.raises(Busy, match="a is in flight"):
        closing(rows, "b")
    rows.run(Flip("a", generation(rows, "a"), "source", "given up"))
    wave = {"name": "w", "at_once": 2}
    closing(rows, "a", wave=wave)
    closing(rows, "b", wave=wave)
    with pytest.raises(Busy, match="room for 2"):
        closing(rows, "c", wave=wave)


def test_another_closing_and_a_detach_wait_for_the_one_under_way(rows: Rows) -> None:
    attach(rows)
    switched(rows)
    with pytest.raises(GenerationConflict, match="in flight"):
        rows.run(BeginDetach("s", generation(rows)))
    closing(rows, to="source")
    rows.run(StartSoak("s", generation(rows)))
    with pytest.raises(GenerationConflict):
        closing(rows, to="target")
    with pytest.raises(GenerationConflict, match="not being detached"):
        rows.run(DropSwitch("s", generation(rows)))


def test_a_group_is_in_one_switch_and_a_definition_stays(rows: Rows) -> None:
    attach(rows)
    assert not rows.run(CreateSwitch("s", definition())).changed
    for fields in ({"match": "key"}, {"window_ms": 5}, {"target": {"resource": "newer", "group": "g"}}):
        with pytest.raises(GenerationConflict, match="another"):
            rows.run(CreateSwitch("s", definition(**fields)))
    for fields in ({}, {"source": NEW, "target": {"resource": "x", "group": "g"}}):
        with pytest.raises(GenerationConflict, match="attached to the switch s"):
            rows.run(CreateSwitch("t", definition(**fields)))
    rows.run(BeginDetach("s", generation(rows)))
    with pytest.raises(GenerationConflict, match="being detached"):
        rows.run(CreateSwitch("s", definition()))


def test_what_is_kept_of_flips_is_bounded_and_absent_switches_are_not_found(rows: Rows) -> None:
    attach(rows)
    for _ in range(12):
        rows.run(Flip("s", generation(rows), "source", "x", rolls_back=True))
        rows.run(NoteShadow("s", generation(rows), SAME, begins=True))
    assert len(switch_row(rows, "s")["flips"]) == 8
    for request in (
        BeginDetach("absent", 1),
        NoteSoak("absent", 1, {}),
        Flip("absent", 1, "source", "x"),
        Lock("absent", 1),
    ):
        with pytest.raises(GrafctlError) as refused:
            rows.run(request)
        assert isinstance(refused.value, NotFound)
    assert list(rows.scan(switch_keys.switches()))
