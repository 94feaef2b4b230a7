"""Runs of the index of ids: how they are cut into rows, and how small ones become large ones.

An item is the first 8 bytes of an id's digest and the id's number, 16 bytes. A run is a set of items, sorted, that
never changes: rows of items, whose keys hold the first item, so that the tree of the driver is the upper part of the
index; and rows of its filter. A filter is an array of cells of two 64-bit words; an item sets a few bits of the one
cell that its first 32 bits choose, in order, so that a range of cells is a range of digests.

Runs of about one size, of one tier, are merged, and a merge goes on in steps: the target holds what is below a cell of
its filter, the sources what is above, and rows that were moved whole are deleted in the same step.

Promises
- All of this is a function of the state and of the new items, so equal logs have equal rows.
- An entry moves about `MOVES` items for each new one and no more, so its work does not grow with the number of ids, and
  the number of runs that a look-up meets grows with its logarithm.
"""

from __future__ import annotations

from functools import lru_cache

from grafctl.errors import Corrupt
from grafctl.store import keys
from grafctl.store.records import digest, encode_json, parse_json
from grafctl.store.replica.state import State, Writes
from grafctl.typed import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from types import ModuleType

ITEM_BYTES = 16
PREFIX_BYTES = 8
ROW_BYTES = 4000  # of items or of a filter: with its envelope one page of LMDB
FAN_IN = 6  # runs in one merge; measured: fewer are moved more often, more make look-ups longer
MOVES = 12
SMALLEST = 64  # items of a run of the first tier; those of each tier are FAN_IN times as large as of the one before
FILTER_BITS = 20  # an item; with three bits set in each of two words, one of 1,000 foreign items passes
CELL_BYTES = 16
MIX = 0x9E3779B97F4A7C15  # odd: spreads the bits that do not choose the cell over those that choose the bits in it
FIRST_SHIFTS, SECOND_SHIFTS = (58, 52, 46), (40, 34, 28)
TAG_BYTES = 16
IDS_MAX = 1 << 48


