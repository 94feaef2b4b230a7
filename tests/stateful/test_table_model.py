"""Random lives of a keyed table against a dict, over the memory and the LMDB driver, seen by two processes.

Domains go away and come back, a vshard is moved and brought back, entries are swept early: a key has the value and the
version of the last write that was acknowledged, versions of a vshard grow with each write, and every count is right.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from store.world import open_store, world

from grafctl.errors import GenerationConflict, NotFound
from grafctl.store.operations import retention
from grafctl.store.operations.tables import Item
from grafctl.store.vshards import vshard_of
from stateful.test_store_model import LIVES

T, VSHARDS, WIDE = "accounts", 3, 60_000_000
HOME, AWAY = ("aws/a", "gcp/b", "azure/c"), ("oci/d",)
KEYS = [b"key-%d" % number for number in range(6)]
KEY, DOMAIN = st.sampled_from(KEYS), st.sampled_from((*HOME, *AWAY))
VALUE = st.none() | st.sampled_from([b"", b"one", b"two", b"\xff\x00"])
EXPECT = st.none() | st.integers(0, 3) | st.just("right")
WHO = st.booleans()


class TableMachine(RuleBasedStateMachine):
    driver = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.made = self.stack.enter_context(world(folder / "store", (*HOME, *AWAY), self.driver))
        self.every = retention.SWEEP_EVERY
        retention.SWEEP_EVERY = 4
        self.model: dict[bytes, tuple[bytes, int]] = {}
        self.seq = dict.fromkeys(range(VSHARDS), 0)
        self.failed: str | None = None
        self.moved: set[int] = set()

    @initialize()
    def begin(self) -> None:
        for domain in (*HOME, *AWAY):
            self.made.observe(domain)
        replicas = [f"r{place}={domain}" for place, domain in enumerate(HOME)]
        self.made.store.tables.create(T, replicas=replicas, allow=["**"], vshards=VSHARDS)
        self.other = open_store(self.made.directory, self.made.driver)

    def tables(self, other: bool) -> Any:
        return (self.other if other else self.made.store).tables

    @rule(key=KEY, value=VALUE, expect=EXPECT, domain=DOMAIN, other=WHO)
    def write(self, key: bytes, value: bytes | None, expect: Any, domain: str, other: bool) -> None:
        old, version = self.model.get(key, (None, 0))
        wanted = version if expect == "right" else expect
        asked: dict[str, Any] = {"domain": domain, "expect": wanted}
        tables = self.tables(other)

        def do() -> Any:
            return tables.delete(T, key, **asked) if value is None else tables.put(T, key, value, **asked)

        if wanted is not None and wanted != version:
            try:
                do()
            except GenerationConflict as error:
                assert error.fields["version"] == version
                return
            raise AssertionError("a write was taken that expected another version")
        done = do()
        same = old == value and (wanted is None or value is None)
        assert done.changed is not same and done.vshard == vshard_of(key, VSHARDS)
        self.wrote(key, value, same)
        assert done.version == self.model.get(key, (None, 0))[1]

    def wrote(self, key: bytes, value: bytes | None, same: bool) -> None:
        if same:
            return
        number = vshard_of(key, VSHARDS)
        self.seq[number] += 1
        if value is None:
            self.model.pop(key)
        else:
            self.model[key] = (value, self.seq[number])

    @rule(items=st.dictionaries(KEY, VALUE, max_size=5), other=WHO)
    def write_many(self, items: dict[bytes, bytes | None], other: bool) -> None:
        done = self.tables(other).put_many(T, [Item(*item) for item in items.items()], domain=HOME[0])
        for (key, value), one in zip(items.items(), done, strict=True):
            same = self.model.get(key, (None, 0))[0] == value
            assert one.changed is not same
            self.wrote(key, value, same)
            assert value is None or one.version == self.model[key][1]

    @rule(domain=st.sampled_from(HOME))
    def fail(self, domain: str) -> None:
        if self.failed is None and not self.moved:
            self.made.store.domains.fail(domain)
            self.failed = domain

    @precondition(lambda self: self.failed)
    @rule()
    def restore(self) -> None:
        self.made.store.domains.restore(self.failed or "")
        self.failed = None

    @precondition(lambda self: not self.failed)
    @rule(number=st.integers(0, VSHARDS - 1))
    def move(self, number: int) -> None:
        vshards = self.made.store.vshards
        if number in self.moved:
            vshards.reverse(T, [number], domain=HOME[0], budget_us=WIDE)
            vshards.retire(T, [number], domain=HOME[0])
            self.moved.discard(number)
        else:
            vshards.migrate(T, [number], to=AWAY, domain=HOME[0], budget_us=WIDE)
            self.moved.add(number)

    @invariant()
    def a_table_is_what_was_written(self) -> None:
        if not hasattr(self, "other"):
            return
        for other in (False, True):
            rows = list(self.tables(other).scan(T, domain=HOME[1]))
            assert {row.key: (row.value, row.version) for row in rows} == self.model
            assert [(row.vshard, row.key) for row in rows] == sorted((row.vshard, row.key) for row in rows)
        count = self.tables(True).count(T).body
        assert count["count"] == len(self.model)
        assert count["bytes"] == sum(len(key) + len(value) for key, (value, _) in self.model.items())

    @rule(key=KEY, other=WHO)
    def read(self, key: bytes, other: bool) -> None:
        try:
            row = self.tables(other).get(T, key, domain=AWAY[0])
            assert (row.value, row.version) == self.model[key]
        except NotFound:
            assert key not in self.model

    def teardown(self) -> None:
        retention.SWEEP_EVERY = self.every
        try:
            if hasattr(self, "other"):
                if self.failed:
                    self.made.store.domains.restore(self.failed)
                assert list(self.made.store.verify()) == []
                self.other.close()
        finally:
            self.stack.close()


class LmdbTableMachine(TableMachine):
    driver = "lmdb"


TestMemoryTable = TableMachine.TestCase
TestLmdbTable = LmdbTableMachine.TestCase
TestMemoryTable.settings = TestLmdbTable.settings = hypothesis.settings(LIVES, max_examples=LIVES.max_examples // 2)
