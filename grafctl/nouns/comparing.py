"""A declared store beside the real one: what is missing, what differs, what nobody declared, in the order of `apply`.

Promises
- Comparing changes nothing and refuses nothing: what `apply` would refuse is an item with the refusal in it.
- A difference says what is, what is declared, and the command that leads the one to the other, where there is one:
  nothing but that command ever does. No file changes a locator, a placement or a policy.
- A queue that was created as declared and led away since by `locator set`, `placement set` or `policy set` differs, and
  is no reason to refuse the file.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from grafctl.declare.resources import DeclaredGroup, DeclaredLog, DeclaredResource
from grafctl.declare.schema_file import schema_digest
from grafctl.declare.store import Declaration
from grafctl.errors import GenerationConflict, GrafctlError, NotFound
from grafctl.nouns.authorities import Authorities
from grafctl.nouns.consumers import Consumers
from grafctl.nouns.domains import Domains
from grafctl.nouns.found import OF_GROUP, OF_RESOURCE, Found, FoundLog, FoundResource, definition_of, fields_of, look
from grafctl.nouns.making_resources import create_resource, group_arguments
from grafctl.nouns.schemas import Schemas
from grafctl.store import signing
from grafctl.store.authority import Placement
from grafctl.store.driver.kill import point
from grafctl.store.resources.table import PART
from grafctl.store.session import Session

CREATE, DIFFERS, UNDECLARED = "create", "differs", "undeclared"
STORE, DOMAIN, AUTHORITY, SCHEMA, LOG, GROUP = "store", "domain", "authority", "schema", "log", "group"
DEEDS = {STORE: "make the store", DOMAIN: "add the domain", AUTHORITY: "trust the authority"}
DEEDS |= {SCHEMA: "add the schema", LOG: "begin the log"}
NOUNS = {"idem": "idempotency store"}
# Where a field has another name in the file than in a row.
IN_FILE = {"retain_age_ms": "retain_age", "asked_start": "start", "placement": "allow"}


class Item(NamedTuple):
    """One thing that is not as declared."""

    change: str
    kind: str
    name: str
    resource: str | None = None  # of a group
    line: int | None = None
    field: str | None = None
    before: Any = None
    after: Any = None
    command: str | None = None  # what leads the one to the other
    refusal: GrafctlError | None = None  # for which `apply` makes nothing
    make: Callable[[], Any] | None = None

    @property
    def subject(self) -> str:
        """Returns what it is about, as a saved plan names it."""
        return f"{self.kind} {self.name}" + (f" of {self.resource}" if self.resource else "")

    def told(self) -> str:
        """Returns what `apply` does about it."""
        if self.kind in DEEDS:
            return f"{DEEDS[self.kind]} {self.name}"
        noun = NOUNS.get(self.kind, self.kind)
        return f"create the {noun} {self.name}" + (f" of {self.resource}" if self.resource else "")

    def fields(self) -> dict[str, Any]:
        """Returns what JSON has of it."""
        body: dict[str, Any] = {"kind": self.kind, "name": self.name, "resource": self.resource}
        body |= {"line": self.line, "field": self.field, "before": self.before, "after": self.after}
        body |= {"command": self.command, "refused": self.refusal.message if self.refusal else None}
        return {name: value for name, value in body.items() if value is not None}


def compare(session: Session, declaration: Declaration) -> tuple[Found, list[Item]]:
    """Returns what the store has and everything that is not as declared: missing and different first, in the order in
    which `apply` goes, then what nobody declared."""
    names = [resource.name for resource in declaration.resources]
    found = look(session, declaration.domains, names, declaration.logs.keys())
    items = [*_domains(session, declaration, found), *_authorities(session, declaration, found)]
    items += _schemas(session, declaration, found)
    for log in declaration.logs.values():
        items += _log(log, found.logs.get(log.name))
    for resource in declaration.resources:
        items += _resource(session, resource, found)
    return found, [*items, *_undeclared(declaration, found)]


def _domains(session: Session, declaration: Declaration, found: Found) -> Iterator[Item]:
    domains = Domains(session)
    for name, path in declaration.domains.items():
        there, line = found.domains.get(name), declaration.lines[DOMAIN, name]
        if there is None or (path is not None and there["path"] != str(path.absolute())):
            refusal = _refusal(partial(domains.add, name, path=path, dry_run=True))
        if there is None:
            after = {"path": str(path)} if path else None
            make = partial(domains.add, name, path=path)
            yield Item(CREATE, DOMAIN, name, line=line, after=after, refusal=refusal, make=make)
        elif path is not None and there["path"] != str(path.absolute()):
            paths = {"before": there["path"], "after": str(path.absolute())}
            yield Item(DIFFERS, DOMAIN, name, line=line, field="path", **paths, refusal=refusal)


def _authorities(session: Session, declaration: Declaration, found: Found) -> Iterator[Item]:
    authorities = Authorities(session)
    for name, path in declaration.authorities.items():
        there, line = found.authorities.get(name), declaration.lines[AUTHORITY, name]
        wanted = {"fingerprint": signing.fingerprint(signing.load_public(path)), "state": "trusted"}
        if there is None:
            yield Item(CREATE, AUTHORITY, name, line=line, after=wanted, make=partial(authorities.add, name, path))
        elif there != wanted:
            field = next(key for key in ("state", "fingerprint") if there[key] != wanted[key])
            what = "was revoked" if field == "state" else "has another key"
            refusal = GenerationConflict(
                f"Authority {name} is known already and {what}.", hint="Take another name for a new key."
            )
            values = {"field": field, "before": there[field], "after": wanted[field]}
            yield Item(DIFFERS, AUTHORITY, name, line=line, **values, refusal=refusal)


def _schemas(session: Session, declaration: Declaration, found: Found) -> Iterator[Item]:
    schemas = Schemas(session)
    for name, path in declaration.schemas.items():
        there, line = found.schemas.get(name), declaration.lines[SCHEMA, name]
        wanted = {"digest": schema_digest(path)}
        if there is None:
            yield Item(CREATE, SCHEMA, name, line=line, after=wanted, make=partial(schemas.add_file, name, path))
        elif there != wanted:
            refusal = GenerationConflict(
                f"Schema {name} is there already, with another document.",
                hint="Give the new document an id of its own, such as the next version.",
                schema=name,
            )
            values = {"field": "file", "before": there["digest"], "after": wanted["digest"]}
            yield Item(DIFFERS, SCHEMA, name, line=line, **values, refusal=refusal)


def _log(declared: DeclaredLog, there: FoundLog | None) -> Iterator[Item]:
    """Yields a log that its first resource will begin, or what differs of one that is there."""
    if there is None:
        yield Item(CREATE, LOG, declared.name, line=declared.lines[""], after=shown_copies(declared))
        return
    wanted = {"replicas": shown_replicas(declared.replicas), "ack": declared.ack, "min_payload": declared.min_payload}
    refusal = None
    if wanted != {**there.began, "replicas": shown_replicas(there.began["replicas"])}:
        refusal = GenerationConflict(
            f"The log {declared.name} is there already, and was begun with other replicas or another rule.",
            hint=f"Run `grafctl locator show {there.first}` and declare it so, or take another name.",
        )
    for field, before, after, command in _differences_of_copies(there.first, declared, there.locator, there.policy):
        values = {"field": field, "before": before, "after": after, "command": command, "refusal": refusal}
        yield Item(DIFFERS, LOG, declared.name, line=_line(declared.lines, field), **values)


def _resource(session: Session, declared: DeclaredResource, found: Found) -> Iterator[Item]:
    there = found.resources.get(declared.name)
    if there is None:
        after = shown_resource(declared)
        make = partial(create_resource, session, declared)
        yield Item(CREATE, declared.kind, declared.name, line=declared.lines[""], after=after, make=make)
    else:
        yield from _different_resource(session, declared, there)
    for group in declared.groups:
        yield from _group(session, declared, group, there)


def _group(
    session: Session, resource: DeclaredResource, declared: DeclaredGroup, there: FoundResource | None
) -> Iterator[Item]:
    item = Item(CREATE, GROUP, declared.name, resource.name, declared.lines[""])
    row = there.groups.get(declared.name) if there else None
    if row is None:
        refusal = None
        if there and declared.name in there.lineages:
            refusal = GenerationConflict(f"The name {declared.name} is taken by a lineage.", group=declared.name)
        make = partial(Consumers(session).create, **group_arguments(resource, declared))
        yield item._replace(after=shown_group(declared), refusal=refusal, make=make)
        return
    different = list(_group_differences(resource, declared, row))
    refusal = GenerationConflict(
        f"Group {declared.name} of {resource.name} is there already with another "
        f"{', '.join(field for field, *_ in different)}.",
        hint="Run `grafctl plan` with this file: it names what leads there; or take another name for the group.",
        resource=resource.name,
        group=declared.name,
    )
    for field, before, after, command in different:
        line = _line(declared.lines, field)
        values = {"field": field, "before": before, "after": after, "command": command, "refusal": refusal}
        yield item._replace(change=DIFFERS, line=line, **values)


def _different_resource(session: Session, declared: DeclaredResource, there: FoundResource) -> Iterator[Item]:
    """Yields a field at a time; where the resource was not created as declared either, each has the refusal."""
    different = list(_resource_differences(declared, there))
    if not different:
        return
    names = ", ".join(field for field, *_ in different)
    refusal = _refusal(partial(create_resource, session, declared, dry_run=True))
    if refusal is not None:
        refusal = GenerationConflict(
            f"The {NOUNS.get(declared.kind, declared.kind)} {declared.name} is there already with another {names}.",
            hint=f"Run `grafctl {there.kind} show {declared.name}` and declare it so, or take another name.",
            resource=declared.name,
        )
    for field, before, after, command in different:
        line = _line(declared.lines, field)
        values = {"field": field, "before": before, "after": after, "command": command, "refusal": refusal}
        yield Item(DIFFERS, declared.kind, declared.name, line=line, **values)


def _line(lines: Mapping[str, int], field: str) -> int:
    """Returns the line of a field, or of the table where that does not name it."""
    return lines.get(IN_FILE.get(field, field), lines[""])


Difference = tuple[str, Any, Any, str | None]


def _resource_differences(declared: DeclaredResource, there: FoundResource) -> Iterator[Difference]:
    name = declared.name
    if there.kind != declared.kind:
        yield "kind", there.kind, declared.kind, None
        return
    if there.log_name != declared.log:
        yield "log", there.log_name, declared.log, None
    elif declared.log is None:
        yield from _differences_of_copies(name, declared, there.locator, there.policy)
    if declared.placement != there.placement:
        yield _placement_difference(name, None, there.placement, declared.placement)
    for field, before in definition_of(there.row).items():
        if before != (after := getattr(declared, field)):
            yield field, before, after, None


def _differences_of_copies(
    name: str, declared: DeclaredResource | DeclaredLog, locator: Mapping[str, Any], policy: Mapping[str, Any]
) -> Iterator[Difference]:
    """Yields what differs in the replicas of a log and in its acknowledgement rule; `name` is a resource in it."""
    wanted, now = shown_replicas(declared.replicas), shown_replicas(locator["replicas"])
    if wanted != now:
        yield "replicas", now, wanted, _locator_command(name, locator["generation"], now, wanted)
    for field in policy:
        if policy[field] != (after := getattr(declared, field)):
            words = ["policy", "set", name, "--ack", declared.ack]
            words += ["--min-payload", str(declared.min_payload)] if declared.min_payload is not None else []
            yield field, policy[field], after, _command(words)


def _group_differences(
    resource: DeclaredResource, declared: DeclaredGroup, row: Mapping[str, Any]
) -> Iterator[Difference]:
    if Placement.of(row) != declared.placement:
        yield _placement_difference(resource.name, declared.name, Placement.of(row), declared.placement)
    wanted = wanted_group(declared)
    for field, before in fields_of(row, OF_GROUP).items():
        if before != wanted[field]:
            yield "start" if field == "asked_start" else field, before, wanted[field], None


def wanted_group(declared: DeclaredGroup) -> dict[str, Any]:
    """Returns what the row of a group says that is as declared."""
    return {
        "semantics": declared.semantics,
        "asked_start": declared.start,
        "max_deliveries": declared.max_deliveries,
        "filter": declared.filter,
        "lineage": declared.name,
    }


def _placement_difference(resource: str, group: str | None, before: Placement, after: Placement) -> Difference:
    words = ["placement", "set", resource, *(["--group", group] if group else [])]
    words += [word for pattern in after.allow for word in ("--allow", pattern)]
    words += [word for pattern in after.deny for word in ("--deny", pattern)]
    command = _command([*words, "--expect", before.digest()]) if after != Placement((), ()) else None
    return "placement", shown_placement(before), shown_placement(after), command


def _locator_command(name: str, generation: int, now: list[dict[str, str]], wanted: list[dict[str, str]]) -> str | None:
    """Returns the next step of the migration that leads there: what is added has to catch up before others leave."""
    ids, domains = {item["id"]: item for item in now}, {item["domain"] for item in now}
    added = [item for item in wanted if item["id"] not in ids and item["domain"] not in domains]
    removed = [item["id"] for item in now if item not in wanted]
    words = ["locator", "set", name, "--generation", str(generation + 1)]
    if added:
        replicas = (f"{item['id']}={item['domain']}:{item['role']}" for item in added)
        return _command([*words, *(word for text in replicas for word in ("--add", text))])
    return _command([*words, *(word for text in removed for word in ("--remove", text))]) if removed else None


def _command(words: Iterable[str]) -> str:
    return shlex.join(["grafctl", *words])


def _undeclared(declaration: Declaration, found: Found) -> Iterator[Item]:
    yield from (Item(UNDECLARED, DOMAIN, name) for name in found.domains if name not in declaration.domains)
    for name, facts in sorted(found.authorities.items()):
        if name not in declaration.authorities and facts["state"] == "trusted":
            yield Item(UNDECLARED, AUTHORITY, name)
    yield from (Item(UNDECLARED, SCHEMA, name) for name in sorted(found.schemas) if name not in declaration.schemas)
    for name, kind in sorted(found.kinds.items()):
        declared = declaration.resource(name)
        if declared is None and kind != PART:  # the parts of a table come and go with its migrations
            yield Item(UNDECLARED, kind, name)
        elif declared is not None and name in found.resources:
            groups = sorted(found.resources[name].groups)
            yield from (Item(UNDECLARED, GROUP, group, name) for group in groups if declared.group(group) is None)


def _refusal(try_it: Callable[[], Any]) -> GrafctlError | None:
    """Returns why something would be refused; that it names a domain that is yet to be added is a reason too."""
    try:
        try_it()
    except (GenerationConflict, NotFound) as error:
        return error
    return None


# --- what becomes of them


def refuse(items: Iterable[Item]) -> None:
    """Raises the first refusal."""
    for item in items:
        if item.refusal is not None:
            raise item.refusal


def make(steps: Iterable[Item]) -> None:
    """Makes what is missing, one after the other; a log is begun by the first resource in it."""
    for step in steps:
        if step.make is not None:
            point("apply.before")
            step.make()
            point("apply.made")


# --- as they are shown


def shown_placement(placement: Placement) -> dict[str, Any]:
    return {**placement.as_json(), "digest": placement.digest()}


def shown_replicas(replicas: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    rows = ({name: item[name] for name in ("id", "domain", "role")} for item in replicas)
    return sorted(rows, key=lambda row: row["id"])


def shown_copies(declared: DeclaredResource | DeclaredLog) -> dict[str, Any]:
    """Returns what a log is begun with."""
    body = {"replicas": shown_replicas(declared.replicas), "ack": declared.ack}
    return body | ({"min_payload": declared.min_payload} if declared.min_payload is not None else {})


def shown_resource(declared: DeclaredResource) -> dict[str, Any]:
    """Returns what a resource is created with."""
    body: dict[str, Any] = {"log": declared.log} if declared.log is not None else shown_copies(declared)
    own = wanted_definition(declared)
    return {
        **body,
        "placement": shown_placement(declared.placement),
        **{name: value for name, value in own.items() if value != OF_RESOURCE.get(name)},
    }


def wanted_definition(declared: DeclaredResource) -> dict[str, Any]:
    """Returns what `definition_of` says of the row of a resource that is as declared."""
    own = {name: getattr(declared, name) for name in OF_RESOURCE}
    return own | ({"vshards": declared.vshards} if declared.vshards is not None else {})


def shown_group(declared: DeclaredGroup) -> dict[str, Any]:
    """Returns what a group is created with."""
    body: dict[str, Any] = {"placement": shown_placement(declared.placement), "semantics": declared.semantics}
    body |= {"start": declared.start, "max_deliveries": declared.max_deliveries, "filter": declared.filter}
    return {name: value for name, value in body.items() if value not in (None, OF_GROUP["filter"])}
