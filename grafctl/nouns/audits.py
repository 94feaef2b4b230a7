"""`audit`: the record of changes and refusals, and whether its chain holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from grafctl.errors import Corrupt, DriverError, NotFound, Usage
from grafctl.results import Listed, Shown
from grafctl.store.operations.verify import chain_breaks
from grafctl.store.replica.replica import Replica
from grafctl.store.session import Session

TAIL_MAX = 1_000_000


class Audits:
    """The audit log of one store."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def _records(self) -> Iterator[dict[str, Any]]:
        """Yields every record in order, numbered."""
        number = 0
        with self.session.audit.view() as committed:
            replica = Replica(committed.view, self.session.audit.id, committed.domain)
            for index in range(replica.row.head.floor, committed.upto):
                entry = replica.entry(index)
                request = entry.request
                if request["do"] == "note":
                    yield {"audit": number, **request["record"], "chain": entry.chain.hex()[:16]}
                    number += 1

    def tail(self, count: int = 20) -> Listed:
        """Returns the newest `count` records, the oldest of them first."""
        if not 1 <= count <= TAIL_MAX:
            raise Usage(f"--count takes 1 to {TAIL_MAX:,}, not {count}.")
        return Listed("records", list(self._records())[-count:])

    def explain(self, number: int) -> Shown:
        """Returns one record; raises `NotFound`."""
        for record in self._records():
            if record["audit"] == number:
                return Shown(record)
        raise NotFound(f"There is no audit record {number}.", hint="Run `grafctl audit tail` to see the newest.")

    def verify(self) -> Shown:
        """Recomputes the chain in every domain that can be read; `broken` names the domains where it does not hold."""
        broken: list[str] = []
        unread: list[str] = []
        entries = 0
        for domain in self.session.cluster.domains:
            try:
                with self.session.cluster.environment(domain).read() as view:
                    replica = Replica(view, self.session.audit.id, domain)
                    entries = max(entries, replica.row.head.tail)
                    if any(True for _ in chain_breaks(replica)):
                        broken.append(domain)
            except Corrupt:
                broken.append(domain)
            except DriverError:
                unread.append(domain)
        return Shown({"holds": not broken, "entries": entries, "broken": broken, "unread": unread})
