"""Switches in the control log: one row for each, and the compare-and-set on it by which everybody agrees.

The row is the arbiter of which side is open. A *flip* is one entry: generation n becomes n + 1, and with it side, state
and both cursors change. It is asked for only by whoever has closed the side that was open at generation n; and giving
up a closing is a flip too, to the same side. So whoever comes with an older generation is refused, and changes nothing.

Promises
- Every request but the first names the generation that it was decided on; where another is in force it is refused.
- A closing has a deadline. Once it is over anybody may give it up, so nobody waits for an operator who died.
- One switch is in flight at a time; that is asked inside the transaction that begins the closing.
- What is asked for again is answered again and changes nothing.
"""

from __future__ import annotations

from grafctl.errors import Busy, GenerationConflict, NotFound, ProofRequired
from grafctl.store import switch_keys
from grafctl.store.records import CTRL, DATA, Entry, encode_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.store.resources.control import rows
from grafctl.store.switch_rules import (
    ATTACHING,
    CLOSING,
    DETACHING,
    FLIPS_MAX,
    LOCKED,
    ROLLED_BACK,
    SHADOW,
    SOAKING,
    SOURCE,
    SWITCHED,
    TARGET,
    check_move,
    in_flight,
    is_closing,
    is_over,
    left_ms,
    moved_on,
    pass_flight,
    phase_of,
)
from grafctl.typed import Any, Mapping, NamedTuple

DEFINITION = ("source", "target", "match", "compare", "rules", "window_ms", "risk", "shape")


class Switched(NamedTuple):
    """The answer to each of these requests: the switch as it is now, None where it is gone."""

    changed: bool
    row: dict[str, Any]


def switch_row(state: State, name: str) -> dict[str, Any]:
    """Returns the row of a switch; raises `NotFound`."""
    row: dict[str, Any] | None = state.get_json(switch_keys.switch(name))
    if row is None:
        raise NotFound(f"There is no switch {name}.", hint="Run `grafctl consumer status` to see those there are.")
    return row


def _set(name: str, row: dict[str, Any], *, kind: int = CTRL) -> Decision:
    return Decision(Switched(True, row), encode_json({"do": "switch", "name": name, "row": row}), kind=kind)


def apply_switch(state: State, entry: Entry, index: int) -> Writes:
    writes = [_write(switch_keys.switch(entry.request["name"]), entry.request["row"])]
    for table, group, row in entry.request.get("readers", ()):
        writes.append(_write(switch_keys.reader(table, group), row))
    return writes


def _write(key: bytes, row: dict[str, Any] | None) -> tuple[bytes, bytes | None]:
    return (key, None) if row is None else json_write(key, row)


def row_at(state: State, name: str, generation: int) -> dict[str, Any]:
    """Returns the row of a switch at this generation; raises `GenerationConflict` where another is in force."""
    row = switch_row(state, name)
    if row["generation"] != generation:
        raise moved_on(name, row, generation)
    return row


def refused(name: str, row: Mapping[str, Any], what: str) -> GenerationConflict:
    hint = f"Run `grafctl consumer status {name}`."
    return GenerationConflict(f"Switch {name} {what}.", hint=hint, switch=name, state=row["state"])


class CreateSwitch(NamedTuple):
    """The request for a switch; `definition` has the fields of `DEFINITION`.

    Its first generation is the index of this entry. A flip adds one and is an entry itself, so whatever is attached
    later, also under the same name, begins above every generation that there was.
    """

    name: str
    definition: Mapping[str, Any]

    def decide(self, state: State, context: Context) -> Decision:
        if (there := asked_again(state, self.name, self.definition)) is not None:
            return there
        return _set(self.name, first_row(self.definition, context) | {"phase": {"what": ATTACHING}})


