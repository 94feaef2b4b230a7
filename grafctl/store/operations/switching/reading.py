"""Reads of a table by a group that may be attached to a switch: they go to the side that is the open one.

Promises
- What is returned is of the table that was the open side at one moment during the read: the switch is looked at after
  it too, and where it was flipped meanwhile the other table is read. So once a flip is answered, nobody is given what
  the other side has.
- A scan is of one table from its first row to its last; where the switch is flipped before all rows were taken, it ends
  with that.
"""

from __future__ import annotations

from functools import partial
from itertools import chain

from grafctl.errors import Busy, GenerationConflict, GrafctlError
from grafctl.store.authority import GET as READ
from grafctl.store.checked import checked
from grafctl.store.operations import tables
from grafctl.store.resources.table_switches import Way, way_of
from grafctl.store.session import Session
from grafctl.table_results import Row
from grafctl.typed import Iterator, Sequence

_HOPS = 8  # flips during one read


def _now(session: Session, table: str, group: str) -> Way:
    with session.audited(READ, resource=table, group=group):
        return checked(session.control, partial(way_of, table=table, group=group), newest=True)


def get(
    session: Session, table: str, wanted: Sequence[bytes], *, group: str, domain: str, timeout_s: float
) -> list[Row | None]:
    """Does what `tables.get` does, at the open side; each row says which table it is of."""
    for _ in range(_HOPS):
        way = session.ways.get((table, group)) or _now(session, table, group)
        found: list[Row | None] = []
        refusal: GrafctlError | None = None
        try:
            found = tables.get(session, way.table, wanted, domain=domain, timeout_s=timeout_s)
        except GrafctlError as error:
            refusal = error
        now = session.ways[table, group] = _now(session, table, group)
        if now == way:
            if refusal is not None:
                raise refusal
            return [_told(way, row) for row in found]
    raise Busy(f"The switch of group {group} was flipped all the time.", hint="Try again.", resource=table, group=group)


def scan(session: Session, table: str, *, group: str, domain: str, prefix: bytes, vshard: int | None) -> Iterator[Row]:
    """Does what `tables.scan` does, at the open side; raises `GenerationConflict` where that changes after the first
    rows."""
    span = None if vshard is None else (vshard, vshard + 1)
    way, now = None, _now(session, table, group)
    while now != way:
        way, is_begun = now, False
        chunks = tables.scan_chunks(session, way.table, domain=domain, prefix=prefix, span=span)
        for rows in chain(chunks, [[]]):  # who takes the last ones may be slow: it is looked at behind them too
            now = _now(session, table, group)
            if now != way and is_begun:
                raise GenerationConflict(
                    f"Switch {now.switch or way.switch} was flipped while group {group} scanned {way.table}: "
                    "the rows so far are of that table.",
                    hint=f"Scan again, which begins anew with {now.table}.",
                    resource=way.table,
                    group=group,
                    switch=now.switch or way.switch,
                )
            if now != way:
                break
            is_begun = is_begun or bool(rows)
            for row in rows:
                yield row if way.switch is None else row._replace(resource=way.table)


def _told(way: Way, row: Row | None) -> Row | None:
    return row if row is None or way.switch is None else row._replace(resource=way.table)
