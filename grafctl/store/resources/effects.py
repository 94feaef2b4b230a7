"""What is completed in an idempotency store: one key by its reservation, or many keys of a stage at once.

Promises
- A completion by token is the reservation's own; the same token with the same result again changes nothing.
- Many at once are one entry: each key is new, or there already with the same fingerprint and left as it is. Where one
  is there with another, nothing is written, and the refusal names its place.
- The work of an entry grows with its keys, not with those that are stored.
"""

from __future__ import annotations

from functools import partial
from itertools import repeat
from operator import add

from grafctl.errors import Fenced, IdempotencyConflict, Usage
from grafctl.names import shown
from grafctl.store import blocks, keys
from grafctl.store.authority import COMPLETE
from grafctl.store.blocks import BLOCK_BYTES_MAX, ID_BYTES_MAX, Outgoing
from grafctl.store.fingerprints import DIGEST_BYTES, FINGERPRINT_BYTES, key_digest, key_digests
from grafctl.store.records import Entry, digest, encode_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.store.resources import ids
from grafctl.store.resources.idem import Asker, busy, counted, fenced, find_completed, stage_counts
from grafctl.store.resources.queue import queue_row
from grafctl.typed import Any, NamedTuple, Sequence

RESULT_BYTES_MAX = 64 << 10
EFFECTS_MAX = 100_000


class Completed(NamedTuple):
    """The answer to a completion: whether it changed anything, and its number."""

    changed: bool
    number: int


class Complete(NamedTuple):
    """The request to keep the result of the work under a key, by the token of its reservation."""

    asker: Asker
    stage: str
    key: str
    token: int
    result: bytes

    def decide(self, state: State, context: Context) -> Decision:
        row = self.asker.pass_gate(COMPLETE, state)
        key = key_digest(self.stage, self.key)
        result = digest(self.result).hex()
        found = find_completed(state, row, key)
        if found is not None:
            if found.ref.get("token") != self.token:
                raise self._fenced("is completed already, not under token")
            if found.ref["result"] != result:
                raise self._other_result(found.ref["result"], result)
            return Decision(Completed(False, found.number))
        there = state.get_json(keys.reservation(self.stage, key))
        if there is None or there["token"] != self.token:
            raise self._fenced("is not reserved under token")
        block = blocks.pack([Outgoing(bytes.fromhex(there["print"]) + self.result, self.key)])
        meta = {"do": "effects", "stage": self.stage, "first": row["next"], "count": 1, "domain": self.asker.domain}
        meta |= {"token": self.token, "result": result, "freed": [key.hex()]}
        return Decision(Completed(True, row["next"]), encode_json(meta), block, digest(block))

    def _fenced(self, how: str) -> Fenced:
        return fenced(self.asker.resource, self.stage, self.key, self.token, how)

    def _other_result(self, stored: str, offered: str) -> IdempotencyConflict:
        return IdempotencyConflict(
            f"Key {shown(self.key)} of stage {self.stage} was completed with another result.",
            hint="The first result stands; take it from `grafctl idem show`.",
            resource=self.asker.resource,
            stage=self.stage,
            key=self.key,
            stored=stored[: 2 * DIGEST_BYTES],
            offered=offered[: 2 * DIGEST_BYTES],
        )


def apply_effects(state: State, entry: Entry, index: int) -> Writes:
    """Keeps what is completed: the block, the index of its keys, and the reservations that it ends."""
    request = entry.request
    row, stage = queue_row(state, ""), request["stage"]
    first, count = request["first"], request["count"]
    assert first == row["next"], (first, row["next"])
    row["next"] += count
    row["bytes"] += len(entry.block)
    ref = {"index": index, "count": count, "bytes": len(entry.block), "ms": entry.stamped_ms, "stage": stage}
    ref |= {name: request[name] for name in ("domain", "token", "result", "at") if name in request}
    freed: list[str] = request.get("freed", [])
    writes: Writes = [json_write(keys.queue(), row), json_write(keys.block(first), ref)]
    writes += [(keys.reservation(stage, bytes.fromhex(key)), None) for key in freed]
    writes.append(counted(state, stage, completed=count, reserved=-len(freed)))
    return writes + ids.add(state, first, _hashes_of(stage, entry, f"entry {index}"))