def asked_again(state: State, name: str, definition: Mapping[str, Any]) -> Decision | None:
    """Returns the answer to a request for a switch that is there, or None where it may be made; raises the refusal
    where it is another one, or where another one has its groups."""
    there: dict[str, Any] | None = state.get_json(switch_keys.switch(name))
    if there is None:
        _check_free(state, name, definition)
        return None
    different = [field for field in DEFINITION if there[field] != definition[field]]
    if different:
        raise GenerationConflict(
            f"Switch {name} is there already with another {', '.join(different)}.",
            hint=f"Run `grafctl consumer status {name}`; to change it, `grafctl consumer detach {name}` comes first.",
            switch=name,
            state=there["state"],
        )
    if phase_of(there) == DETACHING:
        raise refused(name, there, "is being detached")
    return Decision(Switched(False, there))


def _check_free(state: State, name: str, definition: Mapping[str, Any]) -> None:
    """Raises `GenerationConflict` where another switch has one of the groups."""
    mine = [definition[side] for side in (SOURCE, TARGET)]
    for other, row in rows(state, switch_keys.switches()).items():
        for place in (row[SOURCE], row[TARGET]):
            if place in mine:
                raise GenerationConflict(
                    f"Group {place['group']} of {place['resource']} is attached to the switch {other} already.",
                    hint=f"Run `grafctl consumer detach {other}` first.",
                    switch=name,
                    other=other,
                )


