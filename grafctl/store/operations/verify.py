"""Verify: every inconsistency that can be found by reading; repairs nothing.

Promises
- It reads each replica's own bytes: chain, digests, configuration, state rows, and what its queue says of itself.
- Two replicas that hold the same number of committed entries must hold the same entries and the same state.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping

from grafctl.errors import BeingChecked, Corrupt, Damaged, DriverError, GrafctlError
from grafctl.results import Finding
from grafctl.store import keys
from grafctl.store.cluster import Cluster
from grafctl.store.driver.contract import Identity
from grafctl.store.intervals import intersection, union
from grafctl.store.log import Log
from grafctl.store.observe import Lead, fenced_members
from grafctl.store.operations.verify_tables import table_findings
from grafctl.store.reading import block_refs
from grafctl.store.records import decode_entry, follows
from grafctl.store.replica.replica import Replica
from grafctl.store.replica.scope import FIRST, scoped
from grafctl.store.replica.state import State, state_at
from grafctl.store.resources.carried import numbers
from grafctl.store.resources.control import log_beginners
from grafctl.store.resources.delivery import Lineage
from grafctl.store.resources.idem import problems as idem_problems
from grafctl.store.resources.leases import leases_of
from grafctl.store.resources.table_check import problems as table_problems
from grafctl.store.session import Session

AWAY = (
    "See that its disk is mounted; `grafctl domain show` says why. If it is lost for good, run `grafctl domain repair "
    "DOMAIN --lost`."
)


def repair_of(domain: str) -> str:
    """Returns what to do with a domain whose bytes are wrong."""
    return (
        f"Run `grafctl domain repair {domain}`, or `grafctl domain restore {domain}` where its files were put right; "
        "the other domains serve meanwhile."
    )


def verify(session: Session) -> Iterator[Finding]:
    """Yields what is wrong in every log of the store."""
    for domain in session.cluster.domains:
        yield from _domain_findings(session.cluster, domain)
    logs: dict[str, Log] = {"the control log": session.control, "the audit log": session.audit}
    try:
        names = sorted(log_beginners(session.resources()))
    except GrafctlError as error:
        yield Finding("the control log", error.message, error.hint or AWAY)
        names = []
    for name in names:
        try:
            logs[name] = session.resource(name)
        except GrafctlError as error:
            yield Finding(name, error.message, error.hint or AWAY, None, name)
    for name, log in logs.items():
        yield from _log_findings(session.cluster, name, log)
    yield from table_findings(session)


def _domain_findings(cluster: Cluster, domain: str) -> Iterator[Finding]:
    if cluster.is_failed(domain):
        yield Finding(domain, "the domain is out for a drill", f"Run `grafctl domain restore {domain}`.", domain)
        return
    try:
        _open(cluster, domain)
    except Damaged as error:
        yield Finding(domain, error.why, repair_of(domain), domain)
    except DriverError as error:
        yield Finding(domain, error.why, AWAY, domain)


def _open(cluster: Cluster, domain: str) -> None:
    """Opens a domain, and waits as long as it takes where its files are being checked."""
    try:
        with cluster.environment(domain).read():
            return
    except BeingChecked:
        place = cluster.place(domain)
        cluster.driver.check(place.path, Identity(cluster.store, domain, place.incarnation))


def domain_findings(session: Session, domain: str, logs: Mapping[str, Log]) -> Iterator[Finding]:
    """Yields what is wrong with one domain's own bytes, in itself and beside those of the primaries."""
    for name, log in logs.items():
        for finding in _log_findings(session.cluster, name, log, domain):
            if finding.domain == domain and finding.remedy == repair_of(domain):
                yield finding


def _log_findings(cluster: Cluster, name: str, log: Log, only: str | None = None) -> Iterator[Finding]:
    found = log.observe()
    for domain, error in found.errors.items():
        if isinstance(error, Damaged):
            yield Finding(f"{name} in {domain}", error.why, repair_of(domain), domain, name)
    lead = found.lead()
    if lead is None:
        yield Finding(name, "no replica of it answers", AWAY, None, name)
        return
    members = {domain: cluster.member(domain) for domain in cluster.domains}
    for domain, incarnation in sorted(fenced_members(lead.force(), members)):
        problem = f"it still counts incarnation {incarnation} of {domain}, which was fenced"
        yield Finding(name, problem, f"Run `grafctl domain repair {domain}`; it goes on.", domain, name)
    sums: dict[str, tuple[bytes, str]] = {}
    for domain in found.sights if only is None else [d for d in found.sights if d in (only, lead.primary)]:
        try:
            with cluster.environment(domain).read() as view:
                replica = Replica(view, log.id, domain)
                yield from _replica_findings(name, replica)
                if (
                    not lead.is_witness(domain)
                    and not replica.row.head.learning
                    and replica.row.head.acc == lead.term  # another's tail is cut before it counts
                    and replica.row.head.tail >= lead.known >= replica.row.head.commit  # pre-images reach back so far
                ):
                    sums[domain] = _sums(replica, lead.known)
        except Corrupt as error:
            yield Finding(f"{name} in {domain}", error.message, repair_of(domain), domain, name)
        except DriverError as error:
            yield Finding(f"{name} in {domain}", error.why, AWAY, domain, name)
    yield from _disagreements(name, lead, sums)


