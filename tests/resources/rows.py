"""A state in a dict, on which requests are decided and their entries applied, one after another, at a given time.

Every request is decided twice and every entry applied twice, because both must be functions of the state alone; and an
entry goes through its bytes, because that is how it reaches another domain.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from grafctl.store import keys, records, vshard_keys
from grafctl.store.authority import Placement
from grafctl.store.blocks import Outgoing, unpack
from grafctl.store.replica.state import State, Writes
from grafctl.store.requests import Context, Decision, Request
from grafctl.store.resources.applying import apply_entry
from grafctl.store.resources.consumers import CreateGroup, new_group
from grafctl.store.resources.delivery import Judged, Lineage
from grafctl.store.resources.group import Caller, Finalise, GiveBack, Lease, Leased, Settled, lineage_of
from grafctl.store.resources.queue import Publish, Published
from grafctl.store.resources.renewing import Renew
from grafctl.store.resources.table import Claim, require_served
from grafctl.store.rules import Config, Voter

Q, AWS, GCP = "orders", "aws/a", "gcp/b"
CONFIG = Config(0, (1, 1), AWS, (Voter(AWS, "inc_a"), Voter(GCP, "inc_g")), 2, 2)
MEMBERS = {voter.domain: voter.member for voter in CONFIG.voters}


class Rows:
    """Rows of one log in memory: a `State`, and the log that changes it."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.entries: list[records.Entry] = []
        self.now_ms = 1_000

    # --- the state

    def get(self, row: bytes) -> bytes | None:
        return self.rows.get(row)

    def get_json(self, row: bytes) -> Any:
        body = self.rows.get(row)
        return None if body is None else json.loads(body)

    def scan(self, span: tuple[bytes, bytes], *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        for row in sorted((row for row in self.rows if span[0] <= row < span[1]), reverse=reverse):
            yield row, self.rows[row]

    # --- the log

    def run(self, request: Request) -> Any:
        """Decides a request, applies its entry, and returns its answer."""
        before = dict(self.rows)
        context = Context(len(self.entries), self.now_ms, CONFIG)
        decision = request.decide(self, context)
        assert request.decide(self, context)[1:] == decision[1:], "deciding again decided something else"
        assert self.rows == before, "a decision wrote"
        if decision.meta is not None:
            self.append(decision)
        return decision.answer

    def append(self, decision: Decision) -> None:
        assert decision.meta is not None
        raw, _ = records.make_entry(
            records.NO_CHAIN,
            decision.kind,
            CONFIG.term,
            self.now_ms,
            records.NO_OPERATION,
            decision.meta,
            decision.block,
            decision.block_digest,
        )
        entry = records.decode_entry(raw, "entry")
        writes: Writes = apply_entry(self, entry, len(self.entries))
        assert apply_entry(self, entry, len(self.entries)) == writes, "applying again gave other writes"
        for row, body in writes:
            if body is None:
                self.rows.pop(row, None)
            else:
                self.rows[row] = body
        self.entries.append(entry)

    def start(self, **fields: Any) -> None:
        """Appends a START that carries these fields."""
        self.append(Decision(None, records.encode_json({"do": "start", **fields}), kind=records.START))

    # --- short forms

    def publish(self, *items: Outgoing | bytes, **fields: Any) -> Published:
        request = Publish(Q, list(items), fields.pop("domain", AWS), **fields)  # type: ignore[arg-type]
        request.prepare()
        answer: Published = self.run(request)
        return answer

    def group(self, name: str, **fields: Any) -> bool:
        placement = Placement(tuple(fields.pop("allow", ("aws", "gcp"))), tuple(fields.pop("deny", ())))
        semantics, most = fields.pop("semantics", "at-least-once"), fields.pop("max_deliveries", None)
        return bool(self.run(CreateGroup(Q, new_group(name, placement, semantics, most, **fields))))

    def poll(
        self,
        group: str,
        count: int = 10,
        *,
        visibility_ms: int = 100,
        finish: Sequence[tuple[int, int]] = (),
        token: int | None = None,
        judged: Judged | None = None,
        **caller: Any,
    ) -> Leased:
        ranges = [list(item) for item in finish]
        leased: Leased = self.run(Lease(self.caller(group, **caller), count, visibility_ms, ranges, token, judged))
        return leased

    def ack(self, group: str, *ranges: tuple[int, int], token: int | None = None, **caller: Any) -> Settled:
        settled: Settled = self.run(Finalise(self.caller(group, **caller), [list(item) for item in ranges], token))
        return settled

    def nack(self, group: str, *ranges: tuple[int, int], token: int | None = None, delay_ms: int = 0) -> Settled:
        settled: Settled = self.run(GiveBack(self.caller(group), [list(item) for item in ranges], token, delay_ms))
        return settled

    def renew(self, group: str, token: int, visibility_ms: int) -> int:
        return int(self.run(Renew(self.caller(group), token, visibility_ms)))

    def caller(self, group: str, *, domain: str = AWS, epoch: int | None = None, known: bool = True) -> Caller:
        return Caller(Q, group, domain, epoch, known)

    # --- looking

    @property
    def queue(self) -> dict[str, Any]:
        row: dict[str, Any] = self.get_json(keys.queue())
        return row

    def lineage(self, name: str) -> Lineage:
        return lineage_of(self, name)

    def row(self, group: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get_json(keys.group(group))
        return found

    def dead(self, lineage: str) -> dict[int, dict[str, Any]]:
        rows = self.scan(keys.dead_letters(lineage))
        return {keys.last_u64(row): json.loads(body) for row, body in rows}

    def records(self) -> list[tuple[int, bytes, str | None]]:
        """Returns (offset, payload, id) of everything that is retained, read through the blocks' rows."""
        out = []
        for row, body in self.scan(keys.blocks(0)):
            first, ref = keys.parse_block(row), json.loads(body)
            for place, packed in enumerate(unpack(self.entries[ref["index"]].block, "block")):
                out.append((first + place, packed.payload, packed.id))
        return out


def replica(domain: str, role: str = "voter", state: str = "ready") -> dict[str, Any]:
    return {"id": f"r-{domain[:3]}", "domain": domain, "role": role, "state": state, "content_generation": 1}


def a_queue(*, replicas: list[dict[str, Any]] | None = None, **fields: Any) -> Rows:
    """Returns a state that holds an empty queue with replicas in aws and gcp."""
    rows = Rows()
    queue: dict[str, Any] = {"name": Q, "kind": "queue", "schema": None, "ack": "majority", "min_payload": None}
    queue |= {"allow": ["aws", "gcp"], "deny": [], "retain_age_ms": None, "retain_bytes": None}
    queue |= {"next": 0, "first": 0, "bytes": 0, "epoch": 1, "created_ms": 0}
    locator = {"generation": 1, "replicas": replicas or [replica(AWS), replica(GCP)], "request": None}
    rows.start(locator=locator, queue=queue | fields)
    return rows


S = "effects"


def an_idem(**fields: Any) -> Rows:
    """Returns a state that holds an empty idempotency store."""
    return a_queue(**({"name": S, "kind": "idem"} | fields))


def find(
    state: State, definition: Mapping[str, Any], table: str, number: int, key: bytes, claim: Claim | None
) -> tuple[int, bytes] | None:
    """Returns what a log says of a key of a table, (version, value), as `operations/tables.py` reads it."""
    require_served(state, definition, table, number, claim)
    body = state.get(vshard_keys.table_row(number, key))
    return None if body is None else (keys.U64.unpack_from(body)[0], body[8:])
