"""Histories of resources that share a log: records come in, and stages finish them, record that and publish what comes
of them, in one entry; while the same faults happen as in the other histories.

Promises
- In every committed state that anybody sees, and at the end in each domain, a record is finished exactly if all that
  comes of it is published and its effect is recorded, each once. Of what is refused, nothing is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from faults.stores import DOMAINS, SHAPES
from faults.verdict import Ledger, judge

from grafctl import client, clock
from grafctl.pipeline import declaring
from grafctl.pipeline.model import Pipeline
from grafctl.pipeline.stages.transforming import TransformStage
from grafctl.pipeline.stages.work import Place
from grafctl.pipeline.transforms.making import make_transform
from grafctl.store import keys
from grafctl.store.blocks import Packed
from grafctl.store.driver.contract import View
from grafctl.store.intervals import contains
from grafctl.store.reading import Held, read_columns
from grafctl.store.records import encode_json
from grafctl.store.replica.replica import Replica
from grafctl.store.replica.scope import scoped, whole
from grafctl.store.replica.state import State
from grafctl.store.resources.delivery import Lineage
from simulation.clients import Client, Refused, Step, Try, Wrong
from simulation.history import History, Report, play
from simulation.steps import ABSENT, FENCED, NEVER, Draft, Publish
from simulation.stores import Ground, begin, ground

RAW, CLEAN, EFFECTS, TIDY = "raw", "clean", "effects", "tidy"  # in the order of their numbers
COMMON_IDS = ("id-1", "id-2")
ALLOW = '["a", "b", "c", "d"]'
FILE = f"""
[pipeline]
name = "flow"
{"".join(f'[[domain]]{chr(10)}name = "{name}"{chr(10)}' for name in DOMAINS)}
[[log]]
name = "flow"
replicas = {{ ra = "a", rb = "b" }}
[[queue]]
name = "{RAW}"
log = "flow"
allow = {ALLOW}
[[topic]]
name = "{CLEAN}"
log = "flow"
allow = {ALLOW}
[[idem]]
name = "{EFFECTS}"
log = "flow"
allow = {ALLOW}
[[stage]]
name = "{TIDY}"
kind = "transform"
input = "{RAW}"
output = "{CLEAN}"
effects = "{EFFECTS}"
batch = 3
allow = ["a", "b"]
[[stage.step]]
op = "cast"
fields = {{ n = "int" }}
[[stage.step]]
op = "explode"
field = "items"
"""


@cache
def pipeline() -> Pipeline:
    return declaring.parse(FILE.encode(), Path("flow.toml"), Path("/"))


class FlowHistory(History):
    """The play of one seed with a stage at work."""

    def begin(self, shape: str) -> Ground:
        return ground(shape, begin_flow)

    def draw(self, random: Random, shape: str) -> list[list[Step]]:
        return [_program(random, name) for name in "xyz"[: random.randint(2, 3)]]

    def judge(self, store: client.Store) -> None:
        judge(store, self.ledger, away=self.accidents.damaged)
        log = store.session.resource(RAW)
        for voter in log.settle().config.voters:
            if not voter.witness and voter.domain not in self.accidents.damaged:
                with store.session.cluster.environment(voter.domain).read() as view:
                    require_whole(view, log.id, voter.domain, Replica(view, log.id, voter.domain).state)


def begin_flow(made: Ground) -> None:
    """Three resources in one log; two records came in, and nobody has worked on them."""
    begin(made)
    replicas, min_payload = SHAPES[made.shape]
    made.ledger = Ledger(RAW)
    with made.open(made.driver) as store:
        store.queues.create(RAW, log="flow", replicas=replicas, min_payload=min_payload, allow=list(DOMAINS))
        store.topics.create(CLEAN, log="flow", allow=list(DOMAINS))
        store.idem.create(EFFECTS, log="flow", allow=list(DOMAINS))
        store.consumers.create(RAW, TIDY, allow=["a", "b"], semantics="effectively-once")
        for number in range(2):
            payload = _payload(f"first {number}", 1)
            made.ledger.publishes([payload])
            made.ledger.published(store.publish(RAW, payload, domain="a").offset, payload)


def _payload(name: str, items: int, *, is_bad: bool = False) -> str:
    return json.dumps({"items": list(range(items)), "n": "no number" if is_bad else "7", "name": name})


def _program(random: Random, name: str) -> list[Step]:
    return [_step(random, f"{name}{number}") for number in range(random.randint(3, 6))]


def _step(random: Random, name: str) -> Step:
    chance = random.random()
    if chance < 0.35:
        drafts = [_draft(random, f"{name}.{place}") for place in range(random.choice((1, 2, 4)))]
        return Publish(drafts, random.choice(DOMAINS), None, 1, RAW)
    if chance < 0.5:
        return Look()
    return Work(random.randint(1, 4), random.choice((300, 3_000, 30_000)))


def _draft(random: Random, name: str) -> Draft:
    record_id = random.choice((None, f"of {name}", *COMMON_IDS))
    items, is_bad = random.choice((0, 1, 1, 1, 2, 3)), random.random() < 0.1
    if record_id in COMMON_IDS:
        return Draft(_payload(f"{random.choice('ab')} of {record_id}", 2), record_id)  # the other one is refused
    return Draft(_payload(name, items, is_bad=is_bad), record_id)


@dataclass
class Work:
    """Some steps of the stage, as a process makes them that may die in each."""

    rounds: int
    visibility_ms: int

    def run(self, client: Client) -> None:
        place = client.history.place(TIDY)
        (declared,) = pipeline().stages
        stage = TransformStage(
            Place(client.store.session, pipeline(), place, self.visibility_ms),
            declared,
            make_transform(declared, Path("/")),
        )

        def step(one: Try) -> None:
            stage.step()

        try:
            for _ in range(self.rounds):
                client.ask(frozenset({ABSENT, NEVER, FENCED}), step, may_give_up=True)  # a stage stays in its domain
                clock.sleep(client.random.random() ** 3 * 2 * self.visibility_ms / 1000)
            if client.random.random() < 0.5:
                client.ask(frozenset({NEVER, FENCED}), lambda one: stage.leave(), may_give_up=True)
        except Refused:
            return


@dataclass
class Look:
    """What anybody sees at any time is whole."""

    def run(self, client: Client) -> None:
        def look(one: Try) -> None:
            log = client.store.session.resource(RAW)
            with log.view(prefer=client.history.place(TIDY)) as committed:
                if committed.domain not in client.history.accidents.damaged:
                    require_whole(committed.view, log.id, committed.domain, committed.state)

        try:
            client.ask(frozenset({ABSENT, NEVER}), look, may_give_up=True)
        except Refused:
            return


def require_whole(view: View, log: bytes, domain: str, state: State) -> None:
    """Raises `Wrong` where a record is finished and not all is there that comes of it, or the other way round."""
    raw, clean, effects = (dict(_records(view, log, domain, scoped(whole(state), number))) for number in (1, 2, 3))
    lineage = Lineage.of(state.get_json(keys.lineage(TIDY)))
    outputs: Counter[tuple[str, bytes]] = Counter()
    done: Counter[str] = Counter()
    for offset, record in raw.items():
        if offset < lineage.floor or contains(lineage.done, offset):
            source = record.id or f"{RAW}@{offset}"
            done[source] += 1
            value = json.loads(record.payload)
            for number in value["items"]:
                name = f"{TIDY}:{source}#{number}" if number else f"{TIDY}:{source}"
                outputs[name, encode_json({"items": number, "n": 7, "name": value["name"]})] += 1
    told = f"in {domain}, with floor {lineage.floor} and {lineage.done}"
    found = Counter((record.id or "", record.payload) for record in clean.values())
    if found != outputs:
        raise Wrong(f"{told}: missing {outputs - found}, and too many {found - outputs}")
    recorded = Counter(record.id or "" for record in effects.values())
    if recorded != done:
        raise Wrong(f"{told}: effects missing {done - recorded}, and too many {recorded - done}")


def _records(view: View, log: bytes, domain: str, state: State) -> Iterator[tuple[int, Packed]]:
    row = state.get_json(keys.queue())
    for _, first, columns in read_columns(Replica(view, log, domain), state, [[row["first"], row["next"]]], Held()):
        yield from enumerate(map(Packed, *columns), first)


def play_flow(seed: int) -> Report:
    """Plays the history of a seed."""
    return FlowHistory(seed).play()


def play_briefly(seed: int, *, is_flow: bool) -> Report:
    """Plays the history of a seed, and leaves the trace out."""
    report = play_flow(seed) if is_flow else play(seed)
    report.trace.clear()
    return report
