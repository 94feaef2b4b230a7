"""The comparison of two outputs, record by record and in both directions, as a value that is fed and judged.

Each side is fed in the order of its offsets; how the two sides take turns changes nothing. The n-th record of one side
with a match key is the counterpart of the n-th one of the other side with it.

| counted as  | means                                                                              |
|-------------|------------------------------------------------------------------------------------|
| `matched`   | it has a counterpart that is equal                                                 |
| `different` | it has a counterpart that is not equal                                             |
| `missing`   | a record of the source that has no counterpart, and is older than the grace        |
| `extra`     | a record of the target that has no counterpart, and is older than the grace        |
| `waiting`   | a record of either side that has no counterpart yet, and is younger than the grace |
| `repeated`  | a record whose match key one of the `WINDOW` records before it on its side has too |
| `unmatched` | a record without a match key                                                       |

Promises
- A record that has no counterpart stays open: when the counterpart comes late, it is missing no longer.
- Open records of a side are at most `OPEN_MAX`; a side that has so many takes no more (`is_full`) until some are
  paired: then the outputs have drifted too far apart to be compared.
- What was forgiven (`forgive`) is no mismatch any more, whatever is found out about it; it may still be a counterpart.
- What one side lost to retention before the comparison began is no mismatch of the other side (`excuse`).
- What is kept as JSON (`as_row`) is small: counts, samples, and of each side where it is and which offsets are open.
  Whoever goes on reads those again (`again`), and comes to the same as who never stopped.
- At most `SAMPLES_MAX` records are named, and nothing of them at length.

When it fails: nothing here can; there is no I/O, no clock and no randomness. What retention took before its counterpart
came can be compared no more; it counts as missing or extra for good.
"""

from __future__ import annotations

from itertools import islice

from grafctl.expression.paths import MISSING
from grafctl.expression.values import decode_exact
from grafctl.store.intervals import Intervals, from_offsets, offsets, union
from grafctl.store.switch_fields import Content, content_of, difference, field
from grafctl.store.switch_match import ID, JSON, MatchKey, match_key
from grafctl.typed import Any, Iterator, Mapping, NamedTuple, Sequence

SOURCE, TARGET = "source", "target"
SIDES = (SOURCE, TARGET)
OPEN_MAX = 10_000
WINDOW = 20_000
SAMPLES_MAX = 20

MATCHED, MISSING_THERE, EXTRA, DIFFERENT = "matched", "missing", "extra", "different"
REPEATED, UNMATCHED, WAITING = "repeated", "unmatched", "waiting"
MISMATCHES = (MISSING_THERE, EXTRA, DIFFERENT, REPEATED, UNMATCHED)
KINDS = (MATCHED, *MISMATCHES, WAITING)
_KEPT = (MATCHED, DIFFERENT, REPEATED, UNMATCHED, "gone_source", "gone_target", "left_out", "not_compared")


class Open(NamedTuple):
    """A record that has no counterpart yet."""

    key: MatchKey
    ms: int  # when it was published
    content: Content


class Side:
    """How far one output was read, and which of its records are open."""

    __slots__ = ("by_key", "excused", "forgiven", "next", "open", "seen")

    def __init__(self, start: int, open_offsets: Sequence[int] = (), forgiven: int = 0, excused: int = 0) -> None:
        self.next = start
        self.forgiven = forgiven  # what lies before is no mismatch
        self.excused = excused  # what lies before may have lost its counterpart to retention
        self.open: dict[int, Open | None] = dict.fromkeys(open_offsets)  # None: not read again yet
        self.by_key: dict[bytes, list[int]] = {}
        self.seen: dict[bytes, int] = {}  # match keys of the last records, with their last offset, in that order

    @property
    def floor(self) -> int:
        """Returns the lowest offset that is open or was not read."""
        return next(iter(self.open), self.next)  # they come in order

    @property
    def judged_from(self) -> int:
        """Returns from which offset on a record without a counterpart is a mismatch."""
        return max(self.forgiven, self.excused)


