"""Comparing two tables of a switch, key by key, from where the last comparison stopped.

Promises
- Both tables are read from the caller's domain as by `table scan`, the newest, and what was not written since it was
  compared is not read again.
- Rows that differ are read once more when all others were compared: two engines do not write at the same moment.

What a crash leaves behind: a comparison as it was kept last; the pieces that were compared since are compared again.
"""

from __future__ import annotations

from grafctl import clock
from grafctl.store.driver.kill import point
from grafctl.store.operations import tables
from grafctl.store.operations.routing import table_of
from grafctl.store.operations.switching.compared import NOW, SAVE_S, START, Comparer
from grafctl.store.operations.switching.tables import writes_of
from grafctl.store.switch_rows import RowComparison, Version, beside
from grafctl.store.switch_rules import SIDES, SOURCE, TARGET
from grafctl.table_results import Row
from grafctl.typed import Iterator, Sequence

AGAIN_ROWS = 1_000  # that are read at a time where they differed
ROWS_TOLD = 5_000


class TableComparer(Comparer):
    """The comparison of two tables."""

    _done = 0  # rows that were compared by this run

    def _compared(self, since: str | None) -> tuple[RowComparison, str | None]:
        made: RowComparison | None = self._made
        if made is None or since == START:
            made = self._made = self._taken_up(anew=since == START)
        self._done, self._saved_s = 0, clock.monotonic_s()
        is_cut = True
        while is_cut:
            is_cut = self._compare(made)
            self._look_again(made)
            if made.is_full:
                break
        if since == NOW:
            self._forgiven_ms = clock.now_ms()
            made.forgive()
        return made, made.ahead if is_cut else None

    def _table(self, side: str) -> str:
        return str(self.row[side]["resource"])

    def _taken_up(self, *, anew: bool) -> RowComparison:
        """Returns the comparison that was kept, or a new one."""
        fields, kept = self.row["compare"]["fields"], self.row["shadow"]
        if not anew and SOURCE in kept:
            return RowComparison.of(fields, kept)
        self._forgiven_ms = None
        return RowComparison(fields, table_of(self.session, self._table(SOURCE)).vshards)

    def _compare(self, made: RowComparison) -> bool:
        """Compares the pieces that were written since they were compared; returns whether it was cut short, because
        too much differs."""
        sums = {side: made.sums(writes_of(self.session, self._table(side))) for side in SIDES}
        return any(self._compare_run(made, *run, sums) for run in _runs(made.to_do(sums)))

    def _compare_run(self, made: RowComparison, first: int, stop: int, sums: dict[str, list[int]]) -> bool:
        """Compares the pieces [first, stop), which lie beside each other."""
        span = made.vshards_of(first)[0], made.vshards_of(stop - 1)[1]
        piece = first
        made.begin(piece)
        for vshard, key, source, target in beside(*(self._rows(side, span) for side in SIDES)):
            while piece < made.piece_with(vshard):
                self._end(made, piece, sums)
                piece += 1
                made.begin(piece)
            if made.is_full:
                return True
            made.pair(piece, key, source, target, clock.now_ms())
            self._done += 1
            if self._tell is not None and self._done % ROWS_TOLD == 0:
                self._tell("comparing", self._done, 0)
        for last in range(piece, stop):
            if last > piece:
                made.begin(last)
            self._end(made, last, sums)
        return False

    def _end(self, made: RowComparison, piece: int, sums: dict[str, list[int]]) -> None:
        made.end(piece, {side: sums[side][piece] for side in SIDES})
        point("comparing.fed")
        if clock.monotonic_s() - self._saved_s >= SAVE_S:
            self._kept(made, is_complete=False)
            self._saved_s = clock.monotonic_s()

    def _rows(self, side: str, span: tuple[int, int]) -> Iterator[tuple[int, bytes, Version]]:
        for rows in tables.scan_chunks(self.session, self._table(side), domain=self.domain, span=span):
            for key, value, version, vshard, *_ in rows:
                yield vshard, key, (value, version)

    def _look_again(self, made: RowComparison) -> None:
        """Pairs what differs once more."""
        keys = made.again()
        for start in range(0, len(keys), AGAIN_ROWS):
            some = keys[start : start + AGAIN_ROWS]
            source, target = (self._get(side, some) for side in (SOURCE, TARGET))
            for key, ours, theirs in zip(some, source, target, strict=True):
                made.pair(made.piece_of(key), key, _version(ours), _version(theirs), clock.now_ms())

    def _get(self, side: str, keys: Sequence[bytes]) -> list[Row | None]:
        return tables.get(self.session, self._table(side), keys, domain=self.domain)


def _version(row: Row | None) -> Version | None:
    return None if row is None else (row.value, row.version)


def _runs(pieces: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yields numbers that lie beside each other as [first, stop)."""
    first = last = -2
    for piece in pieces:
        if piece != last + 1:
            if last >= 0:
                yield first, last + 1
            first = piece
        last = piece
    if last >= 0:
        yield first, last + 1
