"""What the entries of a cut-over do to the two logs of the model: each returns the state after it, or None where a
guard refuses it.

Promises
- An entry is one step: whatever it changes in its log changes at once, and nothing in the other log.

When it fails: a step that must never be possible leaves its sentence in `State.wrong`.
"""

from __future__ import annotations

from typing import Any

from model.cutover import KEYS, NO_ROWS, Entry, Request, Row, Rows, Setting, Side, State
from model.cutover_guards import DROPPING, MOVED, OPEN, READY, RECEIVING, RETIRED, SEALED, Claim, Place


def carried_out(setting: Setting, state: State, request: Request) -> tuple[State, Request | None] | None:
    """Returns the state after a request, and what the same operator does next without looking; or None: refused."""
    kind, at, *given = request
    if kind == "point":
        if not setting.guards.may_point(state.hint[1], *given):
            return None
        wrong = "HINT the route went back to an older generation" if given[0] < state.hint[1] else state.wrong
        return state._replace(hint=(at, given[0]), wrong=wrong), None
    if kind == "copy" and setting.behaviour.moves_cursor_first:
        mid, cursor, row = given
        after = _copy(setting, state, at, mid, cursor, None)
        return (after, ("rows", at, mid, cursor, row)) if after else None
    after = EFFECTS[kind](setting, state, at, *given)
    return (after, None) if after else None


def with_side(state: State, at: int, side: Side, **changes: Any) -> State:
    """Returns the state with another log."""
    sides = (side, state.sides[1]) if at == 0 else (state.sides[0], side)
    return state._replace(sides=sides, **changes)


def put(
    setting: Setting, state: State, at: int, claim: Claim | None, key: int, is_delete: bool, again: int = 0
) -> State | None:
    """Returns the state after a write, which is acknowledged as soon as it is in the log; or after the same again."""
    side = state.sides[at]
    is_pointed = setting.behaviour.trusts_hint and state.hint[0] == at
    if not is_pointed and not setting.guards.may_put(side.place, claim):
        return None
    number = again or state.written + 1
    if again in state.done[at] or (again in state.done[1 - at] and not setting.behaviour.asks_nobody):
        return None  # answered as before, and nothing is written
    if side.place.state == READY:
        side = _opened(side)
    if setting.has_retries:
        done = tuple(known | {number} if place == at else known for place, known in enumerate(state.done))
        state = state._replace(done=(done[0], done[1]))
    state = state._replace(written=max(state.written, number))
    if is_delete and side.rows[key] is None:
        return with_side(state, at, side)
    version, wrong = side.sequence + 1, state.wrong
    if version <= state.top:
        wrong = f"VERSION {version} is given again, {state.top} was there"
    if again:
        wrong = f"TWICE write {again} was made at both logs"
    row = None if is_delete else (version, number)
    keeps = side.place.outgoing is not None or (side.place.keeps is not None and not setting.behaviour.keeps_nothing)
    log = (*side.log, (side.tail, key, version, None if is_delete else number)) if keeps else side.log
    side = side._replace(rows=_with(side.rows, key, row), sequence=version, tail=side.tail + 1, log=log)
    return with_side(state, at, side, truth=_with(state.truth, key, row), top=version, wrong=wrong)


def _with(rows: Rows, key: int, row: Row) -> Rows:
    return (*rows[:key], row, *rows[key + 1 :])


def _opened(side: Side) -> Side:
    place = side.place._replace(state=OPEN, token=None, incoming=None, keeps=side.tail, is_back=False, applied=0)
    return side._replace(place=place._replace(cursor=0, is_copied=False), log=())


def _open(setting: Setting, state: State, at: int, claim: Claim) -> State | None:
    side = state.sides[at]
    return with_side(state, at, _opened(side)) if setting.guards.may_open(side.place, claim) else None


def _migrate(setting: Setting, state: State, at: int) -> State | None:
    side = state.sides[at]
    if not setting.guards.may_migrate(side.place) or state.migrations == setting.migrations:
        return None
    place = side.place._replace(outgoing=side.tail)
    after = side._replace(place=place, tail=side.tail + 1, log=(), copied_to=side.sequence)
    return with_side(state, at, after, migrations=state.migrations + 1)


