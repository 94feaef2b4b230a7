"""Locking a switch in: judged once more, and then what was kept for the way back is let go of.

When it fails: a switch that is locked stays so; the same command lets go of what is still kept.
"""

from __future__ import annotations

from grafctl.store.driver.kill import point
from grafctl.store.operations.switching.soaking import Judge, regression, take_back
from grafctl.store.operations.switching.work import side_of
from grafctl.store.resources.switched import LockGroup
from grafctl.store.resources.switches import pass_ended
from grafctl.store.session import Session
from grafctl.store.switch_rules import SIDES, is_of_tables
from grafctl.typed import Any, Mapping


def judge_before_lock(
    session: Session, name: str, row: dict[str, Any], domain: str, *, drain_ms: int, dry_run: bool = False
) -> None:
    """Raises `ProofRequired` (19) where a rule of the switch is broken now, after it took the consumer back, and `Busy`
    (22) where that cannot be said yet."""
    found = Judge(session, name, row, domain, dry_run=dry_run).judge()
    if found.sentences and dry_run:
        raise regression(name, row, found, "would be taken back")
    if found.sentences:
        raise take_back(session, name, row, found, domain, drain_ms=drain_ms)
    pass_ended(name, found.shadow)


def let_go(session: Session, name: str, row: Mapping[str, Any]) -> None:
    """Lets retention of both outputs have what was kept for the way back."""
    point("switching.locked")
    for side in () if is_of_tables(row) else SIDES:
        at = side_of(session, name, row, side)
        at.log.append(LockGroup(*at.place, row["generation"]))
    point("switching.let_go")
