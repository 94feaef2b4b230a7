"""Where the vshards of a table are, as this process knows it, and how it finds out that they went elsewhere.

Promises
- What a log says of a vshard is believed before any route. A vshard that went elsewhere is looked for there; one that
  is sealed is waited for, and where its budget is over, whoever waits lifts the seal.
- A claim, which opens a vshard in the log it went to, comes from a committed row of the log that gave it away.
"""

from __future__ import annotations

from contextlib import suppress

from grafctl import clock
from grafctl.errors import GrafctlError, NotFound, Timeout, Usage
from grafctl.names import check_name, noun_of, with_article
from grafctl.store import vshard_keys
from grafctl.store.checked import checked
from grafctl.store.log import Log
from grafctl.store.records import parse_json
from grafctl.store.replica.state import State
from grafctl.store.resources.moving import Place, Unseal
from grafctl.store.resources.queue import record_of
from grafctl.store.resources.routes import routes_of
from grafctl.store.resources.table import KIND, MOVED, RETIRED, SEALED, Claim, Elsewhere, elsewhere
from grafctl.store.session import Session
from grafctl.store.vshards import vshard_of
from grafctl.typed import Any, Iterable, Mapping

_PAUSE_S, _PAUSE_S_MAX = 0.0005, 0.02
_GLANCE_S, _GLANCE_S_MAX = 0.0002, 0.005  # between two looks at a sealed vshard's row
_FOLLOW_S = 0.02  # for what is at the primary to be committed
_HOPS = 8  # from log to log without a pause


class Table:
    """A table as this process knows it, for the threads of it."""

    def __init__(self, session: Session, name: str) -> None:
        self.session, self.name = session, name
        self.vshards = 0
        self._parts: dict[int, str] = {}  # of vshards that are not in the home
        self._claims: dict[int, Claim] = {}  # under which they were given away
        self.look_up()

    def look_up(self) -> None:
        """Reads the definition and the routes from the control log; raises `NotFound`."""

        def look(state: State) -> tuple[dict[str, Any], dict[int, str]]:
            record = record_of(state, self.name)
            return record, {number: route.part for number, route in routes_of(state, self.name).items()}

        record, self._parts = checked(self.session.control, look)
        if record["kind"] != KIND:
            table = record["start"]["queue"].get("part_of") if "start" in record else None
            kind, name = ("table", table) if table else (record["kind"], self.name)
            raise NotFound(
                f"{self.name} is {with_article(noun_of(record['kind']))}, not a table.",
                hint=f"Run `grafctl {kind} show {name}`.",
                resource=self.name,
            )
        self._claims = {}
        self.vshards = int((record["start"]["queue"] if "start" in record else record["row"])["vshards"])

    def vshard_of(self, key: bytes) -> int:
        return vshard_of(key, self.vshards)

    def check(self, number: int) -> int:
        """Returns the vshard; raises `Usage` where the table has none of that number."""
        if not 0 <= number < self.vshards:
            raise Usage(f"{self.name} has the vshards 0 to {self.vshards - 1}, and no vshard {number}.")
        return number

    def part_of(self, number: int) -> str:
        """Returns the log in which a vshard was last."""
        return self._parts.get(number, self.name)

    def log_of(self, number: int) -> Log:
        return self.session.resource(self.part_of(number))

    def claims(self, numbers: Iterable[int]) -> Mapping[int, Claim]:
        return {number: self._claims[number] for number in numbers if number in self._claims}

    def is_elsewhere(self, number: int, reason: Elsewhere) -> bool:
        """Takes in what a log said of a vshard; returns whether there is another log to ask."""
        self._claims.pop(number, None)
        if reason.how in (MOVED, RETIRED):
            if reason.how == MOVED and reason.token is not None and reason.generation is not None:
                self._claims[number] = (reason.token, reason.generation)
        elif reason.part is None:
            if reason.how == "absent":  # a hint that came too early, or is of another time
                self._parts.pop(number, None)
            return reason.how == "absent"
        self._parts[number] = str(reason.part)
        return True


def table_of(session: Session, name: str) -> Table:
    """Returns a table; raises `NotFound`."""
    found: Table | None = session.tables.get(name)
    if found is None:
        found = session.tables[name] = Table(session, check_name("table", name))
    return found


