"""A vshard goes from one log to another and back, as cases over the rows of two logs in memory."""

from __future__ import annotations

from typing import Any

import pytest

from grafctl import clock
from grafctl.errors import Busy, PauseBudgetExceeded
from grafctl.store import vshard_keys
from grafctl.store.keys import U64
from grafctl.store.resources.moving import Abandon, Beat, Begin, Flip, ForgetWayBack, Place, Seal, Unseal
from grafctl.store.resources.receiving import Copy, Drop, Open, Receive, Replay
from grafctl.store.resources.table import Ask, Caller, NotServed, Put, numbered_writes
from grafctl.store.table_block import Write
from resources.rows import AWS, Rows, a_queue, find

T, N = "accounts", 3
CALLER = Caller(T, AWS)


def a_log(name: str) -> Rows:
    return a_queue(kind="table" if name == T else "part", name=name, part_of=T, vshards=8)


class Table:
    """A table of one home and some parts."""

    def __init__(self, *parts: str) -> None:
        self.logs = {name: a_log(name) for name in (T, *parts)}
        self.owner = T
        self.claim: tuple[int, int] | None = None
        self._moves = 0

    @property
    def row(self) -> dict[str, Any]:
        found: dict[str, Any] = self.logs[self.owner].get_json(vshard_keys.vshard(N))
        return found

    def put(self, key: bytes, value: bytes | None, expect: int | None = None, log: str | None = None) -> int:
        """Writes a key with what this client knows of routes; returns its version."""
        caller = CALLER if self.claim is None else CALLER._replace(claims={N: self.claim})
        ((version, _),) = self.logs[log or self.owner].run(Put(caller, [Ask(N, key, value, expect)]))
        return int(version)

    def rows_of(self, log: str) -> dict[bytes, tuple[int, bytes]]:
        found = self.logs[log].scan(vshard_keys.table_rows(N))
        return {vshard_keys.key_of(row): (U64.unpack_from(body)[0], body[8:]) for row, body in found}

    def begin(self, to: str, *, reverse: bool = False) -> Place:
        self._moves += 1
        place = Place(T, N, f"move {self._moves}")
        _, record = self.logs[self.owner].run(Begin(CALLER, place, to, {}, reverse))
        self.logs[to].run(Receive(place, self.owner, record))
        return place

    def copy(self, place: Place, to: str) -> None:
        rows = [Write(N, key, value, version) for key, (version, value) in self.rows_of(self.owner).items()]
        self.logs[to].run(Copy.of(place, "", rows, "end", True))

    def replay(self, place: Place, to: str, token: int | None = None) -> None:
        """Replays what the source wrote since; with a token the target is ready under it."""
        source, target = self.logs[self.owner], self.logs[to]
        start = target.get_json(vshard_keys.migration(N))["applied"]
        writes = [
            write
            for entry in source.entries[start:]
            if entry.request["do"] == "put"
            for write in numbered_writes(entry, "entry")
        ]
        generation = self.row["generation"] + (token is not None)
        target.run(Replay.of(place, (start, len(source.entries)), writes, token, generation))

    def seal(self, place: Place) -> int:
        return int(self.logs[self.owner].run(Seal(place, 50_000)))

    def cut_over(self, place: Place, to: str) -> None:
        token = self.seal(place)
        self.replay(place, to, token)
        self.logs[self.owner].run(Flip(place, token, clock.monotonic_s() + 60, {}))
        self.logs[to].run(Open(place, token))
        self.owner = to

    def move(self, to: str, *, reverse: bool = False) -> None:
        place = self.begin(to, reverse=reverse)
        if not reverse:
            self.copy(place, to)
        self.cut_over(place, to)

    def retire(self, old: str) -> None:
        self.logs[self.owner].run(ForgetWayBack(Place(T, N, ""), CALLER))
        token = self.logs[old].get_json(vshard_keys.vshard(N))["token"]
        while self.logs[old].run(Drop(Place(T, N, ""), 2, token)):
            pass

    def require_counts(self) -> None:
        """The counts of the owner are those of its rows."""
        rows = self.rows_of(self.owner)
        assert self.row["records"] == len(rows)
        assert self.row["bytes"] == sum(len(key) + len(value) for key, (_, value) in rows.items())


def test_a_version_is_not_given_again_after_a_move() -> None:
    table = Table("part")
    table.put(b"kept", b"1")
    table.put(b"gone", b"2")
    last = table.put(b"gone", None)
    table.move("part")
    assert table.put(b"gone", b"3") > last


def test_counts_hold_after_a_way_back_was_cancelled() -> None:
    table = Table("part")
    table.put(b"a", b"1")
    table.move("part")
    table.put(b"b", b"22")
    place = table.begin(T, reverse=True)
    table.replay(place, T)
    table.logs[T].run(Drop(place, 10))
    table.logs["part"].run(Abandon(place, None))
    table.move(T, reverse=True)
    table.require_counts()
    assert table.rows_of(T) == {b"a": (1, b"1"), b"b": (2, b"22")}


def test_a_claim_of_an_earlier_move_opens_nothing() -> None:
    """The indexes of two logs may be the same number, so the token of one move may be that of another."""
    table = Table("one", "two")
    for number in range(40):
        table.put(b"a", b"%d" % number)
    table.move("one")
    given = table.logs[T].get_json(vshard_keys.vshard(N))
    table.claim = (given["token"], given["generation"])
    table.retire(T)
    table.move("two")
    place = table.begin("one", reverse=True)
    while len(table.logs["two"].entries) < given["token"]:
        table.put(b"a", b"%d more" % len(table.logs["two"].entries))
    token = table.seal(place)
    assert token == given["token"]
    table.replay(place, "one", token)
    with pytest.raises(NotServed):  # it is ready there, and not given away yet
        table.put(b"b", b"too early", log="one")
    with pytest.raises(NotServed):
        find(table.logs["one"], table.logs["one"].queue, T, N, b"a", table.claim)
    assert not table.logs["one"].run(Open(Place(T, N, given["id"]), token)), "opened by who slept since the first move"
    now = table.logs["two"].run(Flip(place, token, clock.monotonic_s() + 60, {}))
    table.claim = (now["token"], now["generation"])
    assert table.put(b"b", b"in time", log="one") == table.logs["one"].get_json(vshard_keys.vshard(N))["seq"]


