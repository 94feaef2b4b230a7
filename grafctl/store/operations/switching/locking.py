"""Locking a switch in: judged once more, and then what was kept for the way back is let go of.

When it fails: a switch that is locked stays so; the same command lets go of what is still kept.
"""

from __future__ import annotations

from grafctl.errors import Busy
from grafctl.store.driver.kill import point
from grafctl.store.operations.switching.soaking import Judge
from grafctl.store.operations.switching.work import side_of
from grafctl.store.resources.switched import LockGroup
from grafctl.store.session import Session
from grafctl.store.switch_rules import SIDES
from grafctl.typed import Any, Mapping


def judge_before_lock(session: Session, name: str, row: Mapping[str, Any], domain: str) -> None:
    """Raises `Busy` (22) where a rule of the switch is broken now."""
    wrong = Judge(session, name, row, domain).judge().sentences
    if wrong:
        raise Busy(
            f"Switch {name} is not locked: {' '.join(wrong)}",
            hint=f"Run `grafctl consumer rollback {name} -d {domain}`, or see `grafctl consumer report {name}`.",
            switch=name,
            broken=wrong,
        )


def let_go(session: Session, name: str, row: Mapping[str, Any]) -> None:
    """Lets retention of both outputs have what was kept for the way back."""
    point("switching.locked")
    for side in SIDES:
        at = side_of(session, name, row, side)
        at.log.append(LockGroup(*at.place, row["generation"]))
    point("switching.let_go")
