"""`apply`, `plan` and `drift` of a file: make a store what a file declares, and change nothing that is there.

Promises
- Everything is looked at before anything is made: what is there under a declared name but is something else is
  refused, and then the store is as it was.
- What is there as declared changes nothing. A queue counts as there when it was created as declared, or is now what is
  declared: `locator set`, `placement set` and `policy set` may have led it away since, and no file leads it back.
- The actions are in the order in which they are done: domains, authorities, resources, and each one's groups after it.
- A file that is a saved plan is applied as one (`applying_plans.py`).

When it fails: killed in between, the rest is missing; the same call again makes it.
"""

from __future__ import annotations

from pathlib import Path

from grafctl.declare.document import read_text
from grafctl.declare.reading import DeclaredFile
from grafctl.declare.store import Declaration
from grafctl.errors import NotFound
from grafctl.nouns import planning, saved_plans
from grafctl.nouns.applying_plans import apply_plan, apply_saved
from grafctl.nouns.comparing import CREATE, DOMAIN, compare, make, refuse
from grafctl.nouns.creating import create_store
from grafctl.nouns.opening import OpenStore, default_driver, opened, session_if_begun
from grafctl.pipeline.declaring_store import parse_store
from grafctl.results import Change, Drift, Plan
from grafctl.store.driver.contract import Driver
from grafctl.store.session import Session


def plan_file(directory: Path, file: Path, out: Path | None = None, *, driver: Driver | None = None) -> Plan:
    """Returns what `apply_file` would do now, and saves it to `out`."""
    declared = _read(file)
    with session_if_begun(directory.absolute(), driver or default_driver()) as session:
        return planning.plan(session, directory.absolute(), declared, out)


def drift_file(directory: Path, file: Path, *, driver: Driver | None = None) -> Drift:
    """Returns every difference between a file and a store; raises `NotFound` where there is no store."""
    declared = _read(file)
    with session_if_begun(directory.absolute(), driver or default_driver()) as session:
        if session is None:
            hint = f"Run `grafctl apply {file}`, which makes it."
            raise NotFound(f"There is no store in {directory}.", hint=hint)
        return planning.drift(session, declared)


def plan(store: OpenStore, file: Path, out: Path | None = None) -> Plan:
    """Returns what `apply` would do now in an open store, and saves it to `out`."""
    return planning.plan(store.session, store.session.cluster.directory, _read(file), out)


def drift(store: OpenStore, file: Path) -> Drift:
    """Returns every difference between a file and an open store."""
    return planning.drift(store.session, _read(file))


def _read(file: Path) -> DeclaredFile:
    text = read_text(file)
    return DeclaredFile(file, text, parse_store(text, file, file.absolute().parent))


def apply(store: OpenStore, file: Path, *, dry_run: bool = False) -> Change:
    """Makes what a file declares or a plan says and an open store lacks; raises as `apply_file` does."""
    text = read_text(file, saved_plans.FILE_BYTES_MAX)
    if saved_plans.is_plan(text):
        return apply_saved(store.session, saved_plans.parse(text, str(file)), dry_run=dry_run)
    return apply_declaration(store.session, parse_store(text, file, file.absolute().parent), dry_run=dry_run)


def apply_file(directory: Path, file: Path, *, driver: Driver | None = None, dry_run: bool = False) -> Change:
    """Makes what a file declares or a plan says, the store too where there is none, with the domains of the file.

    Raises `InvalidConfig` with all problems of the file, or `GenerationConflict` where something else is there.
    """
    text = read_text(file, saved_plans.FILE_BYTES_MAX)
    directory, driver = directory.absolute(), driver or default_driver()
    if saved_plans.is_plan(text):
        return apply_plan(directory, text, file, driver, dry_run=dry_run)
    declaration = parse_store(text, file, file.absolute().parent)
    made: list[str] = []
    with session_if_begun(directory, driver) as session:
        is_there = session is not None
    if not is_there:
        made = create_store(directory, declaration.domains, driver, dry_run=dry_run).actions or []
        if dry_run and made:
            rest = [item.told() for item in planning.missing(declaration) if item.kind != DOMAIN]
            return _change(directory, [*made, *rest], dry_run)
    with opened(directory, driver) as session:
        change = apply_declaration(session, declaration, dry_run=dry_run)
    return _change(directory, [*made, *(change.actions or [])], dry_run)


def apply_declaration(session: Session, declaration: Declaration, *, dry_run: bool) -> Change:
    """Makes what is declared and the store lacks."""
    with session.audited("apply"):
        _, items = compare(session, declaration)
        refuse(items)
    steps = [item for item in items if item.change == CREATE]
    if not dry_run:
        make(steps)
    return _change(session.cluster.directory, [step.told() for step in steps], dry_run)


def _change(directory: Path, actions: list[str], dry_run: bool) -> Change:
    return Change(bool(actions), after={"store": str(directory)}, dry_run=dry_run or None, actions=actions)
