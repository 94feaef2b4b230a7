"""The guards of a switchover: two groups in two logs, and the row in the control log that says which of them is open.

Promises (each is explored, and each guard is missed when it is gone)
- The control row decides: whatever ends a closing, a flip or a giving up, compares the generation and adds one to it.
- A group opens once for each generation, and only for one that is newer than all it has seen. A closing counts as seen:
  it also fences the claim of a generation that nobody has used yet, so that nobody can use it later.
- A closed group takes no ack, so what it has finished is what is carried.
- Generations only grow, also when a switch is taken away and another is made of the same groups. A group that was
  detached remembers the last one, so who comes late to attach it to what is gone is refused.

When it fails: nothing here can; there is no I/O, no clock and no randomness. `GUARDS` is as it should be; a mutant is a
subclass that breaks one method.
"""

from __future__ import annotations

from typing import NamedTuple

OPEN = "open"
DRAINING = "draining"  # gives nothing out, takes acks
CLOSED = "closed"

SHADOW = "shadow"
SWITCHED = "switched"
SOAKING = "soaking"
LOCKED = "locked"
ROLLED_BACK = "rolled_back"

CLOSING, ATTACHING, DETACHING = "closing", "attaching", "detaching"  # what is under way
IDLE = ""

SOURCE, TARGET = 0, 1
LEAVES = ((SHADOW,), (SWITCHED, SOAKING))  # the states in which each side may be left


class Group(NamedTuple):
    """One group, as its own log knows it; the masks have a bit for each match key."""

    is_attached: bool = True
    state: str = OPEN
    generation: int = 1
    there: int = 0  # in the output
    final: int = 0
    given: int = 0  # delivered at some time; its holder may still send an ack
    owed: int = 0  # finished at the other side; finished here when it comes, and not delivered
    ready: int = 0  # the generation for which everything was carried
    carried: int = 0  # what is final and known at the other side, so that retention may let go of it
    gone: int = 0  # what retention let go of: it is final, and nobody can read its match key any more


class Control(NamedTuple):
    """The row of the switch; without one, only the generation is left, for it is a place in the control log."""

    generation: int = 1
    side: int = SOURCE
    state: str = SHADOW
    phase: str = IDLE
    is_there: bool = True

    @property
    def is_closing(self) -> bool:
        return self.phase == CLOSING


class Guards:
    """May this entry be made, by what its own log knows?"""

    # --- the control row

    def may_begin(self, row: Control, generation: int) -> bool:
        """Begins a closing, or gives one that is under way more time."""
        return row.generation == generation and row.phase in (IDLE, CLOSING) and row.state in LEAVES[row.side]

    def may_flip(self, row: Control, generation: int) -> bool:
        """Asked for by who has seen the active group closed at this generation, and the other one ready for the next.

        That a closing is under way need not be asked: whatever ends one adds to the generation.
        """
        return row.is_there and row.generation == generation

    def may_give_up(self, row: Control, generation: int, *, is_over: bool) -> bool:
        return row.generation == generation and row.is_closing and is_over

    def may_soak(self, row: Control, generation: int) -> bool:
        return row.generation == generation and row.state == SWITCHED

    def may_lock(self, row: Control, generation: int) -> bool:
        """A closing is ended first: otherwise its flip would come after the lock."""
        return row.generation == generation and row.state == SOAKING and row.phase == IDLE

    def may_retry(self, row: Control, generation: int) -> bool:
        return row.generation == generation and row.state == ROLLED_BACK

    def may_create(self, row: Control) -> bool:
        return not row.is_there

    def may_end_attach(self, row: Control, generation: int) -> bool:
        return row.is_there and row.generation == generation and row.phase == ATTACHING

    def may_detach(self, row: Control, generation: int) -> bool:
        """Not while it is in flight. Asked for by who has seen that nothing is owed at the open side."""
        is_still = row.phase in (IDLE, ATTACHING) and row.state in (SHADOW, ROLLED_BACK, LOCKED)
        return row.is_there and row.generation == generation and is_still

    def may_drop(self, row: Control, generation: int) -> bool:
        return row.is_there and row.generation == generation and row.phase == DETACHING

    # --- a group

    def may_attach(self, here: Group, generation: int) -> bool:
        return generation > here.generation

    def may_free(self, here: Group, generation: int) -> bool:
        """Also a group that is not attached (yet): who wanted to do that is too late."""
        return here.generation < generation or (here.is_attached and here.generation == generation)

    def may_open(self, here: Group, generation: int) -> bool:
        return here.is_attached and generation > here.generation

    def may_drain(self, here: Group, generation: int) -> bool:
        return here.is_attached and here.state == OPEN and here.generation == generation

    def may_close(self, here: Group, generation: int) -> bool:
        is_new = here.generation < generation or (here.generation == generation and here.state != CLOSED)
        return here.is_attached and is_new

    def may_carry(self, here: Group) -> bool:
        return here.is_attached and here.state == CLOSED

    # --- consumers and retention

    def may_poll(self, here: Group, generation: int | None) -> bool:
        """`generation` is what a routed poll has read; one that knows nothing of the switch has none."""
        return here.state == OPEN and generation == (here.generation if here.is_attached else None)

    def may_ack(self, here: Group) -> bool:
        return here.state != CLOSED

    def may_let_go(self, here: Group, key: int) -> bool:
        return bool(here.final & here.carried & key)


GUARDS = Guards()
