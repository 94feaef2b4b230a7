"""Random runs of the Python API against plain lists and dicts, over the memory and the LMDB driver.

Two open stores take turns, as two processes would, so that each finds what the other left. After every step each
healthy domain reads back exactly the records that must be there, `status` counts what the plain dicts count, and
`verify` finds nothing. At the end the domains come back, every group is emptied, and nothing is left or done twice.

pytest --hypothesis-profile dev | long    other examples, and more of them
"""

from __future__ import annotations

from typing import Any

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from store.world import open_store

from grafctl.errors import GrafctlError
from grafctl.store import keys
from stateful.expected import Caller, Group, Record, Replica
from stateful.working import (
    ALLOWED,
    AWS,
    AZURE,
    DOMAINS,
    GCP,
    GROUPS,
    MOVED,
    NAMES,
    OFFSETS,
    OLDER_REFUSALS,
    PICK,
    STARTS,
    Q,
    Working,
)


class StoreMachine(Working):
    """The rules of operators, what must hold after every step, and how a life ends."""

    # --- operators

    @rule(name=GROUPS, paused=st.booleans())
    def pause(self, name: str, paused: bool) -> None:
        change = self.here.consumers.pause if paused else self.here.consumers.resume
        both = self.agree(lambda: self.want.pause(name, paused), lambda: change(Q, name))
        assert both is None or both[0] == both[1].changed

    @rule(name=GROUPS, to=STARTS)
    def seek(self, name: str, to: str) -> None:
        both = self.agree(lambda: self.want.seek(name, to), lambda: self.here.consumers.seek(Q, name, to))
        if both is not None:
            assert (both[1].before, both[1].after) == ({"cursor": both[0][0]}, {"cursor": both[0][1]})

    @rule(name=GROUPS, offsets=st.none() | OFFSETS)
    def redrive(self, name: str, offsets: list[int] | None) -> None:
        both = self.agree(lambda: self.want.redrive(name, offsets), lambda: self.here.dead.redrive(Q, name, offsets))
        assert both is None or both[1].after == {"redriven": both[0]}

    @rule(name=GROUPS, allow=ALLOWED)
    def place(self, name: str, allow: list[str]) -> None:
        both = self.agree(
            lambda: self.want.place(name, allow), lambda: self.here.placement.set(Q, group=name, allow=allow)
        )
        assert both is None or both[0] == both[1].changed

    @rule(name=st.none() | NAMES, epoch=st.integers(0, 3))
    def fence(self, name: str | None, epoch: int) -> None:
        both = self.agree(lambda: self.want.fence(name, epoch), lambda: self.here.fence(Q, epoch=epoch, group=name))
        assert both is None or both[1].before == {"epoch": both[0]}

    # --- domains

    @rule(fresh=st.booleans())
    def take_turns(self, fresh: bool) -> None:
        """The other process goes on, or one that has just started in its place."""
        self.here, self.other = self.other, self.here
        if fresh:
            self.here.close()
            self.here = open_store(self.world.directory, self.world.driver)

    @precondition(lambda self: not self.want.failed)  # with two away nobody knows which queues there are
    @rule(domain=st.sampled_from(DOMAINS))
    def fail(self, domain: str) -> None:
        """Takes a domain out, but never the last one that knows who may do what."""
        hypothesis.assume(set(self.want.voters()) - self.want.failed - {domain})
        assert self.here.domains.fail(domain).changed == (domain not in self.want.failed)
        self.want.failed.add(domain)

    @precondition(lambda self: self.want.failed)
    @rule(which=PICK)
    def restore(self, which: int) -> None:
        domain = sorted(self.want.failed)[which % len(self.want.failed)]
        assert self.here.domains.restore(domain).changed
        self.want.failed.remove(domain)

    @rule(domain=st.sampled_from([AZURE, AZURE, AWS, GCP]), step=st.sampled_from([1, 1, 1, 1, 0, 2]))
    def add(self, domain: str, step: int) -> None:
        self.count += 1
        name, generation = f"r-{self.count}", self.want.generation + step
        self.world.observe(domain)
        self.agree(
            lambda: self.want.add(Replica(name, domain, False), generation),
            lambda: self.here.locator.set(Q, generation=generation, add=[f"{name}={domain}"]),
        )

    @precondition(lambda self: not self.want.failed)
    @rule(which=PICK, step=st.sampled_from([1, 1, 1, 1, 0, 2]))
    def remove(self, which: int, step: int) -> None:
        replica = self.want.replicas[which % len(self.want.replicas)]
        generation = self.want.generation + step
        self.agree(
            lambda: self.want.remove(replica.id, generation),
            lambda: self.here.locator.set(Q, generation=generation, remove=[replica.id]),
        )

    @precondition(lambda self: not self.want.failed)
    @rule(ack=st.sampled_from(["majority", "all"]))
    def set_rule(self, ack: str) -> None:
        both = self.agree(lambda: self.want.set_rule(ack), lambda: self.here.policy.set(Q, ack=ack))
        assert both is None or both[0] == both[1].changed

    @rule(domain=st.sampled_from([AZURE, AZURE, AWS, GCP]))
    def catch_up(self, domain: str) -> None:
        both = self.agree(lambda: self.want.catch_up(domain), lambda: self.here.catch_up(Q, domain=domain))
        if both is None:
            return
        count, proof = both
        bound = (proof.count, proof.first_offset or 0, proof.through, proof.generation, proof.epoch)
        last = len(self.want.records) - 1
        assert bound == (count, self.want.first, last, self.want.generation, self.want.epoch)
        assert proof.match and proof.source_digest == proof.target_digest
        self.want.proofs[proof.proof] = (domain, self.want.generation, self.want.epoch)
        again = self.here.catch_up(Q, domain=domain)
        assert (again.proof, again.changed) == (proof.proof, False)

    @rule(origin=GROUPS, name=MOVED, domain=st.sampled_from([AZURE, AZURE, GCP]), which=PICK)
    def shift(self, origin: str, name: str, domain: str, which: int) -> None:
        proofs = ["prf_none", *self.want.proofs]
        proof = proofs[-1 - which // 6 % len(proofs)]
        before = self.here.consumers.list(Q).items
        both = self.agree(
            lambda: self.want.shift(origin, name, domain, proof),
            lambda: self.here.consumers.shift(Q, origin, as_=name, allow=[domain], proof=proof),
        )
        if both is not None:
            assert both[0] == both[1].changed and both[1].original == {"unchanged": True}
        assert [group for group in self.here.consumers.list(Q).items if group in before] == before

    @precondition(lambda self: not self.want.failed)
    @rule(origin=st.sampled_from(["workers", "billing"]), name=MOVED, epoch=st.sampled_from([0, 0, 0, 1, 2, 3]))
    def migrate(self, origin: str, name: str, epoch: int) -> None:
        """The whole way at once, with work under way; a fence before the shift makes the proof worth nothing."""
        if self.want.replica_in(AZURE) is None:
            self.add(AZURE, 1)
        self.catch_up(AZURE)
        if epoch:
            self.fence(None, epoch)
        self.shift(origin, name, AZURE, 0)

    # --- after every step

    @invariant()
    def every_domain_reads_what_was_acknowledged(self) -> None:
        for domain in sorted(set(self.want.voters()) - self.want.failed):
            wanted = self.want.kept()
            if self.want.can_write():
                assert self.read(domain) == wanted
                continue
            try:  # too few answer to count what is committed: what is known to be so may lag behind
                found = self.read(domain)
            except GrafctlError as error:
                assert error.exit_code in OLDER_REFUSALS, error.message
            else:
                assert found == wanted[: len(found)] and len(wanted) - len(found) <= 4

    def read(self, domain: str) -> list[tuple[int, Record]]:
        records = self.here.peek(Q, domain=domain, max=1_000).body["records"]
        return [(record.offset, Record(record.payload, record.id, record.key)) for record in records]

    @invariant()
    def status_counts_what_is_there(self) -> None:
        if not self.want.can_write():
            return
        (resource,) = self.here.status().body["resources"]
        shown = (resource["records"], resource["generation"], resource["epoch"])
        assert shown == (len(self.want.records) - self.want.first, self.want.generation, self.want.epoch)
        replicas = [Replica(item["id"], item["domain"], item["state"] == "ready") for item in resource["replicas"]]
        assert replicas == self.want.replicas
        names = ("cursor", "ack_floor", "lag", "leased", "retrying", "dead", "paused")
        found = {group["name"]: {name: group[name] for name in names} for group in resource["groups"]}
        assert found == {name: self.counts(group) for name, group in self.want.groups.items()}

    def counts(self, group: Group) -> dict[str, Any]:
        lineage = self.want.lineages[group.lineage]
        return {
            "cursor": group.cursor,
            "ack_floor": lineage.floor(),
            "lag": len(self.want.records) - len(lineage.final),
            "leased": len(lineage.leased()),
            "retrying": len(lineage.again),
            "dead": len(lineage.dead),
            "paused": group.paused,
        }

    @invariant()
    def nothing_is_inconsistent(self) -> None:
        findings = [finding for finding in self.here.verify() if finding.domain not in self.want.failed]
        if self.want.can_write():
            assert findings == []

    # --- at the end

    def teardown(self) -> None:
        try:
            if hasattr(self, "want"):
                self.come_to_rest()
        finally:
            self.here.close()
            self.other.close()
            self.stack.close()

    def come_to_rest(self) -> None:
        """Brings everything back, lets every group finish what it can get, and looks for what is left or was twice."""
        for domain in sorted(self.want.failed):
            self.here.domains.restore(domain)
        self.want.failed.clear()
        for name in self.want.groups:
            self.pause(name, False)
            self.place(name, list(DOMAINS))
            self.redrive(name, None)
        self.wait(4)
        for name, group in self.want.groups.items():
            domain = self.want.voters()[0]
            while self.want.lineages[group.lineage].leases or group.cursor < len(self.want.records):
                before = len(self.tokens)
                self.poll(name, domain, None, 5, 1)
                for _, token, offsets in self.tokens[before:]:
                    self.ack(Caller(name, domain), offsets, token)
        for name in self.want.groups:
            self.redrive(name, None)
        self.every_domain_reads_what_was_acknowledged()
        self.status_counts_what_is_there()
        assert list(self.here.verify()) == []
        audit = self.here.audit.verify().body
        assert (audit["holds"], audit["unread"]) == (True, [])
        with self.here.session.state(Q) as state:
            for name, lineage in self.want.lineages.items():
                assert state.get_json(keys.lineage(name))["finalised"] == lineage.finalised


class LmdbStoreMachine(StoreMachine):
    driver = "lmdb"


# The default number of examples is made for functions of a millisecond; one of these is a whole life of a store. For
# the same reason a failure is not made smaller in CI: that takes many minutes, and the first trace says enough.
WITHOUT_SHRINKING = [phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.shrink]
LIVES = hypothesis.settings(
    max_examples=max(1, hypothesis.settings().max_examples // 2),
    stateful_step_count=40,
    phases=WITHOUT_SHRINKING if hypothesis.settings().derandomize else list(hypothesis.Phase),
    report_multiple_bugs=False,
)

TestMemoryStore = StoreMachine.TestCase
TestLmdbStore = LmdbStoreMachine.TestCase
TestMemoryStore.settings = TestLmdbStore.settings = LIVES
