"""The comparison of two tables, row by row and in both directions, as a value that is fed and judged.

A row has its counterpart under the same key. Tables are compared in *pieces* of vshards, and a piece again only when
one of its two sides was written since: the number of writes of a vshard only grows. Two engines do not write at the
same moment, and a row says not when it was written, so one that differs is *open* at first and looked at again.

| counted as  | means                                                                     |
|-------------|---------------------------------------------------------------------------|
| `matched`   | it has a counterpart that is equal                                        |
| `different` | it has a counterpart, and was not equal to it for longer than the grace   |
| `missing`   | the source alone has had it for longer than the grace                     |
| `extra`     | the target alone has had it for longer than the grace                     |
| `waiting`   | it differs, is missing or extra, and was found so within the grace        |

Promises
- A row that differs already when its piece is compared for the first time is *undated*: nobody knows since when, so
  until its grace is over the comparison proves nothing. It is not where both sides have written it since.
- The counts are of what there is now: what was put right is a mismatch no longer.
- The grace of a row begins anew when both sides have written it again, `RESTARTS_MAX` times at most: so a row that is
  written all the time is judged too.
- What was forgiven (`forgive`) is no mismatch for as long as neither side writes it again.
- At most `OPEN_MAX` rows are open; a comparison that has so many is full and takes no more.
- What is kept as JSON (`as_row`) is small, and whoever goes on from it comes to the same as who never stopped.

When it fails: nothing here can; there is no I/O, no clock and no randomness.
"""

from __future__ import annotations

from base64 import b64decode, b64encode

from grafctl.store.switch_compare import (
    DIFFERENT,
    EXTRA,
    KINDS,
    MATCHED,
    MISSING_THERE,
    SAMPLES_MAX,
    SIDES,
    SOURCE,
    TARGET,
    WAITING,
)
from grafctl.store.switch_fields import content_of, difference, field
from grafctl.store.switch_match import cut
from grafctl.store.vshards import vshard_of
from grafctl.typed import Any, Iterator, Mapping, NamedTuple, Sequence

OPEN_MAX = 10_000
PIECES_MAX = 1024
RESTARTS_MAX = 3
KEY_CHARACTERS_MAX = 120
_NEVER = -1  # writes of a piece that was not compared yet

Version = tuple[bytes, int]  # what is under a key, and which write it was


class Open(NamedTuple):
    """A row that differs: since when, and which writes of it were seen; 0 where a side has no such row."""

    kind: str
    source: int
    target: int
    since_ms: int
    restarts: int = 0
    is_forgiven: bool = False
    is_undated: bool = False


