"""Comparing two queues or topics of a switch, in the caller's domain, from where the last comparison stopped.

Promises
- Each batch passes the gate of its group from the caller's domain, and is read from that domain's own bytes as they are
  committed; what the group's filter leaves out is left out.
- It reads up to where the outputs end when it begins.
- Both outputs are compared from the first record that they keep. What retention took before is not compared, and nor is
  what the other side has of that time: it says how many.
- A side that is far ahead waits for the other one. Where the other one has no more, the outputs have drifted apart:
  that is said, and such a comparison is not complete.

What a crash leaves behind: a comparison as it was kept last, with its counts; the rest is read again.
"""

from __future__ import annotations

from functools import partial

from grafctl import clock
from grafctl.errors import Corrupt, Damaged, told
from grafctl.store import filters
from grafctl.store.authority import COMPARE, Asked, Placement
from grafctl.store.blocks import Columns
from grafctl.store.checked import checked
from grafctl.store.committed import Committed
from grafctl.store.driver.kill import point
from grafctl.store.intervals import Intervals, intersection, union
from grafctl.store.log import Log
from grafctl.store.operations.filtering import lagging
from grafctl.store.operations.polling import pass_local_gate
from grafctl.store.operations.switching.compared import NOW, SAVE_S, START, Comparer
from grafctl.store.reading import block_refs
from grafctl.store.replica.replica import Replica
from grafctl.store.replica.state import State
from grafctl.store.resources.group import ALL, group_row
from grafctl.store.resources.queue import records_row
from grafctl.store.resources.starts import first_since
from grafctl.store.switch_compare import SIDES, SOURCE, TARGET, Comparison
from grafctl.typed import Any, Iterator, Mapping, NamedTuple

BATCH_RECORDS = 2_000
BATCH_BYTES = 4 << 20
SETTLE_S = 2.0


class Output(NamedTuple):
    """One side as it was found when the comparison began."""

    side: str
    resource: str
    group: str
    log: Log
    filter: str | None
    first: int  # what retention has left begins here
    end: int


class Chunk(NamedTuple):
    """Some records that were published together."""

    first: int
    columns: Columns
    ms: int


