"""The settings of the cut-over's explorer, and the errors that it must catch.

Promises
- Each setting is sound as it is; a mutant is the same setting with one guard or one habit broken.
- A mutant is caught by what is named, not by whatever fails first.

When it fails: `test_cutover.py` says which error nobody noticed, or which state broke a promise.
"""

from __future__ import annotations

from typing import NamedTuple

from model.cutover import Behaviour, Setting
from model.cutover_guards import (
    DROPPING,
    GUARDS,
    MOVED,
    OPEN,
    READY,
    RECEIVING,
    RETIRED,
    SEALED,
    Claim,
    Guards,
    Place,
)

A, B, NO_A, NO_B = (0, False), (1, False), (0, True), (1, True)  # puts and deletes of the two keys
THERE = ("migrate", "finish")
UNDONE = (*THERE, "cancel")
BACK = ("reverse", "finish", "cancel", "retire")
NO_CANCEL = (*THERE, "reverse", "retire")
EVERYTHING = (*NO_CANCEL, "cancel")

ONE = Setting("one operator, four writes", THERE, (A, NO_B, B, A))
TWO = Setting("two operators", THERE, (A, NO_A, B), 2)
LEAN = Setting(
    "rows written since are left to the log", THERE, (A, NO_A, B), 2, behaviour=Behaviour(copies_newer=False)
)
CANCELS = Setting("two operators, cancelled and done again", UNDONE, (A, NO_B), 2, 2)
RETURNS = Setting("two operators, back or retired", BACK, (A, NO_B), 2, 1, is_moved=True)
AGAIN = Setting("there, back, there", EVERYTHING, (A, NO_B), 1, 3, 3)
AGAIN_TWO = Setting("retired, and there again, two operators", NO_CANCEL, (NO_B,), 2, 2, is_moved=True)
ROUTED = Setting("with the route", (*THERE, "reverse"), (A,), 2, 2, has_hint=True)
RETRIED = Setting("writes tried again", UNDONE, (A, NO_B, A), 1, has_retries=True)
EMPTIED = Setting("two operators, and nothing left", THERE, (NO_A, NO_B), 2)
SOUND = (ONE, TWO, LEAN, EMPTIED, CANCELS, RETURNS, AGAIN, AGAIN_TWO, ROUTED, RETRIED)


class Mutant(NamedTuple):
    """One error."""

    name: str
    setting: Setting
    breaks: str  # how the violation begins
    guards: Guards = GUARDS
    behaviour: Behaviour = Behaviour()

    @property
    def wrong_setting(self) -> Setting:
        return self.setting._replace(guards=self.guards, behaviour=self.behaviour)


class SealStopsNobody(Guards):
    def may_put(self, here: Place, claim: Claim | None) -> bool:
        return here.state == SEALED or super().may_put(here, claim)


class FlipAnyToken(Guards):
    def may_flip(self, here: Place, token: int, *, is_over: bool) -> bool:
        return here.state == SEALED and not is_over


class FlipWithoutSeal(Guards):
    def may_flip(self, here: Place, token: int, *, is_over: bool) -> bool:
        return here.state in (OPEN, SEALED) and here.token == token and not is_over


class FlipAfterBudget(Guards):
    def may_flip(self, here: Place, token: int, *, is_over: bool) -> bool:
        return super().may_flip(here, token, is_over=False)


class UnsealAfterFlip(Guards):
    def may_unseal(self, here: Place, *, is_over: bool) -> bool:
        return here.state == MOVED or super().may_unseal(here, is_over=is_over)  # in time every budget is over


class UnsealNever(Guards):
    def may_unseal(self, here: Place, *, is_over: bool) -> bool:
        return False


class OpenWithoutClaim(Guards):
    def may_open(self, here: Place, claim: Claim | None) -> bool:
        return here.state == READY