class Run(NamedTuple):
    """A run; the tag is a hash of what it holds, so that what is kept of it in memory can be of no other."""

    number: int
    size: int
    tag: bytes

    @property
    def cells(self) -> int:
        """Returns the length of its filter."""
        return max(1, -(-self.size * FILTER_BITS // (8 * CELL_BYTES)))


class Merge(NamedTuple):
    """Runs on their way into one: the target holds the items of its first `upto` cells."""

    target: Run
    upto: int
    sources: tuple[Run, ...]

    @property
    def bound(self) -> bytes:
        """Returns the first prefix that is still in the sources alone."""
        return prefix_of(self.upto, self.target.cells) or b"\xff" * (PREFIX_BYTES + 1)


class Directory(NamedTuple):
    """Which runs there are. Ids from number `ids` on are in no run yet."""

    ids: int
    following: int  # number of the next run
    runs: tuple[Run, ...]
    merges: tuple[Merge, ...]

    def encode(self) -> bytes:
        """Returns the row."""
        merges = [[*_fields(m.target), m.upto, [_fields(run) for run in m.sources]] for m in self.merges]
        runs = [_fields(run) for run in self.runs]
        return encode_json({"ids": self.ids, "next": self.following, "runs": runs, "merges": merges})


EMPTY = Directory(0, 0, (), ())


def _fields(run: Run) -> list[Any]:
    return [run.number, run.size, run.tag.hex()]


def _run(fields: list[Any]) -> Run:
    number, size, tag = fields
    if type(number) is not int or type(size) is not int or len(tag) != 2 * TAG_BYTES:
        raise ValueError(fields)
    return Run(number, size, bytes.fromhex(tag))


def directory_of(state: State) -> Directory:
    """Returns the directory; an empty one where no run was made yet."""
    body = state.get(keys.id_directory())
    return EMPTY if body is None else _parsed(body)


@lru_cache(maxsize=16)
def _parsed(body: bytes) -> Directory:
    """The directory is read with each id that is looked for and changes with every 64th that is stored, or less."""
    row = parse_json(body)
    try:
        merges = tuple(Merge(_run(item[:3]), item[3], tuple(map(_run, item[4]))) for item in row["merges"])
        found = Directory(row["ids"], row["next"], tuple(map(_run, row["runs"])), merges)
        if _is_sound(found):
            return found
    except (ValueError, LookupError, TypeError):
        pass
    raise Corrupt("The directory of the index of ids does not hold together.", key=keys.id_directory().hex())


def _is_sound(directory: Directory) -> bool:
    """Returns whether runs and merges are what the directory's own numbers say."""
    sums = all(merge.target.size == sum(run.size for run in merge.sources) for merge in directory.merges)
    runs = [*directory.runs, *(run for merge in directory.merges for run in (merge.target, *merge.sources))]
    return (
        sums
        and sum(run.size for run in (*directory.runs, *(merge.target for merge in directory.merges))) == directory.ids
        and all(run.size > 0 and 0 <= run.number < directory.following for run in runs)
        and all(0 <= merge.upto < merge.target.cells and merge.sources for merge in directory.merges)
        and directory.ids < IDS_MAX
    )


# --- geometry


def cell_of(prefix: int, cells: int) -> int:
    """Returns which cell of a filter of so many an item belongs to."""
    return (prefix >> 32) * cells >> 32


def prefix_of(cell: int, cells: int) -> bytes | None:
    """Returns the first prefix of a cell, or None after the last cell."""
    first = -(-(cell << 32) // cells)
    return None if first >> 32 else first.to_bytes(4, "big") + bytes(4)


def mask_of(prefix: int) -> int:
    """Returns the bits that an item sets in its cell; the second word is the upper one."""
    mixed = prefix * MIX
    mask = 0
    for first, second in zip(FIRST_SHIFTS, SECOND_SHIFTS, strict=True):
        mask |= 1 << (mixed >> first & 63) | 1 << (64 + (mixed >> second & 63))
    return mask


def tier_of(size: int) -> int:
    """Returns which runs this one is merged with: those of the same number."""
    tier, most = 0, SMALLEST * FAN_IN
    while size >= most:
        tier, most = tier + 1, most * FAN_IN
    return tier


# --- rows


def sort_items(items: bytes, low: bytes = b"", stop: bytes | None = None) -> bytes:
    """Returns the items of [low, stop) sorted."""
    every = (items[at : at + ITEM_BYTES] for at in range(0, len(items), ITEM_BYTES))
    return b"".join(sorted(item for item in every if low <= item and (stop is None or item < stop)))


def filter_of(items: bytes, cells: int, start: int, stop: int) -> bytes:
    """Returns the cells [start, stop) of the filter of a run, of which these are the items."""
    found = [0] * (stop - start)
    for at in range(0, len(items), ITEM_BYTES):
        prefix = int.from_bytes(items[at : at + PREFIX_BYTES], "big")
        found[cell_of(prefix, cells) - start] |= mask_of(prefix)
    return b"".join(cell.to_bytes(CELL_BYTES, "little") for cell in found)


def _rows(run: Run, items: bytes, start: int, stop: int, bulk: ModuleType | None) -> Writes:
    """Returns the rows of a part of a run: its items, and the cells of its filter."""
    writes: Writes = []
    for at in range(0, len(items), ROW_BYTES):
        part = items[at : at + ROW_BYTES]
        writes.append((keys.id_items(run.number, part[:ITEM_BYTES]), part))
    cells = (bulk or _PLAIN).filter_of(items, run.cells, start, stop)
    for at in range(0, len(cells), ROW_BYTES):
        writes.append((keys.id_filter(run.number, start + at // CELL_BYTES), cells[at : at + ROW_BYTES]))
    return writes


class _PLAIN:
    """What `id_bulk` does for many items, for few: the same bytes, without numpy."""

    sort_items = staticmethod(sort_items)
    filter_of = staticmethod(filter_of)


# --- growing


def add_run(state: State, directory: Directory, items: bytes, bulk: ModuleType | None) -> tuple[Directory, Writes]:
    """Returns the directory with one more run, and the rows to write; merges go on, some of them end, others begin."""
    count = len(items) // ITEM_BYTES
    runs, merges, writes = _go_on(state, directory, count * MOVES, bulk)
    items = (bulk or _PLAIN).sort_items(items)
    run = Run(directory.following, count, _tag(items))
    writes += _rows(run, items, 0, run.cells, bulk)
    following = _begin(run.number + 1, [*runs, run], merges)
    found = Directory(directory.ids + count, *following)
    return found, [*writes, (keys.id_directory(), found.encode())]


def _tag(content: bytes) -> bytes:
    return digest(content)[:TAG_BYTES]


def _go_on(
    state: State, directory: Directory, moves: int, bulk: ModuleType | None
) -> tuple[list[Run], list[Merge], Writes]:
    """Takes one step in each merge, the smallest first, as long as there are moves left."""
    runs, merges, writes = list(directory.runs), [], []
    for merge in directory.merges:
        if moves <= 0:
            merges.append(merge)
            continue
        after, moved, changed = _step(state, merge, moves, bulk)
        moves -= moved
        writes += changed
        if after.upto == after.target.cells:
            runs.append(after.target)
        else:
            merges.append(after)
    return runs, merges, writes


def _begin(following: int, runs: list[Run], merges: list[Merge]) -> tuple[int, tuple[Run, ...], tuple[Merge, ...]]:
    """Begins a merge wherever there are enough runs of one tier and none of them is merged yet."""
    busy = {tier_of(merge.sources[0].size) for merge in merges}
    for tier in sorted({tier_of(run.size) for run in runs} - busy):
        sources = [run for run in runs if tier_of(run.size) == tier][:FAN_IN]
        if len(sources) == FAN_IN:
            tag = _tag(b"".join(run.tag for run in sources))
            merges.append(Merge(Run(following, sum(run.size for run in sources), tag), 0, tuple(sources)))
            following += 1
            runs = [run for run in runs if run not in sources]
    return following, tuple(runs), tuple(sorted(merges, key=lambda merge: (merge.target.size, merge.target.number)))


def _step(state: State, merge: Merge, moves: int, bulk: ModuleType | None) -> tuple[Merge, int, Writes]:
    """Moves about so many items from the sources to the target; returns the merge after it, how many, and the rows."""
    target = merge.target
    upto = min(target.cells, merge.upto + max(1, moves * target.cells // target.size))
    after = merge._replace(upto=upto)
    stop = prefix_of(upto, target.cells)
    parts: list[bytes] = []
    writes: Writes = []
    for source in merge.sources:
        for row, body in state.scan(keys.id_items_of(source.number, stop)):
            check_items(body, row)
            parts.append(body)
            if stop is None or body[-ITEM_BYTES:] < stop:  # else the rest of it is still looked for there
                writes.append((row, None))
        last = source.cells if stop is None else cell_of(int.from_bytes(stop, "big"), source.cells)
        for row, body in state.scan(keys.id_filters_of(source.number, 0, last)):
            if keys.last_u64(row) + len(body) // CELL_BYTES <= last:
                writes.append((row, None))
    low = prefix_of(merge.upto, target.cells) or b""
    items = (bulk or _PLAIN).sort_items(b"".join(parts), low, stop)
    return after, len(items) // ITEM_BYTES, [*writes, *_rows(target, items, merge.upto, upto, bulk)]


def check_items(body: bytes, row: bytes) -> None:
    """Raises `Corrupt` where a row does not hold whole items and at least one, the one that its key names."""
    if not body or len(body) % ITEM_BYTES or not row.endswith(body[:ITEM_BYTES]):
        raise Corrupt(f"Row {row.hex()} of the index of ids holds no items.", key=row.hex())


def find_items(state: State, run: int, prefix: bytes) -> list[int]:
    """Returns the numbers of the ids of a run whose digest begins so."""
    numbers: list[int] = []
    for row, body in state.scan(keys.id_items_of(run, prefix + b"\xff" * 9), reverse=True):
        check_items(body, row)
        at = body.find(prefix)
        while at >= 0:
            if at % ITEM_BYTES == 0:
                numbers.append(int.from_bytes(body[at + PREFIX_BYTES : at + ITEM_BYTES], "big"))
            at = body.find(prefix, at + 1)
        if body[:PREFIX_BYTES] != prefix:  # the rows before it hold smaller ones
            break
    return numbers
