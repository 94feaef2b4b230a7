"""The settings of the switchover's explorer, and the errors that it must catch.

Promises
- Each setting is sound as it is; a mutant is the same setting with one guard or one habit broken.
- A mutant is caught by what is named, not by whatever fails first.

When it fails: `test_switching.py` says which error nobody noticed, or which state broke a promise.
"""

from __future__ import annotations

from typing import NamedTuple

from model.switching import Behaviour, Setting
from model.switching_guards import (
    ATTACHING,
    CLOSED,
    CLOSING,
    DETACHING,
    GUARDS,
    IDLE,
    LEAVES,
    LOCKED,
    OPEN,
    ROLLED_BACK,
    SHADOW,
    SOAKING,
    SWITCHED,
    Control,
    Group,
    Guards,
)

BOTH = ("switch", "roll back")
LIFE = (*BOTH, "attach", "detach")

FORTH = Setting("two operators, a record comes late", late=(0, 2), operators=2, generations=3)
BACK = Setting("there and back, two operators", BOTH, 1, operators=2)
AGAIN = Setting("there, back, there, back", BOTH, 1, (1, 1), generations=5)
ORDERS = Setting("two operators, and no record", (*BOTH, "lock", "give up"), 0, operators=2)
TRIED = Setting("tried again, and no record", BOTH, 0, operators=2, generations=5)
GIVEN_UP = Setting("given up, two operators", ("switch", "give up"), 1, operators=2, generations=3)
ANYTHING = Setting("one who asks for anything", (*BOTH, "lock", "anything"), 1, operators=1)
KEPT = Setting("with retention", (*BOTH, "carry"), 1, (0, 1), has_retention=True)
UNROUTED = Setting("with polls that know nothing", ("switch",), 1, (0, 1), generations=3, has_unrouted=True)
NEW = Setting(
    "attached and detached, two operators", ("switch", "attach", "detach"), 1, (0, 0), 2, 3, is_attached=False
)
LIVES = Setting("a second life", LIFE, 1, (1, 0), generations=5)
SOUND = (FORTH, BACK, AGAIN, ORDERS, GIVEN_UP, ANYTHING, KEPT, UNROUTED, NEW, LIVES)

LONG = (
    Setting("there and back, late, two operators", BOTH, 1, (0, 1), 2, 5),
    Setting("with the lock, two operators", (*BOTH, "lock", "give up"), 1, (0, 0), 2, 4),
    Setting("three operators, and no record", (*BOTH, "give up"), 0, operators=3, generations=3),
    Setting("three operators, attached and detached", ("switch", "attach", "detach"), 0, (0, 0), 3, 3, False),
    Setting("two records, retention, two operators", (*BOTH, "carry"), 1, (1, 1), 2, 4, has_retention=True),
    Setting("two lives, two operators", LIFE, 1, (0, 1), 2, 4),
)


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


# --- the control row


class BeginAtAnyGeneration(Guards):
    def may_begin(self, row: Control, generation: int) -> bool:
        return row.phase in (IDLE, CLOSING) and row.state in LEAVES[row.side]


class BeginInAnyState(Guards):
    def may_begin(self, row: Control, generation: int) -> bool:
        return row.generation == generation and row.phase in (IDLE, CLOSING)


class BeginHalfAttached(Guards):
    def may_begin(self, row: Control, generation: int) -> bool:
        return row.generation == generation and row.state in LEAVES[row.side]


class FlipAtAnyGeneration(Guards):
    def may_flip(self, row: Control, generation: int) -> bool:
        return row.is_closing


class GiveUpAtAnyGeneration(Guards):
    def may_give_up(self, row: Control, generation: int, *, is_over: bool) -> bool:
        return row.is_closing and is_over


class GiveUpWhatIsNotClosing(Guards):
    def may_give_up(self, row: Control, generation: int, *, is_over: bool) -> bool:
        return row.generation == generation and is_over


class GiveUpBeforeTheTime(Guards):
    def may_give_up(self, row: Control, generation: int, *, is_over: bool) -> bool:
        return row.generation == generation and row.is_closing


class GiveUpNever(Guards):
    def may_give_up(self, row: Control, generation: int, *, is_over: bool) -> bool:
        return False


class SoakAtAnyGeneration(Guards):
    def may_soak(self, row: Control, generation: int) -> bool:
        return row.state == SWITCHED


class SoakInAnyState(Guards):
    def may_soak(self, row: Control, generation: int) -> bool:
        return row.generation == generation


class LockAtAnyGeneration(Guards):
    def may_lock(self, row: Control, generation: int) -> bool:
        return row.state == SOAKING and row.phase == IDLE


class LockInAnyState(Guards):
    def may_lock(self, row: Control, generation: int) -> bool:
        return row.generation == generation and row.phase == IDLE


class LockWhileClosing(Guards):
    def may_lock(self, row: Control, generation: int) -> bool:
        return row.generation == generation and row.state == SOAKING