class ReadyForAnySeal(Guards):
    def may_open(self, here: Place, claim: Claim | None) -> bool:
        return here.state == READY and claim is not None and claim.generation == here.generation


class ClaimAnyToken(Guards):
    def may_open(self, here: Place, claim: Claim | None) -> bool:
        return here.state == READY and claim is not None


class CopyAnyCursor(Guards):
    def may_copy(self, here: Place, migration: int, cursor: int) -> bool:
        return here.state == RECEIVING and here.incoming == migration


class CopyAnyMigration(Guards):
    def may_copy(self, here: Place, migration: int, cursor: int) -> bool:
        return here.state == RECEIVING and not here.is_copied and here.cursor == cursor


class ApplyAnywhere(Guards):
    def may_apply(self, here: Place, migration: int, applied: int) -> bool:
        return super().may_apply(here, migration, here.applied)


class ApplyAgain(Guards):
    def may_apply(self, here: Place, migration: int, applied: int) -> bool:
        return super().may_apply(here, migration, here.applied if here.state == RECEIVING else applied)


class ApplyEarly(Guards):
    def may_apply(self, here: Place, migration: int, applied: int) -> bool:
        return here.state in (RECEIVING, READY) and here.incoming == migration and here.applied == applied


class VersionsIgnored(Guards):
    def is_newer(self, version: int, there: int) -> bool:
        return True


class ReceiveOverRows(Guards):
    def may_receive(self, here: Place, *, is_empty: bool) -> bool:
        return super().may_receive(here, is_empty=True)


class DropAnything(Guards):
    def may_drop(self, here: Place, migration: int) -> bool:
        return here.incoming == migration or here.state == OPEN


class DropAnyMigration(Guards):
    def may_drop(self, here: Place, migration: int) -> bool:
        return here.state in (RECEIVING, READY, DROPPING)


class CancelAnything(Guards):
    def may_cancel(self, here: Place, migration: int) -> bool:
        return True


class CancelAnyMigration(Guards):
    def may_cancel(self, here: Place, migration: int) -> bool:
        return here.state in (OPEN, SEALED)


class GiveUpAnyWayBack(Guards):
    def may_give_up_way_back(self, here: Place, generation: int) -> bool:
        return self.may_reverse(here)


class ReceiveAnywhere(Guards):
    def may_receive(self, here: Place, *, is_empty: bool) -> bool:
        return is_empty


class RetireAnyGeneration(Guards):
    def may_retire(self, here: Place, generation: int) -> bool:
        return True


class ReadRetired(Guards):
    def may_read(self, here: Place, claim: Claim | None) -> bool:
        return here.state == RETIRED or super().may_read(here, claim)


class ReadMoved(Guards):
    def may_read(self, here: Place, claim: Claim | None) -> bool:
        return here.state == MOVED or super().may_read(here, claim)


class SealOpenToOthers(Guards):
    def may_seal(self, here: Place, migration: int) -> bool:
        return here.state == OPEN


class SealAgain(Guards):
    def may_seal(self, here: Place, migration: int) -> bool:
        return here.state in (OPEN, SEALED) and here.outgoing == migration


class ReceiveBackRetired(Guards):
    def may_receive_back(self, here: Place, generation: int) -> bool:
        return here.state in (MOVED, RETIRED) and here.generation == generation


class PointAlways(Guards):
    def may_point(self, there: int, generation: int) -> bool:
        return True


