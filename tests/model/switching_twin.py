"""The product's own decisions beside those of the model of a switchover: the control log and the logs of both groups as
rows in memory, taken through the same steps.

Promises
- A request is made of the product's rows when an operator of the model looks, and decided when it is carried out
  there; in between others go on. So it is as old in the product as it is in the model.
- After each step both agree on whether it was allowed, on the row of the switch, on which group may be polled with
  which generation and takes an ack, and on what is finished and owed at each side.
- Two differences are known: the product refuses a carry of before the other group was opened or closed again
  (`_is_known`), which the model takes, for it tells nothing but the truth; and it goes on owing what a carry finished
  meanwhile (`_owed`), which is delivered to nobody.

When it fails: `difference` returns where they part first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from resources.rows import AWS, Q, Rows, a_queue

from grafctl.errors import GrafctlError
from grafctl.store import switch_keys
from grafctl.store.blocks import Outgoing
from grafctl.store.intervals import contains
from grafctl.store.resources.carrying import CarryInto, PayOwed
from grafctl.store.resources.group import Caller, Finalise, Lease, NotOpenHere, group_row
from grafctl.store.resources.switched import (
    AttachGroup,
    CloseGroup,
    DrainGroup,
    OpenGroup,
    finished_of,
    pass_poll,
)
from grafctl.store.resources.switches import (
    BeginClosing,
    CreateSwitch,
    EndAttach,
    Flip,
    Lock,
    NoteShadow,
    StartSoak,
    switch_row,
)
from grafctl.store.switch_match import HASH_BYTES
from model.switching import Claim, Request, Setting, State, first_state, wanted
from model.switching_guards import CLOSED, CLOSING
from model.switching_steps import ack, carried_out, give_up, open_group, poll, write

NAME, GROUP, CONTROL = "s", "g", 2
SIDES = ("source", "target")
HASH = b"k" * HASH_BYTES  # of the one record
ID = "record"
LONG_MS = 1_000_000_000
SAME = {"mismatches": 0}


class Wish(NamedTuple):
    """A request of the product, and in which log it is to be decided: 0 and 1 are those of the groups."""

    at: int
    request: Any


class Twin:
    """Three logs of the product, and the requests of the operators that are on their way."""

    def __init__(self, operators: int) -> None:
        self.logs = [a_queue(), a_queue(), Rows()]
        self.pending: list[Wish | None] = [None] * operators
        self.first = 0  # the generation that is 1 in the model

    def copied(self) -> Twin:
        other = Twin.__new__(Twin)
        other.pending, other.first, other.logs = list(self.pending), self.first, []
        for log in self.logs:
            twin = Rows()
            twin.rows, twin.entries, twin.now_ms = dict(log.rows), list(log.entries), log.now_ms
            other.logs.append(twin)
        return other

    # --- looking

    @property
    def row(self) -> dict[str, Any]:
        return switch_row(self.logs[CONTROL], NAME)

    def group(self, at: int) -> dict[str, Any]:
        return group_row(self.logs[at], Q, GROUP)

    def has(self, at: int) -> bool:
        """Returns whether the record is in this output."""
        return int(self.logs[at].queue["next"]) > 0

    def final(self, at: int) -> bool:
        return contains(finished_of(self.logs[at].lineage(GROUP)), 0)

    def owed(self, at: int) -> bool:
        """What is finished here is delivered to nobody, so it does not matter whether it is owed besides."""
        return self.logs[at].get(switch_keys.owed(GROUP, HASH)) is not None and not self.final(at)

    def caller(self, generation: int | None = None) -> Caller:
        return Caller(Q, GROUP, AWS, generation=None if generation is None else self.real(generation))

    def real(self, generation: int) -> int:
        """Returns a generation of the model as it is in the product."""
        return generation + self.first - 1

    # --- changing

    def run(self, wish: Wish) -> bool:
        """Decides a request; returns whether it made an entry."""
        log = self.logs[wish.at]
        before = len(log.entries)
        request = wish.request
        if isinstance(request, BeginClosing):
            request = request._replace(until_ms=log.now_ms + 1_000)
        try:
            log.run(request)
        except GrafctlError:
            return False
        return len(log.entries) > before or isinstance(request, (BeginClosing, CarryInto))

    def publish(self, at: int) -> None:
        self.logs[at].publish(Outgoing(b"{}", ID))

    def poll(self, at: int, generation: int) -> bool:
        """Polls, and finishes what is owed instead of taking it; returns whether that was allowed."""
        log, caller = self.logs[at], self.caller(generation)
        try:
            leased = log.run(Lease(caller, 1, LONG_MS))
        except NotOpenHere:
            return False
        if leased.grants and log.get(switch_keys.owed(GROUP, HASH)) is not None:
            log.run(PayOwed(caller, NAME, {HASH: [0]}))
        return True

    def claim(self, claim: Claim) -> bool:
        return self.run(Wish(claim.side, OpenGroup(Q, GROUP, NAME, self.real(claim.generation))))

    def give_up(self, claim: Claim) -> bool:
        generation = self.real(claim.generation)
        return self.run(Wish(CONTROL, Flip(NAME, generation, SIDES[claim.side], "late", is_late=True)))

    # --- the requests of an operator, from what the product's rows say now

    def wish(self, request: Request) -> Wish:
        kind, *given = request
        row = self.row
        generation, side = row["generation"], row["side"]
        other = SIDES[1 - SIDES.index(side)]
        if kind in ("close", "drain"):
            place = (Q, GROUP, NAME, generation)
            return Wish(given[0], CloseGroup(*place) if kind == "close" else DrainGroup(*place, LONG_MS))
        if kind == "open":
            return Wish(given[0], OpenGroup(Q, GROUP, NAME, generation))
        if kind == "carry":
            return Wish(given[0], self._carry(given[0], generation))
        asked = {
            "begin": BeginClosing(NAME, generation, other, 0),
            "flip": Flip(NAME, generation, other, "flip"),
            "give up": Flip(NAME, generation, side, "given up"),
            "soak": StartSoak(NAME, generation),
            "lock": Lock(NAME, generation),
            "retry": NoteShadow(NAME, generation, SAME, begins=True),
        }
        return Wish(CONTROL, asked[kind])

    def _carry(self, at: int, generation: int) -> CarryInto:
        """Makes the request that tells this side what the other one has finished."""
        if not self.final(1 - at):
            return CarryInto(Q, GROUP, NAME, generation, [], [])
        if self.has(at):
            return CarryInto(Q, GROUP, NAME, generation, [[0, 1]], [[0, 1]])
        return CarryInto(Q, GROUP, NAME, generation, [], [[0, 1]], owed=[HASH])


def first_twin(setting: Setting) -> Twin:
    """Returns the product where the model begins: attached, and compared."""
    twin = Twin(setting.operators)
    place = [{"resource": name, "group": GROUP} for name in SIDES]
    definition: dict[str, Any] = {"source": place[0], "target": place[1], "match": "id", "compare": {"fields": []}}
    definition |= {"rules": {}, "window_ms": 0, "risk": "low", "shape": None}
    twin.logs[CONTROL].start()
    twin.logs[CONTROL].run(CreateSwitch(NAME, definition))
    twin.first = twin.row["generation"]
    for at, side in enumerate(SIDES):
        twin.logs[at].group(GROUP)
        if setting.all and not setting.late[at]:
            twin.publish(at)
        twin.logs[at].run(AttachGroup(Q, GROUP, NAME, side, "id", twin.first))
    twin.logs[CONTROL].run(EndAttach(NAME, twin.first))
    twin.logs[CONTROL].run(NoteShadow(NAME, twin.first, SAME))
    return twin


def difference(setting: Setting) -> tuple[int, str | None]:
    """Returns how many states both were in, and where they part, if they do; a setting has one record or none."""
    first = first_state(setting)
    seen = {first}
    queue: deque[tuple[State, Twin, tuple[str, ...]]] = deque([(first, first_twin(setting), ("begin",))])
    while queue:
        state, twin, trace = queue.popleft()
        for label, following, other, is_same in _steps(setting, state, twin):
            steps = (*trace, label)
            wrong = None if is_same else "the product and the model disagree on whether this may be done"
            if wrong is None and following is not None:
                wrong = _parts(setting, following, other)
            if wrong:
                return len(seen), "\n    ".join([wrong, *steps])
            if following is not None and following not in seen:
                seen.add(following)
                queue.append((following, other, steps))
    return len(seen), None


def _steps(setting: Setting, state: State, twin: Twin) -> Iterator[tuple[str, State | None, Twin, bool]]:
    """Yields each step: what the model comes to, what the product comes to, and whether both allow it or neither."""
    if state.control.is_closing and not state.is_over:
        other = twin.copied()
        other.logs[CONTROL].now_ms += 2_000
        yield "clock", state._replace(is_over=True), other, True
    for claim in state.claims:
        opened, other = open_group(setting, state, claim), twin.copied()
        yield f"open by {claim}", opened, other, other.claim(claim) == (opened is not None)
        given, other = give_up(setting, state, claim), twin.copied()
        yield f"give up by {claim}", given, other, other.give_up(claim) == (given is not None)
    yield from _records(setting, state, twin)
    for place, request in enumerate(state.pending):
        wish = twin.pending[place]
        if request is not None and wish is not None:
            if _is_known(state, request, twin, wish) or (request[0] == "begin" and not _is_left(setting, state)):
                continue
            after, other = carried_out(setting, state, request), twin.copied()
            done = other.run(wish)
            yield f"{request}", _with_pending(after or state, other, place, None, None), other, done == bool(after)
        elif request is None and (place == 0 or state.pending[place - 1] is not None):
            for chosen in (chosen for wish in setting.wishes for chosen in wanted(setting, state, wish)):
                other = twin.copied()
                yield f"ask for {chosen}", _with_pending(state, other, place, chosen, twin.wish(chosen)), other, True


def _records(setting: Setting, state: State, twin: Twin) -> Iterator[tuple[str, State | None, Twin, bool]]:
    for at, here in enumerate(state.groups if setting.all else ()):
        if not here.there:
            other = twin.copied()
            other.publish(at)
            yield f"write at {at}", write(state, at, 1), other, True
            continue
        polled = poll(setting, state, at, here.generation, 1)
        if polled and polled != state:
            other = twin.copied()
            yield f"poll at {at}", polled, other, other.poll(at, here.generation)
        acked, other = ack(setting, state, at, 1), twin.copied()
        done = other.run(Wish(at, Finalise(other.caller(), [[0, 1]])))
        yield f"ack at {at}", acked, other, done == (acked is not None)


def _is_known(state: State, request: Request, twin: Twin, wish: Wish) -> bool:
    """Returns whether this is a carry of before the group's last opening or closing, which the product refuses."""
    if request[0] != "carry" or state.groups[request[1]].state != CLOSED:
        return False
    return bool(wish.request.generation < twin.group(request[1])["switch"]["generation"])


