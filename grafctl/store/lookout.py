"""The committed state of a log for a process that looks at it again and again: one snapshot of each replica, and what
their heads came to is kept for as long as no replica has another head.

Promises
- What is shown is what `open_committed` would show: all snapshots are opened before anything is counted.
- Where anything is unusual (a domain is away or damaged, nobody leads, nothing is known to be committed, an older copy
  seems to be put back) the answer is None, and the caller looks in the way that repairs or explains it.
"""

from __future__ import annotations

from grafctl.errors import Corrupt, DriverError, NoQuorum
from grafctl.store import keys
from grafctl.store.cluster import Cluster
from grafctl.store.committed import Committed, chosen
from grafctl.store.driver.contract import View
from grafctl.store.observe import Lead, Observation, sight_of, witness_against
from grafctl.store.replica.state import state_at
from grafctl.typed import TYPE_CHECKING, NamedTuple, Sequence

if TYPE_CHECKING:
    from contextlib import ExitStack

Heads = dict[str, tuple[bytes | None, str]]  # by domain: the replica's head as it rests, and its incarnation


class _Known(NamedTuple):
    """What heads came to."""

    heads: Heads
    found: Observation
    lead: Lead
    choices: dict[str | None, tuple[str, int]]  # preferred domain -> where to read, and how many entries


class Lookout:
    """One process's looks at one log; of its threads the last one's is kept."""

    __slots__ = ("_cluster", "_head", "_hint", "_known", "_log")

    def __init__(self, cluster: Cluster, log: bytes, hint: Sequence[str]) -> None:
        self._cluster, self._log, self._hint = cluster, log, hint
        self._head = keys.head(log)
        self._known: _Known | None = None

    def look(self, stack: ExitStack, prefer: str | None) -> Committed | None:
        """Returns the committed state, read in `prefer` if it can be; its snapshots are open until the stack closes."""
        try:
            return self._look(stack, prefer)
        except (DriverError, NoQuorum, Corrupt):
            self._known = None
            return None

    def _look(self, stack: ExitStack, prefer: str | None) -> Committed | None:
        cluster, known = self._cluster, self._known
        cluster.refresh()
        views: dict[str, View] = {}
        heads: Heads = {}
        for domain in known.heads if known is not None else [name for name in self._hint if cluster.knows(name)]:
            self._open(stack, domain, views, heads)
        if known is None or known.heads != heads:
            known = self._known = self._understood(stack, views, heads)
            if known is None:
                return None
        choice = known.choices.get(prefer)
        if choice is None:
            choice = known.choices[prefer] = chosen(known.found, known.lead, prefer)
        domain, count = choice
        state = state_at(views[domain], self._log, domain, known.found.sights[domain].head.tail, count)
        return Committed(state, views[domain], domain, count, known.found, known.lead, views)

    def _open(self, stack: ExitStack, domain: str, views: dict[str, View], heads: Heads) -> None:
        view = views[domain] = stack.enter_context(self._cluster.environment(domain).read())
        heads[domain] = (view.get(self._head), self._cluster.member(domain)[1])

    def _understood(self, stack: ExitStack, views: dict[str, View], heads: Heads) -> _Known | None:
        """Returns what the heads come to, after those of other domains that the configurations name were read too."""
        found = Observation()
        waiting = list(views)
        while waiting:
            domain = waiting.pop(0)
            if domain not in views:
                self._open(stack, domain, views, heads)
            sight = found.sights[domain] = sight_of(views[domain], self._log, domain, heads[domain][1])
            named = {voter.domain for config in sight.configs for voter in config.voters}
            waiting += sorted(named.difference(found.sights, waiting))
        lead = found.lead()
        if lead is None or lead.known == 0 or any(witness_against(found, sight) for sight in found.sights.values()):
            return None
        return _Known(heads, found, lead, {})
