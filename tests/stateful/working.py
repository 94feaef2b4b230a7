"""The half of the random runs that works with a store: publish, poll, ack, nack, renew, wait; all of it compared."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from store.world import open_store, world

from grafctl.client import Outgoing
from grafctl.errors import GrafctlError
from grafctl.results import Finished
from stateful.expected import (
    CONFLICT,
    FENCED,
    LATER,
    NEVER,
    NO_QUORUM,
    NOT_FOUND,
    PROOF,
    Caller,
    Group,
    Record,
    Refused,
    Replica,
    Settled,
)
from stateful.operating import Store

T = TypeVar("T")
U = TypeVar("U")
Q, HOUR_MS = "orders", 3_600_000
AWS, GCP, AZURE, STRANGER = "aws/a", "gcp/b", "azure/c", "mars/d"
DOMAINS = (AWS, GCP, AZURE)
RETAIN_HOURS, RETAIN_BYTES, PAYLOAD_BYTES = 4, 2_500, 1_000  # so that what a block weighs beside payloads is too little

OLDER_REFUSALS = (NOT_FOUND, NEVER, LATER, CONFLICT, FENCED, PROOF, NO_QUORUM)
ANY_DOMAIN = st.sampled_from([*DOMAINS, *DOMAINS, STRANGER])
NAMES = st.sampled_from(["workers", "workers", "workers", "billing", "billing", "mail"])
MOVED = st.sampled_from(["moved-1", "moved-1", "moved-2"])
GROUPS = st.one_of(NAMES, NAMES, MOVED)
PICK = st.integers(0, 11)
EPOCHS = st.sampled_from([None, None, None, None, 1, 2, 3])
HOURS = st.integers(1, 3)
OFFSETS = st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True)
SEMANTICS = st.sampled_from(["at-most-once", "at-least-once", "effectively-once"])
STARTS = st.sampled_from(["earliest", "earliest", "latest", "0", "3"])
RECORDS = st.tuples(st.sampled_from([None, None, "id-1", "id-2", "id-3"]), st.sampled_from("ab"), st.booleans())
ALLOWED = st.sampled_from([[AWS, GCP, AZURE], [AWS, GCP], [GCP], [AZURE]])


class Working(RuleBasedStateMachine):
    """`want` is the plain store; `here` is the open store that does the next step, `other` the one that does not.

    With these rules a store is worked with; those of its operators are added below it.
    """

    driver = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="grafctl-stateful-"))) / "store"
        self.world = self.stack.enter_context(world(directory, DOMAINS, self.driver))
        self.here, self.other = self.world.store, open_store(directory, self.world.driver)
        self.tokens: list[tuple[str, int, list[int]]] = []  # group, lease, offsets
        self.count = 0

    @initialize(
        ack=st.sampled_from(["majority", "majority", "all"]),
        by_age=st.booleans(),
        by_size=st.sampled_from([0, 0, 1]),
        semantics=SEMANTICS,
        most=st.integers(1, 2),
    )
    def begin(self, ack: str, by_age: bool, by_size: int, semantics: str, most: int) -> None:
        hours, size = RETAIN_HOURS if by_age else None, RETAIN_BYTES if by_size else None
        self.want = Store(DOMAINS, ack, hours, size, [Replica("r-aws", AWS, True), Replica("r-gcp", GCP, True)])
        self.here.queues.create(
            Q,
            replicas=[f"{replica.id}={replica.domain}" for replica in self.want.replicas],
            allow=["aws", "gcp", "azure"],
            ack=ack,
            retain_age_ms=None if hours is None else hours * HOUR_MS,
            retain_bytes=size,
        )
        self.create("workers", [AWS, GCP], "at-least-once", most, "earliest")
        self.create("billing", list(DOMAINS), semantics, None, "earliest")
        self.publish(AWS, [(None, "a", False)] * 3, False, None)
        self.publish(GCP, [("id-1", "a", True)], False, None)

    def agree(self, expected: Callable[[], T], real: Callable[[], U]) -> tuple[T, U] | None:
        """Returns both answers, or None where both refuse with the same code and reason."""
        try:
            wanted = expected()
        except Refused as refused:
            with pytest.raises(GrafctlError) as raised:
                real()
            error = raised.value
            # Where too few answer to count, the last entry may not be known to be committed: another refusal may come.
            if self.want.can_write() or error.exit_code not in OLDER_REFUSALS:
                assert (error.exit_code, error.fields.get("reason")) == refused.args, error.message
            return None
        return wanted, real()

    # --- publishing

    @rule(domain=ANY_DOMAIN, made=st.lists(RECORDS, min_size=1, max_size=4), atomic=st.booleans(), epoch=EPOCHS)
    def publish(self, domain: str, made: list[tuple[str | None, str, bool]], atomic: bool, epoch: int | None) -> None:
        batch = [self.record(*parts) for parts in made]
        outgoing = [Outgoing(record.payload, record.id, record.key) for record in batch]
        both = self.agree(
            lambda: self.want.publish(domain, batch, atomic, epoch),
            lambda: self.here.publish_batch(Q, outgoing, domain=domain, atomic=atomic, epoch=epoch),
        )
        if both is None:
            return
        wanted, ack = both
        offsets = ack.offsets if ack.offsets is not None else list(range(ack.offset, ack.offset + ack.count))
        assert (offsets, ack.replayed, ack.generation) == (wanted.offsets, wanted.replayed, wanted.generation)
        assert [conflict["id"] for conflict in ack.conflicts or ()] == wanted.conflicts
        durable = set(ack.acked_by)
        assert durable <= set(self.want.voters())
        assert wanted.replayed or not durable & self.want.failed, (
            "what was there before may also be where nobody answers"
        )
        assert len(durable) >= (len(self.want.voters()) if self.want.ack == "all" else len(self.want.voters()) // 2 + 1)

    def record(self, record_id: str | None, letter: str, with_key: bool) -> Record:
        """Returns a record; one with an id can come again as it was, or with another payload."""
        self.count += 1
        text = letter if record_id else f"{letter}{self.count}"
        return Record(text.encode().ljust(PAYLOAD_BYTES), record_id, f"k{self.count}" if with_key else None)

    # --- delivery

    @rule(group=GROUPS, domain=ANY_DOMAIN, epoch=EPOCHS, count=st.integers(1, 5), hours=HOURS)
    def poll(self, group: str, domain: str, epoch: int | None, count: int, hours: int) -> None:
        both = self.agree(
            lambda: self.want.poll(Caller(group, domain, epoch), count, hours),
            lambda: self.here.poll(Q, group, domain=domain, max=count, visibility_ms=hours * HOUR_MS, epoch=epoch),
        )
        if both is None:
            return
        (given, floor, lease), delivery = both
        assert [(record.offset, record.delivery) for record in delivery.records] == given
        assert [Record(record.payload, record.id, record.key) for record in delivery.records] == [
            self.want.records[offset] for offset, _ in given
        ]
        assert delivery.ack_floor == floor and (delivery.lease is None) == (lease is None)
        if lease is not None and delivery.lease is not None:
            assert all(delivery.lease > token for _, token, _ in self.tokens), "a lease's number went back"
            self.want.lineages[self.want.groups[group].lineage].leases[delivery.lease] = lease
            self.tokens.append((group, delivery.lease, list(lease.holds)))

    @rule(group=GROUPS, count=st.integers(1, 5), which=PICK)
    def poll_where_it_may(self, group: str, count: int, which: int) -> None:
        """What most polls are: by a group that is there, in a domain that should serve it when it is caught up."""
        allow = self.want.groups[group].allow if group in self.want.groups else []
        places = [replica.domain for replica in self.want.replicas if replica.domain in allow]
        if places:
            self.poll(group, places[which % len(places)], None, count, 1)

    @precondition(lambda self: self.tokens)
    @rule(which=PICK, mask=st.integers(1, 31), domain=ANY_DOMAIN, named=st.booleans(), epoch=EPOCHS)
    def ack_lease(self, which: int, mask: int, domain: str, named: bool, epoch: int | None) -> None:
        group, token, offsets = self.lease_at(which, mask)
        self.ack(Caller(group, self.home(group, domain, which), epoch), offsets, token if named else None)

    @rule(group=GROUPS, offsets=OFFSETS)
    def ack_any(self, group: str, offsets: list[int]) -> None:
        allow = self.want.groups[group].allow if group in self.want.groups else DOMAINS
        self.ack(Caller(group, allow[0]), offsets, None)

    def ack(self, caller: Caller, offsets: Sequence[int], token: int | None) -> None:
        at: dict[str, Any] = {"domain": caller.domain, "epoch": caller.epoch, "lease": token}
        self.settle(
            lambda: self.want.finish(caller, offsets, token), lambda: self.here.ack(Q, caller.group, offsets, **at)
        )

    @precondition(lambda self: self.tokens)
    @rule(which=PICK, mask=st.integers(1, 31), domain=ANY_DOMAIN, named=st.booleans(), delay=st.integers(0, 1))
    def nack_lease(self, which: int, mask: int, domain: str, named: bool, delay: int) -> None:
        group, token, offsets = self.lease_at(which, mask)
        caller = Caller(group, self.home(group, domain, which))
        self.nack(caller, offsets, token if named else None, delay, counted=which % 4 > 0)

    @rule(group=GROUPS, offsets=OFFSETS, domain=ANY_DOMAIN)
    def nack_any(self, group: str, offsets: list[int], domain: str) -> None:
        self.nack(Caller(group, domain), offsets, None, 0, counted=True)

    def nack(self, caller: Caller, offsets: Sequence[int], token: int | None, delay: int, *, counted: bool) -> None:
        at: dict[str, Any] = {"domain": caller.domain, "lease": token, "delay_ms": delay * HOUR_MS, "counted": counted}
        self.settle(
            lambda: self.want.give_back(caller, offsets, token, delay, counted),
            lambda: self.here.nack(Q, caller.group, offsets, **at),
        )

    def settle(self, expected: Callable[[], Settled], real: Callable[[], Finished]) -> None:
        if (both := self.agree(expected, real)) is not None:
            wanted, done = both
            assert Settled(done.count, done.already, done.ack_floor, done.dead) == wanted

    @precondition(lambda self: self.tokens)
    @rule(which=PICK, domain=ANY_DOMAIN, hours=HOURS)
    def renew(self, which: int, domain: str, hours: int) -> None:
        group, token, _ = self.lease_at(which, 1)
        self.agree(
            lambda: self.want.renew(Caller(group, domain), token, hours),
            lambda: self.here.renew(Q, group, token, domain=domain, visibility_ms=hours * HOUR_MS),
        )

    def home(self, group: str, domain: str, which: int) -> str:
        """Returns mostly a domain where the group may be, and sometimes the other one."""
        return self.want.groups[group].allow[0] if which % 3 else domain

    def lease_at(self, which: int, mask: int) -> tuple[str, int, list[int]]:
        """Returns one of the leases that were ever given, the newest first, with some of its offsets."""
        group, token, offsets = self.tokens[-1 - which % len(self.tokens)]
        some = [offset for place, offset in enumerate(offsets) if mask >> place & 1]
        return group, token, some or offsets

    @rule(hours=st.integers(1, 2))
    def wait(self, hours: int) -> None:
        self.world.advance(hours * HOUR_MS)
        self.want.now += hours

    @rule(
        name=NAMES, allow=ALLOWED, semantics=SEMANTICS,
        most=st.sampled_from([None, 1, 2]), start=STARTS,
    )  # fmt: skip
    def create(self, name: str, allow: list[str], semantics: str, most: int | None, start: str) -> None:
        group = Group(name, name, allow, semantics, most, start, 0)
        fields: dict[str, Any] = {"allow": allow, "semantics": semantics, "max_deliveries": most, "start": start}
        both = self.agree(lambda: self.want.create(group), lambda: self.here.consumers.create(Q, name, **fields))
        assert both is None or both[0] == both[1].changed
