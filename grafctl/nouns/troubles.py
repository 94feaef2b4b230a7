"""Which domains are in trouble, in one word each, why, and the command that helps: what `status` shows first.

Promises
- A domain has one trouble at most, the gravest that was found: out for a drill, damaged (an old copy that was put back
  is damage), a repair of it that was cut short, away, a copy to it that is not whole.
- Nothing is read here that the caller has not read for other reasons, but for each domain's being there.
"""

from __future__ import annotations

from grafctl.errors import Damaged, DriverError
from grafctl.store.cluster import Cluster
from grafctl.store.observe import Lead, Observation, fenced_members
from grafctl.typed import Any, NamedTuple

FAILED, DAMAGED, AWAY, REPAIRING, LEARNING = "failed", "damaged", "away", "repairing", "learning"
GRAVEST_FIRST = (FAILED, DAMAGED, REPAIRING, AWAY, LEARNING)


class Trouble(NamedTuple):
    """What is the matter with a domain."""

    kind: str
    why: str
    remedy: str

    def fields(self) -> dict[str, Any]:
        return {"trouble": self.kind, "why": self.why, "remedy": self.remedy}


class Troubles:
    """The troubles of a store's domains, as far as was looked."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._found: dict[str, Trouble] = {}
        for domain in cluster.domains:
            self._open(domain)
        self._states = {
            domain: "failed" if trouble.kind == FAILED else "unavailable" for domain, trouble in self._found.items()
        }

    def state(self, domain: str) -> str:
        """Returns `available`, `failed` or `unavailable`."""
        return self._states.get(domain, "available")

    def of(self, domain: str) -> Trouble | None:
        return self._found.get(domain)

    def _open(self, domain: str) -> None:
        if self._cluster.is_failed(domain):
            self._note(domain, FAILED, "out for a drill", f"grafctl domain restore {domain}")
            return
        try:
            with self._cluster.environment(domain).read():
                pass
        except Damaged as error:
            self._note(domain, DAMAGED, error.why, f"grafctl domain repair {domain}")
        except DriverError as error:
            self._note(domain, AWAY, error.why, f"grafctl domain show {domain}")

    def look(self, name: str, found: Observation, lead: Lead) -> None:
        """Takes in what was seen of one log."""
        for domain, error in found.errors.items():
            if isinstance(error, Damaged):
                self._note(domain, DAMAGED, error.why, f"grafctl domain repair {domain}")
        members = {domain: self._cluster.member(domain) for domain in self._cluster.domains}
        for domain, _ in sorted(fenced_members(lead.force(), members)):
            why = f"its repair was cut short: {name} waits for it"
            self._note(domain, REPAIRING, why, f"grafctl domain repair {domain}")
        for domain, sight in found.sights.items():
            if sight.head.learning:
                self._note(
                    domain, LEARNING, f"its copy of {name} is not whole yet", f"grafctl catch-up {name} -d {domain}"
                )

    def _note(self, domain: str, kind: str, why: str, remedy: str) -> None:
        there = self._found.get(domain)
        if there is None or GRAVEST_FIRST.index(kind) < GRAVEST_FIRST.index(there.kind):
            self._found[domain] = Trouble(kind, why, remedy)
