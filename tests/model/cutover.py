"""The cut-over of one vshard between two logs: values, and what an operator asks for next. What each entry does is in
`cutover_entries.py`.

Each log is an atomic list here, because the log itself is explored elsewhere. An operator looks, makes one request from
what it saw, and may die or sleep before the request is carried out; so every request may be old. Writers and readers
remember nothing: in each state any of them may turn up at either log, with any claim that ever was true.

Promises
- The guards are those of `cutover_guards.py`, in the words of the product.
- A row is (version, value), and a value is the number of its write, so that two rows of one version can differ.

When it fails: a fault of the model raises; what the design must never do is found by `cutover_explorer.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from model.cutover_guards import (
    DROPPING,
    GUARDS,
    MOVED,
    OPEN,
    READY,
    RECEIVING,
    RETIRED,
    Claim,
    Guards,
    Place,
)

Row = tuple[int, int] | None  # (version, number of the write)
Rows = tuple[Row, ...]  # one place for each key
Entry = tuple[int, int, int, int | None]  # index, key, version, number of the write or None for a delete
Request = tuple[Any, ...]  # kind, side, and what it counts on

KEYS = 2
NO_ROWS: Rows = (None,) * KEYS
BEFORE: Rows = ((1, -1), (2, -2))  # what the vshard holds when the migration begins


class Behaviour(NamedTuple):
    """What operators and entries do wrong; nothing, as it is."""

    moves_cursor_first: bool = False  # in a transaction of its own
    drains_short: bool = False
    flips_whatever_is_ready: bool = False
    keeps_nothing: bool = False  # the log after the opening is swept
    retires_first: bool = False
    trusts_hint: bool = False
    forgets_sequence: bool = False
    leaves_orphans: bool = False
    applies_early: bool = False  # before the base copy is whole
    copies_newer: bool = True  # False: the base copy leaves out rows that were written since, for the log has them
    drops_uncancelled: bool = False  # the copy goes before the source says so
    hurries: bool = False  # migrates to where an old copy is still being taken away
    unreadies: bool = False  # a batch of nothing makes a ready copy one that is still receiving
    only_goes_on: bool = False  # a batch that comes late leaves the place where it goes on
    asks_nobody: bool = False  # an operation is tried again at the owner, though a log before it may have it


class Setting(NamedTuple):
    """What is explored."""

    name: str
    wishes: tuple[str, ...] = ("migrate", "finish")
    writes: tuple[tuple[int, bool], ...] = ()  # key, and whether it is deleted; in this order, at any time
    operators: int = 1
    migrations: int = 1
    seals: int = 2
    has_hint: bool = False
    has_retries: bool = False  # every write may be tried again, by who did not hear the answer
    is_moved: bool = False  # begins after a completed migration
    guards: Guards = GUARDS
    behaviour: Behaviour = Behaviour()


class Side(NamedTuple):
    """One log, as far as it concerns the vshard."""

    place: Place = Place()
    rows: Rows = NO_ROWS
    sequence: int = 0
    tail: int = 0  # the next index; only entries that somebody refers to are counted
    log: tuple[Entry, ...] = ()  # the entries that are kept
    copied_to: int = 0  # sequence at the start of the migration: rows above it come with the log


class State(NamedTuple):
    """Everything; `truth` and `top` are what the writers were told."""

    sides: tuple[Side, Side]
    truth: Rows = BEFORE
    top: int = 2  # the newest version
    is_over: bool = False  # the budget of the seal
    pending: tuple[Request | None, ...] = ()  # one for each operator
    claims: frozenset[tuple[int, Claim]] = frozenset()  # every flip there was: to which side, and its claim
    hint: tuple[int, int] = (0, 1)  # side, generation
    written: int = 0
    done: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())  # which writes each log has taken
    migrations: int = 0
    seals: int = 0
    wrong: str = ""


def first_state(setting: Setting) -> State:
    """Returns where it begins: the vshard at home, or moved once, with its way back and the old copy at home."""
    pending = (None,) * setting.operators
    if not setting.is_moved:
        return State((Side(Place(OPEN, 1), BEFORE, 2), Side()), pending=pending)
    home = Side(Place(MOVED, 2, 1), BEFORE, 2, 2)
    part = Side(Place(OPEN, 2, 1, keeps=0), BEFORE, 2)
    return State((home, part), pending=pending, claims=frozenset({(1, Claim(1, 2))}))


# --- what an operator asks for next


def wanted(setting: Setting, state: State, wish: str) -> list[Request]:
    """Returns the requests that an operator with this wish may make from what it sees; the first is the way on."""
    source = next((at for at, side in enumerate(state.sides) if side.place.outgoing is not None), None)
    if source is not None:
        mid = state.sides[source].place.outgoing
        if wish == "cancel" and setting.behaviour.drops_uncancelled and _is_copy(state.sides[1 - source].place):
            return [("drop", 1 - source, mid)]
        if wish == "cancel":
            return [("cancel", source, mid)]
        return _go_on(setting, state, source) if wish == "finish" else []
    winner = next((at for at in (0, 1) if _won(setting, state, at)), None)
    orphan = next((at for at, side in enumerate(state.sides) if _is_copy(side.place) and at != winner), None)
    if orphan is not None and not setting.behaviour.leaves_orphans:
        return [("drop", orphan, state.sides[orphan].place.incoming)] if wish in ("finish", "cancel") else []
    if winner is not None:
        lost = state.sides[1 - winner].place
        return [("open", winner, Claim(lost.token or 0, lost.generation))]
    return _with_owner(setting, state, wish)


def _is_copy(place: Place) -> bool:
    return place.state in (RECEIVING, READY, DROPPING)


def _won(setting: Setting, state: State, at: int) -> bool:
    """Returns whether this copy is the owner since the flip, by the source's row, and not open yet."""
    here, other = state.sides[at].place, state.sides[1 - at].place
    return other.state == MOVED and setting.guards.may_open(here, Claim(other.token or 0, other.generation))