class RecordComparer(Comparer):
    """The comparison of two queues or topics."""

    def _compared(self, since: str | None) -> tuple[Comparison, str | None]:
        outputs = {side: self._look(side) for side in SIDES}
        made: Comparison | None = self._made
        if made is None or since == START:
            made = self._taken_up(outputs, anew=since == START)
        for side, output in outputs.items():
            made.gone(side, output.first)
        self._made = made
        if since == NOW:
            self._forgiven_ms = clock.now_ms()
            made.forgive({side: output.end for side, output in outputs.items()})
        return made, self._read(made, outputs)

    # --- both sides

    def _look(self, side: str) -> Output:
        """Returns one side as it is now; raises the refusal of the gate."""
        place = self.row[side]
        log = self.session.resource(place["resource"])
        look = partial(self._passed, place["resource"], place["group"])
        queue, group = checked(log, look, self.domain, newest=True)
        wanted = group.get("filter")
        ends = (int(queue["first"]), int(queue["next"]))
        return Output(side, place["resource"], place["group"], log, None if wanted == ALL else wanted, *ends)

    def _excused(self, outputs: Mapping[str, Output]) -> dict[str, int]:
        """Returns before which offset each side has records whose counterparts retention may have taken."""
        found = dict.fromkeys(SIDES, 0)
        for side, there in ((SOURCE, outputs[TARGET]), (TARGET, outputs[SOURCE])):
            if there.first == 0:
                continue
            here = outputs[side]
            since = checked(there.log, partial(_published_ms, there.resource))
            if since is None:  # nothing is left there
                found[side] = here.end
                continue
            look = partial(_first_after, here.resource, since + self.grace_ms)
            found[side] = checked(here.log, look, newest=True)
        return found

    def _passed(self, resource: str, group: str, state: State) -> tuple[dict[str, Any], dict[str, Any]]:
        queue, row = records_row(state, resource), group_row(state, resource, group)
        asked = Asked(COMPARE, resource, self.domain, group, None, self.session.cluster.knows(self.domain))
        pass_local_gate(self.session, state, asked, Placement.of(row), ())
        return queue, row

    def _taken_up(self, outputs: Mapping[str, Output], *, anew: bool) -> Comparison:
        """Returns the comparison that was kept, with what it has to read again; or a new one."""
        match, fields, kept = self.row["match"], self.row["compare"]["fields"], self.row["shadow"]
        if anew or SOURCE not in kept:
            self._forgiven_ms = None
            made = Comparison(match, fields, dict.fromkeys(SIDES, 0))
            for side, stop in self._excused(outputs).items():
                made.excuse(side, stop)
            return made
        made = Comparison.of(match, fields, kept)
        for side, output in outputs.items():
            for start, stop in made.again(side):
                for chunk in self._all(output, max(start, output.first), min(stop, output.end)):
                    for offset, record in _records(chunk, self._wanted(output, chunk)):
                        made.recall(side, offset, record[0], record[1], record[2], chunk.ms)
        return made

    def _read(self, made: Comparison, outputs: Mapping[str, Output]) -> str | None:
        """Feeds both sides in turns up to their ends; returns the side that is too far ahead, or None."""
        total = sum(max(0, output.end - made.sides[side].next) for side, output in outputs.items())
        done, saved_s = 0, clock.monotonic_s()
        while True:
            left = [side for side in SIDES if made.sides[side].next < outputs[side].end]
            ready = [side for side in left if not made.is_full(side)]
            if not ready:
                return left[0] if left else None
            side = min(ready, key=lambda name: len(made.sides[name].open))
            before = made.sides[side].next
            self._feed(made, outputs[side])
            done += made.sides[side].next - before
            if self._tell is not None:
                self._tell("comparing", done, total)
            point("comparing.fed")
            if clock.monotonic_s() - saved_s >= SAVE_S:
                self._kept(made, is_complete=False)
                saved_s = clock.monotonic_s()

    def _feed(self, made: Comparison, output: Output) -> None:
        """Feeds one batch of a side."""
        one, side = made.sides[output.side], output.side
        for chunk in self._batch(output, one.next, output.end):
            made.gone(side, chunk.first)  # retention was quicker
            for offset, record in _records(chunk, self._wanted(output, chunk)):
                if made.is_full(side):
                    return
                made.leave_out(side, offset)
                made.feed(side, offset, record[0], record[1], record[2], chunk.ms)
            made.leave_out(side, chunk.first + len(chunk.columns.payloads))

    # --- reading

    def _wanted(self, output: Output, chunk: Chunk) -> Intervals | None:
        """Returns which records of a chunk the group wants, or None for all of them."""
        return None if output.filter is None else filters.matched(output.filter, chunk.first, chunk.columns)

    def _all(self, output: Output, start: int, stop: int) -> Iterator[Chunk]:
        """Yields the records of [start, stop), a batch at a time."""
        while start < stop:
            chunks = self._batch(output, start, stop)
            yield from chunks
            start = chunks[-1].first + len(chunks[-1].columns.payloads)

    def _batch(self, output: Output, start: int, stop: int) -> list[Chunk]:
        """Returns the next records from `start` on, some at least."""
        found = self._look_up(output, start, stop)
        if not found:
            output.log.settle(deadline_s=SETTLE_S)
            found = self._look_up(output, start, stop)
        if not found:
            raise lagging(self.domain, "it has not received what is committed")
        return found

    def _look_up(self, output: Output, start: int, stop: int) -> list[Chunk]:
        """Returns what the caller's domain shows, nothing where it lags behind."""
        try:
            with output.log.view(prefer=self.domain) as committed:
                self._passed(output.resource, output.group, committed.state)
                if committed.domain != self.domain:
                    error = committed.found.errors.get(self.domain)
                    if isinstance(error, Damaged):
                        raise told(error)
                    return []
                return self._chunks(output, committed, start, stop)
        except Corrupt as error:
            error.fields.setdefault("domain", self.domain)
            raise

    def _chunks(self, output: Output, committed: Committed, start: int, stop: int) -> list[Chunk]:
        replica = Replica(committed.view, output.log.id, committed.domain)
        found, records, size = list[Chunk](), 0, 0
        for ref in block_refs(committed.state, start, stop):
            columns = self.session.held.unpacked(replica, ref)
            first, last = max(start, ref.first), min(stop, ref.first + ref.records)
            if last - first < ref.records:
                columns = columns.cut(first - ref.first, last - ref.first)
            found.append(Chunk(first, columns, ref.ms))
            records, size = records + last - first, size + ref.bytes
            if records >= BATCH_RECORDS or size >= BATCH_BYTES:
                break
        return found


def _published_ms(resource: str, state: State) -> int | None:
    """Returns when the first record that a resource keeps was published, or None where it keeps none."""
    queue = records_row(state, resource)
    ref = next(block_refs(state, queue["first"], queue["next"]), None)
    return None if ref is None else ref.ms


def _first_after(resource: str, ms: int, state: State) -> int:
    """Returns the first offset that was published after a time."""
    queue = records_row(state, resource)
    return first_since(state, queue["first"], queue["next"], ms + 1)


def _records(chunk: Chunk, wanted: Intervals | None) -> Iterator[tuple[int, tuple[bytes, str | None, str | None, Any]]]:
    """Yields the records of a chunk that are wanted, with their offsets."""
    whole = [[chunk.first, chunk.first + len(chunk.columns.payloads)]]
    rows = list(zip(*chunk.columns, strict=True))
    for start, stop in whole if wanted is None else intersection(union(wanted, []), whole):
        for offset in range(start, stop):
            yield offset, rows[offset - chunk.first]
