"""What the verbs of `vshard` share: answers, refusals, several migrations at once, and a migration brought forward."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from grafctl import threads
from grafctl.errors import DomainUnavailable, GenerationConflict, GrafctlError, NoQuorum, Usage
from grafctl.nouns.parts import check_targets, domains_of, find_part
from grafctl.results import Migrated
from grafctl.store import vshard_keys
from grafctl.store.checked import checked
from grafctl.store.operations.moving.cutting_over import open_target, set_route
from grafctl.store.operations.moving.migrating import Moved, migrate
from grafctl.store.operations.moving.situation import Here, Situation, look, parts_of, situation_of
from grafctl.store.operations.moving.work import Stopped, Watch, Work
from grafctl.store.operations.routing import Table
from grafctl.store.resources.moving import Begin, Place
from grafctl.store.resources.routes import SetRoute, routes_of
from grafctl.store.resources.table import MOVED
from grafctl.store.session import Session

LOOK_UP_S = 0.1
MOVE = Callable[[int, Callable[[], bool]], Migrated]


def bring_forward(
    session: Session,
    number: int,
    begin: Begin | None,
    found: Situation,
    stopping: Callable[[], bool],
    watch: Watch | None,
    *,
    hold_cutover: bool,
) -> Migrated:
    """Begins a migration, or takes up the one that is there, and brings it to its flip; returns how far it came."""
    is_new = False
    back: str | None = None
    if begin is not None:
        table = begin.place.table
        back = way_back(session, table, domains_of(session, found.owner.part))  # before the way forward is taken
        is_new, record = session.resource(found.owner.part).append(begin).answer
    else:
        assert found.migration is not None
        record, table = found.migration, found.migration["table"]
    work = Work(session, Place(table, number, record["id"]), found.owner.part, record, watch)
    work.is_stopping = stopping
    if is_new or begin is None:  # else somebody began it since `found`, and it is in the first state at least
        work.state = found.state
    work.tell("begun", state=found.state, to=record["to"], way_back=back)
    session.note("changed", "vshard migrate", resource=table, vshard=number, to=record["to"], reverse=record["reverse"])
    moved = migrate(work, hold_cutover=hold_cutover)
    now = situation_of(session, table, number)
    if moved.cut is not None:
        cut = {"pause_us": moved.cut.pause_us, "lag": moved.cut.lag}
        session.note("changed", "vshard flipped", resource=table, vshard=number, to=record["to"], **cut)
    told: dict[str, Any] = {"moved": moved, "record": work.record, "proof": work.proof, "back": back}
    return answer(session, table, number, now, changed=True, **told)


def finish_flip(session: Session, table: str, number: int, found: Situation) -> None:
    """Opens a vshard at its target whose operator died after the flip, and says so in the routes."""
    row = found.owner.row or {}
    record = {"to": row["to"], "generation": row["generation"] - 1, "max_lag": 0, "budget_us": 0, "lock_wait_us": 0}
    work = Work(session, Place(table, number, row["id"]), found.owner.part, record, None)
    open_target(work, row["token"])
    set_route(work)


def at_rest(session: Session, table: str, number: int, found: Situation, *, dry_run: bool = False) -> Migrated:
    """Returns the answer for a vshard that is where it was to go; it gets its route where an operator died before."""
    generation = (found.owner.row or {})["generation"]
    route = checked(session.control, lambda state: routes_of(state, table)).get(number)
    changed = (1 if route is None else route.generation) < generation
    if changed and not dry_run:
        session.control.append(SetRoute(table, number, found.owner.part, generation))
    return answer(session, table, number, found, changed=changed, dry_run=dry_run)


def answer(
    session: Session,
    table: str,
    number: int,
    found: Situation,
    *,
    changed: bool,
    state: str | None = None,
    moved: Moved | None = None,
    record: dict[str, Any] | None = None,
    proof: dict[str, Any] | None = None,
    back: str | None = None,
    dry_run: bool = False,
) -> Migrated:
    """Returns how far the migration of a vshard is."""
    row, going = found.owner.row or {}, found.migration
    more: dict[str, Any] = {"to": None if going is None else domains_of(session, going["to"]), "way_back": back}
    if moved is not None:
        more |= {"estimate_us": moved.estimate_us, "proof": proof}
        cut = moved.cut
        more |= {"lag": moved.lag} if cut is None else {"lag_at_cutover": cut.lag, "pause_us": cut.pause_us}
        more |= {} if cut is None else {"lock_wait_us": cut.lock_wait_us}
    if record is not None:
        more |= {"budget_us": record["budget_us"]}
    owner = domains_of(session, found.owner.part)
    sizes = (row["bytes"], row["records"], row["generation"])
    return Migrated(
        table, number, state or found.state, changed, *sizes, owner, found.owner.part, **more, dry_run=dry_run or None
    )


def planned(session: Session, known: Table, number: int, targets: list[str]) -> Migrated:
    """Returns what a migration to these domains would do."""
    found = situation_of(session, known.name, number)
    part = find_part(session, known.name, targets)
    row = found.owner.row or {}
    actions = []
    if found.owner.part != part:
        actions = [] if part else [f"make a part of {known.name} in {', '.join(targets)}"]
        actions += [f"copy {row['records']} records, {row['bytes']} bytes, from {found.owner.part}"]
        actions += ["apply what is written meanwhile", "prove the copy", "pause writers of this vshard and flip it"]
    owner = domains_of(session, found.owner.part)
    sizes = (row["bytes"], row["records"], row["generation"])
    return Migrated(
        known.name,
        number,
        found.state,
        bool(actions),
        *sizes,
        owner,
        found.owner.part,
        to=targets,
        way_back=way_back(session, known.name, owner),
        dry_run=True,
        actions=actions,
    )


def way_back(session: Session, table: str, domains: list[str]) -> str:
    """Returns `open` where a vshard could be brought back to these domains now, or else why not."""
    try:
        check_targets(session, table, domains)
    except DomainUnavailable as error:
        return error.message
    return "open"


def check_at_once(at_once: int) -> None:
    """Raises `Usage` where no vshard could be moved."""
    if at_once < 1:
        raise Usage("--at-once is 1 or more.")


def some_at_once(move: MOVE, vshards: list[int], at_once: int, watch: Watch | None = None) -> list[Migrated]:
    """Moves vshards, so many at a time; raises what failed first once all others are done.

    An interruption stops them between two steps, and is raised when all have stopped; a second one is raised at once.
    `watch` is told `done` with the answer of each, or `failed` with its error.
    """
    check_at_once(at_once)
    lanes = _Lanes(move, vshards, watch or (lambda event: None))
    if len(vshards) == 1:
        lanes.take(vshards[0])
    else:
        lanes.run(at_once)
    errors = [lanes.failed[number] for number in vshards if number in lanes.failed]
    for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):  # what stopped the others comes first
        if len(vshards) > 1:
            error.fields |= {"moved": sorted(lanes.done), "failed": sorted(lanes.failed)}
        raise error
    return [lanes.done[number] for number in vshards]


class _Lanes:
    """Threads that move one vshard after another."""

    def __init__(self, move: MOVE, vshards: list[int], watch: Watch) -> None:
        self._move, self._watch = move, watch
        self._waiting = list(reversed(vshards))
        self._is_stopping = False
        self._lost: BaseException | None = None
        self.done: dict[int, Migrated] = {}
        self.failed: dict[int, GrafctlError] = {}

    def take(self, number: int) -> None:
        """Moves one; only what is no error of its migration is raised."""
        try:
            self.done[number] = self._move(number, lambda: self._is_stopping)
        except GrafctlError as error:
            self.failed[number] = error
            self._watch({"event": "failed", "vshard": number, "error": error})
        else:
            self._watch({"event": "done", "vshard": number, "answer": self.done[number]})

    def _lane(self, end: Any) -> None:
        try:
            while self._waiting and not self._is_stopping:
                self.take(self._waiting.pop())
        except IndexError:  # another lane took the last one
            pass
        except BaseException as error:  # standard output is closed, for one: nobody wants the others then
            self._lost, self._is_stopping = error, True
        finally:
            end.set()

    def run(self, at_once: int) -> None:
        """Moves all; raises an interruption, or what is no error of a migration, when every lane has stopped."""
        ends: list[Any] = []
        try:
            for _ in range(min(at_once, len(self._waiting))):
                ends.append(threads.event())
                threads.start(partial(self._lane, ends[-1]))
            _wait(ends)
        except BaseException:  # Ctrl-C, SIGTERM
            self._is_stopping = True
            self._watch({"event": "stopping"})
            _wait(ends)
            raise
        if self._lost is not None:
            raise self._lost


def _wait(ends: list[Any]) -> None:
    # NB a signal that another thread got from the system does not wake up this one, so it looks up now and then.
    for end in ends:
        while not end.wait(LOOK_UP_S):
            pass


# --- what is under way


def migration_fields(session: Session, found: Situation) -> dict[str, Any] | None:
    """Returns what `vshard show` says of a migration under way."""
    record = found.migration
    if record is None:
        return None
    target = (found.other.moving if found.other is not None else None) or {}
    fields = {name: record[name] for name in ("id", "began_ms", "domain", "reverse")}
    fields |= {"to": domains_of(session, record["to"]), "part": record["to"], "beat_ms": record.get("beat_ms")}
    fields |= {"bytes": target.get("bytes", 0), "total": record["bytes"], "copied": target.get("copied", False)}
    limits = ("budget_us", "lock_wait_us", "max_lag", "rate", "policy", "throttled", "reason")
    fields |= {name: record.get(name) for name in limits}
    return {name: value for name, value in fields.items() if value is not None}


def touched(session: Session, table: str) -> list[int]:
    """Returns the vshards that are being moved, or have an old copy somewhere, as far as their logs can be read."""
    found: set[int] = set()
    for part in parts_of(session, table):
        with suppress(NoQuorum), session.state(part) as state:
            for span in (vshard_keys.migrations(), vshard_keys.ways_back()):
                found |= {vshard_keys.parse_vshard(row) for row, _ in state.scan(span)}
    return sorted(found)


def under_way(session: Session, table: str) -> list[int]:
    """Returns the vshards that are being moved."""
    found: set[int] = set()
    for part in parts_of(session, table):
        with session.state(part) as state:
            found |= {vshard_keys.parse_vshard(row) for row, _ in state.scan(vshard_keys.migrations())}
    return sorted(found)


def kept_copy(session: Session, table: str, number: int, found: Situation) -> Here | None:
    """Returns the log that still has the rows of a vshard which is open elsewhere, or None."""
    for part in parts_of(session, table):
        if part != found.owner.part:
            here = look(session.resource(part), part, number)
            if here.row is not None and here.row["state"] == MOVED:
                return here
    return None


def refused(table: str, number: int, what: str, command: str) -> GenerationConflict:
    """Returns the refusal of a verb that does not fit the state of a vshard."""
    show = f"`grafctl vshard show {table} {number}` to see how it is"
    return GenerationConflict(
        f"vshard {number} of {table} {what}.",
        hint=f"Run {show}." if command == "vshard show" else f"Run `grafctl {command} {table} {number}`, or {show}.",
        resource=table,
        vshard=number,
    )


def no_way_back(table: str, number: int) -> GenerationConflict:
    return refused(table, number, "has no way back: its old copy was retired, or there never was one", "vshard show")
