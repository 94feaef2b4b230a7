"""Keyed tables: what a put does to a vshard, in the log that owns it.

A table begins with one log, its home, which owns every vshard; vshards that were moved are owned by the logs of the
table's parts. Row `V` says what a vshard is in this log, rows `W` hold its keys. A vshard of the home without a row is
open and empty; one of a part without a row is not there.

Promises
- A vshard takes writes in one log at a time: where its row says `open`, or `ready` to a caller who has read at the
  source that it was given away under the token of that row.
- The version of a key is the number of that write among all writes of its vshard: it grows, is never used again, and
  moves with the vshard.
- A put of the value that is there already, without `expect`, writes nothing.
"""

from __future__ import annotations

from functools import lru_cache

from grafctl.errors import Busy, Corrupt, GenerationConflict, NotFound, Usage
from grafctl.names import noun_of, shown, with_article
from grafctl.store import vshard_keys
from grafctl.store.authority import PUT, Asked, Placement, pass_epoch, pass_placement
from grafctl.store.keys import U64
from grafctl.store.records import Entry, digest, encode_json, parse_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.store.resources.queue import queue_row
from grafctl.store.table_block import Write, pack, unpack
from grafctl.typed import Any, Mapping, NamedTuple, Sequence

KIND, PART = "table", "part"
OPEN, SEALED, MOVED, RETIRED, RECEIVING, READY = "open", "sealed", "moved", "retired", "receiving", "ready"
_MINUTE_MS = 60_000

Claim = tuple[int, int]  # the token under which a vshard was given away, and its generation since; neither is enough
NO_CLAIMS: Mapping[int, Claim] = {}

VshardRow = dict[str, Any]
Counts = tuple[int, int, int]  # records, bytes, writes


class Caller(NamedTuple):
    """Who wants to do something with a table, and what it has read elsewhere: claims are {vshard: claim}."""

    table: str
    domain: str
    epoch: int | None = None
    known: bool = True
    claims: Mapping[int, Claim] = NO_CLAIMS

    def pass_gate(self, op: str, state: State) -> dict[str, Any]:
        """Returns the definition of the table, or of its part, where the caller may do this now; raises the refusal."""
        row = table_definition(state, self.table)
        asked = Asked(op, self.table, self.domain, None, self.epoch, self.known)
        pass_placement(asked, Placement.of(row))
        pass_epoch(asked, row["epoch"])
        return row


def table_definition(state: State, table: str) -> dict[str, Any]:
    """Returns the definition of a table; raises `NotFound`, or `Usage` where it is something else."""
    try:
        row = queue_row(state, table)
    except NotFound:
        raise NotFound(f"There is no table {table}.", hint="Run `grafctl table list`.", resource=table) from None
    if row["kind"] not in (KIND, PART):
        raise Usage(
            f"{table} is {with_article(noun_of(row['kind']))}, and keys with values are kept in a table.",
            hint="Run `grafctl table list` to see those there are.",
            resource=table,
        )
    return row


# --- what a vshard is here


class Elsewhere(NamedTuple):
    """Why a vshard cannot be used here now, and where to look instead."""

    how: str  # the state of its row, or "absent", or "throttled"
    part: str | None = None  # which log to ask next
    token: int | None = None  # under which it was given away
    generation: int | None = None
    until_ms: int | None = None  # of a seal
    budget_us: int | None = None  # of a seal
    wait_ms: int | None = None
    next_part: str | None = None  # where a sealed vshard is about to go


class NotServed(Busy):
    """Raised within the library: vshards that this log does not serve now, each with what is known of it."""

    def __init__(self, table: str, reasons: Mapping[int, Elsewhere]) -> None:
        number, reason = next(iter(reasons.items()))
        super().__init__(
            f"vshard {number} of {table} is {reason.how} here.",
            hint=f"Run `grafctl vshard show {table} {number}`.",
            resource=table,
            vshard=number,
        )
        self.reasons = dict(reasons)


def vshard_row(state: State, definition: Mapping[str, Any], number: int) -> VshardRow | None:
    """Returns a vshard's row, which the caller may change; None where it is not in this log."""
    row: VshardRow | None = state.get_json(vshard_keys.vshard(number))
    if row is None and definition["kind"] == KIND:
        return {"state": OPEN, "generation": 1, "seq": 0, "records": 0, "bytes": 0}
    return row


