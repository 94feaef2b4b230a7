"""Groups that are tied to a switch and freed from it, as entries of their log: who comes late does nothing."""

from __future__ import annotations

import pytest

from grafctl.errors import GenerationConflict
from grafctl.store.resources.switched import AttachGroup, DetachGroup
from resources.rows import Q, Rows, a_queue

SIDES = ("source", "target")


@pytest.fixture
def rows() -> Rows:
    made = a_queue()
    made.group("g")
    return made


def attach(rows: Rows, generation: int, side: str = "target") -> bool:
    return bool(rows.run(AttachGroup(Q, "g", "s", side, "id", generation)))


def detach(rows: Rows, generation: int, *, paused: bool = False) -> bool:
    return bool(rows.run(DetachGroup(Q, "g", "s", generation, paused)))


@pytest.mark.parametrize("side", SIDES)
def test_who_comes_late_to_attach_is_refused_by_the_detach(rows: Rows, side: str) -> None:
    assert attach(rows, 5, side) and not attach(rows, 5, side)
    assert detach(rows, 6) and not detach(rows, 6)
    for late in (5, 6):
        with pytest.raises(GenerationConflict, match="was detached from the switch s"):
            attach(rows, late, side)
    assert "switch" not in rows.row("g")
    assert attach(rows, 7, side) and rows.row("g")["switch"]["generation"] == 7


@pytest.mark.parametrize("side", SIDES)
def test_a_detach_goes_before_an_attach_that_has_not_come_yet(rows: Rows, side: str) -> None:
    assert detach(rows, 5, paused=True) and not detach(rows, 5, paused=True)
    with pytest.raises(GenerationConflict, match="was detached"):
        attach(rows, 5, side)


def test_a_late_detach_leaves_a_newer_switch_alone(rows: Rows) -> None:
    attach(rows, 7)
    assert not detach(rows, 6)
    assert rows.row("g")["switch"]["name"] == "s"