def first_row(definition: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Returns the row of a switch that was not there."""
    made = {field: definition[field] for field in DEFINITION}
    made |= {"side": SOURCE, "generation": context.at, "state": SOURCE, "phase": None, "cursors": {}}
    made |= {"attached_ms": context.now_ms, "flipped_ms": None, "soak_since_ms": None, "wave": None}
    return made | {"shadow": {}, "soak": {}, "flips": []}


class EndAttach(NamedTuple):
    """The request to say that both groups are attached."""

    name: str
    generation: int

    def decide(self, state: State, context: Context) -> Decision:
        row = row_at(state, self.name, self.generation)
        if phase_of(row) != ATTACHING:
            return Decision(Switched(False, row))
        return _set(self.name, row | {"phase": None})


class BeginDetach(NamedTuple):
    """The request to take a switch apart, which goes on from here to its end."""

    name: str
    generation: int

    def decide(self, state: State, context: Context) -> Decision:
        row = row_at(state, self.name, self.generation)
        if phase_of(row) == DETACHING:
            return Decision(Switched(False, row))
        if in_flight(row):
            raise refused(self.name, row, f"is in flight ({row['state']}); take it back or lock it before")
        return _set(self.name, row | {"phase": {"what": DETACHING}})


class DropSwitch(NamedTuple):
    """The request to let go of the row of a switch whose groups are detached; one of the same name that was attached
    since then is another."""

    name: str
    generation: int

    def decide(self, state: State, context: Context) -> Decision:
        row: dict[str, Any] | None = state.get_json(switch_keys.switch(self.name))
        if row is None or row["generation"] > self.generation:
            return Decision(False)
        if phase_of(row) != DETACHING:
            raise refused(self.name, row, "is not being detached")
        return Decision(True, encode_json({"do": "switch", "name": self.name, "row": None}), kind=CTRL)


class BeginClosing(NamedTuple):
    """The request to close the open side for the benefit of `to`, or to go on with that until a later deadline."""

    name: str
    generation: int
    to: str
    until_ms: int
    wave: Mapping[str, Any] | None = None

    def decide(self, state: State, context: Context) -> Decision:
        row = row_at(state, self.name, self.generation)
        if is_closing(row, self.to):
            if row["phase"]["until_ms"] >= self.until_ms:
                return Decision(Switched(False, row))
            return _set(self.name, row | {"phase": row["phase"] | {"until_ms": self.until_ms}}, kind=DATA)
        self._check(state, row)
        phase = {"what": CLOSING, "to": self.to, "since_ms": context.now_ms, "until_ms": self.until_ms}
        wave = dict(self.wave) if self.wave is not None else row["wave"] if self.to == SOURCE else None
        return _set(self.name, row | {"phase": phase, "wave": wave})

    def _check(self, state: State, row: dict[str, Any]) -> None:
        check_move(self.name, row["state"], SWITCHED if self.to == TARGET else ROLLED_BACK)
        if row["phase"] is not None:
            what = row["phase"]
            doing = f"closing for {what['to']}" if is_closing(row) else str(what["what"])
            raise Busy(
                f"Switch {self.name} is {doing}.",
                hint=f"Run `grafctl consumer status {self.name}`, and try again when that is over.",
                switch=self.name,
            )
        if row["side"] == self.to:
            raise refused(self.name, row, f"is at the {self.to} already")
        if self.to == TARGET:
            pass_compared(self.name, row)
            pass_flight(self.name, rows(state, switch_keys.switches()), self.wave)


def pass_compared(name: str, row: Mapping[str, Any]) -> None:
    """Raises `ProofRequired` (19) unless the last comparison of both outputs found no mismatch."""
    mismatches = row["shadow"].get("mismatches")
    if mismatches == 0:
        return
    if mismatches is None:
        pass_ended(name, row["shadow"])
    what = f"differ: {mismatches:,} mismatch{'' if mismatches == 1 else 'es'}" if mismatches else "were not compared"
    if "counts" in row["shadow"] and mismatches is None:
        what = "have no record in common yet"
    raise ProofRequired(
        f"The outputs of switch {name} {what}, so the consumer stays where it is.",
        hint=f"Run `grafctl consumer report {name}` to see them.",
        switch=name,
        mismatches=mismatches,
    )


def pass_ended(name: str, shadow: Mapping[str, Any]) -> None:
    """Raises `Busy` (22) where a comparison cannot say yet whether the outputs differ."""
    if (ahead := shadow.get("full")) is not None:
        raise Busy(
            f"The {ahead} of switch {name} is too far ahead of the other output, so the comparison has no end.",
            hint=f"Try again when the other one has caught up; see `grafctl consumer report {name}`.",
            switch=name,
            ahead=ahead,
        )
    if undated := shadow.get("undated"):
        rows, grace_ms = f"{undated:,} row{'' if undated == 1 else 's'}", shadow["grace_ms"]
        raise Busy(
            f"{rows} of switch {name} differ{'s' if undated == 1 else ''}, and nobody knows since when: that is judged "
            f"when the grace of {grace_ms:,} ms is over.",
            hint="Try again then, or take --grace 0 where nobody writes.",
            switch=name,
            undated=undated,
            grace_ms=grace_ms,
        )


class Flip(NamedTuple):
    """The request to go to the next generation: to the other side, which was closed for, or to the same one.

    The same side is how a closing is given up (`is_late`: because its deadline is over), and how a switch that is at
    its source is rolled back (`rolls_back`). `why` is kept, for people, and `soak` are the numbers that it counts from.
    """

    name: str
    generation: int
    side: str
    why: str
    cursors: Mapping[str, Any] | None = None
    is_late: bool = False
    rolls_back: bool = False
    soak: Mapping[str, Any] | None = None

    def decide(self, state: State, context: Context) -> Decision:
        row = row_at(state, self.name, self.generation)
        after = self._state(row, context.now_ms)
        cursors = row["cursors"] if self.cursors is None else self.cursors
        return _set(self.name, flipped(row, self.side, after, self.why, cursors, self.soak, context.now_ms))

    def _state(self, row: dict[str, Any], now_ms: int) -> str:
        """Returns the state after the flip; raises the refusal."""
        if self.side != row["side"]:
            if not is_closing(row, self.side):
                raise refused(self.name, row, f"is not closing for its {self.side}")
            after = SWITCHED if self.side == TARGET else ROLLED_BACK
        elif self.rolls_back:
            after = ROLLED_BACK
            check_move(self.name, row["state"], after)
            if phase_of(row) not in (None, CLOSING):
                raise refused(self.name, row, f"is {phase_of(row)}")
            if self.side == TARGET:
                raise refused(self.name, row, "is at its target, which has to be closed before")
        else:
            if not is_closing(row) or (self.is_late and not is_over(row, now_ms)):
                raise refused(self.name, row, "has no closing to give up")
            return str(row["state"])
        check_move(self.name, row["state"], after)
        return after


def flipped(
    row: Mapping[str, Any],
    side: str,
    state: str,
    why: str,
    cursors: Mapping[str, Any],
    soak: Mapping[str, Any] | None,
    now_ms: int,
) -> dict[str, Any]:
    """Returns the row at its next generation."""
    told = {"generation": row["generation"] + 1, "side": side, "ms": now_ms, "why": why, "cursors": dict(cursors)}
    made = {**row, "generation": told["generation"], "side": side, "state": state, "phase": None}
    made |= {"cursors": dict(cursors), "flips": [*row["flips"], told][-FLIPS_MAX:]}
    if side != row["side"]:
        made |= {"flipped_ms": now_ms, "soak_since_ms": None, "soak": dict(soak or {})}
    return made


class StartSoak(NamedTuple):
    """The request to let the window run, now that the target is open."""

    name: str
    generation: int

    def decide(self, state: State, context: Context) -> Decision:
        row = row_at(state, self.name, self.generation)
        if row["state"] == SOAKING:
            return Decision(Switched(False, row))
        check_move(self.name, row["state"], SOAKING)
        return _set(self.name, row | {"state": SOAKING, "soak_since_ms": context.now_ms})


class Lock(NamedTuple):
    """The request to give up the way back; refused before the window is over."""

    name: str
    generation: int

    def decide(self, state: State, context: Context) -> Decision:
        row = switch_row(state, self.name)
        if row["state"] == LOCKED:
            return Decision(Switched(False, row))
        row = row_at(state, self.name, self.generation)
        check_move(self.name, row["state"], LOCKED)
        left = left_ms(row, context.now_ms)
        if row["phase"] is not None or left is None or left > 0:
            what = f"its window has {left:,} ms to go" if row["phase"] is None else f"it is {phase_of(row)}"
            hint = f"Watch it with `grafctl consumer soak {self.name} --follow -d DOMAIN`, and lock it then."
            if is_closing(row, SOURCE):
                what = "it is being taken back"
                hint = f"Run `grafctl consumer rollback {self.name} -d DOMAIN`, which goes on with that."
            told = f"Switch {self.name} is not locked: {what}."
            raise Busy(told, hint=hint, switch=self.name, left_ms=left)
        return _set(self.name, row | {"state": LOCKED, "wave": None})


class NoteShadow(NamedTuple):
    """The request to keep how far the comparison is: `source` becomes `shadow`, with `begins` so does `rolled_back`.
    `since` is what it was taken up with as forgiven: where another operator changed that (-1: or not), nothing is."""

    name: str
    generation: int
    shadow: Mapping[str, Any]
    begins: bool = False
    since: int | None = -1

    def decide(self, state: State, context: Context) -> Decision:
        row = row_at(state, self.name, self.generation)
        if self.since not in (-1, row["shadow"].get("forgiven_ms")):
            return Decision(Switched(False, row))
        after = row["state"]
        if after == SOURCE or (after == ROLLED_BACK and self.begins):
            check_move(self.name, after, SHADOW)
            after = SHADOW
        made = row | {"shadow": dict(self.shadow), "state": after}
        return Decision(Switched(False, row)) if made == row else _set(self.name, made, kind=DATA)


class NoteSoak(NamedTuple):
    """The request to keep how the window goes."""

    name: str
    generation: int
    soak: Mapping[str, Any]

    def decide(self, state: State, context: Context) -> Decision:
        row = row_at(state, self.name, self.generation)
        made = row | {"soak": dict(self.soak or {})}
        return Decision(Switched(False, row)) if made == row else _set(self.name, made, kind=DATA)
