"""`status`: everything an operator looks at first, and the names that a shell completes."""

from __future__ import annotations

from contextlib import suppress

from grafctl import clock
from grafctl.errors import DriverError, GrafctlError
from grafctl.nouns.troubles import Troubles
from grafctl.results import Shown
from grafctl.store import keys, switch_keys, vshard_keys
from grafctl.store.authority import Placement
from grafctl.store.checked import checked, served
from grafctl.store.committed import Committed
from grafctl.store.intervals import size
from grafctl.store.records import parse_json
from grafctl.store.replica.scope import FIRST, scoped
from grafctl.store.resources.control import rows as control_rows
from grafctl.store.resources.delivery import Lineage
from grafctl.store.resources.queue import queue_row
from grafctl.store.resources.retention import losses_of
from grafctl.store.resources.table import KIND, OPEN, PART, SEALED
from grafctl.store.session import Session
from grafctl.store.snapshots import Snapshots
from grafctl.store.switch_rules import left_ms
from grafctl.typed import Any

USED = (OPEN, SEALED)

SHOWN_MAX = 100


def status(session: Session) -> Shown:
    """Returns domains and resources; what cannot be read says why instead."""
    observations: dict[str, dict[str, Any]] = {}
    trouble: str | None = None
    try:
        observations = session.observations()
        rows = sorted(session.resources().items())
    except GrafctlError as error:
        rows, trouble = [], error.message
    health = {name: row["status"] for name, row in observations.items()}
    troubles = Troubles(session.cluster)
    resources = _resources(session, rows, health, troubles)
    domains = [_domain(name, observations, troubles) for name in session.cluster.domains]
    body = {"store": str(session.cluster.directory), "domains": domains, "resources": resources}
    moving = {"vshards": _vshards(session, resources), "switches": _switches(session)}
    return Shown({**body, **moving, "trouble": trouble})


