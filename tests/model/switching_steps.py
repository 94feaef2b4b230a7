"""What the entries of a switchover do to the three logs of the model: each returns the state after it, or None where a
guard refuses it.

Promises
- An entry is one step: whatever it changes in its log changes at once, and nothing in the other logs.

When it fails: a step that must never be possible leaves its sentence in `State.wrong`.
"""

from __future__ import annotations

from typing import Any

from model.switching import Claim, Request, Setting, State
from model.switching_guards import (
    ATTACHING,
    CLOSED,
    CLOSING,
    DETACHING,
    DRAINING,
    IDLE,
    LOCKED,
    OPEN,
    ROLLED_BACK,
    SHADOW,
    SOAKING,
    SOURCE,
    SWITCHED,
    TARGET,
    Control,
    Group,
)


def carried_out(setting: Setting, state: State, request: Request) -> State | None:
    """Returns the state after a request, or None: refused."""
    kind, *given = request
    after: State | None = EFFECTS[kind](setting, state, *given)
    return after


def with_group(state: State, at: int, group: Group, **changes: Any) -> State:
    """Returns the state with another group."""
    groups = (group, state.groups[1]) if at == 0 else (state.groups[0], group)
    return state._replace(groups=groups, **changes)


# --- consumers, engines, retention


def poll(setting: Setting, state: State, at: int, generation: int | None, key: int) -> State | None:
    """Returns the state after a record was delivered, or finished because it is owed."""
    here, wrong = state.groups[at], state.wrong
    if not setting.guards.may_poll(here, generation) or not key & here.there & ~here.final:
        return None
    if here.state == DRAINING:
        wrong = "DRAIN a record was given out after the drain began"
    if here.owed & key and generation is not None and not setting.behaviour.delivers_owed:
        return with_group(state, at, here._replace(final=here.final | key, owed=here.owed & ~key), wrong=wrong)
    return with_group(state, at, here._replace(given=here.given | key), wrong=wrong)


def ack(setting: Setting, state: State, at: int, key: int) -> State | None:
    """Returns the state after a consumer finished what it was given; it may have been given long ago."""
    here, wrong = state.groups[at], state.wrong
    if not setting.guards.may_ack(here) or not key & here.given & ~here.final:
        return None
    by = (state.by[0] | key, state.by[1]) if at == 0 else (state.by[0], state.by[1] | key)
    if here.state == CLOSED:
        wrong = "FROZEN a closed group finished a record"
    elif by[0] & by[1]:
        wrong = "TWICE consumers finished a record at both sides"
    return with_group(state, at, here._replace(final=here.final | key), by=by, wrong=wrong)


def write(state: State, at: int, key: int) -> State:
    """Returns the state after an engine wrote a record late."""
    here = state.groups[at]
    return with_group(state, at, here._replace(there=here.there | key))


def let_go(setting: Setting, state: State, at: int, key: int) -> State | None:
    """Returns the state after retention let go of a record."""
    here = state.groups[at]
    if key & here.gone or not setting.guards.may_let_go(here, key):
        return None
    return with_group(state, at, here._replace(gone=here.gone | key, given=here.given & ~key))


# --- the control row


def _begin(setting: Setting, state: State, generation: int) -> State | None:
    row = state.control
    if not setting.guards.may_begin(row, generation) or row.generation >= setting.generations:
        return None
    return _changed(state, generation, row._replace(phase=CLOSING))


def _changed(state: State, generation: int, row: Control) -> State:
    """Returns the state with another row of the same generation."""
    wrong = state.wrong
    if generation != state.control.generation:
        wrong = "OTHER a request was carried out at another generation than it was made for"
    return state._replace(control=row, is_over=False, wrong=wrong)


def _flip(setting: Setting, state: State, generation: int) -> State | None:
    row = state.control
    if not setting.guards.may_flip(row, generation):
        return None
    to = 1 - row.side
    wrong = "LOCKED a consumer was taken back after the lock" if row.state == LOCKED else state.wrong
    return _turned(state, to, SWITCHED if to == TARGET else ROLLED_BACK, wrong)


def _turned(state: State, side: int, word: str, wrong: str) -> State:
    """Returns the state with the next generation."""
    row = state.control._replace(generation=state.control.generation + 1, side=side, state=word, phase=IDLE)
    return state._replace(control=row, claims=(*state.claims, Claim(side, row.generation)), is_over=False, wrong=wrong)


def give_up(setting: Setting, state: State, claim: Claim) -> State | None:
    """Returns the state after somebody who saw this claim gave its closing up, and goes on with its side."""
    row, wrong = state.control, state.wrong
    if not setting.guards.may_give_up(row, claim.generation, is_over=state.is_over):
        return None
    if claim.side != row.side:
        wrong = "UNDONE a giving up took a flip back"
    elif not (row.is_closing and state.is_over):
        wrong = "EARLY a closing was given up before its time"
    return _turned(state, claim.side, row.state, wrong)


def _abandon(setting: Setting, state: State, generation: int) -> State | None:
    """An operator gives up at any time."""
    claim = next(claim for claim in state.claims if claim.generation == generation)
    after = give_up(setting, state._replace(is_over=True), claim)
    if after and setting.behaviour.gives_up_silently:
        return state._replace(control=state.control._replace(phase=IDLE), is_over=False)
    return after


