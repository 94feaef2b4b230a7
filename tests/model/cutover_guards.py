"""The guards of the entries that move a vshard from one log to another, as the explorer reads them and its mutants
break them. The source's log is the arbiter: its `flip` is the commit point.

Promises (each is explored, and most guards are missed when they are gone)
- At most one log accepts writes to a vshard, and from its seal to its opening none does.
- A request that was made from what was so a while ago is refused: each names the migration, the cursor, the token or
  the generation that it counts on, and is compared with what is there in the entry itself.
- Before the flip anybody may lift a seal whose budget is over; after it nobody can, for the place is `moved` by then.

Two things here are easy to lose. Versions alone do not make a replay safe: a delete leaves none behind, so an older
batch or an older chunk would bring the row back; the place where it goes on is compared, and no entry is applied before
the last chunk. And a token is an index of one log, so it says nothing without the generation.

The product has these guards in `store/resources/moving.py`, `receiving.py` and `table.py`.

When it fails: nothing here can; there is no I/O, no clock and no randomness. `GUARDS` is as it should be; a mutant is a
subclass that breaks one method.
"""

from __future__ import annotations

from typing import NamedTuple

ABSENT = "absent"  # no row, and not the home log
OPEN = "open"
SEALED = "sealed"
MOVED = "moved"  # the old copy, whole, as it was at the flip
RETIRED = "retired"  # the old copy, going or gone
RECEIVING = "receiving"
READY = "ready"  # holds what the source held at the seal that `token` names
DROPPING = "dropping"  # a copy that was given up, on its way out


class Place(NamedTuple):
    """What one log knows about a vshard: its `V` row, and what the guards need of its `M` and `Y` rows."""

    state: str = ABSENT
    generation: int = 0  # of the owner that this is, was, or would be
    token: int | None = None  # index of the last seal at the source; at a copy, of the seal that it is ready under
    outgoing: int | None = None  # the migration away, named by the index of its entry at the source
    incoming: int | None = None  # the migration that fills this copy, named by that same index
    cursor: int = 0  # of the base copy
    is_copied: bool = False  # the base copy is whole
    applied: int = 0  # index at the source from which entries are not applied yet
    keeps: int | None = None  # the log is kept from this index on, for the way back
    is_back: bool = False  # this copy is an old owner's, to which the vshard returns


class Claim(NamedTuple):
    """What a committed row of the source says about who owns the vshard since the flip."""

    token: int
    generation: int


class Guards:
    """May this entry be made, by what its own log knows?"""

    # --- writers and readers

    def may_put(self, here: Place, claim: Claim | None) -> bool:
        """The owner accepts writes; a copy only from who brings the flip that made it the owner, and so opens it."""
        return here.state == OPEN or self.may_open(here, claim)

    def may_read(self, here: Place, claim: Claim | None) -> bool:
        """A sealed owner is read as ever: it refuses to change, and there is nothing newer anywhere."""
        return here.state in (OPEN, SEALED) or self.may_open(here, claim)

    def may_open(self, here: Place, claim: Claim | None) -> bool:
        return here.state == READY and claim == (here.token, here.generation)

    # --- the source

    def may_migrate(self, here: Place) -> bool:
        """One migration at a time, and none while the way back of the last is kept."""
        return here.state == OPEN and here.outgoing is None and here.keeps is None

    def may_reverse(self, here: Place) -> bool:
        return here.state == OPEN and here.outgoing is None and here.keeps is not None

    def may_seal(self, here: Place, migration: int) -> bool:
        return here.state == OPEN and here.outgoing == migration

    def may_unseal(self, here: Place, *, is_over: bool) -> bool:
        return here.state == SEALED and is_over

    def may_flip(self, here: Place, token: int, *, is_over: bool) -> bool:
        return here.state == SEALED and here.token == token and not is_over

    def may_cancel(self, here: Place, migration: int) -> bool:
        """Also under a seal: it is lifted with the migration, and no flip finds it again."""
        return here.state in (OPEN, SEALED) and here.outgoing == migration

    def may_give_up_way_back(self, here: Place, generation: int) -> bool:
        return self.may_reverse(here) and here.generation == generation

    # --- the copy

    def may_receive(self, here: Place, *, is_empty: bool) -> bool:
        """A new copy begins with nothing: a row left over from before has no entry that would delete it."""
        return here.state in (ABSENT, RETIRED) and is_empty

    def may_receive_back(self, here: Place, generation: int) -> bool:
        """`generation` is that of the owner to which this old copy lost the vshard."""
        return here.state == MOVED and here.generation == generation

    def may_copy(self, here: Place, migration: int, cursor: int) -> bool:
        is_mine = here.state == RECEIVING and here.incoming == migration
        return is_mine and not here.is_copied and here.cursor == cursor

    def may_apply(self, here: Place, migration: int, applied: int) -> bool:
        """Entries of the source from `applied` on; after an unseal they go on from a copy that was ready."""
        is_mine = here.state in (RECEIVING, READY) and here.incoming == migration
        return is_mine and here.is_copied and here.applied == applied

    def may_drop(self, here: Place, migration: int) -> bool:
        """Asked for only once the source's log says that this migration was cancelled: it cannot flip any more."""
        return here.state in (RECEIVING, READY, DROPPING) and here.incoming == migration

    def may_retire(self, here: Place, generation: int) -> bool:
        """Asked for only once the owner of `generation` keeps no way back."""
        return here.state in (MOVED, RETIRED) and here.generation == generation

    # --- rows and routes

    def is_newer(self, version: int, there: int) -> bool:
        """A row is written over an older one only; 0 is no row."""
        return version > there

    def may_point(self, there: int, generation: int) -> bool:
        """A route is a hint, and a late one does not undo a newer one."""
        return generation > there


GUARDS = Guards()
