"""What the logs of a table say of its vshards, those of its parts too."""

from __future__ import annotations

from grafctl.errors import NoQuorum
from grafctl.store import vshard_keys
from grafctl.store.checked import checked
from grafctl.store.operations.moving.situation import parts_of
from grafctl.store.records import parse_json
from grafctl.store.replica.state import State
from grafctl.store.resources.table_check import owners_of
from grafctl.store.session import Session
from grafctl.typed import Any, Sequence

Rows = dict[str, dict[int, dict[str, Any]]]


def rows_of_parts(
    session: Session, logs: Sequence[str], away: dict[str, str] | None = None, *, newest: bool = False
) -> Rows:
    """Returns what each log of a table says of vshards: {log: {vshard: row}}; with `newest` all that was acknowledged.

    One that cannot be read is left out where `away` takes the reason, else it is raised.
    """
    rows: Rows = {}
    for part in logs:
        try:
            if newest:
                rows[part] = checked(session.resource(part), _rows, newest=True)
            else:
                with session.state(part) as state:
                    rows[part] = _rows(state)
        except NoQuorum as error:
            if away is None:
                raise
            away[part] = error.message
    return rows


def _rows(state: State) -> dict[int, dict[str, Any]]:
    scanned = state.scan(vshard_keys.vshards())
    return {vshard_keys.parse_vshard(key): parse_json(body) for key, body in scanned}


def vshard_rows(
    session: Session, table: str, away: dict[str, str] | None = None, *, newest: bool = False
) -> dict[int, dict[str, Any]]:
    """Returns the row of each vshard that was ever used, from the log that owns it, with `part` in it; `away` and
    `newest` are as `rows_of_parts` takes them."""
    rows = rows_of_parts(session, parts_of(session, table), away, newest=newest)
    found: dict[int, dict[str, Any]] = {}
    for number in sorted({number for here in rows.values() for number in here}):
        owners = [{**rows[part][number], "part": part} for part in owners_of(rows, number)]
        if owners:  # one, unless it went from one to the other while the logs were read
            found[number] = max(owners, key=lambda row: int(row["generation"]))
    return found