def _sums(replica: Replica, upto: int) -> tuple[bytes, str]:
    """Returns the chain and a digest of the state after the first `upto` entries."""
    state = state_at(replica.view, replica.log, replica.domain, replica.row.head.tail, upto)
    whole = hashlib.sha256()
    for row, body in state.scan((b"", b"\xff" * 8)):
        whole.update(len(row).to_bytes(4, "big") + row + len(body).to_bytes(4, "big") + body)
    return replica.chain_at(upto) or b"", whole.hexdigest()


def _disagreements(name: str, lead: Lead, sums: dict[str, tuple[bytes, str]]) -> Iterator[Finding]:
    standard = sums.get(lead.primary) or next(iter(sums.values()), None)
    for domain, own in sums.items():
        if standard is not None and own[0] != standard[0]:
            yield Finding(
                f"{name} in {domain}",
                "its committed entries are not those of the primary",
                repair_of(domain),
                domain,
                name,
            )
        elif standard is not None and own[1] != standard[1]:
            yield Finding(
                f"{name} in {domain}", "its state is not that of the primary", repair_of(domain), domain, name
            )


def chain_breaks(replica: Replica) -> Iterator[Finding]:
    """Yields each entry of a replica that is missing, changed, or does not follow the one before it."""
    head = replica.row.head
    chain = replica.row.floor_chain
    for index in range(head.floor, head.tail):
        what = f"entry {index} of log {replica.log.hex()}"
        raw = replica.view.get(keys.entry(replica.log, index))
        if raw is None:
            yield Finding(f"{replica.domain}, {what}", "it is missing", repair_of(replica.domain), replica.domain)
            return
        try:
            entry = decode_entry(raw, what)
        except Corrupt as error:
            yield Finding(f"{replica.domain}, {what}", error.message, repair_of(replica.domain), replica.domain)
            return
        if not follows(chain, raw):
            yield Finding(
                f"{replica.domain}, {what}",
                "it does not follow the entry before it",
                repair_of(replica.domain),
                replica.domain,
            )
            return
        chain = entry.chain
    if chain != replica.row.chain:
        yield Finding(
            f"{replica.domain}, head of log {replica.log.hex()}",
            "its chain is another",
            repair_of(replica.domain),
            replica.domain,
        )


def _replica_findings(name: str, replica: Replica) -> Iterator[Finding]:
    head = replica.row.head
    if head.learning:
        remedy = f"Run `grafctl catch-up {name} -d {replica.domain}` to go on."
        yield Finding(f"{name} in {replica.domain}", "its catch-up was cut short", remedy, replica.domain, name)
        return
    if not head.floor <= head.commit <= head.tail:
        yield Finding(
            f"{name} in {replica.domain}", "its head is not in order", repair_of(replica.domain), replica.domain, name
        )
    yield from chain_breaks(replica)
    for number in numbers(replica.state):
        state = scoped(replica.state, number)
        row = state.get_json(keys.queue())
        if row is not None:
            yield from _content_findings(name if number == FIRST else row["name"], replica, state)
    if replica.lacks_state():  # raised, so that the domain is marked, and others are not measured by it
        raise Corrupt("rows of its state are missing", domain=replica.domain)


def _content_findings(name: str, replica: Replica, state: State) -> Iterator[Finding]:
    """Yields gaps between blocks, ids that would not be found, and lineages whose sets overlap."""
    from grafctl.store.resources.id_check import problems as id_problems  # because it loads numpy

    where = f"{name} in {replica.domain}"
    queue = state.get_json(keys.queue())
    at, stop = queue["first"], queue["next"]
    for ref in block_refs(state, at, stop):
        if ref.first != at:
            yield Finding(
                where, f"offsets {at} to {ref.first - 1} are missing", repair_of(replica.domain), replica.domain, name
            )
        at = ref.first + ref.records
    if at != stop:
        yield Finding(where, f"offsets {at} to {stop - 1} are missing", repair_of(replica.domain), replica.domain, name)
    for problem in id_problems(state):
        yield Finding(where, problem, repair_of(replica.domain), replica.domain, name)
    for problem in (*idem_problems(state), *table_problems(state, replica.row.head.floor)):
        yield Finding(where, problem, repair_of(replica.domain), replica.domain, name)
    for row, body in state.scan(keys.lineages()):
        yield from _lineage_findings(where, name, replica, state, row, body)
        if Lineage.of(json.loads(body)).floor < queue["first"]:
            problem = f"lineage {row[3:-1].decode()} has not finished what is no longer kept"
            yield Finding(where, problem, repair_of(replica.domain), replica.domain, name)


def _lineage_findings(
    where: str, name: str, replica: Replica, state: State, row: bytes, body: bytes
) -> Iterator[Finding]:

    lineage = Lineage.of(json.loads(body))
    title = row[3:-1].decode()
    retry = [item[:2] for item in lineage.retry]
    parts = {"finalised": lineage.done, "leased": lineage.leased, "to be tried again": retry, "dead": lineage.dead}
    items = list(parts.items())
    for place, (one, offsets) in enumerate(items):
        for other, others in items[place + 1 :]:
            if {one, other} != {"finalised", "leased"} and intersection(union(offsets, []), union(others, [])):
                yield Finding(
                    where,
                    f"lineage {title} has records both {one} and {other}",
                    repair_of(replica.domain),
                    replica.domain,
                    name,
                )
    held = union([grant[:2] for _, lease in leases_of(state, title) for grant in lease["grants"]], [])
    if held != lineage.leased:
        yield Finding(
            where,
            f"the leases of lineage {title} are not what it withholds",
            repair_of(replica.domain),
            replica.domain,
            name,
        )
