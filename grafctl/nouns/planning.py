"""`plan` and `drift`: a declared store beside the real one, shown and not changed.

Promises
- Neither writes to a store; `plan` writes the one file that `out` names.
- A saved plan is what `apply` of the same file would do now, no more: it makes what is missing. What differs is shown
  with the command that leads there, and what nobody declared is shown and left alone.
- A plan that `apply` would refuse is shown with the reason, and not saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafctl.declare.reading import DeclaredFile
from grafctl.declare.store import Declaration
from grafctl.nouns import saved_plans
from grafctl.nouns.comparing import (
    AUTHORITY,
    CREATE,
    DIFFERS,
    DOMAIN,
    GROUP,
    LOG,
    NOUNS,
    SCHEMA,
    STORE,
    UNDECLARED,
    Item,
    compare,
    refuse,
    shown_copies,
    shown_group,
    shown_resource,
)
from grafctl.nouns.found import Facts, Found, group_facts
from grafctl.results import Drift, Plan
from grafctl.store.session import Session

FINDINGS = {CREATE: "missing", DIFFERS: "different", UNDECLARED: "undeclared"}


def plan(session: Session | None, directory: Path, declared: DeclaredFile, out: Path | None = None) -> Plan:
    """Returns what `apply` of a file would do now, and saves it to `out`; without a session there is no store yet."""
    found: Found | None = None
    if session is not None:
        found, items = compare(session, declared.declaration)
    else:
        items = [Item(CREATE, STORE, str(directory)), *missing(declared.declaration)]
    refusal = next((item.refusal for item in items if item.refusal is not None), None)
    made = [item for item in items if item.change == CREATE]
    saved: Facts = {}
    if out is not None:
        refuse(items)
        told = [item.told() for item in made]
        saved = {"out": str(out)}
        saved |= saved_plans.write(out, declared, found and found.identity, told, facts(declared.declaration, found))
    different = [item.fields() for item in items if item.change == DIFFERS]
    return Plan(
        bool(made or different),
        str(declared.file),
        declared.digest,
        str(directory),
        found.identity if found else None,
        [{"action": item.told(), **item.fields()} for item in made],
        different,
        [item.fields() for item in items if item.change == UNDECLARED],
        refused=refusal.message if refusal else None,
        **saved,
    )


def drift(session: Session, declared: DeclaredFile) -> Drift:
    """Returns every difference between a file and a store."""
    _, items = compare(session, declared.declaration)
    findings = [{"finding": FINDINGS[item.change], **item.fields(), "message": sentence(item)} for item in items]
    return Drift(str(declared.file), str(session.cluster.directory), findings, len(findings))


def missing(declaration: Declaration) -> Iterator[Item]:
    """Yields everything that a file declares, as it is missing where there is no store."""
    for name, path in declaration.domains.items():
        after = {"path": str(path)} if path else None
        yield Item(CREATE, DOMAIN, name, line=declaration.lines[DOMAIN, name], after=after)
    for name in declaration.authorities:
        yield Item(CREATE, AUTHORITY, name, line=declaration.lines[AUTHORITY, name])
    for name in declaration.schemas:
        yield Item(CREATE, SCHEMA, name, line=declaration.lines[SCHEMA, name])
    for log in declaration.logs.values():
        yield Item(CREATE, LOG, log.name, line=log.lines[""], after=shown_copies(log))
    for resource in declaration.resources:
        yield Item(CREATE, resource.kind, resource.name, line=resource.lines[""], after=shown_resource(resource))
        for group in resource.groups:
            yield Item(CREATE, GROUP, group.name, resource.name, group.lines[""], after=shown_group(group))


def facts(declaration: Declaration, found: Found | None) -> dict[str, Facts | None]:
    """Returns what a store has of everything that a file declares, by subject; None for what is absent."""
    result: dict[str, Facts | None] = {}
    for item in missing(declaration):
        result[item.subject] = _facts_of(item, found) if found is not None else None
    return result


def _facts_of(item: Item, found: Found) -> Facts | None:
    if item.kind == DOMAIN:
        return found.domains.get(item.name)
    if item.kind == AUTHORITY:
        return found.authorities.get(item.name)
    if item.kind == SCHEMA:
        return found.schemas.get(item.name)
    if item.kind == LOG:
        log = found.logs.get(item.name)
        return log.facts() if log else None
    resource = found.resources.get(item.resource or item.name)
    if resource is None or item.kind != GROUP:
        return resource.facts() if resource else None
    row = resource.groups.get(item.name)
    return group_facts(row) if row else None


# --- as they are told


def sentence(item: Item) -> str:
    """Returns one finding in words."""
    noun = NOUNS.get(item.kind, item.kind)
    what = f"{noun} {item.name}" + (f" of {item.resource}" if item.resource else "")
    if item.change == CREATE:
        return f"{what} is missing"
    if item.change == UNDECLARED:
        return f"{what} is not declared"
    how = f"; run {item.command}" if item.command else "; no command changes it"
    return f"{what} has {item.field} {in_words(item.before)}, not {in_words(item.after)}{how}"


def in_words(value: Any) -> str:
    """Returns a value of a field as a person reads it."""
    if value is None:
        return "none"
    if isinstance(value, dict):  # a placement
        parts = [f"{name} {', '.join(value[name]) or 'nobody'}" for name in ("allow", "deny") if name in value]
        return " ".join([*parts, f"({value['digest']})"] if "digest" in value else parts)
    if isinstance(value, list):  # replicas
        return ", ".join(f"{item['id']}={item['domain']}:{item['role']}" for item in value) or "none"
    return str(value)
