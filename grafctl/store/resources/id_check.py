"""What is wrong with an index of ids, by reading all of it: for `verify`.

Promises
- Each record must be found: by an item of one run, which passes the run's filter. A record, an item or a part of a
  filter that is missing or doubled is reported, whatever its checksum says.
- Memory does not grow with the number of ids, but for the filter of one run at a time.
"""

from __future__ import annotations

from grafctl.store import keys
from grafctl.store.replica.state import State
from grafctl.store.resources import id_bulk
from grafctl.store.resources.id_filters import Filter, Span, spans
from grafctl.store.resources.id_runs import ITEM_BYTES, Directory, check_items, directory_of
from grafctl.store.resources.ids import RECORD_BYTES
from grafctl.typed import Iterator


def problems(state: State) -> Iterator[str]:
    """Yields what does not fit together; raises `Corrupt` where a row cannot be read."""
    directory = directory_of(state)
    records = _Sum()
    yield from _record_problems(state, directory, records)
    items = _Sum()
    lows = {run.number: merge.bound for merge in directory.merges for run in merge.sources}
    for span in spans(directory):
        count = items.count
        yield from _run_problems(state, span, lows.get(span.run.number, b""), items)
        if span.low == 0 and span.high == span.run.cells and items.count - count != span.run.size:
            yield f"run {span.run.number} of its ids holds {items.count - count} of {span.run.size} items"
    if (records.count, records.value) != (items.count, items.value):
        yield f"its index of ids has {items.count} items for {records.count} records, or others than these"


class _Sum:
    """A sum over items that does not depend on their order."""

    def __init__(self) -> None:
        self.count = self.value = 0

    def add(self, items: bytes) -> None:
        self.count += len(items) // ITEM_BYTES
        self.value = (self.value + id_bulk.fold(items)) % (1 << 64)


def _record_problems(state: State, directory: Directory, records: _Sum) -> Iterator[str]:
    following = 0
    for row, body in state.scan(keys.id_records_from(0)):
        number = keys.last_u64(row)
        if number != following or not body or len(body) % RECORD_BYTES:
            yield f"ids {following} to {number} of its index are not there, or not whole"
        following = number + len(body) // RECORD_BYTES
        if number < directory.ids and body:
            records.add(id_bulk.make_items(body[: len(body) // RECORD_BYTES * RECORD_BYTES], number))
    if following < directory.ids:
        yield f"ids {following} to {directory.ids} of its index are not there"


def _run_problems(state: State, span: Span, low: bytes, items: _Sum) -> Iterator[str]:
    name = f"run {span.run.number} of its ids"
    held = Filter(span.run.cells)
    if not held.read(state, span):
        yield f"the filter of {name} has gaps"
        return
    before, hidden = b"", 0
    for row, body in state.scan(keys.id_items_of(span.run.number)):
        check_items(body, row)
        if body != id_bulk.sort_items(body) or body[:ITEM_BYTES] <= before:
            yield f"{name} is not in order at {row.hex()}"
        before = body[-ITEM_BYTES:]
        mine = id_bulk.sort_items(body, low)
        items.add(mine)
        places = len(mine) // ITEM_BYTES
        hidden += places - len(id_bulk.Probe([mine], places).pass_filter(held, span.run.cells)) if mine else 0
    if hidden:
        yield f"the filter of {name} hides {hidden} of its items"