def counts_of(row: VshardRow) -> Counts:
    """Returns what a log counts of a vshard."""
    return row["records"], row["bytes"], row["seq"]


def elsewhere(row: VshardRow | None, claim: Claim | None) -> Elsewhere | None:
    """Returns why a vshard is not to be read here, or None where it is; `claim` is what the caller has read.

    A token alone would not do: it is an index of one log, and that of another may be the same number.
    """
    if row is None:
        return Elsewhere("absent")
    how = row["state"]
    if how in (OPEN, SEALED) or (how == READY and claim == (row["token"], row["generation"])):
        return None
    part = row["from"] if how in (RECEIVING, READY) else row["to"]
    return Elsewhere(how, part, row.get("token"), row["generation"])


def unwritable(row: VshardRow | None, claim: Claim | None, now_ms: int) -> Elsewhere | None:
    """Returns why a vshard is not to be written here now, or None where it is."""
    if row is not None and row["state"] == SEALED:
        limits = {"until_ms": row["until"], "budget_us": row["budget"], "next_part": row.get("to")}
        return Elsewhere(SEALED, None, row["token"], row["generation"], **limits)
    reason = elsewhere(row, claim)
    if reason is None and row is not None and (free_ms := row.get("free", 0)) > now_ms:
        return Elsewhere("throttled", wait_ms=free_ms - now_ms)
    return reason


# --- writing


class Ask(NamedTuple):
    """One write that is asked for; without a value the key is deleted."""

    vshard: int
    key: bytes
    value: bytes | None
    expect: int | None = None  # version that must be there; 0: none


class Put:
    """The request to write keys of one log, all of them or none."""

    __slots__ = ("asks", "caller", "op")

    def __init__(self, caller: Caller, asks: Sequence[Ask], op: str = PUT) -> None:
        self.caller, self.asks, self.op = caller, asks, op

    def decide(self, state: State, context: Context) -> Decision:
        definition = self.caller.pass_gate(self.op, state)
        rows = self._rows(state, definition, context.now_ms)
        answers: list[tuple[int, bool]] = []
        firsts: dict[int, int] = {}
        writes: list[Write] = []
        for vshard, key, value, expect in self.asks:
            old = state.get(vshard_keys.table_row(vshard, key))
            version = 0 if old is None else U64.unpack_from(old)[0]
            if expect is not None and expect != version:
                raise self._lost(key, expect, version)
            same = value is None if old is None else (value is not None and old[8:] == value)
            if same and (expect is None or value is None):
                answers.append((version, False))
                continue
            row = rows[vshard]
            firsts.setdefault(vshard, row["seq"] + 1)
            row["seq"] += 1
            answers.append((row["seq"], True))
            writes.append(Write(vshard, key, value))
        if not writes:
            return Decision(answers)
        block = pack(writes)
        meta = {"do": "put", "domain": self.caller.domain, "vs": list(map(list, firsts.items()))}
        return Decision(answers, encode_json(meta), block, digest(block))

    def _rows(self, state: State, definition: Mapping[str, Any], now_ms: int) -> dict[int, VshardRow]:
        rows: dict[int, VshardRow] = {}
        reasons: dict[int, Elsewhere] = {}
        for ask in self.asks:
            number = ask.vshard
            if number in rows or number in reasons:
                continue
            row = vshard_row(state, definition, number)
            reason = unwritable(row, self.caller.claims.get(number), now_ms)
            if reason is not None:
                reasons[number] = reason
            elif row is not None:
                rows[number] = row
        if reasons:
            raise NotServed(self.caller.table, reasons)
        return rows

    def _lost(self, key: bytes, expect: int, version: int) -> GenerationConflict:
        there = f"has version {version}" if version else "is not there"
        return GenerationConflict(
            f"Key {shown(key.decode(errors='replace'))} of {self.caller.table} {there}, not {expect or 'absent'}.",
            hint="Read it again with `grafctl table get`, and put what follows from that.",
            resource=self.caller.table,
            version=version,
            expected=expect,
        )

    def recall(self, entry: Entry, place: int, state: State) -> list[tuple[int, bool]] | None:
        """Returns the answers of an earlier try: what its entry wrote, and else what is there now."""
        request = entry.request
        if request["do"] != "put":
            return None
        written: dict[bytes, int] = {}
        for write in numbered_writes(entry, "an earlier try"):
            written[write.key] = write.version
        answers = []
        for ask in self.asks:
            old = state.get(vshard_keys.table_row(ask.vshard, ask.key))
            now = 0 if old is None else U64.unpack_from(old)[0]
            answers.append((written.get(ask.key, now), ask.key in written))
        return answers


