"""The simulator bites: with one safety of the production code taken away, some history of a few hundred goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from grafctl.store.log import Log
from grafctl.store.observe import Lead
from grafctl.store.replica.replica import Replica, Writer
from grafctl.store.rules import Rules
from simulation.history import SHAPES, play
from simulation.stores import prepare

SEEDS = 400
Patch = pytest.MonkeyPatch


def acknowledged_by_the_primary_alone(patch: Patch) -> None:
    patch.setattr(Log, "_commit", lambda self, attempt, lead, tail, fresh=None: None)


def no_fence_at_the_primary(patch: Patch) -> None:
    patch.setattr(Rules, "may_append", lambda self, head, config, member: True)
    patch.setattr(Log, "_check_primary", lambda self, writer, lead: writer.config())


def no_fence_at_a_backup(patch: Patch) -> None:
    patch.setattr(Rules, "may_copy", lambda self, head, term: True)


def no_search_for_the_operation_key(patch: Patch) -> None:
    patch.setattr(Replica, "find_operation", lambda self, operation, start: None)


def the_state_is_not_undone(patch: Patch) -> None:
    def cut(self: Writer, count: int) -> None:
        for index in range(self.row.head.tail - 1, count - 1, -1):
            self._drop_entry(index)
        self._settle_after_cut(count)

    patch.setattr(Writer, "cut", cut)


def entries_of_old_terms_count(patch: Patch) -> None:
    """Whoever holds the first so many entries counts as holding them, in whatever term they came to him."""

    def lead(self: Any) -> Lead | None:
        best = self.best()
        if best is None:
            return None
        sights = [sight for sight in self.sights.values() if not sight.head.learning]
        known = max(sight.head.commit for sight in sights)
        made = Lead(best.head.acc, list(best.configs), known, {sight.member: sight.head.tail for sight in sights})
        made.settle()
        return made

    patch.setattr("grafctl.store.observe.Observation.lead", lead)


def a_quorum_is_one_less(patch: Patch) -> None:
    right = Rules.is_write_quorum

    def is_write_quorum(self: Rules, config: Any, there: Any) -> bool:
        smaller = config._replace(write_size=config.write_size - 1, payload_size=max(config.payload_size - 1, 1))
        return right(self, smaller, there)

    patch.setattr(Rules, "is_write_quorum", is_write_quorum)


def an_unknown_outcome_is_called_unwritten(patch: Patch) -> None:
    patch.setattr("grafctl.store.requests.Attempt.outcome", property(lambda self: "not_written"))
    patch.setattr("grafctl.store.requests.Attempt.name", property(lambda self: None))


def whoever_had_a_lease_may_finish(patch: Patch) -> None:
    patch.setattr("grafctl.store.resources.group.difference", lambda one, other: [])


def an_epoch_is_not_asked(patch: Patch) -> None:
    for place in ("resources.queue", "resources.group", "operations.polling"):
        patch.setattr(f"grafctl.store.{place}.pass_epoch", lambda asked, epoch: None)


def a_generation_may_be_put_over_another(patch: Patch) -> None:
    patch.setattr("grafctl.nouns.locators.require_locator", lambda state, resource, before: None)
    patch.setattr("grafctl.store.resources.membership.require_locator", lambda state, resource, before: None)


MUTANTS: list[Callable[[Patch], None]] = [
    acknowledged_by_the_primary_alone,
    no_fence_at_the_primary,
    no_fence_at_a_backup,
    no_search_for_the_operation_key,
    the_state_is_not_undone,
    entries_of_old_terms_count,
    a_quorum_is_one_less,
    an_unknown_outcome_is_called_unwritten,
    whoever_had_a_lease_may_finish,
    an_epoch_is_not_asked,
    a_generation_may_be_put_over_another,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_is_found(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    for shape in SHAPES:
        prepare(shape)  # the stores that histories begin with are made by the right code
    mutant(monkeypatch)
    for seed in range(SEEDS):
        if play(seed).failure is not None:
            return
    pytest.fail(f"{mutant.__name__} survives {SEEDS} histories")
