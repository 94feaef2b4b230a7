"""The state tables of the model: what a replica derives from its log, how an entry changes it, how a change is undone.

One resource with one record is enough to show every order of events that matters: the last value written, who was
revoked, the generation of the locator, who holds the lease of the record, and how it was finalised.

Promises
- `apply` and `undo` are inverse: undoing the pre-image that `apply` returned gives the tables from before.
- `refusal` reads nothing but the tables it is given, so the model can ask it about a replica or a prefix of a log.

When it fails: an entry of an unknown kind raises KeyError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

START, DATA, REVOKE, LEASE, EXPIRE, FINALISE, SHIFT = "START", "DATA", "REVOKE", "LEASE", "EXPIRE", "FINALISE", "SHIFT"
NO_LEASE = -1

PreImage = tuple[tuple[str, Any], ...]  # the fields that an entry changed, with the values they had


class Tables(NamedTuple):
    """The derived state of one replica at its tail."""

    value: str = ""  # key of the last DATA entry: every publish writes the same row, so that pre-images matter
    revoked: tuple[str, ...] = ()  # clients whose grant was withdrawn
    generation: int = 0
    lease: int = NO_LEASE  # the token (index of the LEASE entry) under which the one record is leased
    finalised: str = ""  # key of the FINALISE entry


NO_TABLES = Tables()
Changes = dict[str, Any]


def _revoke(tables: Tables, index: int, key: str, body: Any) -> Changes:
    return {"revoked": tuple(sorted({*tables.revoked, body}))}


CHANGES: dict[str, Callable[[Tables, int, str, Any], Changes]] = {
    START: lambda tables, index, key, body: {},
    DATA: lambda tables, index, key, body: {"value": key},
    REVOKE: _revoke,
    LEASE: lambda tables, index, key, body: {"lease": index},
    EXPIRE: lambda tables, index, key, body: {"lease": NO_LEASE},
    FINALISE: lambda tables, index, key, body: {"finalised": key, "lease": NO_LEASE},
    SHIFT: lambda tables, index, key, body: {"generation": tables.generation + 1},
}


def apply(tables: Tables, kind: str, index: int, key: str, body: Any) -> tuple[Tables, PreImage]:
    """Returns the tables after the entry at `index`, and the pre-image that undoes it."""
    changes = CHANGES[kind](tables, index, key, body)
    if not changes:
        return tables, ()
    before = tuple((field, getattr(tables, field)) for field in changes)
    return tables._replace(**changes), before


def undo(tables: Tables, before: PreImage) -> Tables:
    """Returns the tables as they were before the entry that left this pre-image."""
    return tables._replace(**dict(before)) if before else tables


def refusal(tables: Tables, kind: str, author: str, body: Any) -> str | None:
    """Returns why an operation may not follow these tables, or None: the gate that is evaluated inside APPEND."""
    if kind in (DATA, LEASE, FINALISE, SHIFT) and author in tables.revoked:
        return "denied"
    if kind in (LEASE, FINALISE) and tables.finalised:
        return "finalised"
    if kind == LEASE and tables.lease != NO_LEASE:
        return "leased"
    if kind == FINALISE and tables.lease != body:
        return "stale token"
    if kind == EXPIRE and tables.lease == NO_LEASE:
        return "nothing leased"
    if kind == SHIFT and tables.generation != body:
        return "stale proof"
    return None
