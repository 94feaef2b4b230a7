"""Changes of several resources of one log in one entry: all of them are there, in every domain, or none is.

A stage of a pipeline finishes what it has read, records its effects and publishes what came of it so. Blocks of records
stand one after another in the entry's data; each change says where its own begins (`at`, `bytes`) and its digest.

Promises
- Each change is decided as if the ones before it had been applied; the refusal of one is the refusal of all.
- The order of the changes is the order in which they were asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from grafctl.errors import Usage
from grafctl.store.blocks import BLOCK_BYTES_MAX
from grafctl.store.records import DATA, NO_CHAIN, NO_DIGEST, Entry, digest, encode_json, parse_json
from grafctl.store.replica.scope import placed, scoped
from grafctl.store.replica.state import State, Writes
from grafctl.store.requests import Context, Decision, Request
from grafctl.typed import Any

DATA_BYTES_MAX = BLOCK_BYTES_MAX - (1 << 20)  # of an entry, which may be no larger than one value of a driver
Part = tuple[int, Request]  # the number of a resource, and what is asked of it


class Several:
    """Requests to resources of one log, decided together; the answer is the list of theirs."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts

    def decide(self, state: State, context: Context) -> Decision:
        """Returns one entry with what all of them change, or none where none changes anything."""
        layers = Layers(state)
        answers: list[Any] = []
        changes: list[dict[str, Any]] = []
        blocks: list[bytes] = []
        at, kind = 0, DATA
        for place, (number, request) in enumerate(self._parts):
            decision = request.decide(scoped(layers, number), context)
            answers.append(decision.answer)
            if decision.meta is None:
                continue
            change = {**parse_json(decision.meta), "of": number}
            if decision.block:
                change |= {"at": at, "bytes": len(decision.block), "digest": decision.block_digest.hex()}
                blocks.append(decision.block)
                at += len(decision.block)
            changes.append(change)
            kind = max(kind, decision.kind)
            if any(number == later for later, _ in self._parts[place + 1 :]):
                layers.add(_apply_one(layers, change, _provisional(context, decision), context.at))
        if not changes:
            return Decision(answers)
        if at > DATA_BYTES_MAX:
            raise Usage(f"What one log is asked at once has {at:,} bytes of records; at most {DATA_BYTES_MAX:,}.")
        block = b"".join(blocks)
        meta = encode_json({"do": "several", "changes": changes})
        return Decision(answers, meta, block, digest(block) if block else NO_DIGEST, kind)


def _provisional(context: Context, decision: Decision) -> Entry:
    """Returns a change as an entry by itself, for the eyes of the changes behind it."""
    return Entry(DATA, (0, 0), context.now_ms, b"", b"", decision.block, decision.block_digest, NO_CHAIN)


def apply_several(state: State, entry: Entry, index: int) -> Writes:
    layers = Layers(state)
    for change in entry.request["changes"]:
        part = entry._replace(block=b"", block_digest=NO_DIGEST)
        if "at" in change:
            block = entry.block[change["at"] : change["at"] + change["bytes"]]
            part = part._replace(block=block, block_digest=bytes.fromhex(change["digest"]))
        layers.add(_apply_one(layers, change, part, index))
    return layers.writes()


def _apply_one(state: State, change: dict[str, Any], part: Entry, index: int) -> Writes:
    from grafctl.store.resources.applying import function_for  # which imports this module

    apply = function_for(change["do"])
    writes = apply(scoped(state, change["of"]), part._replace(meta=encode_json(change)), index)
    return placed(writes, change["of"])


def block_change(entry: Entry, start: int) -> dict[str, Any] | None:
    """Returns the change of an entry whose block begins there."""
    changes: list[dict[str, Any]] = entry.request.get("changes", [])
    return next((change for change in changes if change.get("at") == start), None)


class Layers:
    """A state with writes over it, as what comes after them sees it."""

    __slots__ = ("_below", "_rows")

    def __init__(self, below: State) -> None:
        self._below = below
        self._rows: dict[bytes, bytes | None] = {}

    def add(self, writes: Writes) -> None:
        self._rows.update(writes)

    def writes(self) -> Writes:
        """Returns all that was added, the last for each row."""
        return list(self._rows.items())

    def get(self, row: bytes) -> bytes | None:
        return self._rows[row] if row in self._rows else self._below.get(row)

    def get_json(self, row: bytes) -> Any:
        body = self.get(row)
        return None if body is None else parse_json(body)

    def scan(self, span: tuple[bytes, bytes], *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        ours = {row: body for row, body in self._rows.items() if span[0] <= row < span[1]}
        if not ours:
            yield from self._below.scan(span, reverse=reverse)
            return
        rows = {**dict(self._below.scan(span)), **ours}
        for row in sorted(rows, reverse=reverse):
            if (body := rows[row]) is not None:
                yield row, body