def _vshards(session: Session, resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the vshards that are being moved, of each table as many as one can look at."""
    found: list[dict[str, Any]] = []
    tables = dict.fromkeys(item.get("part_of", item["name"]) for item in resources if item.get("moving"))
    for name in tables:
        from grafctl.nouns.vshards import Vshards

        with suppress(DriverError, GrafctlError):  # what cannot be read is said of its domain and its resource
            vshards = Vshards(session)
            for item in vshards.status(name, vshards.under_way(name)[:SHOWN_MAX]).items:
                going = item["migration"] or {}
                sizes = {key: going[key] for key in ("to", "bytes", "total", "reason") if key in going}
                found.append({"table": name, "vshard": item["vshard"], "state": item["state"], **sizes})
    return found


def _switches(session: Session) -> list[dict[str, Any]]:
    """Returns where the consumers are that are attached to a switch."""
    with suppress(DriverError, GrafctlError):  # what cannot be read is said of its domain
        rows = checked(session.control, lambda state: control_rows(state, switch_keys.switches()))
        now_ms = clock.now_ms()
        return [
            {
                "switch": name,
                "state": row["state"],
                "reads": row[row["side"]]["resource"],
                "group": row["source"]["group"],
            }
            | {"generation": row["generation"], "window_left_ms": left_ms(row, now_ms)}
            for name, row in sorted(rows.items())
        ]
    return []


def _domain(name: str, observations: dict[str, dict[str, Any]], troubles: Troubles) -> dict[str, Any]:
    seen, trouble = observations.get(name), troubles.of(name)
    fields: dict[str, Any] = {"domain": name, "state": troubles.state(name)}
    fields |= trouble.fields() if trouble else {}
    fields["health"] = seen["status"] if seen else "never observed"
    return fields


def _resources(
    session: Session, rows: list[tuple[str, dict[str, Any]]], health: dict[str, str], troubles: Troubles
) -> list[dict[str, Any]]:
    """Returns what there is to say of each resource; what one snapshot of all domains does not tell is looked up."""
    found: dict[str, dict[str, Any]] = {}
    with Snapshots(session.cluster) as snapshots:
        for name, log in (("control", session.control), ("audit", session.audit)):
            with suppress(DriverError, GrafctlError):  # what cannot be read is said of its domain
                _look(name, snapshots.committed(log.id, session.cluster.domains), troubles)
        for name, row in rows:
            try:
                committed = snapshots.committed(bytes.fromhex(row["log"]), row["domains"])
                _look(name, committed, troubles)
                if committed is not None:
                    own = committed._replace(state=scoped(committed.state, row.get("number", FIRST)))
                    found[name] = _fields(name, own, health)
            except DriverError:
                continue  # the domain is marked as damaged now: the next look is at the others
            except GrafctlError as error:
                if "domain" not in error.fields:
                    found[name] = _trouble(name, row["kind"], error)
    return [found.get(name) or _resource(session, name, row["kind"], health, troubles) for name, row in rows]


def _look(name: str, committed: Committed | None, troubles: Troubles) -> None:
    if committed is not None:
        troubles.look(name, committed.found, committed.lead)


def _resource(session: Session, name: str, kind: str, health: dict[str, str], troubles: Troubles) -> dict[str, Any]:
    try:
        return served(lambda: _looked_up(session, name, health, troubles))
    except GrafctlError as error:
        return _trouble(name, kind, error)


def _looked_up(session: Session, name: str, health: dict[str, str], troubles: Troubles) -> dict[str, Any]:
    with session.resource(name).view() as committed:
        _look(name, committed, troubles)
        return _fields(name, committed, health)


def _trouble(name: str, kind: str, error: GrafctlError) -> dict[str, Any]:
    return {"name": name, "kind": kind, "trouble": error.message}


def _fields(name: str, committed: Committed, health: dict[str, str]) -> dict[str, Any]:
    state = committed.state
    queue = queue_row(state, name)
    locator = state.get_json(keys.locator())
    replicas = [_replica(item, committed, health) for item in locator["replicas"]]
    groups = [parse_json(body) for _, body in state.scan(keys.groups())]
    lineages = {row["lineage"]: Lineage.of(state.get_json(keys.lineage(row["lineage"]))) for row in groups}
    losses = losses_of(state)
    records, size, moving = queue["next"] - queue["first"], queue["bytes"], 0
    # Of a table, the keys of vshards that are in use here.
    if queue["kind"] in (KIND, PART):
        rows = [parse_json(body) for _, body in state.scan(vshard_keys.vshards())]
        records, size = (sum(row[name] for row in rows if row["state"] in USED) for name in ("records", "bytes"))
        moving = sum(1 for _ in state.scan(vshard_keys.migrations()))
    fields = {
        "name": name,
        "kind": queue["kind"],
        "generation": locator["generation"],
        "epoch": queue["epoch"],
        "records": records,
        "bytes": size,
        "primary": committed.lead.primary,
        "placement": Placement.of(queue).as_json(),
        "replicas": replicas,
        "groups": [group_status(row, lineages[row["lineage"]], queue["next"]) for row in groups],
    }
    more = {"part_of": queue.get("part_of"), "moving": moving or None, "trouble": "; ".join(losses) or None}
    return fields | {name: value for name, value in more.items() if value is not None}


def _replica(item: dict[str, Any], committed: Committed, health: dict[str, str]) -> dict[str, Any]:
    domain = item["domain"]
    fields = {"id": item["id"], "domain": domain, "role": item["role"], "state": item["state"]}
    fields["health"] = health.get(domain, "healthy")
    sight = committed.found.sights.get(domain)
    error = committed.found.errors.get(domain)
    if sight is not None:
        fields |= {"tail": sight.head.tail, "lag": max(0, committed.upto - sight.head.tail)}
    elif error is not None:
        fields |= {"trouble": error.why}
    return fields


def group_status(row: dict[str, Any], lineage: Lineage, stop: int) -> dict[str, Any]:
    """Returns how far a group is; `stop` is the next offset of its resource."""
    fields = {
        "name": row["name"],
        "lineage": row["lineage"],
        "placement": Placement.of(row).as_json(),
        "cursor": row["cursor"],
        "ack_floor": lineage.floor,
        "lag": stop - lineage.floor - size(lineage.done),
        "leased": size(lineage.leased),
        "retrying": sum(item[1] - item[0] for item in lineage.retry),
        "dead": size(lineage.dead),
        "paused": row["paused"],
    }
    optional = {"filter": row.get("filter"), "skipped": lineage.skipped or None, "lost": lineage.loss()}
    return fields | {name: value for name, value in optional.items() if value is not None}


def names(session: Session, kind: str, resource: str | None) -> list[str]:
    """Returns the domains, resources or groups there are; an error is an empty list, because a shell is waiting."""
    try:
        if kind == "domain":
            return session.cluster.domains
        if kind == "resource":
            return sorted(session.resources())
        if kind == "table":
            return sorted(name for name, row in session.resources().items() if row["kind"] == KIND)
        if kind == "vshard" and resource:
            from grafctl.nouns.moves import touched

            return [str(number) for number in touched(session, resource)]
        if kind == "group" and resource:
            with session.state(resource) as state:
                return sorted(parse_json(body)["name"] for _, body in state.scan(keys.groups()))
    except GrafctlError:
        return []
    return []
