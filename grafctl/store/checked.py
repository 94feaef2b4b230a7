"""Refusals that are read from a view, and said only where nothing newer can contradict them.

While voters are away a view may lag behind what was acknowledged, and "you may never" said of an old state sends an
operator the wrong way. So a refusal of the committed state counts where the newest state refuses too and no voter that
is away can know more; otherwise the log settles first, or the answer is that there is no quorum.
"""

from __future__ import annotations

from grafctl.errors import GrafctlError
from grafctl.store.committed import Committed
from grafctl.store.log import Log
from grafctl.store.replica.state import State, StateView
from grafctl.store.rules import RULES
from grafctl.typed import Callable, TypeVar

T = TypeVar("T")


def checked(log: Log, look: Callable[[State], T], prefer: str | None = None) -> T:
    """Returns what `look` finds in the committed state, read in `prefer` if it can be.

    Raises the refusal of `look`, or `NoQuorum` where an entry that is not known here might lift it.
    """
    with log.view(prefer) as committed:
        try:
            return look(committed.state)
        except GrafctlError:
            if _is_final(committed, log.id, look):
                raise
    log.settle()
    with log.view(prefer) as committed:
        return look(committed.state)


def _is_final(committed: Committed, log: bytes, look: Callable[[State], T]) -> bool:
    there = {sight.member for sight in committed.found.sights.values()}
    if not all(RULES.is_election_quorum(config, there) for config in committed.lead.force()):
        return False
    best = committed.found.best()
    if best is None or committed.found.sights[committed.domain].head.tail < best.head.tail:
        return False
    try:
        look(StateView(committed.view, log, committed.domain))
    except GrafctlError:
        return True
    return False
