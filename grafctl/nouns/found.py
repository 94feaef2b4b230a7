"""What a store has of what a file may declare, read once, so that a comparison sees one state of each thing.

Promises
- Nothing is changed by looking, but for a resource whose creator died: whoever opens it finishes it.
- A domain that was added by half is not there yet: `apply` adds it, which finishes it.
- `facts` are what a saved plan relies on: they name no moment and no place of work, only what operators set.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from grafctl.declare.resources import ALL, FINISHED
from grafctl.store import keys, signing
from grafctl.store.authority import Placement
from grafctl.store.blocks import NONE
from grafctl.store.records import digest, encode_json
from grafctl.store.resources.carried import policy_row
from grafctl.store.resources.control import rows
from grafctl.store.resources.queue import queue_row
from grafctl.store.session import Session

Facts = dict[str, Any]

# What defines a resource beside its log and its placement, and a group beside its placement; with what an older row
# without the field means by that.
OF_RESOURCE: Facts = {"schema": None, "retain_age_ms": None, "retain_bytes": None, "retain_count": None}
OF_RESOURCE |= {"discard": FINISHED, "compression": NONE}
OF_GROUP: Facts = {"semantics": None, "asked_start": None, "max_deliveries": None, "filter": ALL, "lineage": None}


class FoundLog(NamedTuple):
    """A log that several resources share, as it is now, and as the first of them began it."""

    log: str
    first: str  # the resource that began it
    locator: Mapping[str, Any]
    policy: Facts
    began: Facts  # its replicas and its policy then

    def facts(self) -> Facts:
        """Returns what a plan relies on."""
        generation = self.locator["generation"]
        return {"log": self.log, "generation": generation, "policy": digest_of("po", self.policy)}


class FoundResource(NamedTuple):
    """A resource as it is now."""

    kind: str
    log: str
    log_name: str | None  # of one that several share
    row: Mapping[str, Any]
    locator: Mapping[str, Any]
    groups: Mapping[str, Mapping[str, Any]]
    lineages: frozenset[str]
    rule: Mapping[str, Any]  # the row with the acknowledgement rule of its log

    @property
    def placement(self) -> Placement:
        return Placement.of(self.row)

    @property
    def policy(self) -> Facts:
        return _policy(self.rule)

    def facts(self) -> Facts:
        """Returns what a plan relies on; what is the log's is said of the log where others are in it too."""
        own: Facts = {"generation": self.locator["generation"], "policy": digest_of("po", self.policy)}
        return {
            "kind": self.kind,
            "log": self.log,
            "epoch": self.row["epoch"],
            "placement": self.placement.digest(),
            "definition": digest_of("df", definition_of(self.row)),
            **(own if self.log_name is None else {}),
        }


class Found(NamedTuple):
    """A store as it is now."""

    identity: str
    domains: dict[str, Facts]
    authorities: dict[str, Facts]
    schemas: dict[str, Facts]
    kinds: dict[str, str]  # of every resource
    resources: dict[str, FoundResource]  # those that were asked for and are there
    logs: dict[str, FoundLog]  # likewise


def look(
    session: Session, domains: Iterable[str], resources: Iterable[str], logs: Collection[str] = frozenset()
) -> Found:
    """Returns what a store has: all names, and of these resources and shared logs everything that can be declared."""
    with session.control.view() as committed:
        authorities = rows(committed.state, keys.authorities())
        schemas = rows(committed.state, keys.schemas())
    records = session.resources()
    found = {name: _resource(session, name, records[name]) for name in resources if name in records}
    wanted, known = set(domains), session.cluster.domains
    return Found(
        session.cluster.store,
        {name: _domain(session, name) for name in known if name not in wanted or is_joined(session, name)},
        {name: _authority(row) for name, row in authorities.items()},
        {name: {"digest": row["digest"]} for name, row in schemas.items()},
        {name: record["kind"] for name, record in records.items()},
        found,
        {record["log_name"]: _log(session, name, record) for name, record in records.items() if _begins(record, logs)},
    )


def _begins(record: Mapping[str, Any], logs: Collection[str]) -> bool:
    return "start" in record and record.get("log_name") in logs


def _log(session: Session, name: str, record: Mapping[str, Any]) -> FoundLog:
    began = {"replicas": record["start"]["locator"]["replicas"], **_policy(record["start"]["queue"])}
    with session.state(name) as state:
        return FoundLog(record["log"], name, state.get_json(keys.locator()), _policy(policy_row(state)), began)


def _policy(row: Mapping[str, Any]) -> Facts:
    return {"ack": row["ack"], "min_payload": row["min_payload"]}


def is_joined(session: Session, domain: str) -> bool:
    """Returns whether a domain that the store knows is a voter of its own logs, which is the last step of adding."""
    for log in (session.control, session.audit):
        with log.view() as committed:
            if committed.lead.config.voter(domain) is None:
                return False
    return True


def _domain(session: Session, name: str) -> Facts:
    place = session.cluster.place(name)
    return {"path": str(place.path), "incarnation": place.incarnation}


def _authority(row: Mapping[str, Any]) -> Facts:
    state = "revoked" if row["revoked"] else "trusted"
    return {"fingerprint": signing.fingerprint(row["public_key"]), "state": state}


def _resource(session: Session, name: str, record: Mapping[str, Any]) -> FoundResource:
    with session.state(name) as state:
        row = queue_row(state, name)
        groups = [json.loads(body) for _, body in state.scan(keys.groups())]
        cut = len(keys.lineages()[0])
        lineages = frozenset(found[cut:-1].decode() for found, _ in state.scan(keys.lineages()))
        locator = state.get_json(keys.locator())
        by_name = {item["name"]: item for item in groups}
        log_name = record.get("log_name")
        return FoundResource(row["kind"], record["log"], log_name, row, locator, by_name, lineages, policy_row(state))


def group_facts(row: Mapping[str, Any]) -> Facts:
    """Returns what a plan relies on of a group."""
    definition = digest_of("df", fields_of(row, OF_GROUP))
    return {"epoch": row["epoch"], "placement": Placement.of(row).digest(), "definition": definition}


def definition_of(row: Mapping[str, Any]) -> Facts:
    """Returns what defines a resource beside its log and its placement; only a table has vshards."""
    return fields_of(row, OF_RESOURCE) | ({"vshards": row["vshards"]} if "vshards" in row else {})


def fields_of(row: Mapping[str, Any], names: Mapping[str, Any]) -> Facts:
    """Returns these fields of a row, each with what is meant where it is absent."""
    return {name: row.get(name, default) for name, default in names.items()}


def digest_of(prefix: str, value: Any) -> str:
    """Returns a short name for a value that is compared and never read back."""
    return f"{prefix}_{digest(encode_json(value)).hex()[:20]}"
