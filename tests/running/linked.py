"""Four stages in four processes that hand records over on edges, and what befalls them.

`Linked` keeps each stage running: killed from outside, killed by itself at a named point in the middle of a step, or
stopped until the lease of the edge behind it has expired.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grafctl
from running.plant import AWS, STALLED_S, Plant, make_plant

FILE = "edges.toml"
STAGES = ("ingest", "parse", "enrich", "store")
EDGE_BEHIND = {"ingest": "raw", "parse": "parsed", "enrich": "enriched"}
SMALL = 'slots = 64\nbytes = "512KiB"\nterm = "1s"\n'
QUESTION = "SELECT * FROM orders ORDER BY tenant, event_id"
LOOK_S = 0.02


def plant_of(folder: Path, change: Callable[[str], str]) -> Plant:
    """Returns the example on a store of its own, with its file changed before that."""
    plant = make_plant(folder, FILE)
    (folder / FILE).write_text(change((folder / FILE).read_text()))
    plant.command("apply", FILE)
    return plant


def with_small_edges(text: str) -> str:
    """Returns the file with edges that are full soon and whose leases end soon."""
    for name in EDGE_BEHIND.values():
        head = f'[[edge]]\nname = "{name}"\n'
        assert head in text
        text = text.replace(head, head + SMALL)
    return text


def with_topics(text: str) -> str:
    """Returns the file with another word in it."""
    assert text.count("\n[[edge]]\n") == len(EDGE_BEHIND)
    return text.replace("\n[[edge]]\n", "\n[[topic]]\n")


class Linked:
    """The four processes."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.kills = dict.fromkeys(STAGES, 0)
        self.expired = dict.fromkeys(EDGE_BEHIND, 0)

    def start(self, stage: str, kill: str | None = None) -> None:
        self.processes[stage] = self.plant.start(stage, AWS, kill=kill)

    @property
    def is_over(self) -> bool:
        """Returns whether the first stage has ended by itself: all that it read is committed."""
        return self.processes["ingest"].poll() == 0

    def kill(self, *stages: str) -> None:
        """Kills these at once, and starts them again."""
        for stage in stages:
            self.processes[stage].kill()
        for stage in stages:
            code = self.processes[stage].wait(timeout=60)
            self.kills[stage] += code == -signal.SIGKILL
            if not (stage == "ingest" and code == 0):
                self.start(stage)

    def kill_at(self, stage: str, point: str) -> None:
        """Starts a stage anew that dies at a point of its work, and again when it has died."""
        self.processes[stage].kill()
        if self.processes[stage].wait(timeout=60) == 0:
            return
        self.start(stage, point)
        self.wait_until(lambda: self.processes[stage].poll() is not None, but=stage)
        if not self.is_over:
            self.kills[stage] += self.processes[stage].wait() == -signal.SIGKILL
            self.start(stage)

    def let_expire(self, stage: str) -> None:
        """Stops a stage until the lease of the edge behind it is over, and lets it go on."""
        process = self.processes[stage]
        if process.poll() is not None:
            return
        process.send_signal(signal.SIGSTOP)
        try:
            with grafctl.open(self.plant.store) as store:
                edge = EDGE_BEHIND[stage]
                self.wait_until(lambda: state_of(store, edge) == "expired")
            self.expired[stage] += 1
        finally:
            process.send_signal(signal.SIGCONT)

    def count(self) -> int:
        """Returns how many orders are in the warehouse."""
        if not (self.plant.folder / "warehouse.db").exists():
            return 0
        there = self.plant.rows("warehouse.db", "SELECT count(*) FROM sqlite_master WHERE name = 'orders'")[0][0]
        return int(there and self.plant.rows("warehouse.db", "SELECT count(*) FROM orders")[0][0])

    def wait_until(self, is_reached: Callable[[], bool], but: str = "") -> None:
        """Waits until it is reached or all is over; raises where nothing moves, or a stage ends that should not."""
        last, moved_s = self.count(), time.monotonic()
        while not is_reached() and not self.is_over:
            for stage, process in self.processes.items():
                code = process.poll()
                assert code is None or stage == but or code == 0, f"it ended with {code}: {self.plant.said(stage)}"
            now, now_s = self.count(), time.monotonic()
            if now != last:
                last, moved_s = now, now_s
            assert now_s - moved_s < STALLED_S, f"nothing moved: {now}; {[self.plant.said(name) for name in STAGES]}"
            time.sleep(LOOK_S)

    def go_on(self, rows: int) -> None:
        """Waits until so many more orders are in the warehouse, or all is over."""
        until = self.count() + rows
        self.wait_until(lambda: self.count() >= until)

    def stop(self) -> None:
        """Asks the stages that go on for ever to leave, in order."""
        for stage in STAGES[1:]:
            self.processes[stage].terminate()
        for stage in STAGES[1:]:
            code = self.processes[stage].wait(timeout=60)
            assert code in (0, 128 + signal.SIGTERM, -signal.SIGTERM), self.plant.said(stage)


def state_of(store: grafctl.Store, edge: str) -> str:
    return next((str(row["state"]) for row in store.leases.list().items if row["lease"] == edge), "absent")


@contextmanager
def linked(plant: Plant) -> Iterator[Linked]:
    """Yields the four stages at work, and leaves no process behind."""
    found = Linked(plant)
    try:
        for stage in STAGES:
            found.start(stage)
        yield found
    finally:
        for process in found.processes.values():
            process.kill()
            process.wait()
