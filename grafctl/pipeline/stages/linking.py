"""The ends of edges as the stages of a chain have them, and what keeps a run of the chain without a gap.

A stage of a chain takes parcels from the edge before it and pushes what came of them to the edge behind it, in order;
only then it finishes what it took. So as long as no edge loses its segment, whatever dies, each edge gives what it was
given, in its order, some of it again. What a segment loses ends the *run* (`store/resources/chains.py`): a parcel goes
over an edge only where that is of the generation that the parcel's run began with, and is dropped otherwise. So what
arrives of a run at the last stage is all of it from its beginning up to there, and the last stage may say of an origin
that has gone by that everything before it is committed: that is the checkpoint. Whoever drops a parcel does not tell
anybody. The first stage sees in the control log that an edge has another generation, begins the next run, and reads
from the checkpoint on.

Promises
- A parcel of an earlier run, or that met another generation of an edge on its way, goes no further.
- A stage of a chain is at work in one process of its domain at a time; another one waits for its turn.

When it fails: a process that dies between a push and the finish behind it leaves parcels that come again, in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from grafctl.edges.answers import Taken
from grafctl.edges.turn import Turn
from grafctl.errors import Busy, GenerationConflict, GrafctlError, NotFound
from grafctl.nouns.edge_handles import EdgeReader, EdgeWriter
from grafctl.nouns.edges import Edges
from grafctl.nouns.leases import Leases
from grafctl.pipeline.message import Refused
from grafctl.pipeline.model import Chain, DeclaredEdge, DeclaredStage, owner_of
from grafctl.pipeline.stages.parcel import Parcel, decode, encode, is_at_most, size_of
from grafctl.pipeline.stages.work import Counts, Place
from grafctl.store.checked import checked
from grafctl.store.resources.chains import BeginRun, Chained, ChainRow, Checkpoint, chained

T = TypeVar("T")

PUSH_MAX = 1000  # parcels in one write of a ring's tail


def is_lost_edge(error: GrafctlError) -> bool:
    """Returns whether an error says that an edge has lost its segment, or has none yet, and will have one."""
    return bool(error.fields.get("recoverable"))


class ChainWork:
    """A chain as one stage of it knows it."""

    def __init__(self, place: Place, stage: DeclaredStage) -> None:
        chain = place.pipeline.chain_of(stage.name)
        assert chain is not None, "only stages of a chain have one"
        self.chain: Chain = chain
        self._place = place
        self.row: ChainRow | None = None  # as it was seen last
        where = place.session.cluster.place(place.domain).where
        # With a sign that no name has, so that two pairs of names are two turns.
        self.turn = Turn(where, f"{place.pipeline.name}@{stage.name}", f"Stage {stage.name}")

    def close(self) -> None:
        """Lets the stage be at work elsewhere."""
        self.turn.close()

    def look(self, *, newest: bool = False) -> Chained:
        """Returns how far the chain is, and where its edges are."""
        name, edges = self.chain.name, self.chain.edges
        found = checked(self._place.session.control, lambda state: chained(state, name, edges), newest=newest)
        self.row = found.row
        return found

    def begin(self, *, anew: bool) -> ChainRow:
        """Begins the next run, from the checkpoint on or, anew, from the first record on."""
        row: ChainRow = self._place.session.control.append(BeginRun(self.chain.name, self.chain.edges, anew)).answer
        self.row = row
        return row

    def checkpoint(self, run: int, *, next: int = 0, digest: str = "", end: int | None = None) -> None:
        """Says that all before `next` is committed, and with `end` that the input has no more; an older run is heard
        no more."""
        request = Checkpoint(self.chain.name, run, next, digest, end)
        self.row = self._place.session.control.append(request).answer

    def current(self, run: int) -> ChainRow | None:
        """Returns the run under way, or None where this parcel is of an earlier one."""
        if self.row is None or run > self.row.run:
            self.look()
        if self.row is None or run > self.row.run:
            self.look(newest=True)
        if self.row is None or run > self.row.run:
            raise Busy(f"The control log does not show run {run} of {self.chain.name} yet.", hint="Try again.")
        return self.row if run == self.row.run else None


class EdgeOut:
    """The edge behind a stage, for what it writes."""

    def __init__(self, place: Place, stage: DeclaredStage, counts: Counts) -> None:
        edge = place.pipeline.edge(stage.outputs[0])
        assert edge is not None, "a stage of a chain writes to an edge, or has none of these"
        self.edge, self._counts = edge, counts
        token = lease_edge(place, edge, owner_of(place.pipeline, stage))
        self._writer = EdgeWriter(place.session, edge.name, place.domain, token)
        self.generation = self._writer.generation
        self._waiting: deque[tuple[bytes, bool]] = deque()

    @property
    def is_waiting(self) -> bool:
        """Returns whether something is left to be pushed."""
        return bool(self._waiting)

    def check(self, parcel: Parcel) -> None:
        """Raises `Refused` for a parcel that the edge does not hold."""
        most = self._writer.payload_bytes_max
        if not is_at_most(parcel, most):
            size = size_of(parcel)
            raise Refused(f"It has {size:,} bytes with its names; one of edge {self.edge.name} has at most {most:,}.")

    def drop(self) -> None:
        """Forgets what waits: the run that it is of is over."""
        self._waiting.clear()

    def put(self, parcels: Iterable[Parcel], generation: int) -> None:
        """Takes parcels that are to be pushed, unless the edge has another generation by now than they are for."""
        if generation == self.generation:
            self._waiting.extend((encode(parcel), parcel.payload is not None) for parcel in parcels)

    def push(self) -> bool:
        """Pushes as much of what waits as there is room for; returns whether anything was done.

        Where the edge has lost its segment what waits is forgotten: it is of a run that is over.
        """
        moved = False
        while self._waiting:
            count = min(len(self._waiting), PUSH_MAX)
            try:
                pushed = self._writer.push_batch([self._waiting[at][0] for at in range(count)])
            except GrafctlError as error:
                if not is_lost_edge(error):
                    raise
                self._forget()
                return True
            if pushed.generation != self.generation:
                self._forget()
                return True
            for _ in range(pushed.pushed):
                self._counts.written += self._waiting.popleft()[1]
            moved = moved or pushed.pushed > 0
            if pushed.full:
                break
        return moved

    def keep(self) -> None:
        """Keeps the lease while there is nothing to push."""
        try:
            self._writer.keep()
        except GrafctlError as error:
            if not is_lost_edge(error):
                raise
            self._forget()

    def _forget(self) -> None:
        # NB only then: what is left out of a run must not be followed by the rest of it.
        if self._writer.generation != self.generation:
            self._waiting.clear()
            self.generation = self._writer.generation

    def close(self) -> None:
        self._writer.close()


def join(place: Place, stage: DeclaredStage, counts: Counts) -> tuple[ChainWork, EdgeOut]:
    """Returns the chain and the edge behind a stage; where that cannot be had the turn of the stage is given back."""
    work = ChainWork(place, stage)
    try:
        return work, EdgeOut(place, stage, counts)
    except BaseException as error:
        work.close()
        if isinstance(error, GrafctlError) and is_lost_edge(error):  # it ended while it was taken
            raise Busy(error.message, hint="Try again.") from None
        raise


class EdgeIn:
    """The edge before a stage, for what it reads: parcels of the run under way, a batch at a time."""

    def __init__(self, place: Place, stage: DeclaredStage, work: ChainWork, counts: Counts) -> None:
        assert stage.input is not None
        self.place, self.name, self.batch = place, stage.input, stage.batch
        self.work, self._counts = work, counts
        self._reader: EdgeReader | None = None
        self._taken: Taken | None = None
        self._parcels: list[Parcel | None] = []  # of what was taken; None for what goes no further

    def _ask(self, act: Callable[[EdgeReader], T]) -> T | None:
        """Returns what the reader says; None where there is nobody to ask."""
        try:
            if self._reader is None:
                self._reader = EdgeReader(self.place.session, self.name, self.place.domain)
            return act(self._reader)
        except NotFound:
            return None  # nobody has made it yet
        except GrafctlError as error:
            if not is_lost_edge(error):
                raise
            return None  # which its writer sees to

    def finished(self) -> tuple[bool, Parcel | None]:
        """Returns whether the edge could be asked, and what was finished on it last, where that is of the run under
        way."""
        found = self._ask(lambda reader: (reader.finished(), reader.generation))
        if found is None:
            return False, None
        record, generation = found
        try:
            parcel = None if record is None else decode(record.payload)
        except ValueError:  # somebody has pushed and popped it by hand
            parcel = None
        row = None if parcel is None else self.work.current(parcel.run)
        return True, parcel if row is not None and row.edges.get(self.name) == generation else None

    def take(self, out: EdgeOut | None = None) -> list[tuple[int, Parcel]] | None:
        """Returns parcels with their offsets, without those that go no further; None where there is nothing."""
        taken = self._ask(lambda reader: reader.take(self.batch))
        if taken is None or not taken.records:
            return None
        found = [self._decoded(record.offset, record.payload) for record in taken.records]
        self._parcels = [parcel if self._goes_on(parcel, taken, out) else None for parcel in found]
        self._taken = taken
        kept = [(at, parcel) for at, parcel in enumerate(self._parcels, taken.records[0].offset) if parcel is not None]
        self._counts.read += sum(parcel.payload is not None for _, parcel in kept)
        self._counts.lost += len(found) - len(kept)
        return kept

    @property
    def end(self) -> int:
        """Returns the offset behind what was taken."""
        assert self._taken is not None, "something was taken"
        last: int = self._taken.records[-1].offset
        return last + 1

    def _goes_on(self, parcel: Parcel, taken: Taken, out: EdgeOut | None) -> bool:
        row = self.work.current(parcel.run)
        if row is None or row.edges.get(self.name) != taken.generation:
            return False
        return out is None or row.edges.get(out.edge.name) == out.generation

    def _decoded(self, offset: int, payload: bytes) -> Parcel:
        try:
            return decode(payload)
        except ValueError as error:
            raise GenerationConflict(
                f"Record {offset} of edge {self.name} is nothing that a stage has pushed: {error}.",
                hint=f"Somebody pushed it by hand; look with `grafctl edge pop {self.name}`, which takes it out.",
                edge=self.name,
            ) from None

    def finish(self, until: int | None = None) -> Sequence[Parcel]:
        """Takes what was taken out of the edge, up to before an offset or all of it; returns what of it had gone on."""
        taken = self._taken
        if taken is None or self._reader is None:
            return ()
        count = len(taken.records) if until is None else until - taken.records[0].offset
        done, self._parcels = self._parcels[:count], self._parcels[count:]
        self._taken = taken._replace(records=taken.records[count:]) if self._parcels else None
        try:
            self._reader.finish(taken._replace(records=taken.records[:count]))
        except GrafctlError as error:
            if not is_lost_edge(error) and self._reader.generation == taken.generation:
                raise
            self._taken, self._parcels = None, []  # its segment is gone, and what is there is of another run
        return [parcel for parcel in done if parcel is not None]

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()


def lease_edge(place: Place, edge: DeclaredEdge, owner: str) -> int:
    """Makes an edge as it is declared, or leaves it where it is so; anew where it was declared otherwise before.

    Returns the token of its lease.
    """
    leases, edges = Leases(place.session), Edges(place.session)

    def acquired(replace: int | None = None) -> int:
        how: dict[str, Any] = {"kind": edge.kind, "bytes": edge.bytes, "term_ms": edge.term_ms, "replace": replace}
        token: int = (leases.acquire(edge.name, domain=place.domain, owner=owner, **how).after or {})["token"]
        return token

    try:
        token = acquired()
    except GenerationConflict as error:
        if "token" not in error.fields:
            raise
        token = acquired(error.fields["token"])
    try:
        edges.create(edge.name, token=token, slots=edge.slots, domain=place.domain)
    except GenerationConflict as error:
        if "generation" not in error.fields:
            raise
        token = acquired(token)
        edges.create(edge.name, token=token, slots=edge.slots, domain=place.domain)
    return token