class RowComparison:
    """How far two tables were compared, and what came out."""

    def __init__(self, fields: Sequence[str], vshards: int) -> None:
        self.fields = [field(text) for text in fields]
        self.vshards = vshards
        self.pieces = min(vshards, PIECES_MAX)
        self.writes = {side: [_NEVER] * self.pieces for side in SIDES}  # of a piece, when it was compared
        self.matched = [0] * self.pieces
        self.open: dict[bytes, Open] = {}
        self.details: dict[bytes, dict[str, str]] = {}  # what differs, of some of those that are open
        self._open_of: dict[int, set[bytes]] = {}  # the open keys of a piece
        self._met: set[bytes] = set()  # open keys of the piece that is being compared
        self._is_first = False  # that piece was never compared to its end

    # --- pieces

    def piece_of(self, key: bytes) -> int:
        return self.piece_with(vshard_of(key, self.vshards))

    def piece_with(self, vshard: int) -> int:
        """Returns the piece that a vshard belongs to."""
        return vshard * self.pieces // self.vshards

    def vshards_of(self, piece: int) -> tuple[int, int]:
        """Returns the vshards [first, stop) of a piece."""
        return -(-piece * self.vshards // self.pieces), -(-(piece + 1) * self.vshards // self.pieces)

    def sums(self, writes: Mapping[int, int]) -> list[int]:
        """Returns how many writes each piece has had, of the writes of each vshard."""
        found = [0] * self.pieces
        for vshard, count in writes.items():
            found[self.piece_with(vshard)] += count
        return found

    def to_do(self, sums: Mapping[str, Sequence[int]]) -> list[int]:
        """Returns the pieces that were written since they were compared."""
        return [
            piece
            for piece in range(self.pieces)
            if any(sums[side][piece] != self.writes[side][piece] for side in SIDES)
        ]

    def begin(self, piece: int) -> None:
        """Begins to compare a piece; until `end` it counts as never compared."""
        self._is_first = self.writes[SOURCE][piece] == _NEVER
        self.matched[piece] = 0
        for side in SIDES:
            self.writes[side][piece] = _NEVER
        self._met.clear()

    def end(self, piece: int, writes: Mapping[str, int]) -> None:
        """Says that a piece was compared whole, and how many writes it had had before that began."""
        for key in self._open_of.get(piece, set()) - self._met:
            self._close(piece, key)
        for side in SIDES:
            self.writes[side][piece] = writes[side]

    @property
    def is_full(self) -> bool:
        return len(self.open) >= OPEN_MAX

    @property
    def ahead(self) -> str:
        """Returns the side that has more rows alone."""
        extra = sum(item.kind == EXTRA for item in self.open.values())
        return TARGET if extra > sum(item.kind == MISSING_THERE for item in self.open.values()) else SOURCE

    # --- rows

    def pair(self, piece: int, key: bytes, source: Version | None, target: Version | None, now_ms: int) -> None:
        """Takes in what both sides have under a key of a piece; nothing where neither has it."""
        if source is None or target is None:
            if source is None and target is None:
                self._close(piece, key)
            else:
                self._note(piece, key, EXTRA if source is None else MISSING_THERE, source, target, now_ms)
            return
        found = None
        if self.fields or source[0] != target[0]:
            ours, theirs = (content_of(self.fields, side[0], None) for side in (source, target))
            found = difference(self.fields, ours, theirs)
        if found is None:
            self._close(piece, key)
            self.matched[piece] += 1
            return
        values = {"field": found.field, "source_value": found.source, "target_value": found.target}
        self._note(piece, key, DIFFERENT, source, target, now_ms, values)

    def again(self) -> list[bytes]:
        """Returns the keys that are open; each is to be paired once more, when all pieces were compared."""
        return list(self.open)

    def _close(self, piece: int, key: bytes) -> None:
        if self.open.pop(key, None) is not None:
            self._open_of[piece].discard(key)
        self.details.pop(key, None)

    def _note(
        self,
        piece: int,
        key: bytes,
        kind: str,
        source: Version | None,
        target: Version | None,
        now_ms: int,
        values: dict[str, str] | None = None,
    ) -> None:
        ours, theirs = source[1] if source else 0, target[1] if target else 0
        before = self.open.get(key)
        made = Open(kind, ours, theirs, now_ms, is_undated=self._is_first)
        if before is not None:
            is_same = (before.source, before.target) == (ours, theirs)
            restarts = before.source != ours and before.target != theirs and before.restarts < RESTARTS_MAX
            since_ms = now_ms if restarts else before.since_ms
            how = (before.restarts + restarts, before.is_forgiven and is_same, before.is_undated and not restarts)
            made = Open(kind, ours, theirs, since_ms, *how)
        self.open[key] = made
        self._open_of.setdefault(piece, set()).add(key)
        self._met.add(key)
        alike = sum(self.open[other].kind == kind for other in self.details if other != key)
        if values is not None and alike < SAMPLES_MAX:
            self.details[key] = values
        else:
            self.details.pop(key, None)

    def forgive(self) -> None:
        """Lets go of what differs now."""
        self.open = {key: item._replace(is_forgiven=True) for key, item in self.open.items()}

    # --- judging

    def judge(self, now_ms: int, grace_ms: int) -> dict[str, int]:
        """Returns how many rows are what, at a time."""
        counts = dict.fromkeys(KINDS, 0)
        counts[MATCHED] = sum(self.matched)
        for kind in self._kinds(now_ms, grace_ms).values():
            counts[kind] += 1
        return counts

    def _kinds(self, now_ms: int, grace_ms: int) -> dict[bytes, str]:
        return {
            key: item.kind if now_ms - item.since_ms >= grace_ms else WAITING
            for key, item in self.open.items()
            if not item.is_forgiven
        }

    def undated(self, now_ms: int, grace_ms: int) -> int:
        """Returns how many rows wait of which nobody knows since when they differ."""
        kinds = self._kinds(now_ms, grace_ms)
        return sum(kind == WAITING and self.open[key].is_undated for key, kind in kinds.items())

    def not_compared(self) -> int:
        """Returns how many rows were forgiven."""
        return sum(item.is_forgiven for item in self.open.values())

    def named(self, now_ms: int, grace_ms: int) -> list[dict[str, Any]]:
        """Returns samples of the mismatches, of each kind in turn."""
        by_kind: dict[str, list[bytes]] = {}
        for key, kind in self._kinds(now_ms, grace_ms).items():
            if kind != WAITING and len(found := by_kind.setdefault(kind, [])) < SAMPLES_MAX:
                found.append(key)
        turns = (keys[place] for place in range(SAMPLES_MAX) for keys in by_kind.values() if place < len(keys))
        return [self._sample(key) for key, _ in zip(turns, range(SAMPLES_MAX), strict=False)]

    def _sample(self, key: bytes) -> dict[str, Any]:
        item = self.open[key]
        text = cut(key.decode(errors="backslashreplace"), KEY_CHARACTERS_MAX)
        where = {SOURCE: item.source or None, TARGET: item.target or None}
        return {"kind": item.kind, "match_key": text, **where, **self.details.get(key, {})}

    # --- what is kept

    def as_row(self) -> dict[str, Any]:
        """Returns the comparison as JSON."""
        rows = [[b64encode(key).decode(), *item[:5], *map(int, item[5:])] for key, item in self.open.items()]
        details = {b64encode(key).decode(): values for key, values in self.details.items()}
        return {"vshards": self.vshards, **self.writes, "rows": self.matched, "open": rows, "details": details}

    @staticmethod
    def of(fields: Sequence[str], row: Mapping[str, Any]) -> RowComparison:
        """Returns the comparison that `as_row` gave."""
        made = RowComparison(fields, row["vshards"])
        made.writes = {side: list(row[side]) for side in SIDES}
        made.matched = list(row["rows"])
        for key, kind, source, target, since_ms, restarts, *flags in row["open"]:
            name = b64decode(key)
            made._open_of.setdefault(made.piece_of(name), set()).add(name)
            made.open[name] = Open(kind, source, target, since_ms, restarts, *map(bool, flags))
        made.details = {b64decode(key): dict(values) for key, values in row["details"].items()}
        return made


def beside(
    source: Iterator[tuple[int, bytes, Version]], target: Iterator[tuple[int, bytes, Version]]
) -> Iterator[tuple[int, bytes, Version | None, Version | None]]:
    """Yields the rows of two tables beside each other, of two that come by vshard and then by key."""
    ours, theirs = next(source, None), next(target, None)
    while ours is not None or theirs is not None:
        if theirs is None or (ours is not None and ours[:2] < theirs[:2]):
            assert ours is not None
            yield *ours, None
            ours = next(source, None)
        elif ours is None or theirs[:2] < ours[:2]:
            yield theirs[0], theirs[1], None, theirs[2]
            theirs = next(target, None)
        else:
            yield *ours, theirs[2]
            ours, theirs = next(source, None), next(target, None)
