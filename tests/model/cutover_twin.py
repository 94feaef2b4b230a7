"""The product's own decisions beside those of the model: both logs as rows in memory, taken through the same steps.

Promises
- A request is made of the product's rows when an operator of the model looks, and decided when it is carried out
  there; in between others go on. So it is as old in the product as it is in the model.
- After each step both agree on whether it was allowed, on which log takes writes and answers reads under which claim,
  and on the rows that are read.
- One difference is known (`_is_known`): the product gives a copy on its way out no state of its own before the last row
  is gone. What comes late is taken there and goes with the others: nobody can flip to it any more.

When it fails: `difference` returns where they part first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from resources.rows import AWS, Rows, a_queue

from grafctl.errors import GrafctlError
from grafctl.store import vshard_keys
from grafctl.store.keys import U64
from grafctl.store.resources.moving import CANCELLING, Abandon, Begin, Flip, ForgetWayBack, Place, Seal, Unseal
from grafctl.store.resources.receiving import Copy, Drop, Open, Receive, Replay
from grafctl.store.resources.table import Ask, Caller, Claim, Put, elsewhere, numbered_writes, unwritable, vshard_row
from grafctl.store.table_block import Write
from model.cutover import KEYS, Request, Setting, State, first_state, wanted
from model.cutover_entries import carried_out, put, unseal
from model.cutover_guards import DROPPING, RETIRED, SEALED

N = 0
NAMES = ("accounts", "part")
KEY = (b"a", b"b")
FOR_EVER_S = 1e12  # on the monotonic clock: here the stamped time decides alone
Requests = list[tuple[int, Any]]  # (log, request of the product)


class Twin:
    """Two logs of the product, and the requests of the operators that are on their way."""

    def __init__(self, operators: int) -> None:
        self.logs = [
            a_queue(kind="table", name=NAMES[0], part_of=NAMES[0], vshards=1),
            a_queue(kind="part", name=NAMES[1], part_of=NAMES[0], vshards=1),
        ]
        self.claims: dict[Any, Claim] = {None: (-1, -1)}
        self.pending: list[Requests] = [[] for _ in range(operators)]

    def copied(self) -> Twin:
        other = Twin.__new__(Twin)
        other.claims, other.pending, other.logs = dict(self.claims), list(self.pending), []
        for log in self.logs:
            twin = Rows()
            twin.rows, twin.entries, twin.now_ms = dict(log.rows), list(log.entries), log.now_ms
            other.logs.append(twin)
        return other

    # --- looking

    def row(self, at: int) -> Any:
        return vshard_row(self.logs[at], self.logs[at].queue, N)

    def moving(self, at: int) -> Any:
        return self.logs[at].get_json(vshard_keys.migration(N)) or {"id": "none", "applied": 0}

    def rows(self, at: int) -> tuple[tuple[int, int] | None, ...]:
        """Returns the rows as the model has them."""
        found = [self.logs[at].get(vshard_keys.table_row(N, KEY[key])) for key in range(KEYS)]
        return tuple(None if body is None else (U64.unpack_from(body)[0], int(body[8:])) for body in found)

    # --- changing

    def run(self, at: int, request: Any) -> bool:
        """Runs a request; returns whether it made an entry."""
        before = len(self.logs[at].entries)
        try:
            self.logs[at].run(request)
        except GrafctlError:
            return False
        return len(self.logs[at].entries) > before

    def put(self, at: int, claim: Any, key: int, number: int, *, is_delete: bool) -> bool:
        """Writes a key; returns whether that was allowed."""
        caller = Caller(NAMES[at], AWS, claims={N: self.claims[claim]})
        try:
            self.logs[at].run(Put(caller, [Ask(N, KEY[key], None if is_delete else b"%d" % number)]))
        except GrafctlError:
            return False
        return True

    def carry_out(self, place: int) -> bool:
        """Runs all that an operator asked for; returns whether it made an entry."""
        done = [self.run(at, request) for at, request in self.pending[place]]
        return any(done)

    def note_claim(self, state: State) -> None:
        """Remembers what a client would read of the flip that the model has just seen."""
        for to, claim in state.claims:
            if (to, claim) not in self.claims:
                row = self.row(1 - to)
                self.claims[(to, claim)] = (row["token"], row["generation"])

    # --- the requests of an operator, from what the product's rows say now

    def requests(self, request: Request) -> Requests:
        kind, at, *given = request
        source, target = self.moving(at), self.moving(1 - at)
        copy = self.moving(at)
        place = Place(NAMES[0], N, (source if kind in ("seal", "flip", "cancel") else copy)["id"])
        if kind in ("migrate", "reverse"):
            begun = Place(NAMES[0], N, f"{at}.{len(self.logs[at].entries)}")
            return [(at, Begin(Caller(NAMES[at], AWS), begun, NAMES[1 - at], {}, kind == "reverse"))]
        if kind in ("receive", "receive back"):
            return [(at, Receive(place._replace(migration=target["id"]), NAMES[1 - at], target))]
        if kind == "copy":
            _, cursor, row = given
            rows = [] if row is None else [Write(N, KEY[cursor], b"%d" % row[1], row[0])]
            return [(at, Copy.of(place, copy["cursor"], rows, KEY[cursor].hex(), cursor + 1 == KEYS))]
        if kind == "apply":
            return [(at, self._replay(at, place, copy["applied"], given))]
        if kind == "seal":
            return [(at, Seal(place, 50_000))]
        if kind == "flip":
            return [(at, Flip(place, self.row(at)["token"], FOR_EVER_S, {}))]
        if kind == "open":
            row = self.row(1 - at)
            return [(at, Open(Place(NAMES[0], N, row["id"]), row["token"]))]
        if kind == "cancel":
            return [(at, Abandon(place, CANCELLING)), (at, Abandon(place, None))]
        if kind == "drop":
            return [(at, Drop(place, 1))]
        if kind == "retire":
            return [(at, Drop(place, 1, self.row(at)["token"]))]
        assert kind == "give up way back", kind
        return [(at, ForgetWayBack(place, Caller(NAMES[at], AWS)))]

    def _replay(self, at: int, place: Place, start: int, given: list[Any]) -> Replay:
        """Makes the batch that has as many writes as that of the model, or the drained rest."""
        _, _, entries, _, token, _ = given
        source, row = self.logs[1 - at], self.row(1 - at)
        stop = len(source.entries) if token is None else row["token"] + 1
        writes: list[Write] = []
        for index in range(start, stop):
            if source.entries[index].request["do"] == "put":
                writes += numbered_writes(source.entries[index], "entry")
                if token is None and len(writes) == len(entries):
                    stop = index + 1
                    break
        generation = row["generation"] + 1
        return Replay.of(place, (start, stop), writes, None if token is None else row["token"], generation)


def first_twin(setting: Setting) -> Twin:
    """Returns the product where the model begins."""
    twin = Twin(setting.operators)
    for key in range(KEYS):
        assert twin.put(0, None, key, -key - 1, is_delete=False)
    if setting.is_moved:
        rows = [Write(N, KEY[key], b"%d" % row[1], row[0]) for key, row in enumerate(twin.rows(0)) if row]
        place = Place(NAMES[0], N, "first")
        steps: list[Any] = [
            (0, lambda: Begin(Caller(NAMES[0], AWS), place, NAMES[1], {})),
            (1, lambda: Receive(place, NAMES[0], twin.moving(0))),
            (1, lambda: Copy.of(place, "", rows, "end", True)),
            (0, lambda: Seal(place, 50_000)),
            (1, lambda: twin._replay(1, place, twin.moving(1)["applied"], [0, 0, (), 0, 0, 0])),
            (0, lambda: Flip(place, twin.row(0)["token"], FOR_EVER_S, {})),
            (1, lambda: Open(place, twin.row(0)["token"])),
        ]
        for at, made in steps:
            assert twin.run(at, made())
        twin.note_claim(first_state(setting))
    return twin


def difference(setting: Setting) -> tuple[int, str | None]:
    """Returns how many states both were in, and where they part, if they do."""
    first = first_state(setting)
    seen = {first}
    queue: deque[tuple[State, Twin, tuple[str, ...]]] = deque([(first, first_twin(setting), ("begin",))])
    while queue:
        state, twin, trace = queue.popleft()
        for label, following, other, is_same in _steps(setting, state, twin):
            steps = (*trace, label)
            wrong = None if is_same else "the product and the model disagree on whether this may be done"
            if wrong is None and following is not None and other is not None:
                other.note_claim(following)
                wrong = _parts(setting, following, other)
            if wrong:
                return len(seen), "\n    ".join([wrong, *steps])
            if following is not None and other is not None and following not in seen:
                seen.add(following)
                queue.append((following, other, steps))
    return len(seen), None


def _steps(setting: Setting, state: State, twin: Twin) -> Iterator[tuple[str, State | None, Twin | None, bool]]:
    """Yields each step: what the model comes to, what the product comes to, and whether both allow it or neither."""
    if any(side.place.state == SEALED for side in state.sides) and not state.is_over:
        other = twin.copied()
        for log in other.logs:
            log.now_ms += 1_000
        yield "clock", state._replace(is_over=True), other, True
    for at in (0, 1):
        lifted, other = unseal(setting, state, at), twin.copied()
        token = (twin.row(at) or {}).get("token") or 0
        done = other.run(at, Unseal(Place(NAMES[0], N, ""), token, 0))
        yield f"unseal {at}", lifted, other, done == (lifted is not None)
    if state.written < len(setting.writes):
        key, is_delete = setting.writes[state.written]
        for at in (0, 1):
            for known in (None, *(item for item in state.claims if item[0] == at)):
                after = put(setting, state, at, known and known[1], key, is_delete)
                other = twin.copied()
                done = other.put(at, known, key, state.written + 1, is_delete=is_delete)
                yield f"put {key} at {at} with {known}", after, other, done == (after is not None)
    for place, request in enumerate(state.pending):
        if request is not None:
            if _is_known(state, request) or not _is_left(setting, state, request):
                continue
            result, other = carried_out(setting, state, request), twin.copied()
            done = other.carry_out(place)
            after = _with_pending(result[0] if result else state, other, place, None, [])
            yield f"{request}", after, other, done == (result is not None)
        elif place == 0 or state.pending[0] is not None:
            for chosen in _choices(setting, state):
                other = twin.copied()
                after = _with_pending(state, other, place, chosen, twin.requests(chosen))
                yield f"ask for {chosen}", after, other, True


def _choices(setting: Setting, state: State) -> Iterator[Request]:
    """Yields what an operator may ask for."""
    for wish in setting.wishes:
        yield from (chosen for chosen in wanted(setting, state, wish) if _is_left(setting, state, chosen))


def _is_known(state: State, request: Request) -> bool:
    """Returns whether the product takes a late request at a copy on its way out, where the model refuses it."""
    late = {"copy": DROPPING, "apply": DROPPING, "receive back": RETIRED}
    return late.get(request[0]) == state.sides[request[1]].place.state


def _is_left(setting: Setting, state: State, request: Request) -> bool:
    """Returns whether the model's counts allow this; they are no matter of the product's."""
    migrates, seals = state.migrations < setting.migrations, state.seals < setting.seals
    return {"migrate": migrates, "reverse": migrates, "seal": seals}.get(request[0], True)


def _with_pending(state: State, twin: Twin, place: int, request: Request | None, product: Requests) -> State:
    """Gives an operator another request in both, which keep them in the same order."""
    pairs = list(zip(state.pending, twin.pending, strict=True))
    pairs[place] = (request, product)
    pairs.sort(key=lambda pair: (pair[0] is None, str(pair[0])))
    twin.pending = [pair[1] for pair in pairs]
    return state._replace(pending=tuple(pair[0] for pair in pairs))


def _parts(setting: Setting, state: State, twin: Twin) -> str | None:
    """Returns what the two say differently about who may write and read, and what is read."""
    for at, side in enumerate(state.sides):
        row, now_ms = twin.row(at), twin.logs[at].now_ms
        for known in (None, *(item for item in state.claims if item[0] == at)):
            claim = known and known[1]
            if (unwritable(row, twin.claims[known], now_ms) is None) != setting.guards.may_put(side.place, claim):
                return f"log {at} takes writes with {known} in one of them: {side.place}, {row}"
            reads = elsewhere(row, twin.claims[known]) is None
            if reads != setting.guards.may_read(side.place, claim):
                return f"log {at} answers with {known} in one of them: {side.place}, {row}"
            if reads and twin.rows(at) != side.rows:
                return f"log {at} answers {twin.rows(at)} and {side.rows}"
    return None
