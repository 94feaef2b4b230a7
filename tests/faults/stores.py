"""The stores that scenarios begin with: made once a session, copied for each case, with the ledger of what is in them.

A shape is a voter set of the queue `q`; the store itself always has the domains a, b, c and d, so that its own logs
keep their quorum when one of them is away. A stage is how far the queue's story has come.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import grafctl.client as client
from faults import etl, moves
from faults.deeds import GROUP, HOUR_MS, QUEUE
from faults.forks import Forks, Ran
from faults.verdict import Ledger

DOMAINS = ("a", "b", "c", "d")
SHAPES: dict[str, tuple[list[str], int | None]] = {  # replicas, --min-payload
    "two": (["ra=a", "rb=b"], None),
    "three": (["ra=a", "rb=b", "rc=c"], None),
    "witness": (["ra=a", "rb=b", "rc=c:witness"], None),
    "witness1": (["ra=a", "rb=b", "rc=c:witness"], 1),
}
CHUNKS = {"grafctl.store.learn.CHUNK_ROWS": 4}  # so that a small log is learnt in several chunks


class Templates:
    """Stores by shape and stage, made when they are first asked for."""

    def __init__(self, folder: Path, forks: Forks) -> None:
        self._folder = folder
        self._forks = forks
        self._made: dict[tuple[str, str], tuple[Path, Ledger]] = {}
        self._copies = 0
        self.proofs: dict[str, str] = {}  # shape -> of the stage "caught"

    def copy(self, shape: str, stage: str) -> tuple[Path, Ledger]:
        """Returns a fresh copy of a store, with its ledger."""
        source, ledger = self._template(shape, stage)
        self._copies += 1
        target = self._folder / f"copy{self._copies}"
        if source.exists():
            shutil.copytree(source, target)
        return target, copy.deepcopy(ledger)

    def prepare(self, shape: str, stage: str) -> None:
        """Makes a store without copying it."""
        self._template(shape, stage)

    def discard(self, store: Path) -> None:
        shutil.rmtree(store, ignore_errors=True)

    def _template(self, shape: str, stage: str) -> tuple[Path, Ledger]:
        if (shape, stage) not in self._made:
            store, ledger = self._folder / f"{shape}-{stage}", Ledger(QUEUE)
            before, make = STAGES[stage]
            if before is not None:
                source, ledger = self._template(shape, before)
                ledger = copy.deepcopy(ledger)
                shutil.copytree(source, store)
            make(self, store, shape, ledger)
            self._made[shape, stage] = store, ledger
        return self._made[shape, stage]

    # --- stages

    def nothing(self, store: Path, shape: str, ledger: Ledger) -> None:
        """No store at all; `init` makes it."""

    def base(self, store: Path, shape: str, ledger: Ledger) -> None:
        """Six records, of which 0 and 1 are final and 2 is leased for an hour; d was observed as healthy."""
        client.create(store, dict.fromkeys(DOMAINS))
        replicas, min_payload = SHAPES[shape]
        key = client.keygen("watch", store)
        with client.open(store) as opened:
            opened.authorities.add("watch", public_key=(store / "watch.pub"))
            opened.health.observe("d", "healthy", authority="watch", key_file=store / "watch.key")
            opened.queues.create(QUEUE, replicas=replicas, min_payload=min_payload, allow=list(DOMAINS))
            opened.consumers.create(QUEUE, GROUP, allow=list(DOMAINS), semantics="effectively-once")
            publish(opened, ledger, "a", [(f"record {n}", f"r{n}" if n % 2 else None) for n in range(6)])
            opened.poll(QUEUE, GROUP, domain="a", max=3, visibility_ms=HOUR_MS)
            done = opened.ack(QUEUE, GROUP, [0, 1], domain="a")
            ledger.finalised(GROUP, [0, 1], done.count)
        del key

    def adding(self, store: Path, shape: str, ledger: Ledger) -> None:
        """Generation 2 names d, which is catching up."""
        with client.open(store) as opened:
            opened.locator.set(QUEUE, generation=2, add=["rd=d"])

    def halfway(self, store: Path, shape: str, ledger: Ledger) -> None:
        """A catch-up of d died among its chunks."""
        ran = self._forks.run("catch_up", store, kill={"learn.after": 5}, patch=CHUNKS)
        assert ran.killed, ran

    def caught(self, store: Path, shape: str, ledger: Ledger) -> None:
        """d is a voter, with a proof."""
        with client.open(store) as opened:
            self.proofs[shape] = opened.catch_up(QUEUE, domain="d").proof

    def headless(self, store: Path, shape: str, ledger: Ledger) -> None:
        """The primary's domain is out for a drill, and nobody has noticed yet."""
        with client.open(store) as opened:
            opened.domains.fail("a")

    def behind(self, store: Path, shape: str, ledger: Ledger) -> None:
        """An append died at a, a failed, and the others went on: a has a tail that must go."""
        ledger.publishes(["diverged"])
        ran = self._forks.run("publish", store, kill={"append.after": 1}, payload="diverged")
        assert ran.killed, ran
        with client.open(store) as opened:
            opened.domains.fail("a")
            publish(opened, ledger, "b", [("while a was away", "away")])

    def lost(self, store: Path, shape: str, ledger: Ledger) -> None:
        """Nothing is left of the base but a backup."""
        with client.open(store) as opened:
            opened.backup(self.backup(shape))
        shutil.rmtree(store)

    def backup(self, shape: str) -> Path:
        return self._folder / f"{shape}.backup"

    def damaged(self, store: Path, shape: str, ledger: Ledger) -> None:
        """The meta pages of b are overwritten, after it has voted."""
        overwrite_meta(store / "domains" / "b")

    def headless_for_good(self, store: Path, shape: str, ledger: Ledger) -> None:
        """The meta pages of the primary are overwritten."""
        overwrite_meta(store / "domains" / "a")

    def witnessed(self, store: Path, shape: str, ledger: Ledger) -> None:
        """Only the witness knows of a record that a alone kept, and a is damaged."""
        with client.open(store) as opened:
            opened.domains.fail("b")
            opened.publish(QUEUE, "given up", domain="a")
        overwrite_meta(store / "domains" / "a")
        with client.open(store) as opened:
            opened.domains.restore("b")

    def lone(self, store: Path, shape: str, ledger: Ledger) -> None:
        """b is damaged, and was the only domain of another queue."""
        with client.open(store) as opened:
            opened.queues.create("lone", replicas=["rb=b"], allow=list(DOMAINS))
            opened.publish("lone", "given up", domain="b")
        overwrite_meta(store / "domains" / "b")

    def etl(self, store: Path, shape: str, ledger: Ledger) -> None:
        """A pipeline whose resources share a log of this shape."""
        etl.make(store, *SHAPES[shape])

    # --- a table

    def table(self, store: Path, shape: str, ledger: Ledger) -> None:
        """A table, all of it where it began."""
        moves.make(store, *SHAPES[shape], ledger)

    def copying(self, store: Path, shape: str, ledger: Ledger) -> None:
        """A migration died in its base copy."""
        self._move(store, ledger, "vshard_migrate", kill={"moving.copied": 2})

    def held(self, store: Path, shape: str, ledger: Ledger) -> None:
        """A migration could be cut over, and waits; its vshard was written since."""
        self._move(store, ledger, "vshard_hold")
        self._move(store, ledger, "table_put")

    def moved(self, store: Path, shape: str, ledger: Ledger) -> None:
        """A vshard was moved, and written since."""
        self._move(store, ledger, "vshard_migrate")
        self._move(store, ledger, "table_put")

    def reversing(self, store: Path, shape: str, ledger: Ledger) -> None:
        """The way back died before its cut-over."""
        self._move(store, ledger, "vshard_reverse", kill={"moving.replayed": 2})

    def _move(self, store: Path, ledger: Ledger, deed: str, kill: dict[str, int] | None = None) -> None:
        ran = self._forks.run(deed, store, kill=kill, patch=moves.CHUNKS)
        assert ran.killed if kill else ran.exit == 0, ran
        note(ledger, ran)


