"""What the holder of a lease and both ends of an edge do, one deed a step, and the stores in which they do it.

A deed says what it is about to do and what came of it: `pushing` and `pushed` with names and generation, `taken`,
`finished`, `refused` for what raised. The name of a record is its payload.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grafctl.client as client
from faults.switches import DOMAINS, HOUR_MS
from grafctl import clock
from grafctl.edges import segment
from grafctl.errors import GenerationConflict

Say = Callable[..., None]
NAME, AT, SLOTS = "e", "a", 32
TERM_MS = 24 * HOUR_MS  # a long draw takes an hour
LEASE: dict[str, Any] = {"domain": AT, "bytes": 4096, "owner": "me", "term_ms": TERM_MS}
DUE_MS, EXPIRED_MS = TERM_MS * 8 // 10, TERM_MS + 1000
FIRST, TAKEN = [f"r{number}" for number in range(6)], 2  # pushed before, and how many of them were finished


def at_ms(later_ms: int) -> None:
    os.environ[clock.OFFSET_VARIABLE] = str(later_ms)


def names(letter: str, count: int) -> list[str]:
    """Returns names that no other process gives."""
    return [f"{letter}{os.getpid()}-{number}" for number in range(count)]


# --- leases


def acquire(opened: client.Store, say: Say) -> None:
    say(changed=opened.leases.acquire(NAME, **LEASE).changed)


def replace(opened: client.Store, say: Say) -> None:
    say(changed=opened.leases.acquire(NAME, **LEASE, replace=1).changed)


def renew(opened: client.Store, say: Say) -> None:
    say(renewed=opened.leases.renew(NAME, token=1, domain=AT).changed)


def release(opened: client.Store, say: Say) -> None:
    say(changed=opened.leases.release(NAME, token=1, domain=AT).changed)


def revoke(opened: client.Store, say: Say, grace_ms: int = 0) -> None:
    say(changed=opened.leases.revoke(NAME, grace_ms=grace_ms).changed)


def forget(opened: client.Store, say: Say) -> None:
    say(changed=opened.leases.forget(NAME).changed)


# --- edges


def create(opened: client.Store, say: Say) -> None:
    say(changed=opened.edges.create(NAME, token=1, slots=SLOTS, domain=AT).changed)


def push(opened: client.Store, say: Say) -> None:
    some = names("p", 3)
    say(pushing=some)
    done = opened.edges.push_batch(NAME, some, domain=AT).body
    say(pushed=some[: done["count"]], generation=done["generation"])


def pop(opened: client.Store, say: Say) -> None:
    taken = opened.edges.take(NAME, domain=AT, max=2)
    some = [record.payload.decode() for record in taken.body["records"]]
    say(taken=some, generation=taken.body["generation"])
    opened.edges.finish(NAME, taken, domain=AT)
    say(finished=some)


def relocate(opened: client.Store, say: Say) -> None:
    say(changed=opened.edges.relocate(NAME, token=1, domain=AT).changed)


def remove(opened: client.Store, say: Say) -> None:
    say(changed=opened.edges.remove(NAME).changed)


# --- handles


def writing(opened: client.Store, say: Say, loses: Callable[[client.Store], None] | None = None) -> None:
    """Pushes in batches; what ends the lease or the segment meanwhile is met, and told, by the push after that."""
    with opened.edges.writer(NAME, domain=AT) as writer:
        say(generation=writer.generation)
        for number in range(3):
            if number == 1 and loses is not None:
                loses(opened)
            some = names(f"w{number}-", 2)
            say(pushing=some)
            try:
                done = writer.push_batch(some)
            except GenerationConflict as error:
                assert error.fields["recoverable"], error
                say(refused=some, generation=writer.generation)
                continue
            say(pushed=some[: done.pushed], generation=done.generation)


def renewing(opened: client.Store, say: Say) -> None:
    with opened.edges.writer(NAME, domain=AT) as writer:
        at_ms(DUE_MS)
        writer.keep()
        some = names("w", 1)
        say(pushing=some)
        done = writer.push(some[0])
        say(pushed=some[: done.pushed], generation=done.generation)


def reading(opened: client.Store, say: Say, moves: bool = False) -> None:
    """Takes and finishes until it is empty; follows to another segment where somebody relocates it in between."""
    with opened.edges.reader(NAME, domain=AT) as reader:
        while True:
            taken = reader.take(max=2)
            some = [record.payload.decode() for record in taken.records]
            say(taken=some, generation=taken.generation)
            if not some:
                return
            reader.finish(taken)
            say(finished=some)
            if moves:
                moves = False
                opened.edges.relocate(NAME, token=1, domain=AT)


def _lose_file(opened: client.Store) -> None:
    for file in files(opened):
        file.unlink()


def _let_expire(opened: client.Store) -> None:
    at_ms(EXPIRED_MS)


def _let_release(opened: client.Store) -> None:
    rows = opened.leases.list().items
    opened.leases.release(NAME, token=rows[0]["token"], domain=AT)


@dataclass(frozen=True)
class Step:
    """A deed, the store that it begins in, and how it may end when it is done again."""

    deed: Callable[[client.Store, Say], None]
    stage: str
    again: frozenset[int] = frozenset({0})
    told: bool | None = None  # what `changed` is once more
    later_ms: int = 0
    keeps: bool = False  # nothing of it ends the lease or the segment


GONE = frozenset({0, 10})
STEPS: dict[str, Step] = {
    "lease acquire": Step(acquire, "bare", told=False),
    "lease acquire anew": Step(acquire, "released", told=False),
    "lease acquire --replace": Step(replace, "lost", told=False),
    "lease renew": Step(renew, "filled", later_ms=DUE_MS, keeps=True),
    "lease release": Step(release, "filled", told=False),
    "lease revoke": Step(revoke, "filled", told=False),
    "lease revoke --grace": Step(partial(revoke, grace_ms=TERM_MS // 2), "filled", keeps=True),
    "lease forget": Step(forget, "removed", GONE),
    "edge create": Step(create, "leased", told=False),
    "edge push": Step(push, "filled", keeps=True),
    "edge pop": Step(pop, "filled", keeps=True),
    "edge relocate": Step(relocate, "filled", told=False),
    "edge remove": Step(remove, "released", GONE),
    "writer": Step(writing, "filled", keeps=True),
    "writer, a lost file": Step(partial(writing, loses=_lose_file), "filled"),
    "writer, an expired lease": Step(partial(writing, loses=_let_expire), "filled"),
    "writer, a released lease": Step(partial(writing, loses=_let_release), "filled"),
    "writer that finds it lost": Step(writing, "lost"),
    "writer that renews": Step(renewing, "filled", keeps=True),
    "reader": Step(reading, "filled", keeps=True),
    "reader that follows": Step(partial(reading, moves=True), "filled", frozenset({0, 13})),  # 13: a writer has to come
}


def do(store: Path, say: Say, step: str, later_ms: int = 0) -> None:
    """Does a step in a process of its own."""
    at_ms(later_ms)
    with client.open(store) as opened:
        STEPS[step].deed(opened, say)


# --- the stores it begins in


@dataclass
class Flow:
    """What is known from outside of one edge."""

    store: Path
    pushed: list[str] = field(default_factory=list)  # acknowledged, of this generation
    finished: set[str] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)  # acknowledged, of generations that are told as lost
    pushing: list[str] = field(default_factory=list)  # nobody knows
    taken: list[str] = field(default_factory=list)  # taken, and whether they are finished nobody knows
    doubtful: set[str] = field(default_factory=set)  # names of which nobody knew, once
    generation: int = 0

    @property
    def left(self) -> list[str]:
        return [name for name in self.pushed if name not in self.finished]

    def heard(self, words: list[dict[str, Any]]) -> Iterator[str]:
        """Takes in what somebody said; yields what nobody should have said."""
        for word in words:
            if "generation" in word:
                yield from self.at(word["generation"])
            if "taken" in word and word["taken"] != self.left[: len(word["taken"])]:
                yield f"{word['taken']} came, and {self.left} are there"
            self.pushing = word.get("pushing", self.pushing)
            self.taken = word.get("taken", self.taken)
            self.pushed += word.get("pushed", [])
            self.finished.update(word.get("finished", []))
            self.pushing = [] if {"pushed", "refused"} & word.keys() else self.pushing
            self.taken = [] if "finished" in word else self.taken
        self.doubtful.update(self.pushing, self.taken)

    def at(self, generation: int) -> Iterator[str]:
        """Takes in at which generation the edge was found; a newer one says that what was there is lost."""
        if generation < self.generation:
            yield f"generation {generation} after {self.generation}"
        if generation > self.generation:
            self.lost += self.left
            self.pushed, self.taken = [], []
        self.generation = generation

    def forgotten(self) -> None:
        """The name begins anew, at the first generation."""
        self.lost, self.pushed, self.generation = self.lost + self.left, [], 0

    def found(self, there: list[str]) -> Iterator[str]:
        """Takes in what is in the edge, which clears up what nobody knew; yields what must not be."""
        first = [self.left, self.left[len(self.taken) :]] if self.taken else [self.left]
        whole = [[*left, *more] for left in first for more in ([], self.pushing)]
        if there not in whole:
            yield f"{there} are there, and {' or '.join(str(names) for names in whole)} should be"
        if self.pushing and there[-len(self.pushing) :] == self.pushing:
            self.pushed, self.pushing = self.pushed + self.pushing, []
        self.finished.update(name for name in self.taken if name not in there)
        self.taken = []


def files(opened: client.Store) -> list[Path]:
    folder = Path(opened.session.cluster.place(AT).where, segment.FOLDER)
    return sorted(folder.iterdir()) if folder.is_dir() else []


def bare(store: Path) -> Flow:
    client.create(store, dict.fromkeys(DOMAINS))
    return Flow(store)


def leased(store: Path) -> Flow:
    flow = bare(store)
    with client.open(store) as opened:
        opened.leases.acquire(NAME, **LEASE)
    return flow


def filled(store: Path) -> Flow:
    flow = leased(store)
    with client.open(store) as opened:
        opened.edges.create(NAME, token=1, slots=SLOTS, domain=AT)
        opened.edges.push_batch(NAME, FIRST, domain=AT)
        opened.edges.pop(NAME, domain=AT, max=TAKEN)
    flow.pushed, flow.finished, flow.generation = list(FIRST), set(FIRST[:TAKEN]), 1
    return flow


def lost(store: Path) -> Flow:
    flow = filled(store)
    with client.open(store) as opened:
        _lose_file(opened)
    return flow


def released(store: Path) -> Flow:
    flow = filled(store)
    with client.open(store) as opened:
        opened.leases.release(NAME, token=1, domain=AT)
    return flow


def removed(store: Path) -> Flow:
    flow = released(store)
    with client.open(store) as opened:
        opened.edges.remove(NAME)
    return flow


STAGES: dict[str, Callable[[Path], Flow]] = {
    "bare": bare,
    "leased": leased,
    "filled": filled,
    "lost": lost,
    "released": released,
    "removed": removed,
}
