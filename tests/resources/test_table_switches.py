"""Switches of tables as entries of the control log: one for each verb, refused inside the transaction."""

from __future__ import annotations

from typing import Any

import pytest

from grafctl.errors import Busy, Fenced, GenerationConflict, NotFound, ProofRequired
from grafctl.store import switch_keys
from grafctl.store.resources.switches import Lock, NoteShadow, StartSoak, switch_row
from grafctl.store.resources.table_switches import FlipTables, TieTables, UntieTables, Way, way_of
from resources.rows import Rows
from resources.test_switches import NEW, OLD, definition, generation, state

CURSORS = {"source": {"writes": 3}, "target": {"writes": 2}}


@pytest.fixture
def rows() -> Rows:
    made = Rows()
    made.start()
    return made


def tie(rows: Rows, name: str = "s", group: str = "g", **more: Any) -> int:
    places = {side: place | {"group": group} for side, place in (("source", OLD), ("target", NEW))}
    rows.run(TieTables(name, definition(**places, **more)))
    return generation(rows, name)


def flip(rows: Rows, name: str = "s", to: str = "target", **more: Any) -> None:
    rows.run(FlipTables(name, generation(rows, name), to, "switch", CURSORS, **more))


def compared(rows: Rows, name: str = "s", mismatches: int | None = 0) -> None:
    rows.run(NoteShadow(name, generation(rows, name), {"mismatches": mismatches}, begins=True))


def test_a_whole_life(rows: Rows) -> None:
    assert way_of(rows, "old", "g") == Way("old")
    first = tie(rows)
    assert way_of(rows, "old", "g") == way_of(rows, "new", "g") == Way("old", "s", first)
    assert way_of(rows, "old", "other") == Way("old")
    compared(rows)
    flip(rows)
    row = switch_row(rows, "s")
    assert (row["generation"], row["side"], row["state"], row["phase"]) == (first + 1, "target", "switched", None)
    assert row["cursors"] == CURSORS == row["flips"][-1]["cursors"]
    assert way_of(rows, "old", "g") == way_of(rows, "new", "g") == Way("new", "s", first + 1)
    kept = rows.get_json(switch_keys.reader("old", "g"))
    assert kept == {"switch": "s", "table": "new", "generation": first + 1}, "a read needs no more than this"
    rows.run(StartSoak("s", first + 1))
    rows.now_ms += 1_000
    rows.run(Lock("s", first + 1))
    rows.run(UntieTables("s", first + 1))
    with pytest.raises(NotFound):
        switch_row(rows, "s")
    assert way_of(rows, "new", "g") == Way("new")
    with pytest.raises(Fenced, match="moved to new"):
        way_of(rows, "old", "g")
    assert tie(rows) > first + 1 and way_of(rows, "old", "g").table == "old"


def test_nothing_flips_that_was_not_compared_or_differs(rows: Rows) -> None:
    tie(rows)
    with pytest.raises(GenerationConflict, match="is source"):
        flip(rows)
    for mismatches in (None, 2):
        compared(rows, mismatches=mismatches)
        with pytest.raises(ProofRequired):
            flip(rows)
    assert state(rows) == "shadow"


def test_one_is_in_flight_unless_their_wave_has_room(rows: Rows) -> None:
    tie(rows)
    tie(rows, "t", "h")
    for name in ("s", "t"):
        compared(rows, name)
    flip(rows, "s", wave={"name": "w", "at_once": 2})
    with pytest.raises(Busy, match="in flight"):
        flip(rows, "t")
    with pytest.raises(Busy, match="in flight"):
        flip(rows, "t", wave={"name": "other", "at_once": 2})
    flip(rows, "t", wave={"name": "w", "at_once": 2})
    flip(rows, "s", to="source")
    assert switch_row(rows, "s")["wave"] == {"name": "w", "at_once": 2}, "who went back is known to its wave"


def test_who_comes_late_changes_nothing(rows: Rows) -> None:
    first = tie(rows)
    compared(rows)
    flip(rows)
    for late in (FlipTables("s", first, "source", "late", CURSORS), UntieTables("s", first)):
        with pytest.raises(GenerationConflict, match="another operator"):
            rows.run(late)
    with pytest.raises(GenerationConflict, match="in flight"):
        rows.run(UntieTables("s", first + 1))
    flip(rows, to="source")
    with pytest.raises(GenerationConflict):
        flip(rows, to="source")
    rows.run(UntieTables("s", first + 2))
    assert way_of(rows, "old", "g") == Way("old"), "at its source it needs nobody to tell it where to read"
