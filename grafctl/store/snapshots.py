"""One snapshot of every domain, from which the committed state of many logs is read: for a look at a whole store.

A look at one log opens each domain several times, and a look at a hundred would do so a hundred times.

Promises
- What is read here is what `open_committed` would show: all snapshots are opened before any log is counted.
- Where anything is unusual (nobody leads, nothing is known to be committed, an older copy seems to be put back) the
  answer is None, and the caller looks at that log by itself, which repairs or explains it.
"""

from __future__ import annotations

from contextlib import ExitStack

from grafctl.errors import DriverError, NoQuorum, Unreachable
from grafctl.store import keys
from grafctl.store.cluster import Cluster
from grafctl.store.committed import Committed, choose
from grafctl.store.driver.kill import point
from grafctl.store.observe import Observation, sight_of, witness_against
from grafctl.typed import TYPE_CHECKING, Sequence

if TYPE_CHECKING:
    from types import TracebackType

    from grafctl.store.driver.contract import View


class Snapshots:
    """A block in which one snapshot of each reachable domain is open; nothing may be written by its thread."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stack = ExitStack()
        self._views: dict[str, View] = {}
        self._errors: dict[str, DriverError] = {}

    def __enter__(self) -> Snapshots:
        for domain in self._cluster.domains:
            try:
                self._views[domain] = self._stack.enter_context(self._cluster.environment(domain).read())
            except DriverError as error:
                self._errors[domain] = error
            point("snapshots.opened")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def errors(self) -> dict[str, DriverError]:
        """Returns why domains are not among the snapshots."""
        return dict(self._errors)

    def are_of_one_moment(self) -> bool:
        """Returns whether there was a moment at which every domain was as its snapshot shows it.

        That is so where no log has moved in any domain since its snapshot was opened: all were open by now.
        """
        span = keys.heads()
        for domain, view in self._views.items():
            try:
                with self._cluster.environment(domain).read() as now:
                    if list(now.scan(*span)) != list(view.scan(*span)):
                        return False
            except DriverError:
                return False
        return True

    def committed(self, log: bytes, domains: Sequence[str], prefer: str | None = None) -> Committed | None:
        """Returns the committed state of a log; `domains` are asked first, configurations lead to the others."""
        found = Observation()
        waiting = [domain for domain in domains if self._cluster.knows(domain)]
        while waiting:
            domain = waiting.pop(0)
            if domain in found.sights or domain in found.errors:
                continue
            try:
                sight = sight_of(self._view(domain), log, domain, self._cluster.member(domain)[1])
            except DriverError as error:
                found.errors[domain] = error
                continue
            found.sights[domain] = sight
            waiting += [voter.domain for config in sight.configs for voter in config.voters]
        lead = found.lead()
        if lead is None or lead.known == 0 or any(witness_against(found, sight) for sight in found.sights.values()):
            return None
        try:
            return choose(log, found, lead, self._views, prefer)
        except NoQuorum:
            return None

    def _view(self, domain: str) -> View:
        view = self._views.get(domain)
        if view is None:
            raise self._errors.get(domain) or Unreachable(domain, "the store does not know this domain")
        return view