MUTANTS = (
    Mutant("a seal that does not stop writers", TWO, "FLIP", SealStopsNobody()),
    Mutant("flip without checking the token", TWO, "TOKEN", FlipAnyToken()),
    Mutant("flip after the seal was lifted", TWO, "TOKEN", FlipWithoutSeal()),
    Mutant("flip after the budget", ONE, "BUDGET", FlipAfterBudget()),
    Mutant("unseal after the flip", TWO, "O", UnsealAfterFlip()),
    Mutant("a seal that is renewed", TWO, "BUDGET", SealAgain()),
    Mutant("a seal that nobody lifts", ONE, "NOBODY", UnsealNever()),
    Mutant("the target opened without the claim", ONE, "O", OpenWithoutClaim()),
    Mutant("the target opened by any claim", AGAIN, "O", ClaimAnyToken()),
    Mutant("ready not tied to the token", ONE, "FLIP", ReadyForAnySeal(),
        Behaviour(flips_whatever_is_ready=True)),
    Mutant("drain that stops one entry short", ONE, "FLIP", behaviour=Behaviour(drains_short=True)),
    Mutant("replay that ignores versions", ONE, "BACK", VersionsIgnored()),
    Mutant("a cursor moved before its rows", ONE, "FLIP", behaviour=Behaviour(moves_cursor_first=True)),
    Mutant("a chunk whose cursor is not compared", TWO, "FLIP", CopyAnyCursor()),
    Mutant("a chunk of another migration", CANCELS, "FLIP", CopyAnyMigration()),
    Mutant("a late batch that takes its readiness from a copy", TWO, "NOBODY", ApplyAnywhere()),
    Mutant("a batch of nothing that takes its readiness from a copy", TWO, "NOBODY",
        behaviour=Behaviour(unreadies=True)),
    Mutant("a late batch that brings back what was deleted", TWO, "FLIP", ApplyAgain(), Behaviour(only_goes_on=True)),
    Mutant("entries applied before the last chunk", TWO, "FLIP", ApplyEarly(), Behaviour(applies_early=True)),
    Mutant("a copy begun over what was left", AGAIN_TWO, "FLIP", ReceiveOverRows(), Behaviour(hurries=True)),
    Mutant("a drop that does not look at the state", CANCELS, "NOBODY", DropAnything()),
    Mutant("a drop of another migration", CANCELS, "FLIP", DropAnyMigration()),
    Mutant("a copy dropped before the source cancels", TWO._replace(wishes=UNDONE), "FLIP",
        behaviour=Behaviour(drops_uncancelled=True)),
    Mutant("a cancel that does not look at the state", TWO._replace(wishes=UNDONE), "OWNERS", CancelAnything()),
    Mutant("a cancel of another migration", CANCELS, "OTHER", CancelAnyMigration()),
    Mutant("a way back of another generation given up", AGAIN_TWO, "OTHER", GiveUpAnyWayBack()),
    Mutant("a copy begun over an owner that is empty", EMPTIED, "NOBODY", ReceiveAnywhere()),
    Mutant("reverse with entries swept", RETURNS, "FLIP", behaviour=Behaviour(keeps_nothing=True)),
    Mutant("retire before the way back is gone", RETURNS, "STUCK", behaviour=Behaviour(retires_first=True)),
    Mutant("reverse onto a retired copy", RETURNS, "FLIP", ReceiveBackRetired(), Behaviour(retires_first=True)),
    Mutant("retire that does not look at the generation", AGAIN_TWO, "STUCK", RetireAnyGeneration()),
    Mutant("a retired copy that is read", RETURNS, "OLD", ReadRetired()),
    Mutant("an old copy that is read", ONE, "OLD", ReadMoved()),
    Mutant("a route hint treated as the truth", ROUTED, "O", behaviour=Behaviour(trusts_hint=True)),
    Mutant("a sequence that does not move along", ONE, "VERSION", behaviour=Behaviour(forgets_sequence=True)),
    Mutant("what a cancel left is not dropped", CANCELS, "STUCK", behaviour=Behaviour(leaves_orphans=True)),
    Mutant("a seal of a migration that is gone", CANCELS, "STUCK", SealOpenToOthers()),
    Mutant("a late route that undoes a newer one", ROUTED, "HINT", PointAlways()),
    Mutant("a write tried again at a log that does not know it", RETRIED, "TWICE",
        behaviour=Behaviour(asks_nobody=True)),
)  # fmt: skip
