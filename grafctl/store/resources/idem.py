"""Idempotency stores: what was done under a key, once, with the first result for whoever comes with the same again.

Row `Q` holds the definition and counts what is completed (`first` kept, `next` to come). A completed key is a record of
the log like that of a queue: its entry's block holds key, fingerprint and result, row `B` says where the block is, and
the rows `I` find it by the digest of (stage, key). Row `KR` is a reservation, and row `KS` counts a stage.

Promises
- A key of a stage is completed once. The same fingerprint is answered with the first result; another one fails closed,
  also while the key is only reserved, and only hashes are shown.
- A reservation ends by its owner's `complete` or `release`, or by somebody with the same fingerprint who comes after
  its lease. The token is the index of the entry that granted it, so an older one is always told from the one in force.
- Nothing expires unless a retention was declared, and a live reservation never does.
"""

from __future__ import annotations

from grafctl.errors import Busy, Fenced, IdempotencyConflict, NotFound, Usage
from grafctl.names import noun_of, shown, with_article
from grafctl.store import keys
from grafctl.store.authority import EXPIRE, RELEASE, RESERVE, Asked, Placement, pass_epoch, pass_placement
from grafctl.store.fingerprints import DIGEST_BYTES, key_digest
from grafctl.store.records import Entry, encode_json, parse_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.store.resources import ids
from grafctl.store.resources.queue import queue_row
from grafctl.typed import Any, Iterator, NamedTuple

KIND = "idem"
RESULT_BYTES_MAX = 64 << 10
EXPIRE_BLOCKS_MAX = 1_000
EXPIRE_LOOKS_MAX = 10_000


class Asker(NamedTuple):
    """Who wants to do something in an idempotency store."""

    resource: str
    domain: str
    epoch: int | None = None
    known: bool = True

    def pass_gate(self, op: str, state: State) -> dict[str, Any]:
        """Returns the store's row where the caller may do this now; raises the refusal."""
        row = idem_row(state, self.resource)
        asked = Asked(op, self.resource, self.domain, None, self.epoch, self.known)
        pass_placement(asked, Placement.of(row))
        pass_epoch(asked, row["epoch"])
        return row


def idem_row(state: State, resource: str) -> dict[str, Any]:
    """Returns the definition of an idempotency store; raises `NotFound`, or `Usage` where it is something else."""
    try:
        row = queue_row(state, resource)
    except NotFound:
        raise NotFound(
            f"There is no idempotency store {resource}.", hint="Run `grafctl idem list`.", resource=resource
        ) from None
    if row["kind"] != KIND:
        raise Usage(
            f"{resource} is {with_article(noun_of(row['kind']))}, and keys are kept in an idempotency store.",
            hint="Run `grafctl idem list` to see those there are.",
            resource=resource,
        )
    return row


class Found(NamedTuple):
    """What is completed under a key: its number, the beginning of its fingerprint, and the row of its block."""

    number: int
    fingerprint: bytes
    ref: dict[str, Any]


def find_completed(state: State, row: dict[str, Any], digest: bytes) -> Found | None:
    """Returns what is completed under a key, or None."""
    known = ids.find(state, [digest + bytes(DIGEST_BYTES)], row["first"]).get(0)
    if known is None:
        return None
    _, body = next(iter(state.scan(keys.blocks(0, known.offset + 1), reverse=True)))
    return Found(known.offset, known.fingerprint, parse_json(body))


class Reserved(NamedTuple):
    """The answer to a reservation: the token and when its lease ends, or the number of what is completed already."""

    token: int | None
    until_ms: int | None
    number: int | None
    taken_over: bool = False


