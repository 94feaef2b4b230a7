"""Looking a table's log over: what its rows say of each other, found by reading alone.

Promises
- A vshard that is in use counts exactly the rows and bytes it has, and none of them has a version that it has not given
  away yet, the version of another key, or a key of another vshard. A copy that is being dropped may count more.
- A migration and a way back belong to a vshard in a state that has them, and what of the log they need is there.
"""

from __future__ import annotations

from grafctl.store import keys, vshard_keys
from grafctl.store.keys import U64
from grafctl.store.records import parse_json
from grafctl.store.replica.state import State
from grafctl.store.resources.table import KIND, MOVED, OPEN, PART, READY, RECEIVING, RETIRED, SEALED, vshard_row
from grafctl.store.vshards import vshard_of
from grafctl.typed import Any, Iterator, Mapping

NEEDS = {
    OPEN: (),
    SEALED: ("token", "until", "budget"),
    MOVED: ("to", "token"),
    RETIRED: ("to",),
    RECEIVING: ("from",),
    READY: ("from", "token"),
}
COUNTS = ("generation", "seq", "records", "bytes")
SHOWN = 10  # problems of one kind of row in one vshard


def problems(state: State, floor: int = 0) -> Iterator[str]:
    """Yields what does not fit together; `floor` is the first entry that the log still has."""
    definition = state.get_json(keys.queue())
    if definition is None or definition.get("kind") not in (KIND, PART):
        return
    rows: dict[int, dict[str, Any] | None] = {}
    for key, body in state.scan(vshard_keys.vshards()):
        number, row = vshard_keys.parse_vshard(key), parse_json(body)
        found = list(_row_problems(definition, number, row))
        yield from found
        rows[number] = None if found else row
    yield from _counted_problems(state, definition, rows)
    yield from _moving_problems(state, definition, floor)


def _row_problems(definition: Mapping[str, Any], number: int, row: Mapping[str, Any]) -> Iterator[str]:
    if number >= definition["vshards"]:
        yield f"it has a row of vshard {number}, and only {definition['vshards']} vshards"
    elif row.get("state") not in NEEDS:
        yield f"vshard {number} is in the state {row.get('state')}, which there is not"
    elif not all(isinstance(row.get(name), int) and row[name] >= 0 for name in COUNTS) or row["generation"] < 1:
        yield f"vshard {number} does not count what it has"
    elif lacking := [name for name in NEEDS[row["state"]] if name not in row]:
        yield f"vshard {number} is {row['state']} and does not say its {', '.join(lacking)}"


class _Counted:
    """What was read of one vshard."""

    def __init__(self, number: int, row: Mapping[str, Any] | None, is_readable: bool = True) -> None:
        self.number, self.row, self.is_readable = number, row, is_readable
        self.records = self.bytes = 0
        self.versions: set[int] = set()

    def add(self, key: bytes, body: bytes, vshards: int) -> Iterator[str]:
        version = U64.unpack_from(body)[0] if len(body) >= U64.size else 0
        self.records += 1
        self.bytes += len(key) + len(body) - U64.size
        if vshard_of(key, vshards) != self.number:
            yield f"vshard {self.number} holds a key of vshard {vshard_of(key, vshards)}"
        elif self.row is not None and not 1 <= version <= self.row["seq"]:
            yield f"a key of vshard {self.number} has version {version}, and {self.row['seq']} were given away"
        elif version in self.versions:
            yield f"two keys of vshard {self.number} have version {version}"
        self.versions.add(version)

    def problems(self) -> Iterator[str]:
        if self.row is None:
            if self.records and self.is_readable:
                yield f"vshard {self.number} is not in this log, which holds {self.records} of its keys"
            return
        counted = (self.row["records"], self.row["bytes"]) if self.row["state"] != RETIRED else (0, 0)
        is_used = self.row["state"] in (OPEN, SEALED, RETIRED)
        if (self.records, self.bytes) != counted and (is_used or self.records > counted[0] or self.bytes > counted[1]):
            yield (
                f"vshard {self.number} holds {self.records} keys of {self.bytes} bytes, and counts {counted[0]} of "
                f"{counted[1]}"
            )


def _counted_problems(state: State, definition: Mapping[str, Any], rows: Mapping[int, Any]) -> Iterator[str]:
    vshards = definition["vshards"]
    at: _Counted | None = None
    told, seen = 0, set[int]()
    for place, body in state.scan(vshard_keys.all_table_rows()):
        number = vshard_keys.vshard_of_row(place)
        if at is None or number != at.number:
            if at is not None:
                yield from at.problems()
            row = rows[number] if number in rows else vshard_row(state, definition, number)
            at, told = _Counted(number, row, number not in rows or row is not None), 0
            seen.add(number)
        for problem in at.add(vshard_keys.key_of(place), body, vshards):
            told += 1
            if told <= SHOWN:
                yield problem
    if at is not None:
        yield from at.problems()
    for number, row in rows.items():
        if number not in seen and row is not None:
            yield from _Counted(number, row).problems()


def _moving_problems(state: State, definition: Mapping[str, Any], floor: int) -> Iterator[str]:
    for key, body in state.scan(vshard_keys.migrations()):
        number, record = vshard_keys.parse_vshard(key), parse_json(body)
        row = vshard_row(state, definition, number) or {"state": "not here"}
        is_source = "to" in record
        if number >= definition["vshards"]:
            yield f"vshard {number} is said to be moved, and there are {definition['vshards']}"
        if row["state"] not in ((OPEN, SEALED) if is_source else (RECEIVING, READY)):
            yield f"vshard {number} is {row['state']}, and is said to be moved {'away' if is_source else 'here'}"
        if is_source and record["since"] < floor:
            yield f"the log is kept from entry {floor} on, and the migration of vshard {number} needs {record['since']}"
    for key, body in state.scan(vshard_keys.ways_back()):
        number, record = vshard_keys.parse_vshard(key), parse_json(body)
        row = vshard_row(state, definition, number) or {"state": "not here"}
        if row["state"] not in (OPEN, SEALED):
            yield f"vshard {number} is {row['state']}, and has a way back from here"
        if record["since"] < floor:
            yield f"the log is kept from entry {floor} on, and the way back of vshard {number} needs {record['since']}"


# --- the logs of one table beside each other


def owners_of(rows: Mapping[str, Mapping[int, Mapping[str, Any]]], number: int) -> list[str]:
    """Returns the logs that own a vshard, of {log: {vshard: row}}; a ready one owns what was given away to it."""
    here = {part: found[number] for part, found in rows.items() if number in found}
    owners = [part for part, row in here.items() if row["state"] in (OPEN, SEALED)]
    for part, row in here.items():
        given = here.get(row["from"]) if row["state"] == READY else None
        if given is not None and given["state"] == MOVED and _move(given) == (part, *_move(row)[1:]):
            owners.append(part)
    return owners


def _move(row: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return row.get("to"), row["token"], row["generation"]


def table_problems(home: str, vshards: int, rows: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> Iterator[str]:
    """Yields vshards of a table that no log owns, or more than one; the home owns those of which it has no row."""
    used = sorted({number for found in rows.values() for number in found if number < vshards})
    opened = {"state": OPEN, "generation": 1}
    whole = dict(rows) | {home: dict.fromkeys(used, opened) | dict(rows[home])}
    for number in used:
        owners = owners_of(whole, number)
        if len(owners) != 1:
            yield f"vshard {number} is owned by {' and '.join(owners) if owners else 'none of its logs'}"