def _is_left(setting: Setting, state: State) -> bool:
    """Returns whether the model's count of generations allows a closing; it is no matter of the product's."""
    return state.control.generation < setting.generations


def _with_pending(state: State, twin: Twin, place: int, request: Request | None, wish: Wish | None) -> State:
    """Gives an operator another request in both, which keep them in the same order."""
    pairs = list(zip(state.pending, twin.pending, strict=True))
    pairs[place] = (request, wish)
    pairs.sort(key=lambda pair: (pair[0] is None, str(pair[0])))
    twin.pending = [pair[1] for pair in pairs]
    return state._replace(pending=tuple(pair[0] for pair in pairs))


def _parts(setting: Setting, state: State, twin: Twin) -> str | None:
    """Returns what the two say differently about the switch, about who may poll, and about what is finished."""
    row, control = twin.row, state.control
    mine = (twin.real(control.generation), SIDES[control.side], control.state, control.phase == CLOSING)
    if mine != (row["generation"], row["side"], row["state"], row["phase"] is not None):
        return f"the switch is {control} and {row}"
    for at, here in enumerate(state.groups):
        for generation in (None, *(claim.generation for claim in state.claims)):
            try:
                pass_poll(twin.caller(generation), twin.group(at))
                may_poll = True
            except NotOpenHere:
                may_poll = False
            if may_poll != setting.guards.may_poll(here, generation):
                return f"side {at} is polled with {generation} in one of them: {here}, {twin.group(at)['switch']}"
        theirs = (twin.has(at), twin.final(at), twin.owed(at))
        if setting.all and theirs != (bool(here.there), bool(here.final), bool(here.owed)):
            return f"side {at} has (there, finished, owed) {theirs} in the product: {here}"
    return None