class Reserve(NamedTuple):
    """The request to be the one that does the work under a key."""

    asker: Asker
    stage: str
    key: str
    fingerprint: bytes
    lease_ms: int

    def decide(self, state: State, context: Context) -> Decision:
        row = self.asker.pass_gate(RESERVE, state)
        digest = key_digest(self.stage, self.key)
        found = find_completed(state, row, digest)
        if found is not None:
            if found.fingerprint != self.fingerprint[:DIGEST_BYTES]:
                raise self._conflict("completed", found.fingerprint)
            return Decision(Reserved(None, None, found.number))
        there = state.get_json(keys.reservation(self.stage, digest))
        if there is not None:
            stored = bytes.fromhex(there["print"])
            if stored != self.fingerprint:
                raise self._conflict("reserved", stored[:DIGEST_BYTES])
            if there["until"] > context.now_ms:
                raise busy(self.asker.resource, self.stage, self.key, there, context.now_ms)
        until = context.now_ms + self.lease_ms
        meta: dict[str, Any] = {"do": "reserve", "stage": self.stage, "key": self.key, "print": self.fingerprint.hex()}
        meta |= {"until": until, "domain": self.asker.domain}
        return Decision(Reserved(context.at, until, None, there is not None), encode_json(meta))

    def _conflict(self, how: str, stored: bytes) -> IdempotencyConflict:
        return IdempotencyConflict(
            f"Key {shown(self.key)} of stage {self.stage} is {how} with another payload.",
            hint=f"Run `grafctl idem show {self.asker.resource}` with this key and stage, or take a key of its own.",
            resource=self.asker.resource,
            stage=self.stage,
            key=self.key,
            stored=stored.hex(),
            offered=self.fingerprint[:DIGEST_BYTES].hex(),
        )


def busy(resource: str, stage: str, key: str, there: dict[str, Any], now_ms: int) -> Busy:
    """Returns the refusal where somebody else holds a live reservation."""
    left = there["until"] - now_ms
    return Busy(
        f"Key {shown(key)} of stage {stage} is reserved from {there['domain']} for another {left} ms.",
        hint="Try again when that is over: its result may be there then.",
        resource=resource,
        stage=stage,
        key=key,
        until_ms=there["until"],
    )


def apply_reserve(state: State, entry: Entry, index: int) -> Writes:
    request = entry.request
    row = keys.reservation(request["stage"], key_digest(request["stage"], request["key"]))
    held: dict[str, Any] = {name: request[name] for name in ("key", "print", "until", "domain")}
    writes: Writes = [json_write(row, held | {"token": index, "ms": entry.stamped_ms})]
    return writes if state.get(row) is not None else [*writes, counted(state, request["stage"], reserved=1)]


def counted(state: State, stage: str, *, completed: int = 0, reserved: int = 0) -> tuple[bytes, bytes | None]:
    """Returns the write that counts a stage anew."""
    counts = stage_counts(state, stage)
    counts = {"completed": counts["completed"] + completed, "reserved": counts["reserved"] + reserved}
    return keys.stage(stage), encode_json(counts) if any(counts.values()) else None


def stage_counts(state: State, stage: str) -> dict[str, int]:
    """Returns how many keys of a stage are completed and reserved."""
    found: dict[str, int] = state.get_json(keys.stage(stage)) or {"completed": 0, "reserved": 0}
    return found


# --- giving back


def fenced(resource: str, stage: str, key: str, token: int, how: str) -> Fenced:
    """Returns the refusal of a token that is not the one in force."""
    return Fenced(
        f"Key {shown(key)} of stage {stage} {how} {token}: another took over, or it was given back.",
        hint="Reserve it again: that gives the result where there is one, and else a token.",
        resource=resource,
        stage=stage,
        key=key,
        token=token,
    )


class Release(NamedTuple):
    """The request to give a reservation back, so that others need not wait for its lease."""

    asker: Asker
    stage: str
    key: str
    token: int

    def decide(self, state: State, context: Context) -> Decision:
        row = self.asker.pass_gate(RELEASE, state)
        key = key_digest(self.stage, self.key)
        there = state.get_json(keys.reservation(self.stage, key))
        if there is None:
            if find_completed(state, row, key) is not None:
                raise self._fenced("is completed, so there is nothing to give back under token")
            return Decision(False)
        if there["token"] != self.token:
            raise self._fenced("is not reserved under token")
        meta = {"do": "release", "stage": self.stage, "key": key.hex()}
        return Decision(True, encode_json(meta))

    def _fenced(self, how: str) -> Fenced:
        return fenced(self.asker.resource, self.stage, self.key, self.token, how)

    @property
    def reserved(self) -> bool:
        """It may use the reserve of a full disk."""
        return True


def apply_release(state: State, entry: Entry, index: int) -> Writes:
    stage = entry.request["stage"]
    row = keys.reservation(stage, bytes.fromhex(entry.request["key"]))
    return [(row, None), counted(state, stage, reserved=-1)]


# --- letting go


class Expired(NamedTuple):
    """What one step of an expiry lets go of; `after` is where the next one goes on, None at the end."""

    completed: int
    reservations: int
    after: bytes | None


