"""The cases of the kill sweep: which command, in which store, dies where, with which domain away; and how one is run.

A case is: copy a store; perhaps fail a domain; run the command until it is killed, perhaps again in the recovery; put
everything back; run the same command, which must succeed, and once more, which must change nothing; then the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import grafctl.client as client
from faults import moves
from faults.deeds import STREAM
from faults.etl import LOAD, TAKE, TIDY
from faults.forks import Forks, Ran
from faults.stores import CHUNKS, DOMAINS, SHAPES, Templates, note, publish
from faults.verdict import Ledger, verdict

HITS = (1, 2, 3)
# What a command may answer while a domain is away; never 1, 2 or 25. 11 because a view may lag by what is in flight.
OUTAGE_EXITS = {0, 10, 11, 12, 13, 21, 22, 24}
ALL = tuple(SHAPES)
DAMAGED = {
    "damaged": "b",
    "headless for good": "a",
    "witnessed": "a",
    "lone": "b",
}  # the domain that is damaged in a stage, and cannot be failed
PAYLOAD3 = ("three", "witness1")  # shapes that write while one domain is away

About = Callable[[Templates, str], dict[str, Any]]


@dataclass(frozen=True)
class Command:
    """A command of the sweep: a deed with its arguments, the store it begins in, and what it may publish."""

    deed: str
    stage: str = "base"
    shapes: tuple[str, ...] = ALL
    about: Mapping[str, Any] | About = field(default_factory=dict)
    patch: Mapping[str, Any] = field(default_factory=dict)
    tries: tuple[str, ...] = ()  # payloads that each run may add
    once: tuple[str, ...] = ()  # payloads that all runs together may add, because they have ids
    is_idempotent: bool = True  # a run after the successful one says `changed: false`
    share: int = 1  # the normal run takes every so many of its single kills
    is_counted: bool = True  # each run passes each point as often: no thread of it looks again when it may


def _replicas(templates: Templates, shape: str) -> dict[str, Any]:
    return {"replicas": SHAPES[shape][0]}


def _proof(templates: Templates, shape: str) -> dict[str, Any]:
    templates.prepare(shape, "caught")
    return {"proof": templates.proofs[shape]}


def _backup(templates: Templates, shape: str) -> dict[str, Any]:
    return {"backup": str(templates.backup(shape))}


PIPELINE = "pipeline run"  # the only one whose work is not in the store alone
_STREAM = tuple(text for batch in STREAM for _, text in batch)
_MOVING = ("two", "three", "witness")  # the rule of `witness1` holds for no other voter set

COMMANDS: dict[str, Command] = {
    "publish": Command("publish", about={"payload": "new"}, tries=("new",), is_idempotent=False),
    "publish --id": Command("publish", about={"payload": "new", "id": "new"}, once=("new",)),
    "publish elsewhere": Command(
        "publish", about={"payload": "new", "id": "new", "domain": "b"}, once=("new",), shapes=("three",)
    ),
    "publish -": Command("publish_stream", once=_STREAM),
    "publish, headless": Command(
        "publish", "headless", PAYLOAD3, about={"payload": "new", "id": "new", "domain": "b"}, once=("new",)
    ),
    "ack": Command("ack", about={"offsets": [2]}),
    "nack": Command("nack", about={"offsets": [2]}),
    "poll": Command("poll", is_idempotent=False),
    "locator set --add": Command("locator", about={"generation": 2, "add": ["rd=d"]}),
    "locator set --remove": Command("locator", shapes=_MOVING, about={"generation": 2, "remove": ["rb"]}),
    "locator set --remove the primary": Command("locator", shapes=_MOVING, about={"generation": 2, "remove": ["ra"]}),
    "catch-up": Command("catch_up", "adding", _MOVING),
    "catch-up in chunks": Command("catch_up", "adding", _MOVING, patch=CHUNKS),
    "catch-up resumed": Command("catch_up", "halfway", _MOVING, patch=CHUNKS),
    "consumer shift": Command("shift", "caught", _MOVING, about=_proof),
    "consumer create": Command("consumer_create"),
    "placement set": Command("placement"),
    "fence": Command("fence"),
    "queue create": Command("queue_create", about=_replicas),
    "topic create --log": Command("topic_create", "etl", ("three", "witness"), share=3),
    "apply FILE": Command("apply", shapes=("three",), share=3),
    "apply PLAN": Command("apply_plan", shapes=("three",), share=3),
    "schema add": Command("schema_add", shapes=("three",), share=3),
    "idem reserve, complete": Command("idem_work", "etl", ("three",), share=3),
    "idem release": Command("idem_release", "etl", ("three",), share=3),
    "idem expire": Command("idem_expire", "etl", ("three",), share=3),
    "pipeline run --stage tidy": Command(
        "pipeline_run", "etl", ("three", "witness1"), about={"stages": [TIDY]}, is_counted=False, share=2
    ),
    PIPELINE: Command(
        "pipeline_run", "etl", ("three",), about={"stages": [TAKE, TIDY, LOAD]}, is_counted=False, share=4
    ),
    "vshard migrate": Command("vshard_migrate", "table", ("three", "witness1"), patch=moves.CHUNKS, share=8),
    "vshard reverse": Command("vshard_reverse", "moved", ("three",), patch=moves.CHUNKS, share=8),
    "vshard cancel": Command("vshard_cancel", "held", ("three",), patch=moves.CHUNKS, share=8),
    "vshard retire": Command("vshard_retire", "moved", ("three",), patch=moves.CHUNKS, share=8),
    "domain add": Command("domain_add", shapes=("two", "three")),
    "domain restore": Command("restore", "behind", PAYLOAD3),
    "backup": Command("back_up", is_idempotent=False, patch=CHUNKS),
    "restore": Command("restore_backup", "lost", about=_backup, patch=CHUNKS),
    "domain repair": Command("domain_repair", "damaged", ("two", "three", "witness1")),
    "domain repair, learning": Command("domain_repair", "damaged", ("two", "three"), patch=CHUNKS),
    "domain repair --accept-loss": Command(
        "domain_repair", "witnessed", ("witness1",), about={"domain": "a", "accept_loss": ["q"]}
    ),
    "domain repair, a log lost": Command(
        "domain_repair", "lone", ("three",), about={"domain": "b", "accept_loss": ["lone"]}
    ),
    "domain repair of the primary": Command("domain_repair", "headless for good", about={"domain": "a"}),
    "init": Command("init", "nothing", ("two", "three"), about={"domains": list(DOMAINS)}),
}
PAIRS = [(name, shape) for name, command in COMMANDS.items() for shape in command.shapes]


class Outage(NamedTuple):
    """A domain that is away: since before the kill, or only in the recovery."""

    domain: str
    when: str  # before, after


class Case(NamedTuple):
    """One run of the sweep."""

    command: str
    shape: str
    kills: tuple[tuple[str, int], ...]
    outage: Outage | None = None

    def __str__(self) -> str:
        kills = ", then ".join(f"{point}:{n}" for point, n in self.kills)
        away = f", {self.outage.domain} away {self.outage.when}" if self.outage else ""
        return f"{self.command} [{self.shape}] killed at {kills}{away}"


class Sweep:
    """Runs cases; knows which points each command passes, because it has counted them."""

    def __init__(self, folder: Path, commands: Mapping[str, Command] = COMMANDS) -> None:
        self.commands = commands
        self.forks = Forks()
        self.templates = Templates(folder, self.forks)
        self._hits: dict[tuple[str, str, str | None], dict[str, int]] = {}

    def close(self) -> None:
        self.forks.close()

    # --- which cases there are

    def hits(self, name: str, shape: str, away: str | None = None) -> dict[str, int]:
        """Returns how often a command passes each point when nothing goes wrong, or with one domain away."""
        key = (name, shape, away)
        if key not in self._hits:
            store, _ = self.templates.copy(shape, self.commands[name].stage)
            if away is not None:
                _fail(store, away)
            ran = self._run(name, shape, store, count=True)
            assert ran.exit == 0 or (away is not None and ran.exit in OUTAGE_EXITS), f"{key}: {ran}"
            self._hits[key] = ran.hits
            self.templates.discard(store)
        return self._hits[key]

    def kills(self, name: str, shape: str, away: str | None = None) -> list[tuple[str, int]]:
        """Returns where to kill a command: at the first hits of each point, in the middle of many, and at the last."""
        late = (1, 0) if self.commands[name].is_counted else ()
        return [
            (point, n)
            for point, count in sorted(self.hits(name, shape, away).items())
            for n in sorted({n for n in (*HITS, (count + 1) // 2, *(count - k for k in late)) if 1 <= n <= count})
        ]

    def plain(self, name: str, shape: str) -> list[Case]:
        """Returns the cases with one kill and nothing else."""
        return [Case(name, shape, (kill,)) for kill in self.kills(name, shape)]

    def compound(self, name: str, shape: str, turn: int | None = None) -> Iterator[Case]:
        """Yields the cases with a domain away, and those with a second kill in the recovery, in turn.

        With `turn` one domain alone is away, another one with each turn. For each of them the command is run once, to
        see where it may be killed then.
        """
        kills = self.kills(name, shape)
        stage = self.commands[name].stage
        domains = [] if stage in ("nothing", "lost", "headless", "behind") else list(DOMAINS)
        if stage in DAMAGED:
            domains.remove(DAMAGED[stage])
        if turn is not None:
            domains = domains[turn % len(domains) :][:1] if domains else []
        outages = (
            Case(name, shape, (kill,), Outage(domain, when))
            for domain in domains
            for both in zip_longest(self.kills(name, shape, domain), kills)
            for when, kill in zip(("before", "after"), both, strict=True)
            if kill is not None
        )
        pairs = (Case(name, shape, (first, second)) for first in kills for second in kills)
        yield from (case for case in chain.from_iterable(zip_longest(outages, pairs)) if case is not None)

    # --- one case

    def _run(self, name: str, shape: str, store: Path, **plan: Any) -> Ran:
        command = self.commands[name]
        about = command.about(self.templates, shape) if callable(command.about) else command.about
        return self.forks.run(command.deed, store, patch=command.patch, **about, **plan)

    def begin(self, name: str, shape: str) -> tuple[Path, Ledger]:
        """Returns a store in which a command may run, and its ledger."""
        store, ledger = self.templates.copy(shape, self.commands[name].stage)
        ledger.publishes(self.commands[name].once)
        return store, ledger

    def run(self, case: Case) -> None:
        """Runs a case; raises `AssertionError` with what does not hold."""
        store, ledger = self.begin(case.command, case.shape)
        outage = case.outage
        if outage and outage.when == "before":
            _fail(store, outage.domain)
        for place, (point, n) in enumerate(case.kills):
            ran = self.attempt(case, store, ledger, kill={point: n})
            if place == 0 or ran.killed:
                assert ran.killed, f"was not killed: {ran}"
            else:  # the recovery had less to do than the whole
                assert ran.exit == 0, f"the recovery ended with {ran}"
        if outage and outage.when == "after":
            _fail(store, outage.domain)
            ran = self.attempt(case, store, ledger)
            assert ran.exit in OUTAGE_EXITS, f"with {outage.domain} away: {ran}"
        if outage:
            _restore(store, outage.domain)
        self.finish(case, store, ledger)
        self.templates.discard(store)

    def attempt(self, case: Case, store: Path, ledger: Ledger, **plan: Any) -> Ran:
        """Runs the command of a case once, and notes what it may have written and what it acknowledged."""
        tries = self.commands[case.command].tries
        ledger.publishes(tries)
        ran = self._run(case.command, case.shape, store, **plan)
        note(ledger, ran)
        if ran.error is not None and ran.error.get("outcome") == "not_written":
            ledger.tried.subtract(tries)
        return ran

    def finish(self, case: Case, store: Path, ledger: Ledger, done: Ran | None = None) -> None:
        """Runs the command again, which must succeed, and once more, which must change nothing; then the verdict.

        `done` is a run before that which said that it had succeeded: then the first one must change nothing either.
        """
        again = self.attempt(case, store, ledger)
        assert again.exit == 0, f"the same command again: {again}"
        if done is not None:
            repeats(self.commands[case.command], done, again)
        if self.commands[case.command].is_idempotent:
            repeats(self.commands[case.command], again, self.attempt(case, store, ledger))
        if self.commands[case.command].stage == "headless":
            _restore(store, "a")
        if self.commands[case.command].stage == "nothing":
            with client.open(store) as opened:
                opened.queues.create("q", replicas=SHAPES[case.shape][0], allow=list(DOMAINS))
        if self.commands[case.command].stage == "behind":
            quarantined(store, "a")
        with client.open(store) as opened:
            publish(opened, ledger, "b", [("life goes on", "life")])
        verdict(store, ledger, *([Ledger("q2")] if self.commands[case.command].deed == "queue_create" else []))


def repeats(command: Command, first: Ran, second: Ran) -> None:
    """Raises where a command that had succeeded did not say so when it was typed again, or did it twice."""
    assert second.exit == 0, f"once more: {second}"
    twice = set(chain(*first.of("delivered"))) & set(chain(*second.of("delivered")))
    assert not twice, f"{twice} were delivered again while their lease holds: {second}"
    if command.is_idempotent:
        # A proof of the same bytes may have been made from another side.
        is_changed = any(second.of("changed")) and not first.of("proof")
        assert not is_changed, f"once more, and it changed something: {second} after {first}"
        assert all(second.of("again")), f"once more, and it was published anew: {second} after {first}"
        assert second.of("proof") == first.of("proof"), f"another proof: {first} {second}"


def _fail(store: Path, domain: str) -> None:
    with client.open(store) as opened:
        opened.domains.fail(domain)


def _restore(store: Path, domain: str) -> None:
    with client.open(store) as opened:
        opened.domains.restore(domain)


def quarantined(store: Path, domain: str, queue: str = "q") -> list[bytes]:
    """Returns the entries that a domain dropped and keeps for audit; raises where there are none."""
    from grafctl.store import keys

    with client.open(store) as opened:
        log = opened.session.resource(queue)
        with opened.session.cluster.environment(domain).read() as view:
            found = [raw for _, raw in view.scan(*keys.quarantines(log.id))]
    assert found, f"nothing is in quarantine in {domain}"
    return found