def test_a_batch_of_nothing_does_not_make_a_ready_copy_unready() -> None:
    """An operator who looked at the source before it was sealed, and at the target after it was drained, has one."""
    table = Table("part")
    table.put(b"a", b"1")
    place = table.begin("part")
    table.copy(place, "part")
    token = table.seal(place)
    table.replay(place, "part", token)
    table.logs[T].run(Beat(place))
    table.replay(place, "part")
    table.logs[T].run(Flip(place, token, clock.monotonic_s() + 60, {}))
    assert table.logs["part"].run(Open(place, token)), "given away, and nobody can open it"


def test_a_flip_needs_its_own_seal_and_its_budget() -> None:
    """By the clock of who asks and by the stamp of the log: each alone ends it, and the right one goes through."""
    table = Table("part")
    table.put(b"a", b"1")
    place = table.begin("part")
    table.copy(place, "part")
    home = table.logs[T]
    slept = table.seal(place)
    home.run(Unseal(place, slept))
    later_s = clock.monotonic_s() + 60
    with pytest.raises(PauseBudgetExceeded, match="lifted"):
        home.run(Flip(place, slept, later_s, {}))
    token = table.seal(place)
    with pytest.raises(
        PauseBudgetExceeded, match="lifted"
    ):  # what was made ready for another seal lacks the writes since
        home.run(Flip(place, slept, later_s, {}))
    with pytest.raises(PauseBudgetExceeded, match="over"):
        home.run(Flip(place, token, clock.monotonic_s() - 0.001, {}))
    home.now_ms += 51
    with pytest.raises(PauseBudgetExceeded, match="over"):
        home.run(Flip(place, token, later_s, {}))
    home.now_ms -= 1
    assert home.run(Flip(place, token, later_s, {}))["to"] == "part"


def test_a_seal_is_lifted_by_a_stranger_only_when_its_budget_is_over() -> None:
    table = Table("part")
    table.put(b"a", b"1")
    place = table.begin("part")
    token, home = table.seal(place), table.logs[T]
    assert not home.run(Unseal(place, token, 49_999)) and not home.run(Unseal(place, token - 1))
    with pytest.raises(NotServed):
        table.put(b"a", b"2")
    assert home.run(Unseal(place, token, 50_000)) and table.put(b"a", b"2")
    token = table.seal(place)
    home.now_ms += 51
    assert home.run(Unseal(place, token, 0)) and table.put(b"a", b"3")


def test_nobody_is_served_where_a_vshard_was() -> None:
    table = Table("part")
    table.put(b"a", b"1")
    table.move("part")
    for state in ("moved", "retired"):
        assert table.logs[T].get_json(vshard_keys.vshard(N))["state"] == state
        with pytest.raises(NotServed):
            find(table.logs[T], table.logs[T].queue, T, N, b"a", None)
        with pytest.raises(NotServed):
            table.put(b"a", b"2", log=T)
        if state == "moved":
            table.retire(T)
    assert not table.rows_of(T)


def test_an_older_write_takes_the_place_of_no_newer_one() -> None:
    """What was copied may be newer than an entry that is replayed over it."""
    table = Table("part")
    for value in (b"1", b"2", b"3"):
        table.put(b"a", value)
    place = table.begin("part")
    table.copy(place, "part")
    target = table.logs["part"]
    start = target.get_json(vshard_keys.migration(N))["applied"]
    target.run(Replay.of(place, (start, start + 1), [Write(N, b"a", b"2", 2), Write(N, b"b", b"new", 4)], None, 1))
    assert table.rows_of("part") == {b"a": (3, b"3"), b"b": (4, b"new")}


def test_nobody_unseals_what_was_flipped() -> None:
    table = Table("part")
    table.put(b"a", b"1")
    place = table.begin("part")
    table.copy(place, "part")
    token = table.seal(place)
    table.replay(place, "part", token)
    home = table.logs[T]
    home.run(Flip(place, token, clock.monotonic_s() + 60, {}))
    home.now_ms += 1_000_000
    for waited_us in (None, 1_000_000_000):
        assert home.run(Unseal(place, token, waited_us)) is False
    assert table.row["state"] == "moved"


def test_entries_are_replayed_from_where_the_last_batch_ended() -> None:
    table = Table("part")
    table.put(b"a", b"1")
    place = table.begin("part")
    table.copy(place, "part")
    target = table.logs["part"]
    applied = target.get_json(vshard_keys.migration(N))["applied"]
    for start in (applied - 1, applied + 1):
        with pytest.raises(Busy):
            target.run(Replay.of(place, (start, start + 2), [Write(N, b"b", b"2", 9)], None, 1))
    assert table.rows_of("part") == {b"a": (1, b"1")}


def test_a_late_cancel_drops_no_copy_of_a_later_migration() -> None:
    table = Table("part")
    table.put(b"a", b"1")
    first = table.begin("part")
    table.logs["part"].run(Drop(first, 10))
    table.logs[T].run(Abandon(first, None))
    second = table.begin("part")
    table.copy(second, "part")
    assert table.logs["part"].run(Drop(first, 10)) is False
    assert table.rows_of("part") == {b"a": (1, b"1")}