class Expire(NamedTuple):
    """The request to let go of what is older than the declared retention: one step, of bounded work."""

    asker: Asker
    older_than_ms: int | None
    after: bytes = b""  # reservations up to here have been looked at
    steps: int | None = 1  # None: look at everything, for a dry run

    def decide(self, state: State, context: Context) -> Decision:
        row = self.asker.pass_gate(EXPIRE, state)
        cut = context.now_ms - self._age_ms(row)
        most = None if self.steps is None else EXPIRE_BLOCKS_MAX
        stop, count, more = row["first"], 0, False
        for place, (block, body) in enumerate(state.scan(keys.blocks(row["first"]))):
            ref = parse_json(body)
            more = place == most
            if more or ref["ms"] > cut:
                break
            stop, count = keys.parse_block(block) + ref["count"], count + ref["count"]
        over, after = self._over(state, cut)
        if after is None and more:
            after = self.after
        answer = Expired(count, len(over), after)
        if not count and not over:
            return Decision(answer)
        return Decision(answer, encode_json({"do": "expire", "first": stop, "over": over}))

    @property
    def reserved(self) -> bool:
        """It may use the reserve of a full disk."""
        return True

    def _age_ms(self, row: dict[str, Any]) -> int:
        declared, asked = row["retain_age_ms"], self.older_than_ms
        if asked is None and declared is None:
            raise Usage(
                f"{self.asker.resource} declares no retention, so nothing in it expires by itself.",
                hint="Say how old with --older-than, such as 7d.",
                resource=self.asker.resource,
            )
        if asked is not None and asked < (declared or 0):
            raise Usage(
                f"{self.asker.resource} keeps its keys for {declared} ms, and --older-than {asked} ms is less.",
                hint="Leave --older-than out to expire what is older than the declared retention.",
                resource=self.asker.resource,
            )
        return int(declared if asked is None else asked)

    def _over(self, state: State, cut: int) -> tuple[list[list[str]], bytes | None]:
        """Returns [stage, digest] of reservations whose lease ended before `cut`, and where to go on."""
        first, last = keys.reservations()
        over: list[list[str]] = []
        most = None if self.steps is None else EXPIRE_LOOKS_MAX
        for place, (row, body) in enumerate(state.scan((max(first, self.after), last))):
            if most is not None and (place == most or len(over) == EXPIRE_BLOCKS_MAX):
                return over, row
            if parse_json(body)["until"] <= cut:
                stage, digest = keys.parse_reservation(row)
                over.append([stage, digest.hex()])
        return over, None


def apply_expire(state: State, entry: Entry, index: int) -> Writes:
    """Forgets blocks before the new floor, and reservations; what the index knows of them counts no more."""
    row, request = queue_row(state, ""), entry.request
    writes: Writes = []
    gone: dict[str, list[int]] = {}
    for block, body in state.scan(keys.blocks(row["first"], request["first"])):
        ref = parse_json(body)
        writes.append((block, None))
        row["bytes"] -= ref["bytes"]
        gone.setdefault(ref["stage"], [0, 0])[0] += ref["count"]
    for stage, digest_text in request["over"]:
        writes.append((keys.reservation(stage, bytes.fromhex(digest_text)), None))
        gone.setdefault(stage, [0, 0])[1] += 1
    row["first"] = request["first"]
    writes += [counted(state, stage, completed=-one, reserved=-other) for stage, (one, other) in gone.items()]
    return [*writes, json_write(keys.queue(), row)]


# --- looking it over


def problems(state: State) -> Iterator[str]:
    """Yields what does not fit together: counts of stages that are not those of their blocks and reservations."""
    if (row := state.get_json(keys.queue())) is None or row.get("kind") != KIND:
        return
    found: dict[str, dict[str, int]] = {}
    for _, body in state.scan(keys.blocks(row["first"])):
        ref = parse_json(body)
        found.setdefault(ref["stage"], {"completed": 0, "reserved": 0})["completed"] += ref["count"]
    for reservation, body in state.scan(keys.reservations()):
        stage, digest = keys.parse_reservation(reservation)
        if key_digest(stage, parse_json(body)["key"]) != digest:
            yield f"a reservation of stage {stage} stands under another key's digest"
        found.setdefault(stage, {"completed": 0, "reserved": 0})["reserved"] += 1
    stored = {keys.parse_stage(stage): parse_json(body) for stage, body in state.scan(keys.stages())}
    for stage in sorted(found.keys() | stored.keys()):
        if found.get(stage) != stored.get(stage):
            yield f"stage {stage} holds {found.get(stage)} and counts {stored.get(stage)}"
