"""What a lineage of groups has been given, has finished, gave back or gave up: pure sets of offsets.

A lineage is shared by the groups that a shift or a switch ties together. A record leased in one group is withheld
from all of them, and finalised once for all of them.

Promises
- `done`, `leased`, `retry` and `dead` never overlap; an offset is in at most one of them.
- `floor` is the lowest offset that is not finalised; `done` holds only what is finalised above it.
- What a filter leaves out is final without a delivery, and counted in `skipped`; what retention let go of before it was
  finished is final too, and counted in `lost`.
- What is handed out again, since a lease ended without an ack, is counted in `redelivered` each time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from grafctl.store.intervals import Intervals, contains, difference, intersection, size, take, union
from grafctl.typed import Any, Mapping, NamedTuple, Sequence

Grants = list[list[int]]  # [start, stop, delivery]
Retries = list[list[int]]  # [start, stop, deliveries so far, not before ms]


class Judged(NamedTuple):
    """What a caller has found out about the records of [start, stop): which of them a group's filter wants.

    It counts for the same filter and in the same term only. In another term, what was committed may have been given up
    by an operator, and other records may stand at these offsets.
    """

    filter: str
    term: tuple[int, int]
    start: int
    stop: int
    matched: Intervals

    def known_to(self, cursor: int, stop: int) -> int:
        """Returns up to where before `stop` everything from `cursor` on was judged; `cursor` where nothing was."""
        return max(cursor, min(self.stop, stop)) if self.start <= cursor else cursor


@dataclass(slots=True)
class Lineage:
    """The delivery state that groups of one lineage share."""

    floor: int = 0
    done: Intervals = field(default_factory=list)
    leased: Intervals = field(default_factory=list)
    retry: Retries = field(default_factory=list)
    dead: Intervals = field(default_factory=list)
    deadline_ms: int | None = None  # no lease ends before this
    finalised: int = 0
    skipped: int = 0
    redelivered: int = 0
    lost: int = 0
    lost_range: list[int] = field(default_factory=list)  # from the first that was lost up to behind the last

    @staticmethod
    def of(row: Mapping[str, Any]) -> Lineage:
        return Lineage(**row)

    def as_row(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "floor": self.floor,
            "done": self.done,
            "leased": self.leased,
            "retry": self.retry,
            "dead": self.dead,
            "deadline_ms": self.deadline_ms,
            "finalised": self.finalised,
        }
        if self.skipped:
            row["skipped"] = self.skipped
        if self.redelivered:
            row["redelivered"] = self.redelivered
        return row | {"lost": self.lost, "lost_range": self.lost_range} if self.lost else row

    def is_finalised(self, offset: int) -> bool:
        return offset < self.floor or contains(self.done, offset)

    def unfinished(self, ranges: Sequence[Sequence[int]]) -> Intervals:
        """Returns the part of these offsets that is not finalised."""
        above = difference(union(ranges, []), [[0, self.floor]])
        return difference(above, self.done)

    def taken(self) -> Intervals:
        """Returns every offset above the floor that is not free for a first delivery."""
        out = union(union(self.done, self.leased), self.dead)
        return union(out, self.retry) if self.retry else out

    # --- what polls may hand out

    def due(self, start: int, now_ms: int, count: int) -> Grants:
        """Returns up to `count` offsets to be delivered again, lowest first."""
        grants: Grants = []
        for first, stop, deliveries, not_before in self.retry:
            if not_before > now_ms or count <= 0 or stop <= start:
                continue
            first = max(first, start)
            stop = min(stop, first + count)
            grants.append([first, stop, deliveries + 1])
            count -= stop - first
        return grants

    def fresh(
        self, cursor: int, stop: int, count: int, replay_until: int, wanted: Intervals | None = None
    ) -> tuple[Grants, int]:
        """Returns up to `count` offsets for a first delivery from `cursor` on, and the cursor after them.

        Below `replay_until` finalised records are handed out too: their group asked to read them again. With `wanted`
        only those are handed out.
        """
        busy = union(union(self.leased, self.dead), [item[:2] for item in self.retry])
        free = difference([[cursor, stop]] if cursor < stop else [], busy)
        final = union([[0, self.floor]] if self.floor else [], self.done)
        hidden = difference(final, [[0, replay_until]]) if replay_until else final
        free = difference(free, hidden)
        if wanted is not None:
            free = intersection(free, wanted)
        given = take(free, count)
        exhausted = size(given) == size(free)
        after = stop if exhausted else given[-1][1] if given else cursor
        return [[first, last, 1] for first, last in given], max(cursor, after)

    def unwanted(self, cursor: int, stop: int, wanted: Intervals) -> Intervals:
        """Returns what a filter leaves out between two cursors and nobody has been given or has finished."""
        free = difference([[cursor, stop]] if cursor < stop else [], wanted)
        return self.unfinished(difference(free, self.taken())) if free else []

    # --- transitions

    def lease(self, grants: Grants, until_ms: int) -> None:
        """Withholds these offsets until they are finalised, given back, or the deadline passes."""
        if self.retry:  # else all of them are given out for the first time
            self.redelivered += sum(stop - start for start, stop, delivery in grants if delivery > 1)
        self._forget_retries(grants)
        self.leased = union(self.leased, grants)
        self.deadline_ms = until_ms if self.deadline_ms is None else min(self.deadline_ms, until_ms)

    def finalise(self, ranges: Intervals) -> int:
        """Finishes these offsets for the whole lineage; returns how many were not finished before."""
        new = self.unfinished(ranges)
        self.leased = difference(self.leased, union(ranges, []))
        self.dead = difference(self.dead, new)
        self._forget_retries(new)
        self.done = union(self.done, new)
        if self.done and self.done[0][0] <= self.floor:
            self.floor = self.done[0][1]
            self.done = self.done[1:]
        self.finalised += size(new)
        return size(new)

    def skip(self, ranges: Intervals) -> None:
        """Finishes what a filter leaves out: no delivery, but cursor and floor pass over it."""
        if ranges:
            self.skipped += self.finalise(ranges)

    def loss(self) -> dict[str, int] | None:
        """Returns how many records were lost, and between which offsets, or None."""
        if not self.lost:
            return None
        return {"records": self.lost, "first": self.lost_range[0], "last": self.lost_range[1] - 1}

    def lose(self, first: int) -> None:
        """Gives up everything before `first`, whose records are gone, and counts what of it was not finished."""
        gone = self.unfinished([[0, first]])
        self.leased = difference(self.leased, [[0, first]])  # also what was finished and is read again
        if not gone:
            return
        self.lost += self.finalise(gone)
        self.lost_range = [min([*self.lost_range[:1], gone[0][0]]), gone[-1][1]]

    def give_back(self, grants: Grants, not_before_ms: int, deliveries_max: int | None) -> Grants:
        """Ends the lease of these offsets; returns those delivered too often, now dead letters."""
        buried: Grants = []
        for start, stop, delivery in grants:
            self.leased = difference(self.leased, [[start, stop]])
            for first, last in self.unfinished([[start, stop]]):
                if deliveries_max is not None and delivery >= deliveries_max:
                    buried.append([first, last, delivery])
                    self.dead = union(self.dead, [[first, last]])
                else:
                    self.retry = sorted([*self.retry, [first, last, delivery, not_before_ms]])
        return buried

    def redrive(self, ranges: Intervals) -> int:
        """Makes dead letters deliverable again, counted from one; returns how many."""
        back = intersection(self.dead, ranges)
        self.dead = difference(self.dead, back)
        self.retry = sorted([*self.retry, *([start, stop, 0, 0] for start, stop in back)])
        return size(back)

    def _forget_retries(self, ranges: Sequence[Sequence[int]]) -> None:
        if not self.retry:
            return
        gone = union(ranges, [])
        self.retry = [
            [first, last, deliveries, not_before]
            for start, stop, deliveries, not_before in self.retry
            for first, last in difference([[start, stop]], gone)
        ]


def without(grants: Grants, ranges: Sequence[Sequence[int]]) -> Grants:
    """Returns the grants less these offsets."""
    gone = union(ranges, [])
    return [
        [first, last, delivery] for start, stop, delivery in grants for first, last in difference([[start, stop]], gone)
    ]


def within(grants: Grants, ranges: Sequence[Sequence[int]]) -> Grants:
    """Returns the part of the grants that is in these offsets."""
    kept = union(ranges, [])
    return [
        [first, last, delivery]
        for start, stop, delivery in grants
        for first, last in intersection([[start, stop]], kept)
    ]