def overwrite_meta(place: Path) -> None:
    """Overwrites both meta pages of a domain, so that every opening sees it."""
    with (place / "env" / "data.mdb").open("r+b") as file:
        for at in (16, 4096 + 16):
            file.seek(at)
            file.write(b"\xff" * 8)


Stage = Callable[[Templates, Path, str, Ledger], None]
STAGES: dict[str, tuple[str | None, Stage]] = {
    "nothing": (None, Templates.nothing),
    "base": (None, Templates.base),
    "adding": ("base", Templates.adding),
    "halfway": ("adding", Templates.halfway),
    "caught": ("adding", Templates.caught),
    "headless": ("base", Templates.headless),
    "behind": ("base", Templates.behind),
    "lost": ("base", Templates.lost),
    "damaged": ("base", Templates.damaged),
    "headless for good": ("base", Templates.headless_for_good),
    "witnessed": ("base", Templates.witnessed),
    "lone": ("base", Templates.lone),
    "etl": ("base", Templates.etl),
    "table": ("base", Templates.table),
    "copying": ("table", Templates.copying),
    "held": ("table", Templates.held),
    "moved": ("table", Templates.moved),
    "reversing": ("moved", Templates.reversing),
}


def publish(opened: client.Store, ledger: Ledger, domain: str, records: list[tuple[str, str | None]]) -> None:
    """Publishes records one by one and notes their acknowledgements."""
    for payload, record_id in records:
        ledger.publishes([payload])
        ack = opened.publish(QUEUE, payload, domain=domain, id=record_id)
        ledger.published(ack.offset, payload, record_id)


def note(ledger: Ledger, ran: Ran) -> None:
    """Notes what a child acknowledged before it ended."""
    for offset, payload, record_id in ran.of("published"):
        ledger.published(offset, payload, record_id)
    for lineage, offsets, changed in ran.of("finalised"):
        ledger.finalised(lineage, offsets, changed)
    moves.note(ledger, ran)