def numbered_writes(entry: Entry, what: str) -> list[Write]:
    """Returns the writes of a put's entry with their versions; raises `Corrupt`."""
    following = dict(entry.request["vs"])
    found = []
    try:
        for vshard, key, value, _ in unpack(entry.block, what):
            found.append(Write(vshard, key, value, following[vshard]))
            following[vshard] += 1
    except KeyError:
        raise Corrupt(f"{what} writes to a vshard that it does not name.", what=what) from None
    return found


def apply_put(state: State, entry: Entry, index: int) -> Writes:
    definition = queue_row(state, "")
    writes: Writes = []
    rows: dict[int, VshardRow] = {}
    counts: dict[int, int] = {}
    for write in numbered_writes(entry, f"entry {index}"):
        row = rows.get(write.vshard)
        if row is None:
            row = rows[write.vshard] = vshard_row(state, definition, write.vshard) or {}
            writes += open_here(row, write.vshard, index)
        counts[write.vshard] = counts.get(write.vshard, 0) + 1
        writes.append(written(state, row, write))
    for number, row in rows.items():
        count_writes(row, counts[number], entry.stamped_ms)
        writes.append(json_write(vshard_keys.vshard(number), row))
    return writes


def written(state: State, row: VshardRow, write: Write) -> tuple[bytes, bytes | None]:
    """Returns the row that a write comes to, and counts it in the vshard's row, whose `seq` moves up to its version."""
    key = vshard_keys.table_row(write.vshard, write.key)
    old = state.get(key)
    if old is not None:
        row["records"] -= 1
        row["bytes"] -= len(write.key) + len(old) - 8
    row["seq"] = max(row["seq"], write.version)
    if write.value is None:
        return key, None
    row["records"] += 1
    row["bytes"] += len(write.key) + len(write.value)
    return key, U64.pack(write.version) + write.value


def open_here(row: VshardRow, number: int, index: int) -> Writes:
    """Makes a ready vshard open, in its row; returns what goes with that. Others stay as they are."""
    if row["state"] != READY:
        return []
    back = {"to": row.pop("from"), "token": row.pop("token"), "since": index}
    row["state"] = OPEN
    return [json_write(vshard_keys.way_back(number), back), (vshard_keys.migration(number), None)]


def count_writes(row: VshardRow, count: int, now_ms: int) -> None:
    """Counts writes by the minute, and holds the vshard back for a moment where it is throttled."""
    minute = now_ms // _MINUTE_MS
    there = row.get("minute", minute)
    if there != minute:
        row["before"] = row.get("now", 0) if there == minute - 1 else 0
        row["now"] = 0
    row["minute"] = minute
    row["now"] = row.get("now", 0) + count
    if limit := row.get("limit"):
        row["free"] = max(row.get("free", 0), now_ms) + -(-1000 * count // limit)


def write_rate(row: VshardRow, now_ms: int) -> float:
    """Returns the writes a second of about the last minute."""
    minute, rest_ms = divmod(now_ms, _MINUTE_MS)
    there = row.get("minute")
    now, before = row.get("now", 0), row.get("before", 0)
    if there is None or there < minute - 1:
        return 0.0
    if there == minute - 1:
        now, before = 0, now
    return float(now + before * (_MINUTE_MS - rest_ms) / _MINUTE_MS) / 60.0


# --- reading


def require_served(state: State, definition: Mapping[str, Any], table: str, number: int, claim: Claim | None) -> None:
    """Raises `NotServed` where this log does not serve reads of a vshard."""
    body = state.get(vshard_keys.vshard(number))
    if body is not None and _is_readable(body):
        return
    reason = elsewhere(vshard_row(state, definition, number), claim)
    if reason is not None:
        raise NotServed(table, {number: reason})


@lru_cache(maxsize=4096)
def _is_readable(body: bytes) -> bool:
    """Returns whether a vshard's row says that it is read here, whatever the caller knows."""
    return parse_json(body)["state"] in (OPEN, SEALED)