def _soak(setting: Setting, state: State, generation: int) -> State | None:
    row = state.control
    if not setting.guards.may_soak(row, generation):
        return None
    after = _changed(state, generation, row._replace(state=SOAKING))
    return after._replace(wrong="STATE a soak that no switch comes before") if row.side == SOURCE else after


def _lock(setting: Setting, state: State, generation: int) -> State | None:
    row = state.control
    if not setting.guards.may_lock(row, generation):
        return None
    after = _changed(state, generation, row._replace(state=LOCKED))
    return after if row.state == SOAKING else after._replace(wrong="STATE a lock without a soak")


def _retry(setting: Setting, state: State, generation: int) -> State | None:
    row = state.control
    if not setting.guards.may_retry(row, generation):
        return None
    after = _changed(state, generation, row._replace(state=SHADOW))
    return after._replace(wrong="STATE tried again at the target") if row.side == TARGET else after


def _create(setting: Setting, state: State) -> State | None:
    row = state.control
    if not setting.guards.may_create(row):
        return None
    first = 1 if setting.behaviour.starts_again else row.generation + 1
    claims = state.claims if Claim(SOURCE, first) in state.claims else (*state.claims, Claim(SOURCE, first))
    return state._replace(control=Control(first, phase=ATTACHING), claims=claims)


def _end_attach(setting: Setting, state: State, generation: int) -> State | None:
    row = state.control
    if not setting.guards.may_end_attach(row, generation):
        return None
    return _changed(state, generation, row._replace(phase=IDLE))


def _begin_detach(setting: Setting, state: State, generation: int) -> State | None:
    row = state.control
    if not setting.guards.may_detach(row, generation):
        return None
    after = _changed(state, generation, row._replace(phase=DETACHING))
    in_flight = row.state in (SWITCHED, SOAKING)
    return after._replace(wrong="STATE a switch that is in flight was taken away") if in_flight else after


def _drop(setting: Setting, state: State, generation: int) -> State | None:
    row = state.control
    if not setting.guards.may_drop(row, generation):
        return None
    return _changed(state, generation, row._replace(phase=IDLE, is_there=False))


# --- a group


def _attach(setting: Setting, state: State, at: int, generation: int) -> State | None:
    here = state.groups[at]
    if not setting.guards.may_attach(here, generation):
        return None
    first = 0 if at == TARGET and setting.behaviour.attaches_closed_at_nothing else generation
    tied = here._replace(is_attached=True, state=OPEN if at == SOURCE else CLOSED, generation=first)
    return with_group(state, at, tied)


def _free(setting: Setting, state: State, at: int, generation: int, is_open: bool) -> State | None:
    """Takes a group out of a switch; what was not open stays closed, for it does not know what comes."""
    here = state.groups[at]
    if not setting.guards.may_free(here, generation):
        return None
    wrong = "FREED a group of a switch that is there" if state.control.phase != DETACHING else state.wrong
    last = 0 if setting.behaviour.forgets_generation else generation
    word = OPEN if is_open else CLOSED
    return with_group(state, at, here._replace(is_attached=False, state=word, generation=last), wrong=wrong)


def open_group(setting: Setting, state: State, claim: Claim) -> State | None:
    """Returns the state after somebody who read this claim opened the group that it names."""
    here = state.groups[claim.side]
    if not setting.guards.may_open(here, claim.generation):
        return None
    return with_group(state, claim.side, here._replace(state=OPEN, generation=claim.generation))


def _open(setting: Setting, state: State, at: int, generation: int) -> State | None:
    return open_group(setting, state, Claim(at, generation))


def _drain(setting: Setting, state: State, at: int, generation: int) -> State | None:
    here = state.groups[at]
    if not setting.guards.may_drain(here, generation):
        return None
    return with_group(state, at, here._replace(state=DRAINING))


def _close(setting: Setting, state: State, at: int, generation: int) -> State | None:
    here = state.groups[at]
    if not setting.guards.may_close(here, generation):
        return None
    return with_group(state, at, here._replace(state=CLOSED, generation=max(here.generation, generation)))


def _carry(setting: Setting, state: State, at: int, final: int, there: int, ready: int) -> State | None:
    """Finishes what is finished at the other side, as far as it was `there`; the rest is owed with the last of it."""
    here, wrong = state.groups[at], state.wrong
    if not setting.guards.may_carry(here):
        return None
    if here.state != CLOSED:
        wrong = "MEDDLED a carry finished records of a group that is open"
    done = here.final | (final & there)
    owed = final & ~done if ready and not setting.behaviour.forgets_owed else 0
    if not setting.behaviour.replaces_owed or not ready:
        owed |= here.owed & ~done
    return with_group(state, at, here._replace(final=done, owed=owed, ready=max(here.ready, ready)), wrong=wrong)


def _keep(setting: Setting, state: State, at: int, carried: int) -> State | None:
    here = state.groups[at]
    return with_group(state, at, here._replace(carried=here.carried | carried))


EFFECTS: dict[str, Any] = {
    "begin": _begin,
    "flip": _flip,
    "give up": _abandon,
    "soak": _soak,
    "lock": _lock,
    "retry": _retry,
    "create": _create,
    "end attach": _end_attach,
    "detach": _begin_detach,
    "drop": _drop,
    "attach": _attach,
    "free": _free,
    "open": _open,
    "drain": _drain,
    "close": _close,
    "carry": _carry,
    "keep": _keep,
}
