"""What a stream of records comes to at its end, where that is an exit code of its own.

Promises
- Nothing is raised before everything was written: these are asked when the last line is out.
"""

from __future__ import annotations

from grafctl.errors import Empty, IdempotencyConflict, SchemaMismatch
from grafctl.typed import Any

CONFLICTS_SHOWN = 100


def require_records(count: int, *, fail_empty: bool) -> None:
    """Raises `Empty` where nothing was delivered and the caller asked to be told."""
    if fail_empty and not count:
        raise Empty("Nothing was delivered.", hint="Wait for records with: grafctl poll RESOURCE --group G --wait 5s")


def require_no_conflicts(refused: list[dict[str, Any]]) -> None:
    """Raises what refused records of a stream come to at its end: `SchemaMismatch` before `IdempotencyConflict`."""
    wrong = [item for item in refused if "rule" in item]
    conflicts = [item for item in refused if "rule" not in item]
    if wrong:
        count = len(wrong)
        also = f", and {len(conflicts)} for an id that was used before with another payload" if conflicts else ""
        raise SchemaMismatch(
            f"{count} record{'s were' if count != 1 else ' was'} refused by the schema{also}.",
            hint="See what it says with: grafctl schema show ID; the other records are published.",
            mismatches=wrong[:CONFLICTS_SHOWN],
            conflicts=conflicts[:CONFLICTS_SHOWN] or None,
            refused=len(refused),
        )
    if conflicts:
        count = len(conflicts)
        raise IdempotencyConflict(
            f"{count} record{'s were' if count != 1 else ' was'} refused: the id was used before with another payload.",
            hint="See what is stored with: grafctl peek RESOURCE --offset N; the other records are published.",
            conflicts=conflicts[:CONFLICTS_SHOWN],
            refused=count,
        )
