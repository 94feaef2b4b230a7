"""Switches of two tables: attached, turned and detached, each with one entry of the control log.

Promises
- Both tables have as many vshards, so they are compared vshard by vshard.
- A flip notes how many writes either table had had.

When it fails: each verb is one entry, so it was done or not; the same command again says which.
"""

from __future__ import annotations

from grafctl.errors import Usage
from grafctl.names import shown
from grafctl.store.checked import checked
from grafctl.store.driver.kill import point
from grafctl.store.operations.routing import table_of
from grafctl.store.operations.switching.work import run_request
from grafctl.store.operations.table_rows import vshard_rows
from grafctl.store.replica.state import State
from grafctl.store.resources.queue import record_of
from grafctl.store.resources.switches import Switched
from grafctl.store.resources.table import KIND, PART
from grafctl.store.resources.table_switches import FlipTables, TieTables, UntieTables
from grafctl.store.session import Session
from grafctl.store.switch_match import ID, KEY
from grafctl.store.switch_rules import OF_TABLES, SIDES, SOURCE, TARGET
from grafctl.typed import Any, Mapping


def are_tables(session: Session, definition: Mapping[str, Any]) -> bool:
    """Returns whether both outputs of a switch are tables; raises `Usage` where one is, and the other is not."""
    names = [definition[side]["resource"] for side in SIDES]

    def kinds(state: State) -> list[bool]:
        return [record_of(state, name)["kind"] in (KIND, PART) for name in names]

    found = checked(session.control, kinds)
    if found[0] != found[1]:
        table, other = names if found[0] else names[::-1]
        raise Usage(
            f"{table} is a table, and {other} is none: the outputs of a switch are of one kind.",
            hint="Name two tables, or two queues or topics.",
        )
    return found[0]


def attach_tables(session: Session, name: str, definition: Mapping[str, Any], *, dry_run: bool = False) -> Switched:
    """Makes a switch of two tables; the same again changes nothing."""
    vshards = {side: table_of(session, definition[side]["resource"]).vshards for side in SIDES}
    if vshards[SOURCE] != vshards[TARGET]:
        source, target = definition[SOURCE]["resource"], definition[TARGET]["resource"]
        raise Usage(
            f"{source} has {vshards[SOURCE]:,} vshards and {target} has {vshards[TARGET]:,}, and tables are compared "
            "vshard by vshard.",
            hint=f"Make the target with `--vshards {vshards[SOURCE]}`.",
        )
    made: Switched = run_request(session.control, TieTables(name, _checked(definition)), dry_run)
    if made.changed and not dry_run:
        point("switching.attached")
    return made


def _checked(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the definition as it is for tables; raises `Usage` where it asks for what they do not have."""
    if definition["match"] not in (ID, KEY):
        raise Usage(
            f"The rows of two tables are counterparts by their key, not by {shown(definition['match'])}.",
            hint="Leave --match out.",
        )
    others = [rule for rule in definition["rules"] if rule not in OF_TABLES]
    if others:
        flags = ", ".join(f"--{rule.removesuffix('_ms').replace('_', '-')}" for rule in others)
        raise Usage(
            f"Nothing is delivered from a table, so {flags} would say nothing of it.",
            hint="Take --max-mismatches or --health-command.",
        )
    return {**definition, "match": KEY}


def writes_of(session: Session, table: str) -> dict[int, int]:
    """Returns how many writes each vshard of a table has had, of those that were ever used."""
    return {number: int(row["seq"]) for number, row in vshard_rows(session, table, newest=True).items()}


def flip_tables(
    session: Session,
    name: str,
    row: Mapping[str, Any],
    to: str,
    *,
    why: str,
    wave: Mapping[str, Any] | None,
    soak: Mapping[str, Any],
) -> dict[str, Any]:
    """Lets the group read the other table from now on; returns the row of the switch then."""
    cursors = {side: {"writes": sum(writes_of(session, row[side]["resource"]).values())} for side in SIDES}
    flip = FlipTables(name, row["generation"], to, why, cursors, wave, soak)
    answer: Switched = session.control.append(flip).answer
    point("switching.flipped")
    return answer.row


def detach_tables(session: Session, name: str, row: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
    """Lets go of a switch of two tables; returns its last row."""
    answer: Switched = run_request(session.control, UntieTables(name, row["generation"]), dry_run)
    if not dry_run:
        point("switching.detached")
    return answer.row


def side_fields(session: Session, row: Mapping[str, Any], side: str) -> dict[str, Any]:
    """Returns what `consumer status` shows of one side."""
    place, rows = row[side], vshard_rows(session, row[side]["resource"]).values()
    sums = {field: sum(int(item[field]) for item in rows) for field in ("records", "bytes", "seq")}
    body = {"resource": place["resource"], "group": place["group"], "open": row["side"] == side}
    return body | {"records": sums["records"], "bytes": sums["bytes"], "writes": sums["seq"]}
