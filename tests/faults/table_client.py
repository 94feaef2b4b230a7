"""What the processes of a vshard storm do: writers, readers, and an operator who moves a vshard back and forth.

A worker opens the store once and works until the file `calm` is there, so what it knows of routes grows old as it does
in a program that runs for long. It records each call for `histories.registers` before it makes it and when it is
answered. Without `weather` it knows no error but that a compare-and-set was lost: any other is a crash, which fails
the storm. With it, errors that a domain which is away explains are said and left open, as the history wants them.

Promises
- No two puts write the same text, and the text tells whether the value came back whole (`text_of`).
- Keys that count are changed by compare-and-sets alone, each one more than before, so their sum is the number of the
  compare-and-sets that were won (`count_of`).
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from histories.recorder import Operation, Recorder, recording
from histories.registers import MODEL

import grafctl.client as client
from faults.deeds import Say
from grafctl.errors import Busy, DomainUnavailable, GenerationConflict, NoQuorum, NotFound, Timeout
from grafctl.store.operations.tables import Item
from grafctl.table_results import Row

TABLE = "accounts"
COUNTS = "count "  # how keys that count begin
WEATHER = (NoQuorum, Timeout, DomainUnavailable, Busy)
PAUSE_S = (0.0, 0.004)  # between two calls, so that six processes leave something of two cores to the operator
LONG_VALUE = 3000


def text_of(value: str) -> str:
    """Returns what is stored for a value of the history: with a filling of a length that follows from the value."""
    return f"{value}|{'.' * (zlib.crc32(value.encode()) % LONG_VALUE if value[-1] in '05' else 7)}"


def value_of(text: str) -> str:
    """Returns the value that a stored text is of; of a text that nobody wrote, the text itself."""
    value, _, _ = text.partition("|")
    return value if text == text_of(value) else text


def count_of(value: str) -> int:
    """Returns the number that a key that counts holds."""
    return int(value.partition(" ")[0])


def answer(row: Row | None) -> dict[str, Any]:
    """Returns what a read answers to the history."""
    return {"version": 0} if row is None else {"value": value_of(row.value.decode()), "version": row.version}


class Hand:
    """What a worker does with a table; each call is recorded."""

    def __init__(self, opened: client.Store, recorder: Recorder, name: str, domain: str, weather: bool) -> None:
        self.store, self.name, self.domain = opened, name, domain
        self._recorder = recorder
        self._weather = WEATHER if weather else ()
        self.known: dict[str, int] = {}  # key -> version that was seen last
        self.refused: dict[str, int] = {}

    def get(self, key: str) -> dict[str, Any] | None:
        """Returns what is there under a key, None where that cannot be known now."""
        with self._recorded([("get", key, {})]) as (read,):
            try:
                row = self.store.tables.get(TABLE, key, domain=self.domain)
            except NotFound:
                row = None
            self._end(read, answer(row))
        return read.result if "version" in (read.result or {}) else None

    def get_many(self, keys: Sequence[str]) -> None:
        with self._recorded([("get", key, {}) for key in keys]) as reads:
            rows = self.store.tables.get_many(TABLE, [key.encode() for key in keys], domain=self.domain)
            for read, row in zip(reads, rows, strict=True):
                self._end(read, answer(row))

    def scan(self, keys: Sequence[str], vshard: int | None = None) -> None:
        """Scans a vshard, or all; `keys` are all that may be there."""
        with self._recorded([("get", key, {}) for key in keys]) as reads:
            found = {row.key.decode(): row for row in self.store.tables.scan(TABLE, domain=self.domain, vshard=vshard)}
            assert found.keys() <= set(keys), f"keys that nobody wrote: {sorted(found.keys() - set(keys))}"
            for read in reads:
                self._end(read, answer(found.get(read.key)))

    def put(self, key: str, value: str, expect: int | None = None) -> bool | None:
        """Writes a value; returns whether it was acknowledged (a compare-and-set may be lost), None for unknown."""
        with self._recorded([("put", key, {"value": value, "expect": expect})]) as (write,):
            try:
                done = self.store.tables.put(TABLE, key, text_of(value), domain=self.domain, expect=expect)
            except GenerationConflict as error:
                assert expect is not None, error
                self._end(write, {"found": error.fields["version"]})
            else:
                assert done.changed, done
                self._end(write, {"version": done.version})
        return None if write.is_pending or "dropped" in write.result else "version" in write.result

    def delete(self, key: str, expect: int | None = None) -> None:
        with self._recorded([("delete", key, {"expect": expect})]) as (write,):
            try:
                (done,) = self.store.tables.put_many(TABLE, [Item(key.encode(), None, expect)], domain=self.domain)
            except GenerationConflict as error:
                assert expect is not None, error
                self._end(write, {"found": error.fields["version"]})
                return
            self._end(write, {"version": done.version} if done.changed else {"found": 0})
            self.known[key] = 0

    def put_many(self, values: dict[str, str]) -> None:
        """Writes several keys, some of which may be in other logs than the others."""
        with self._recorded([("put", key, {"value": value, "expect": None}) for key, value in values.items()]) as all_:
            items = [Item(key.encode(), text_of(value).encode()) for key, value in values.items()]
            for write, done in zip(all_, self.store.tables.put_many(TABLE, items, domain=self.domain), strict=True):
                assert done.changed, done
                self._end(write, {"version": done.version})

    def count_up(self, key: str, value: str) -> None:
        """Adds one to what a key holds, until nobody was quicker."""
        while (there := self.get(key)) is not None:
            number = count_of(there["value"]) if there["version"] else 0
            if self.put(key, f"{number + 1} {value}", expect=there["version"]) is not False:
                return
            value += "'"

    def _end(self, operation: Operation, result: dict[str, Any]) -> None:
        self._recorder.end(operation, result)
        self.known[operation.key] = int(result.get("version", result.get("found")) or 0)

    @contextmanager
    def _recorded(self, wanted: Sequence[tuple[str, str, dict[str, Any]]]) -> Iterator[list[Operation]]:
        """Records calls that are one; an error of the weather leaves them without an answer, or drops them."""
        begun = [self._recorder.begin(self.name, MODEL, key, name, **args) for name, key, args in wanted]
        try:
            yield begun
        except self._weather as error:
            self.refused[error.code] = self.refused.get(error.code, 0) + 1
            for operation in begun:
                if operation.name == "get" or (error.fields.get("outcome") == "not_written" and len(begun) == 1):
                    self._recorder.drop(operation)


Keys = dict[str, list[str]]  # vshard -> its keys


def writer(
    store: Path, say: Say, name: str, domain: str, keys: Keys, moved: Sequence[int], seed: int, calm: str, history: str,
    weather: bool = False,
) -> None:  # fmt: skip
    """Puts, compares and sets, deletes and reads, half of the time in the vshards that are moved."""
    chance, until, go, longest = random.Random(seed), Path(calm), 0, 0.0
    with client.open(store) as opened, recording(Path(history), time.monotonic) as recorder:
        hand = Hand(opened, recorder, name, domain, weather)
        while not until.exists():
            go += 1
            began = time.monotonic()
            _write(hand, chance, keys, moved, f"{name} {go}")
            longest = max(longest, time.monotonic() - began)
            time.sleep(chance.uniform(*PAUSE_S))
    say(longest_s=longest, refused=hand.refused)


def _write(hand: Hand, chance: random.Random, keys: Keys, moved: Sequence[int], value: str) -> None:
    vshard = str(chance.choice(moved)) if chance.random() < 0.5 else chance.choice(list(keys))
    key = chance.choice(keys[vshard])
    what = chance.random()
    if key.startswith(COUNTS):
        hand.count_up(key, value)
    elif what < 0.45:
        hand.put(key, value)
    elif what < 0.65:
        hand.put(key, value, expect=hand.known.get(key, 0))
    elif what < 0.72:
        hand.delete(key)
    elif what < 0.75:
        hand.delete(key, expect=hand.known.get(key) or 1)
    elif what < 0.85:
        others = chance.sample([each for own in keys.values() for each in own if not each.startswith(COUNTS)], 3)
        hand.put_many({each: f"{value} {number}" for number, each in enumerate(others)})
    else:
        hand.get(key)


def reader(
    store: Path, say: Say, name: str, domain: str, keys: Keys, moved: Sequence[int], seed: int, calm: str, history: str,
    weather: bool = False,
) -> None:  # fmt: skip
    """Reads single keys, several at once, and whole vshards."""
    chance, until = random.Random(seed), Path(calm)
    with client.open(store) as opened, recording(Path(history), time.monotonic) as recorder:
        hand = Hand(opened, recorder, name, domain, weather)
        while not until.exists():
            vshard = str(chance.choice(moved)) if chance.random() < 0.5 else chance.choice(list(keys))
            what = chance.random()
            if what < 0.6:
                hand.get(chance.choice(keys[vshard]))
            elif what < 0.8:
                hand.get_many(chance.sample([each for own in keys.values() for each in own], 4))
            elif what < 0.97:
                hand.scan(keys[vshard], int(vshard))
            else:
                hand.scan([each for own in keys.values() for each in own])
            time.sleep(chance.uniform(*PAUSE_S))
    say(refused=hand.refused)
