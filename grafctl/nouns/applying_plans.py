"""`apply PLAN`: what a saved plan says, once, in the store that it was made for and as that was then.

Promises
- Before the first step everything that the plan relies on is looked at: a generation, an epoch, a placement, a policy
  or a definition that is another, or a thing that was absent and is there, refuses the plan (13) and nothing is made.
- The plan is noted in the control log before its first step and after its last. From the first note on its own work
  counts as expected, so the same call goes on where it was killed; after the last it makes nothing any more, also where
  what it made is gone.
- Where there was no store the plan names the one that it makes: its identity is drawn from the plan and the directory.

When it fails: killed at any place, the same call goes on; refused after its first note, the store has what was made so
far, and a new plan says what is left.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from grafctl.declare.resources import DeclaredLog, DeclaredResource
from grafctl.declare.schema_file import schema_digest
from grafctl.declare.store import Declaration
from grafctl.errors import GenerationConflict
from grafctl.names import shown
from grafctl.nouns import saved_plans
from grafctl.nouns.comparing import (
    AUTHORITY,
    CREATE,
    DOMAIN,
    GROUP,
    LOG,
    SCHEMA,
    Item,
    compare,
    make,
    refuse,
    wanted_definition,
    wanted_group,
)
from grafctl.nouns.creating import create_store
from grafctl.nouns.found import Facts, FoundLog, FoundResource, digest_of, look
from grafctl.nouns.opening import opened, session_if_begun
from grafctl.nouns.planning import facts, missing
from grafctl.nouns.saved_plans import SavedPlan
from grafctl.results import Change
from grafctl.store import signing
from grafctl.store.driver.contract import Driver
from grafctl.store.driver.kill import point
from grafctl.store.resources.plans import BEGUN, DONE, KeepPlan, plan_row
from grafctl.store.session import Session

MOVED_MAX = 5  # that a message names


def apply_plan(directory: Path, text: bytes, file: Path, driver: Driver, *, dry_run: bool) -> Change:
    """Does what a plan says, and makes the store first where the plan was made without one."""
    saved = saved_plans.parse(text, str(file))
    made: list[str] = []
    if saved.store is None:
        with session_if_begun(directory, driver) as session:
            is_there = session is not None
        if not is_there:
            domains, identity = saved.declared.declaration.domains, _identity(saved, directory)
            made = create_store(directory, domains, driver, identity=identity, dry_run=dry_run).actions or []
            if dry_run and made:
                rest = [item.told() for item in missing(saved.declared.declaration) if item.kind != DOMAIN]
                return _change(directory, saved, [*made, *rest], dry_run)
    with opened(directory, driver) as session:
        change = apply_saved(session, saved, dry_run=dry_run)
    return _change(directory, saved, [*made, *(change.actions or [])], dry_run)


def apply_saved(session: Session, saved: SavedPlan, *, dry_run: bool) -> Change:
    """Does what a plan says; raises `GenerationConflict` where it no longer holds."""
    directory = session.cluster.directory
    with session.audited("apply", plan=saved.id):
        _check_store(session, saved, saved.store or _identity(saved, directory))
        steps = _steps(session, saved)
    if not dry_run:
        _do(session, saved, steps)
    return _change(directory, saved, [step.told() for step in steps], dry_run)


def _identity(saved: SavedPlan, directory: Path) -> str:
    """Returns the identity of the store that a plan makes in a directory; twice the same, and never that of another."""
    return "st_" + hashlib.sha256(f"{saved.id}\0{saved.digest}\0{directory}".encode()).hexdigest()[:20]


def _check_store(session: Session, saved: SavedPlan, identity: str) -> None:
    found = session.cluster.store
    if found != identity:
        what = f"of {shown(saved.store)}" if saved.store else "made where there was no store"
        raise GenerationConflict(
            f"The plan is {what}, and this store is {found}.",
            hint=f"Name the store that it was made for with --store, or plan {saved.declared.file} anew.",
            plan=saved.id,
        )


def _steps(session: Session, saved: SavedPlan) -> list[Item]:
    """Returns what is left to make; raises `GenerationConflict` for a plan that no longer holds."""
    with session.control.view() as committed:
        row = plan_row(committed.state, saved.id)
    if row is not None and row["digest"] != saved.digest:
        raise _stale(saved, ["another plan of its id was applied"])
    state = row["state"] if row else None
    found, items = compare(session, saved.declared.declaration)
    now, made = facts(saved.declared.declaration, found), _made(saved.declared.declaration)
    moved = [
        subject
        for subject in now
        if not _holds(saved.relies_on.get(subject, {}), made[subject], now[subject], state, is_new=saved.store is None)
    ]
    if moved or now.keys() != saved.relies_on.keys():
        expected = {subject: saved.relies_on.get(subject) or (made[subject] if state else None) for subject in moved}
        raise _stale(saved, [_how(subject, expected[subject], now.get(subject)) for subject in moved])
    refuse(items)
    return [item for item in items if item.change == CREATE]


def _holds(before: Facts | None, made: Facts, now: Facts | None, state: str | None, *, is_new: bool) -> bool:
    """Returns whether a thing is as the plan expects it: as it was or, once the plan is begun, as it makes it."""
    if before is not None:
        return now == before
    is_made = now is not None and all(now.get(name) == value for name, value in made.items())
    if state == DONE:
        return is_made
    if state == BEGUN or is_new:
        return now is None or is_made
    return now is None


def _made(declaration: Declaration) -> dict[str, Facts]:
    """Returns what everything is like that a plan has just made, by subject, as far as that can be known before."""
    made: dict[str, Facts] = {}
    for item in missing(declaration):
        made[item.subject] = dict(item.after or {}) if item.kind == DOMAIN else {}
    for name, path in declaration.authorities.items():
        fingerprint = signing.fingerprint(signing.load_public(path))
        made[Item(CREATE, AUTHORITY, name).subject] = {"fingerprint": fingerprint, "state": "trusted"}
    for name, path in declaration.schemas.items():
        made[Item(CREATE, SCHEMA, name).subject] = {"digest": schema_digest(path)}
    for log in declaration.logs.values():
        made[Item(CREATE, LOG, log.name).subject] = _copies(log)
    for resource in declaration.resources:
        made[Item(CREATE, resource.kind, resource.name).subject] = {
            "kind": resource.kind,
            "epoch": 1,
            "placement": resource.placement.digest(),
            "definition": digest_of("df", wanted_definition(resource)),
            **(_copies(resource) if resource.log is None else {}),
        }
        for group in resource.groups:
            made[Item(CREATE, GROUP, group.name, resource.name).subject] = {
                "epoch": 1,
                "placement": group.placement.digest(),
                "definition": digest_of("df", wanted_group(group)),
            }
    return made


def _copies(declared: DeclaredLog | DeclaredResource) -> Facts:
    """Returns what a log is like that was just begun."""
    return {"generation": 1, "policy": digest_of("po", {"ack": declared.ack, "min_payload": declared.min_payload})}


def _stale(saved: SavedPlan, moved: list[str]) -> GenerationConflict:
    more = f" and {len(moved) - MOVED_MAX} more" if len(moved) > MOVED_MAX else ""
    what = "; ".join(moved[:MOVED_MAX]) + more if moved else "it relies on other things than its text declares"
    return GenerationConflict(
        f"The plan no longer holds: {what}.",
        hint=f"Run `grafctl plan {saved.declared.file}` again and look at what it says now.",
        plan=saved.id,
        moved=moved,
    )


def _how(subject: str, before: Facts | None, now: Facts | None) -> str:
    """Returns what became of a thing since the plan was made."""
    if before is None:
        return f"{subject} was absent and is there"
    if now is None:
        return f"{subject} is gone"
    names = sorted(name for name in before if before[name] != now.get(name))
    return f"{subject} has another {', '.join(names)}"


def _do(session: Session, saved: SavedPlan, steps: list[Item]) -> None:
    if not steps:
        with session.control.view() as committed:
            row = plan_row(committed.state, saved.id)
        if row is None or row["state"] == DONE:
            return  # nothing was begun, or all is done: no note is needed
    session.control.append(KeepPlan(saved.id, saved.digest, BEGUN))
    point("plan.begun")
    for step in steps:
        with session.audited("apply", plan=saved.id):
            _check_step(session, saved, step)
        make([step])
    session.control.append(KeepPlan(saved.id, saved.digest, DONE))
    session.note("changed", "apply", plan=saved.id, digest=saved.digest)
    point("plan.done")


def _check_step(session: Session, saved: SavedPlan, step: Item) -> None:
    """Raises where what a step stands on moved since all was looked at: the resource of a group, the log of others."""
    declared = saved.declared.declaration.resource(step.resource or step.name)
    if declared is None or (step.resource is None and declared.log is None):
        return
    made = _made(saved.declared.declaration)
    logs = [declared.log] if declared.log is not None else []
    found = look(session, (), [declared.name], logs)
    there: dict[str, FoundLog | FoundResource | None] = {}
    there |= {Item(CREATE, LOG, name).subject: found.logs.get(name) for name in logs}
    there |= {Item(CREATE, declared.kind, declared.name).subject: found.resources.get(declared.name)}
    for subject, thing in there.items():
        before, now = saved.relies_on[subject], thing.facts() if thing else None
        if not _holds(before, made[subject], now, BEGUN, is_new=False):
            raise _stale(saved, [_how(subject, before or made[subject], now)])


def _change(directory: Path, saved: SavedPlan, actions: list[str], dry_run: bool) -> Change:
    after = {"store": str(directory), "plan": saved.id}
    return Change(bool(actions), after=after, dry_run=dry_run or None, actions=actions)