def _with_owner(setting: Setting, state: State, wish: str) -> list[Request]:
    """Returns the requests while no migration is under way."""
    owner = next((at for at, side in enumerate(state.sides) if side.place.state == OPEN), None)
    if owner is None:
        return []
    here, other = state.sides[owner].place, state.sides[1 - owner]
    is_old = other.place.state == MOVED or (other.place.state == RETIRED and other.rows != NO_ROWS)
    is_ahead = setting.behaviour.hurries and other.place.state == RETIRED
    if wish == "migrate" and setting.guards.may_migrate(here) and (is_ahead or not is_old):
        return [("migrate", owner)]
    if wish == "reverse" and setting.guards.may_reverse(here):
        return [("reverse", owner)]
    if wish == "retire" and is_old and (here.keeps is None or setting.behaviour.retires_first):
        return [("retire", 1 - owner, other.place.generation)]
    if wish == "retire" and here.keeps is not None:
        return [("give up way back", owner, here.generation)]
    if wish == "finish" and setting.has_hint and state.hint[1] < here.generation:
        return [("point", owner, here.generation)]
    return []


def _go_on(setting: Setting, state: State, source: int) -> list[Request]:
    """Returns the next steps of the migration away from `source`."""
    side, copy = state.sides[source], state.sides[1 - source]
    here, there, target = side.place, copy.place, 1 - source
    mid, behaviour = here.outgoing, setting.behaviour
    if there.incoming != mid or there.generation != here.generation + 1 or there.state == DROPPING:
        if _is_copy(there):
            return [("drop", target, there.incoming)]
        if here.keeps is not None:
            return [("receive back", target, mid, here.keeps, here.generation)]
        return [("receive", target, mid, here.generation + 1)]
    rest = tuple(entry for entry in side.log if entry[0] >= there.applied)
    steps: list[Request] = []
    if not there.is_copied:
        row = side.rows[there.cursor]
        if not behaviour.copies_newer and row is not None and row[0] > side.copied_to:
            row = None
        steps.append(("copy", target, mid, there.cursor, row))
        if not behaviour.applies_early:
            return steps
    if here.state == OPEN:
        steps += [("apply", target, mid, there.applied, rest[:1], rest[0][0] + 1, None, 0)] if rest else []
        return [*steps, ("seal", source, mid)] if there.is_copied else steps
    if there.state == READY and (there.token == here.token or behaviour.flips_whatever_is_ready):
        # Nobody looks at both logs at once: who saw the source before its seal, and the copy now, goes on catching up.
        return [("flip", source, here.token), ("apply", target, mid, there.applied, (), there.applied, None, 0)]
    rest = rest[:-1] if behaviour.drains_short else rest
    return [*steps, ("apply", target, mid, there.applied, rest, (here.token or 0) + 1, here.token, side.sequence)]
