"""What a put and a get of a keyed table cost beside py-lmdb alone with the same number of durable commits.

A get gives the newest value that was acknowledged, and whichever domain holds that is not known beforehand. A raw get
that gives the same looks into both environments and takes the newer of two versions, so that is what stands beside it.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import lmdb

import grafctl
from bench.rows import Row, Target
from bench.stores import DOMAINS, PAYLOAD_BYTES, Raw, make, payload, raw
from bench.turns import in_turn, ratio
from grafctl.client import Store
from grafctl.store.keys import U64
from grafctl.store.operations.tables import Item

NAME = "tables: put, get and scan of a keyed table in two domains, one caller, Python API"
TABLE = "customers"
ROWS = 50_000
BATCH = 1000
ROUNDS = 15
PUTS, PUT_BATCHES, GETS, GET_BATCHES = 25, 3, 200, 3  # of each in a round
PUT_MIN, GET_MIN = 0.6, 0.5
VERSION = U64.pack(1)


def run() -> list[Row]:
    """Measures one caller."""
    value, seeded = payload(), random.Random(1)
    keys = [b"customer-%09d" % number for number in range(ROWS)]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        with raw(directory) as pair, grafctl.open(make(directory / "store")) as store:
            replicas = [f"{TABLE}-{domain}={domain}" for domain in DOMAINS]
            store.tables.create(TABLE, replicas=replicas, allow=DOMAINS)
            for first in range(0, ROWS, BATCH):
                few = keys[first : first + BATCH]
                store.tables.put_many(TABLE, [Item(key, value) for key in few], domain=DOMAINS[0])
                _put_raw(pair, [(key, value) for key in few])
            sides = Sides(pair, store, seeded.sample(keys, ROWS), seeded)
            return [*_writing(sides), *_reading(sides), _scanning(sides)]


class Sides:
    """The same work in a table and in two raw environments, with keys in a mixed order and values that are new."""

    def __init__(self, pair: Raw, store: Store, keys: Sequence[bytes], seeded: random.Random) -> None:
        self.pair, self.store, self._keys, self._seeded = pair, store, keys, seeded
        self._value = payload()
        self._at = 0

    def some(self, count: int) -> Sequence[bytes]:
        """Returns the next keys: to draw them here would take as long as a raw get."""
        first = self._at if self._at + count <= len(self._keys) else 0
        self._at = first + count
        return self._keys[first : self._at]

    def fresh(self, count: int) -> list[tuple[bytes, bytes]]:
        """Returns keys, each with a value that is not there yet."""
        return [(key, b"%016x" % self._seeded.getrandbits(64) + self._value[16:]) for key in self.some(count)]

    def put(self) -> None:
        for key, value in self.fresh(PUTS):
            assert self.store.tables.put(TABLE, key, value, domain=DOMAINS[0]).changed

    def put_raw(self) -> None:
        for item in self.fresh(PUTS):
            _put_raw(self.pair, [item])

    def put_many(self) -> None:
        for _ in range(PUT_BATCHES):
            items = [Item(*item) for item in self.fresh(BATCH)]
            assert all(done.changed for done in self.store.tables.put_many(TABLE, items, domain=DOMAINS[0]))

    def put_many_raw(self) -> None:
        for _ in range(PUT_BATCHES):
            _put_raw(self.pair, self.fresh(BATCH))

    def get(self) -> None:
        for key in self.some(GETS):
            assert self.store.tables.get(TABLE, key, domain=DOMAINS[0]).version

    def get_raw(self) -> None:
        for key in self.some(GETS):
            assert len(_get_raw(self.pair.environments, [key])[0]) == PAYLOAD_BYTES

    def get_raw_once(self) -> None:
        for key in self.some(GETS):
            assert len(_get_raw(self.pair.environments[:1], [key])[0]) == PAYLOAD_BYTES

    def get_many(self) -> None:
        for _ in range(GET_BATCHES):
            assert all(self.store.tables.get_many(TABLE, self.some(BATCH), domain=DOMAINS[0]))

    def get_many_raw(self) -> None:
        for _ in range(GET_BATCHES):
            assert all(_get_raw(self.pair.environments, self.some(BATCH)))

    def scan(self) -> None:
        assert sum(1 for _ in self.store.tables.scan(TABLE, domain=DOMAINS[0])) == ROWS

    def scan_raw(self) -> None:
        with self.pair.environments[0].begin() as transaction, transaction.cursor() as cursor:
            assert sum(1 for key, value in cursor if value[8:]) == ROWS


def _put_raw(pair: Raw, items: Sequence[tuple[bytes, bytes]]) -> None:
    """Puts the items with a version: one durable commit in one environment, then one in the other."""
    for environment in pair.environments:
        with environment.begin(write=True) as transaction:
            for key, value in items:
                transaction.put(key, VERSION + value)


def _get_raw(environments: Sequence[lmdb.Environment], keys: Sequence[bytes]) -> list[bytes]:
    """Returns the newest value of each key that one of the environments has."""
    best: list[bytes] = [b""] * len(keys)
    for environment in environments:
        with environment.begin() as transaction:
            for place, key in enumerate(keys):
                found = transaction.get(key)
                if found is not None and found[:8] > best[place][:8]:
                    best[place] = found
    return [found[8:] for found in best]


def _writing(sides: Sides) -> list[Row]:
    against = "py-lmdb: the same puts, a commit in each of two environments in turn"
    least, note = Target(">=", PUT_MIN), f"{ROUNDS} rounds of {PUTS} puts of 1 KiB over {ROWS:,} rows"
    one = _row("put of one key", sides.put_raw, sides.put, PUTS)
    many = _row(f"put_many of {BATCH:,} keys", sides.put_many_raw, sides.put_many, PUT_BATCHES * BATCH)
    return [
        *one.absolute,
        Row("table put", one.ratio, "x", least, against, note),
        *many.absolute,
        Row(f"table put_many of {BATCH:,}", many.ratio, "x", None, against),
    ]


def _reading(sides: Sides) -> list[Row]:
    against = "py-lmdb: the newer of what two environments have"
    least, note = Target(">=", GET_MIN), f"{ROUNDS} rounds of {GETS} gets of 1 KiB out of {ROWS:,} rows"
    one = _row("get of one key", sides.get_raw, sides.get, GETS)
    once = _row("get of one key", sides.get_raw_once, sides.get, GETS)
    many = _row(f"get_many of {BATCH:,} keys", sides.get_many_raw, sides.get_many, GET_BATCHES * BATCH)
    many_note = f"{ROUNDS} rounds of {GET_BATCHES} x {BATCH:,} gets of 1 KiB out of {ROWS:,} rows"
    return [
        *one.absolute,
        Row("table get", one.ratio, "x", least, against, note),
        Row("table get", once.ratio, "x", None, "py-lmdb: one environment, which may be the older one"),
        *many.absolute,
        Row("table get_many", many.ratio, "x", least, against, many_note),
    ]


def _scanning(sides: Sides) -> Row:
    found = _row("scan", sides.scan_raw, sides.scan, ROWS)
    return Row("table scan", found.ratio, "x", None, "py-lmdb: a cursor over one environment")


class _Pair:
    """One thing measured on both sides."""

    def __init__(self, what: str, raw_s: list[float], ours_s: list[float], count: int) -> None:
        self.ratio = ratio(raw_s, ours_s)
        each_us = [median(times) / count * 1e6 for times in (raw_s, ours_s)]
        names = (f"py-lmdb, {what}", f"table, {what}")
        self.absolute = [Row(name, us, "us each") for name, us in zip(names, each_us, strict=True)]


def _row(what: str, raw_side: Callable[[], None], our_side: Callable[[], None], count: int) -> _Pair:
    raw_s, ours_s = in_turn(ROUNDS, raw_side, our_side)
    return _Pair(what, raw_s, ours_s, count)
