"""What the processes of a storm do: publishers, consumers and an operator, each killed and started again at any time.

A role opens the store once, works until its time is over or the file `calm` is there, and says what it is about to try
and what was acknowledged. Refusals that the storm explains (a domain that is away, no quorum, a lease that is over, a
domain that the migration took out) are said and tried again; any other error is a crash, which fails the storm.
"""

from __future__ import annotations

import random
import time
from functools import partial
from pathlib import Path
from typing import Any

from faults.deeds import GROUP, HOUR_MS, QUEUE, Say
from faults.stores import DOMAINS
from histories.recorder import Recorder, recording

import grafctl.client as client
from grafctl.errors import (
    Busy,
    DomainUnavailable,
    Fenced,
    GenerationConflict,
    GrafctlError,
    NoQuorum,
    NotFound,
    ProofRequired,
    Timeout,
)
from grafctl.results import Delivery
from grafctl.store.blocks import Outgoing

MOVED_TO, MOVED = "d", "moved"  # the domain that the migration leads to, and the group that is shifted there
WEATHER = (NoQuorum, Timeout, DomainUnavailable, Busy)
VISIBILITY_MS = 1500
SHARED_IDS = 200  # ids that all publishers publish, each with the payload that belongs to it
PAUSE_S = 0.02
BACKUP_PAUSE_S, MEND_PAUSE_S = 4.0, 0.3


class Shift:
    """How long a process works: until its time is over, or it is told to stop."""

    def __init__(self, calm: str, seconds: float) -> None:
        self._calm = Path(calm)
        self._until = time.monotonic() + seconds

    def __bool__(self) -> bool:
        return time.monotonic() < self._until and not self._calm.exists()


def shared(number: int) -> tuple[str, str]:
    """Returns the id and the payload of a record that several publishers publish."""
    return f"shared-{number}", f"shared payload {number}"


def publisher(store: Path, say: Say, name: str, domains: list[str], seed: int, calm: str, seconds: float) -> None:
    """Publishes single records and batches, with ids of its own, with ids that all share, and without."""
    rng, shift, go = random.Random(seed), Shift(calm, seconds), 0
    with client.open(store) as opened:
        while shift:
            batch = _batch(rng, name, go)
            go += 1
            say(tries=[record.payload.decode() for record in batch])
            key: dict[str, Any] = {}
            while True:
                try:
                    ack = opened.publish_batch(QUEUE, batch, domain=rng.choice(domains), **key)
                except WEATHER as error:
                    say(refused=error.code)
                    if error.fields.get("operation"):
                        key = {"operation": error.fields["operation"]}
                    if not shift:
                        return
                    time.sleep(PAUSE_S)
                else:
                    offsets = ack.offsets or range(ack.offset, ack.offset + ack.count)
                    assert not ack.conflicts, ack
                    for offset, record in zip(offsets, batch, strict=True):
                        say(published=[offset, record.payload.decode(), record.id])
                    break


def _batch(rng: random.Random, name: str, go: int) -> list[Outgoing]:
    batch: list[Outgoing] = []
    for item in range(rng.choice((1, 1, 1, 2, 5, 20))):
        text, record_id = f"{name} {go} {item}", None
        kind = rng.random()
        if kind < 0.3:
            record_id = text.replace(" ", "-")
        elif kind < 0.5:
            record_id, text = shared(rng.randrange(SHARED_IDS))
        if record_id is None or all(record_id != other.id for other in batch):
            batch.append(Outgoing(text.encode(), record_id))
    return batch


def consumer(store: Path, say: Say, groups: list[str], seed: int, calm: str, seconds: float, history: str) -> None:
    """Polls for any of the groups in any domain, and acks in time or too late, gives back, or forgets what it holds."""
    rng, shift, path = random.Random(seed), Shift(calm, seconds), Path(history)
    with client.open(store) as opened, recording(path, time.monotonic) as recorder:
        hand = Hand(opened, say, rng, recorder, path.name)
        while shift:
            try:
                hand.consume(rng.choice(groups), rng.choice(DOMAINS))
            except (*WEATHER, Fenced, NotFound) as error:  # the group to come is not there yet; a lease was over
                say(refused=error.code)
                time.sleep(PAUSE_S)


