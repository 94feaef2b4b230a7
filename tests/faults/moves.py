"""A table whose vshard is moved while it is written: the deeds of an operator and a writer, and what must hold after.

The operator's own watch writes to the vshard in each phase, so that there is always something to catch up with and to
drain. Each try lives an hour after the one before: whoever comes later comes days later to a vshard that was left
sealed, and nobody has to wait for a budget that is large enough for a busy machine.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import grafctl.client as client
from faults.forks import Ran
from faults.tracing import TRIES
from grafctl import clock
from grafctl.store import vshard_keys
from grafctl.store.keys import U64
from grafctl.store.operations.moving.situation import look, parts_of, situation_of
from grafctl.store.operations.tables import Item
from grafctl.store.replica.replica import Replica
from grafctl.store.replica.state import State
from grafctl.store.resources.routes import routes_of
from grafctl.store.vshards import vshard_of

if TYPE_CHECKING:
    from faults.verdict import Ledger

Say = Callable[..., None]
TABLE, VSHARDS, MOVED = "accounts", 4, 1
TO = ("b", "c", "d")
HOUR_MS = 3_600_000
BUDGET_US = 30_000_000  # no test of kills is to depend on how busy the machine is
SMALL = "grafctl.store.operations.moving."
CHUNKS = {f"{SMALL}copying.CHUNK_ROWS": 4, f"{SMALL}replaying.BATCH_WRITES": 3, f"{SMALL}ending.DROP_ROWS": 4}


def _keys() -> dict[int, list[str]]:
    """Returns keys of each vshard: ten of the one that is moved, and two of each other."""
    found: dict[int, list[str]] = {number: [] for number in range(VSHARDS)}
    number = 0
    while any(len(own) < (10 if vshard == MOVED else 2) for vshard, own in found.items()):
        own = found[vshard_of(f"k{number}".encode(), VSHARDS)]
        own.append(f"k{number}")
        number += 1
    return {vshard: own[: 10 if vshard == MOVED else 2] for vshard, own in found.items()}


KEYS = _keys()
EARLY, LATE, DELETED, NEW, *_ = KEYS[MOVED]


# --- what is done


def make(store: Path, replicas: list[str], min_payload: int | None, ledger: Ledger) -> None:
    """A table of four vshards with something in each."""
    with client.open(store) as opened:
        _observe(opened, store)
        opened.tables.create(TABLE, replicas=replicas, min_payload=min_payload, allow=list("abcd"), vshards=VSHARDS)
        items = {key: f"first {key}" for own in KEYS.values() for key in own if key != NEW}
        written = opened.tables.put_many(TABLE, [Item(k.encode(), v.encode()) for k, v in items.items()], domain="a")
        for (key, value), done in zip(items.items(), written, strict=True):
            ledger.accounts.put(key, value, done.version)


def _observe(opened: client.Store, store: Path) -> None:
    """Says that the domains are healthy which a table may come to."""
    key = store / "watch.key"
    key.chmod(0o600)  # a store that was put together from a log of writes has no modes
    for domain in ("c", "d"):
        opened.health.observe(domain, "healthy", authority="watch", key_file=key)


def _an_hour_later(store: Path) -> int:
    """Moves the clock of this try behind that of the one before; returns its number, from 0 on."""
    with (store / TRIES).open("a") as tries:
        tries.write(".")
        number = tries.tell() - 1
    os.environ[clock.OFFSET_VARIABLE] = str(number * HOUR_MS)
    return number


class Writing:
    """Writes while it watches a migration: in the base copy, at the start of the catch-up, and before the cut-over."""

    def __init__(self, opened: client.Store, say: Say, name: str) -> None:
        self._opened, self._say, self._name = opened, say, name
        self._seen: set[str] = set()

    def __call__(self, event: dict[str, Any]) -> None:
        what, state = event["event"], event.get("state")
        if what == "progress" and state == "base_copy" and self._is_first("copying"):
            self.put(EARLY, f"{self._name} copying")
            self.put(DELETED, None)
        elif what == "state" and state == "wal_catchup" and self._is_first("catching up"):
            for number in range(3):
                self.put(NEW, f"{self._name} catching up {number}")
        elif "estimate_us" in event and "waits_for" not in event and self._is_first("draining"):
            self.put(LATE, f"{self._name} draining")
            self.put(NEW, None)

    def _is_first(self, what: str) -> bool:
        is_first = what not in self._seen
        self._seen.add(what)
        return is_first

    def put(self, key: str, value: str | None) -> None:
        self._say(tries_put=[key, value])
        item = Item(key.encode(), None if value is None else value.encode())
        (done,) = self._opened.tables.put_many(TABLE, [item], domain="b")
        self._say(put=[key, value, done.version])


def _verb(verb: str, **about: Any) -> Callable[..., None]:
    """Returns the deed of one verb of `vshard`."""

    def deed(store: Path, say: Say, vshards: Sequence[int] = (MOVED,), budget_us: int | None = BUDGET_US) -> None:
        number = _an_hour_later(store)
        given = dict(about) | ({} if verb in ("cancel", "retire") else {"budget_us": budget_us})
        with client.open(store) as opened:
            if verb == "migrate" and number:  # what was observed is too old by now for a domain that is to be added
                _observe(opened, store)
            if verb not in ("cancel", "retire"):
                given["watch"] = Writing(opened, say, f"try {number}")
            moved = getattr(opened.vshards, verb)(TABLE, list(vshards), domain="a", **given)
            say(changed=any(one.changed for one in moved), states=[one.state for one in moved])

    return deed


def table_put(store: Path, say: Say) -> None:
    """Writes one key of each vshard as another process, which knows nothing of a migration."""
    name = f"try {_an_hour_later(store)}"
    with client.open(store) as opened:
        writing = Writing(opened, say, name)
        for own in KEYS.values():
            writing.put(own[-1], f"{name} meanwhile")


def hold_lock(store: Path, say: Say, domain: str) -> None:
    """Stops while it holds the lock of a domain."""
    with client.open(store) as opened, opened.session.cluster.writing(domain, 5.0):
        os.kill(os.getpid(), signal.SIGSTOP)


DEEDS: dict[str, Callable[..., None]] = {
    "vshard_migrate": _verb("migrate", to=TO),
    "vshard_hold": _verb("migrate", to=TO, hold_cutover=True),
    "vshard_reverse": _verb("reverse"),
    "vshard_resume": _verb("resume"),
    "vshard_cutover": _verb("cutover"),
    "vshard_cancel": _verb("cancel"),
    "vshard_retire": _verb("retire"),
    "table_put": table_put,
    "hold_lock": hold_lock,
}


def note(ledger: Ledger, ran: Ran) -> None:
    """Notes what a child wrote to the table, in its order."""
    for item in ran.said:
        if "tries_put" in item:
            ledger.accounts.tries(*item["tries_put"])
        if "put" in item:
            ledger.accounts.put(*item["put"])


# --- what must hold


class Copies(NamedTuple):
    """What one log of the table holds of a vshard in one domain."""

    row: dict[str, Any] | None
    is_under_way: bool
    back: dict[str, Any] | None
    records: int
    bytes: int


def _copies_of(state: State, number: int) -> Copies:
    rows = [(vshard_keys.key_of(row), body) for row, body in state.scan(vshard_keys.table_rows(number))]
    size = sum(len(key) + len(body) - U64.size for key, body in rows)
    under_way = state.get_json(vshard_keys.migration(number)) is not None
    back = state.get_json(vshard_keys.way_back(number))
    return Copies(state.get_json(vshard_keys.vshard(number)), under_way, back, len(rows), size)


def judge(opened: client.Store, ledger: Ledger, away: frozenset[str]) -> Iterator[str]:
    """Yields what does not hold of the table, whatever became of its migrations."""
    held = _held(opened, away)
    for number in KEYS:
        yield from _owners_wrong(number, {part: held[part, domain][number] for part, domain in held})
    for (part, domain), vshards in held.items():
        for number, copies in vshards.items():
            row = copies.row or {"records": 0, "bytes": 0, "state": "absent"}
            if (row["records"], row["bytes"]) != (copies.records, copies.bytes):
                yield f"{part} in {domain} counts {row} for vshard {number} and holds {copies}"
            is_first = part == TABLE and row["state"] == "open" and row["generation"] == 1
            if number != MOVED and not is_first and (copies.row is not None or copies.records):
                yield f"{part} in {domain} has vshard {number}, which nobody moved: {copies}"
    for domain in sorted(set("abcd") - away):
        found = {
            row.key.decode(): (row.value.decode(), row.version) for row in opened.tables.scan(TABLE, domain=domain)
        }
        yield from (f"a scan in {domain}: {item}" for item in ledger.accounts.wrong(found))
        keys = list(ledger.accounts.written)
        rows = opened.tables.get_many(TABLE, [key.encode() for key in keys], domain=domain)
        told = {r.key.decode(): (r.value.decode(), r.version) for r in rows if r is not None}
        if told != found:
            yield f"in {domain}, keys that are read are {told}, and a scan shows {found}"


def _held(opened: client.Store, away: frozenset[str]) -> dict[tuple[str, str], dict[int, Copies]]:
    """Returns what each log of the table holds, in each domain, from that domain's own bytes."""
    from faults.verdict import payload_domains

    held = {}
    for part in parts_of(opened.session, TABLE):
        log = opened.session.resource(part)
        log.settle()
        for domain in payload_domains(log, away):
            if domain not in away:
                with opened.session.cluster.environment(domain).read() as view:
                    state = log.scope(Replica(view, log.id, domain).state)
                    held[part, domain] = {number: _copies_of(state, number) for number in KEYS}
    return held