class Patience:
    """How long one call waits for vshards, and what it does meanwhile."""

    def __init__(self, table: Table, timeout_s: float) -> None:
        self._table = table
        self._until_s = clock.monotonic_s() + timeout_s
        self._pause_s = _PAUSE_S
        self._hops = 0
        self._seals: dict[tuple[int, int], float] = {}  # (vshard, token) -> since when it is waited for
        self._ready: set[str] = set()  # parts that this call knows the way to

    @property
    def left_s(self) -> float:
        return max(0.0, self._until_s - clock.monotonic_s())

    def learn(self, reasons: Mapping[int, Elsewhere]) -> set[int]:
        """Takes in why vshards were not served; returns those that are to be waited for."""
        waiting = {number for number, reason in reasons.items() if not self._table.is_elsewhere(number, reason)}
        self._hops += len(waiting) < len(reasons)
        for number in waiting:
            if reasons[number].how == SEALED:
                self._lift(number, reasons[number])
        if self._hops > _HOPS:
            self._hops = 0
            return set(reasons)
        return waiting

    def _lift(self, number: int, reason: Elsewhere) -> None:
        """Lifts a seal whose budget is over."""
        token, budget_us = reason.token or 0, reason.budget_us or 0
        now_s = clock.monotonic_s()
        waited_us = int((now_s - self._seals.setdefault((number, token), now_s)) * 1e6)
        if waited_us >= budget_us or clock.now_ms() > (reason.until_ms or 0):
            unseal = Unseal(Place(self._table.name, number, ""), token, waited_us)
            self._table.log_of(number).append(unseal)

    def wait(self, number: int, reason: Elsewhere) -> None:
        """Waits for a moment; raises `Timeout` where the call has waited for too long."""
        if self.left_s <= 0:
            raise self.over(number, reason.how)
        if reason.how == SEALED:
            self._glance(number, reason)
            return
        wait_s = self._pause_s if reason.wait_ms is None else reason.wait_ms / 1000
        clock.sleep(min(wait_s, self.left_s))
        self._pause_s = min(self._pause_s * 1.5, _PAUSE_S_MAX)

    def _glance(self, number: int, reason: Elsewhere) -> None:
        """Waits until a sealed vshard's row is another one, or whoever waits may lift the seal; without a lock, so that
        nobody who waits is in the way of the operator."""
        since_s = self._seals.get((number, reason.token or 0), clock.monotonic_s())
        until_s = min(self._until_s, since_s + (reason.budget_us or 0) / 1e6)
        self._get_ready(reason.next_part)
        pause_s = _GLANCE_S
        while clock.monotonic_s() < until_s and clock.now_ms() <= (reason.until_ms or 0):
            if not self._is_sealed(number, reason.token):
                self._follow(number, reason.token)
                return
            clock.sleep(pause_s)
            pause_s = min(pause_s * 1.2, _GLANCE_S_MAX)

    def _is_sealed(self, number: int, token: int | None) -> bool:
        """Returns whether a vshard is still under this seal, as far as a look at the primary's tail says."""
        body = self._table.log_of(number).glance(vshard_keys.vshard(number))
        row: dict[str, Any] = {} if body is None else parse_json(body)
        if not row:
            clock.sleep(_PAUSE_S)
        return (row.get("state"), row.get("token")) == (SEALED, token)

    def _follow(self, number: int, token: int | None) -> None:
        """Waits until what ended a seal is committed, and takes in where the vshard went then: a try at once would only
        be in the way of the operator who commits it. Where he died, the next try commits it."""
        log, until_s = self._table.log_of(number), min(self._until_s, clock.monotonic_s() + _FOLLOW_S)
        while clock.monotonic_s() < until_s:
            try:
                with log.view() as committed:
                    row = committed.state.get_json(vshard_keys.vshard(number)) or {}
            except GrafctlError:  # the next try says what is wrong
                return
            if (row.get("state"), row.get("token")) != (SEALED, token):
                if row.get("state") == MOVED and (found := elsewhere(row, None)) is not None:
                    self._table.is_elsewhere(number, found)
                return
            clock.sleep(_GLANCE_S)

    def _get_ready(self, part: str | None) -> None:
        """Finds the way to where a sealed vshard is about to go, while there is time."""
        if part is not None and part not in self._ready:
            self._ready.add(part)
            with suppress(GrafctlError):  # whatever is wrong there, this call may never go there
                self._table.session.resource(part).prepare()

    def over(self, number: int, how: str) -> GrafctlError:
        name = self._table.name
        return Timeout(
            f"vshard {number} of {name} was {how} until the deadline; this call wrote nothing there.",
            hint=f"Run `grafctl vshard status {name} {number}`, and the same command again.",
            outcome="not_written",
            resource=name,
            vshard=number,
        )
