"""Makes a declared resource with the call that its command makes, so that both come to the same."""

from __future__ import annotations

from typing import Any

from grafctl.declare.resources import ALL, IDEM, QUEUE, TOPIC, DeclaredGroup, DeclaredResource
from grafctl.errors import Usage
from grafctl.nouns.queues import Queues
from grafctl.nouns.topics import Topics
from grafctl.results import Change
from grafctl.store.session import Session


def create_resource(session: Session, declared: DeclaredResource, *, dry_run: bool = False) -> Change:
    """Creates a resource; the same again changes nothing, and one that is something else is refused."""
    arguments: dict[str, Any] = {
        "replicas": [f"{item['id']}={item['domain']}:{item['role']}" for item in declared.replicas],
        "ack": declared.ack,
        "min_payload": declared.min_payload,
        "allow": declared.placement.allow,
        "deny": declared.placement.deny,
        "dry_run": dry_run,
    }
    if declared.log is not None or declared.kind == IDEM:
        raise Usage("Only queues and topics with a log of their own can be made of a file as yet.")
    arguments |= {"schema": declared.schema, "compression": declared.compression}
    arguments |= {"retain_age_ms": declared.retain_age_ms, "retain_bytes": declared.retain_bytes}
    create = {QUEUE: Queues(session).create, TOPIC: Topics(session).create}[declared.kind]
    return create(declared.name, **arguments)


def group_arguments(resource: DeclaredResource, group: DeclaredGroup) -> dict[str, Any]:
    """Returns what `Consumers.create` is to be called with."""
    if group.filter != ALL:
        raise Usage("Subscriptions with a filter cannot be made of a file as yet.")
    return {
        "resource": resource.name,
        "group": group.name,
        "allow": group.placement.allow,
        "deny": group.placement.deny,
        "semantics": group.semantics,
        "start": group.start,
        "max_deliveries": group.max_deliveries,
    }
