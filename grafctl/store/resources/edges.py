"""Edges: which segment a local queue between two stages is in, as rows of the control log.

Promises
- An edge is said to be in a segment only by whoever holds its lease, with the token in force, and after the ring in it
  was made: nobody has pushed to a ring that is being made.
- Its generation is that of the lease, so it goes up only; the same generation again is the same edge, or refused.
"""

from __future__ import annotations

from grafctl.errors import Corrupt, GenerationConflict, NotFound
from grafctl.store import segment_keys
from grafctl.store.records import CTRL, Entry, encode_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.store.resources.segments import lease_row, require_over
from grafctl.store.segment_rules import USABLE, judged, refusal
from grafctl.typed import Any, NamedTuple


class Handoff(NamedTuple):
    """Where an edge is: the lease by its token and generation, the file, and how the ring lies in it."""

    generation: int
    token: int
    domain: str
    segment: str
    kind: str
    bytes: int
    slots: int
    slot_bytes: int

    @staticmethod
    def of(row: Any, name: str) -> Handoff:
        """Returns what a row says; raises `Corrupt` for one that is no such record."""
        kinds = Handoff.__annotations__
        is_shaped = isinstance(row, dict) and row.keys() == kinds.keys()
        if is_shaped and all(type(value).__name__ == kinds[field] for field, value in row.items()):
            return Handoff(**row)
        raise Corrupt(f"The row of edge {name} is not one.", hint="Run `grafctl verify`.", edge=name)


def handoff_of(state: State, name: str) -> Handoff:
    """Returns where an edge is; raises `NotFound`."""
    row = state.get_json(segment_keys.edge(name))
    if row is None:
        raise NotFound(f"There is no edge {name}.", hint="Run `grafctl edge status`.", edge=name)
    return Handoff.of(row, name)


class PublishEdge(NamedTuple):
    """The request to say that an edge is in the segment of a lease, which holds its ring."""

    name: str
    token: int
    slots: int
    slot_bytes: int

    def decide(self, state: State, context: Context) -> Decision:
        lease = lease_row(state, self.name)
        found = judged(lease, context.now_ms, token=self.token)
        if found not in USABLE:
            raise refusal(self.name, found, token=self.token, current=lease["token"])
        offered = {field: lease[field] for field in ("generation", "token", "domain", "segment", "kind", "bytes")}
        offered |= {"slots": self.slots, "slot_bytes": self.slot_bytes}
        there = state.get_json(segment_keys.edge(self.name))
        known = None if there is None else Handoff.of(there, self.name)
        if known is not None and known.generation >= lease["generation"]:
            if known._asdict() == offered:
                return Decision((False, known))
            raise GenerationConflict(
                f"The edge {self.name} is there already at generation {known.generation}, with {known.slots} slots.",
                hint="Run `grafctl edge status`, or take another name.",
                edge=self.name,
                generation=known.generation,
            )
        return Decision(
            (True, Handoff(**offered)), encode_json({"do": "edge", "name": self.name, "row": offered}), kind=CTRL
        )


class RemoveEdge(NamedTuple):
    """The request to delete an edge whose lease is over."""

    name: str

    def decide(self, state: State, context: Context) -> Decision:
        there = handoff_of(state, self.name)
        require_over(self.name, lease_row(state, self.name), context.now_ms)
        meta = {"do": "edge", "name": self.name, "row": None}
        return Decision((True, there), encode_json(meta), kind=CTRL)


def apply_edge(state: State, entry: Entry, index: int) -> Writes:
    """Where an edge is from now on, or without a row that it is no more."""
    key, row = segment_keys.edge(entry.request["name"]), entry.request["row"]
    return [(key, None) if row is None else json_write(key, row)]