def _reverse(setting: Setting, state: State, at: int) -> State | None:
    side = state.sides[at]
    if not setting.guards.may_reverse(side.place) or state.migrations == setting.migrations:
        return None
    after = side._replace(place=side.place._replace(outgoing=side.tail), tail=side.tail + 1)
    return with_side(state, at, after, migrations=state.migrations + 1)


def _receive(setting: Setting, state: State, at: int, mid: int, generation: int) -> State | None:
    side = state.sides[at]
    if not setting.guards.may_receive(side.place, is_empty=side.rows == NO_ROWS):
        return None
    return with_side(state, at, side._replace(place=Place(RECEIVING, generation, None, None, mid, applied=mid)))


def _receive_back(setting: Setting, state: State, at: int, mid: int, since: int, generation: int) -> State | None:
    side = state.sides[at]
    if not setting.guards.may_receive_back(side.place, generation):
        return None
    place = Place(RECEIVING, generation + 1, None, None, mid, KEYS, True, since, None, True)
    return with_side(state, at, side._replace(place=place))


def _copy(setting: Setting, state: State, at: int, mid: int, cursor: int, row: Row) -> State | None:
    side = state.sides[at]
    if not setting.guards.may_copy(side.place, mid, cursor):
        return None
    place = side.place._replace(cursor=cursor + 1, is_copied=cursor + 1 == KEYS)
    rows, wrong = _written(setting, side.rows, cursor, row[0], row) if row else (side.rows, "")
    return with_side(state, at, side._replace(place=place, rows=rows), wrong=state.wrong or wrong)


def _rows(setting: Setting, state: State, at: int, mid: int, key: int, row: Row) -> State | None:
    """Writes the row of a chunk whose cursor was moved before: what a mutant does in two transactions."""
    side = state.sides[at]
    if side.place.incoming != mid or not row:
        return None
    rows, wrong = _written(setting, side.rows, key, row[0], row)
    return with_side(state, at, side._replace(rows=rows), wrong=state.wrong or wrong)


def _written(setting: Setting, rows: Rows, key: int, version: int, row: Row) -> tuple[Rows, str]:
    """Returns the rows of a copy after one of the source was written over them."""
    there = rows[key]
    if not setting.guards.is_newer(version, there[0] if there else 0):
        return rows, ""
    return _with(rows, key, row), "BACK a row of the copy became an older one" if there and version < there[0] else ""


def _apply(
    setting: Setting,
    state: State,
    at: int,
    mid: int,
    applied: int,
    entries: tuple[Entry, ...],
    next_applied: int,
    token: int | None,
    sequence: int,
) -> State | None:
    """Applies entries of the source; with a token, they are the drained rest, and the copy is ready under it."""
    side, wrong = state.sides[at], state.wrong
    if not setting.guards.may_apply(side.place, mid, applied):
        return None
    if not entries and token is None and not setting.behaviour.unreadies:
        return with_side(state, at, side._replace(place=side.place._replace(applied=next_applied)))
    rows = side.rows
    for _, key, version, number in entries:
        rows, back = _written(setting, rows, key, version, None if number is None else (version, number))
        wrong = wrong or back
    if setting.behaviour.only_goes_on:
        next_applied = max(next_applied, side.place.applied)
    place = side.place._replace(applied=next_applied, state=READY if token is not None else RECEIVING, token=token)
    sequence = side.sequence if token is None or setting.behaviour.forgets_sequence else sequence
    return with_side(state, at, side._replace(place=place, rows=rows, sequence=sequence), wrong=wrong)


def _seal(setting: Setting, state: State, at: int, mid: int) -> State | None:
    side = state.sides[at]
    if not setting.guards.may_seal(side.place, mid) or state.seals == setting.seals:
        return None
    wrong = "BUDGET a seal was renewed before any writer went on" if side.place.state == SEALED else state.wrong
    after = side._replace(place=side.place._replace(state=SEALED, token=side.tail), tail=side.tail + 1)
    return with_side(state, at, after, is_over=False, seals=state.seals + 1, wrong=wrong)


