"""Chains: how far stages that edges link have come, as a row of the control log for each chain.

What is on an edge is lost with its segment, so the durable input of a chain counts as worked on only as far as the last
stage has committed what came of it. The *checkpoint* says how far that is, as a number of the input's records. A *run*
is a stretch of work in which no edge of the chain lost anything: it has a number, which is the index of its entry, and
the generation that each edge had then. Whatever is lost, the first stage begins another run and reads again from the
checkpoint on.

Promises
- A later run has a larger number, also that of another chain, and knows the generations of all edges at one moment.
- A checkpoint is of the run that is under way, or it changes nothing; within a run it goes forward only.

When it fails: a run that was begun and of which nothing was written is followed by the next one; a checkpoint that was
not written leaves the one before, from which more is read again than had to be.
"""

from __future__ import annotations

from grafctl.errors import Corrupt
from grafctl.store import segment_keys
from grafctl.store.records import CTRL, Entry, encode_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.store.resources.edges import Handoff
from grafctl.typed import Any, Mapping, NamedTuple

INTEGER_MAX = (1 << 63) - 1


class ChainRow(NamedTuple):
    """How far a chain is: the run under way, and up to before which of its input's records all is committed."""

    run: int
    next: int
    digest: str  # of the records before `next`, in hexadecimal digits, as the first stage reckons it; none of a group
    end: int | None  # how many records the input has, once the first stage has come to its end
    edges: Mapping[str, int]  # edge -> the generation that it has in this run

    @staticmethod
    def of(row: Any, name: str) -> ChainRow:
        """Returns what a row says; raises `Corrupt` for one that is no such record."""
        if isinstance(row, dict) and row.keys() == ChainRow.__annotations__.keys():
            numbers = [row["run"], row["next"], 0 if row["end"] is None else row["end"]]
            numbers += row["edges"].values() if isinstance(row["edges"], dict) else [-1]
            if type(row["digest"]) is str and all(type(each) is int and 0 <= each <= INTEGER_MAX for each in numbers):
                return ChainRow(**row)
        raise Corrupt(f"The row of chain {name} is not one.", hint="Run `grafctl verify`.", chain=name)

    @property
    def is_done(self) -> bool:
        """Returns whether all of the input is committed, as far as its end is known."""
        return self.end is not None and self.next >= self.end


class Chained(NamedTuple):
    """What a look at a chain finds."""

    row: ChainRow | None  # None where no run was ever begun
    edges: Mapping[str, int]  # the generation of each edge now; 0 for one that nobody made yet

    @property
    def is_whole(self) -> bool:
        """Returns whether no edge has lost anything since the run began."""
        return self.row is not None and self.row.edges == self.edges


def chained(state: State, name: str, edges: tuple[str, ...]) -> Chained:
    """Returns how far a chain is, and where its edges are."""
    row = state.get_json(segment_keys.chain(name))
    found = {}
    for edge in edges:
        there = state.get_json(segment_keys.edge(edge))
        found[edge] = 0 if there is None else Handoff.of(there, edge).generation
    return Chained(None if row is None else ChainRow.of(row, name), found)


class BeginRun(NamedTuple):
    """The request for the next run of a chain, from the checkpoint on; with `anew` from the first record on."""

    name: str
    edges: tuple[str, ...]
    anew: bool

    def decide(self, state: State, context: Context) -> Decision:
        there, edges = chained(state, self.name, self.edges)
        if there is None or self.anew:
            row = ChainRow(context.at, 0, "", None, edges)
        else:
            row = there._replace(run=context.at, end=None, edges=edges)
        return _written(self.name, row)


class Checkpoint(NamedTuple):
    """The request to say that all before `next` is committed, and with `end` that no more will come."""

    name: str
    run: int
    next: int = 0
    digest: str = ""
    end: int | None = None

    def decide(self, state: State, context: Context) -> Decision:
        there = chained(state, self.name, ()).row
        if there is None or there.run != self.run:
            return Decision(there)
        row = there
        if self.next > there.next:
            row = row._replace(next=self.next, digest=self.digest)
        if self.end is not None:
            row = row._replace(end=self.end)
        return Decision(there) if row == there else _written(self.name, row)


def _written(name: str, row: ChainRow) -> Decision:
    """Returns the entry that makes this the row of a chain; the answer to either request is the row as it is then."""
    body = row._asdict() | {"edges": dict(row.edges)}
    return Decision(row, encode_json({"do": "chain", "name": name, "row": body}), kind=CTRL)


def apply_chain(state: State, entry: Entry, index: int) -> Writes:
    return [json_write(segment_keys.chain(entry.request["name"]), entry.request["row"])]
