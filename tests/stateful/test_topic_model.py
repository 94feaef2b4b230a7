"""Random lives of a topic and its subscriptions against plain sets, over the memory and the LMDB driver.

How far a filter is judged ahead is the store's business, so what is compared is what must hold whatever it does: a
subscription is given each record that its filter wants and that was not taken from it by policy, is given nothing
else, and nothing again that it has finished; retention takes from none of them what it may not.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from store.world import open_store, world

from grafctl.client import Outgoing
from grafctl.errors import Fenced
from grafctl.store.operations import filtering
from grafctl.store.resources.group import lineage_of
from stateful.test_store_model import LIVES

T, HOUR_MS = "events", 3_600_000
DOMAINS = ("aws/a", "gcp/b", "azure/c")
Event = tuple[int, str, bool]  # total, key, whether it is a return

FILTERS: dict[str, tuple[str, Callable[[Event], bool]]] = {
    "every": ("all", lambda event: True),
    "acme": ("key:acme/", lambda event: event[1].startswith("acme/")),
    "returns": ("type:return", lambda event: event[2]),
    "large": ("expr:total > 6 or total == 0", lambda event: event[0] > 6 or event[0] == 0),
    "nothing": ("key:nobody", lambda event: False),
}
NAMES = st.sampled_from(sorted(FILTERS))
DOMAIN = st.sampled_from(DOMAINS)
EVENT = st.tuples(st.integers(0, 9), st.sampled_from(["acme/1", "other/1"]), st.booleans())
EVENTS = st.lists(EVENT, min_size=1, max_size=5)


@dataclass
class Held:
    """What one poll gave to a subscription, until an hour."""

    token: int
    until: int
    offsets: set[int]


@dataclass
class Subscription:
    """What one subscription was given and has finished."""

    born: int  # where it began
    start: int  # the lowest offset that it asked for
    finished: set[int] = field(default_factory=set)
    passed: set[int] = field(default_factory=set)  # what a seek went over
    again: int = 0  # below this, a seek lets it read again what it has finished
    given: set[int] = field(default_factory=set)
    held: list[Held] = field(default_factory=list)

    def withheld(self, now: int) -> set[int]:
        return {offset for held in self.held if held.until > now for offset in held.offsets}


class TopicMachine(RuleBasedStateMachine):
    """`here` does the next step, `other` is another process; `want` holds the subscriptions that were created."""

    driver = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(filtering, "JUDGED_RECORDS", 4)  # so that a few records are a long way
        directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="grafctl-topic-"))) / "store"
        self.world = self.stack.enter_context(world(directory, DOMAINS, self.driver))
        self.here, self.other = self.world.store, open_store(directory, self.world.driver)
        self.events: list[Event] = []
        self.want: dict[str, Subscription] = {}
        self.now = 0

    @initialize(count=st.sampled_from([None, 0, 6]), hours=st.sampled_from([None, 2]), oldest=st.booleans())
    def begin(self, count: int | None, hours: int | None, oldest: bool) -> None:
        self.count, self.hours, self.oldest = count, hours, oldest
        self.here.topics.create(
            T,
            replicas=[f"r{place}={domain}" for place, domain in enumerate(DOMAINS)],
            allow=["**"],
            retain_count=count,
            retain_age_ms=None if hours is None else hours * HOUR_MS,
            discard="oldest" if oldest else "finished",
        )
        self.subscribe("large", "earliest")

    def first(self) -> int:
        found: int = self.here.topics.show(T).body["first_offset"]
        return found

    # --- work

    @rule(domain=DOMAIN, events=EVENTS)
    def publish(self, domain: str, events: list[Event]) -> None:
        batch = [
            Outgoing(json.dumps({"total": total}).encode(), None, key, {"type": "return" if back else "sale"})
            for total, key, back in events
        ]
        ack = self.here.publish_batch(T, batch, domain=domain)
        assert ack.offset == len(self.events)
        self.events += events

    @rule(name=NAMES, start=st.sampled_from(["earliest", "latest", "1h"]))
    def subscribe(self, name: str, start: str) -> None:
        if name not in self.want:
            self.here.consumers.create(T, name, allow=["**"], filter=FILTERS[name][0], start=start)
            begun: int = self.here.consumers.show(T, name).body["cursor"]
            assert start == "1h" or begun == (len(self.events) if start == "latest" else self.first())
            self.want[name] = Subscription(begun, begun)

    @precondition(lambda self: self.want)
    @rule(name=NAMES, domain=DOMAIN, count=st.integers(1, 6), hours=st.integers(1, 2))
    def poll(self, name: str, domain: str, count: int, hours: int) -> None:
        if name in self.want:
            self.take(name, domain, count, hours)

    def take(self, name: str, domain: str, count: int, hours: int) -> list[int]:
        """Polls, and returns what was given after looking at each of it."""
        own = self.want[name]
        given = self.here.poll(T, name, domain=domain, max=count, visibility_ms=hours * HOUR_MS)
        offsets = [record.offset for record in given.records]
        assert len(offsets) <= count
        for record in given.records:
            total, key, _ = self.events[record.offset]
            assert (json.loads(record.payload), record.key) == ({"total": total}, key)
            assert FILTERS[name][1](self.events[record.offset]), "it was left out by the filter"
        assert not set(offsets) & own.withheld(self.now), "it is held already"
        assert all(offset not in own.finished or offset < own.again for offset in offsets), "it was finished"
        assert min(offsets, default=own.start) >= min(own.start, self.first())
        if not offsets:
            assert not self.missing(name) - own.given - own.passed, "what is wanted was not given"
        own.given |= set(offsets)
        if given.lease is not None:
            own.held.append(Held(given.lease, self.now + hours, set(offsets)))
        return offsets

    @precondition(lambda self: any(own.held for own in self.want.values()))
    @rule(name=NAMES, domain=DOMAIN, which=st.integers(0, 5), part=st.booleans(), back=st.booleans())
    def settle(self, name: str, domain: str, which: int, part: bool, back: bool) -> None:
        own = self.want.get(name)
        if own is None or not own.held:
            return
        held = own.held[which % len(own.held)]
        offsets = sorted(held.offsets)[:: 2 if part else 1]
        call = self.here.nack if back else self.here.ack
        kept = [offset for offset in offsets if offset >= self.first()]
        try:
            call(T, name, offsets, domain=domain, lease=held.token)
        except Fenced:
            assert held.until <= self.now or set(kept) != set(offsets), "a lease that holds was not honoured"
            return
        held.offsets -= set(offsets)
        if not held.offsets:
            own.held.remove(held)
        if back:
            own.given -= set(offsets) - own.finished
        else:
            own.finished |= set(offsets)

    @rule(hours=st.integers(1, 3))
    def wait(self, hours: int) -> None:
        self.now += hours
        self.world.advance(hours * HOUR_MS)
        for own in self.want.values():
            for held in [held for held in own.held if held.until <= self.now]:
                own.held.remove(held)
                own.given -= held.offsets - own.finished

    @rule(name=NAMES, to=st.integers(0, 12))
    def seek(self, name: str, to: int) -> None:
        own = self.want.get(name)
        if own is None:
            return
        change = self.here.consumers.seek(T, name, str(to))
        assert change.before is not None and change.after is not None
        before, after = change.before["cursor"], change.after["cursor"]
        own.start = min(own.start, after)
        own.passed = {offset for offset in own.passed | set(range(before, after)) if offset < after}
        if after < before:
            own.again = max(own.again, before)

    @rule()
    def trim(self) -> None:
        before = self.first()
        change = self.here.topics.trim(T)
        assert change.after is not None and change.after["first_offset"] >= before
        assert self.oldest or not change.after.get("lost")

    @rule(fresh=st.booleans())
    def take_turns(self, fresh: bool) -> None:
        self.here, self.other = self.other, self.here
        if fresh:
            self.here.close()
            self.here = open_store(self.world.directory, self.world.driver)

    @rule(domain=DOMAIN, name=NAMES)
    def go_on_without_a_domain(self, domain: str, name: str) -> None:
        """A domain is away for one poll elsewhere: another one may lead then."""
        self.here.domains.fail(domain)
        others = [other for other in DOMAINS if other != domain]
        if name in self.want:
            self.take(name, others[0], 2, 1)
        self.here.domains.restore(domain)

    # --- what must hold

    def missing(self, name: str) -> set[int]:
        """Returns what is kept and wanted, and was not finished."""
        own, wants = self.want[name], FILTERS[name][1]
        kept = range(max(own.born, self.first()), len(self.events))
        return {offset for offset in kept if wants(self.events[offset])} - own.finished

    @invariant()
    def nobody_lost_what_he_may_keep(self) -> None:
        if not hasattr(self, "count"):
            return
        first = self.first()
        if self.count is not None and self.hours is None:
            assert len(self.events) - first >= min(self.count, len(self.events)), "so many must stay"
        with self.here.session.state(T) as state:
            for name, own in self.want.items():
                lineage = lineage_of(state, name)
                open_ = {at for start, stop in lineage.unfinished([[0, len(self.events)]]) for at in range(start, stop)}
                assert self.missing(name) <= open_, "something was finished that nobody finished"
                assert not own.finished & open_, "what was finished is not"
                assert lineage.floor >= first
                assert self.oldest or lineage.loss() is None

    @invariant()
    def nothing_is_out_of_order(self) -> None:
        assert not hasattr(self, "count") or list(self.here.verify()) == []

    def teardown(self) -> None:
        try:
            if hasattr(self, "count"):
                self.come_to_rest()
        finally:
            self.here.close()
            self.other.close()
            self.stack.close()

    def come_to_rest(self) -> None:
        """Lets everybody finish all there is; then nothing that was wanted and kept is left."""
        self.wait(4)
        for name, own in self.want.items():
            while offsets := self.take(name, DOMAINS[0], 5, 1):
                held = own.held.pop()
                self.here.ack(T, name, offsets, domain=DOMAINS[1], lease=held.token)
                own.finished |= set(offsets)
            assert not self.missing(name) - own.passed
            shown: dict[str, Any] = self.here.consumers.show(T, name).body
            assert shown["cursor"] == len(self.events)
            assert own.passed or shown["ack_floor"] == len(self.events), "what nobody wants holds retention"


class LmdbTopicMachine(TopicMachine):
    driver = "lmdb"


TestMemoryTopic = TopicMachine.TestCase
TestLmdbTopic = LmdbTopicMachine.TestCase
TestMemoryTopic.settings = TestLmdbTopic.settings = hypothesis.settings(LIVES, max_examples=LIVES.max_examples // 2)
