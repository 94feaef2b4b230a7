"""How many records a second we keep in two copies, beside what others keep in one; all of them durable, in turn.

Each peer is a private server on the same disk, with its own defaults but for the flush that it needs for a promise like
ours. It is handed its commands ready made, which ours are not. Ids that are stored before are as many on every side.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

import grafctl
from bench import postgres, redis
from bench.ids import new_id, small
from bench.rows import Row, Target, unmeasured
from bench.servers import Missing, Peer
from bench.stores import fill, make, payloads, publish_all, said
from bench.turns import Action, in_turn, ratio
from grafctl import Outgoing
from grafctl.client import Store

NAME = "peers: two durable copies, beside one durable copy in PostgreSQL and in Redis, where they are installed"
IDS = 5_000_000
FILL_S_MAX = 60.0
ROUNDS, SINGLES, BATCHES, RECORDS = 7, 25, 10, 1000  # a round: single publishes, batches, records in each batch


class Kind(NamedTuple):
    """One peer and how many times as fast we want to be."""

    started: Callable[[Path], AbstractContextManager[Peer]]
    name: str
    target: Target


KINDS = (
    Kind(postgres.started, postgres.NAME, Target(">=", 1.1)),
    Kind(redis.started, redis.NAME, Target(">=", 4.0)),
)
WORKLOADS = ("single durable publish", "batched publish without ids", "batched publish with ids")


def run() -> list[Row]:
    """Measures us and each peer that there is."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        directory = Path(name)
        store = stack.enter_context(grafctl.open(make(directory / "store", "single", "batched", "keyed")))
        stored = fill(store, "keyed", IDS, FILL_S_MAX, small)
        peers: list[Peer] = []
        missing = {}
        for kind in KINDS:
            try:
                peers.append(stack.enter_context(kind.started(directory / f"peer-{len(peers)}")))
                peers[-1].preload(stored)
            except Missing as why:
                missing[kind.name] = str(why)
        found = _measured(store, peers)
    there = [kind.name for kind in KINDS if kind.name not in missing]
    notes = [f"{ROUNDS} rounds of {SINGLES}", f"{ROUNDS} rounds of {BATCHES} batches", said(stored, IDS, "ids stored")]
    rows = []
    for workload, note, (count, (ours_s, *theirs_s)) in zip(WORKLOADS, notes, found, strict=True):
        rows.append(Row(f"{workload}, ours", count / median(ours_s), "/s"))
        for it, its_s in zip(there, theirs_s, strict=True):
            rows.append(Row(f"{workload}, {it}", count / median(its_s), "/s"))
        for kind in KINDS:
            row = Row(workload, None, "x", kind.target, kind.name, note)
            if kind.name in missing:
                rows.append(unmeasured(row, missing[kind.name]))
            else:
                rows.append(row._replace(value=ratio(theirs_s[there.index(kind.name)], ours_s)))
    return rows


class Timed(NamedTuple):
    """How many records were published in a round, and the seconds of each round on each side, ours first."""

    records: int
    times: list[list[float]]


def _measured(store: Store, peers: list[Peer]) -> list[Timed]:
    """Returns what each workload took."""
    texts = payloads(RECORDS)
    single = texts[0]

    def ours_one_by_one() -> None:
        for _ in range(SINGLES):
            store.publish("single", single, domain="aws")

    def one_by_one(peer: Peer) -> Action:
        publish = peer.plain([single])
        return lambda: [publish() for _ in range(SINGLES)]

    def stream(peer: Peer) -> Action:
        publish = peer.plain(texts)
        return lambda: [publish() for _ in range(BATCHES)]

    rounds = [[[Outgoing(text, new_id()) for text in texts] for _ in range(BATCHES)] for _ in range(ROUNDS + 1)]

    def keyed(peer: Peer) -> Action:
        ready = iter([[peer.keyed(batch) for batch in batches] for batches in rounds])
        return lambda: [publish() for publish in next(ready)]

    ours_keyed = iter(rounds)
    many = BATCHES * RECORDS
    return [
        Timed(SINGLES, in_turn(ROUNDS, ours_one_by_one, *map(one_by_one, peers))),
        Timed(many, in_turn(ROUNDS, lambda: publish_all(store, "batched", [texts] * BATCHES), *map(stream, peers))),
        Timed(many, in_turn(ROUNDS, lambda: publish_all(store, "keyed", next(ours_keyed)), *map(keyed, peers))),
    ]
