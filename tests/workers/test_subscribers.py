"""Subscribers of a topic in real processes that die by SIGKILL at named steps, and go on in another domain.

Whoever comes next begins where the ack floor is: what was not finished comes again, what was finished does not, and
what the filter leaves out is passed over once, whoever it was that looked.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Runner

import grafctl
from grafctl.client import create
from grafctl.store import keys
from grafctl.store.resources.group import lineage_of

TOPIC, NAME, AWS, GCP, COUNT = "events", "audit", "aws/us-east-1", "gcp/us-central1", 60
WANTED = [offset for offset in range(COUNT) if offset % 3 == 0]

# Finishes what it was given in the commit that leases the next, as the worker does; tells what it begins and has done.
PROGRAM = """
import sys
import grafctl

path, domain = sys.argv[1:]
with grafctl.open(path) as store:
    given, finish = None, []
    while True:
        given = store.poll("events", "audit", domain=domain, max=4, finish=finish, lease=given.lease if given else None)
        for record in given.records:
            print("begun", record.offset, flush=True)
        finish = [record.offset for record in given.records]
        if not finish:
            break
"""
# Steps of the commits that a poll makes; the number is how often it is passed before the process dies there.
KILLS = [
    *(f"append.before:{number}" for number in (1, 2, 3)),
    *(f"append.after:{number}" for number in (1, 2, 3)),
    *(f"append.committed:{number}" for number in (1, 2, 3)),
    *(f"driver.commit.after:{number}" for number in (1, 2, 5)),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    create(path, {AWS: None, GCP: None})
    with grafctl.open(path) as store:
        store.topics.create(TOPIC, replicas=[f"a={AWS}", f"g={GCP}"], allow=["aws", "gcp"])
        store.consumers.create(
            TOPIC, NAME, allow=["aws", "gcp"], semantics="effectively-once", filter="expr:number % 3 == 0"
        )
        for start in range(0, COUNT, 10):
            records = [b'{"number":%d}' % number for number in range(start, start + 10)]
            store.publish_batch(TOPIC, records, domain=AWS)
    return path


class Subscriber:
    """One process that reads until nothing comes or it dies."""

    def __init__(self, path: Path, domain: str, hours: int, kill_at: str | None = None) -> None:
        variables = {"GRAFCTL_CLOCK_OFFSET_MS": str(hours * 3_600_000)}
        variables |= {"GRAFCTL_KILL_AT": kill_at} if kill_at else {}
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(path), domain],
            env=Runner(path.parent).environment(env=variables),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.code, self.said = ended.returncode, ended.stderr
        self.begun = [int(line.split()[1]) for line in ended.stdout.splitlines()]


def final(path: Path) -> set[int]:
    """Returns what the subscription has finished."""
    with grafctl.open(path) as store, store.session.state(TOPIC) as state:
        lineage = lineage_of(state, NAME)
        return set(range(COUNT)) - {at for start, stop in lineage.unfinished([[0, COUNT]]) for at in range(start, stop)}


def test_subscribers_that_die_lose_nothing_and_finish_nothing_twice(path: Path) -> None:
    died, begun = 0, set[int]()
    for hours, kill_at in enumerate([*KILLS, None]):
        before = final(path)
        subscriber = Subscriber(path, (AWS, GCP)[hours % 2], hours, kill_at)
        assert subscriber.code in (0, -signal.SIGKILL), subscriber.said
        died += subscriber.code != 0
        assert not before & set(subscriber.begun), "what was finished has come again"
        assert set(subscriber.begun) <= set(WANTED)
        begun |= set(subscriber.begun)
    assert died >= 6 and begun == set(WANTED)
    assert final(path) == set(range(COUNT))
    with grafctl.open(path) as store:
        with store.session.state(TOPIC) as state:
            lineage = lineage_of(state, NAME)
            assert (lineage.floor, lineage.done, lineage.leased) == (COUNT, [], [])
            assert (lineage.finalised, lineage.skipped) == (COUNT, COUNT - len(WANTED)), "each once"
            assert not list(state.scan(keys.leases(NAME)))
        assert not list(store.verify())


def test_what_a_dead_subscriber_held_comes_again_in_the_other_domain(path: Path) -> None:
    first = Subscriber(path, AWS, 0, "append.committed:3")
    assert first.code == -signal.SIGKILL and first.begun == WANTED[:8]
    finished = final(path)
    assert set(WANTED[:4]) < finished and not set(WANTED[8:]) & finished
    with grafctl.open(path) as store:
        assert store.consumers.show(TOPIC, NAME).body["ack_floor"] == min(set(range(COUNT)) - finished)
    second = Subscriber(path, GCP, 0)
    assert second.begun == WANTED[12:], "what the dead one holds is withheld until its lease ends"
    third = Subscriber(path, GCP, 1)
    assert third.begun == WANTED[8:12] and final(path) == set(range(COUNT))
