"""Comparing the two outputs of a switch, in the caller's domain, from where the last comparison stopped."""

from __future__ import annotations

from grafctl.store.operations.switching.compared import Compared, Comparer, Tell
from grafctl.store.operations.switching.comparing_records import RecordComparer
from grafctl.store.operations.switching.comparing_tables import TableComparer
from grafctl.store.session import Session
from grafctl.store.switch_rules import is_of_tables
from grafctl.typed import Any, Mapping


def comparer_of(session: Session, name: str, row: Mapping[str, Any], domain: str, **how: Any) -> Comparer:
    """Returns what compares the outputs of a switch; `how` is as `Comparer` takes it."""
    made = TableComparer if is_of_tables(row) else RecordComparer
    return made(session, name, row, domain, **how)


def compare(
    session: Session,
    name: str,
    row: Mapping[str, Any],
    domain: str,
    *,
    compare_from: str | None = None,
    begins: bool = False,
    grace_ms: int | None = None,
    tell: Tell | None = None,
    dry_run: bool = False,
) -> Compared:
    """Compares what is new in both outputs, keeps the result with `NoteShadow`, and returns all that is known.

    `row` is the switch as it was read just before, `domain` the caller's, where the records are read. With
    `compare_from` what was judged before is forgiven (`now`), or all is compared again (`start`). `begins` is handed to
    `NoteShadow`: a switch that was rolled back is tried again.
    """
    how: dict[str, Any] = {"begins": begins, "grace_ms": grace_ms, "tell": tell, "dry_run": dry_run}
    return comparer_of(session, name, row, domain, **how).run(compare_from)
