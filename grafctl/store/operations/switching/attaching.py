"""Attaching a consumer's two groups to a switch, and detaching them.

| step of attach | where | what it does |
|---|---|---|
| row | control log | the switch, at generation 1, attaching |
| close | target's log | the target's group takes no polls any more |
| tie | source's log | polls of the source's group are routed from here on; it stays open |
| done | control log | the row says so |

Detaching begins in the control log too, frees the group of the closed side (paused, so that nobody reads twice), then
that of the open side, and then lets go of the row.

Two tables are attached and detached by one entry of the control log (`tables.py`).

Promises
- At each step at most one of the two groups is open for this consumer, and the source's is read on all the time.
- The same command again goes on where another one died.
"""

from __future__ import annotations

from grafctl.errors import Busy, GenerationConflict
from grafctl.store.driver.kill import point
from grafctl.store.operations.switching.tables import are_tables, attach_tables, detach_tables
from grafctl.store.operations.switching.work import look, other, row_of, run_request, settled_row, side_of
from grafctl.store.resources.group import ALL, AT_MOST_ONCE, group_row
from grafctl.store.resources.switched import AttachGroup, DetachGroup
from grafctl.store.resources.switches import BeginDetach, CreateSwitch, DropSwitch, EndAttach, Switched
from grafctl.store.session import Session
from grafctl.store.switch_rules import ATTACHING, SOURCE, TARGET, is_of_tables, phase_of
from grafctl.typed import Any, Mapping

NOBODYS = 1 << 62  # a generation above all others: who else has the group, the control log says


def attach(session: Session, name: str, definition: Mapping[str, Any], *, dry_run: bool = False) -> Switched:
    """Makes a switch and ties both groups to it; the same again changes nothing."""
    if are_tables(session, definition):
        return attach_tables(session, name, definition, dry_run=dry_run)
    filters: dict[str, Any] = {}
    final: list[str] = []
    for side in (TARGET, SOURCE):
        at = side_of(session, name, definition, side)
        with at.log.view() as committed:  # what would be refused in the middle is refused before anything is there
            _request(name, definition, side, NOBODYS).check(committed.state)
            group = group_row(committed.state, at.resource, at.group)
            filters[side] = group.get("filter", ALL)
            final += [at.resource] if group["semantics"] == AT_MOST_ONCE else []
    if filters[SOURCE] != filters[TARGET]:
        raise GenerationConflict(
            f"The groups of switch {name} have different filters, {filters[SOURCE]} and {filters[TARGET]}: "
            "what one leaves out would be finished for the other.",
            hint="Attach groups that were made with the same --filter.",
            switch=name,
        )
    if len(final) == 1:
        raise GenerationConflict(
            f"Of the groups of switch {name} only that of {final[0]} is {AT_MOST_ONCE}: what its consumer counts on to "
            "come again would be lost there.",
            hint="Attach groups that were made with the same --semantics.",
            switch=name,
        )
    made: Switched = run_request(session.control, CreateSwitch(name, definition), dry_run)
    if dry_run:
        return made._replace(changed=phase_of(made.row) == ATTACHING)
    if phase_of(made.row) != ATTACHING:
        return made
    point("switching.created")
    for side in (TARGET, SOURCE):
        side_of(session, name, made.row, side).log.append(_request(name, made.row, side, made.row["generation"]))
        point("switching.tied")
    row = session.control.append(EndAttach(name, made.row["generation"])).answer.row
    point("switching.attached")
    return Switched(True, row)


def _request(name: str, row: Mapping[str, Any], side: str, generation: int) -> AttachGroup:
    return AttachGroup(row[side]["resource"], row[side]["group"], name, side, row["match"], generation)


def detach(session: Session, name: str, *, dry_run: bool = False) -> dict[str, Any]:
    """Frees both groups and lets go of the switch; returns its last row."""
    row = (row_of if dry_run else settled_row)(session, name)
    if is_of_tables(row):
        return detach_tables(session, name, row, dry_run=dry_run)
    _pass_owed(session, name, row)
    answer: Switched = run_request(session.control, BeginDetach(name, row["generation"]), dry_run)
    row = answer.row
    if dry_run:
        return row
    point("switching.detaching")
    for side in (other(row["side"]), row["side"]):
        at = side_of(session, name, row, side)
        at.log.append(DetachGroup(*at.place, row["generation"], paused=side != row["side"]))
        point("switching.freed")
    session.control.append(DropSwitch(name, row["generation"]))
    point("switching.detached")
    return row


def _pass_owed(session: Session, name: str, row: Mapping[str, Any]) -> None:
    """Raises `Busy` (22) where the open side still owes records: without the switch they would be delivered again.

    What is owed there only gets less before the next flip, and that is another generation.
    """
    side = side_of(session, name, row, row["side"])
    count = (look(side).switch or {"owed": 0})["owed"]
    if count:
        raise Busy(
            f"{count:,} record{'s' if count > 1 else ''} that the consumer of switch {name} has finished at the other "
            f"output ha{'ve' if count > 1 else 's'} not come to {side.resource} yet: without the switch it would be "
            "given them again.",
            hint=f"Try again when `grafctl consumer status {name}` shows none that is owed.",
            switch=name,
            resource=side.resource,
            owed=count,
        )
