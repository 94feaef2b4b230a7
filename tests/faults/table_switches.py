"""A group that reads a table through a switch while its operator is killed: the deeds, and what must hold after.

Each table says of each row which one it is, so that a reader sees where it was led.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grafctl.client as client
from grafctl.errors import Fenced, NotFound
from grafctl.store.operations.switching.work import row_of
from grafctl.store.operations.tables import Item
from grafctl.store.switch_rules import SIDES

Say = Callable[..., None]
OLD, NEW, GROUP, NAME = "old", "new", "billing", "t"
DOMAINS = ("a", "b")
KEYS = [b"k%d" % number for number in range(6)]

_TIE: dict[str, Any] = {"source": OLD, "target": NEW, "group": GROUP, "window_ms": 0, "fields": ["n"]}
_AT: dict[str, Any] = {"domain": "a"}


def _verb(verb: str, **about: Any) -> Callable[..., None]:
    def deed(store: Path, say: Say) -> None:
        with client.open(store) as opened:
            say(changed=getattr(opened.switches, verb)(NAME, **about).changed)
            say(read=read(opened))

    return deed


def read_on(store: Path, say: Say) -> None:
    """Reads until it is killed, and says what it was given; who asks for the newest is answered after each `say`."""
    with client.open(store) as opened:
        while True:
            say(begins=True)
            say(read=read(opened))


DEEDS: dict[str, Callable[..., None]] = {
    "table_attach": _verb("attach", **_TIE),
    "table_target": _verb("switch", to="target", **_AT),
    "table_back": _verb("rollback", **_AT),
    "table_lock": _verb("lock", **_AT),
    "table_detach": _verb("detach"),
    "table_read": read_on,
}


# --- the stores it begins in


def made(store: Path) -> None:
    client.create(store, dict.fromkeys(DOMAINS))
    with client.open(store) as opened:
        for name in (OLD, NEW):
            how: dict[str, Any] = {"replicas": [f"r{domain}={domain}" for domain in DOMAINS], "vshards": 4}
            opened.tables.create(name, allow=list(DOMAINS), **how)
            items = [Item(key, b'{"n":%d,"of":"%s"}' % (at, name.encode())) for at, key in enumerate(KEYS)]
            opened.tables.put_many(name, items, domain="a")


def attached(store: Path) -> None:
    made(store)
    with client.open(store) as opened:
        opened.switches.attach(NAME, **_TIE)


def switched(store: Path) -> None:
    attached(store)
    with client.open(store) as opened:
        opened.switches.switch(NAME, "target", **_AT)


def locked(store: Path) -> None:
    switched(store)
    with client.open(store) as opened:
        opened.switches.lock(NAME, **_AT)


STAGES = {"made": made, "attached": attached, "switched": switched, "locked": locked}
# verb -> the stage that it begins in, and what a reader is given before and after it; None: it is refused
VERBS: dict[str, tuple[str, str, str | None]] = {
    "table_attach": ("made", OLD, OLD),
    "table_target": ("attached", OLD, NEW),
    "table_back": ("switched", NEW, OLD),
    "table_lock": ("switched", NEW, NEW),
    "table_detach": ("locked", NEW, None),
}


# --- what must hold


def read(opened: client.Store) -> str | None:
    """Returns which table a reader is given that names the source, None where he is refused."""
    try:
        rows = opened.tables.get_many(OLD, KEYS, domain="b", group=GROUP)
    except Fenced:
        return None
    tables = {OLD if row is not None and b'"of":"old"' in row.value else NEW for row in rows}
    assert len(tables) == 1 and all(rows), f"rows of {tables}: {rows}"
    return tables.pop()


def wrong(opened: client.Store) -> Iterator[str]:
    """Yields what does not hold whenever somebody died."""
    given = read(opened)
    try:
        row = row_of(opened.session, NAME)
    except NotFound:
        row = None
    if row is not None:
        place = row[row["side"]]["resource"]
        if given != place:
            yield f"{given} was read, and the switch is at {place}"
        flip = row["flips"][-1] if row["flips"] else {"generation": row["generation"], "side": SIDES[0]}
        if (flip["generation"], flip["side"]) != (row["generation"], row["side"]):
            yield f"the last flip is {flip}, of a row at {row['generation']} {row['side']}"
    for finding in opened.verify():
        yield f"verify: {finding.where}: {finding.problem}"
