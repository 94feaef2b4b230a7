"""Random runs of two drivers against a plain dict, which shares nothing with them."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from drivers import raw_lmdb
from drivers.contract import EVERYTHING, IDENTITY, Stop
from grafctl.store.driver.contract import Batch, Driver, Environment, View
from grafctl.store.driver.lmdb import LmdbDriver
from grafctl.store.driver.memory import MemoryDriver

KEYS = st.sampled_from([b"\0", b"a", b"a\0", b"ab", b"b", b"k" * 511, b"\xff", b"\x01identitz", b"\x01identit"])
VALUES = st.sampled_from([b"", b"1", b"value" * 10, b"v" * 5_000, b"w" * 70_000])


class Model(RuleBasedStateMachine):
    """`committed` is what must be there, `pending` what an open batch sees, `snapshots` what open views still see."""

    def make_driver(self) -> Driver:
        return MemoryDriver()

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="grafctl-model-"))
        self.path = self.directory / "domain"
        self.driver = self.make_driver()
        self.driver.create(self.path, IDENTITY)
        self.env: Environment = self.driver.open(self.path, IDENTITY)
        self.committed: dict[bytes, bytes] = {}
        self.pending: dict[bytes, bytes] | None = None
        self.batch: Batch | None = None
        self.block = ExitStack()
        self.snapshots: list[tuple[ExitStack, View, dict[bytes, bytes]]] = []

    @precondition(lambda self: self.batch is None)
    @rule()
    def begin(self) -> None:
        self.batch = self.block.enter_context(self.env.write(wait_s=0))
        self.pending = dict(self.committed)

    @precondition(lambda self: self.batch is not None)
    @rule(key=KEYS, value=VALUES)
    def put(self, key: bytes, value: bytes) -> None:
        assert self.batch is not None and self.pending is not None
        self.batch.put(key, value)
        self.pending[key] = value

    @precondition(lambda self: self.batch is not None)
    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        assert self.batch is not None and self.pending is not None
        assert self.batch.delete(key) == (self.pending.pop(key, None) is not None)

    @precondition(lambda self: self.batch is not None)
    @rule()
    def commit(self) -> None:
        assert self.pending is not None
        self.block.close()
        self.committed, self.pending, self.batch = self.pending, None, None

    @precondition(lambda self: self.batch is not None)
    @rule()
    def abort(self) -> None:
        try:
            with self.block:
                raise Stop
        except Stop:
            pass
        self.block, self.pending, self.batch = ExitStack(), None, None

    @precondition(lambda self: len(self.snapshots) < 3)
    @rule()
    def look(self) -> None:
        stack = ExitStack()
        self.snapshots.append((stack, stack.enter_context(self.env.read()), dict(self.committed)))

    @precondition(lambda self: self.snapshots)
    @rule()
    def look_away(self) -> None:
        self.snapshots.pop(0)[0].close()

    @precondition(lambda self: self.batch is None and not self.snapshots)
    @rule()
    def reopen(self) -> None:
        self.env.close()
        self.env = self.driver.open(self.path, IDENTITY)

    @rule(start=KEYS, stop=KEYS, reverse=st.booleans())
    def scan(self, start: bytes, stop: bytes, reverse: bool) -> None:
        rows = [(key, self.committed[key]) for key in sorted(self.committed) if start <= key < stop]
        with self.env.read() as view:
            assert list(view.scan(start, stop, reverse=reverse)) == (rows[::-1] if reverse else rows)

    @invariant()
    def everyone_sees_what_they_must(self) -> None:
        for _, view, expected in self.snapshots:
            assert dict(view.scan(*EVERYTHING)) == expected
        if self.batch is not None:
            assert dict(self.batch.scan(*EVERYTHING)) == self.pending
        with self.env.read() as view:
            assert dict(view.scan(*EVERYTHING)) == self.committed
            for key in self.committed:
                assert view.get(key, 3) == self.committed[key][:3]

    def teardown(self) -> None:
        for stack, _, _ in self.snapshots:
            stack.close()
        if self.batch is not None:
            self.abort()
        self.env.close()
        self.look_at_the_bytes()
        shutil.rmtree(self.directory)

    def look_at_the_bytes(self) -> None:
        pass


class LmdbModel(Model):
    def make_driver(self) -> Driver:
        return LmdbDriver()

    def look_at_the_bytes(self) -> None:
        assert raw_lmdb.rows(self.path) == self.committed


TestMemoryModel = Model.TestCase
TestLmdbModel = LmdbModel.TestCase
