"""The example of a switchover, with real processes: 20 consumers, two engines, a bug in one shape, a kill.

Orders come on while the consumers are switched. Up to October the new engine is right, so nobody can see its bug before
the first consumers of refunds are at its output; what it writes then sends them back, and keeps the others from being
begun. Everybody else is locked, and no consumer finishes a record twice or misses one.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import switchover_engines as engines
from conftest import ROOT, Runner

import grafctl
from grafctl.client import Store
from grafctl.declare import switchover

FILE, AWS = "switchover.toml", "aws/us-east-1"
OF_REFUNDS = ("refunds-letters", "refunds-support", "refunds-fraud", "refunds-ledger")
IN_FLIGHT = OF_REFUNDS[:2]  # these two are among the first eight
SEEN, SWITCHED, CLEAN, ALL = 60, 90, 170, 230  # orders: before the wave, while it goes, before the bug, at the end
WORKERS = 4
STALLED_S = 90.0


class Plant:
    """The store of the example, its orders, and its workers' ledgers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store, self.run = folder, folder / "store", Runner(folder)
        self.file = folder / FILE
        text = (ROOT / "examples" / FILE).read_text()
        for before, after in (
            ("at_once = 4 ", "at_once = 8 "), ('window = "10m"', 'window = "1s"'), ('window = "1h"', 'window = "1s"'),
            ('grace = "1m"', 'grace = "1s"'), ('drain = "30s"', 'drain = "5s"'),
        ):  # fmt: skip
            assert before in text
            text = text.replace(before, after)
        # What its bug does is to be met in the window, however slow the machine is.
        self.file.write_text(re.sub(r'(?m)^(shape = "refunds")$', r'\1\nwindow = "10m"', text))
        self.wave = switchover.read(self.file)
        self.orders = engines.orders()[:ALL]
        self.run("apply", FILE, store=self.store)

    def publish(self, store: Store, first: int, last: int) -> None:
        """Lets both engines write about some orders."""
        for batch in engines.batches(self.orders[first:last], 20):
            engines.publish(store, batch)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Keeps workers at work, each for some of the consumers; raises where one of them failed."""
        names = [consumer.name for consumer in self.wave.consumers]
        program = str(ROOT / "examples" / "switchover_worker.py")
        environment = self.run.environment()
        started = []
        try:
            for number in range(WORKERS):
                words = [sys.executable, program, str(self.store), AWS, str(self.folder / f"ledger-{number}")]
                words += names[number::WORKERS]
                started.append(subprocess.Popen(words, stdin=subprocess.PIPE, env=environment))
            yield
            for worker in started:
                worker.communicate(b"", timeout=60)
                assert worker.returncode == 0
        finally:
            for worker in started:
                worker.kill()
                worker.wait()

    def ledger(self) -> dict[str, Counter[str]]:
        """Returns how often each consumer finished what is known under each key."""
        found: dict[str, Counter[str]] = {consumer.name: Counter() for consumer in self.wave.consumers}
        for file in self.folder.glob("ledger-*"):
            for line in file.read_text().splitlines():
                consumer, _, key = line.split(" ")
                found[consumer][key] += 1
        return found

    def keys(self, store: Store, topic: str) -> set[str]:
        """Returns the keys of the records of a topic."""
        return {record.key for record in store.peek(topic, domain=AWS, max=10_000).body["records"]}

    def states(self, store: Store) -> dict[str, str]:
        """Returns the state of each switch."""
        return {item["switch"]: item["state"] for item in store.switches.status().fields()["switches"]}


def wait_until(is_reached: Callable[[], bool], what: str) -> None:
    """Looks until something is reached; raises where it never is."""
    until_s = time.monotonic() + STALLED_S
    while not is_reached():
        assert time.monotonic() < until_s, f"it never came to this: {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plant, dict[str, Any]]:
    """A plant whose wave was killed in the middle and run again, and what the second run printed."""
    plant = Plant(tmp_path_factory.mktemp("switchover"))
    words = ("consumer", "wave", FILE, "-d", AWS, "--yes", "-o", "jsonl")
    with grafctl.open(plant.store) as store:
        plant.publish(store, 0, SEEN)
        with plant.working():
            # It locks nobody, so the first eight keep their places, and no others are begun, however long it lives.
            quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            killed = plant.run.start(*words, "--no-lock", store=plant.store, **quiet)
            try:
                plant.publish(store, SEEN, SWITCHED)
                wait_until(lambda: are(plant.states(store), IN_FLIGHT, "soaking"), "both soak")
                plant.publish(store, SWITCHED, CLEAN)
            finally:
                killed.send_signal(signal.SIGKILL)
                killed.communicate()
            plant.publish(store, CLEAN, ALL)
            ended = plant.run(*words, store=plant.store, check=19, timeout=STALLED_S)
            wanted = {consumer.name: plant.keys(store, consumer.source) for consumer in plant.wave.consumers}
            wait_until(lambda: all(keys <= plant.ledger()[name].keys() for name, keys in wanted.items()), "all is done")
    return plant, ended.jsonl[-1]


def are(states: dict[str, str], names: tuple[str, ...], state: str) -> bool:
    return all(states.get(name) == state for name in names)


def test_only_consumers_of_the_shape_with_the_bug_are_left_behind(done: tuple[Plant, dict[str, Any]]) -> None:
    plant, told = done
    with grafctl.open(plant.store) as store:
        states = plant.states(store)
        assert not list(store.verify())
    locked = {name for name, state in states.items() if state == "locked"}
    assert states.keys() - locked == set(OF_REFUNDS)
    assert are(states, IN_FLIGHT, "rolled_back") and are(states, OF_REFUNDS[2:], "source")
    by_name = {item["consumer"]: item for item in told["consumers"]}
    assert {name for name, item in by_name.items() if item["standing"] == "locked"} == locked
    for name in IN_FLIGHT:
        assert by_name[name]["standing"] == "went_back" and "mismatches" in by_name[name]["note"]
    for name in OF_REFUNDS[2:]:
        assert by_name[name]["note"] == "refunds-letters of the same shape went back"


def test_no_record_is_lost_or_finished_twice(done: tuple[Plant, dict[str, Any]]) -> None:
    plant, _ = done
    ledger, hit = plant.ledger(), set(engines.hit(plant.orders))
    with grafctl.open(plant.store) as store:
        for consumer in plant.wave.consumers:
            keys, finished = plant.keys(store, consumer.source), ledger[consumer.name]
            assert max(finished.values()) == 1, (consumer.name, finished.most_common(3))
            assert keys <= finished.keys()
            # What the new engine gave and nobody is owed may have been taken while the consumer was at its output.
            assert finished.keys() - keys <= (hit if consumer.name in IN_FLIGHT else set())


def test_the_report_names_the_records_of_the_bug(done: tuple[Plant, dict[str, Any]]) -> None:
    plant, _ = done
    hit = set(engines.hit(plant.orders))
    for name in IN_FLIGHT:
        report = plant.run("consumer", "report", name, "--json", store=plant.store).json
        named = {sample["match_key"] for sample in report["samples"]}
        assert named and named <= hit
        text = plant.run("consumer", "report", name, store=plant.store).out
        assert all(key in text for key in named)
    report = plant.run("consumer", "report", "invoices-ledger", "--json", store=plant.store).json
    assert not report["samples"]


def test_the_wave_again_changes_nothing_and_with_again_the_comparison_is_in_the_way(
    done: tuple[Plant, dict[str, Any]],
) -> None:
    plant, told = done
    words = ("consumer", "wave", FILE, "-d", AWS, "--yes", "--json")
    again = plant.run(*words, store=plant.store, check=19).json
    assert not again["changed"] and again["consumers"] == told["consumers"]
    tried = plant.run(*words, "--again", store=plant.store, check=19, timeout=STALLED_S).json
    blocked = {item["consumer"]: item for item in tried["consumers"] if item["standing"] == "blocked"}
    assert blocked.keys() == set(OF_REFUNDS)
    assert all(item["code"] == "proof_required" for item in blocked.values())
    planned = plant.run("consumer", "plan", FILE, "--json", store=plant.store).json
    assert {item["consumer"] for item in planned["consumers"] if item["standing"] == "blocked"} == set(OF_REFUNDS)
