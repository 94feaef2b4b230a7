"""`placement`, `fence` and `can`: which domains may use a resource or a group, and since which epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from grafctl import clock
from grafctl.errors import DomainUnavailable, Usage
from grafctl.names import check_domain, check_name
from grafctl.nouns.consumers import run_request
from grafctl.nouns.queues import parse_placement
from grafctl.results import Change, Shown, Verdict
from grafctl.store import keys
from grafctl.store.authority import (
    OPERATIONS,
    Asked,
    Placement,
    pass_locator,
    pass_placement,
)
from grafctl.store.checked import checked
from grafctl.store.operations.moving.situation import parts_of
from grafctl.store.replica.state import State
from grafctl.store.requests import Context, Request
from grafctl.store.resources.group import group_row
from grafctl.store.resources.membership import Fence, SetPlacement
from grafctl.store.resources.queue import queue_row
from grafctl.store.resources.table import KIND, PART
from grafctl.store.session import Session

EPOCH_MAX = (1 << 53) - 1  # exact in every JSON reader


def _row(state: State, resource: str, group: str | None) -> dict[str, Any]:
    return group_row(state, resource, group) if group else queue_row(state, resource)


def _in_all_logs(session: Session, resource: str, request_of: Callable[[str], Request], dry_run: bool) -> list[Any]:
    """Runs a request in every log of a resource, and returns the answers: a table has parts, and they come first.

    The home comes last, so that the same command finishes what was cut short: until then nothing says that it is done.
    Raises what the home refuses before anything is changed.
    """
    kind = session.resources()[resource]["kind"]
    if kind == PART:
        whole, _, _ = resource.rpartition(".part-")
        raise Usage(
            f"{resource} is a part of the table {whole}, and both have one placement and one epoch.",
            hint=f"Name the table: {whole}",
            resource=resource,
        )
    home_log = session.resource(resource)
    if kind != KIND:
        return [run_request(session, home_log, request_of(resource), dry_run)]
    with home_log.view() as committed:
        context = Context(committed.upto, clock.now_ms(), committed.lead.config)
    # Said only where nothing newer can contradict it: with voters away a view may lag behind what was acknowledged.
    checked(home_log, lambda state: request_of(resource).decide(state, context))
    answers: list[Any] = []
    done: list[str] = []
    while parts := [name for name in _parts(session, resource, kind) if name not in done]:  # one may be made meanwhile
        answers += [run_request(session, session.resource(name), request_of(name), dry_run) for name in parts]
        done += parts
    home = run_request(session, home_log, request_of(resource), dry_run)
    # One that was registered before this, and that nobody had seen; whoever registers one later reads what is set now.
    late = [name for name in _parts(session, resource, kind) if name not in done]
    answers += [run_request(session, session.resource(name), request_of(name), dry_run) for name in late]
    return [*answers, home]


def _parts(session: Session, resource: str, kind: str) -> list[str]:
    return parts_of(session, resource)[1:] if kind == KIND else []


class Placements:
    """Who may use the resources of one store."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def show(self, resource: str, group: str | None = None) -> Shown:
        """Returns a placement with the digest that `--expect` compares."""
        log, name = self.session.resource(check_name("resource", resource)), group and check_name("group", group)
        row = checked(log, lambda state: _row(state, resource, name))
        placement = Placement.of(row)
        return Shown(
            {
                "resource": resource,
                "group": group,
                "placement": placement.as_json(),
                "digest": placement.digest(),
                "epoch": row["epoch"],
            }
        )

    def set(
        self,
        resource: str,
        *,
        group: str | None = None,
        allow: Sequence[str] = (),
        deny: Sequence[str] = (),
        expect: str | None = None,
        dry_run: bool = False,
    ) -> Change:
        """Replaces a placement; with `expect`, only if it is still the one with that digest."""
        if not allow and not deny:
            raise Usage("Name who may with --allow, or who may not with --deny.")
        placement = parse_placement(allow, deny)
        self.session.resource(check_name("resource", resource))
        who = check_name("group", group) if group is not None else None
        with self.session.audited("placement set", resource=resource, group=group):
            befores: list[Placement] = _in_all_logs(
                self.session,
                resource,
                lambda name: SetPlacement(name, who, placement, expect if name == resource else None),
                dry_run,
            )
        before, changed = befores[-1], any(found != placement for found in befores)
        if changed and not dry_run:
            self.session.note("changed", "placement set", resource=resource, group=group, **placement.as_json())
        return Change(
            changed,
            resource=resource,
            group=group,
            before={"placement": before.as_json(), "digest": before.digest()},
            after={"placement": placement.as_json(), "digest": placement.digest()},
            dry_run=dry_run or None,
        )


def fence(session: Session, resource: str, epoch: int, group: str | None, *, dry_run: bool) -> Change:
    """Raises the epoch of a resource or a group."""
    if not 0 <= epoch <= EPOCH_MAX:
        raise Usage(f"An epoch is 0 to {EPOCH_MAX}, not {epoch}.")
    session.resource(check_name("resource", resource))
    who = check_name("group", group) if group is not None else None
    with session.audited("fence", resource=resource, group=group):
        befores: list[int] = _in_all_logs(session, resource, lambda name: Fence(name, who, epoch), dry_run)
    before, changed = befores[-1], any(found != epoch for found in befores)
    if changed and not dry_run:
        session.note("changed", "fence", resource=resource, group=group, epoch=epoch)
    return Change(
        changed,
        resource=resource,
        group=group,
        before={"epoch": before},
        after={"epoch": epoch},
        dry_run=dry_run or None,
    )


def can(session: Session, op: str, resource: str, domain: str, group: str | None) -> Verdict:
    """Asks the gate, and writes nothing: not even an audit record."""
    if op not in OPERATIONS:
        raise Usage(f"{op[:40]!r} is no operation that a domain may do; take {', '.join(OPERATIONS)}.")
    holder, local = OPERATIONS[op]
    if holder == "group" and group is None:
        raise Usage(f"{op} is done by a group: name it with --group.")
    check_domain(domain)
    asked = Asked(op, resource, domain, group if holder == "group" else None, None, session.cluster.knows(domain))
    with session.state(check_name("resource", resource)) as state:
        placement = Placement.of(_row(state, resource, asked.group))
        locator = state.get_json(keys.locator())
    try:
        by = pass_placement(asked, placement) if holder != "none" else "the locator"
        if local or holder == "none":
            away = session.cluster.is_failed(domain)
            by += f", replica {pass_locator(asked, locator, session.health(), unreachable=away)}"
    except DomainUnavailable as error:
        by = str(error.fields.get("by") or f"generation {locator['generation']} of the locator")
        return Verdict(False, op, resource, domain, by, asked.group, error.code, error.exit_code, error.reason)
    return Verdict(True, op, resource, domain, by, asked.group)
