"""`consumer wave`: switches the consumers of a declared wave in its order, so many at once, each with its way back.

| step for each consumer | what it does |
|---|---|
| attach | ties its two groups to a switch, if they are not tied yet |
| switch | compares both outputs, and flips it to the target where they are equal |
| soak | judges its rules until the window is over; what breaks one is flipped back |
| lock | gives up the way back |

Promises
- Before anything is changed, every consumer is looked at: where the groups of one are not there (10), the caller's
  domain may not act for it (11, 12), or it is attached in another way (13), the wave is refused.
- At most `at_once` consumers of the wave are between their two sides; the control log itself refuses one more.
- A consumer that went back is not tried again by the wave of this name, unless the caller says so; one whose outputs
  differ stays where it is, and the others go on.
- Each change of a switch is told as it is found, whoever made it.

When it fails: what is done is in the store and nothing is in this process, so the same call again goes on from there.
Two who run one wave do each step once, and the one who comes second sees that it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from grafctl import clock
from grafctl.declare.switchover import DeclaredWave, read
from grafctl.errors import Busy, GenerationConflict, GrafctlError, ProofRequired
from grafctl.nouns.switches import Switches
from grafctl.nouns.waves import Rows, attach, check, fields, head, numbered, standing_of, why_of
from grafctl.results import Shown
from grafctl.store.driver.kill import point
from grafctl.store.operations.switching.work import all_rows, row_of
from grafctl.store.session import Session
from grafctl.store.switch_rules import ROLLED_BACK, SOAKING, SOURCE, TARGET, is_closing, left_ms
from grafctl.store.wave_rules import BLOCKED, IN_FLIGHT, LOCKED, SOAKED, STUCK, WAITING, WENT_BACK, Next, next_of

LOOK_S = 0.2
NAMES_SHOWN = 10
PATIENCE_MS = 60_000  # so long a consumer that cannot be begun yet is tried again

_REFUSED = {WAITING: BLOCKED, IN_FLIGHT: STUCK}
Watch = Callable[[dict[str, Any]], None]


class Running:
    """One run of a wave."""

    def __init__(
        self, session: Session, wave: DeclaredWave, domain: str, *, lock: bool, again: bool, watch: Watch
    ) -> None:
        self._session, self._switches, self._wave, self._domain = session, Switches(session), wave, domain
        self._lock, self._again, self._watch = lock, again, watch
        self._order = [place.member for _, place in numbered(wave)]
        self._tried: set[str] = set()  # those that went back before, and were tried again by this run
        self.refused: dict[str, GrafctlError] = {}
        self._not_yet: dict[str, tuple[int, GrafctlError]] = {}  # since when somebody cannot be begun, and why
        self._told: dict[str, tuple[Any, ...]] = {}
        self.changed = False

    def run(self) -> Next:
        """Goes on until nobody is on the way and nobody is to be begun; returns how it ended."""
        rows = self._look()
        waiting = [self._wave.consumer(member.name) for member in self._order if not _is_locked(rows.get(member.name))]
        for consumer in waiting:
            check(self._session, consumer, self._domain)
        point("wave.checked")
        for consumer in waiting:
            self.changed = attach(self._session, consumer).changed or self.changed
            point("wave.attached")
        while True:
            rows = self._look()
            now = self._next(rows)
            if now.is_over:
                return now
            before = self._told.copy()
            for name in now.begin:
                self._begin(name)
                self._look()
            for name, standing in self.standings(rows).items():
                if standing == IN_FLIGHT:
                    self._tend(name, rows[name])
                    self._look()
            if self._told == before:
                clock.sleep(LOOK_S)

    def standings(self, rows: Rows) -> dict[str, str]:
        """Returns where each consumer stands for this run."""
        found = {}
        for member in self._order:
            again = self._again and member.name not in self._tried
            row = rows.get(member.name)
            standing = standing_of(self._wave.name, row, waits_for_lock=not self._lock, again=again)
            is_refused = member.name in self.refused
            found[member.name] = _REFUSED.get(standing, standing) if is_refused else standing
        return found

    def _next(self, rows: Rows) -> Next:
        return next_of(self._order, self.standings(rows), self._wave.at_once, self._wave.stops)

    def _look(self) -> Rows:
        """Returns the rows of all switches, after telling what changed of those of this wave."""
        rows = all_rows(self._session)
        for member in self._order:
            row = rows.get(member.name)
            if row is None:
                continue
            now = (row["state"], row["side"], row["generation"], is_closing(row))
            before = self._told.get(member.name)
            if now != before:
                self._told[member.name] = now
                self._tell(member.name, row, changed=before is not None)
        return rows

    def _tell(self, name: str, row: Mapping[str, Any], *, changed: bool) -> None:
        event = {"event": "state", "wave": self._wave.name, "consumer": name, "state": row["state"]}
        event |= {"side": row["side"], "generation": row["generation"], "closing": is_closing(row)}
        self.changed = self.changed or changed
        self._watch(event | {"why": why_of(row), "changed": changed})

    # --- the steps

    def _begin(self, name: str) -> None:
        self._tried.add(name)
        grace_ms = self._wave.consumer(name).grace_ms
        try:
            self._switches.compare(name, domain=self._domain, grace_ms=grace_ms)  # which remembers the grace
            point("wave.compared")
            self._switch(name)
            point("wave.switched")
            self._not_yet.pop(name, None)
        except GenerationConflict:
            self._wait(name, Busy(f"Somebody else is at the switch {name}."))
        except GrafctlError as error:
            if error.as_json()["retryable"]:
                self._wait(name, error)
            else:
                self._refuse(name, error)

    def _switch(self, name: str) -> None:
        wave = {"name": self._wave.name, "at_once": self._wave.at_once}
        self._switches.switch(name, to=TARGET, domain=self._domain, drain_ms=self._wave.drain_ms, wave=wave)

    def _tend(self, name: str, row: Mapping[str, Any]) -> None:
        """Brings a consumer that is on its way a step on; what passes is tried again with the next look."""
        try:
            if is_closing(row, SOURCE):
                self._switches.rollback(name, domain=self._domain)
            elif row["state"] != SOAKING:
                self._switch(name)
            else:
                self._switches.soak(name, domain=self._domain)
                point("wave.soaked")
                if self._lock and left_ms(row, clock.now_ms()) == 0:
                    self._switches.lock(name, domain=self._domain)
                    point("wave.locked")
        except GenerationConflict:
            pass  # a poll or another operator was quicker, as the next look shows
        except GrafctlError as error:
            went_back = isinstance(error, ProofRequired) and row_of(self._session, name)["state"] == ROLLED_BACK
            if not went_back and not error.as_json()["retryable"]:
                self._refuse(name, error)

    def _wait(self, name: str, error: GrafctlError) -> None:
        since_ms, _ = self._not_yet.setdefault(name, (clock.now_ms(), error))
        self._not_yet[name] = (since_ms, error)
        if clock.now_ms() - since_ms >= PATIENCE_MS + error.fields.get("grace_ms", 0):
            self._refuse(name, error)

    def _refuse(self, name: str, error: GrafctlError) -> None:
        self.refused[name] = error
        body = error.as_json()
        told = {"code": body["code"], "exit": body["exit"], "message": error.message}
        self._watch({"event": "blocked", "wave": self._wave.name, "consumer": name, **told})


def _is_locked(row: Mapping[str, Any] | None) -> bool:
    return row is not None and row["state"] == LOCKED


def run_wave(
    session: Session, file: Path, *, domain: str, lock: bool = True, again: bool = False, watch: Watch | None = None
) -> Shown:
    """Switches the consumers of a declared wave and returns what came of each of them."""
    wave = read(file)
    running = Running(session, wave, domain, lock=lock, again=again, watch=watch or (lambda event: None))
    ended = running.run()
    rows = all_rows(session)
    standings, items = running.standings(rows), []
    for number, place in numbered(wave):
        name, standing = place.member.name, standings[place.member.name]
        row, refused = rows.get(name), running.refused.get(name)
        note = why_of(row) if standing == WENT_BACK else ended.held.get(name)
        about: dict[str, Any] = {"state": row["state"] if row else None, "standing": standing, "note": note}
        if standing in (BLOCKED, STUCK) and refused is not None:
            body = refused.as_json()
            about |= {"note": refused.message, "code": body["code"], "exit": body["exit"]}
        items.append(fields(wave, (number, place)) | about)
    return Shown({**head(wave, file), "changed": running.changed, "halted": ended.halted, "consumers": items})


def require_all(done: Shown) -> None:
    """Raises `ProofRequired` (19) for a wave that left consumers behind."""
    items = done.body["consumers"]
    behind = [item["consumer"] for item in items if item["standing"] not in (LOCKED, SOAKED)]
    if not behind:
        return
    more = f" and {len(behind) - NAMES_SHOWN} others" if len(behind) > NAMES_SHOWN else ""
    names = ", ".join(behind[:NAMES_SHOWN]) + more
    raise ProofRequired(
        f"{len(behind)} of {len(items)} consumers of wave {done.body['wave']} are not at their target: {names}.",
        hint=f"Run `grafctl consumer report {behind[0]}` to see what differs, for one.",
        wave=done.body["wave"],
        behind=behind,
    )
