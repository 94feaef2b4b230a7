"""A pipeline that runs as real processes: stages that are started, killed, moved to another domain, and waited for.

A `Plant` is a directory with a copy of an example, its store and its files. A `Role` is a stage that somebody keeps
running: where its process has ended or was killed, it is started again in the next of its domains.
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conftest import ROOT, Ended, Runner

import grafctl
from grafctl.client import Store

FILE, SCHEMA = "mirrored-etl.toml", "order.v1.schema.json"
AWS, GCP, AZURE = "aws/us-east-1", "gcp/us-central1", "azure/eastus"
STALLED_S = 120.0
VISIBILITY = "1s"  # so long what a killed process held is nobody else's
LOOK_S = 0.05
AWAY = (12, 21)  # what a stage may end with while a domain is away


@dataclass
class Plant:
    """One pipeline with its store; `run` types commands in its directory."""

    run: Runner
    file: str
    away: set[str] = field(default_factory=set)  # domains in which nobody starts a stage just now

    @property
    def folder(self) -> Path:
        return self.run.cwd

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def command(self, *words: object, **how: Any) -> Ended:
        return self.run(*words, store=self.store, **how)

    def start(
        self, stage: str, domain: str, *words: str, source: Path | None = None, kill: str | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a stage, or several with blanks between; `kill` is a point and a hit, such as `append.after:3`."""
        env = {"GRAFCTL_KILL_AT": kill} if kill else {}
        log = (self.folder / f"{stage}.log").open("ab")
        given = source.open("rb") if source else None
        how: dict[str, Any] = {"stdin": given or subprocess.DEVNULL, "stdout": log, "stderr": log}
        try:
            stages = [word for name in stage.split() for word in ("--stage", name)]
            asked = ("pipeline", "run", self.file, *stages, "-d", domain, "--visibility", VISIBILITY, *words)
            return self.run.start(*asked, store=self.store, env=env, **how)
        finally:
            log.close()
            if given:
                given.close()

    def finish(self, stage: str, domain: str, *words: str, source: Path | None = None) -> None:
        """Runs a stage until there is nothing left for it."""
        process = self.start(stage, domain, *(words or ("--until-idle",)), source=source)
        try:
            assert process.wait(timeout=STALLED_S) == 0, self.said(stage)
        finally:
            process.kill()
            process.wait()

    def said(self, stage: str) -> str:
        """Returns the end of what a stage wrote, for a test that fails."""
        return f"{stage}: " + (self.folder / f"{stage}.log").read_text(errors="backslashreplace")[-2000:]

    def records(self, *resources: str) -> dict[str, list[Any]]:
        """Returns the records of resources, as AWS reads them."""
        found: dict[str, list[Any]] = {}
        with grafctl.open(self.store) as store:
            for name in resources:
                held: list[Any] = []
                while got := store.peek(name, domain=AWS, offset=len(held), max=5000).body["records"]:
                    held += got
                found[name] = held
        return found

    def rows(self, database: str, question: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.folder / database)
        try:
            return connection.execute(question).fetchall()
        finally:
            connection.close()


@dataclass
class Role:
    """A stage that is to run in one of its domains, whatever happens to its process."""

    plant: Plant
    stage: str
    domains: Sequence[str]
    source: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    at: int = 0
    starts: int = 0
    kills: int = 0
    is_done: bool = False

    @property
    def domain(self) -> str:
        return self.domains[self.at % len(self.domains)]

    def start(self) -> None:
        self.process = self.plant.start(self.stage, self.domain, source=self.source)
        self.starts += 1

    def move(self, signum: int = signal.SIGKILL) -> None:
        """Ends the process and starts the stage in the next of its domains."""
        assert self.process is not None
        if self.is_done:
            return
        self.process.send_signal(signum)
        code = self.process.wait(timeout=60)
        self.kills += code == -signal.SIGKILL
        assert code in (0, -signum, 128 + signum, *AWAY), self.plant.said(self.stage)
        if self.source and code == 0:
            self.is_done = True  # it was done before the signal came
            return
        self.go_on()

    def go_on(self) -> None:
        """Starts it in the next domain that is not away."""
        self.at += 1
        while self.domain in self.plant.away:
            self.at += 1
        self.start()

    def stop(self) -> None:
        """Asks the process to leave, as a supervisor does, and requires that it does so in order."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(timeout=60)
        # One that has only just been started may not have come as far as to know what to do about a signal.
        assert code in (0, 128 + signal.SIGTERM, -signal.SIGTERM), (
            f"it ended with {code}: {self.plant.said(self.stage)}"
        )

    def is_waiting(self) -> bool:
        """Returns whether the process has said that it waits for what will pass."""
        return "Waiting for it" in self.plant.said(self.stage)

    def look(self) -> None:
        """Starts it again elsewhere where a domain that is away has ended it; raises where anything else has."""
        assert self.process is not None
        code = self.process.poll()
        if self.is_done or code is None:
            return
        assert code in (0, *AWAY), f"it ended with {code}: {self.plant.said(self.stage)}"
        if code == 0:
            assert self.source, f"it ended by itself: {self.plant.said(self.stage)}"
            self.is_done = True
            return
        self.go_on()


@contextmanager
def running(roles: Sequence[Role]) -> Iterator[None]:
    """Starts the roles, and leaves no process behind."""
    try:
        for role in roles:
            role.start()
        yield
    finally:
        for role in roles:
            if role.process is not None:
                role.process.kill()
                role.process.wait()


def fail(store: Store, domain: str, roles: Sequence[Role]) -> None:
    """Takes a domain out for a drill, and moves what runs there, as its operator would."""
    store.domains.fail(domain)
    for plant in {id(role.plant): role.plant for role in roles}.values():
        plant.away.add(domain)
    for role in roles:
        if role.domain == domain:
            role.move(signal.SIGTERM)


def restore(store: Store, domain: str, roles: Sequence[Role]) -> None:
    """Ends the drill."""
    store.domains.restore(domain)
    for role in roles:
        role.plant.away.discard(domain)


def wait_until(roles: Sequence[Role], is_reached: Callable[[], bool], progress: Callable[[], object]) -> None:
    """Looks after the roles until something is reached; raises where nothing moves any more."""
    last, moved_s = progress(), time.monotonic()
    while not is_reached():
        for role in roles:
            role.look()
        now, now_s = progress(), time.monotonic()
        if now != last:
            last, moved_s = now, now_s
        assert now_s - moved_s < STALLED_S, f"nothing moved: {now}; {[role.plant.said(role.stage) for role in roles]}"
        time.sleep(LOOK_S)


def make_plant(folder: Path, file: str, *others: str) -> Plant:
    """Copies an example with what it names, and makes the store that it declares."""
    folder.mkdir(exist_ok=True)
    for name in (file, *others):
        shutil.copy(ROOT / "examples" / name, folder)
    plant = Plant(Runner(folder), file)
    plant.command("apply", file)
    return plant


def expect(plant: Plant, told: dict[str, Any]) -> None:
    """Compares the warehouse with what the generator says, and looks at the store."""
    total = plant.rows("warehouse.db", "SELECT count(*), count(DISTINCT event_id), sum(total_cents) FROM orders")
    assert total == [(told["rows"], told["rows"], told["total_cents"])]
    tenants = plant.rows("warehouse.db", "SELECT tenant, count(*), sum(total_cents) FROM orders GROUP BY tenant")
    assert {name: [count, cents] for name, count, cents in tenants} == told["tenants"]
    with grafctl.open(plant.store) as store:
        assert not list(store.verify())