def unseal(setting: Setting, state: State, at: int) -> State | None:
    """Returns the state after somebody lifted the seal."""
    side = state.sides[at]
    if not setting.guards.may_unseal(side.place, is_over=state.is_over):
        return None
    return with_side(state, at, side._replace(place=side.place._replace(state=OPEN)), is_over=False)


def _flip(setting: Setting, state: State, at: int, token: int) -> State | None:
    side, copy, wrong = state.sides[at], state.sides[1 - at], state.wrong
    if not setting.guards.may_flip(side.place, token, is_over=state.is_over):
        return None
    if side.place.state != SEALED:
        wrong = "TOKEN a flip after the seal was lifted"
    elif side.place.token != token:
        wrong = "TOKEN a flip under the token of another seal"
    elif state.is_over:
        wrong = "BUDGET a flip after the budget was over"
    elif copy.rows != side.rows:
        wrong = "FLIP to a copy that does not hold what the source holds"
    generation = side.place.generation + 1
    place = Place(MOVED, generation, side.place.token)
    claims = state.claims | {(1 - at, Claim(side.place.token or 0, generation))}
    return with_side(state, at, side._replace(place=place, log=()), claims=claims, is_over=False, wrong=wrong)


def _cancel(setting: Setting, state: State, at: int, mid: int) -> State | None:
    side = state.sides[at]
    if not setting.guards.may_cancel(side.place, mid):
        return None
    is_other = side.place.outgoing not in (None, mid)
    wrong = "OTHER a migration was cancelled that nobody named" if is_other else state.wrong
    place = side.place._replace(state=OPEN, outgoing=None)
    log = side.log if place.keeps is not None else ()
    return with_side(state, at, side._replace(place=place, log=log), is_over=False, wrong=wrong)


def _drop(setting: Setting, state: State, at: int, mid: int) -> State | None:
    """Takes one row of a copy away, and at last the copy; the copy of a way back becomes the old copy again."""
    side = state.sides[at]
    if not setting.guards.may_drop(side.place, mid):
        return None
    if side.place.is_back:
        return with_side(state, at, side._replace(place=Place(MOVED, side.place.generation - 1)))
    rows = _less(side.rows)
    place = Place() if rows == NO_ROWS else side.place._replace(state=DROPPING)
    return with_side(state, at, side._replace(place=place, rows=rows, sequence=0))


def _give_up_way_back(setting: Setting, state: State, at: int, generation: int) -> State | None:
    side = state.sides[at]
    if not setting.guards.may_give_up_way_back(side.place, generation):
        return None
    wrong = "OTHER a way back was given up that nobody named" if side.place.generation != generation else state.wrong
    return with_side(state, at, side._replace(place=side.place._replace(keeps=None), log=()), wrong=wrong)


def _retire(setting: Setting, state: State, at: int, generation: int) -> State | None:
    side = state.sides[at]
    is_gone = side.place.state == RETIRED and side.rows == NO_ROWS
    if is_gone or not setting.guards.may_retire(side.place, generation):
        return None
    after = side._replace(place=side.place._replace(state=RETIRED), rows=_less(side.rows))
    return with_side(state, at, after)


def _less(rows: Rows) -> Rows:
    """Returns the rows without the first that is there."""
    key = next((key for key, row in enumerate(rows) if row is not None), 0)
    return _with(rows, key, None)


EFFECTS: dict[str, Any] = {
    "migrate": _migrate,
    "reverse": _reverse,
    "receive": _receive,
    "receive back": _receive_back,
    "copy": _copy,
    "rows": _rows,
    "apply": _apply,
    "seal": _seal,
    "flip": _flip,
    "open": _open,
    "cancel": _cancel,
    "drop": _drop,
    "give up way back": _give_up_way_back,
    "retire": _retire,
}