class RetryAtAnyGeneration(Guards):
    def may_retry(self, row: Control, generation: int) -> bool:
        return row.state == ROLLED_BACK


class RetryInAnyState(Guards):
    def may_retry(self, row: Control, generation: int) -> bool:
        return row.generation == generation


class CreateOver(Guards):
    def may_create(self, row: Control) -> bool:
        return True


class EndAttachOfAnother(Guards):
    def may_end_attach(self, row: Control, generation: int) -> bool:
        return row.is_there and row.phase == ATTACHING


class EndAttachInAnyPhase(Guards):
    def may_end_attach(self, row: Control, generation: int) -> bool:
        return row.is_there and row.generation == generation


class DetachAtAnyGeneration(Guards):
    def may_detach(self, row: Control, generation: int) -> bool:
        return super().may_detach(row, row.generation)


class DetachInFlight(Guards):
    def may_detach(self, row: Control, generation: int) -> bool:
        return row.is_there and row.generation == generation and row.phase in (IDLE, ATTACHING)


class DetachWhileClosing(Guards):
    def may_detach(self, row: Control, generation: int) -> bool:
        return row.is_there and row.generation == generation and row.state in (SHADOW, ROLLED_BACK, LOCKED)


class DropOfAnother(Guards):
    def may_drop(self, row: Control, generation: int) -> bool:
        return row.is_there and row.phase == DETACHING


class DropInAnyPhase(Guards):
    def may_drop(self, row: Control, generation: int) -> bool:
        return row.is_there and row.generation == generation


# --- a group


class AttachLate(Guards):
    def may_attach(self, here: Group, generation: int) -> bool:
        return not here.is_attached


class AttachAgain(Guards):
    def may_attach(self, here: Group, generation: int) -> bool:
        return True


class FreeOfAnother(Guards):
    def may_free(self, here: Group, generation: int) -> bool:
        return True


class OpenTwice(Guards):
    def may_open(self, here: Group, generation: int) -> bool:
        return here.is_attached and generation >= here.generation


class OpenForAnOlder(Guards):
    def may_open(self, here: Group, generation: int) -> bool:
        return here.is_attached and generation != here.generation


class OpenWhatIsNotAttached(Guards):
    def may_open(self, here: Group, generation: int) -> bool:
        return generation > here.generation


class DrainAtAnyGeneration(Guards):
    def may_drain(self, here: Group, generation: int) -> bool:
        return here.is_attached and here.state == OPEN


class CloseAtAnyGeneration(Guards):
    def may_close(self, here: Group, generation: int) -> bool:
        return super().may_close(here, max(here.generation, generation))


class CloseOnlyWhatIsOpen(Guards):
    """As it was written down first: who finds a generation that nobody has opened can never go on."""

    def may_close(self, here: Group, generation: int) -> bool:
        return here.is_attached and here.generation == generation and here.state != CLOSED


class CarryToOpen(Guards):
    def may_carry(self, here: Group) -> bool:
        return here.is_attached


class PollUnrouted(Guards):
    def may_poll(self, here: Group, generation: int | None) -> bool:
        return here.state == OPEN and generation in (None, here.generation)


class PollWhileDraining(Guards):
    def may_poll(self, here: Group, generation: int | None) -> bool:
        return here.state != CLOSED and generation == (here.generation if here.is_attached else None)


class PollClosed(Guards):
    def may_poll(self, here: Group, generation: int | None) -> bool:
        return generation == (here.generation if here.is_attached else None)


class AckClosed(Guards):
    def may_ack(self, here: Group) -> bool:
        return True


class LetGoOfAll(Guards):
    def may_let_go(self, here: Group, key: int) -> bool:
        return bool(here.final & key)