class Comparison:
    """How far two outputs were compared, and what came out."""

    def __init__(self, match: str, fields: Sequence[str], starts: Mapping[str, int], *, window: int = WINDOW) -> None:
        self.match = match
        self.fields = [field(text) for text in fields]
        # Ids are held apart by the output itself.
        self.window = 0 if match == ID else window
        self.sides = {side: Side(starts[side]) for side in SIDES}
        self.counts = dict.fromkeys(_KEPT, 0)
        self.samples: list[dict[str, Any]] = []

    @staticmethod
    def of(match: str, fields: Sequence[str], row: Mapping[str, Any], *, window: int = WINDOW) -> Comparison:
        """Returns the comparison that `as_row` gave; what `again` names is to be recalled before more is fed."""
        made = Comparison(match, fields, {side: row[side]["next"] for side in SIDES}, window=window)
        for side in SIDES:
            kept = row[side]
            more = (kept.get("forgiven", 0), kept.get("excused", 0))
            made.sides[side] = Side(kept["next"], offsets(_unpacked(kept["open"])), *more)
        made.counts |= {name: row.get(name, 0) for name in _KEPT}
        found = [dict(sample) for sample in row["samples"]]
        made.samples = [sample for sample in found if sample["kind"] not in (MISSING_THERE, EXTRA)]  # may have come
        return made

    def as_row(self) -> dict[str, Any]:
        """Returns what is kept."""
        row: dict[str, Any] = {
            name: {"next": side.next, "open": _packed(from_offsets(side.open))}
            | {field: at for field, at in (("forgiven", side.forgiven), ("excused", side.excused)) if at}
            for name, side in self.sides.items()
        }
        row |= {name: count for name, count in self.counts.items() if count}
        return row | {"samples": self.samples}

    def forgive(self, stops: Mapping[str, int]) -> None:
        """Begins to count anew, with the records of each side from its stop on."""
        self.counts = dict.fromkeys(_KEPT, 0)
        self.samples = []
        for name, side in self.sides.items():
            side.forgiven = stops[name]

    def excuse(self, side: str, stop: int) -> None:
        """Says that the other side may have lost the counterparts of what a side has before `stop`."""
        self.sides[side].excused = max(self.sides[side].excused, stop)

    # --- reading again what was read before

    def again(self, side: str) -> Intervals:
        """Returns the offsets that are to be recalled, in order, by who goes on with a comparison that was kept."""
        one = self.sides[side]
        near = [[max(0, one.next - self.window), one.next]] if self.window else []
        return union(from_offsets(one.open), near)

    def recall(self, side: str, offset: int, payload: bytes, id: str | None, key: str | None, ms: int) -> None:
        """Takes in a record that was judged before, or is still open."""
        one = self.sides[side]
        value = self._value(payload)
        known = match_key(self.match, payload, id, key, value)
        if known.hash:
            self._is_repeated(one, offset, known.hash)
        if offset in one.open:
            one.open[offset] = Open(known, ms, content_of(self.fields, payload, key, value))
            one.by_key.setdefault(known.hash, []).append(offset)

    def gone(self, side: str, first: int) -> None:
        """Says that a side holds nothing before `first` any more: what was open there can be compared no longer."""
        one = self.sides[side]
        for offset in [offset for offset, held in one.open.items() if held is None and offset < first]:
            del one.open[offset]
            self.counts[f"gone_{side}" if offset >= one.judged_from else "not_compared"] += 1
        if one.next < first:
            self.counts["not_compared"] += max(0, first - max(one.next, one.forgiven))
            one.next = first

    # --- feeding

    def is_full(self, side: str) -> bool:
        """Returns whether a side has as many open records as may be."""
        one = self.sides[side]
        return len(one.open) >= OPEN_MAX and one.floor >= one.judged_from

    def leave_out(self, side: str, stop: int) -> None:
        """Passes over what a group does not want, up to `stop`."""
        self.counts["left_out"] += stop - self.sides[side].next
        self.sides[side].next = stop

    def feed(self, side: str, offset: int, payload: bytes, id: str | None, key: str | None, ms: int) -> None:
        """Takes in the next record of a side."""
        one, value = self.sides[side], self._value(payload)
        one.next = offset + 1
        known = match_key(self.match, payload, id, key, value)
        if not known.hash:
            self._count(UNMATCHED, "", {side: offset}, why=known.text)
            return
        if self._is_repeated(one, offset, known.hash):
            self._count(REPEATED, known.text, {side: offset})
            return
        mine = Open(known, ms, content_of(self.fields, payload, key, value))
        there = self.sides[TARGET if side == SOURCE else SOURCE]
        waiting = there.by_key.get(known.hash)
        if not waiting:
            if len(one.open) >= OPEN_MAX and one.floor < one.judged_from:
                self._drop_oldest(one)
            one.open[offset] = mine
            one.by_key.setdefault(known.hash, []).append(offset)
            return
        found = waiting.pop(0)
        if not waiting:
            del there.by_key[known.hash]
        theirs = there.open.pop(found)
        assert theirs is not None
        if side == SOURCE:
            self._pair({SOURCE: offset, TARGET: found}, mine, theirs)
        else:
            self._pair({SOURCE: found, TARGET: offset}, theirs, mine)

    def _drop_oldest(self, one: Side) -> None:
        """Makes room by letting go of what is oldest."""
        oldest = next(iter(one.open))
        item = one.open.pop(oldest)
        if item is not None:
            one.by_key[item.key.hash].remove(oldest)
        self.counts["not_compared"] += 1

    def _value(self, payload: bytes) -> Any:
        """Returns the payload's value where more than one thing is looked up in it."""
        if not self.fields or not self.match.startswith(JSON):
            return MISSING
        try:
            return decode_exact(payload)
        except ValueError:
            return MISSING

    def _is_repeated(self, one: Side, offset: int, hash: bytes) -> bool:
        if not self.window:
            return False
        last = one.seen.pop(hash, None)
        one.seen[hash] = offset
        for oldest in [*islice(one.seen, 2)]:
            if one.seen[oldest] < offset - self.window:  # one is added at a time, so they never become many
                del one.seen[oldest]
        return last is not None and offset - last <= self.window

    def _pair(self, where: Mapping[str, int], source: Open, target: Open) -> None:
        found = difference(self.fields, source.content, target.content)
        if found is None:
            self.counts[MATCHED] += 1
            return
        values = {"field": found.field, "source_value": found.source, "target_value": found.target}
        self._count(DIFFERENT, source.key.text, where, **values)

    def _count(self, kind: str, text: str, where: Mapping[str, int], **more: Any) -> None:
        if all(offset >= self.sides[side].forgiven for side, offset in where.items()):
            self.counts[kind] += 1
            self._name(kind, text, where, **more)

    def _name(self, kind: str, text: str, where: Mapping[str, int], **more: Any) -> None:
        """Keeps a sample; where there are enough, a kind that few are of takes the place of one that many are of."""
        if len(self.samples) >= SAMPLES_MAX:
            kinds = [sample["kind"] for sample in self.samples]
            most = max(kinds, key=kinds.count)
            if kinds.count(kind) + 1 >= kinds.count(most):
                return
            del self.samples[len(kinds) - 1 - kinds[::-1].index(most)]
        self.samples.append(_sample(kind, text, where, **more))

    # --- judging

    def judge(self, now_ms: int, grace_ms: int) -> dict[str, int]:
        """Returns how many records are what, at a time."""
        old = {side: sum(1 for _ in self._old(side, now_ms - grace_ms)) for side in SIDES}
        young = sum(1 for one in self.sides.values() for offset in one.open if offset >= one.judged_from)
        counts = {name: self.counts[name] for name in (MATCHED, DIFFERENT, REPEATED, UNMATCHED)}
        counts |= {MISSING_THERE: self.counts["gone_source"] + old[SOURCE]}
        counts |= {EXTRA: self.counts["gone_target"] + old[TARGET]}
        counts |= {WAITING: young - sum(old.values())}
        return {kind: counts[kind] for kind in KINDS}

    def undated(self, now_ms: int, grace_ms: int) -> int:
        """Returns 0: each record says when it was published."""
        return 0

    def not_compared(self) -> int:
        """Returns how many records have no counterpart that could be looked at: gone, forgiven or excused."""
        idle = sum(1 for one in self.sides.values() for offset in one.open if offset < one.judged_from)
        return self.counts["not_compared"] + idle

    def named(self, now_ms: int, grace_ms: int) -> list[dict[str, Any]]:
        """Returns samples of each kind of mismatch: what is open and old now, and what was found before."""
        kept, self.samples = self.samples, list(self.samples)
        try:
            for side, kind in ((SOURCE, MISSING_THERE), (TARGET, EXTRA)):
                for _, (offset, item) in zip(range(SAMPLES_MAX), self._old(side, now_ms - grace_ms), strict=False):
                    self._name(kind, item.key.text if item else "", {side: offset})
            return self.samples
        finally:
            self.samples = kept

    def _old(self, side: str, until_ms: int) -> Iterator[tuple[int, Open | None]]:
        one = self.sides[side]
        for offset, item in one.open.items():
            if offset >= one.judged_from and (item is None or item.ms <= until_ms):
                yield offset, item


def mismatches(counts: Mapping[str, int]) -> int:
    """Returns how many records are as they must not be."""
    return sum(counts[kind] for kind in MISMATCHES)


def _sample(kind: str, text: str, where: Mapping[str, int], **more: Any) -> dict[str, Any]:
    return {"kind": kind, "match_key": text, **{side: where.get(side) for side in SIDES}, **more}


def _packed(intervals: Intervals) -> list[int]:
    """Returns intervals as distances, which are short where many lie beside each other."""
    flat, at = list[int](), 0
    for start, stop in intervals:
        flat += [start - at, stop - start]
        at = stop
    return flat


def _unpacked(flat: Sequence[int]) -> Intervals:
    found, at = Intervals(), 0
    for gap, length in zip(flat[::2], flat[1::2], strict=True):
        found.append([at + gap, at + gap + length])
        at += gap + length
    return found