class Hand:
    """A consumer's hand: what it does with records is recorded for the models of `histories`."""

    def __init__(self, opened: client.Store, say: Say, rng: random.Random, recorder: Recorder, name: str) -> None:
        self._store, self._say, self._rng, self._recorder, self._name = opened, say, rng, recorder, name

    def consume(self, group: str, domain: str) -> None:
        rng, start = self._rng, self._recorder.now()
        most = rng.choice((1, 3, 10, 40))
        delivery = self._store.poll(QUEUE, group, domain=domain, max=most, visibility_ms=VISIBILITY_MS)
        if not delivery.records:
            time.sleep(PAUSE_S)
            return
        for record in delivery.records:
            about = (self._name, "delivery", str(record.offset), "lease")
            self._recorder.add(*about, start, "ok", token=delivery.lease)
        self._say(delivered=[[record.offset, record.payload.decode()] for record in delivery.records])
        what = rng.random()
        if what < 0.05:
            return  # forgotten; the records come again when the lease is over
        if 0.1 < what < 0.13:
            time.sleep(VISIBILITY_MS / 1000 * rng.uniform(0.5, 1.5))
        self._settle(group, domain, delivery, "nack" if what < 0.1 else "ack")

    def _settle(self, group: str, domain: str, delivery: Delivery, name: str) -> None:
        offsets = [record.offset for record in delivery.records]
        begin = partial(self._recorder.begin, self._name, "delivery")
        begun = [begin(str(offset), name, token=delivery.lease) for offset in offsets]
        try:
            if name == "nack":
                done = self._store.nack(QUEUE, group, offsets, domain=domain, lease=delivery.lease, counted=False)
            else:
                done = self._store.ack(QUEUE, group, offsets, domain=domain, lease=delivery.lease)
                self._say(finalised=[GROUP, offsets, done.count])
        except GrafctlError as error:
            if error.fields.get("outcome") != "unknown":
                for operation in begun:
                    self._recorder.drop(operation)
            raise
        words = {"ack": ("first", "done"), "nack": ("ok", "nothing")}[name]
        result = words[0] if done.count == len(offsets) else words[1] if not done.count else None
        for operation in begun:
            self._recorder.end(operation, result)


def operator(store: Path, say: Say, seed: int, calm: str, seconds: float) -> None:
    """Moves the replicas through the domains for ever: adds one, catches it up, shifts consumers, takes one out."""
    rng, shift = random.Random(seed), Shift(calm, seconds)
    with client.open(store) as opened:
        while shift:
            try:
                _next_move(opened, say, rng)
            except (*WEATHER, GenerationConflict, ProofRequired) as error:
                say(refused=error.code)
            time.sleep(PAUSE_S)


def _next_move(opened: client.Store, say: Say, rng: random.Random) -> None:
    """Takes the step that the locator asks for; what an operator began who was killed is found there."""
    shown = opened.locator.show(QUEUE).fields()
    replicas, following = shown["replicas"], shown["generation"] + 1
    learning = [item["domain"] for item in replicas if item["state"] != "ready"]
    if learning:
        proof = opened.catch_up(QUEUE, domain=learning[0])
        say(caught_up=[learning[0], proof.count])
        if learning[0] == MOVED_TO and MOVED not in groups_of(opened):
            done = opened.consumers.shift(QUEUE, GROUP, as_=MOVED, allow=[MOVED_TO], proof=proof.proof)
            say(shifted=done.start)
    elif len(replicas) < len(DOMAINS):
        domain = next(name for name in reversed(DOMAINS) if all(item["domain"] != name for item in replicas))
        opened.locator.set(QUEUE, generation=following, add=[f"r{domain}={domain}"], max_age_ms=HOUR_MS * 1000)
        say(added=domain)
    else:
        gone = rng.choice([item for item in replicas if item["domain"] != MOVED_TO])  # its group has no other domain
        opened.locator.set(QUEUE, generation=following, remove=[gone["id"]])
        say(removed=gone["domain"])


def groups_of(opened: client.Store) -> list[str]:
    return [item["group"] for item in opened.consumers.list(QUEUE).items]


def keeper(store: Path, say: Say, name: str, domains: list[str], calm: str, seconds: float, folder: str) -> None:
    """Publishes a mark and backs the store up, again and again: what was acknowledged before must be in it."""
    shift, go = Shift(calm, seconds), 0
    with client.open(store) as opened:
        while shift:
            go += 1
            mark, path = f"mark {name} {go}", Path(folder) / f"{name}-{go}.backup"
            say(tries=[mark])
            try:
                ack = opened.publish(QUEUE, mark, domain=domains[0])
                say(published=[ack.offset, mark, None])
                opened.backup(path)
                say(backed_up=[str(path), ack.offset])
            except WEATHER as error:
                say(refused=error.code)
            time.sleep(BACKUP_PAUSE_S)


def mender(store: Path, say: Say, harmed: str, calm: str, seconds: float) -> None:
    """Repairs the domain that the file `harmed` names, and removes the file when it is whole again."""
    shift, task = Shift(calm, seconds), Path(harmed)
    with client.open(store) as opened:
        while shift:
            try:
                domain = task.read_text()
                done = opened.domains.repair(domain, lost=True)
                say(repaired=[domain, done.changed])
                task.unlink()
            except FileNotFoundError:
                pass  # nothing is harmed
            except (*WEATHER, GenerationConflict) as error:
                say(refused=error.code)
            time.sleep(MEND_PAUSE_S)