MUTANTS = (
    Mutant("a closing begun at an older generation", ORDERS, "OTHER", BeginAtAnyGeneration()),
    Mutant("a closing begun after the lock", ORDERS, "LOCKED", BeginInAnyState()),
    Mutant("a closing begun while it is attached", NEW, "FREED", BeginHalfAttached()),
    Mutant("the group closed before the row says so", FORTH, "STUCK", behaviour=Behaviour(closes_first=True)),
    Mutant("a flip at an older generation", FORTH, "ONE", FlipAtAnyGeneration()),
    Mutant("a flip before the group is closed at this generation", BACK, "ONE",
        behaviour=Behaviour(flips_unclosed=True)),
    Mutant("a flip before anything is carried", FORTH, "TWICE", behaviour=Behaviour(flips_uncarried=True)),
    Mutant("a giving up that undoes a flip", ORDERS, "UNDONE", GiveUpAtAnyGeneration()),
    Mutant("a giving up of nothing", ANYTHING, "EARLY", GiveUpWhatIsNotClosing()),
    Mutant("a giving up before the time", FORTH, "EARLY", GiveUpBeforeTheTime()),
    Mutant("a closing that nobody gives up", FORTH, "STUCK", GiveUpNever()),
    Mutant("a giving up at the same generation", GIVEN_UP, "STUCK", behaviour=Behaviour(gives_up_silently=True)),
    Mutant("a soak of an older switch", ORDERS, "OTHER", SoakAtAnyGeneration()),
    Mutant("a soak at the source", ANYTHING, "STATE", SoakInAnyState()),
    Mutant("a lock of an older soak", ORDERS, "OTHER", LockAtAnyGeneration()),
    Mutant("a lock without a soak", ANYTHING, "STATE", LockInAnyState()),
    Mutant("a lock while it is closing", ORDERS, "LOCKED", LockWhileClosing()),
    Mutant("tried again at an older generation", TRIED, "OTHER", RetryAtAnyGeneration()),
    Mutant("tried again at the target", ANYTHING, "STATE", RetryInAnyState()),
    Mutant("a switch made over another", NEW, "FREED", CreateOver()),
    Mutant("generations that begin again", NEW, "STUCK", behaviour=Behaviour(starts_again=True)),
    Mutant("an attaching ended by an older one", NEW, "OTHER", EndAttachOfAnother()),
    Mutant("an attaching ended where none is", NEW, "FREED", EndAttachInAnyPhase()),
    Mutant("a detaching at an older generation", NEW, "OTHER", DetachAtAnyGeneration()),
    Mutant("a detaching in flight", ANYTHING, "STATE", DetachInFlight()),
    Mutant("a detaching of what is closing", NEW, "STUCK", DetachWhileClosing()),
    Mutant("a detaching while something is owed", LIVES, "TWICE", behaviour=Behaviour(detaches_owing=True)),
    Mutant("both groups freed", LIVES, "TWICE", behaviour=Behaviour(frees_both=True)),
    Mutant("the row dropped by an older detaching", NEW, "OTHER", DropOfAnother()),
    Mutant("the row dropped where nothing is detached", ANYTHING, "TIED", DropInAnyPhase()),
    Mutant("the row dropped before the groups are free", NEW, "TIED", behaviour=Behaviour(drops_first=True)),
    Mutant("a group attached to what is gone", NEW, "TIED", AttachLate()),
    Mutant("a group attached once more", NEW, "TIED", AttachAgain()),
    Mutant("a group attached closed at no generation", LIVES, "ONE",
        behaviour=Behaviour(attaches_closed_at_nothing=True)),
    Mutant("a group freed by an older detaching", NEW, "FREED", FreeOfAnother()),
    Mutant("a detaching that does not fence what comes to attach", NEW, "TIED",
        behaviour=Behaviour(fences_nothing=True)),
    Mutant("a detaching that forgets the generation", NEW, "TIED", behaviour=Behaviour(forgets_generation=True)),
    Mutant("a group opened twice for a generation", FORTH, "ONE", OpenTwice()),
    Mutant("a group opened for an older generation", BACK, "ONE", OpenForAnOlder()),
    Mutant("a group opened that is not attached", NEW, "UNFINISHED", OpenWhatIsNotAttached()),
    Mutant("a late drain", GIVEN_UP, "STUCK", DrainAtAnyGeneration()),
    Mutant("a late closing", GIVEN_UP, "STUCK", CloseAtAnyGeneration()),
    Mutant("a closing that does not fence a claim nobody used", GIVEN_UP, "UNFINISHED", CloseOnlyWhatIsOpen()),
    Mutant("a carry to an open group", KEPT, "MEDDLED", CarryToOpen()),
    Mutant("a carry of what was finished before the closing", FORTH, "TWICE", behaviour=Behaviour(carries_early=True)),
    Mutant("a carry with the opening", FORTH, "TWICE", behaviour=Behaviour(carries_at_opening=True)),
    Mutant("what has not come is not owed", FORTH, "TWICE", behaviour=Behaviour(forgets_owed=True)),
    Mutant("what is owed is written anew", KEPT, "TWICE", behaviour=Behaviour(replaces_owed=True)),
    Mutant("what is owed is delivered", FORTH, "TWICE", behaviour=Behaviour(delivers_owed=True)),
    Mutant("an unrouted poll", UNROUTED, "TWICE", PollUnrouted()),
    Mutant("a poll while it drains", FORTH, "DRAIN", PollWhileDraining()),
    Mutant("a poll of a closed group", FORTH, "ONE", PollClosed()),
    Mutant("an ack at a closed group", FORTH, "FROZEN", AckClosed()),
    Mutant("retention of all that is finished", KEPT, "TWICE", LetGoOfAll()),
    Mutant("retention of what has no counterpart yet", KEPT, "TWICE", behaviour=Behaviour(keeps_nothing_owed=True)),
    Mutant("retention of what is about to be carried", KEPT, "TWICE", behaviour=Behaviour(lets_go_first=True)),
)  # fmt: skip
