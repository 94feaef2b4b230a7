"""Retention: which blocks a queue or a topic lets go of, and what that takes from whoever has not finished them.

Promises
- What a lineage has not finished stays, whatever the limits say. Only a topic whose policy is `discard oldest` lets go
  of it, and then the lineage's row counts what it lost: the entry names whom it takes something from.
- What a group that is attached to a switch has finished stays until that was carried to the other output.
- A topic that nobody subscribed to drops by its limits alone; a queue that nobody reads drops nothing.
- Blocks go whole, the oldest first. Of a limit by number, at least so many records stay.
"""

from __future__ import annotations

from itertools import islice

from grafctl.store import keys, vshard_keys
from grafctl.store.intervals import offsets
from grafctl.store.records import Entry, encode_json, parse_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.store.resources.delivery import Lineage
from grafctl.store.resources.group import lineage_of
from grafctl.store.resources.leases import Leases
from grafctl.store.resources.queue import queue_row, records_row
from grafctl.typed import Any, NamedTuple

FINISHED, OLDEST = "finished", "oldest"
DISCARDS = (FINISHED, OLDEST)  # what a topic may let go of


class Trimmed(NamedTuple):
    """What retention came to: the lowest offset that is kept, and what lineages had lost before and have lost now."""

    first: int
    lost: dict[str, tuple[int, dict[str, int]]]


class Trim(NamedTuple):
    """The request to let go of blocks that retention no longer asks for."""

    resource: str

    def decide(self, state: State, context: Context) -> Decision:
        queue = records_row(state, self.resource)
        lineages = {keys.name_of(row): Lineage.of(parse_json(body)) for row, body in state.scan(keys.lineages())}
        most = self._most(queue, lineages)
        if (kept := _first_uncarried(state)) is not None:
            most = min(most, kept)
        stop, size = queue["first"], queue["bytes"]
        for row, body in state.scan(keys.blocks(queue["first"])):
            ref: dict[str, Any] = parse_json(body)
            last = keys.parse_block(row) + ref["count"]
            if last > most or not _let_go(queue, ref, size, queue["next"] - last, context.now_ms):
                break
            stop, size = last, size - ref["bytes"]
        if stop == queue["first"]:
            return Decision(Trimmed(stop, {}))
        losers = {name: lineage for name, lineage in lineages.items() if lineage.floor < stop}
        lost = {name: _lose(lineage, stop) for name, lineage in losers.items()}
        meta = {"do": "trim", "first": stop}
        return Decision(Trimmed(stop, lost), encode_json(meta | {"lost": sorted(lost)} if lost else meta))

    def _most(self, queue: dict[str, Any], lineages: dict[str, Lineage]) -> int:
        """Returns the offset up to which retention may go at all."""
        is_topic = queue["kind"] == "topic"
        if is_topic and (not lineages or queue.get("discard") == OLDEST):
            return int(queue["next"])
        return min((lineage.floor for lineage in lineages.values()), default=0)


def _first_uncarried(state: State) -> int | None:
    """Returns from where on records stay because an attached group has finished them and its other side lacks that."""
    if all("switch" not in parse_json(body) for _, body in state.scan(keys.groups())):
        return None
    from grafctl.store.resources.carrying import first_uncarried  # few groups are attached

    return first_uncarried(state)


def _lose(lineage: Lineage, first: int) -> tuple[int, dict[str, int]]:
    before = lineage.lost
    lineage.lose(first)
    loss = lineage.loss()
    assert loss is not None
    return before, loss


def _let_go(queue: dict[str, Any], ref: dict[str, Any], size: int, left: int, now_ms: int) -> bool:
    """Returns whether a block is one that retention does not ask for; `left` records would stay without it."""
    age, limit, count = queue.get("retain_age_ms"), queue.get("retain_bytes"), queue.get("retain_count")
    too_old = age is not None and ref["ms"] + age <= now_ms
    too_much = limit is not None and size > limit
    too_many = count is not None and left >= count
    return too_old or too_much or too_many


def apply_trim(state: State, entry: Entry, index: int) -> Writes:
    """Forgets the blocks before the new floor; ids stay, so that a late duplicate is still known."""
    queue, first = queue_row(state, ""), entry.request["first"]
    writes: Writes = []
    for row, body in state.scan(keys.blocks(queue["first"], first)):
        writes.append((row, None))
        queue["bytes"] -= parse_json(body)["bytes"]
    queue["first"] = first
    for name in entry.request.get("lost", []):
        writes += _take_from(state, name, first)
    return [*writes, json_write(keys.queue(), queue)]


def _take_from(state: State, name: str, first: int) -> Writes:
    """Returns the rows of a lineage after everything before `first` was taken from it."""
    lineage, leases = lineage_of(state, name), Leases(state, name)
    dead = [(start, min(stop, first)) for start, stop in lineage.dead if start < first]
    writes: Writes = [(keys.dead(name, offset), None) for offset in offsets(dead)]
    lineage.lose(first)
    leases.take_out(lineage, [[0, first]])
    return [*writes, *leases.writes(), json_write(keys.lineage(name), lineage.as_row())]


def losses_of(state: State) -> list[str]:
    """Returns a sentence for each lineage that retention took something from, until an operator has seen it."""
    found = []
    for row, body in state.scan(keys.lineages()):
        loss = Lineage.of(parse_json(body)).loss()
        if loss is not None:
            name, (records, first, last) = keys.name_of(row), loss.values()
            found.append(f"subscription {name} lost {records} records, between the offsets {first} and {last}")
    return found


def first_kept_index(state: State) -> int | None:
    """Returns the index of the first entry that is still needed, or None where none is: for the records of its block,
    for the migration of a vshard, or for its way back."""
    kept = [int(parse_json(body)["index"]) for _, body in islice(state.scan(keys.blocks(0)), 1)]
    for span in (vshard_keys.migrations(), vshard_keys.ways_back()):
        kept += [row["since"] for row in (parse_json(body) for _, body in state.scan(span)) if "since" in row]
    return min(kept, default=None)
