"""The logs of a table beside its home: one for each set of domains that vshards were moved to.

Promises
- A part has the placement and the epoch of its table, a voter in each of its domains, and a majority rule. It is made
  before anything is moved to it, and one that is never used does no harm.
- A set of domains has one part: two operators who want the same one at once get it both.
"""

from __future__ import annotations

from typing import Any

from grafctl.errors import DomainUnavailable, GenerationConflict, NoQuorum
from grafctl.nouns.locators import check_observed
from grafctl.nouns.queues import Resources
from grafctl.store import keys
from grafctl.store.authority import MIGRATE, Asked, Placement, pass_health, pass_placement
from grafctl.store.log import Log
from grafctl.store.operations.moving.situation import parts_of
from grafctl.store.resources.control import Register
from grafctl.store.resources.membership import READY, VOTER, Fence, SetPlacement
from grafctl.store.resources.queue import queue_row
from grafctl.store.resources.table import PART
from grafctl.store.session import Session


def check_targets(session: Session, table: str, domains: list[str]) -> None:
    """Raises `DomainUnavailable` unless vshards of a table may be moved to these domains, and can be now."""
    with session.state(table) as state:
        placement = Placement.of(queue_row(state, table))
    for domain in domains:
        known = session.cluster.knows(domain)
        pass_placement(Asked(MIGRATE, table, domain, None, None, known), placement)
    held = {domain for part in parts_of(session, table) for domain in domains_of(session, part)}
    check_observed(session, table, [domain for domain in domains if domain not in held])
    for domain in domains:
        pass_health(Asked(MIGRATE, table, domain), session.health(), resource=table, domain=domain)
        if session.cluster.is_failed(domain):
            raise DomainUnavailable(
                f"{domain} cannot be reached.",
                reason="unreachable",
                hint=f"Run `grafctl domain show {domain}`.",
                resource=table,
                domain=domain,
            )


def domains_of(session: Session, part: str) -> list[str]:
    """Returns the domains whose replicas vote in a log of a table and keep its rows.

    Of a log that cannot be read, those that the control log has: what is away must hide nothing of the other logs.
    """
    try:
        with session.state(part) as state:
            replicas = state.get_json(keys.locator())["replicas"]
    except NoQuorum:
        return sorted(session.resources()[part]["domains"])
    return sorted(item["domain"] for item in replicas if item["state"] == READY and item["role"] == VOTER)


def find_part(session: Session, table: str, domains: list[str]) -> str | None:
    """Returns the log of a table that is in exactly these domains, or None."""
    for part in parts_of(session, table):
        if domains_of(session, part) == sorted(domains):
            return part
    return None


class Parts(Resources):
    """The parts of the tables of one store."""

    kind = PART

    def make(self, table: str, domains: list[str]) -> str:
        """Returns the part of a table in these domains, made where there is none."""
        while (found := find_part(self.session, table, domains)) is None:
            number = len(parts_of(self.session, table))
            part = f"{table}.part-{number}"
            with self.session.state(table) as state:
                row = queue_row(state, table)
            replicas = [
                {"id": f"{part}.{place}", "domain": domain, "role": VOTER}
                for place, domain in enumerate(sorted(domains), start=1)
            ]
            definition: dict[str, Any] = {name: row[name] for name in ("vshards", "allow", "deny")}
            definition |= {"name": part, "kind": PART, "part_of": table, "ack": "majority", "min_payload": None}
            record = self._record(definition, replicas)
            record["start"]["queue"]["epoch"] = row["epoch"]
            try:
                changed, record = self.session.control.append(Register(part, record)).answer
            except GenerationConflict:
                if part not in parts_of(self.session, table):  # somebody gave this name to something else
                    raise
                continue
            self._follow(table, row, self.session.open_log(part, record), part)
            if changed:
                self.session.note("changed", "vshard part", resource=part, replicas=sorted(domains))
        return found

    def _follow(self, table: str, before: dict[str, Any], log: Log, part: str) -> None:
        """Takes over what was set for the table since its row was read: whoever set it did not know of this part."""
        with self.session.state(table) as state:
            row = queue_row(state, table)
        if Placement.of(row) != Placement.of(before):
            log.append(SetPlacement(part, None, Placement.of(row), None))
        if row["epoch"] > before["epoch"]:
            log.append(Fence(part, None, row["epoch"]))
