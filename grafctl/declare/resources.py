"""The resources of a declared store: `[[queue]]`, `[[topic]]`, `[[idem]]`, `[[table]]`, their groups, and shared logs.

A resource has a log of its own, then it names `replicas`, `ack` and `min_payload`; or it is in a `[[log]]` that names
them, with others that do. A group of a topic is a subscription and may have a filter.

Promises
- Everything here is frozen and does nothing. What a log says stands in each resource that is in it too, so a reader
  need not look it up.
- `lines` holds the line of the table itself under "" and of each of its keys; no comparison looks at it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from grafctl.declare.table import NUMBER, Table, kind_of, like
from grafctl.errors import Usage
from grafctl.names import check_compression, check_domain, check_name, shown
from grafctl.store.authority import Placement
from grafctl.store.blocks import NONE
from grafctl.store.filters import check_filter
from grafctl.store.resources.group import SEMANTICS
from grafctl.store.resources.membership import VOTER, WITNESS
from grafctl.store.resources.starts import check_start
from grafctl.store.rules import ack_sizes
from grafctl.store.vshards import VSHARDS, check_vshards
from grafctl.units import duration_ms, size_bytes

QUEUE, TOPIC, IDEM, TABLE = "queue", "topic", "idem", "table"
KINDS = (QUEUE, TOPIC, IDEM, TABLE)
OF_RECORDS = (QUEUE, TOPIC)
ALL = "all"  # the filter that takes every record
FINISHED, OLDEST = "finished", "oldest"
OF_A_LOG = ("replicas", "ack", "min_payload")

Replica = Mapping[str, str]  # {id, domain, role}
Lines = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DeclaredGroup:
    """Who reads a queue or a topic."""

    name: str
    placement: Placement
    semantics: str
    start: str
    max_deliveries: int | None
    filter: str = ALL
    lines: Lines = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class DeclaredLog:
    """A log for several resources."""

    name: str
    replicas: tuple[Replica, ...]
    ack: str
    min_payload: int | None
    lines: Lines = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class DeclaredResource:
    """A queue, a topic, an idempotency store or a table; what its kind does not take is None, or as a queue has it."""

    kind: str
    name: str
    log: str | None
    replicas: tuple[Replica, ...]
    ack: str
    min_payload: int | None
    placement: Placement
    schema: str | None = None
    retain_age_ms: int | None = None
    retain_bytes: int | None = None
    retain_count: int | None = None
    discard: str = FINISHED
    compression: str = NONE
    vshards: int | None = None
    groups: tuple[DeclaredGroup, ...] = ()
    lines: Lines = field(default_factory=dict, compare=False)

    def group(self, name: str) -> DeclaredGroup | None:
        return next((group for group in self.groups if group.name == name), None)


def read_logs(root: Table, domains: Collection[str]) -> dict[str, DeclaredLog]:
    """Returns the logs that a file declares, by name."""
    found = [_log(table, domains) for table in root.tables("log", "log")]
    return {log.name: log for log in found}


def read_resources(
    root: Table, domains: Collection[str], logs: Mapping[str, DeclaredLog]
) -> tuple[DeclaredResource, ...]:
    """Returns the resources that a file declares, and notes two of one name and logs that no resource is in."""
    found: list[DeclaredResource] = []
    for kind in KINDS:
        for table in root.tables(kind, kind):
            resource = _resource(kind, table, domains, logs)
            twin = next((other for other in found if other.name == resource.name and other.kind != kind), None)
            if twin is not None and resource.name:
                table.note(f"There is a {twin.kind} of this name, and a name belongs to one resource.", "name")
            found.append(resource)
    edges = root.body.get("edge")  # of a pipeline; one may take the place of the only topic of a log
    used = {resource.log for resource in found}
    used |= {str(item.get("log")) for item in edges if isinstance(item, dict)} if isinstance(edges, list) else set()
    for log in logs.values():
        if log.name and log.name not in used:
            sentence = f'No resource is in log {shown(log.name)}; write log = "{log.name}" in one, or take it out.'
            root.notes.append((log.lines[""], sentence))
    return tuple(found)


def _log(table: Table, domains: Collection[str]) -> DeclaredLog:
    name = table.require("name", partial(check_name, "log"))
    replicas, ack, min_payload = _copies(table, domains, "log.replicas")
    table.close()
    return DeclaredLog(name, replicas, ack, min_payload, table.key_lines())


def _resource(kind: str, table: Table, domains: Collection[str], logs: Mapping[str, DeclaredLog]) -> DeclaredResource:
    name = table.require("name", partial(check_name, kind))
    log = _log_of(table, logs)
    replicas, ack, min_payload = log[1] if log else _copies(table, domains, f"{kind}.replicas")
    placement = table.placement()
    if placement.allow and not any(placement.decide(domain)[0] for domain in domains if domain):
        what = {IDEM: "reserve in", TABLE: "put into"}.get(kind, "publish to")
        table.note(f"No declared domain may {what} {table.title}: allow covers none, or deny covers all.", "allow")
    fields: dict[str, Any] = {}
    if kind == TABLE:
        fields["vshards"] = table.take("vshards", "a whole number", _vshards, VSHARDS, int)
    else:
        fields["retain_age_ms"] = table.take("retain_age", "text, such as 7d", duration_ms)
    if kind in OF_RECORDS:
        fields |= _fields_of_records(kind, table)
        holders = [replica["domain"] for replica in replicas if replica["role"] == VOTER]
        fields["groups"] = tuple(_group(kind, group, holders) for group in table.tables("group", f"{kind}.group"))
    table.close()
    lines = table.key_lines()
    return DeclaredResource(kind, name, log and log[0], replicas, ack, min_payload, placement, **fields, lines=lines)


def _fields_of_records(kind: str, table: Table) -> dict[str, Any]:
    """Returns what a queue or a topic has and an idempotency store has not."""
    size = ("a size, such as 10GB", lambda size: size_bytes(str(size)), None, str, int)
    fields: dict[str, Any] = {
        "schema": table.take("schema", "text", partial(check_name, "schema")),
        "retain_bytes": table.take("retain_bytes", *size),
        "compression": table.take("compression", "text", check_compression, NONE),
    }
    if kind == TOPIC:
        fields["retain_count"] = table.take("retain_count", "a whole number", NUMBER, None, int)
        fields["discard"] = table.take("discard", "text", _DISCARD, FINISHED)
    return fields


def _log_of(table: Table, logs: Mapping[str, DeclaredLog]) -> tuple[str, tuple[Any, ...]] | None:
    """Returns the name of the log that a resource is in and what that says, or None where it has one of its own."""
    name = table.take("log", "text, the name of a [[log]]", partial(check_name, "log"))
    if "log" not in table.body:
        return None
    both = [key for key in OF_A_LOG if key in table.body]
    table.pass_over(*OF_A_LOG)
    for key in both:
        table.note(f"{table.title} is in a log, which says what {key} is; take {key} or log out.", key)
    log = logs.get(name)
    if log is None and name is not None:
        table.note(f"{table.title} is in log {shown(name)}, which no [[log]] declares.", "log")
    return name, (log.replicas, log.ack, log.min_payload) if log else ((), "majority", None)


def _copies(table: Table, domains: Collection[str], header: str) -> tuple[tuple[Replica, ...], str, int | None]:
    """Returns the replicas and the acknowledgement rule of a log."""
    replicas = tuple(_replicas(table, domains, header))
    ack = table.take("ack", "majority, all or a number", str, "majority", str, int)
    min_payload = table.take("min_payload", "a whole number", NUMBER, None, int)
    if replicas:
        _check_replicas(table, replicas, ack, min_payload)
    return replicas, ack, min_payload


def _replicas(table: Table, domains: Collection[str], header: str) -> Iterator[Replica]:
    """Yields {id, domain, role} of each replica that is one."""
    items = table.take("replicas", 'a table of id = "domain[:role]"', dict, {}, dict)
    if not items:
        table.note(f'{table.title} has no replicas; write [{header}] and under it ID = "DOMAIN".', "replicas")
    for key, text in items.items():
        if not isinstance(text, str):
            table.note(f'Replica {shown(key)} is text, "domain[:role]", not {kind_of(text)}.', "replicas", key)
        elif (replica := table.attempt(partial(_replica, key), text, None, "replicas", key)) is not None:
            if replica["domain"] in domains:
                yield replica
            else:
                table.note(f"Replica {key} is in {replica['domain']}, which no [[domain]] declares.", "replicas", key)


def _replica(replica_id: str, text: str) -> Replica:
    domain, _, role = text.partition(":")
    return {"id": check_name("replica", replica_id), "domain": check_domain(domain), "role": _ROLE(role or VOTER)}


def _check_replicas(table: Table, replicas: tuple[Replica, ...], ack: str, min_payload: int | None) -> None:
    """Notes replicas that cannot stand together, and an acknowledgement rule that cannot hold with them."""
    seen: set[str] = set()
    for replica in replicas:
        if replica["domain"] in seen:
            table.note(f"Two replicas of {table.title} are in {replica['domain']}.", "replicas", replica["id"])
        seen.add(replica["domain"])
    roles = [replica["role"] for replica in replicas]
    try:
        ack_sizes(ack, roles.count(VOTER), roles.count(WITNESS), min_payload)
    except ValueError as error:
        why = str(error).replace("--min-payload", "min_payload").replace("--ack", "ack")
        culprit = next((key for key in ("min_payload", "ack") if key in why and key in table.body), "replicas")
        table.note(f"{table.title}: {why}.", culprit)


def _group(kind: str, table: Table, holders: list[str]) -> DeclaredGroup:
    name, placement = table.require("name", partial(check_name, "group")), table.placement()
    if holders and not any(placement.decide(domain)[0] for domain in holders):
        table.note(f"{table.title} may poll nowhere: no replica that keeps payloads is in its placement.", "allow")
    semantics = table.take("semantics", "text", _SEMANTICS, "at-least-once")
    start = table.take("start", "earliest, latest, an offset or a time", _start, "earliest", str, int, datetime)
    max_deliveries = table.take("max_deliveries", "a whole number", NUMBER, None, int)
    picked = ALL
    if kind == TOPIC:
        picked = table.take("filter", "text", check_filter, ALL)
    elif "filter" in table.body:
        table.pass_over("filter")
        table.note(f"{table.title} has a filter, and only the groups of a topic do: a queue's take all.", "filter")
    table.close()
    return DeclaredGroup(name, placement, semantics, start, max_deliveries, picked, table.key_lines())


def _vshards(value: int) -> int:
    return check_vshards(int(value))


def _start(value: str | int | datetime) -> str:
    """Returns where a group begins, as `consumer create --start` takes it."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise Usage("This time says no zone.", hint="End it with Z, or with an offset such as +02:00.")
        try:
            value = value.astimezone(UTC)
        except OverflowError:
            raise Usage("This time is not in the calendar.") from None
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return check_start(str(value))


_SEMANTICS = like("|".join(SEMANTICS), " or ".join(SEMANTICS))
_ROLE = like("voter|witness", "voter or witness, with which a log begins")
_DISCARD = like(f"{FINISHED}|{OLDEST}", f"{FINISHED} or {OLDEST}")
