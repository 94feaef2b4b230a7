"""Refusals that are read from a view, and said only where nothing newer can contradict them.

While voters are away a view may lag behind what was acknowledged, and "you may never" said of an old state sends an
operator the wrong way. So a refusal of the committed state counts where the newest state refuses too and no voter that
is away can know more; otherwise the log settles first, or the answer is that there is no quorum.
"""

from __future__ import annotations

from grafctl.errors import Corrupt, GrafctlError, NoQuorum, StoreFull, Timeout
from grafctl.store.committed import Committed
from grafctl.store.log import Log
from grafctl.store.replica.state import State, StateView
from grafctl.store.rules import RULES
from grafctl.typed import Callable, TypeVar

T = TypeVar("T")


def checked(log: Log, look: Callable[[State], T], prefer: str | None = None, *, newest: bool = False) -> T:
    """Returns what `look` finds in the committed state, read in `prefer` if it can be, and elsewhere where damaged.

    What one replica cannot show is read in another. Raises the refusal of `look`, or `NoQuorum` where an entry that is
    not known here might lift it; with `newest` also where one that was acknowledged before this call might change what
    is found, because voters are away.
    """
    is_settled = False
    damaged: frozenset[str] = frozenset()
    while True:
        committed: Committed | None = None
        try:
            with log.view(prefer, damaged) as committed:
                try:
                    if not newest or is_settled or is_newest(committed):
                        return look(committed.state)
                except Corrupt:
                    raise
                except GrafctlError:
                    if is_settled or _is_final(committed, log, look):
                        raise
        except Corrupt:  # it has left the view, whose domain is marked as damaged by that
            if committed is None or committed.domain in damaged or len(committed.found.sights) == 1:
                raise
            damaged |= {committed.domain}
            continue
        log.settle()
        is_settled = True


def served(read: Callable[[], T]) -> T:
    """Reads, and where a wrong byte was met, once more: the domain is marked then, and others serve."""
    try:
        return read()
    except Corrupt as error:
        if "domain" not in error.fields:
            raise
    return read()


def refuse_rather(log: Log, error: GrafctlError, look: Callable[[State], T], prefer: str | None = None) -> None:
    """Raises the refusal of `look`, which holds for ever, before an error that may pass; returns where there is none.

    Where it is unknown whether something was written, or the log cannot be asked, the error stands as it is.
    """
    if error.fields.get("outcome") != "unknown":
        try:
            checked(log, look, prefer)
        except (NoQuorum, Timeout, StoreFull):
            pass


def is_newest(committed: Committed) -> bool:
    """Returns whether nothing was acknowledged that this state does not show."""
    force, sights = committed.lead.force(), committed.found.sights
    there = {sight.member for sight in sights.values()}
    if RULES.lacks_promises(force, there) is not None:
        return False
    if all(voter.member in there for config in force for voter in config.voters):
        return True
    return max(sight.head.tail for sight in sights.values()) <= committed.upto


def _is_final(committed: Committed, log: Log, look: Callable[[State], T]) -> bool:
    there = {sight.member for sight in committed.found.sights.values()}
    if RULES.lacks_promises(committed.lead.force(), there) is not None:
        return False
    best = committed.found.best()
    if best is None or committed.found.sights[committed.domain].head.tail < best.head.tail:
        return False
    try:
        look(log.scope(StateView(committed.view, log.id, committed.domain)))
    except GrafctlError:
        return True
    return False
