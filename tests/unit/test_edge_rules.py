"""The rules of open ends of edges: every state on both sides, and every relation of two handoffs."""

from __future__ import annotations

from typing import Any

import pytest

from grafctl.errors import GenerationConflict
from grafctl.store.edge_rules import GO, READER, RELOCATE, STEPS, STOP, WAIT, WRITER, is_newer, usable_until_ms
from grafctl.store.resources.edges import Handoff
from grafctl.store.segment_rules import RECOVERABLE, STATES, USABLE

AT_5 = Handoff(5, 50, "aws", "e.5", "memory", 4096, 4, 512)


@pytest.mark.parametrize("state", STATES)
def test_each_state_has_one_step_on_each_side(state: str) -> None:
    steps = (STEPS[WRITER][state], STEPS[READER][state])
    if state in USABLE:
        assert steps == (GO, GO)
    elif state in RECOVERABLE:
        assert steps == (RELOCATE, WAIT), "one relocates, the other waits for it"
    else:
        assert steps == (STOP, WAIT if state == "fenced" else STOP)


def test_the_table_knows_every_state_and_no_other() -> None:
    assert all(set(steps) == set(STATES) for steps in STEPS.values()) and set(STEPS) == {WRITER, READER}


@pytest.mark.parametrize("field", Handoff.__annotations__)
def test_the_same_generation_is_the_same_in_every_field(field: str) -> None:
    other: Any = "other" if isinstance(getattr(AT_5, field), str) else getattr(AT_5, field) + 1
    found = AT_5._replace(**{field: other})
    if field == "generation":
        assert is_newer("e", AT_5, found)
        return
    with pytest.raises(GenerationConflict, match="elsewhere at the same generation 5") as refused:
        is_newer("e", AT_5, found)
    assert refused.value.fields["recoverable"] is False


def test_newer_is_taken_equal_is_nothing_and_older_is_refused() -> None:
    assert is_newer("e", None, AT_5) and not is_newer("e", AT_5, AT_5._replace())
    for generation in (1, 4, 5, 6, 2**40):
        found = AT_5._replace(generation=generation, token=generation * 10)
        if generation >= 5:
            assert is_newer("e", AT_5, found) is (generation > 5)
            continue
        with pytest.raises(GenerationConflict, match=f"was at generation 5, and is at generation {generation} now"):
            is_newer("e", AT_5, found)


@pytest.mark.parametrize(("gone_ms", "expected"), [(None, 100), (99, 99), (101, 100)])
def test_a_lease_ends_with_its_term_or_its_grace(gone_ms: int | None, expected: int) -> None:
    assert usable_until_ms({"until_ms": 100, "gone_ms": gone_ms}) == expected
