"""What ends a migration otherwise than by its flip, and what comes after it: cancel, fail, retire.

When it fails: a cancelled migration keeps its record at the source until the copy is gone, and the same command goes
on. A retired copy is refused to readers from its first step on, since the vshard is open elsewhere.
"""

from __future__ import annotations

from typing import Any

from grafctl.errors import GrafctlError
from grafctl.store.driver.kill import point
from grafctl.store.log import Log
from grafctl.store.operations.moving.situation import Here
from grafctl.store.resources.moving import CANCELLING, FAILED, Abandon, ForgetWayBack, Place
from grafctl.store.resources.receiving import Drop
from grafctl.store.resources.table import MOVED, Caller
from grafctl.store.session import Session

DROP_ROWS = 10_000


def drop(log: Log, place: Place, token: int | None = None) -> None:
    """Deletes the rows of a copy, some thousands at a time."""
    while log.append(Drop(place, DROP_ROWS, token)).answer:
        point("moving.dropped")


def cancel(session: Session, place: Place, source: str, record: dict[str, Any]) -> None:
    """Ends a migration before its flip, and removes what was copied; raises where it was flipped meanwhile."""
    log = session.resource(source)
    if record["state"] != CANCELLING:
        log.append(Abandon(place, CANCELLING))
    point("moving.cancelling")
    drop(session.resource(record["to"]), place)
    point("moving.emptied")
    log.append(Abandon(place, None))


def note_failure(log: Log, place: Place, error: GrafctlError) -> None:
    """Keeps why a migration failed, for whoever looks at it; it is cancelled next."""
    log.append(Abandon(place, FAILED, error.message))


def retire(session: Session, place: Place, owner: Here, kept: Here | None, caller: Caller) -> bool:
    """Gives up the way back of a vshard and deletes its old copy; returns whether anything was left to do."""
    back = session.resource(owner.part).append(ForgetWayBack(place, caller)).answer
    point("moving.forgotten")
    if kept is not None and kept.row is not None and kept.row["state"] == MOVED:
        drop(session.resource(kept.part), place, kept.row["token"])
        return True
    return back is not None
