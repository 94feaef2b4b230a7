"""The standard verdict: what must hold after every scenario of faults, whatever died, stopped or was away.

Promises (each a sentence of `verdict`, which raises `AssertionError` with all that does not hold)
- Every acknowledged record is at its offset, exactly once, in every domain that keeps payloads; no id stands twice, and
  no record is there that nobody tried to publish.
- All healthy domains agree: entries by chain, records one by one, as each reads them from its own bytes.
- Every acknowledged ack is final, nothing was finalised twice, leases do not overlap, floors and cursors are in range.
- `verify` yields nothing, before anybody repairs anything and after, and the audit chain holds.

A `Ledger` is what the scenario knows from outside: what was acknowledged, what was tried and is unknown.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grafctl.client as client
from faults import moves
from faults.accounts import Accounts
from grafctl.results import Record
from grafctl.store import keys
from grafctl.store.blocks import Packed
from grafctl.store.log import Log
from grafctl.store.reading import Held, read_columns
from grafctl.store.records import Entry
from grafctl.store.replica.replica import Replica
from grafctl.store.replica.scope import FIRST
from grafctl.store.resources.delivery import Lineage
from grafctl.store.resources.leases import leases_of


@dataclass
class Ledger:
    """What is known of one queue from outside."""

    resource: str
    acked: dict[int, str] = field(default_factory=dict)  # offset -> payload
    ids: dict[str, tuple[int, str]] = field(default_factory=dict)  # acknowledged id -> (offset, payload)
    tried: Counter[str] = field(default_factory=Counter)  # payload -> how often it may be there at most
    final: dict[str, set[int]] = field(default_factory=dict)  # lineage -> offsets whose ack was acknowledged
    changed: Counter[str] = field(default_factory=Counter)  # lineage -> how many offsets acks said they finalised
    accounts: Accounts = field(default_factory=Accounts)  # of the table beside it, where there is one

    def publishes(self, payloads: Iterable[str]) -> None:
        """Notes records that are about to be published, so that each may be there once more."""
        self.tried.update(payloads)

    def published(self, offset: int, payload: str, record_id: str | None = None) -> None:
        """Notes an acknowledged record; raises where its offset was given to another."""
        assert self.acked.setdefault(offset, payload) == payload, f"offset {offset} was acknowledged to two records"
        if record_id is not None:
            assert self.ids.setdefault(record_id, (offset, payload)) == (offset, payload), f"{record_id} moved"

    def finalised(self, lineage: str, offsets: Iterable[int], changed: int) -> None:
        """Notes an acknowledged ack, which said that it finalised `changed` of these offsets."""
        self.final.setdefault(lineage, set()).update(offsets)
        self.changed[lineage] += changed


def verdict(store: Path, *ledgers: Ledger, away: frozenset[str] = frozenset()) -> None:
    """Raises `AssertionError` with everything that does not hold; `away` are domains that cannot be read."""
    with client.open(store) as opened:
        judge(opened, *ledgers, away=away)


def judge(opened: client.Store, *ledgers: Ledger, away: frozenset[str] = frozenset()) -> None:
    """The verdict on a store that is open, over any driver."""
    wrong = [f"before repair: {item}" for item in _findings(opened, away)]
    for ledger in ledgers:
        log = opened.session.resource(ledger.resource)
        log.settle()
        wrong += [f"{ledger.resource}: {item}" for item in _queue_wrong(opened, log, ledger, away)]
        if ledger.accounts.written:
            wrong += _table_wrong(opened, ledger, away)
    for log in (opened.session.control, opened.session.audit):
        log.settle()
        wrong += _chains_differ(opened, log, away)
    wrong += [f"after repair: {item}" for item in _findings(opened, away)]
    chain = opened.audit.verify().body
    if set(chain["broken"] + chain["unread"]) - away:
        wrong.append(f"the audit chain: {chain}")
    assert not wrong, "\n".join(["", *wrong])


def _findings(opened: client.Store, away: frozenset[str]) -> Iterator[str]:
    for finding in opened.verify():
        if finding.domain not in away:
            yield f"verify: {finding.where}: {finding.problem}"


def _queue_wrong(opened: client.Store, log: Log, ledger: Ledger, away: frozenset[str]) -> Iterator[str]:
    yield from _chains_differ(opened, log, away)
    standard: list[tuple[int, Packed]] | None = None
    for domain in payload_domains(log, away):
        if domain in away:
            continue
        with opened.session.cluster.environment(domain).read() as view:
            replica = Replica(view, log.id, domain)
            queue = replica.state.get_json(keys.queue())
            stored = read_columns(replica, replica.state, [[queue["first"], queue["next"]]], Held())
            records = [each for _, first, columns in stored for each in enumerate(map(Packed, *columns), first)]
            if standard is None:
                standard = records
                yield from _records_wrong(records, queue, ledger)
                yield from _delivery_wrong(replica, queue, ledger)
            elif records != standard:
                yield f"{domain} holds other records than the first domain"
            for ours, theirs in zip(peeked(opened, ledger.resource, domain), records, strict=True):
                if (ours.offset, ours.payload) != (theirs[0], theirs[1].payload):
                    yield f"peek in {domain} shows another record at offset {ours.offset}"
    if standard is None:
        yield "no domain could be read"


def _table_wrong(opened: client.Store, ledger: Ledger, away: frozenset[str]) -> Iterator[str]:
    yield from (f"{moves.TABLE}: {item}" for item in moves.judge(opened, ledger, away))
    for part in moves.parts_of(opened.session, moves.TABLE):
        yield from _chains_differ(opened, opened.session.resource(part), away)


def peeked(opened: client.Store, resource: str, domain: str) -> Iterator[Record]:
    """Yields what `peek` shows of a whole queue."""
    page = opened.peek(resource, domain=domain, max=1000).body["records"]
    while page:
        yield from page
        page = opened.peek(resource, domain=domain, offset=page[-1].offset + 1, max=1000).body["records"]


def payload_domains(log: Log, away: frozenset[str]) -> list[str]:
    """Returns the domains whose replica is ready and keeps payloads."""
    with log.view(exclude=away) as committed:
        replicas = committed.state.get_json(keys.locator())["replicas"]
    return [item["domain"] for item in replicas if item["state"] == "ready" and item["role"] == "voter"]


def _chains_differ(opened: client.Store, log: Log, away: frozenset[str]) -> Iterator[str]:
    """Yields every voter whose log, after `settle`, is not entry for entry that of the others."""
    heads: dict[str, tuple[int, bytes]] = {}
    for voter in log.settle().config.voters:
        if voter.domain in away:
            continue
        with opened.session.cluster.environment(voter.domain).read() as view:
            row = Replica(view, log.id, voter.domain).row
            heads[voter.domain] = (row.head.tail, row.chain)
    if len(set(heads.values())) > 1:
        yield f"the replicas of log {log.id.hex()} differ: { {d: (t, c.hex()[:8]) for d, (t, c) in heads.items()} }"


def _records_wrong(records: list[tuple[int, Packed]], queue: dict[str, Any], ledger: Ledger) -> Iterator[str]:
    there = dict(records)
    if [offset for offset, _ in records] != list(range(queue["first"], queue["next"])):
        yield f"its offsets are not {queue['first']} to {queue['next'] - 1} in order"
    for offset, payload in ledger.acked.items():
        if offset >= queue["first"] and (offset not in there or there[offset].payload.decode() != payload):
            yield f"the acknowledged record {payload!r} is not at offset {offset}"
    ids = Counter(packed.id for _, packed in records if packed.id is not None)
    yield from (f"id {record_id} is there {count} times" for record_id, count in ids.items() if count > 1)
    for record_id, (offset, _) in ledger.ids.items():
        if offset >= queue["first"] and (offset not in there or there[offset].id != record_id):
            yield f"the acknowledged id {record_id} is not at offset {offset}"
    for payload, count in Counter(packed.payload.decode() for _, packed in records).items():
        if count > ledger.tried[payload]:
            yield f"record {payload!r} is there {count} times and was tried {ledger.tried[payload]} times"


def _delivery_wrong(replica: Replica, queue: dict[str, Any], ledger: Ledger) -> Iterator[str]:
    """Yields what is wrong with lineages and groups, compared with the history that the log's own entries tell."""
    history = History.of(replica)
    yield from history.wrong
    for row, body in replica.state.scan(keys.lineages()):
        name = row[3:-1].decode()
        lineage = Lineage.of(json.loads(body))
        final = set(range(lineage.floor)) | {o for start, stop in lineage.done for o in range(start, stop)}
        if missing := ledger.final.get(name, set()) - final:
            yield f"lineage {name}: the acknowledged acks of {sorted(missing)} are not final"
        if ledger.changed[name] > lineage.finalised:
            yield f"lineage {name}: {ledger.changed[name]} acks said that they finalised one of {lineage.finalised}"
        if history.is_whole and lineage.finalised != len(history.final.get(name, set())):
            yield f"lineage {name} counts {lineage.finalised} finalised; its log has {len(history.final[name])}"
        if not 0 <= lineage.floor <= queue["next"] or any(stop > queue["next"] for _, stop in lineage.done):
            yield f"lineage {name} has floor {lineage.floor} and {lineage.done} of {queue['next']} records"
        held = [o for _, lease in leases_of(replica.state, name) for a, b, _ in lease["grants"] for o in range(a, b)]
        if len(held) != len(set(held)):
            yield f"lineage {name} has leases that overlap: {sorted(held)}"
    for _, body in replica.state.scan(keys.groups()):
        group = json.loads(body)
        if not 0 <= group["start"] <= group["cursor"] <= queue["next"]:
            yield f"group {group['name']} has cursor {group['cursor']}, started at {group['start']}"


