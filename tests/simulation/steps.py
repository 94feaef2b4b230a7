"""What clients do in a history: publish, consume, fence, place, migrate; each step may begin again after a crash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from faults.verdict import Ledger

from grafctl import clock
from grafctl.client import Outgoing
from grafctl.nouns.queues import parse_placement
from simulation.clients import Client, Refused, Try
from simulation.stores import QUEUE

ABSENT, NEVER, STALE, FENCED, SAME_ID, PROOF = 10, 11, 13, 14, 16, 19
LONG_AGO_MS = 30 * 86_400_000


@dataclass
class Draft:
    """A record to be published; what has an id is there once in all, whoever publishes it."""

    payload: str
    id: str | None = None

    def tried(self, ledger: Ledger, by: int) -> None:
        if self.id is None:
            ledger.tried[self.payload] += by
        else:
            ledger.tried[self.payload] = 1

    def outgoing(self, line: int = 0) -> Outgoing:
        return Outgoing(self.payload.encode(), self.id, line=line)


@dataclass
class Publish:
    """One entry with one record or several; `threads` of them at once share what they can."""

    records: Sequence[Draft]
    domain: str
    epoch: int | None = None
    threads: int = 1
    queue: str = QUEUE

    def run(self, client: Client) -> None:
        others = [client.start(partial(self._one, client, draft)) for draft in self.records[1 : self.threads]]
        mine = self.records if self.threads == 1 else self.records[:1]
        try:
            self._publish(client, mine)
        finally:
            for task in others:
                task.join()

    def _one(self, client: Client, draft: Draft) -> None:
        try:
            self._publish(client, [draft])
        except Refused:
            pass

    def _publish(self, client: Client, records: Sequence[Draft]) -> None:
        ledger = client.history.ledger

        def publish(one: Try) -> Any:
            if one.operation is None:
                for draft in records:
                    draft.tried(ledger, 1)
            one.on_nothing = partial(_take_back, ledger, records)
            if self.epoch is not None and one.operation is None:  # what passed with its key may have been fenced since
                one.begins("epoch", "queue", "pass", epoch=self.epoch)
                one.refusals = {FENCED: "fenced"}
            outgoing = [draft.outgoing(line) for line, draft in enumerate(records)]
            ack = client.store.publish_batch(
                self.queue, outgoing, domain=self.domain, epoch=self.epoch, operation=one.operation
            )
            one.ends("ok")
            return ack

        ack = client.ask(frozenset({SAME_ID, FENCED} if self.epoch else {SAME_ID}), publish)
        left_out = {conflict["line"] for conflict in ack.conflicts or ()}
        stored = [draft for line, draft in enumerate(records) if line not in left_out]
        offsets = ack.offsets if ack.offsets is not None else range(ack.offset, ack.offset + ack.count)
        for draft, offset in zip(stored, offsets, strict=True):
            ledger.published(offset, draft.payload, draft.id)


def _take_back(ledger: Ledger, records: Sequence[Draft]) -> None:
    for draft in records:
        draft.tried(ledger, -1)


@dataclass
class Stream:
    """Batches with ids, three on their way at once; after an error the whole stream again, as a user would."""

    batches: Sequence[Sequence[Draft]]
    domain: str

    def run(self, client: Client) -> None:
        ledger = client.history.ledger

        def publish(one: Try) -> None:
            for batch in self.batches:
                for draft in batch:
                    draft.tried(ledger, 1)
            given = [[draft.outgoing() for draft in batch] for batch in self.batches]
            for ack, batch in zip(
                client.store.publish_stream(QUEUE, given, domain=self.domain, in_flight=3), self.batches, strict=True
            ):
                offsets = ack.offsets or range(ack.offset, ack.offset + ack.count)
                for draft, offset in zip(batch, offsets, strict=True):
                    ledger.published(offset, draft.payload, draft.id)

        client.ask(frozenset(), publish)


@dataclass
class Consume:
    """A poll, and what a consumer makes of its records; then perhaps a poll that finishes them and takes more."""

    group: str
    most: int
    visibility_ms: int
    rounds: int

    def run(self, client: Client) -> None:
        finish: list[int] = []
        lease: int | None = None
        for _ in range(self.rounds):
            done, finish = finish, []
            try:
                given = self._poll(client, done, lease)
            except Refused:
                return
            lease = given.lease
            for record in given.records:
                clock.sleep(client.random.random() ** 3 * 2 * self.visibility_ms / 1000)
                match client.random.choice(("ack", "ack", "ack", "finish", "nack", "renew", "leave")):
                    case "ack":
                        self._ack(client, record.offset, lease if client.random.random() < 0.8 else None)
                    case "nack":
                        self._settle(client, "nack", record.offset, lease)
                    case "renew":
                        self._settle(client, "renew", record.offset, lease)
                    case "finish":
                        finish.append(record.offset)

    @property
    def lineage(self) -> str:
        return self.group.partition("-")[0]

    def _poll(self, client: Client, finish: list[int], lease: int | None) -> Any:
        def poll(one: Try) -> Any:
            place, most, token = client.history.place(self.group), self.most, lease if finish else None
            one.is_done_before_the_answer = True  # what is to be finished is, though the records cannot be read
            for offset in finish:
                one.begins("delivery", f"{self.lineage}/{offset}", "ack", token=lease)
            given = client.store.poll(
                QUEUE, self.group, domain=place, max=most, visibility_ms=self.visibility_ms, finish=finish, lease=token
            )
            if finish:
                one.ends("first" if given.finished == len(finish) else None if given.finished else "done")
                client.history.ledger.finalised(self.lineage, finish, given.finished or 0)
            for record in given.records:
                one.learns("delivery", f"{self.lineage}/{record.offset}", "lease", "ok", token=given.lease)
                client.history.delivered(record)
            return given

        return client.ask(frozenset({ABSENT, NEVER, FENCED}), poll, may_give_up=self.group.endswith("-d"))

    def _ack(self, client: Client, offset: int, lease: int | None) -> None:
        def ack(one: Try) -> None:
            one.begins("delivery", f"{self.lineage}/{offset}", "ack", token=lease)
            place = client.history.place(self.group)
            done = client.store.ack(QUEUE, self.group, [offset], domain=place, lease=lease)
            one.ends("first" if done.count else "done")
            client.history.ledger.finalised(self.lineage, [offset], done.count)

        _unless_refused(client, ack)

    def _settle(self, client: Client, name: str, offset: int, lease: int | None) -> None:
        def settle(one: Try) -> None:
            place = client.history.place(self.group)
            if name == "nack":
                one.begins("delivery", f"{self.lineage}/{offset}", name, token=lease)
                done = client.store.nack(QUEUE, self.group, [offset], domain=place, lease=lease)
                one.ends("ok" if done.count else "nothing")
            else:
                assert lease is not None
                client.store.renew(QUEUE, self.group, lease, domain=place, visibility_ms=self.visibility_ms)

        _unless_refused(client, settle)


def _unless_refused(client: Client, do: Any) -> None:
    try:
        client.ask(frozenset({NEVER, FENCED}), do)
    except Refused:
        pass


@dataclass
class Fence:
    """An epoch of the queue or of a group; lower ones are refused from then on."""

    group: str | None
    epoch: int

    def run(self, client: Client) -> None:
        def fence(one: Try) -> None:
            one.begins("epoch", self.group or "queue", "fence", epoch=self.epoch)
            one.refusals = {FENCED: "fenced"}
            change = client.store.fence(QUEUE, epoch=self.epoch, group=self.group)
            one.ends((change.before or {})["epoch"])

        client.ask(frozenset({FENCED}), fence)


@dataclass
class Place:
    """A placement, only if it is still what it was when the client looked."""

    group: str
    allow: list[str]
    expect: str | None = None

    def run(self, client: Client) -> None:
        def look(one: Try) -> str:
            return str(client.store.placement.show(QUEUE, self.group).body["digest"])

        def place(one: Try) -> None:
            new = parse_placement(self.allow, []).digest()
            one.begins("placement", self.group, "set", expect=self.expect, new=new)
            one.refusals = {STALE: "conflict"}
            change = client.store.placement.set(QUEUE, group=self.group, allow=self.allow, expect=self.expect)
            one.ends("changed" if change.changed else "same")

        self.expect = self.expect or client.ask(frozenset(), look)
        client.ask(frozenset({STALE}), place)


@dataclass
class Locate:
    """The next generation: a replica in a new domain, or one less."""

    generation: int
    add: list[str]
    remove: list[str]

    def run(self, client: Client) -> None:
        def locate(one: Try) -> None:
            one.begins("generation", QUEUE, "set", to=self.generation, add=self.add, remove=self.remove)
            one.refusals = {STALE: "refused"}
            change = client.store.locator.set(
                QUEUE, generation=self.generation, add=self.add, remove=self.remove, max_age_ms=LONG_AGO_MS
            )
            one.ends("changed" if change.changed else "same")

        client.ask(frozenset({ABSENT, NEVER, STALE}), locate, may_give_up=True)


@dataclass
class CatchUp:
    """A copy to `d` with its proof, and then perhaps a group that goes on there."""

    shifts: str | None

    def run(self, client: Client) -> None:
        def catch_up(one: Try) -> str:
            return client.store.catch_up(QUEUE, domain="d").proof

        def shift(one: Try) -> None:
            assert self.shifts is not None
            client.store.consumers.shift(QUEUE, self.shifts, as_=f"{self.shifts}-d", allow=["d"], proof=proof)

        proof = client.ask(frozenset({NEVER, STALE, PROOF}), catch_up, may_give_up=True)
        if self.shifts is not None:
            client.ask(frozenset({NEVER, STALE, PROOF}), shift, may_give_up=True)
