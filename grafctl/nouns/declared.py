"""`apply`: make a store what a file declares, and change nothing that is there already.

Promises
- Everything is looked at before anything is made: what is there under a declared name but is something else is
  refused, and then the store is as it was.
- What is there as declared changes nothing. A queue counts as there when it was created as declared, or is now what is
  declared: `locator set`, `placement set` and `policy set` may have led it away since, and no file leads it back.
- The actions are in the order in which they are done: domains, authorities, queues, and each queue's groups after it.

When it fails: killed in between, the rest is missing; the same call again makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from grafctl.declare.resources import QUEUE, DeclaredGroup, DeclaredResource
from grafctl.declare.store import Declaration
from grafctl.errors import GenerationConflict, NotFound, Usage
from grafctl.nouns.authorities import Authorities
from grafctl.nouns.consumers import Consumers
from grafctl.nouns.creating import create_store
from grafctl.nouns.domains import Domains
from grafctl.nouns.queues import Queues
from grafctl.pipeline.declaring_store import read_store
from grafctl.results import Change
from grafctl.store import files
from grafctl.store.cluster import Cluster
from grafctl.store.driver.contract import Driver
from grafctl.store.session import Session


class OpenStore(Protocol):
    """What `apply` needs of `client.Store`, which stands on a floor above."""

    session: Session


class Step(NamedTuple):
    """One thing to make, and how it is told."""

    action: str
    make: Callable[[], Any]


def apply(store: OpenStore, file: Path, *, dry_run: bool = False) -> Change:
    """Makes what a file declares and the store lacks; raises `InvalidConfig` or `GenerationConflict`."""
    return apply_declaration(store.session, read_store(file), dry_run=dry_run)


def apply_declaration(session: Session, declaration: Declaration, *, dry_run: bool) -> Change:
    """Makes what is declared and the store lacks."""
    with session.audited("apply"):
        steps = list(_steps(session, declaration))
    if not dry_run:
        for step in steps:
            step.make()
    return _change(session.cluster.directory, [step.action for step in steps], dry_run)


def apply_file(directory: Path, file: Path, *, driver: Driver | None = None, dry_run: bool = False) -> Change:
    """Does what `apply` does, and makes the store first where there is none, with the domains that the file names."""
    declaration = read_store(file)
    directory = directory.absolute()
    driver = driver or _default_driver()
    made: list[str] = []
    if not _is_begun(directory, driver):
        made = create_store(directory, declaration.domains, driver, dry_run=dry_run).actions or []
        if dry_run and made:
            return _change(directory, [*made, *_actions_on_new(declaration)], dry_run)
    session = _open(directory, driver)
    try:
        change = apply_declaration(session, declaration, dry_run=dry_run)
    finally:
        session.close()
    return _change(directory, [*made, *(change.actions or [])], dry_run)


def _default_driver() -> Driver:
    from grafctl.store.driver.lmdb import LmdbDriver

    return LmdbDriver()


def _open(directory: Path, driver: Driver) -> Session:
    file = files.read(directory)
    if file.driver != driver.name:
        raise Usage(f"The store in {directory} was made with the driver {file.driver}, not {driver.name}.")
    return Session(Cluster(driver, file.identity, file.places(directory), directory))


def _is_begun(directory: Path, driver: Driver) -> bool:
    """Returns whether there is a store that was not left half-made: its control log has begun."""
    try:
        session = _open(directory, driver)
    except NotFound:
        return False
    try:
        return session.control.exists()
    finally:
        session.close()


def _change(directory: Path, actions: list[str], dry_run: bool) -> Change:
    return Change(bool(actions), after={"store": str(directory)}, dry_run=dry_run or None, actions=actions)


def _steps(session: Session, declaration: Declaration) -> Iterator[Step]:
    """Yields what is to be made, in order; raises `GenerationConflict` for what is there and is something else."""
    domains, authorities = Domains(session), Authorities(session)
    for name, path in declaration.domains.items():
        if domains.add(name, path=path, dry_run=True).changed or not _is_joined(session, name):
            yield Step(f"add the domain {name}", partial(domains.add, name, path=path))
    for name, path in declaration.authorities.items():
        if authorities.add(name, path, dry_run=True).changed:
            yield Step(f"trust the authority {name}", partial(authorities.add, name, path))
    there = session.resources()
    if declaration.logs or declaration.schemas or any(item.kind != QUEUE for item in declaration.resources):
        raise Usage("Only queues with a log of their own can be made of a file as yet.")
    for queue in declaration.resources:
        yield from _queue_steps(session, queue, is_there=queue.name in there)


def _is_joined(session: Session, domain: str) -> bool:
    """Returns whether a domain that the store knows is a voter of its own logs, which is the last step of adding."""
    for log in (session.control, session.audit):
        with log.view() as committed:
            if committed.lead.config.voter(domain) is None:
                return False
    return True


def _queue_steps(session: Session, queue: DeclaredResource, *, is_there: bool) -> Iterator[Step]:
    if is_there:
        _check_queue(session, queue)
    else:
        yield Step(f"create the queue {queue.name}", partial(Queues(session).create, **_arguments(queue)))
    consumers = Consumers(session)
    for group in queue.groups:
        arguments = _group_arguments(queue, group)
        if not is_there or consumers.create(**arguments, dry_run=True).changed:
            yield Step(f"create the group {group.name} of {queue.name}", partial(consumers.create, **arguments))


def _check_queue(session: Session, queue: DeclaredResource) -> None:
    """Raises `GenerationConflict` unless the queue was created as declared, or is now as declared."""
    now = Queues(session).show(queue.name).body
    different = [name for name, value in _fields(queue).items() if _now(now, name) != value]
    if not different:
        return
    try:
        Queues(session).create(**_arguments(queue), dry_run=True)
    except (GenerationConflict, NotFound) as error:  # not found: it names a domain that is yet to be added
        raise GenerationConflict(
            f"The queue {queue.name} is there already with another {', '.join(different)}.",
            hint=f"Run `grafctl queue show {queue.name}` and declare it so, or take another name.",
            resource=queue.name,
        ) from error


def _fields(queue: DeclaredResource) -> dict[str, Any]:
    """Returns what `queue show` says of a queue that is as declared."""
    return {
        "schema": queue.schema,
        "replicas": _in_order(queue.replicas),
        "ack": queue.ack,
        "min_payload": queue.min_payload,
        "placement": queue.placement.as_json(),
        "retain_age_ms": queue.retain_age_ms,
        "retain_bytes": queue.retain_bytes,
        "compression": queue.compression,
    }


def _now(fields: dict[str, Any], name: str) -> Any:
    return _in_order(fields[name]) if name == "replicas" else fields.get(name)


def _in_order(replicas: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return sorted((item["id"], item["domain"], item["role"]) for item in replicas)


def _arguments(queue: DeclaredResource) -> dict[str, Any]:
    return {
        "name": queue.name,
        "replicas": [f"{item['id']}={item['domain']}:{item['role']}" for item in queue.replicas],
        "schema": queue.schema,
        "ack": queue.ack,
        "min_payload": queue.min_payload,
        "allow": queue.placement.allow,
        "deny": queue.placement.deny,
        "retain_age_ms": queue.retain_age_ms,
        "retain_bytes": queue.retain_bytes,
        "compression": queue.compression,
    }


def _group_arguments(queue: DeclaredResource, group: DeclaredGroup) -> dict[str, Any]:
    return {
        "resource": queue.name,
        "group": group.name,
        "allow": group.placement.allow,
        "deny": group.placement.deny,
        "semantics": group.semantics,
        "start": group.start,
        "max_deliveries": group.max_deliveries,
    }


def _actions_on_new(declaration: Declaration) -> Iterator[str]:
    """Yields the actions in a store that has the declared domains and nothing else."""
    yield from (f"trust the authority {name}" for name in declaration.authorities)
    for queue in declaration.resources:
        yield f"create the queue {queue.name}"
        yield from (f"create the group {group.name} of {queue.name}" for group in queue.groups)
