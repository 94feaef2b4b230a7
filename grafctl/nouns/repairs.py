"""`domain repair`: what is wrong with a domain, what bringing it back would take, and doing it.

Promises
- A healthy domain is left alone. One that is only out of reach is too, unless the operator says that it is lost.
- Everything is looked at before anything is touched; `--dry-run` shows the steps in their order.
- What is given up was named by the operator, and is in the audit log.

When it fails: see `store/operations/repair.py`; the same command goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from grafctl.errors import Damaged, DomainUnavailable, DriverError, GrafctlError, NoQuorum, Usage
from grafctl.nouns.creating import create_environments
from grafctl.results import Change
from grafctl.store import files, keys
from grafctl.store.driver.contract import Identity
from grafctl.store.driver.kill import point
from grafctl.store.learn import Progress
from grafctl.store.log import Log
from grafctl.store.observe import fenced_members
from grafctl.store.operations.catch_up import recopy
from grafctl.store.operations.repair import Need, begin_lost, bring_back, check_losses, level, loss_of, need_of
from grafctl.store.operations.verify import domain_findings
from grafctl.store.resources.applying import apply_entry
from grafctl.store.resources.control import log_beginners
from grafctl.store.resources.membership import COPIED, LEARNER
from grafctl.store.session import Session

OP = "domain repair"


class Wrong(NamedTuple):
    """What is wrong with a domain."""

    why: str
    is_fenced: bool  # its old incarnation cannot be used any more, so only the logs are left to do


def logs_of(session: Session) -> dict[str, Log]:
    """Returns every log of the store by the name that an operator types; none is begun or settled."""
    logs = {"control": session.control, "audit": session.audit}
    for name, row in sorted(log_beginners(session.resources()).items()):
        logs[name] = Log(session.cluster, bytes.fromhex(row["log"]), list(row["domains"]), apply_entry)
    return logs


# --- what is wrong


def diagnose(session: Session, name: str, logs: dict[str, Log], *, lost: bool) -> Wrong | None:
    """Returns what is wrong with a domain, None for a healthy one; raises for one that is only out of reach."""
    cluster = session.cluster
    if cluster.is_failed(name):
        raise DomainUnavailable(
            f"{name} is out for a drill; what it holds is good.",
            reason="unreachable",
            hint=f"Run `grafctl domain restore {name}`.",
            domain=name,
        )
    try:
        with cluster.environment(name).read():
            pass
    except Damaged as error:
        return Wrong(error.why, is_fenced=False)
    except DriverError as error:
        return _out_of_reach(session, name, logs, error, lost=lost)
    if any(_waits_for(log, session, name) for log in logs.values()) or any(_losses(session, name, logs, is_lost=False)):
        return Wrong("an earlier repair of it was cut short", is_fenced=True)
    place = cluster.place(name)
    try:
        cluster.driver.check(place.path, Identity(cluster.store, name, place.incarnation))
    except Damaged as error:
        return Wrong(error.why, is_fenced=False)
    except DriverError as error:
        return _out_of_reach(session, name, logs, error, lost=lost)
    finding = next(domain_findings(session, name, logs), None)
    return None if finding is None else Wrong(f"{finding.where}: {finding.problem}", is_fenced=False)


def _waits_for(log: Log, session: Session, name: str) -> bool:
    """Returns whether a log still counts an incarnation of the domain that was fenced."""
    lead = log.observe().lead()
    if lead is None:
        return False
    return any(member[0] == name for member in fenced_members(lead.force(), session.members()))


def _losses(session: Session, name: str, logs: dict[str, Log], *, is_lost: bool) -> Iterator[Need]:
    """Yields the resources of which no replica is left."""
    for title, record in sorted(log_beginners(session.resources()).items()):
        if title in logs and (need := loss_of(session, title, logs[title], record, name, is_lost=is_lost)) is not None:
            yield need


def _out_of_reach(session: Session, name: str, logs: dict[str, Log], error: DriverError, *, lost: bool) -> Wrong:
    """Returns what is wrong with a domain that cannot be opened, where it is sure that its data is given up."""
    place = session.cluster.place(name)
    ours = any(path.endswith(f".fenced_{place.incarnation}") for path in session.cluster.driver.remains(place.path))
    if lost or ours or not _is_counted(logs, session, name):
        return Wrong(error.why, is_fenced=False)
    raise DomainUnavailable(
        f"{name} cannot be reached: {error.why}. What it holds may be good.",
        reason="unreachable",
        hint=f"Mount its disk or mend its directory; if it is lost for good, `grafctl domain repair {name} --lost`.",
        domain=name,
    )


def _is_counted(logs: dict[str, Log], session: Session, name: str) -> bool:
    """Returns whether any log counts the present incarnation of the domain."""
    member = session.cluster.member(name)
    control = session.control.observe().lead()
    if control is not None and all(v.member != member for config in control.force() for v in config.voters):
        return False  # a domain joins this log first: before that, it has held nothing
    leads = [log.observe().lead() for log in logs.values()]
    if None in leads:
        return True
    return any(v.member == member for lead in leads if lead for config in lead.force() for v in config.voters)


# --- repair


def repair(
    session: Session,
    name: str,
    *,
    accept_loss: list[str],
    lost: bool,
    path: Path | None,
    discard: bool,
    dry_run: bool,
    progress: Progress | None,
) -> Change:
    """Brings a domain back as a new incarnation; the same call again goes on."""
    logs = _logs(session, name)
    wrong = diagnose(session, name, logs, lost=lost)
    place = session.cluster.place(name)
    before = {"incarnation": place.incarnation, "path": str(place.path)}
    if wrong is None:
        remains = session.cluster.driver.remains(place.path)
        if discard and not dry_run:
            session.cluster.driver.discard(place.path)
        after = before | {"state": "available", "set_aside": [] if discard else remains}
        actions = [f"delete {path}" for path in remains] if discard else []
        return Change(bool(actions), domain=name, before=before, after=after, dry_run=dry_run or None, actions=actions)
    needs = _needs(session, name, logs, is_lost=not wrong.is_fenced)
    losses = check_losses(needs, accept_loss, name, goes_on=wrong.is_fenced)
    actions = _actions(session, name, wrong, needs, path)
    before |= {"state": wrong.why}
    if dry_run:
        return Change(True, domain=name, before=before, dry_run=True, actions=actions)
    if not wrong.is_fenced:
        _fence(session, name, path, place.incarnation)
    if losses or not wrong.is_fenced:
        told = [need.lost for need in needs if need.name in losses]
        session.note("changed", OP, domain=name, reason=wrong.why, incarnation=session.members()[name][1], lost=told)
    waiting = [need for need in needs if need.waits]
    for need in needs:
        if need.role == LEARNER:
            recopy(session, need.log, name, progress)
        elif need.record is not None and not need.waits:
            begin_lost(session, need, name)
        elif not need.waits:
            bring_back(session, need, progress, loses=need.name in losses)
            level(session, need, name, progress)
    if waiting:
        others = sorted({domain for need in waiting for domain in need.damaged})
        raise NoQuorum(
            f"{name} is made anew; {', '.join(need.name for need in waiting)} cannot go on before {', '.join(others)}.",
            hint=f"Run `grafctl domain repair {others[0]}`, which finishes this one too.",
            outcome="not_written",
            domains=others,
        )
    session.note("changed", f"{OP} done", domain=name, incarnation=session.members()[name][1])
    return Change(True, domain=name, before=before, after=_after(session, name, needs), actions=actions)


def _logs(session: Session, name: str) -> dict[str, Log]:
    try:
        return logs_of(session)
    except GrafctlError as error:
        raise NoQuorum(
            f"The control log cannot be read, so nobody knows what {name} holds: {error.message}",
            hint="Bring another domain back first; `grafctl status` shows them.",
            outcome="not_written",
        ) from error


def _needs(session: Session, name: str, logs: dict[str, Log], *, is_lost: bool) -> list[Need]:
    needs = []
    for title, log in logs.items():
        need = need_of(title, log, name, session.members(), is_lost=is_lost)
        if need is None and title not in ("control", "audit") and _is_learner(log, name, is_lost=is_lost):
            need = Need(title, log, LEARNER)
        needs += [need] if need is not None else []
    return needs + list(_losses(session, name, logs, is_lost=is_lost))


def _is_learner(log: Log, name: str, *, is_lost: bool) -> bool:
    """Returns whether the domain has a finished copy that does not vote, or had one."""
    exclude = frozenset({name}) if is_lost else frozenset()
    if log.observe(exclude).lead() is None:
        return False
    with log.view() as committed:
        replicas = (committed.state.get_json(keys.locator()) or {"replicas": []})["replicas"]
    return any(item["domain"] == name and item["state"] == COPIED for item in replicas)


def _actions(session: Session, name: str, wrong: Wrong, needs: list[Need], path: Path | None) -> list[str]:
    place = session.cluster.place(name)
    where = str(path.absolute()) if path else str(place.path)
    actions = []
    if not wrong.is_fenced:
        actions += [f"move {place.path} aside, where nothing opens it", f"make {name} anew in {where}"]
    for need in needs:
        begins = f"begin {need.name} anew, empty; nobody may use it before `grafctl placement set`"
        actions.append(begins if need.record is not None else f"bring {need.name} to it, where it is a {need.role}")
        actions += [f"give up {need.lost}"] if need.lost else []
    return actions


def _after(session: Session, name: str, needs: list[Need]) -> dict[str, Any]:
    place = session.cluster.place(name)
    logs = [{"log": need.name, "role": need.role} for need in needs]
    aside = session.cluster.driver.remains(place.path)
    return {"incarnation": place.incarnation, "path": str(place.path), "set_aside": aside, "logs": logs}


def _fence(session: Session, name: str, path: Path | None, incarnation: str) -> None:
    """Makes sure that the old incarnation is never written or read again, and makes an empty environment.

    Killed after the first step the domain is missing, after the second it is registered and missing; both are fenced
    once more by the next try, with another incarnation.
    """
    cluster = session.cluster
    with files.locked(cluster.directory):
        file = files.read(cluster.directory)
        if file.domains[name]["incarnation"] != incarnation:
            return  # another repair was quicker
        old = cluster.place(name)
        where = str(path.absolute()) if path else file.domains[name]["path"]
        _require_parent(name, path or old.path)
        try:
            cluster.driver.set_aside(old.path, incarnation)
        except DriverError as error:
            if isinstance(error.__cause__, OSError):
                raise files.unwritable(old.path, error.__cause__) from error
            raise Usage(f"{old.path} cannot be moved aside: {error.why}.", domain=name) from error
        point("repair.aside")
        file = file.with_domain(name, where)
        files.write(cluster.directory, file)
        point("repair.registered")
        create_environments(cluster.driver, file, cluster.directory, name)
        point("repair.created")
    cluster.refresh()


def _require_parent(name: str, path: Path) -> None:
    """Raises `Usage` where the directory above is not there: what is made then may be on the wrong disk."""
    if not path.parent.is_dir():
        raise Usage(
            f"{path.parent}, where {name} is to be, is not there.",
            hint=f"Mount its disk, or run `grafctl domain repair {name} --path DIR` for another place.",
            domain=name,
        )