@dataclass
class History:
    """The deliveries of a queue, told by its log's entries with their stamps; no clock of ours is in it."""

    is_whole: bool = True
    final: dict[str, set[int]] = field(default_factory=dict)
    leases: dict[str, dict[int, tuple[int, set[int]]]] = field(default_factory=dict)  # lineage -> token -> until, held
    lineages: dict[str, str] = field(default_factory=dict)  # group -> lineage
    wrong: list[str] = field(default_factory=list)

    @staticmethod
    def of(replica: Replica) -> History:
        """Reads every entry; where retention took the beginning, there is no history to tell."""
        history = History(is_whole=replica.row.head.floor == 0)
        for index in range(replica.row.head.tail if history.is_whole else 0):
            history.add(index, replica.entry(index))
        return history

    def add(self, index: int, entry: Entry) -> None:
        request = entry.request
        for change in request.get("changes", [request]):
            if change.get("of", FIRST) == FIRST:
                self._add(index, entry.stamped_ms, change)

    def _add(self, index: int, now_ms: int, request: dict[str, Any]) -> None:
        if request["do"] == "group":
            name = request["group"]["lineage"]
            self.lineages[request["group"]["name"]] = name
            self.final.setdefault(name, set())
            self.leases.setdefault(name, {})
        elif request["do"] in ("lease", "finalise", "give_back", "renew", "bury"):
            name = self.lineages[request["group"]]
            getattr(self, f"_{request['do']}")(index, now_ms, name, request)

    def _lease(self, index: int, now_ms: int, name: str, request: dict[str, Any]) -> None:
        if request.get("finish"):  # before anything is given
            self._finalise(index, now_ms, name, {"ranges": request["finish"]})
        leases = self.leases[name]
        for token in request["expired"]:
            if leases[token][0] > now_ms:
                self.wrong.append(f"entry {index} ends lease {token} before its time")
            del leases[token]
        given = {offset for start, stop, _ in request["grants"] for offset in range(start, stop)}
        for token, (until, held) in leases.items():
            if given & held:
                left = f"valid for {until - now_ms} ms more" if until > now_ms else "not ended by an entry"
                self.wrong.append(
                    f"entry {index} gives {sorted(given & held)} away, which lease {token}, {left}, holds"
                )
        if given & self.final[name]:
            self.wrong.append(f"entry {index} delivers {sorted(given & self.final[name])}, which are final")
        if request["final"]:
            self.final[name] |= given
        elif given:
            leases[index] = (request["until"], given)

    def _finalise(self, index: int, now_ms: int, name: str, request: dict[str, Any]) -> None:
        done = _offsets(request["ranges"])
        if done <= self.final[name]:
            self.wrong.append(f"entry {index} finalises {sorted(done)}, all of which were final")
        self.final[name] |= done
        self._release(name, done)

    def _give_back(self, index: int, now_ms: int, name: str, request: dict[str, Any]) -> None:
        self._release(name, _offsets(request["ranges"]))

    def _bury(self, index: int, now_ms: int, name: str, request: dict[str, Any]) -> None:
        self._release(name, {offset for offset, _ in request["letters"]})

    def _renew(self, index: int, now_ms: int, name: str, request: dict[str, Any]) -> None:
        self.leases[name][request["token"]] = (request["until"], self.leases[name][request["token"]][1])

    def _release(self, name: str, offsets: set[int]) -> None:
        for token, (until, held) in list(self.leases[name].items()):
            if held <= offsets:
                del self.leases[name][token]
            else:
                self.leases[name][token] = (until, held - offsets)


def _offsets(ranges: Iterable[Iterable[int]]) -> set[int]:
    return {offset for start, stop, *_ in (tuple(item) for item in ranges) for offset in range(start, stop)}