def _hashes_of(stage: str, entry: Entry, what: str) -> Sequence[ids.Hash | None]:
    """Returns the hash of each key of a block: its digest, and the beginning of its fingerprint."""
    known = ids.remembered(entry.block_digest + stage.encode())
    if known is not None:
        return known
    found = blocks.columns(entry.block, what)
    digests = key_digests(stage, [key or "" for key in found.ids])
    return [own + payload[:DIGEST_BYTES] for own, payload in zip(digests, found.payloads, strict=True)]


def split_effect(payload: bytes) -> tuple[bytes, bytes]:
    """Returns fingerprint and result of a completed key's record."""
    return payload[:FINGERPRINT_BYTES], payload[FINGERPRINT_BYTES:]


# --- many at once


class Effect(NamedTuple):
    """One key with the fingerprint of what it was done for, and the result."""

    key: str
    fingerprint: bytes
    result: bytes = b""


class Recorded(NamedTuple):
    """The answer of `RecordEffects`: the number of the first new key, and the places of new and of replayed ones."""

    first: int
    new: Sequence[int]
    replayed: Sequence[int]


def _check_effect(place: int, key: str, fingerprint: bytes, result: bytes) -> None:
    """Raises `Usage` where a part of one effect passes its limit."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise Usage(f"The key at place {place} is not valid UTF-8.") from None
    if not 0 < size <= ID_BYTES_MAX:
        raise Usage(f"The key at place {place} is empty or longer than {ID_BYTES_MAX:,} bytes.")
    if len(fingerprint) != FINGERPRINT_BYTES:
        raise Usage(f"The fingerprint at place {place} has {len(fingerprint)} bytes, not {FINGERPRINT_BYTES}.")
    if len(result) > RESULT_BYTES_MAX:
        raise Usage(f"The result at place {place} has {len(result):,} bytes; at most {RESULT_BYTES_MAX:,} are kept.")


class RecordEffects:
    """The request to complete many keys of a stage in one entry, without reservations of their own."""

    __slots__ = ("asker", "effects", "hashes", "packed", "stage")

    def __init__(
        self,
        resource: str,
        stage: str,
        effects: Sequence[Effect] | Sequence[tuple[str, bytes, bytes]],
        domain: str,
        epoch: int | None = None,
        known: bool = True,
    ) -> None:
        self.asker, self.stage, self.effects = Asker(resource, domain, epoch, known), stage, effects
        self.hashes: list[ids.Hash] = []
        self.packed: tuple[bytes, bytes] | None = None  # block and digest, made before the lock is taken

    def check(self) -> None:
        """Raises `Usage` where a key, a fingerprint or a result passes its limit."""
        if not 0 < len(self.effects) <= EFFECTS_MAX:
            raise Usage(f"1 to {EFFECTS_MAX:,} keys are recorded at once, not {len(self.effects):,}.")
        names, prints, results = zip(*self.effects, strict=True)
        lengths = set(map(len, names))
        sizes = list(map(len, results))
        is_plain = min(lengths) > 0 and max(lengths) <= ID_BYTES_MAX and "".join(names).isascii()
        if not is_plain or set(map(len, prints)) != {FINGERPRINT_BYTES} or max(sizes) > RESULT_BYTES_MAX:
            for place, effect in enumerate(self.effects):
                _check_effect(place, *effect)
        whole = sum(map(len, names)) + sum(sizes)
        if whole > BLOCK_BYTES_MAX * 3 // 4:
            raise Usage(f"The results of one request have {whole:,} bytes; at most {BLOCK_BYTES_MAX * 3 // 4:,}.")

    def prepare(self) -> None:
        """Packs and hashes everything, so that no lock is held meanwhile; where all keys are new, this is the block."""
        digests = key_digests(self.stage, [effect[0] for effect in self.effects])
        self.hashes = [own + effect[1][:DIGEST_BYTES] for own, effect in zip(digests, self.effects, strict=True)]
        self.packed = self._pack(self.effects)

    def _pack(self, effects: Sequence[Any]) -> tuple[bytes, bytes]:
        names, prints, results = zip(*effects, strict=True)
        none = repeat(None)
        columns = zip(map(add, prints, results), names, none, none, repeat(0))
        block = blocks.pack(list(map(partial(tuple.__new__, Outgoing), columns)))
        return block, digest(block)

    def decide(self, state: State, context: Context) -> Decision:
        row = self.asker.pass_gate(COMPLETE, state)
        if self.packed is None:
            self.prepare()
        known = ids.find(state, self.hashes, row["first"])
        new, replayed, conflicts = self._sort_out(known)
        freed = self._freed(state, new, conflicts, context.now_ms)
        if conflicts:
            raise self._conflict(sorted(conflicts))
        if not new:
            return Decision(Recorded(row["next"], (), replayed))
        block, block_digest = self.packed or self._pack(self.effects)
        hashes: Sequence[ids.Hash] = self.hashes
        if replayed:
            block, block_digest = self._pack([self.effects[place] for place in new])
            hashes = [self.hashes[place] for place in new]
        ids.remember_hashes(block_digest + self.stage.encode(), hashes)
        meta = {"do": "effects", "stage": self.stage, "first": row["next"], "count": len(new)}
        meta |= {"domain": self.asker.domain} | ({"freed": freed} if freed else {})
        return Decision(Recorded(row["next"], new, replayed), encode_json(meta), block, block_digest)

    def _sort_out(self, known: dict[int, ids.Known]) -> tuple[Sequence[int], list[int], list[int]]:
        """Returns the places of what is new, of what is there with the same fingerprint, and of the conflicts."""
        if not known and len({item[:DIGEST_BYTES] for item in self.hashes}) == len(self.hashes):
            return range(len(self.hashes)), [], []
        mine: dict[bytes, bytes] = {}
        new: list[int] = []
        replayed: list[int] = []
        conflicts: list[int] = []
        for place, item in enumerate(self.hashes):
            own, fingerprint = item[:DIGEST_BYTES], item[DIGEST_BYTES:]
            stored = known[place].fingerprint if place in known else mine.get(own)
            if stored is None:
                mine[own] = fingerprint
                new.append(place)
            else:
                (replayed if stored == fingerprint else conflicts).append(place)
        return new, replayed, conflicts

    def _freed(self, state: State, new: Sequence[int], conflicts: list[int], now_ms: int) -> list[str]:
        """Returns the digests of reservations whose lease is over; those of another payload are conflicts too."""
        if not stage_counts(state, self.stage)["reserved"]:
            return []
        freed: list[str] = []
        live: tuple[int, dict[str, Any]] | None = None
        for place in new:
            own = self.hashes[place][:DIGEST_BYTES]
            there = state.get_json(keys.reservation(self.stage, own))
            if there is None:
                continue
            if bytes.fromhex(there["print"]) != self.effects[place][1]:
                conflicts.append(place)
            elif there["until"] > now_ms:
                live = live or (place, there)
            else:
                freed.append(own.hex())
        if live and not conflicts:
            raise busy(self.asker.resource, self.stage, self.effects[live[0]][0], live[1], now_ms)
        return freed

    def _conflict(self, places: list[int]) -> IdempotencyConflict:
        count = len(places)
        return IdempotencyConflict(
            f"{count} of {len(self.effects)} keys of stage {self.stage} {'was' if count == 1 else 'were'} used with "
            "another payload; nothing was recorded.",
            hint=f"Run `grafctl idem show {self.asker.resource}` with such a key and the stage.",
            resource=self.asker.resource,
            stage=self.stage,
            places=places,
            keys=[self.effects[place][0] for place in places[:20]],
        )