def _owners_wrong(number: int, logs: dict[str, Copies]) -> Iterator[str]:
    """Yields where a vshard has no owner, or two; what was given away and not opened yet is the target's."""
    states = {part: "absent" if each.row is None else each.row["state"] for part, each in logs.items()}
    if states[TABLE] == "absent":
        states[TABLE] = "open"
    if len([part for part, state in states.items() if state in ("open", "sealed")]) > 1:
        yield f"vshard {number} has two owners: {states}"
    if not any(state in ("open", "sealed", "ready") for state in states.values()):
        yield f"vshard {number} has no owner: {states}"


def ended(opened: client.Store, how: str, *, kept: bool) -> Iterator[str]:
    """Yields what does not hold once a migration is over: `there`, `here` (never moved, or brought back)."""
    found = situation_of(opened.session, TABLE, MOVED)
    part = TABLE if how == "here" else f"{TABLE}.part-1"
    if found.migration is not None or found.owner.part != part or (found.owner.row or {})["state"] != "open":
        yield f"vshard {MOVED} is not at rest in {part}: {found}"
        return
    others = [look(opened.session.resource(name), name, MOVED) for name in parts_of(opened.session, TABLE)]
    for other in others:
        if other.moving is not None:
            yield f"{other.part} has a migration under way: {other.moving}"
    copies = [other for other in others if other.part != part and other.row is not None and other.row["records"]]
    back = found.owner.back
    if kept and (back is None or [copy.part for copy in copies] != [back["to"]]):
        yield f"vshard {MOVED} has no way back: {found}"
    if not kept and (back is not None or copies):
        yield f"something is left of a copy: {back} {copies}"
    with opened.session.control.view() as committed:
        route = routes_of(committed.state, TABLE).get(MOVED)
    there = (TABLE, 1) if route is None else (route.part, route.generation)
    if there != (part, (found.owner.row or {})["generation"]):
        yield f"the route of vshard {MOVED} is {there}, and it is in {found.owner}"
