"""Makes a declared resource with the call that its command makes, so that both come to the same."""

from __future__ import annotations

from typing import Any

from grafctl.declare.resources import IDEM, OF_RECORDS, QUEUE, TABLE, TOPIC, DeclaredGroup, DeclaredResource
from grafctl.nouns.idems import Idems
from grafctl.nouns.queues import Queues
from grafctl.nouns.tables import Tables
from grafctl.nouns.topics import Topics
from grafctl.results import Change
from grafctl.store.session import Session
from grafctl.store.vshards import VSHARDS


def create_resource(session: Session, declared: DeclaredResource, *, dry_run: bool = False) -> Change:
    """Creates a resource; the same again changes nothing, and one that is something else is refused.

    The first one of a log that several share brings the replicas of the log.
    """
    arguments: dict[str, Any] = {"log": declared.log, "dry_run": dry_run}
    arguments |= {"allow": declared.placement.allow, "deny": declared.placement.deny}
    if declared.log is None or _begins(session, declared):
        replicas = [f"{item['id']}={item['domain']}:{item['role']}" for item in declared.replicas]
        arguments |= {"replicas": replicas, "ack": declared.ack, "min_payload": declared.min_payload}
    if declared.kind == TABLE:
        return Tables(session).create(declared.name, **arguments, vshards=declared.vshards or VSHARDS)
    arguments["retain_age_ms"] = declared.retain_age_ms
    if declared.kind in OF_RECORDS:
        arguments |= {"schema": declared.schema, "compression": declared.compression}
        arguments |= {"retain_bytes": declared.retain_bytes}
    if declared.kind == TOPIC:
        arguments |= {"retain_count": declared.retain_count, "discard": declared.discard}
    creates = {QUEUE: Queues(session).create, TOPIC: Topics(session).create, IDEM: Idems(session).create}
    return creates[declared.kind](declared.name, **arguments)


def _begins(session: Session, declared: DeclaredResource) -> bool:
    """Returns whether a resource is the one that began its log, or would be."""
    records = session.resources()
    there = records.get(declared.name)
    if there is not None:
        return "start" in there
    return all(record.get("log_name") != declared.log for record in records.values())


def group_arguments(resource: DeclaredResource, group: DeclaredGroup) -> dict[str, Any]:
    """Returns what `Consumers.create` is to be called with."""
    return {
        "resource": resource.name,
        "group": group.name,
        "allow": group.placement.allow,
        "deny": group.placement.deny,
        "semantics": group.semantics,
        "start": group.start,
        "max_deliveries": group.max_deliveries,
        "filter": group.filter if resource.kind == TOPIC else None,
    }
