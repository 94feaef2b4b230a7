"""Several publishes in one entry, for callers who wait for the log at the same time.

Promises
- Each is answered as if they had come one after the other: an id that two of them bring is stored for the first, and
  the second gets its offset, or a conflict of its own.
- The entry says how many records each brought (`parts`), so that the operation key of one finds what is its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from grafctl.errors import GrafctlError
from grafctl.store import blocks
from grafctl.store.blocks import Outgoing
from grafctl.store.records import Entry, digest, encode_json
from grafctl.store.replica.state import State
from grafctl.store.requests import Context, Decision
from grafctl.store.resources import ids
from grafctl.store.resources.ids import Hash, Known
from grafctl.store.resources.queue import Publish, Published, is_trim_due, scattered

Answer = Published | GrafctlError


class Together:
    """Publishes that may share an entry (`Publish.kin`), decided in their order."""

    __slots__ = ("_hashes", "_members", "_packed")

    def __init__(self, members: list[Publish]) -> None:
        self._members = members
        self._hashes: list[Sequence[Hash | None] | None] = []
        self._packed: tuple[bytes, bytes] | None = None

    @property
    def kin(self) -> tuple[object, ...]:
        return self._members[0].kin

    @property
    def size(self) -> int:
        return sum(member.size for member in self._members)

    def prepare(self) -> None:
        """Hashes and packs everything, as if no id were there already."""
        self._hashes = [ids.hash_records(member.records) if member.has_ids else None for member in self._members]
        self._packed = self._pack([range(len(member.records)) for member in self._members])

    def _pack(self, places: Sequence[Sequence[int]]) -> tuple[bytes, bytes]:
        members = self._members
        chosen = [member.records[place] for member, own in zip(members, places, strict=True) for place in own]
        if any(isinstance(record, Outgoing) for record in chosen):
            chosen = [record if isinstance(record, Outgoing) else Outgoing(record) for record in chosen]
        block = blocks.pack(chosen, members[0].compression)  # type: ignore[arg-type]
        return block, digest(block)

    def decide(self, state: State, context: Context) -> Decision:
        """Returns an entry with the new records of all, and a list of their answers; raises the refusal of all."""
        queue, generation = self._members[0].admitted(state)
        mine: dict[bytes, Known] = {}
        answers: list[Answer] = []
        places: list[Sequence[int]] = []
        following = queue["next"]
        for member, hashes, known in zip(self._members, self._hashes, self._find(state), strict=True):
            fresh, answer = _decide_one(member, hashes, known, following, mine, generation)
            answers.append(answer)
            places.append(fresh)
            following += len(fresh)
        count = following - queue["next"]
        if not count:
            return Decision(answers)
        is_whole = count == sum(len(member.records) for member in self._members)
        block, block_digest = self._packed if is_whole and self._packed else self._pack(places)
        self._remember(block_digest, places)
        if isinstance(answers[0], Published) and is_trim_due(queue, len(block), count):
            answers[0] = answers[0]._replace(trim_due=True)
        meta = {"do": "publish", "first": queue["next"], "count": count, "domain": self._members[0].domain}
        meta |= {"parts": [len(fresh) for fresh in places]}
        return Decision(answers, encode_json(meta), block, block_digest)

    def _find(self, state: State) -> list[dict[int, Known]]:
        """Returns for each member what is known of its ids, by their place; they are looked for together."""
        every = [item for hashes in self._hashes if hashes is not None for item in hashes]
        found = ids.find(state, every) if every else {}
        known, at = [], 0
        for hashes in self._hashes:
            count = 0 if hashes is None else len(hashes)
            known.append({place: found[at + place] for place in range(count) if at + place in found})
            at += count
        return known

    def _remember(self, block_digest: bytes, places: Sequence[Sequence[int]]) -> None:
        """Hands the hashes of what is stored to `apply`."""
        if all(hashes is None for hashes in self._hashes):
            return
        pairs = zip(self._hashes, places, strict=True)
        kept = [None if hashes is None else hashes[place] for hashes, own in pairs for place in own]
        ids.remember_hashes(block_digest, kept)

    def recall(self, entry: Entry, place: int, state: State) -> list[Answer] | None:
        """Nobody asks for several operations at once."""
        return None


def _decide_one(
    member: Publish,
    hashes: Sequence[Hash | None] | None,
    known: dict[int, Known],
    following: int,
    mine: dict[bytes, Known],
    generation: int,
) -> tuple[Sequence[int], Answer]:
    """Returns the places of a member's new records, and its answer; `mine` is what those before it bring."""
    if hashes is None:
        count = len(member.records)
        return range(count), Published(following, count, None, False, [], generation, added=count)
    own = mine if len(hashes) == 1 else dict(mine)
    fresh, offsets, conflicts = member.sort_out(hashes, known, following, own)
    if conflicts and (member.atomic or (len(hashes) == 1 and not member.skips)):
        return (), member.refuse(conflicts, following)
    if own is not mine:
        mine |= own
    offsets = list(range(following, following + len(fresh))) if offsets is None else offsets
    first = offsets[0] if offsets else following
    answer = Published(first, len(offsets), scattered(offsets), not fresh, conflicts, generation)
    return fresh, answer._replace(added=len(fresh))
