"""A table over a driver that can be told to fail, with an operator and a writer who knows nothing of what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grafctl.results import Migrated
from grafctl.store import vshard_keys
from grafctl.store.driver.faults import COMMIT_AFTER, COMMIT_BEFORE, Fault, FaultDriver, Kind
from grafctl.store.log import Log
from grafctl.store.vshards import vshard_of
from store.world import World, open_store, world

HOME, AWAY = ("aws", "gcp", "azure"), ("do", "hetzner", "oci")
WIDE = 60_000_000  # a budget that no slow machine passes
TABLE, PART, MOVING, VSHARDS = "accounts", "accounts.part-1", 1, 2
PHASES = ("base_copy", "wal_catchup", "proof", "ready", "cutover", "flipped")
KEYS = [name for n in range(60) if vshard_of((name := f"k{n}").encode(), VSHARDS) == MOVING]


class Moves:
    """A table over a driver that can be told to fail, one operator, and a writer who knows nothing of it."""

    def __init__(self, directory: Path, ours: World, home: tuple[str, ...], away: tuple[str, ...]) -> None:
        self.ours, self.away = ours, away
        self.full: set[str] = set()
        self.on_flip: Callable[[], None] | None = None
        self._source = home[0]
        self.operator = open_store(directory, FaultDriver(ours.driver, self._plan))
        self.writer = ours.store
        self.known: dict[str, str] = {}
        replicas = [f"{domain}-1={domain}" for domain in home]
        self.writer.tables.create(TABLE, replicas=replicas, allow=[*home, *away], vshards=VSHARDS)
        for key in KEYS:
            self.put(key, "first")

    def _plan(self, domain: str, step: str, count: int) -> Fault | None:
        if step == COMMIT_AFTER and domain == self._source and self.on_flip is not None:
            act, self.on_flip = self.on_flip, None
            act()
        return Fault(Kind.FULL) if domain in self.full and step == COMMIT_BEFORE else None

    @property
    def home(self) -> Log:
        return self.writer.session.resource(TABLE)

    def put(self, key: str, value: str, **how: Any) -> None:
        self.writer.tables.put(TABLE, key, value, domain="aws", **how)
        self.known[key] = value

    def fail(self, *domains: str) -> None:
        for domain in domains:
            self.ours.driver.fail(self.writer.session.cluster.place(domain).path)

    def restore(self, *domains: str) -> None:
        for domain in domains:
            self.ours.driver.restore(self.writer.session.cluster.place(domain).path)

    def in_phase(self, phase: str, act: Callable[[], None]) -> Callable[[dict[str, Any]], None]:
        """Returns a watch that does something once, when a phase begins; `flipped` is right behind the commit."""
        seen: set[str] = set()

        def watch(event: dict[str, Any]) -> None:
            now = event["state"] if event["event"] == "state" else event["event"]
            if event["event"] == "progress" and "estimate_us" in event and "waits_for" not in event:
                now = "ready"
            if now == "cutover" and phase == "flipped":
                self.on_flip = act
            elif now == phase and not seen:
                seen.add(now)
                act()

        return watch

    def migrate(self, **how: Any) -> Migrated:
        given = {"budget_us": WIDE, "patience_ms": 60_000} | how
        (done,) = self.operator.vshards.migrate(TABLE, [MOVING], to=self.away, domain="aws", **given)
        return done

    def state(self) -> str:
        return str(self.writer.vshards.show(TABLE, MOVING).body["state"])

    def finish(self) -> None:
        (done,) = self.writer.vshards.resume(TABLE, [MOVING], domain="aws", budget_us=WIDE)
        assert (done.state, done.owner) == ("completed", sorted(self.away)), done

    def require_all(self) -> None:
        """Everything that was acknowledged is there, for a process that knows nothing yet, and `verify` is content."""
        with self.ours.reopened() as other:
            rows = other.tables.scan(TABLE, domain="aws", vshard=MOVING)
            assert {row.key.decode(): row.value.decode() for row in rows} == self.known
            assert not (found := list(other.verify())), found

    def rows_in(self, part: str) -> int:
        with self.writer.session.state(part) as state:
            return sum(1 for _ in state.scan(vshard_keys.table_rows(MOVING)))


@contextmanager
def a_table(tmp_path: Path, home: tuple[str, ...], away: tuple[str, ...]) -> Iterator[Moves]:
    with world(tmp_path / "s", (*home, *away)) as made:
        for domain in (*home, *away):
            made.observe(domain)
        moves = Moves(tmp_path / "s", made, home, away)
        try:
            yield moves
        finally:
            moves.operator.close()
